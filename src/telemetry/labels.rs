//! What is told apart in counts: enums that are shared by counters, metrics and the documents, so that none can have a
//! value that the others do not know.

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// In the order of their numbers.
    const ALL: &'static [Self];

    /// As it is written in metrics.
    fn name(self) -> &'static str;

    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value),+ }

        impl $name {
            pub const COUNT: usize = Self::ALL.len();
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use label;

label! {
    /// Kinds of requests.
    Class {
        /// Reads, as the servers know them.
        Read = "read",
        /// Whatever changes something.
        Write = "write",
        /// Goes to a server and is neither: scripts, `PUBLISH`, `flush_all`.
        Other = "other",
        /// Outrigger answers it itself.
        Proxy = "proxy",
    }
}

label! {
    /// What became of a request.
    Outcome {
        Ok = "ok",
        /// There was nothing: a null reply, `END` without a value, `NOT_FOUND`.
        Miss = "miss",
        /// The server answered with an error.
        Error = "error",
        /// No server answered.
        Failed = "failed",
        /// Outrigger refused it.
        Rejected = "rejected",
    }
}

label! {
    /// Why a request failed or was rejected, or a connection was lost.
    Trouble {
        /// No reply in time.
        Timeout = "timeout",
        ConnectionLost = "connection_lost",
        ConnectFailed = "connect_failed",
        NotResolved = "not_resolved",
        /// The server refused AUTH, HELLO or SELECT.
        Login = "login",
        /// The server sent something that is no reply.
        ProtocolError = "protocol_error",
        /// The server says that it cannot serve: LOADING and the like.
        NotReady = "not_ready",
        /// The server is ejected, or all are.
        Ejected = "ejected",
        /// This machine or process has run out of something.
        Exhausted = "exhausted",
        /// The server is not in the configuration any more.
        Removed = "removed",
        /// The process holds too much.
        Overload = "overload",
        /// Outrigger does not know the command, or does not do it.
        Unsupported = "unsupported",
        /// Arguments are missing, too many, too long, or their keys are on several servers.
        Invalid = "invalid",
        /// The client has not logged in, or gave a wrong password.
        Unauthenticated = "unauthenticated",
        /// The client's user may not do this.
        Forbidden = "forbidden",
    }
}

label! {
    /// Why a session ended.
    Ending {
        /// The client closed its connection.
        Client = "client",
        /// The client said `QUIT`.
        Quit = "quit",
        /// The connection broke.
        Reset = "reset",
        /// What the client sent is no request.
        Protocol = "protocol",
        /// Nothing for `client_idle_timeout`.
        Idle = "idle",
        /// It took nothing for `client_write_timeout`.
        Slow = "slow",
        /// The process held too much.
        Overload = "overload",
        /// The process ends, or the pool was removed.
        Drained = "drained",
        /// It goes on in another process.
        Departed = "departed",
        /// Another client said `CLIENT KILL`, or the client itself.
        Killed = "killed",
        /// Its user is not in the configuration any more.
        UserRemoved = "user_removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label + std::fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
            assert!(label.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label:?}");
            assert!(L::ALL[..index].iter().all(|other| other.name() != label.name()), "{label:?}");
        }
    }

    #[test]
    fn labels_have_names_of_their_own() {
        check::<Class>();
        check::<Outcome>();
        check::<Trouble>();
        check::<Ending>();
    }
}
