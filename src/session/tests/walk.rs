//! Random walks of sessions over servers that hang up at any time: plain requests, transactions, watched keys and blocking
//! requests, in one go or in pieces. Each request is answered once, in its turn, by its own answer or an error; nothing is
//! done twice, nothing of a transaction by itself, and nothing of one client's in another order.
//!
//! `SESSION_SEED=n` walks one seed only.

use tokio::io::AsyncWrite;

use super::*;
use crate::health::Jitter;

const SEEDS: u64 = 40;
const CLIENTS: usize = 3;
const STEPS: usize = 60;
/// One of so many requests costs its connection.
const LOSS: usize = 50;

/// What must come in answer to a request.
#[derive(Debug, Clone)]
enum Due {
    This(&'static str),
    /// The number that the request ends in.
    Number(usize),
    /// The same, and it may be asked for again.
    Read(usize),
    Queued(usize),
    /// Of a transaction that watches keys or not.
    Exec(bool),
    Discard,
    /// It was refused on purpose.
    Error,
}

/// Servers that remember in which order they have done what, each by itself.
struct World {
    done: RefCell<[Vec<usize>; 2]>,
    random: RefCell<Jitter>,
    losses: Cell<usize>,
}

impl World {
    fn below(&self, limit: usize) -> usize {
        self.random.borrow_mut().number() as usize % limit
    }

    /// The connection is lost now.
    fn loses(&self) -> bool {
        let loses = self.below(LOSS) == 0;
        self.losses.set(self.losses.get() + usize::from(loses));
        loses
    }

    async fn serve(self: Rc<Self>, server: usize, listener: UnixListener) {
        loop {
            let socket = listener.accept().await.unwrap().0;
            spawn_local(self.clone().answer(server, socket));
        }
    }

    async fn answer(self: Rc<Self>, server: usize, socket: UnixStream) {
        let (input, mut output) = socket.into_split();
        let mut lines = BufReader::new(input).lines();
        let mut queue: Option<Vec<usize>> = None;
        while let Ok(Some(header)) = lines.next_line().await {
            let mut words = Vec::new();
            for _ in 0..header[1..].parse::<usize>().unwrap() {
                lines.next_line().await.unwrap();
                words.push(lines.next_line().await.unwrap().unwrap());
            }
            if self.below(4) == 0 {
                yield_now().await;
            }
            let number = words.last().unwrap().trim_start_matches("9.").parse::<usize>().unwrap_or_default();
            if self.loses() {
                return;
            }
            let text = match (&*words[0], &mut queue) {
                ("MULTI", None) => {
                    queue = Some(Vec::new());
                    "+OK\r\n".to_owned()
                }
                ("EXEC", Some(numbers)) => {
                    self.done.borrow_mut()[server].extend(&*numbers);
                    let replies: String = numbers.iter().map(|number| reply(&number.to_string())).collect();
                    let text = format!("*{}\r\n{replies}", numbers.len());
                    queue = None;
                    text
                }
                ("DISCARD", Some(_)) => {
                    queue = None;
                    "+OK\r\n".to_owned()
                }
                ("CLIENT", None) => ":7\r\n".to_owned(),
                ("WATCH" | "UNWATCH", None) => "+OK\r\n".to_owned(),
                ("MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH", _) => panic!("{words:?} within {queue:?}"),
                (_, Some(numbers)) => {
                    numbers.push(number);
                    "+QUEUED\r\n".to_owned()
                }
                (word, None) => {
                    if word == "BLPOP" {
                        sleep(Duration::from_millis(self.below(3) as u64)).await;
                    }
                    if word != "GETRANGE" {
                        self.done.borrow_mut()[server].push(number);
                    }
                    reply(&number.to_string())
                }
            };
            if self.loses() {
                return;
            }
            let _ = output.write_all(text.as_bytes()).await;
        }
    }
}

/// What one client says, and what must come of it.
struct Script {
    bytes: Vec<u8>,
    due: Vec<(String, Due)>,
    /// Keys of each server.
    keys: [Vec<String>; 2],
    next: usize,
}

impl Script {
    fn say(&mut self, line: String, due: Due) {
        self.bytes.extend(command_of(&line));
        self.due.push((line, due));
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn key(&self, world: &World, server: usize) -> String {
        self.keys[server][world.below(self.keys[server].len())].clone()
    }

    /// A request that one server does, and its number.
    fn request(&mut self, world: &World, server: usize) -> (String, usize) {
        let (key, number) = (self.key(world, server), self.number());
        let line = match world.below(3) {
            0 => format!("GETRANGE {key} 0 {number}"),
            _ => format!("SET {key} {number}"),
        };
        (line, number)
    }

    fn plain(&mut self, world: &World, server: usize) {
        let (line, number) = self.request(world, server);
        let due = if line.starts_with("SET") { Due::Number(number) } else { Due::Read(number) };
        self.say(line, due);
    }

    fn step(&mut self, world: &World) {
        let server = world.below(2);
        match world.below(10) {
            0..6 => {
                self.plain(world, server);
            }
            6 => {
                let (key, number) = (self.key(world, server), self.number());
                self.say(format!("BLPOP {key} 9.{number}"), Due::Number(number));
            }
            7 => {
                let key = self.key(world, server);
                self.say(format!("WATCH {key}"), Due::This("+OK"));
                for _ in 0..world.below(3) {
                    let at = world.below(2);
                    self.plain(world, at);
                }
                match world.below(3) {
                    0 => self.say("UNWATCH".into(), Due::This("+OK")),
                    _ => self.transaction(world, server, true),
                }
            }
            _ => self.transaction(world, server, false),
        }
    }

    fn transaction(&mut self, world: &World, server: usize, watches: bool) {
        self.say("MULTI".into(), Due::This("+OK"));
        for at in 0..world.below(4) {
            if at > 0 && world.below(12) == 0 {
                let (line, _) = self.request(world, 1 - server);
                self.say(line, Due::Error);
                continue;
            }
            let (line, number) = self.request(world, server);
            self.say(line, Due::Queued(number));
        }
        match world.below(5) {
            0 => self.say("DISCARD".into(), Due::Discard),
            _ => self.say("EXEC".into(), Due::Exec(watches)),
        }
    }
}

fn command_of(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    bytes
}

/// The first reply in these bytes, its line ends as spaces, and how long it is.
fn first(bytes: &[u8]) -> Option<(String, usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n")? + 2;
    let line = std::str::from_utf8(&bytes[..end - 2]).unwrap();
    let count = || line[1..].parse::<isize>().unwrap();
    match line.as_bytes()[0] {
        b'$' if count() >= 0 => {
            let length = count() as usize;
            let text = bytes.get(end..end + length + 2)?;
            Some((std::str::from_utf8(&text[..length]).unwrap().to_owned(), end + length + 2))
        }
        b'*' if count() >= 0 => {
            let (mut parts, mut at) = (Vec::new(), end);
            for _ in 0..count() {
                let (text, length) = first(&bytes[at..])?;
                parts.push(text);
                at += length;
            }
            Some((format!("[{}]", parts.join(" ")), at))
        }
        _ => Some((line.to_owned(), end)),
    }
}

/// Judges the replies of one client in their turn.
#[derive(Default)]
struct Judge {
    /// Of the transaction under way.
    queued: Vec<usize>,
    refused: bool,
    /// What was acknowledged, and what may have been done.
    done: Vec<Vec<usize>>,
    undone: Vec<usize>,
}

impl Judge {
    fn judge(&mut self, due: &Due, got: &str) -> bool {
        let error = got.starts_with("-ERR ");
        match due {
            Due::This(text) => {
                self.queued.clear();
                self.refused = false;
                got == *text || (error && *text == "+OK")
            }
            Due::Number(number) => {
                if !error {
                    self.done.push(vec![*number]);
                }
                error || got == number.to_string()
            }
            Due::Read(number) => error || got == number.to_string(),
            Due::Queued(number) => {
                self.queued.push(*number);
                self.refused |= error;
                got == "+QUEUED" || error
            }
            Due::Error => {
                self.refused |= error;
                // Where the connection was lost while it watched nothing is looked at any more.
                error || got == "+QUEUED"
            }
            Due::Discard => {
                self.undone.append(&mut self.queued);
                got == "+OK" || error
            }
            Due::Exec(watches) => {
                let queued = std::mem::take(&mut self.queued);
                let numbers: Vec<String> = queued.iter().map(usize::to_string).collect();
                if got == format!("[{}]", numbers.join(" ")) {
                    self.done.push(queued);
                    return !self.refused;
                }
                if got.starts_with("-EXECABORT ") || got == "*-1" {
                    self.undone.extend(queued);
                }
                error || got.starts_with("-EXECABORT ") || (got == "*-1" && *watches)
            }
        }
    }
}

/// Says it in pieces.
async fn say(world: &World, output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if world.below(3) == 0 { 7 } else { 900 };
        let (piece, after) = rest.split_at(rest.len().min(1 + world.below(most)));
        output.write_all(piece).await.unwrap();
        rest = after;
        match world.below(6) {
            0 => sleep(Duration::from_millis(1)).await,
            1 | 2 => yield_now().await,
            _ => {}
        }
    }
}

/// How many connections were lost, and how many transactions were not.
async fn walk(pass: Rc<Pass>, seed: u64) -> (usize, usize) {
    let random = RefCell::new(Jitter::new(seed));
    let world = Rc::new(World { done: RefCell::default(), random, losses: Cell::new(0) });
    let serve = |server, listener| drop(spawn_local(world.clone().serve(server, listener)));
    let test = Fixture::over(Protocol::Redis, &pass, 2, |_| (), serve);
    let all: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let keys = [0, 1].map(|server| {
        all.iter().filter(|key| test.pool.route(key.as_bytes()) == Ok(server)).cloned().collect::<Vec<_>>()
    });
    let talk = |number: usize| {
        let client = test.connect().0;
        let (world, keys) = (world.clone(), keys.clone());
        async move {
            let mut script = Script { bytes: Vec::new(), due: Vec::new(), keys, next: 1_000_000 * (number + 1) };
            (0..STEPS).for_each(|_| script.step(&world));
            let (mut input, mut output) = client.into_split();
            let Script { bytes, due, .. } = script;
            let teller = {
                let world = world.clone();
                spawn_local(async move {
                    say(&world, &mut output, &bytes).await;
                    output
                })
            };
            let (mut got, mut judge, mut buffer) = (Vec::new(), Judge::default(), [0; 4096]);
            for (at, (line, due)) in due.iter().enumerate() {
                let reply = loop {
                    if let Some((reply, length)) = first(&got) {
                        got.drain(..length);
                        break reply;
                    }
                    let count = timeout(Duration::from_secs(20), input.read(&mut buffer)).await;
                    let count = count
                        .unwrap_or_else(|_| panic!("seed {seed}, client {number}, {at}: no answer to {line}"))
                        .unwrap();
                    assert!(count > 0, "seed {seed}, client {number}, {at}: closed before the answer to {line}");
                    got.extend_from_slice(&buffer[..count]);
                };
                assert!(judge.judge(due, &reply), "seed {seed}, client {number}, {at}: {reply} to {line}, {due:?}");
            }
            teller.await.unwrap().shutdown().await.unwrap();
            input.read_to_end(&mut got).await.unwrap();
            assert!(got.is_empty(), "seed {seed}: {}", got.escape_ascii());
            judge
        }
    };
    let clients: Vec<_> = (0..CLIENTS).map(|number| spawn_local(talk(number))).collect();
    let mut whole = 0;
    for client in clients {
        let judge = client.await.unwrap();
        check(seed, &world, &judge);
        whole += judge.done.iter().filter(|numbers| numbers.len() > 1).count();
    }
    let done = world.done.borrow();
    for (server, done) in done.iter().enumerate() {
        for client in 1..=CLIENTS {
            let own: Vec<usize> = done.iter().copied().filter(|number| number / 1_000_000 == client).collect();
            assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}, server {server}: {own:?}");
        }
    }
    assert!(test.pool.lots().iter().all(|lot| lot.is_unused()), "seed {seed}: a connection was not given back");
    (world.losses.get(), whole)
}

/// What was acknowledged was done, transactions in one piece; what was aborted was not.
fn check(seed: u64, world: &World, judge: &Judge) {
    let done = world.done.borrow();
    for numbers in judge.done.iter().filter(|numbers| !numbers.is_empty()) {
        let whole = |server: &Vec<usize>| server.windows(numbers.len()).any(|window| window == numbers);
        assert!(done.iter().any(whole), "seed {seed}: {numbers:?} was not done");
    }
    for number in &judge.undone {
        assert!(!done.iter().any(|server| server.contains(number)), "seed {seed}: {number} was done");
    }
}

#[test]
fn each_request_is_answered_once_and_in_its_turn_whatever_is_lost() {
    let one = std::env::var("SESSION_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = one.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let (losses, whole) = (Cell::new(0), Cell::new(0));
    for seed in seeds {
        on_worker(async |pass| {
            let (lost, done) = walk(pass, seed).await;
            losses.set(losses.get() + lost);
            whole.set(whole.get() + done);
        });
    }
    assert!((losses.get() > 20 && whole.get() > 100) || one.is_some(), "{losses:?} {whole:?}");
}
