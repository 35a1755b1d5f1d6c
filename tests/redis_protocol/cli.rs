//! redis-cli, which is served nothing but what COMMAND says.

use std::io::{Read, Write};
use std::process::{Command as Process, Stdio};

use outrigger::protocol::redis::request::{self, Arguments};
use outrigger::protocol::redis::{commands, convert, errors, introspect};
use outrigger::protocol::{Limits, Parsed};

#[test]
fn redis_cli_starts_on_our_docs_and_helps() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let started = Process::new("redis-cli")
        .args(["-p", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut client) = started else {
        eprintln!("no redis-cli here: not tried with it");
        return;
    };
    let serving = std::thread::spawn(move || serve_introspection(listener.accept().unwrap().0));
    client.stdin.take().unwrap().write_all(b"help xgroup create\nCOMMAND COUNT\nhelp @hash\n").unwrap();
    let output = client.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(shown.contains(&commands::all().count().to_string()), "{shown}");
    assert!(shown.contains("5.0.0"), "help does not know since when: {shown}");
    assert!(serving.join().unwrap().contains(&"COMMAND DOCS".to_owned()), "redis-cli did not ask for docs");
}

/// Answers COMMAND until the client leaves; returns what was asked.
fn serve_introspection(mut stream: std::net::TcpStream) -> Vec<String> {
    let mut asked = Vec::new();
    let mut buf = Vec::new();
    let mut chunk = [0; 4096];
    let mut args = Arguments::new();
    loop {
        match request::parse(&buf, &Limits::default(), &mut args).unwrap() {
            Parsed::Complete(consumed) => {
                let line: Vec<String> = args.iter(&buf).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
                let mut out = Vec::new();
                if line[0].eq_ignore_ascii_case("command") {
                    let mut reply = Vec::new();
                    introspect::command(&mut reply, args.len(), |index| args.get(&buf, index), &|_| None);
                    convert::to_resp2(&reply, &mut out);
                } else {
                    errors::unknown_command(&mut out, args.len(), |index| args.get(&buf, index));
                }
                stream.write_all(&out).unwrap();
                asked.push(line.join(" "));
                buf.drain(..consumed);
            }
            Parsed::Incomplete { .. } => match stream.read(&mut chunk).unwrap() {
                0 => return asked,
                read => buf.extend_from_slice(&chunk[..read]),
            },
        }
    }
}
