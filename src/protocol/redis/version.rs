//! The two versions of the protocol that a client, or a connection to a server, may speak.

/// The Redis whose commands the table speaks: what clients are told that look for a version before they start, as long as
/// no server has told its own.
pub const REDIS_VERSION: &str = "7.0.15";

/// What one side of a connection understands. Requests are the same in both; replies differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// Every connection begins with it.
    #[default]
    Resp2,
    /// Asked for with `HELLO 3`: nulls, maps, sets, doubles and more are types of their own.
    Resp3,
}

impl Version {
    /// As it stands in `HELLO`, and in its reply.
    pub fn number(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }

    /// The one with this number; `None`: there is none.
    pub fn of(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::Resp2),
            3 => Some(Self::Resp3),
            _ => None,
        }
    }

    /// What stands for nothing.
    pub fn null(self) -> &'static [u8] {
        match self {
            Self::Resp2 => super::reply::NULL,
            Self::Resp3 => super::reply::NULL_3,
        }
    }
}
