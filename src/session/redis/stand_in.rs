//! Requests to a pool that stands in for an ejected server: nothing stays there for longer than `gutter_ttl`.

use std::rc::Rc;

use super::{Request, Step};
use crate::backend::{self, Connection, Expect, Requester, Ticket};
use crate::io::Payload;
use crate::pool::Pool;
use crate::protocol::redis::commands::Command;
use crate::protocol::redis::reply;

impl Request<'_, '_> {
    /// Hands the request to a connection of the stand-in, as it is, and an EXPIRE behind it for each key that it writes.
    pub(super) fn forward_to_stand_in(
        &mut self,
        connection: &Rc<Connection>,
        requester: Rc<dyn Requester>,
        request: backend::Request,
        command: &Command,
    ) -> Step {
        let (args, bytes) = (self.args, self.input.bytes());
        let eval = self.as_eval(command);
        let frame = eval.as_deref().unwrap_or(args.frame(bytes));
        connection.send(Some(requester), request, |out, pass| out.push(Payload::Borrowed(frame), pass));
        // A request whose keys cannot be told was refused before.
        if command.written_keys(args.len(), |i| args.get(bytes, i), self.keys).is_ok() {
            for &position in &*self.keys {
                cap_lifetime(self.pool, connection, self.arg(position as usize));
            }
        }
        self.input.skip(self.length);
        Step::Next
    }
}

/// Sees to it that a key lives no longer than `gutter_ttl` on that server, whatever became of the request that was sent
/// before. The reply is dropped; lost on the way, it is sent again, as that does no harm.
pub(in crate::session) fn cap_lifetime(pool: &Pool, connection: &Rc<Connection>, key: &[u8]) {
    let once = backend::Request::once(Ticket::default(), Expect::Resp);
    connection.send(None, backend::Request { repeatable: true, ..once }, |out, pass| {
        let seconds = pool.settings.health.gutter_ttl.as_secs().max(1);
        reply::write_expire_at_most(out.tail(pass), key, seconds);
    });
}
