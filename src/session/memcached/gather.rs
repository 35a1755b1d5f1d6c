//! Multi-key gets over several servers, merged in the order of the keys; and `flush_all`, which goes to all of them.

use std::rc::Rc;

use bytes::Bytes;

use super::super::Step;
use super::super::merge::{Merge, Part, Parts};
use super::super::meter::Verdict;
use super::{LONGEST_EXPTIME, LONGEST_LINE, Request, write_away};
use crate::backend::{Requester, Ticket};
use crate::pool::Away;
use crate::protocol::memcached::request::{Span, part};
use crate::protocol::memcached::{replies, response};
use crate::telemetry::Class;

/// Keys of one server.
struct Fragment {
    server: usize,
    /// Indexes of the keys in the request.
    keys: Vec<usize>,
    /// Length of its line, in bytes.
    length: usize,
}

impl Request<'_, '_> {
    /// A miss needs no fragment: a key whose value does not come back was not found.
    pub(super) fn gather(&mut self) -> Step {
        let pool = self.pool;
        let mut fragments: Vec<Fragment> = Vec::new();
        // By server: the index of its fragment.
        let mut places = vec![usize::MAX; pool.places()];
        let mut order = Vec::with_capacity(self.parsed.keys.len());
        let (start, longest) = match self.parsed.exptime {
            Some((from, to)) => ("gats  \r\n".len() + LONGEST_EXPTIME.max((to - from) as usize), LONGEST_LINE),
            None => (0, usize::MAX),
        };
        for index in 0..self.parsed.keys.len() {
            let server = match pool.route(self.key(index)) {
                Ok(server) => server,
                Err(away) if away.is_miss() => continue,
                Err(away) => return self.answer_away(away),
            };
            let length = 1 + self.key(index).len();
            if fragments.get(places[server]).is_none_or(|f| f.length + length > longest) {
                places[server] = fragments.len();
                fragments.push(Fragment { server, keys: Vec::new(), length: start });
            }
            let fragment = &mut fragments[places[server]];
            fragment.keys.push(index);
            fragment.length += length;
            order.push((places[server], self.parsed.keys[index]));
        }
        match &fragments[..] {
            // All of them are at ejected servers.
            [] => self.answer_as(Verdict::Away(Class::Read), |out, _| out.extend_from_slice(replies::END)),
            [only] if self.is_line_taken() && only.keys.len() == self.parsed.keys.len() => self.forward(only.server),
            _ => self.send_fragments(&fragments, order),
        }
    }

    fn send_fragments(&mut self, fragments: &[Fragment], order: Vec<(usize, Span)>) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse();
        }
        if let Some(full) = fragments.iter().map(|f| self.connection(f.server)).find(|c| !c.has_room()) {
            return session.wait_for(full);
        }
        let line = Bytes::copy_from_slice(&self.input.bytes()[..self.length]);
        let gather = Gather { parts: Parts::new(fragments.len()), line, order };
        let ticket = session.replies.borrow_mut().reserve_merge(session.asked(Class::Read), Box::new(gather));
        session.cells.fragmented.increment();
        session.cells.fragments.add(fragments.len() as u64);
        for (part, fragment) in fragments.iter().enumerate() {
            let requester: Rc<dyn Requester> = session.clone();
            let ticket = Ticket { part: part as u32, ..ticket };
            self.connection(fragment.server).send(Some(requester), self.sent(ticket), |out, pass| {
                self.write_fragment(out.tail(pass), fragment);
            });
        }
        self.input.skip(self.length);
        Step::Next
    }

    /// The command and, of `gat`, the expiry time; then the keys of this fragment.
    fn write_fragment(&self, out: &mut Vec<u8>, fragment: &Fragment) {
        self.parsed.write_fragment_start(self.input.bytes(), self.capped_exptime(fragment.server), out);
        for &key in &fragment.keys {
            out.push(b' ');
            out.extend_from_slice(self.key(key));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// To every server, those of the pool that stands in among them: it may have keys of ours from a former ejection. `OK`
    /// when all have answered so. An ejected server is not asked, which is an error unless it is emptied before it returns.
    pub(super) fn flush_all(&mut self) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse();
        }
        let pool = self.pool;
        let aways: Vec<Option<Away>> = (0..pool.places()).map(|place| pool.away(place)).collect();
        let asked = |place: &usize| aways[*place].is_none();
        if let Some(full) = (0..aways.len()).filter(asked).map(|p| self.connection(p)).find(|c| !c.has_room()) {
            return session.wait_for(full);
        }
        let merge = Box::new(Unanimous { parts: Parts::new(aways.len()) });
        let asked = session.asked(Class::Other);
        let ticket = (!self.parsed.noreply).then(|| session.replies.borrow_mut().reserve_merge(asked, merge));
        for (place, away) in aways.iter().enumerate() {
            let part = match ticket {
                Some(ticket) => Ticket { part: place as u32, ..ticket },
                None => session.unheard((place == 0).then_some(asked.class)),
            };
            if let Some(away) = away {
                self.settle_flush(place, *away, part);
                continue;
            }
            let requester: Rc<dyn Requester> = session.clone();
            self.connection(place).send(Some(requester), self.sent(part), |out, pass| {
                let (before, after) = self.parsed.forward_parts(self.input.bytes());
                let out = out.tail(pass);
                out.extend_from_slice(before);
                out.extend_from_slice(after);
            });
        }
        self.input.skip(self.length);
        Step::Next
    }

    /// Settles the part of an ejected server.
    fn settle_flush(&self, place: usize, away: Away, part: Ticket) {
        // With a delay it is also about what is stored after the return.
        if self.pool.is_flushed_on_return(place) && self.parsed.exptime.is_none() {
            return self.session.settle_part(part, Ok(replies::OK));
        }
        let mut error = Vec::new();
        write_away(&mut error, self.session, away);
        self.session.settle_part(part, Err(&error));
    }
}

/// The values in the order of the keys; misses left out; an error of any server is the error of the whole, since there
/// is no room for it beside values.
struct Gather {
    parts: Parts,
    /// The request.
    line: Bytes,
    /// By key: the index of its fragment, and where it stands in the line.
    order: Vec<(usize, Span)>,
}

impl Merge for Gather {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(error) = first_error(&self.parts) {
            return write_error(out, error);
        }
        let values = |part| match part {
            &Part::Reply(ref reply) | &Part::Error(ref reply) => response::values(reply).peekable(),
        };
        let mut sources: Vec<_> = self.parts.iter().map(values).collect();
        for &(fragment, key) in &self.order {
            let key = part(&self.line, key);
            if let Some(value) = sources[fragment].next_if(|value| value.key == key) {
                out.extend_from_slice(value.whole);
            }
        }
        out.extend_from_slice(replies::END);
    }
}

/// `OK`, or the first error.
struct Unanimous {
    parts: Parts,
}

impl Merge for Unanimous {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match first_error(&self.parts) {
            Some(error) => write_error(out, error),
            None => out.extend_from_slice(replies::OK),
        }
    }
}

/// The first error line, without its end.
fn first_error(parts: &Parts) -> Option<&[u8]> {
    parts.iter().find_map(|part| match part {
        Part::Error(line) | Part::Reply(line) => response::error_line(line),
    })
}

fn write_error(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}
