//! `outrigger top` on a terminal: what it draws, and that it gives the terminal back.

#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use support::{Fake, eventually};

const TOPOLOGY: &str = include_str!("../src/cli/live/tests/topology.json");
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A terminal with `outrigger top` in it.
struct Terminal {
    master: File,
    slave: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
    _proxy: Fake,
}

impl Terminal {
    fn start(columns: u16, rows: u16, variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || File::options().read(true).write(true).open(&name).unwrap();
        resize(&master, columns, rows);
        let proxy = proxy();
        // A session of its own, so that it is the terminal's, as a shell's jobs are.
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_outrigger"), "top", "--interval", "0.2"]);
        command.args(["--admin", &proxy.name()]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(variables.iter().copied()).stdin(open()).stdout(open()).stderr(open());
        let child = command.spawn().unwrap();
        let (master, shown) = (File::from(master), Arc::new(Mutex::new(Vec::new())));
        let mut screen = master.try_clone().unwrap();
        let kept = shown.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                kept.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self { master, slave: open(), shown, child, _proxy: proxy }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// What was drawn last, as lines without their ends.
    fn picture(&self) -> Vec<String> {
        let text = self.text();
        let pictures: Vec<_> = text.split("\x1b[H").collect();
        let whole = pictures.iter().rev().find(|picture| picture.contains("\x1b[J"));
        let lines = whole
            .unwrap_or(&"")
            .split("\r\n")
            .map(|line| line.replace("\x1b[K", "").replace("\x1b[J", "").replace('\r', ""));
        lines.collect()
    }

    fn type_key(&mut self, key: u8) {
        self.master.write_all(&[key]).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    #[track_caller]
    fn expect_good_end(&mut self) {
        let status = eventually("the end of top", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.text());
        assert!(self.echoes());
        eventually("the terminal to be given back", || self.text().ends_with("\x1b[?1049l").then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: impl AsFd, columns: u16, rows: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

fn proxy() -> Fake {
    Fake::start(|_, talk| {
        let body = match talk.line() {
            Some(line) if line.starts_with("GET /topology ") => TOPOLOGY.to_owned(),
            _ => json!({}).to_string(),
        };
        while talk.line().is_some_and(|header| !header.is_empty()) {}
        talk.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    })
}

#[test]
fn top_draws_in_the_size_of_the_terminal_and_gives_it_back() {
    let mut terminal = Terminal::start(80, 24, &[]);
    eventually("a picture", || terminal.picture().last()?.contains("q quits").then_some(()));
    assert!(terminal.text().starts_with(ENTER), "{}", terminal.text());
    let picture = terminal.picture();
    assert_eq!(picture.len(), 24, "{picture:#?}");
    assert!(picture[0].starts_with("\x1b[32mREADY\x1b[0m  outrigger 0.1.0"), "{picture:#?}");
    assert!(!terminal.echoes());

    resize(&terminal.master, 40, 12);
    let picture = eventually("a smaller picture", || {
        let picture = terminal.picture();
        (picture.len() == 12).then_some(picture)
    });
    assert!(picture[0].ends_with('…') || picture[0].ends_with("…\x1b[0m"), "{picture:#?}");

    terminal.type_key(b'x');
    terminal.type_key(b'q');
    terminal.expect_good_end();
}

#[test]
fn control_c_ends_top_and_control_z_stops_it_for_a_while() {
    const CONTROL_C: u8 = 3;
    const CONTROL_Z: u8 = 26;
    let mut terminal = Terminal::start(80, 24, &[("NO_COLOR", "1")]);
    eventually("a picture", || terminal.picture().last()?.contains("q quits").then_some(()));
    assert_eq!(terminal.picture()[23], "q quits", "there is no colour");

    terminal.type_key(CONTROL_Z);
    eventually("the terminal", || (terminal.text().ends_with(LEAVE) && terminal.echoes()).then_some(()));
    let before = terminal.text().len();
    kill_process(Pid::from_child(&terminal.child), Signal::CONT).unwrap();
    eventually("another picture", || terminal.text()[before..].contains("q quits").then_some(()));
    assert!(terminal.text()[before..].starts_with(ENTER) && !terminal.echoes());

    terminal.type_key(CONTROL_C);
    terminal.expect_good_end();
}
