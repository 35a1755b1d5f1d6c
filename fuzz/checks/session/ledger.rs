//! What clients have sent, for servers to compare with what comes; and what each server has done wrong.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use outrigger::backend::Expect;
use outrigger::hash::tagged;
use outrigger::pool::Pool;
use outrigger::protocol::Limits;
use outrigger::ring::Ring;

use super::fixture::Plan;

/// One key of one request, or one request that is about several, as it must arrive at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub hash: u64,
    pub write: bool,
}

/// What a client is owed.
#[derive(Debug, Clone)]
pub enum Want {
    /// Just these bytes.
    Exact(Vec<u8>),
    /// One of these.
    OneOf(Vec<Vec<u8>>),
    /// An array of these, each of which an error may replace.
    Elements(Vec<Vec<u8>>),
    /// A line of the proxy's own that begins so.
    Line(&'static [u8]),
    /// Any whole reply.
    Whole,
}

/// What becomes of one request.
#[derive(Debug)]
pub struct Fate {
    /// `None`: no reply.
    pub want: Option<Want>,
    /// The shape of the reply.
    pub expect: Expect,
    /// What arrives where.
    pub tokens: Vec<(usize, Token)>,
    /// After this the session closes.
    pub last: bool,
    /// That it is none may show only when more comes.
    pub unsure: bool,
}

/// The misbehaviour of one server.
#[derive(Debug, Default, Clone)]
pub struct Conduct {
    /// How often it closed a connection or sent what it should not.
    pub faults: u64,
    /// Of these, those that the proxy may not have noticed yet.
    pub fresh: u64,
    /// It has sent a reply too many while others were due.
    pub out_of_step: bool,
    /// By client: the number of the last write that came.
    last_write: BTreeMap<u64, u64>,
}

/// Shared by the clients and the servers of one run.
pub struct Ledger {
    pub pool: Rc<Pool>,
    pub limits: Limits,
    ring: Ring,
    pub conduct: Vec<Conduct>,
    /// By server and token: how often it was sent, and how often it came.
    tokens: BTreeMap<(usize, u64), (u64, u64)>,
    /// Clients have sent damaged requests, so that numbers in keys may lie.
    pub damaged: bool,
    /// Nothing has happened since the proxy had its time.
    pub quiet: bool,
    /// The process may hold little.
    pub pressed: bool,
    /// Servers that fail are ejected, or the topology changes, so that any server may be asked for any key.
    pub shifting: bool,
    /// Servers that fail are ejected, or move to where others were: then writes of other keys may overtake one another on
    /// their way to one place.
    pub unordered: bool,
}

impl Ledger {
    pub fn new(pool: Rc<Pool>, limits: Limits, plan: &Plan) -> Self {
        let (pressed, shifting) = (plan.pressed, plan.ejects || plan.changes);
        let unordered = plan.ejects || plan.moves;
        let conduct = vec![Conduct::default(); plan.places()];
        let ring = Ring::build(pool.settings.distribution, &pool.settings.ring_servers(), |_| true);
        Self {
            pool,
            limits,
            ring,
            conduct,
            tokens: BTreeMap::new(),
            damaged: false,
            quiet: false,
            pressed,
            shifting,
            unordered,
        }
    }

    /// The server of a key; the pool is not asked, since that counts as traffic.
    pub fn owner(&self, key: &[u8]) -> usize {
        let settings = &self.pool.settings;
        self.ring.server(settings.hash.hash(tagged(key, settings.hash_tag))).expect("a server")
    }

    /// A client sends this.
    pub fn sent(&mut self, fate: &Fate) {
        for (server, token) in &fate.tokens {
            let server = if self.shifting { 0 } else { *server };
            self.tokens.entry((server, token.hash)).or_default().0 += 1;
        }
    }

    /// A server is asked this: somebody must have sent it, to this server, and a write only as often as it was sent. A
    /// read may come once more, after a connection was lost.
    pub fn arrived(&mut self, server: usize, token: Token, request: &[u8]) {
        let place = if self.shifting { 0 } else { server };
        let (sent, came) = self.tokens.entry((place, token.hash)).or_default();
        *came += 1;
        let most = if token.write { *sent } else { *sent * 2 };
        let request = super::super::shown(request);
        assert!(*came <= most, "server {server} was asked {came} times what clients sent {sent} times: {request}");
    }

    /// The writes of one client come in their order.
    pub fn in_order(&mut self, server: usize, key: &[u8], request: &[u8]) {
        let Some((client, number)) = numbers(key).filter(|_| !self.damaged && !self.unordered) else { return };
        let last = self.conduct[server].last_write.entry(client).or_default();
        let request = super::super::shown(request);
        assert!(*last <= number, "server {server} got write {number} of client {client} after {last}: {request}");
        *last = number;
    }

    /// The server misbehaves, in a way that ends the connection.
    pub fn fault(&mut self, server: usize) {
        self.conduct[server].faults += 1;
        self.conduct[server].fresh += 1;
    }

    /// The proxy has had its time to notice.
    pub fn noticed(&mut self) {
        self.quiet = true;
        self.conduct.iter_mut().for_each(|conduct| conduct.fresh = 0);
    }
}

/// `c7:12` and `c7:12:3` are keys of the request 12 of client 7.
fn numbers(key: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(key).ok()?;
    let (client, rest) = text.strip_prefix('c')?.split_once(':')?;
    let number = rest.split(':').next()?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

/// A reply that is due.
pub struct Owed {
    pub want: Want,
    pub expect: Expect,
    /// The servers of the request, each with the faults that the proxy knew when it was sent.
    servers: Vec<(usize, u64)>,
}

impl Owed {
    pub fn new(want: Want, fate: &Fate, ledger: &Ledger) -> Self {
        let known = |server: usize| (server, ledger.conduct[server].faults - ledger.conduct[server].fresh);
        let servers = match ledger.shifting && !fate.tokens.is_empty() {
            true => (0..ledger.conduct.len()).map(|server| (server, 0)).collect(),
            false => fate.tokens.iter().map(|(server, _)| known(*server)).collect(),
        };
        Self { want, expect: fate.expect, servers }
    }

    /// Whether this reply may be given.
    pub fn accepts(&self, reply: &[u8], ledger: &Ledger) -> bool {
        let excused = |part: &[u8]| self.is_excused(part, ledger);
        let right = match &self.want {
            Want::Exact(bytes) => bytes == reply,
            Want::OneOf(all) => all.iter().any(|bytes| bytes == reply),
            Want::Line(start) => reply.starts_with(start),
            Want::Whole => true,
            Want::Elements(all) => {
                let header = format!("*{}\r\n", all.len());
                let parts: VecDeque<&[u8]> = outrigger::protocol::redis::response::elements(reply).collect();
                let each = || parts.iter().zip(all).all(|(part, due)| *part == due || excused(part));
                reply.starts_with(header.as_bytes()) && parts.len() == all.len() && each()
            }
        };
        let routed = !self.servers.is_empty();
        // Of any request, when it is large and only half of it has come.
        let refused = ledger.pressed && is_refusal(reply);
        let nowhere = routed && ledger.shifting && is_homeless(reply);
        let astray = self.servers.iter().any(|(server, _)| ledger.conduct[*server].out_of_step);
        right || refused || nowhere || excused(reply) || astray
    }

    /// An error that names the pool and a server of the request that has misbehaved since; or a server's own error, after
    /// which the connection is closed.
    fn is_excused(&self, reply: &[u8], ledger: &Ledger) -> bool {
        let pool = &ledger.pool.settings;
        self.servers.iter().any(|(server, known)| {
            // Where keys move, and servers with them, any of them may be it.
            let own = (!ledger.shifting).then(|| format!("{})\r\n", pool.servers[*server].name));
            let text = String::from_utf8_lossy(reply);
            let place = text.rsplit_once(&format!("(pool {}, server ", pool.name));
            let named = place.is_some_and(|(_, name)| own.is_none_or(|own| own == name))
                && (reply.starts_with(b"-ERR ") || reply.starts_with(b"SERVER_ERROR "));
            let own = reply.starts_with(super::memcached::OUT_OF_STEP);
            ledger.conduct[*server].faults > *known && (named || own)
        })
    }
}

/// What the proxy says when it has no room.
pub fn is_refusal(reply: &[u8]) -> bool {
    reply.starts_with(b"-ERR proxy overloaded: ") || reply.starts_with(b"SERVER_ERROR proxy overloaded: ")
}

/// What it says when keys have moved to several servers, or none is left.
fn is_homeless(reply: &[u8]) -> bool {
    let text = String::from_utf8_lossy(reply);
    text.starts_with("-ERR '") && text.contains("' needs all its keys on one server, but '")
        || text.starts_with("-ERR no live server in pool ")
        || text.starts_with("SERVER_ERROR no live server in pool ")
}

/// FNV-1a over the parts, each with its length.
pub fn hash<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        let part = part.as_ref();
        part.len().to_le_bytes().into_iter().for_each(&mut add);
        part.iter().copied().for_each(&mut add);
    }
    // FNV's low bits depend on little.
    hash ^ hash >> 29
}
