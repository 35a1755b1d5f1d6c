//! What is counted of a session's requests: each once, when its reply has its turn.

use std::sync::Arc;

use super::Session;
use crate::backend::Ticket;
use crate::io::Pass;
use crate::protocol::outcome_of;
use crate::telemetry::{Class, Ending, Label, Outcome, PoolCells, Stamp, Trouble};

/// What is known of a request from its arrival on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub class: Class,
    pub at: Stamp,
}

impl Asked {
    /// In this pass.
    pub fn now(class: Class, pass: &Pass) -> Self {
        Self { class, at: pass.stamp() }
    }
}

/// Counts the requests of one session.
pub struct Meter(Arc<PoolCells>);

impl Meter {
    pub fn new(cells: Arc<PoolCells>) -> Self {
        Self(cells)
    }

    /// A request has its reply, in its turn.
    #[inline]
    pub fn done(&self, asked: Asked, outcome: Outcome, pass: &Pass) {
        if !pass.measures() {
            return;
        }
        let class = asked.class.index();
        self.0.requests[class].of(outcome).increment();
        if outcome != Outcome::Rejected
            && let Some(latency) = self.0.latency.get(class)
        {
            latency.record(pass.stamp().since(asked.at));
        }
    }
}

/// What a request is that is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The proxy's own to answer; an error says that the request is invalid.
    Own,
    /// Refused.
    Rejected(Class, Trouble),
    /// In place of a server that was tried a moment ago, and could not be connected to.
    Failed(Class, Trouble),
    /// In place of a server that is ejected: nothing, or an error.
    Away(Class),
}

impl Verdict {
    fn class(self) -> Class {
        match self {
            Self::Own => Class::Proxy,
            Self::Rejected(class, _) | Self::Failed(class, _) | Self::Away(class) => class,
        }
    }

    fn judge(self, reply: &[u8]) -> Outcome {
        match (self, outcome_of(reply)) {
            (Self::Rejected(..), _) | (Self::Own, Outcome::Error) => Outcome::Rejected,
            (Self::Own, _) => Outcome::Ok,
            (Self::Failed(..), _) | (Self::Away(_), Outcome::Error) => Outcome::Failed,
            (Self::Away(_), outcome) => outcome,
        }
    }

    fn trouble(self, outcome: Outcome) -> Option<Trouble> {
        match (self, outcome) {
            (Self::Rejected(_, trouble) | Self::Failed(_, trouble), _) => Some(trouble),
            (Self::Own, Outcome::Rejected) => Some(Trouble::Invalid),
            (Self::Away(_), Outcome::Failed) => Some(Trouble::Ejected),
            _ => None,
        }
    }
}

/// In place of a request's number: the client does not want to hear the reply.
const UNHEARD: u64 = u64::MAX;
/// In place of a class: of an unheard request that is counted elsewhere.
const UNCOUNTED: u32 = u32::MAX;

impl Session {
    /// For one more request, or a fragment, whose reply the client does not want to hear. Of several fragments one has the
    /// class of the request.
    pub(super) fn unheard(&self, class: Option<Class>) -> Ticket {
        self.unheard.set(self.unheard.get() + 1);
        Ticket { sequence: UNHEARD, part: class.map_or(UNCOUNTED, |class| class.index() as u32) }
    }

    /// Whether what this stands for is not waited for by the client.
    pub(super) fn is_unheard(ticket: Ticket) -> bool {
        ticket.sequence == UNHEARD
    }

    /// Of the fragments of an unheard request, this one stands for all of it.
    pub(super) fn is_counted(ticket: Ticket) -> bool {
        ticket.part != UNCOUNTED
    }

    /// Counts a request of this class whose reply the client does not want to hear.
    pub(super) fn count_unheard(&self, class: usize, outcome: Outcome) {
        if self.shared.pass.measures()
            && let Some(requests) = self.cells.requests.get(class)
        {
            requests.of(outcome).increment();
        }
    }

    /// Counts a request that is answered here with this reply; what it is then.
    pub(super) fn count_answer(&self, verdict: Verdict, reply: &[u8]) -> (Asked, Outcome) {
        let outcome = verdict.judge(reply);
        verdict.trouble(outcome).into_iter().for_each(|trouble| self.count(trouble));
        (Asked::now(verdict.class(), &self.shared.pass), outcome)
    }

    /// Counts a request that would be answered here with this reply if the client wanted to hear it.
    pub(super) fn count_unheard_answer(&self, verdict: Verdict, write: impl FnOnce(&mut Vec<u8>)) {
        let mut reply = self.shared.pass.take_buffer();
        write(&mut reply);
        let (asked, outcome) = self.count_answer(verdict, &reply);
        self.shared.pass.give_buffer(reply);
        self.count_unheard(asked.class.index(), outcome);
    }

    /// Counts what befell a request.
    pub(super) fn count(&self, trouble: Trouble) {
        self.cells.troubles.of(trouble).increment();
    }

    /// Notes why the session ends; the first reason is the true one.
    pub(super) fn ends_for(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
        }
    }
}
