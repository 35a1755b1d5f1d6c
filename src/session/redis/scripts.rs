//! EVAL, EVALSHA and their like. See `backend::scripts` for what is remembered, and why.
//!
//! | request | on this connection the script | goes as |
//! |---|---|---|
//! | EVAL | has run | it came |
//! | EVAL | has not | it came; once it is answered it has |
//! | EVALSHA | has run | it came; NOSCRIPT is healed if no other request of the client is behind it |
//! | EVALSHA | has not, and its body is known | EVAL; once it is answered it has |
//! | EVALSHA | has not, and its body is not known | it came |
//! | FCALL | | it came: functions are not remembered |

use std::rc::Rc;

use bytes::Bytes;

use super::{Request, sent, whole};
use crate::backend::{Connection, Failure, Requester, Ticket};
use crate::io::Payload;
use crate::protocol::redis::commands::{Command, Group};
use crate::protocol::redis::{response, script};
use crate::session::{Session, Step};

/// What a request does about scripts.
enum Form {
    /// Nothing that is remembered.
    Plain,
    /// It asks for a script that the server has.
    Known,
    /// It brings a script along.
    Brings(script::Sha),
    /// It asks for a script that the server may not have: it goes with the body.
    ByBody(script::Sha, Bytes, &'static str),
}

impl Request<'_, '_> {
    /// To the server at this place, if it may be a request for a script.
    pub(super) fn forward_to(&mut self, place: usize, command: &'static Command) -> Step {
        if command.group != Group::Scripting || self.pool.is_stand_in(place) || self.session.refuses() {
            return self.forward(place, command);
        }
        let session = self.session;
        let connection = self.pool.connection(place, session.id, session.variant());
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        let form = self.form(connection, command);
        let (requester, ticket) = session.asker(command.class(), self.state.replies());
        let mut request = sent(command, ticket);
        request.script = matches!(form, Form::Known);
        let requester = match &form {
            Form::Plain | Form::Known => requester,
            Form::Brings(sha) | Form::ByBody(sha, ..) => self.watched(connection, *sha),
        };
        if let Form::ByBody(_, body, name) = form {
            session.cells.scripts_sent.increment();
            let (args, bytes) = (self.args, self.input.bytes());
            connection.send(Some(requester), request, |out, pass| {
                script::write_as_eval(out.tail(pass), name, &body, args.len(), |index| args.get(bytes, index));
            });
            self.input.skip(self.length);
        } else {
            connection.send(Some(requester), request, whole(self.args, self.input, self.length));
        }
        Step::Next
    }

    fn form(&self, connection: &Connection, command: &Command) -> Form {
        let text = self.arg(1);
        if let Some(name) = script::by_body(command.name) {
            let Some(sha) = script::Sha::parse(text) else { return Form::Plain };
            if connection.has_script(&sha) {
                return Form::Known;
            }
            return self.pool.scripts().body(&sha).map_or(Form::Plain, |body| Form::ByBody(sha, body, name));
        }
        let body = matches!(command.name, "eval" | "eval_ro").then_some(text);
        match body.and_then(|body| self.pool.sha_of(body)).filter(|sha| !connection.has_script(sha)) {
            Some(sha) => {
                self.pool.scripts().remember(sha, text);
                Form::Brings(sha)
            }
            None => Form::Plain,
        }
    }

    fn watched(&self, connection: &Rc<Connection>, sha: script::Sha) -> Rc<dyn Requester> {
        let as_of = self.pool.scripts().times_forgotten();
        Rc::new(Watched { session: self.session.clone(), connection: connection.clone(), sha, as_of })
    }

    /// The request at hand as an EVAL, if it is an EVALSHA and the body is known: for connections of which nobody knows what
    /// has run there.
    pub(super) fn as_eval(&self, command: &Command) -> Option<Vec<u8>> {
        let name = script::by_body(command.name)?;
        let body = self.pool.scripts().body(&script::Sha::parse(self.arg(1))?)?;
        let mut eval = Vec::with_capacity(self.length + body.len());
        script::write_as_eval(&mut eval, name, &body, self.args.len(), |index| {
            self.args.get(self.input.bytes(), index)
        });
        self.session.cells.scripts_sent.increment();
        Some(eval)
    }

    /// SCRIPT LOAD brings a script, SCRIPT FLUSH has all forgotten.
    pub(super) fn notice_script(&self, command: &Command) {
        match command.name {
            "script|load" => {
                let body = self.arg(2);
                self.pool.sha_of(body).into_iter().for_each(|sha| self.pool.scripts().remember(sha, body));
            }
            "script|flush" => self.pool.scripts().forget_all(),
            _ => {}
        }
    }
}

/// A session that asked for a script which the server has once this is answered.
struct Watched {
    session: Rc<Session>,
    connection: Rc<Connection>,
    sha: script::Sha,
    as_of: u64,
}

impl Requester for Watched {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        // An error may be that of a server that did not even look at the script.
        if !response::is_error(payload.as_slice()) {
            self.connection.ran_script(self.sha, self.as_of);
        }
        self.session.clone().reply(ticket, payload);
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        self.session.clone().fail(ticket, failure);
    }
}
