//! What a pool has learnt of commands that the table does not have: from its configuration, and from its servers.
//!
//! ```text
//!   a name ──known──► its command; after a while a server is asked again, and the old answer serves meanwhile
//!      ├──refused───► there is no such command, or nobody could say; asked again later
//!      └──else──────► whoever comes first asks a server; all who come wait for the answer
//! ```
//! Shared by the workers. Commands are looked up without a lock; the rest is for what is rare.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::CommandSettings;
use crate::protocol::redis::commands::Command;
use crate::protocol::redis::commands::learnt::{self, LONGEST_NAME};

/// A server may be another version by then.
const ASKED_AGAIN: Duration = Duration::from_secs(600);
/// A name that the servers do not know is not asked for again for so long.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// When nobody could say, the next try is soon.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// Names that are known to be no command.
const MOST_REFUSED: usize = 1000;
/// Names that servers are being asked for.
const MOST_ASKED: usize = 1000;

/// A name in lower case, `container|name` for a subcommand. Takes no memory of its own.
pub struct Name {
    bytes: [u8; LONGEST_NAME],
    length: usize,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Command(&'static Command),
    /// The servers have no such command.
    Unknown,
    /// Nobody could say, and why.
    Failed(Arc<str>),
}

/// What to do about a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Outlook {
    Known(Answer),
    /// A server is being asked; the waker is woken.
    Wait,
    /// The caller is to ask a server, and must [`Learnt::settle`] it; the waker is woken then.
    Ask,
}

#[derive(Debug)]
pub struct Learnt {
    commands: ArcSwap<HashMap<Box<[u8]>, Known>>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Clone)]
struct Known {
    command: &'static Command,
    /// `None`: the configuration says so.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Pending {
    refused: HashMap<Box<[u8]>, (Answer, Instant)>,
    asked: HashMap<Box<[u8]>, Vec<Waker>>,
}

impl Name {
    /// `None`: no command has such a name.
    pub fn of(container: Option<&str>, name: &[u8]) -> Option<Self> {
        let (container, bar) = container.map_or((&b""[..], &b""[..]), |container| (container.as_bytes(), b"|"));
        let length = container.len() + bar.len() + name.len();
        if length > LONGEST_NAME || name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'|')
        {
            return None;
        }
        let mut bytes = [0; LONGEST_NAME];
        let all = container.iter().chain(bar).chain(name);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from.to_ascii_lowercase());
        Some(Self { bytes, length })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Learnt {
    /// What the configuration says.
    pub fn new(settings: &[CommandSettings]) -> Arc<Self> {
        let known = settings.iter().filter_map(|own| {
            let command = learnt::learn(&own.description());
            if command.is_none() {
                tracing::warn!(
                    command = own.name,
                    "too many commands were learnt, this one of the configuration is left out"
                );
            }
            Some((own.name.as_bytes().into(), Known { command: command?, until: None }))
        });
        let commands = ArcSwap::from_pointee(known.collect::<HashMap<_, _>>());
        Arc::new(Self { commands, pending: Mutex::default() })
    }

    /// The command of that name, if it has been learnt.
    pub fn command(&self, name: &Name) -> Option<&'static Command> {
        self.commands.load().get(name.as_bytes()).map(|known| known.command)
    }

    /// The same by its name, or of a subcommand by `container|name`, in any case.
    pub fn named(&self, name: &[u8]) -> Option<&'static Command> {
        let commands = self.commands.load();
        if let Some(known) = commands.get(&name.to_ascii_lowercase()[..]) {
            return Some(known.command);
        }
        let bar = name.iter().position(|byte| *byte == b'|')?;
        commands.get(&name[..bar].to_ascii_lowercase()[..])?.command.subcommand(&name[bar + 1..])
    }

    /// What to do about a name. `waker`: of whoever waits for the answer.
    pub fn look_up(&self, name: &Name, now: Instant, waker: &Waker) -> Outlook {
        if let Some(command) = self.command(name) {
            return Outlook::Known(Answer::Command(command));
        }
        let mut pending = self.pending();
        match pending.refused.get(name.as_bytes()) {
            Some((answer, until)) if now < *until => return Outlook::Known(answer.clone()),
            _ => {}
        }
        let most = pending.asked.len() >= MOST_ASKED;
        match pending.asked.get_mut(name.as_bytes()) {
            Some(waiting) => {
                if !waiting.iter().any(|other| other.will_wake(waker)) {
                    waiting.push(waker.clone());
                }
                Outlook::Wait
            }
            None if most => Outlook::Known(Answer::Failed("too many names are being asked for".into())),
            None => {
                pending.asked.insert(name.as_bytes().into(), vec![waker.clone()]);
                Outlook::Ask
            }
        }
    }

    /// Whether a command was learnt so long ago that a server is to be asked again; if so by the caller, who must
    /// [`Learnt::settle`] it. Nobody waits for that.
    pub fn is_due(&self, name: &Name, now: Instant) -> bool {
        let due =
            self.commands.load().get(name.as_bytes()).and_then(|known| known.until).is_some_and(|until| until <= now);
        if !due {
            return false;
        }
        let mut pending = self.pending();
        let asked = pending.asked.contains_key(name.as_bytes()) || pending.asked.len() >= MOST_ASKED;
        if !asked {
            pending.asked.insert(name.as_bytes().into(), Vec::new());
        }
        !asked
    }

    /// A server has answered, or will not; `None`: another one is to be asked.
    pub fn settle(&self, name: &[u8], answer: Option<Answer>, now: Instant) {
        let mut pending = self.pending();
        match &answer {
            Some(Answer::Command(command)) => {
                let known = Known { command, until: Some(now + ASKED_AGAIN) };
                self.change(|commands| {
                    commands.insert(name.into(), known.clone());
                });
                pending.refused.remove(name);
            }
            Some(Answer::Unknown) => {
                self.change(|commands| {
                    commands.remove(name);
                });
                pending.refuse(name, (Answer::Unknown, now + UNKNOWN_FOR), now);
            }
            // What was learnt before stays.
            Some(Answer::Failed(_)) if self.commands.load().contains_key(name) => {
                let until = Some(now + UNKNOWN_FOR);
                self.change(|commands| commands.get_mut(name).into_iter().for_each(|known| known.until = until));
            }
            Some(failed) => pending.refuse(name, (failed.clone(), now + FAILED_FOR), now),
            None => {}
        }
        let waiting = pending.asked.remove(name);
        drop(pending);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Commands that are known.
    pub fn count(&self) -> usize {
        self.commands.load().len()
    }

    fn change(&self, change: impl Fn(&mut HashMap<Box<[u8]>, Known>)) {
        self.commands.rcu(|before| {
            let mut commands = HashMap::clone(before);
            change(&mut commands);
            commands
        });
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // It is whole after each step.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn refuse(&mut self, name: &[u8], answer: (Answer, Instant), now: Instant) {
        if self.refused.len() >= MOST_REFUSED {
            self.refused.retain(|_, (_, until)| *until > now);
        }
        if self.refused.len() >= MOST_REFUSED {
            // Somebody sends garbage; what is forgotten is asked for again.
            self.refused.clear();
        }
        self.refused.insert(name.into(), answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;
    use crate::protocol::redis::commands::learnt::Description;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Relaxed)
        }
    }

    fn sleeper() -> (Arc<Woken>, Waker) {
        let woken = Arc::<Woken>::default();
        (woken.clone(), woken.into())
    }

    fn name(text: &str) -> Name {
        Name::of(None, text.as_bytes()).unwrap()
    }

    fn described(name: &str, arity: i16) -> &'static Command {
        let (flags, categories, key_specs, more_keys, subcommands) = (0, 0, Vec::new(), false, Vec::new());
        let name = name.to_owned();
        learnt::learn(&Description { name, arity, flags, categories, key_specs, more_keys, subcommands }).unwrap()
    }

    #[test]
    fn names_are_lower_case_and_short() {
        assert_eq!(name("JSON.Get").as_bytes(), b"json.get");
        assert_eq!(Name::of(Some("object"), b"AGE").unwrap().as_bytes(), b"object|age");
        for none in [&b""[..], b"a b", b"a|b", b"\xc3\xa4", b"a\0", &[b'a'; LONGEST_NAME + 1]] {
            assert!(Name::of(None, none).is_none(), "{}", none.escape_ascii());
        }
        assert!(Name::of(None, &[b'a'; LONGEST_NAME]).is_some());
        assert!(Name::of(Some("object"), &[b'a'; LONGEST_NAME - 6]).is_none());
    }

    #[test]
    fn whoever_comes_first_asks_and_all_are_woken() {
        let (learnt, now) = (Learnt::new(&[]), Instant::now());
        let sleepers: Vec<_> = (0..3).map(|_| sleeper()).collect();
        let look = |n: usize| learnt.look_up(&name("pool.first"), now, &sleepers[n].1);
        assert_eq!((look(0), look(1), look(2)), (Outlook::Ask, Outlook::Wait, Outlook::Wait));
        // Once each, however often they look.
        assert_eq!((look(0), look(1)), (Outlook::Wait, Outlook::Wait));
        let command = described("pool.first", 2);
        learnt.settle(b"pool.first", Some(Answer::Command(command)), now);
        assert_eq!(sleepers.iter().map(|(woken, _)| woken.count()).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(look(0), Outlook::Known(Answer::Command(command)));
        assert_eq!(
            (learnt.count(), learnt.named(b"Pool.FIRST"), learnt.named(b"pool.first|x")),
            (1, Some(command), None)
        );
    }

    #[test]
    fn what_nobody_knows_is_asked_for_again_later() {
        let (learnt, now, (woken, waker)) = (Learnt::new(&[]), Instant::now(), sleeper());
        let look = |at| learnt.look_up(&name("none"), at, &waker);
        assert_eq!(look(now), Outlook::Ask);
        learnt.settle(b"none", Some(Answer::Unknown), now);
        assert_eq!(look(now + UNKNOWN_FOR / 2), Outlook::Known(Answer::Unknown));
        assert_eq!(look(now + UNKNOWN_FOR), Outlook::Ask);
        let failed = Answer::Failed("why".into());
        learnt.settle(b"none", Some(failed.clone()), now);
        assert_eq!((look(now), look(now + FAILED_FOR)), (Outlook::Known(failed), Outlook::Ask));
        // Its server was ejected: at once.
        learnt.settle(b"none", None, now + FAILED_FOR);
        assert_eq!((look(now + FAILED_FOR), woken.count()), (Outlook::Ask, 3));
    }

    #[test]
    fn what_was_learnt_long_ago_is_asked_for_by_one_and_serves_meanwhile() {
        let (learnt, now, (woken, waker)) = (Learnt::new(&[]), Instant::now(), sleeper());
        let (one, other, own) = (described("pool.old", 2), described("pool.old", 3), name("pool.old"));
        let look = || learnt.look_up(&own, now, &waker);
        learnt.settle(b"pool.old", Some(Answer::Command(one)), now);
        let later = now + ASKED_AGAIN;
        assert!(!learnt.is_due(&own, later - Duration::from_secs(1)));
        assert!(learnt.is_due(&own, later) && !learnt.is_due(&own, later));
        assert_eq!(look(), Outlook::Known(Answer::Command(one)));
        // Nobody could say: it goes on, and is asked for again.
        learnt.settle(b"pool.old", Some(Answer::Failed("why".into())), later);
        assert_eq!(look(), Outlook::Known(Answer::Command(one)));
        assert!(!learnt.is_due(&own, later) && learnt.is_due(&own, later + UNKNOWN_FOR));
        learnt.settle(b"pool.old", Some(Answer::Command(other)), later);
        assert_eq!(look(), Outlook::Known(Answer::Command(other)));
        assert!(learnt.is_due(&own, later + ASKED_AGAIN));
        learnt.settle(b"pool.old", Some(Answer::Unknown), now);
        assert_eq!((look(), woken.count()), (Outlook::Known(Answer::Unknown), 0));
    }

    #[test]
    fn the_configuration_is_never_asked_about() {
        let own = CommandSettings { name: "pool.own".to_owned(), keys: Some((1, -1, 2)), write: false };
        let (learnt, own) = (Learnt::new(&[own]), name("POOL.own"));
        let command = learnt.command(&own).unwrap();
        assert!(command.is_read() && !learnt.is_due(&own, Instant::now() + ASKED_AGAIN * 10));
        let mut keys = Vec::new();
        let arguments = [&b"pool.own"[..], b"a", b"1", b"b", b"2"];
        command.keys(arguments.len(), |index| arguments.get(index).copied(), &mut keys).unwrap();
        assert_eq!(keys, [1, 3]);
    }

    #[test]
    fn garbage_takes_bounded_room() {
        let (learnt, now, (_, waker)) = (Learnt::new(&[]), Instant::now(), sleeper());
        for n in 0..3 * MOST_REFUSED {
            let own = name(&format!("garbage{n}"));
            assert_eq!(learnt.look_up(&own, now, &waker), Outlook::Ask);
            learnt.settle(own.as_bytes(), Some(Answer::Unknown), now);
            assert!(learnt.pending().refused.len() <= MOST_REFUSED);
        }
        for n in 0..2 * MOST_ASKED {
            learnt.look_up(&name(&format!("asked{n}")), now, &waker);
        }
        assert_eq!(learnt.pending().asked.len(), MOST_ASKED);
        assert!(matches!(learnt.look_up(&name("more"), now, &waker), Outlook::Known(Answer::Failed(_))));
    }
}
