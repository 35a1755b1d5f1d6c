//! Multi-key gets over several servers, merged in the order of the keys; and `flush_all`, which goes to all of them.

use std::rc::Rc;

use bytes::Bytes;

use super::super::Step;
use super::super::merge::{Merge, Part, Parts};
use super::{LONGEST_LINE, Request};
use crate::backend::{Requester, Ticket};
use crate::protocol::memcached::request::{Span, part};
use crate::protocol::memcached::{replies, response};

/// Keys of one server.
struct Fragment {
    server: usize,
    /// Indexes of the keys in the request.
    keys: Vec<usize>,
    /// Length of its line, in bytes.
    length: usize,
}

impl Request<'_, '_> {
    pub(super) fn gather(&mut self) -> Step {
        let pool = &self.session.pool;
        let mut fragments: Vec<Fragment> = Vec::new();
        // By server: the index of its fragment.
        let mut places = vec![usize::MAX; pool.places()];
        let mut order = Vec::with_capacity(self.parsed.keys.len());
        let (start, longest) = match self.parsed.exptime {
            Some((from, to)) => ("gats  \r\n".len() + (to - from) as usize, LONGEST_LINE),
            None => (0, usize::MAX),
        };
        for index in 0..self.parsed.keys.len() {
            let server = match pool.route(self.key(index)) {
                Ok(server) => server,
                Err(away) => return self.away(away),
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
            [only] if self.is_line_taken() => self.forward(only.server),
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
        let ticket = session.replies.borrow_mut().reserve_merge(Box::new(gather));
        session.pool.cells().fragments.add(fragments.len() as u64);
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

    /// The command and, of `gat`, the expiry time, as the client wrote them; then the keys of this fragment.
    fn write_fragment(&self, out: &mut Vec<u8>, fragment: &Fragment) {
        self.parsed.write_fragment_start(self.input.bytes(), out);
        for &key in &fragment.keys {
            out.push(b' ');
            out.extend_from_slice(self.key(key));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// To every server; `OK` when all have answered so.
    pub(super) fn flush_all(&mut self) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse();
        }
        let servers = session.pool.servers();
        if let Some(full) = (0..servers).map(|s| self.connection(s)).find(|c| !c.has_room()) {
            return session.wait_for(full);
        }
        let noreply = self.parsed.noreply;
        let merge = Box::new(Unanimous { parts: Parts::new(servers) });
        let ticket = (!noreply).then(|| session.replies.borrow_mut().reserve_merge(merge));
        for server in 0..servers {
            let requester = ticket.map(|_| -> Rc<dyn Requester> { session.clone() });
            let ticket = Ticket { part: server as u32, ..ticket.unwrap_or_default() };
            self.connection(server).send(requester, self.sent(ticket), |out, pass| {
                let (before, after) = self.parsed.forward_parts(self.input.bytes());
                let out = out.tail(pass);
                out.extend_from_slice(before);
                out.extend_from_slice(after);
            });
        }
        self.input.skip(self.length);
        Step::Next
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
    fn accept(&mut self, index: usize, part: Part) -> bool {
        self.parts.accept(index, part)
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
    fn accept(&mut self, index: usize, part: Part) -> bool {
        self.parts.accept(index, part)
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
