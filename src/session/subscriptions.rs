//! What a session is subscribed to, on connections of its own: one to each server that has channels of it.
//!
//! ```text
//!   client ── SUBSCRIBE a b ──► a, b by their hash ──► line to one ── SUBSCRIBE a ──►
//!     ▲                                           └──► line to two ── SUBSCRIBE b ──►
//!     └── confirmations, in the order of the names ◄── as they come
//!     └── messages, as they come ◄──
//! ```
//! When a line is lost, or the ring changes, what is subscribed to is brought in line with where the names belong now, and
//! the client is not told: it has subscribed, and messages come again. What was published meanwhile is lost, as it is with
//! Redis when a connection breaks.
//!
//! Invariants:
//! - confirmations go out in the order in which the client asked for them, and no message of a channel before its own;
//! - while confirmations are owed the session takes no request, so nothing else comes between.

mod book;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Session;
use super::tenancy::{Own, Tenancy};
use crate::backend::{Answer, Wait};
use crate::io::{Held, Payload};
use crate::pool::{Pool, ServerId};
use crate::protocol::redis::commands::Subscription;
use crate::protocol::redis::reply;
use crate::protocol::redis::response::{elements, is_error, text};
use book::{Ask, Book, Name};

/// Between two attempts to subscribe again, at the most, and half of it at the least. The first comes within a tenth of it. By chance,
/// so that a server that is back is not run over by all subscribers at once.
const RETRY: Duration = Duration::from_secs(1);

/// All that a session is subscribed to, and the lines to the servers that have it.
pub(super) struct Subscriptions {
    book: Book<ServerId>,
    lines: Vec<Line>,
    /// Not to be looked at again before this, as the last attempt failed.
    retry_at: Option<Instant>,
    /// The client takes less than comes.
    paused: bool,
    /// The names, and messages that may not be told yet.
    held: Held,
}

/// A connection to one server.
struct Line {
    tenancy: Rc<Tenancy>,
    /// What it was asked and has not answered, oldest first.
    asked: VecDeque<Ask<ServerId>>,
}

/// Where a name is to be subscribed to.
enum Homes<'a> {
    All,
    One(&'a [u8]),
}

impl<'a> Homes<'a> {
    /// Patterns match what any server publishes. A server tells of what happens to its own keys.
    fn of((kind, name): &'a Name) -> Self {
        match kind {
            Subscription::Patterns => Self::All,
            _ if name.starts_with(b"__keyevent@") => Self::All,
            _ => Self::One(channel_key(name)),
        }
    }

    fn places(&self, pool: &Pool) -> Vec<usize> {
        match self {
            // Without a hash nobody knows where something is published.
            Self::One(key) if pool.is_keyed() => {
                pool.route(key).into_iter().filter(|place| !pool.is_stand_in(*place)).collect()
            }
            _ => (0..pool.servers()).filter(|place| pool.away(*place).is_none()).collect(),
        }
    }
}

/// The servers of a name, as they are called.
fn homes(pool: &Pool, name: &Name) -> Vec<ServerId> {
    Homes::of(name).places(pool).into_iter().map(|place| pool.server_id(place)).collect()
}

/// What says where a channel is: its name, or the key whose changes it tells of.
pub(super) fn channel_key(channel: &[u8]) -> &[u8] {
    let key = channel.strip_prefix(b"__keyspace@").and_then(|rest| {
        let at = memchr::memmem::find(rest, b"__:")?;
        rest.get(at + 3..)
    });
    key.unwrap_or(channel)
}

impl Subscriptions {
    /// The client has subscriptions, as far as it was told.
    pub(super) fn is_subscribed(&self) -> bool {
        Subscription::ALL.into_iter().any(|kind| self.book.count(kind) > 0)
    }

    fn line(&mut self, tenancy: &Rc<Tenancy>) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| Rc::ptr_eq(&line.tenancy, tenancy))
    }

    /// Does what the book says.
    fn carry_out(&mut self, session: &Rc<Session>, pool: &Pool, asks: Vec<Ask<ServerId>>) {
        let mut asks = VecDeque::from(asks);
        while let Some(ask) = asks.pop_front() {
            match self.line_to(session, pool, &ask) {
                Ok(Some(line)) => line.ask(ask),
                // What is to be forgotten there is forgotten.
                Ok(None) => {}
                Err(why) => asks.extend(self.refused(session, &ask, format!("-ERR {why}\r\n").as_bytes())),
            }
        }
    }

    /// The line for this; to join, one is made if there is none.
    fn line_to(
        &mut self,
        session: &Rc<Session>,
        pool: &Pool,
        ask: &Ask<ServerId>,
    ) -> Result<Option<&mut Line>, String> {
        let known = self.lines.iter().position(|line| line.tenancy.server == ask.server && !line.tenancy.is_over());
        let at = match known {
            Some(at) => at,
            None if !ask.joins => return Ok(None),
            None => {
                let place = (0..pool.servers()).find(|place| pool.server_id(*place) == ask.server);
                let place = place.ok_or_else(|| "the server was removed".to_owned())?;
                let tenancy = session.lease(pool, place).map_err(|refusal| refusal.to_string())?;
                tenancy.subscribe();
                self.lines.push(Line { tenancy, asked: VecDeque::new() });
                self.lines.len() - 1
            }
        };
        Ok(self.lines.get_mut(at))
    }

    /// A server has refused, or could not be asked.
    fn refused(&mut self, session: &Session, ask: &Ask<ServerId>, error: &[u8]) -> Vec<Ask<ServerId>> {
        let (asks, told) = self.book.refused(ask, error);
        if !told && ask.joins {
            session.tell_of_lost_line(&String::from_utf8_lossy(error.trim_ascii()));
        }
        self.retry_at = Some(session.retry_at());
        asks
    }
}

impl Line {
    /// Asks the server to begin or end these.
    fn ask(&mut self, ask: Ask<ServerId>) {
        let mut request = Vec::new();
        reply::write_array_header(&mut request, 1 + ask.names.len());
        reply::write_bulk(&mut request, ask.kind.word(ask.joins).as_bytes());
        ask.names.iter().for_each(|name| reply::write_bulk(&mut request, name));
        let answer = Answer::Confirmations(ask.names.len() as u32);
        self.asked.push_back(ask);
        let write = |out: &mut crate::io::Outbound, pass: &crate::io::Pass| out.push(Payload::Borrowed(&request), pass);
        self.tenancy.send_for(Own::Subscription.ticket(), answer, Wait::Usual, write);
    }
}

impl Session {
    /// Subscribes to these names. Nothing of the session is unanswered.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) fn join(self: &Rc<Self>, pool: &Pool, kind: Subscription, names: Vec<Bytes>) -> Result<(), String> {
        let names: Vec<Name> = names.into_iter().map(|name| (kind, name)).collect();
        if let Some(name) = names.iter().find(|name| Homes::of(name).places(pool).is_empty()) {
            let away = pool.route(channel_key(&name.1)).err();
            return Err(away.map_or("no server takes subscriptions now".to_owned(), |away| pool.why_away(away)));
        }
        let mut all = self.subscriptions.borrow_mut();
        let most = pool.shared().session_limits.max_session_bytes;
        if all
            .as_ref()
            .map_or_else(|| Book::<ServerId>::default().bytes_with(&names), |all| all.book.bytes_with(&names))
            > most
        {
            return Err(format!("too many subscriptions: their names may have {most} bytes (max_session_bytes)"));
        }
        let all = all.get_or_insert_with(|| self.begin_subscriptions());
        all.book.join(&names);
        let asks = all.book.place(Some(&names), |name| homes(pool, name));
        all.carry_out(self, pool, asks);
        Ok(())
    }

    fn begin_subscriptions(self: &Rc<Self>) -> Box<Subscriptions> {
        self.subscribing.set(true);
        self.shared.subscribers.borrow_mut().insert(self.id, Rc::downgrade(self));
        let (book, lines, held) = (Book::default(), Vec::new(), Held::new(self.shared.pass.clone()));
        Box::new(Subscriptions { book, lines, retry_at: None, paused: false, held })
    }

    /// The client is owed confirmations.
    pub(super) fn is_owing(&self) -> bool {
        self.owing.get()
    }

    fn end_subscriptions(&self) {
        self.card.subscriptions.iter().for_each(|shown| shown.store(0, Relaxed));
        self.subscribing.set(false);
        self.owing.set(false);
        self.patrol_subscriptions(false);
        self.shared.subscribers.borrow_mut().remove(&self.id);
    }

    /// Has the worker look after the session now and then, or not any more.
    fn patrol_subscriptions(&self, on: bool) {
        if self.patrolled.replace(on) != on {
            self.shared.watch(on);
        }
    }

    /// Gives up these names, or all of the kind if none is given. Nothing of the session is unanswered.
    pub(super) fn quit(self: &Rc<Self>, pool: &Pool, kind: Subscription, names: Vec<Bytes>) {
        let mut all = self.subscriptions.borrow_mut();
        let all = all.get_or_insert_with(|| self.begin_subscriptions());
        let asks = all.book.quit(kind, names);
        all.carry_out(self, pool, asks);
    }

    /// Something came on a line: a confirmation, a message, or an error. `answers`: with it a request of the session's own is
    /// answered.
    pub(super) fn heard_on_line(self: &Rc<Self>, tenancy: &Rc<Tenancy>, payload: Payload<'_>, answers: bool) {
        if self.broken.get() {
            return;
        }
        let pool = self.pool();
        let mut all = self.subscriptions.borrow_mut();
        let Some(all) = all.as_deref_mut() else { return };
        let ask = all.line(tenancy).filter(|_| answers).and_then(|line| line.asked.pop_front());
        let bytes = payload.as_slice();
        let mut parts = elements(bytes);
        let word = parts.next().and_then(text).and_then(Subscription::of_word);
        match (ask, word.zip(parts.next().and_then(text))) {
            (Some(ask), _) if is_error(bytes) => {
                let asks = all.refused(self, &ask, bytes);
                all.carry_out(self, &pool, asks);
            }
            (_, Some(((kind, joins), name))) => {
                all.book.confirmed(tenancy.server, joins, &(kind, Bytes::copy_from_slice(name)));
            }
            _ if all.book.holds() && all.book.held() + bytes.len() <= self.most_held() => all.book.hold(bytes),
            _ => {
                let out = &mut self.replies.borrow_mut().out;
                all.book.release(out.tail(&self.shared.pass));
                out.push(payload, &self.shared.pass);
            }
        }
        self.tell_subscriber(all);
    }

    /// Tells what is owed, and pauses lines that bring more than the client takes.
    fn tell_subscriber(self: &Rc<Self>, all: &mut Subscriptions) {
        let mut replies = self.replies.borrow_mut();
        if all.book.is_owing() || all.book.held() > 0 {
            all.book.advance(self.variant().version, replies.out.tail(&self.shared.pass));
            for (kind, shown) in Subscription::ALL.into_iter().zip(&self.card.subscriptions) {
                shown.store(all.book.count(kind), Relaxed);
            }
        }
        self.owing.set(all.book.is_owing());
        all.held.set(all.book.bytes() + all.book.held());
        let (held, silent) = (replies.bytes(), replies.out.is_empty());
        drop(replies);
        if held > self.most_held() {
            // Also those that owe a confirmation: any number of messages may come before it, and no time runs meanwhile. All of
            // it is for the client to take, so they go on when it does.
            all.paused = true;
            all.lines.iter().for_each(|line| line.tenancy.pause_reading(true));
        }
        if !silent {
            self.mark_dirty();
        }
    }

    /// Bytes that a session may hold.
    fn most_held(&self) -> usize {
        self.pool.borrow().shared().session_limits.max_session_bytes
    }

    /// The client has taken something.
    pub(super) fn resume_lines(&self) {
        let mut all = self.subscriptions.borrow_mut();
        let Some(all) = all.as_deref_mut().filter(|all| all.paused) else { return };
        if self.replies.borrow().bytes() <= self.most_held() / 2 {
            all.paused = false;
            all.lines.iter().for_each(|line| line.tenancy.pause_reading(false));
        }
    }

    /// A line is gone.
    pub(super) fn lost_line(self: &Rc<Self>, tenancy: &Rc<Tenancy>, why: &str) {
        let pool = self.pool();
        let mut all = self.subscriptions.borrow_mut();
        let Some(all) = all.as_deref_mut() else { return };
        all.lines.retain(|line| !Rc::ptr_eq(&line.tenancy, tenancy));
        let mut error = Vec::new();
        reply::write_error(&mut error, &format!("ERR {why}"));
        let (asks, _) = all.book.lost(tenancy.server, &error);
        all.carry_out(self, &pool, asks);
        all.retry_at = Some(match all.retry_at {
            Some(at) if at > self.shared.pass.now() => at,
            Some(_) => self.retry_at(),
            None => self.soon(),
        });
        if all.book.has_names() {
            self.tell_of_lost_line(why);
        }
        self.tell_subscriber(all);
        self.wake();
    }

    /// When the next attempt to subscribe again is to be.
    fn retry_at(&self) -> Instant {
        let shared = &self.shared;
        shared.pass.now() + RETRY / 2 + shared.jitter.borrow_mut().below(RETRY / 2)
    }

    /// When the first one is to be.
    fn soon(&self) -> Instant {
        self.shared.pass.now() + self.shared.jitter.borrow_mut().below(RETRY / 10)
    }

    fn tell_of_lost_line(&self, why: &str) {
        let Some(lines) = self.shared.lost_lines.tell(Instant::now()) else { return };
        let (pool, client) = (&self.pool.borrow().settings.name, self.id);
        tracing::warn!(
            pool,
            client,
            lines,
            why,
            "subscriptions lost, subscribing again; what is published meanwhile is lost"
        );
    }

    /// The ring may have changed.
    pub fn check_subscriptions(&self) {
        if let Some(all) = self.subscriptions.borrow_mut().as_deref_mut() {
            all.book.set_stale();
            all.retry_at = None;
            self.wake();
        }
    }

    /// Called by the session's task: subscribes again where that is due, and lets go what is not needed.
    pub(super) fn tend_subscriptions(self: &Rc<Self>) {
        for line in self.tended() {
            line.give_back(true);
        }
        self.go_on_if_answered();
    }

    /// The lines that are not needed any more.
    fn tended(self: &Rc<Self>) -> Vec<Rc<Tenancy>> {
        let pool = self.pool();
        let mut subscriptions = self.subscriptions.borrow_mut();
        let Some(all) = subscriptions.as_deref_mut() else { return Vec::new() };
        let now = self.shared.pass.now();
        let due = all.retry_at.is_none_or(|at| at <= now);
        if all.book.is_stale() && due {
            let again = all.retry_at.take();
            let asks = all.book.place(None, |name| homes(&pool, name));
            all.carry_out(self, &pool, asks);
            // Should it be lost at once again, the next attempt waits.
            if again.is_some() || all.book.is_stale() {
                all.retry_at = Some(self.retry_at());
            }
        } else if due {
            all.retry_at = None;
        }
        self.tell_subscriber(all);
        self.patrol_subscriptions(all.book.is_stale() || all.retry_at.is_some());
        if all.book.is_owing() {
            return Vec::new();
        }
        let Subscriptions { book, lines, .. } = all;
        let unused = lines.extract_if(.., |line| !book.uses(line.tenancy.server) && line.asked.is_empty());
        let unused = unused.map(|line| line.tenancy).collect();
        if book.is_over() && lines.is_empty() {
            *subscriptions = None;
            self.end_subscriptions();
        }
        unused
    }

    /// Forgets all that it is subscribed to.
    pub(super) fn drop_subscriptions(&self) {
        let Some(all) = self.subscriptions.take() else { return };
        self.end_subscriptions();
        all.lines.iter().for_each(|line| line.tenancy.give_back(false));
    }
}
