//! Which requests wait on the server for something to happen, and for how long.

use std::time::Duration;

use super::{BLOCKING, Command};

/// How long a request may wait on its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Until something happens.
    Ever,
    /// At most so long. What cannot be read as a time is answered by the server at once, with an error.
    For(Duration),
}

/// Longest time that is told apart from waiting for ever.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Command {
    /// How long the request may wait for something to happen; `None`: it is answered at once.
    #[inline]
    pub fn blocks<'a>(&self, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<Blocks> {
        if self.flags & BLOCKING == 0 && self.name != "wait" {
            return None;
        }
        match self.name {
            "xread" | "xreadgroup" => Some(milliseconds(arg(block_option(argc, &arg)? + 1))),
            "wait" => Some(milliseconds(arg(2))),
            "waitaof" => Some(milliseconds(arg(3))),
            "blmpop" | "bzmpop" => Some(seconds(arg(1))),
            // Only the server knows where it has its time, if it has one.
            _ if self.is_learnt() => Some(Blocks::Ever),
            _ => Some(seconds(arg(argc.saturating_sub(1)))),
        }
    }
}

/// Where XREAD and XREADGROUP have the word BLOCK.
fn block_option<'a>(argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<usize> {
    let mut at = 1;
    while at < argc {
        let word = arg(at)?;
        at += match word {
            _ if word.eq_ignore_ascii_case(b"block") => return Some(at),
            _ if word.eq_ignore_ascii_case(b"streams") => return None,
            // Their arguments may be any word.
            _ if word.eq_ignore_ascii_case(b"count") => 2,
            _ if word.eq_ignore_ascii_case(b"group") => 3,
            _ => 1,
        };
    }
    None
}

/// As lists and sorted sets have it: seconds, and parts of them.
fn seconds(text: Option<&[u8]>) -> Blocks {
    let seconds = text.and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
    wait(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

fn milliseconds(text: Option<&[u8]>) -> Blocks {
    let milliseconds = text.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
    wait(milliseconds.map(Duration::from_millis))
}

fn wait(time: Option<Duration>) -> Blocks {
    match time {
        Some(time) if time.is_zero() || time > LONGEST => Blocks::Ever,
        Some(time) => Blocks::For(time),
        None => Blocks::For(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resolved, resolve};
    use super::*;

    fn blocks(line: &str) -> Option<Blocks> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let arg = |index: usize| args.get(index).copied();
        let Resolved::Command(command) = resolve(args.len(), arg) else { panic!("{line}") };
        command.blocks(args.len(), arg)
    }

    #[test]
    fn each_command_says_how_long() {
        let ms = |ms| Some(Blocks::For(Duration::from_millis(ms)));
        for (line, expected) in [
            ("GET k", None),
            ("LPOP k", None),
            ("BLPOP a b 0", Some(Blocks::Ever)),
            ("BLPOP a b 0.0", Some(Blocks::Ever)),
            ("BLPOP a b 1.5", ms(1500)),
            ("blpop a nonsense", ms(0)),
            ("BLPOP a -1", ms(0)),
            ("BRPOP a 1e300", ms(0)),
            ("BRPOPLPUSH a b 2", ms(2000)),
            ("BLMOVE a b LEFT RIGHT 3", ms(3000)),
            ("BLMPOP 4 1 a LEFT", ms(4000)),
            ("BZMPOP 0 1 a MIN", Some(Blocks::Ever)),
            ("BZPOPMIN a 5", ms(5000)),
            ("WAIT 1 100", ms(100)),
            ("WAIT 1 0", Some(Blocks::Ever)),
            ("WAITAOF 1 1 200", ms(200)),
            ("XREAD STREAMS block 0", None),
            ("XREAD COUNT 1 BLOCK 250 STREAMS s $", ms(250)),
            ("XREAD block 0 STREAMS s $", Some(Blocks::Ever)),
            ("XREAD BLOCK 18446744073709551615 STREAMS s $", Some(Blocks::Ever)),
            ("XREADGROUP GROUP block c STREAMS s >", None),
            ("XREADGROUP GROUP g c BLOCK 10 STREAMS s >", ms(10)),
        ] {
            assert_eq!(blocks(line), expected, "{line}");
        }
    }
}
