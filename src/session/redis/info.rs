//! INFO: what the servers say, and a section about Outrigger. Where none of them answers, what clients look for before they
//! start is said all the same.

use std::fmt::Write as _;

use super::super::Step;
use super::super::merge::{Merge, Parts};
use super::Request;
use super::fan_out::{Errand, good};
use super::local::unix_time;
use crate::protocol::redis::commands::Command;
use crate::protocol::redis::{REDIS_VERSION, Version, info, reply, response};

impl Request<'_, '_> {
    pub(super) fn info(&mut self, command: &'static Command) -> Step {
        let wanted: Vec<Vec<u8>> = self.args.iter(self.input.bytes()).skip(1).map(<[u8]>::to_ascii_lowercase).collect();
        let is_own = |section: &Vec<u8>| section == b"outrigger";
        let own = wanted.is_empty() || wanted.iter().any(|section| is_own(section) || is_all(section));
        let answer = Informed {
            parts: self.parts(self.pool.servers()),
            own: own.then(|| self.own_section()),
            instead: self.sections_of_nobody(&wanted),
            version: self.version(),
        };
        if !wanted.is_empty() && wanted.iter().all(is_own) {
            return self.answer_text(&answer.own.unwrap_or_default());
        }
        let away = |place| self.pool.away(place);
        let errands = (0..self.pool.servers()).map(|place| Errand { place, away: away(place), instead: None });
        let errands: Vec<Errand> = errands.collect();
        if let ([Errand { place, away: None, .. }], false) = (&errands[..], own) {
            return self.forward(*place, command);
        }
        self.send_errands(command, &errands, Box::new(answer))
    }

    fn own_section(&self) -> String {
        let (version, pool, servers) = (env!("CARGO_PKG_VERSION"), self.pool_name(), self.pool.servers());
        let (pid, uptime) = (std::process::id(), self.uptime());
        format!(
            "# Outrigger\r\noutrigger_version:{version}\r\noutrigger_process_id:{pid}\r\n\
             outrigger_uptime_in_seconds:{uptime}\r\npool:{pool}\r\nservers:{servers}\r\n"
        )
    }

    fn uptime(&self) -> u64 {
        unix_time().0.saturating_sub(self.session.shared.started)
    }

    /// What clients look for before they start, of the sections that are wanted.
    fn sections_of_nobody(&self, wanted: &[Vec<u8>]) -> String {
        let (pid, uptime) = (std::process::id(), self.uptime());
        let server = format!(
            "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{pid}\r\n\
             uptime_in_seconds:{uptime}\r\n"
        );
        let sections = [
            ("Server", server.as_str()),
            ("Persistence", "loading:0\r\n"),
            ("Replication", "role:master\r\nconnected_slaves:0\r\n"),
        ];
        let all = wanted.is_empty() || wanted.iter().any(|section| is_all(section));
        let mut text = String::new();
        for (name, section) in sections {
            if all || wanted.iter().any(|wanted| wanted == name.to_ascii_lowercase().as_bytes()) {
                let gap = if text.is_empty() { "" } else { "\r\n" };
                let _ = write!(text, "{gap}# {name}\r\n{section}");
            }
        }
        text
    }
}

/// Names for many sections, ours among them.
fn is_all(section: &[u8]) -> bool {
    matches!(section, b"all" | b"default" | b"everything")
}

/// What the servers say becomes one text.
struct Informed {
    parts: Parts,
    /// The section about Outrigger, if it is wanted.
    own: Option<String>,
    /// What is said when no server has answered.
    instead: String,
    /// RESP3 has a type for text.
    version: Version,
}

impl Informed {
    /// Servers whose figures are not among those above, and why.
    fn write_absent(&self, text: &mut String) {
        let absent = self.parts.iter().filter(|part| good(part).is_none());
        for (number, part) in absent.enumerate() {
            let why = String::from_utf8_lossy(part.bytes());
            let _ = write!(text, "unanswered{number}:{}\r\n", why.trim_start_matches('-').trim_end());
        }
    }
}

impl Merge for Informed {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let replies: Vec<&[u8]> = self.parts.iter().filter_map(good).collect();
        let texts: Vec<_> = replies.iter().filter_map(|r| response::text(r)).map(String::from_utf8_lossy).collect();
        let mut text = match &texts[..] {
            [] => self.instead.clone(),
            [one] if self.parts.iter().count() == 1 => one.clone().into_owned(),
            many => info::merge(&many.iter().map(|text| &**text).collect::<Vec<_>>()),
        };
        if let Some(own) = &self.own {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{gap}{own}");
            self.write_absent(&mut text);
        }
        match self.version {
            Version::Resp3 => reply::write_verbatim(out, text.as_bytes()),
            Version::Resp2 => reply::write_bulk(out, text.as_bytes()),
        }
    }
}
