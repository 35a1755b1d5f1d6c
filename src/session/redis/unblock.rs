//! CLIENT UNBLOCK: the servers that a client waits at are asked to end its wait, see [`posts`](crate::session::posts).

use std::rc::Rc;

use super::super::Step;
use super::super::posts::Post;
use super::local::parse_integer;
use super::{Request, sent, unsupported};
use crate::backend::{Connection, Requester};
use crate::protocol::redis::commands::{Command, FanOut};
use crate::protocol::redis::{errors, reply};
use crate::telemetry::Class;

impl Request<'_, '_> {
    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`
    pub(super) fn unblock(&mut self, command: &'static Command) -> Step {
        let how = match self.args.len() {
            3 => "TIMEOUT",
            4 if self.arg(3).eq_ignore_ascii_case(b"timeout") => "TIMEOUT",
            4 if self.arg(3).eq_ignore_ascii_case(b"error") => "ERROR",
            _ => return self.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        };
        let Some(id) = parse_integer(self.arg(2)) else { return self.say(errors::NOT_AN_INTEGER) };
        if self.state.transaction.is_some() {
            // What is asked of the watched server goes by another connection, in an order of its own.
            return self.reject(command, |out, _| errors::not_now(out, command, "while keys are watched"));
        }
        let posts = self.clients().iter().find(|card| card.id as i64 == id).map(|card| card.posts.tell());
        match posts.unwrap_or_default() {
            none if none.is_empty() => self.answer(|out, _| reply::write_integer(out, 0)),
            posts => self.end_waits(command, &posts, how),
        }
    }

    /// 1 if one of the servers has ended a wait there.
    fn end_waits(&mut self, command: &'static Command, posts: &[Post], how: &str) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse(command);
        }
        let mut orders = Vec::new();
        for post in posts {
            match self.order(post) {
                Ok(order) => orders.push(order),
                Err(why) => {
                    return self.answer_as(unsupported(command), |out, _| errors::refused_for(out, command, why));
                }
            }
        }
        if let Some((full, _)) = orders.iter().find(|(connection, _)| !connection.has_room()) {
            return session.wait_for(full);
        }
        let merge = self.gathered(command, FanOut::Greatest, orders.len());
        let asked = session.asked(Class::Other);
        let ticket = self.state.replies().then(|| session.replies.borrow_mut().reserve_merge(asked, merge));
        for (index, (connection, number)) in orders.iter().enumerate() {
            let part = self.part(ticket, index, asked.class);
            let requester: Rc<dyn Requester> = session.clone();
            connection.send(Some(requester), sent(command, part), |out, pass| {
                reply::write_command(out.tail(pass), &["CLIENT", "UNBLOCK", &number.to_string(), how]);
            });
        }
        self.input.skip(self.length);
        Step::Next
    }

    /// Whom to tell, and of which connection. A number means something to the very process that has given it.
    fn order(&self, post: &Post) -> Result<(Rc<Connection>, i64), &'static str> {
        let number = post.number.ok_or("the server that the client waits at does not tell CLIENT ID")?;
        let pool = self.pool;
        let place = (0..pool.servers()).find(|place| pool.server_id(*place) == post.server);
        let live = place.filter(|place| pool.away(*place).is_none());
        let connection = live.map(|place| pool.connection(place, self.session.id, pool.usual()));
        let same = connection.filter(|connection| connection.address() == *post.address);
        Ok((same.ok_or("the client waits at a server that the pool does not use any more")?.clone(), number))
    }
}
