//! The terminal while a live view has it: the other screen, no echo, no cursor. It is given back when this is dropped.

use std::io::{Error, Read, Write, stdin, stdout};
use std::sync::Arc;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::show::{Line, Output};

/// The other screen, nothing on it, no cursor, no wrapping of long lines; and all of it back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal of standard output; keys come from standard input, if that is one, too.
pub struct Screen {
    /// How the terminal was; `None`: standard input is none.
    before: Option<Termios>,
    /// Was pressed.
    quit: Option<Arc<Notify>>,
    output: Output,
}

impl Screen {
    pub fn enter(output: Output) -> Result<Self, Error> {
        let before = tcgetattr(stdin()).ok();
        let quit = before.is_some().then(quit_key);
        let screen = Self { before, quit, output };
        screen.take()?;
        Ok(screen)
    }

    fn take(&self) -> Result<(), Error> {
        if let Some(before) = &self.before {
            let mut modes = before.clone();
            // Single keys, unseen. What Ctrl-C and Ctrl-Z mean stays.
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &modes)?;
        }
        write(ENTER)
    }

    fn give_back(&self) {
        // Nothing can be done about a terminal that has gone.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }

    /// Lines from the top, in one write, over what was there; so nothing flickers.
    pub fn draw(&self, lines: &[Line]) -> Result<(), Error> {
        let mut text = String::from("\x1b[H");
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                text.push_str("\r\n");
            }
            line.write(&mut text, self.output.colour);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        write(&text)
    }

    /// Ends at `q`, Ctrl-C, or a signal that asks for it; stops at Ctrl-Z and goes on at `fg`.
    pub async fn until_quit(&self) -> Result<(), Error> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut end = signal(SignalKind::terminate())?;
        let mut gone = signal(SignalKind::hangup())?;
        let mut stop = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
        loop {
            let pressed = async {
                match &self.quit {
                    Some(quit) => quit.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = end.recv() => return Ok(()),
                _ = gone.recv() => return Ok(()),
                _ = stop.recv() => {
                    self.give_back();
                    kill_process(getpid(), Signal::STOP)?;
                    self.take()?;
                }
                () = pressed => return Ok(()),
            }
        }
    }
}

/// Waits for `q`, or for the end of the terminal. In a thread of its own, which ends with the process: a read of a
/// terminal waits as long as nobody types.
fn quit_key() -> Arc<Notify> {
    let pressed = Arc::new(Notify::new());
    let press = pressed.clone();
    thread::spawn(move || {
        let typed = stdin().lock().bytes().map_while(Result::ok);
        typed.take_while(|key| *key != b'q').for_each(drop);
        press.notify_one();
    });
    pressed
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn write(text: &str) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
