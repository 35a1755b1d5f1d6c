//! The command line, run as users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outrigger::cli::{self, RunOptions};

/// `outrigger …`, in the project's folder.
fn outrigger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_lists_errors_or_traps() {
    let good = outrigger(&["check", "config/nutcracker.yml"]);
    assert!(good.status.success());
    let expected = "config/nutcracker.yml: ok: twemproxy's format, 3 pools, 6 servers, 0 warnings\n";
    assert_eq!((stdout(&good).as_str(), stderr(&good).as_str()), (expected, ""));

    let bad = outrigger(&["check", "tests/config/syntax.yml"]);
    assert_eq!(bad.status.code(), Some(1));
    let expected = "tests/config/syntax.yml:4:14: not YAML: unclosed bracket '['\n   4 |     servers: [a:1\n     |              ^\n\
                    tests/config/syntax.yml: 1 error\n";
    assert_eq!((stdout(&bad).as_str(), stderr(&bad).as_str()), ("", expected));

    let traps = outrigger(&["check", "tests/config/own-traps.yml"]);
    assert!(traps.status.success());
    assert!(stdout(&traps).contains("own-traps.yml:4:11: warning: crc32 with ketama"), "{}", stdout(&traps));
    assert!(stdout(&traps).ends_with("own-traps.yml: ok: Outrigger's format, 1 pool, 2 servers, 3 warnings\n"));

    let missing = outrigger(&["check", "no-such.yml"]);
    assert_eq!(missing.status.code(), Some(1));
    let expected = "no-such.yml: cannot be read: No such file or directory (os error 2)\nno-such.yml: 1 error\n";
    assert_eq!(stderr(&missing), expected);
}

#[test]
fn test_conf_speaks_as_twemproxy_and_gives_the_reason() {
    for flags in [["-t", "-c", "config/nutcracker.yml"], ["--test-conf", "--conf-file", "config/nutcracker.yml"]] {
        let good = outrigger(&flags);
        assert!(good.status.success());
        assert_eq!(stderr(&good), "outrigger: configuration file 'config/nutcracker.yml' syntax is ok\n");
        assert_eq!(stdout(&good), "");
    }
    let bad = outrigger(&["-t", "-c", "tests/config/syntax.yml"]);
    assert_eq!(bad.status.code(), Some(1));
    let said = stderr(&bad);
    assert!(said.starts_with("outrigger: configuration file 'tests/config/syntax.yml' syntax is invalid\n"), "{said}");
    assert!(said.contains("syntax.yml:4:14: not YAML"), "{said}");
    assert!(outrigger(&["-t"]).status.success(), "the embedded default");
}

#[test]
fn version_help_and_descriptions_end_with_success() {
    for flag in ["-V", "--version"] {
        let output = outrigger(&[flag]);
        assert!(output.status.success());
        assert_eq!(stdout(&output), format!("This is outrigger-{}\n", env!("CARGO_PKG_VERSION")));
    }
    for flag in ["-h", "--help", "-?"] {
        let output = outrigger(&[flag]);
        assert!(output.status.success());
        let help = stdout(&output);
        for line in
            ["run ", "check ", "diff ", "explain ", "schema ", "--conf-file", "--mbuf-size", "-D, --describe-stats"]
        {
            assert!(help.contains(line), "{line}: {help}");
        }
    }
    let output = outrigger(&["-D"]);
    assert!(output.status.success());
    assert!(stdout(&output).starts_with("pool stats:\n  client_eof          \""), "{}", stdout(&output));
    assert_eq!(stdout(&output).lines().count(), 2 + 1 + cli::POOL_STATS.len() + cli::SERVER_STATS.len());
}

#[test]
fn bad_options_show_the_usage_and_end_with_1() {
    for arguments in [
        &["-x"][..],
        &["--no-such"],
        &["-c"],
        &["-s", "0"],
        &["-s", "65536"],
        &["-s", "x"],
        &["-v", "x"],
        &["-i", "x"],
        &["-i", "-1"],
        &["-m", "511"],
        &["-m", "16777217"],
        &["no-such-command"],
        &["check"],
        &["diff", "config/full.yml"],
        &["explain", "redis"],
        &["-u", "0"],
        &["upgrade"],
        &["upgrade", "--pid", "x"],
        &["upgrade", "--pid", "1", "--pid-file", "f"],
    ] {
        let output = outrigger(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("error: "), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn explain_goes_from_the_key_to_the_server() {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let text = "pools:\n  cache:\n    listen: h:1\n    redis: true\n    hash: murmur\n    hash_tag: \"{}\"\n\
                \x20   servers: [10.0.0.1:6379 a, 10.0.0.2:6379 b]\n  one: {listen: 'h:2', servers: ['10.0.0.3:11211']}\n\
                \x20 dice: {listen: 'h:3', distribution: random, servers: ['a:1', 'b:1']}\n";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();

    let output = outrigger(&["explain", "--config", path, "cache", "apple", "user:{apple}:name"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let blocks: Vec<&str> = said.split("\n\n").collect();
    let [apple, tagged] = blocks[..] else { panic!("{said}") };
    assert!(
        apple.starts_with(
            "key          apple\npool         cache (2 servers, ketama)\nhash         murmur = 4142305122\n"
        )
    );
    assert!(tagged.contains("hash tag     apple\nhash         murmur = 4142305122\npoint        "), "{tagged}");
    let server = |block: &str| block.lines().find(|line| line.starts_with("server")).unwrap().to_owned();
    assert_eq!(server(apple), server(tagged));
    assert!(["server       a (10.0.0.1:6379)", "server       b (10.0.0.2:6379)"].contains(&server(apple).as_str()));

    let one = stdout(&outrigger(&["explain", "-c", path, "one", "k"]));
    let expected = "key          k\npool         one (1 server, ketama)\nhash         none\nserver       10.0.0.3 (10.0.0.3:11211)\n";
    assert_eq!(one, expected);
    let dice = stdout(&outrigger(&["explain", "-c", path, "dice", "k"]));
    assert!(dice.ends_with("hash         none\nserver       any, another one at each request\n"), "{dice}");

    let unknown = outrigger(&["explain", "-c", path, "cach", "k"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(stderr(&unknown), "outrigger: no pool 'cach'; there are: one, dice, cache\n");
    assert!(outrigger(&["explain", "redis", "k"]).status.success(), "the embedded default");
}

#[test]
fn schema_is_json() {
    let output = outrigger(&["schema"]);
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["title"], "Outrigger");
    assert!(schema["$defs"]["Pool"]["properties"]["hash_tag"]["description"].is_string());
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .arg("schema")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn upgrade_says_which_process_it_cannot_replace() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // This process is there, but has nothing to do with it.
    let id = std::process::id();
    let (own, none) = (file("own.pid", &format!("{id}\n")), file("none.pid", "none"));
    let missing = folder.path().join("missing.pid").display().to_string();
    for (arguments, expected) in [
        (["--pid", &id.to_string()], format!("process {id} is no running outrigger, or one in another container")),
        (["-p", &own], format!("process {id} is no running outrigger, or one in another container")),
        (["--pid-file", &none], format!("pid file {none}: no process id in it")),
        (["-p", &missing], format!("pid file {missing}: No such file or directory (os error 2)")),
    ] {
        let output = outrigger(&[&["upgrade"], &arguments[..]].concat());
        let expected = (Some(1), String::new(), format!("outrigger: {expected}\n"));
        assert_eq!((output.status.code(), stdout(&output), stderr(&output)), expected);
    }
}

fn run_options(arguments: &[&str]) -> RunOptions {
    match cli::parse_from([&["outrigger"], arguments].concat()).unwrap_or_else(|error| panic!("{error}")) {
        cli::Command::Run(options) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn twemproxys_flags_are_understood_as_getopt_understands_them() {
    let all = RunOptions {
        conf_file: Some(PathBuf::from("f.yml")),
        daemonize: true,
        verbose: Some(11),
        output: Some(PathBuf::from("f.log")),
        stats_port: Some(2222),
        stats_addr: Some("0.0.0.0".to_owned()),
        stats_interval: Some(1000),
        pid_file: Some(PathBuf::from("f.pid")),
        mbuf_size: Some(512),
        upgrade_from: Some(42),
    };
    let short = "-d -v 11 -o f.log -c f.yml -s 2222 -a 0.0.0.0 -i 1000 -p f.pid -m 512 -u 42";
    let glued = "-dv11 -of.log -cf.yml -s2222 -a0.0.0.0 -i1000 -pf.pid -m512 -u42";
    let long = "--daemonize --verbose=11 --output=f.log --conf-file=f.yml --stats-port=2222 --stats-addr=0.0.0.0 \
                --stats-interval=1000 --pid-file=f.pid --mbuf-size=512 --upgrade-from=42";
    let shortened = "--daemon --verb 11 --out f.log --conf f.yml --stats-p 2222 --stats-a 0.0.0.0 --stats-i 1000 --pid f.pid --mbuf 512 --upgrade 42";
    for line in [short, glued, long, &long.replace('=', " "), shortened, &format!("run {short}")] {
        assert_eq!(run_options(&line.split(' ').collect::<Vec<_>>()), all, "{line}");
    }
    assert_eq!(run_options(&[]), RunOptions::default());
    assert_eq!(run_options(&["run"]), RunOptions::default());
}

#[test]
fn flags_go_over_the_file() {
    let load = |arguments: &[&str]| run_options(arguments).load().unwrap().settings;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/nutcracker.yml");
    let sample = sample.to_str().unwrap();
    let stats = |arguments: &[&str]| load(&[&["-c", sample], arguments].concat()).stats_listen;
    assert_eq!(stats(&[]).as_deref(), Some("0.0.0.0:22222"));
    assert_eq!(stats(&["-s", "1"]).as_deref(), Some("0.0.0.0:1"));
    assert_eq!(stats(&["-a", "127.0.0.1"]).as_deref(), Some("127.0.0.1:22222"));
    assert_eq!(stats(&["-a", "::1", "-s", "7"]).as_deref(), Some("[::1]:7"));
    assert_eq!(load(&["-s", "1"]).stats_listen.as_deref(), Some("127.0.0.1:1"), "the embedded default");
    assert_eq!((load(&["-v", "7"]).log.level, load(&["-v", "99"]).log.level, load(&[]).log.level), (7, 11, 5));
    assert_eq!(load(&["-o", "x.log"]).log.file, Some(PathBuf::from("x.log")));

    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(file.path(), "admin: {stats: off}\npools: {p: {listen: 'h:1', servers: ['a:1']}}\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(load(&["-c", path]).stats_listen, None);
    assert_eq!(load(&["-c", path, "-s", "9"]).stats_listen.as_deref(), Some("127.0.0.1:9"));
}
