//! The book against servers that are told in order what it says, and that are lost at any time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

const A: u32 = 0;
const B: u32 = 1;

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| (Subscription::Channels, Bytes::copy_from_slice(text.as_bytes()))).collect()
}

fn name(text: &str) -> Name {
    names(&[text]).remove(0)
}

fn told(book: &mut Book<u32>) -> String {
    let mut out = Vec::new();
    book.advance(Version::Resp2, &mut out);
    let text = String::from_utf8(out).unwrap();
    text.split("\r\n").filter(|line| !line.starts_with(['*', '$']) && !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// One more of these at its servers, and confirmed there.
fn joined(texts: &[&str], homes: &[u32]) -> Book<u32> {
    let mut book = Book::default();
    book.join(&names(texts));
    let asks = book.place(Some(&names(texts)), |_| homes.to_vec());
    assert_eq!(asks.len(), homes.len());
    for text in texts {
        homes.iter().for_each(|server| book.confirmed(*server, true, &name(text)));
    }
    told(&mut book);
    book
}

#[test]
fn confirmations_come_in_the_order_of_the_names() {
    let mut book = Book::default();
    let all = names(&["a", "b", "a", "c"]);
    book.join(&all);
    let asks = book.place(Some(&all), |name| vec![if name.1 == "b" { B } else { A }]);
    assert_eq!(asks.iter().map(|ask| (ask.server, ask.names.len())).collect::<Vec<_>>(), [(A, 2), (B, 1)]);
    book.confirmed(A, true, &name("c"));
    book.confirmed(A, true, &name("a"));
    book.hold(b"message");
    assert_eq!(told(&mut book), "subscribe a :1");
    assert!(book.is_owing());
    book.confirmed(B, true, &name("b"));
    assert_eq!(told(&mut book), "subscribe b :2 subscribe a :2 subscribe c :3 message");
    assert!(!book.is_owing() && book.count(Subscription::Channels) == 3);
    // What the client has already is confirmed at once.
    book.join(&names(&["a"]));
    assert_eq!(book.place(Some(&names(&["a"])), |_| vec![A]), []);
    assert_eq!(told(&mut book), "subscribe a :3");
    let asks = book.quit(Subscription::Channels, ["a", "none", "a"].map(Bytes::from).to_vec());
    assert_eq!(asks.iter().map(|ask| ask.names.len()).collect::<Vec<_>>(), [1]);
    assert_eq!(told(&mut book), "");
    book.confirmed(A, false, &name("a"));
    assert_eq!(told(&mut book), "unsubscribe a :2 unsubscribe none :2 unsubscribe a :2");
    assert_eq!(book.quit(Subscription::Patterns, Vec::new()), []);
    assert_eq!(told(&mut book), "punsubscribe :2");
}

#[test]
fn what_a_name_takes_is_given_back_with_it_however_often_it_was_named() {
    let mut book = joined(&["keep"], &[A]);
    let before = book.bytes;
    for _ in 0..3 {
        assert_eq!(book.bytes_with(&names(&["a", "a"])), before + cost(&name("a")));
        book.join(&names(&["a", "a"]));
        book.place(Some(&names(&["a"])), |_| vec![A]);
        book.confirmed(A, true, &name("a"));
        told(&mut book);
        book.quit(Subscription::Channels, vec![Bytes::from("a")]);
        book.confirmed(A, false, &name("a"));
        told(&mut book);
        assert_eq!(book.bytes, before);
    }
}

#[test]
fn a_name_that_moves_away_and_back_before_anything_is_confirmed_is_asked_for_again() {
    let mut book = joined(&["a"], &[A]);
    book.set_stale();
    assert_eq!(book.place(None, |_| vec![B]).len(), 2);
    assert_eq!(book.place(None, |_| vec![A]).len(), 1, "B is to forget it; A does that just now");
    book.confirmed(B, true, &name("a"));
    book.confirmed(B, false, &name("a"));
    assert!(!book.is_stale() && !book.uses(B));
    book.confirmed(A, false, &name("a"));
    assert!(book.is_stale());
    let asks = book.place(None, |_| vec![A]);
    assert!(asks.len() == 1 && asks[0].joins && asks[0].server == A);
}

#[test]
fn a_loss_is_told_to_who_waits_and_to_nobody_else() {
    let mut book = joined(&["a"], &[A]);
    let (asks, tells) = book.lost(A, b"-lost\r\n");
    assert!(asks.is_empty() && !tells && book.is_stale() && told(&mut book).is_empty());
    // One error stands for all that were lost with it, in its turn.
    let all = names(&["c", "b", "d"]);
    book.join(&all);
    book.place(Some(&all), |name| vec![if name.1 == "c" { B } else { A }]);
    let (_, tells) = book.lost(A, b"-lost\r\n");
    assert!(tells && told(&mut book).is_empty());
    book.confirmed(B, true, &name("c"));
    assert_eq!(told(&mut book), "subscribe c :2 -lost");
    assert!(!book.is_owing() && book.names.len() == 2, "what was refused is forgotten");
    // A name that the client has is not taken from it by a loss.
    book.join(&names(&["a"]));
    book.place(Some(&names(&["a"])), |_| vec![A]);
    book.lost(A, b"-lost\r\n");
    assert_eq!(told(&mut book), "-lost");
    assert!(book.names.contains_key(&name("a")) && book.is_stale());
}

#[test]
fn what_one_server_refuses_the_others_forget() {
    let mut book = Book::default();
    book.join(&names(&["p"]));
    let asks = book.place(Some(&names(&["p"])), |_| vec![A, B]);
    book.confirmed(A, true, &name("p"));
    let (quits, tells) = book.refused(&asks[1], b"-no\r\n");
    assert!(tells && quits.len() == 1 && !quits[0].joins && quits[0].server == A);
    assert_eq!(told(&mut book), "-no");
    book.confirmed(A, false, &name("p"));
    assert!(book.is_over() && book.bytes == 0 && book.used.is_empty());
}

#[derive(Debug, Clone)]
enum Act {
    Join(Vec<u8>),
    Quit(Vec<u8>),
    /// A server answers its oldest request: refuses it or not.
    Answer(u32, bool),
    Lose(u32),
    Move(u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let some = || proptest::collection::vec(0..6u8, 1..5);
    let act = prop_oneof![
        2 => some().prop_map(Act::Join),
        1 => proptest::collection::vec(0..6u8, 0..5).prop_map(Act::Quit),
        6 => (0..3u32, prop::bool::weighted(0.1)).prop_map(|(server, refuses)| Act::Answer(server, refuses)),
        1 => (0..3u32).prop_map(Act::Lose),
        1 => (0..9u32).prop_map(Act::Move),
    ];
    proptest::collection::vec(act, 1..120)
}

/// Servers that do what they are asked, one request after the other.
#[derive(Default)]
struct World {
    book: Book<u32>,
    asked: HashMap<u32, VecDeque<Ask<u32>>>,
    has: HashMap<u32, BTreeSet<Bytes>>,
    /// Where names are, by this.
    ring: u32,
    /// The client was told all this.
    said: Vec<u8>,
}

impl World {
    /// Some names are on all servers.
    fn homes(ring: u32, name: &Name) -> Vec<u32> {
        let number = u32::from(name.1[0]);
        if number == 5 { vec![0, 1, 2] } else { vec![(number + ring) % 3] }
    }

    fn ask(&mut self, asks: Vec<Ask<u32>>) {
        asks.into_iter().for_each(|ask| self.asked.entry(ask.server).or_default().push_back(ask));
    }

    fn answer(&mut self, server: u32, refuses: bool) {
        let Some(ask) = self.asked.entry(server).or_default().pop_front() else { return };
        if refuses && ask.joins {
            let (asks, _) = self.book.refused(&ask, b"-refused\r\n");
            return self.ask(asks);
        }
        for name in &ask.names {
            let has = self.has.entry(server).or_default();
            let _ = if ask.joins { has.insert(name.clone()) } else { has.remove(name) };
            self.book.confirmed(server, ask.joins, &(ask.kind, name.clone()));
        }
    }

    fn act(&mut self, act: Act) -> usize {
        let bytes = |numbers: Vec<u8>| numbers.into_iter().map(|n| Bytes::copy_from_slice(&[n])).collect::<Vec<_>>();
        let mut due = 0;
        match act {
            Act::Join(_) | Act::Quit(_) if self.book.is_owing() => {}
            Act::Join(numbers) => {
                let names: Vec<Name> = bytes(numbers).into_iter().map(|name| (Subscription::Channels, name)).collect();
                due = names.len();
                self.book.join(&names);
                let ring = self.ring;
                let asks = self.book.place(Some(&names), |name| Self::homes(ring, name));
                self.ask(asks);
            }
            Act::Quit(numbers) => {
                let asks = self.book.quit(Subscription::Channels, bytes(numbers));
                self.ask(asks);
            }
            Act::Answer(server, refuses) => self.answer(server, refuses),
            Act::Lose(server) => {
                self.asked.remove(&server);
                self.has.remove(&server);
                let (asks, _) = self.book.lost(server, b"-lost\r\n");
                self.ask(asks);
            }
            Act::Move(ring) => {
                self.ring = ring;
                self.book.set_stale();
            }
        }
        self.book.advance(Version::Resp3, &mut self.said);
        due
    }

    /// Everything is answered, and nothing happens any more.
    fn calm_down(&mut self) {
        for _ in 0..20 {
            if self.book.is_stale() {
                self.place();
            }
            for server in 0..3 {
                while self.asked.get(&server).is_some_and(|asked| !asked.is_empty()) {
                    self.act(Act::Answer(server, false));
                }
            }
        }
    }

    fn place(&mut self) {
        let ring = self.ring;
        let asks = self.book.place(None, |name| Self::homes(ring, name));
        self.ask(asks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, refused and moved: the client is told of everything, and in the end what it has is where it belongs,
    /// and nowhere else.
    #[test]
    fn in_the_end_everything_is_where_it_belongs(acts in acts()) {
        let mut world = World::default();
        for act in acts {
            let ticks = matches!(act, Act::Answer(0, _));
            world.act(act);
            if ticks && world.book.is_stale() {
                world.place();
            }
            prop_assert_eq!(world.book.count(Subscription::Channels) as usize, world.book.told.len());
        }
        world.calm_down();
        prop_assert!(!world.book.is_stale() && !world.book.is_owing());
        let mut expected: HashMap<u32, BTreeSet<Bytes>> = HashMap::new();
        for name in &world.book.told {
            for server in World::homes(world.ring, name) {
                expected.entry(server).or_default().insert(name.1.clone());
            }
        }
        world.has.retain(|_, names| !names.is_empty());
        prop_assert_eq!(&world.has, &expected);
        let used: HashMap<u32, usize> = expected.iter().map(|(server, names)| (*server, names.len())).collect();
        prop_assert_eq!(&world.book.used, &used);
        prop_assert_eq!(world.book.bytes, world.book.told.iter().map(cost).sum::<usize>());
    }

    /// Without losses: as many confirmations as names, in their order.
    #[test]
    fn each_name_is_confirmed_once(acts in acts()) {
        let (mut world, mut due) = (World::default(), 0);
        for act in acts {
            let act = match act {
                Act::Lose(server) | Act::Answer(server, _) => Act::Answer(server, false),
                other => other,
            };
            due += world.act(act);
            if world.book.is_stale() {
                world.place();
            }
        }
        world.calm_down();
        let said = String::from_utf8_lossy(&world.said).matches("$9\r\nsubscribe\r\n").count();
        prop_assert!(!world.book.is_owing());
        prop_assert_eq!(said, due);
    }
}
