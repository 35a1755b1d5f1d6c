//! CLIENT about all clients of the pool, on whichever worker they are: LIST, INFO, KILL, PAUSE. Those of other pools do not
//! exist here.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::Step;
use super::super::clients::{Card, Pause};
use super::Request;
use super::local::{parse_integer, printable};
use super::users::{find, free_user};
use crate::protocol::redis::commands::{ClientCommand, Command, ProxyCommand, Route, WRITE};
use crate::protocol::redis::{acl, errors, reply};
use crate::telemetry::Ending;

/// Which clients are meant; all that are given must fit.
#[derive(Default)]
struct Filter {
    id: Option<i64>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    kind: Option<Kind>,
    /// Only those that are at least so old.
    age: Option<Duration>,
    /// The client that asks is meant as well.
    me: bool,
}

/// As Redis sorts clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Pubsub,
    /// Masters and replicas: none of the clients of a proxy.
    Replication,
}

impl Kind {
    fn parse(name: &[u8]) -> Option<Self> {
        match &name.to_ascii_lowercase()[..] {
            b"normal" => Some(Self::Normal),
            b"pubsub" => Some(Self::Pubsub),
            b"master" | b"replica" | b"slave" => Some(Self::Replication),
            _ => None,
        }
    }

    fn of(card: &Card) -> Self {
        if card.is_subscribed() { Self::Pubsub } else { Self::Normal }
    }
}

impl Request<'_, '_> {
    /// The clients of the pool.
    pub(super) fn clients(&self) -> Vec<Arc<Card>> {
        self.session.shared.common.roll.of(self.session.pool_id())
    }

    /// CLIENT INFO
    pub(super) fn client_info(&mut self) -> Step {
        self.note_this_command();
        let mut text = String::new();
        self.describe(&self.session.card, Instant::now(), &mut text);
        self.answer_text(&text)
    }

    /// `CLIENT LIST [TYPE type] [ID id...]`
    pub(super) fn list_clients(&mut self) -> Step {
        let is = |index: usize, word: &[u8]| self.arg(index).eq_ignore_ascii_case(word);
        let (mut kind, mut ids) = (None, None);
        match self.args.len() {
            2 => {}
            4 if is(2, b"type") => match Kind::parse(self.arg(3)) {
                Some(known) => kind = Some(known),
                None => return self.unknown_type(3),
            },
            4.. if is(2, b"id") => {
                let given: Option<Vec<i64>> = (3..self.args.len()).map(|at| parse_integer(self.arg(at))).collect();
                match given {
                    Some(given) => ids = Some(given),
                    None => return self.error("ERR Invalid client ID"),
                }
            }
            _ => return self.say(errors::SYNTAX),
        }
        self.note_this_command();
        let now = Instant::now();
        let all = self.clients();
        let mut text = String::with_capacity(all.len() * 256);
        for card in all {
            let of_ids = ids.as_ref().is_none_or(|ids| ids.contains(&(card.id as i64)));
            if of_ids && kind.is_none_or(|kind| kind == Kind::of(&card)) {
                self.describe(&card, now, &mut text);
            }
        }
        self.answer_text(&text)
    }

    /// What is told of this client is about the request at hand, not about the one before it.
    pub(super) fn note_this_command(&self) {
        self.state.note_command(&self.session.card);
    }

    /// A line of CLIENT LIST. What Redis counts and nothing here is like is 0.
    pub(super) fn describe(&self, card: &Card, now: Instant, out: &mut String) {
        let told = card.told().clone();
        let user = told.user.as_ref().map_or_else(|| free_user(&self.pool.settings), |user| &user.name);
        let command = acl::command_at(card.command.load(Relaxed)).map_or("NULL", |command| command.name);
        let (input, output) = (card.input.load(Relaxed), card.output.load(Relaxed));
        let events = if output > 0 { "rw" } else { "r" };
        let Card { id, address, local_address, descriptor, .. } = card;
        let (age, idle, flags) = (card.age(now).as_secs(), card.idle(now), card.flags());
        let subscriptions = [0, 1, 2].map(|kind| card.subscriptions[kind].load(Relaxed));
        let (db, protocol) = (card.database.load(Relaxed), card.protocol.load(Relaxed));
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "id={id} addr={address} laddr={local_address} fd={descriptor} name={} age={age} idle={idle} flags={flags} db={db} \
             sub={} psub={} ssub={} multi={} qbuf={input} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 \
             omem={output} tot-mem={} events={events} cmd={command} user={user} redir=-1 resp={protocol} lib-name={} \
             lib-ver={}",
            told.name,
            subscriptions[0],
            subscriptions[1],
            subscriptions[2],
            card.queued.load(Relaxed),
            input + output,
            told.library,
            told.library_version
        );
    }

    fn unknown_type(&mut self, at: usize) -> Step {
        let text = format!("ERR Unknown client type '{}'", printable(self.arg(at)));
        self.error(&text)
    }

    /// `CLIENT KILL address`, and with filters.
    pub(super) fn kill_clients(&mut self, command: &'static Command) -> Step {
        if self.args.len() == 3 {
            let filter = Filter { address: Some(self.arg(2).to_vec()), me: true, ..Filter::default() };
            return match self.kill(&filter) {
                (0, _) => self.error("ERR No such client"),
                (_, me) => self.answer_and_perhaps_end(me, |out| out.extend_from_slice(reply::OK)),
            };
        }
        match self.filter(command) {
            Ok(filter) => {
                let (killed, me) = self.kill(&filter);
                self.answer_and_perhaps_end(me, |out| reply::write_integer(out, killed))
            }
            Err(refused) => refused,
        }
    }

    fn filter(&mut self, _: &'static Command) -> Result<Filter, Step> {
        let mut filter = Filter::default();
        let mut at = 2;
        while at < self.args.len() {
            if at + 1 == self.args.len() {
                return Err(self.say(errors::SYNTAX));
            }
            let (option, value) = (self.arg(at).to_ascii_lowercase(), self.arg(at + 1).to_vec());
            match &option[..] {
                b"id" => match parse_integer(&value).filter(|id| *id > 0) {
                    Some(id) => filter.id = Some(id),
                    None => return Err(self.error("ERR client-id should be greater than 0")),
                },
                b"type" => match Kind::parse(&value) {
                    Some(kind) => filter.kind = Some(kind),
                    None => return Err(self.unknown_type(at + 1)),
                },
                b"addr" => filter.address = Some(value),
                b"laddr" => filter.local_address = Some(value),
                b"user" => {
                    let settings = &self.pool.settings;
                    if find(settings, &value).is_none() && value != free_user(settings).as_bytes() {
                        let text = format!("ERR No such user '{}'", printable(&value));
                        return Err(self.error(&text));
                    }
                    filter.user = Some(value);
                }
                b"maxage" => match parse_integer(&value) {
                    Some(seconds @ 1..) => filter.age = Some(Duration::from_secs(seconds as u64)),
                    Some(_) => return Err(self.error("ERR maxage should be greater than 0")),
                    None => return Err(self.error("ERR maxage is not an integer or out of range")),
                },
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.me = false,
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.me = true,
                _ => return Err(self.say(errors::SYNTAX)),
            }
            at += 2;
        }
        Ok(filter)
    }

    /// Ends those that fit; how many, and whether this client is one of them, which has yet to hear of it.
    fn kill(&self, filter: &Filter) -> (i64, bool) {
        let (now, free) = (Instant::now(), free_user(&self.pool.settings).as_bytes());
        let (mut killed, mut me) = (0, false);
        for card in self.clients().iter().filter(|card| filter.fits(card, free, now)) {
            match card.id == self.session.id {
                true if !filter.me => continue,
                true => me = true,
                false => card.kill(),
            }
            killed += 1;
        }
        (killed, me)
    }

    fn answer_and_perhaps_end(&mut self, ends: bool, write: impl FnOnce(&mut Vec<u8>)) -> Step {
        let step = self.answer(|out, _| write(out));
        if !ends {
            return step;
        }
        self.session.ends_for(Ending::Killed);
        Step::Close
    }

    /// `CLIENT PAUSE milliseconds [WRITE|ALL]`
    pub(super) fn pause(&mut self) -> Step {
        let pause = match self.args.len() {
            3 => Pause::All,
            4 if self.arg(3).eq_ignore_ascii_case(b"write") => Pause::Writes,
            4 if self.arg(3).eq_ignore_ascii_case(b"all") => Pause::All,
            4 => return self.error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
            _ => return self.say(errors::SYNTAX),
        };
        match parse_integer(self.arg(2)) {
            None => self.error("ERR timeout is not an integer or out of range"),
            Some(time) if time < 0 => self.error("ERR timeout is negative"),
            Some(time) => {
                self.session.gate.shut(pause, Duration::from_millis(time as u64), Instant::now());
                self.say(reply::OK)
            }
        }
    }

    /// Whether the request waits at the gate that CLIENT PAUSE has shut. What opens it does not.
    pub(super) fn waits_for_the_gate(&self, command: &'static Command) -> bool {
        let of_the_gate =
            matches!(command.route, Route::Proxy(ProxyCommand::Clients(ClientCommand::Pause | ClientCommand::Unpause)));
        let waits = !of_the_gate && self.session.is_held_back(may_write(command));
        if !waits {
            self.session.set_held(false);
        }
        waits
    }
}

impl Filter {
    fn fits(&self, card: &Card, free_user: &[u8], now: Instant) -> bool {
        let is = |wanted: &Option<Vec<u8>>, own: &str| wanted.as_ref().is_none_or(|wanted| wanted == own.as_bytes());
        let user = || {
            let told = card.told();
            let own = told.user.as_ref().map_or(free_user, |user| user.name.as_bytes());
            self.user.as_ref().is_none_or(|wanted| wanted == own)
        };
        self.id.is_none_or(|id| id == card.id as i64)
            && is(&self.address, &card.address)
            && is(&self.local_address, &card.local_address)
            && self.kind.is_none_or(|kind| kind == Kind::of(card))
            && self.age.is_none_or(|age| card.age(now) >= age)
            && user()
    }
}

/// Whether something may be changed by it, on a server or for its other clients, as CLIENT PAUSE WRITE sees it.
fn may_write(command: &Command) -> bool {
    command.flags & WRITE != 0
        || matches!(command.name, "publish" | "spublish" | "pfcount" | "eval" | "evalsha" | "fcall" | "exec")
}
