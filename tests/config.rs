//! Configuration files: bad ones by the full text of what is said about them, good ones by their settings, and all of
//! `config/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use outrigger::config::{
    self, Dialect, HealthSettings, ListenAddress, OnEjected, OnReadmit, PoolSettings, Protocol, ServerAddress,
};
use outrigger::telemetry::KeyForm;

#[path = "config/damage.rs"]
mod damage;
#[path = "config/nutcracker.rs"]
mod nutcracker;

/// Every `tests/config/X.yml` is answered with exactly `X.expected`; `BLESS=1` writes those anew.
#[test]
fn bad_files_and_traps_are_reported_in_full() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let files = yaml_files(&folder);
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let said = match config::parse(name, &text) {
            Ok(loaded) => loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect(),
            Err(errors) => format!("{errors}\n"),
        };
        let expected = file.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        assert_eq!(said, std::fs::read_to_string(&expected).unwrap_or_default(), "{name}");
        assert!(!said.is_empty(), "{name} is a bad file or a trap");
        assert!(!said.contains("hunter2"), "{name} gives a secret away");
    }
}

#[test]
fn samples_load_without_a_warning() {
    let files = yaml_files(&samples());
    assert_eq!(files.len(), 6, "{files:?}");
    for file in files {
        let loaded = config::load_file(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, [], "{}", file.display());
        let twemproxys = file.file_name().unwrap() == "nutcracker.yml";
        assert_eq!(loaded.dialect == Dialect::Twemproxy, twemproxys, "{}", file.display());
    }
}

#[test]
fn the_default_has_both_protocols_on_local_servers() {
    let settings = config::default_settings();
    let pools: Vec<_> = settings.pools.iter().map(|pool| (pool.listen.to_string(), pool.protocol)).collect();
    let expected =
        [("127.0.0.1:22121".to_owned(), Protocol::Redis), ("127.0.0.1:22122".to_owned(), Protocol::Memcached)];
    assert_eq!(pools, expected);
    for pool in &settings.pools {
        assert_eq!(pool.servers.len(), 3);
        assert!(pool.servers.iter().all(|server| server.address == ServerAddress::Local));
    }
}

/// full.yml lists every key that the loader knows and that the schema has, no other.
#[test]
fn full_yml_the_schema_and_the_loader_know_the_same_keys() {
    let text = std::fs::read_to_string(samples().join("full.yml")).unwrap();
    let shown: BTreeSet<String> = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches("# ").trim_start_matches(['#', ' ']))
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, rest)| is_key(key) && (rest.is_empty() || rest.starts_with(' ')))
        .map(|(key, _)| key.to_owned())
        .filter(|key| key != "example")
        .collect();

    let schema: serde_json::Value = serde_json::from_str(&config::json_schema()).unwrap();
    let mut of_schema = BTreeSet::new();
    property_names(&schema, &mut of_schema);
    assert_eq!(shown, of_schema);

    let everywhere_unknown = "zzzzz: 1\nadmin: {zzzzz: 1}\nlog: {zzzzz: 1}\nobserve: {zzzzz: 1}\nlimits: {zzzzz: 1}\n\
                              pools: {p: {zzzzz: 1, redis_auth: {zzzzz: 1}, users: {u: {zzzzz: 1}}, \
                              commands: {c: {zzzzz: 1}}}}\n";
    let errors = config::parse("x.yml", everywhere_unknown).unwrap_err();
    let of_loader: BTreeSet<String> = errors
        .problems
        .iter()
        .filter(|problem| problem.message.starts_with("unknown key"))
        .filter_map(|problem| problem.message.split_once("allowed: "))
        .flat_map(|(_, keys)| keys.split(", ").map(str::to_owned))
        .collect();
    assert_eq!(of_loader, of_schema);
}

/// The values in full.yml are the defaults: a file with nothing but the required keys has the same settings.
#[test]
fn full_yml_shows_the_defaults_and_so_does_the_schema() {
    let mut full = config::load_file(&samples().join("full.yml")).unwrap().settings;
    // All that is not the default: that somebody wants it.
    assert!(std::mem::replace(&mut full.admin.asked_for, false));
    let bare = "pools:\n  example:\n    listen: 127.0.0.1:22121\n    servers: [127.0.0.1:11211:1 one, 127.0.0.1:11212:1 two]\n";
    let bare = config::parse("bare.yml", bare).unwrap().settings;
    assert_eq!(format!("{full:#?}"), format!("{bare:#?}"));

    let schema: serde_json::Value = serde_json::from_str(&config::json_schema()).unwrap();
    let mut defaults = Vec::new();
    property_defaults(&schema, &mut defaults);
    assert!(defaults.len() > 30, "{defaults:?}");
    let text = std::fs::read_to_string(samples().join("full.yml")).unwrap();
    let lines: BTreeSet<&str> = text.lines().map(|line| line.trim_start_matches(['#', ' '])).collect();
    for (key, value) in defaults {
        let line = format!("{key}: {value}");
        assert!(lines.contains(line.as_str()), "full.yml lacks `{line}`");
    }
}

/// With Python's jsonschema, where it is installed: all samples in our own format are valid, the bad files are not.
#[test]
fn samples_follow_the_schema() {
    let check = "import json, sys, yaml, jsonschema\n\
                 schema = json.load(open(sys.argv[1]))\n\
                 jsonschema.Draft202012Validator.check_schema(schema)\n\
                 validator = jsonschema.Draft202012Validator(schema)\n\
                 for name in sys.argv[2:]:\n    print(len(list(validator.iter_errors(yaml.safe_load(open(name))))))\n";
    let probe = Command::new("python3").args(["-c", "import yaml, jsonschema"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 with jsonschema and yaml is not installed");
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, config::json_schema()).unwrap();
    let good =
        ["default.yml", "full.yml", "memcached.yml", "minimal.yml", "redis.yml"].map(|name| samples().join(name));
    let bad = ["no-pools.yml", "no-on-readmit.yml"].map(|name| samples().join("../tests/config").join(name));
    let files = [&good[..], &bad[..]].concat();
    let output = Command::new("python3").arg("-c").arg(check).arg(&schema).args(&files).output().unwrap();
    let counts = String::from_utf8_lossy(&output.stdout);
    let counts: Vec<&str> = counts.lines().collect();
    assert_eq!(counts.get(..5), Some(["0"; 5].as_slice()), "{}", String::from_utf8_lossy(&output.stderr));
    let refused = counts.iter().skip(5).filter(|count| **count != "0").count();
    assert_eq!(refused, bad.len(), "{counts:?}");
}

#[test]
fn our_own_format_adds_units_defaults_and_names() {
    let text = "workers: 3\nadmin: {stats: off}\nlog: {level: debug, file: /tmp/x, format: json}\ndrain_timeout: 1m\n\
                pre_stop_delay: 5s\nlimits: {max_key_bytes: 1KiB, max_session_requests: 7}\n\
                observe: {hot_keys: false, keys: hash, slowlog_entries: 9, slowlog_per_second: 0}\n\
                pools:\n  p:\n    listen: '[::1]:1'\n    redis: true\n    timeout: 2s\n    connect_timeout: 0\n\
                \x20   slowlog_threshold: 0\n\
                \x20   client_connections: 9\n    local_memory: 1GiB\n    redis_auth: {username: me, password: hunter2}\n\
                \x20   servers: [local:3 b, a:6379, '/run/s.sock c']\n";
    let settings = config::parse("x.yml", text).unwrap().settings;
    assert_eq!((settings.workers, settings.stats_listen.as_deref()), (Some(3), None));
    assert_eq!((settings.log.level, settings.log.file.clone()), (7, Some(PathBuf::from("/tmp/x"))));
    assert_eq!((settings.drain_timeout, settings.pre_stop_delay), (Duration::from_secs(60), Duration::from_secs(5)));
    let observe = &settings.observe;
    assert_eq!((observe.metrics, observe.hot_keys, observe.keys), (true, false, KeyForm::Hash));
    assert_eq!((observe.slowlog_entries, observe.slowlog_per_second, observe.slowlog_to_log), (9, 0, false));
    assert_eq!((settings.limits.max_key_bytes, settings.session_limits.max_session_requests), (1024, 7));
    let pool = &settings.pools[0];
    assert_eq!(pool.listen, ListenAddress::Tcp { host: "::1".to_owned(), port: 1 });
    assert_eq!((pool.timeout, pool.connect_timeout), (Some(Duration::from_secs(2)), None));
    assert_eq!(pool.slowlog_threshold, None);
    assert_eq!((pool.client_connections, pool.local_memory), (Some(9), 1 << 30));
    let auth = pool.redis_auth.as_ref().unwrap();
    assert_eq!((auth.username.as_deref(), auth.password.0.as_str()), (Some("me"), "hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
    let servers: Vec<_> = pool.servers.iter().map(|s| (s.name.as_str(), s.address.to_string(), s.weight)).collect();
    let expected = [("b", "local", 3), ("c", "/run/s.sock", 1), ("a:6379", "a:6379", 1)];
    assert_eq!(servers, expected.map(|(name, address, weight)| (name, address.to_owned(), weight)));
}

#[test]
fn ejection_is_set_in_our_own_format() {
    let text = "resolver: 10.0.0.2\nlimits: {max_buffered_bytes: 1GiB}\n\
                pools:\n  cache:\n    listen: h:1\n    redis: true\n    servers: [a:1, b:1]\n\
                \x20   auto_eject_hosts: true\n    server_failure_limit: 5\n    server_retry_timeout: 1m\n\
                \x20   failure_replies: [oom, LOADING, OOM]\n    max_ejected_percent: 75\n    on_ejected: spare\n\
                \x20   gutter_ttl: 2m\n    on_readmit: quarantine 1h\n    probe_interval: 10ms\n    probe_timeout: 2s\n\
                \x20   probe_successes: 3\n    slow_start: 0\n    slow_timeout: 0\n    retry_budget_percent: 0\n\
                \x20   max_reconnect_delay: 5s\n    client_write_timeout: 0\n    client_idle_timeout: 1h\n\
                \x20 spare: {listen: 'h:2', redis: true, servers: ['g:1'], timeout: 7s, failure_replies: []}\n\
                \x20 last: {listen: 'h:3', servers: ['g:2'], timeout: 7s}\n";
    let settings = config::parse("x.yml", text).unwrap_or_else(|errors| panic!("{errors}")).settings;
    assert_eq!(settings.resolver, Some("10.0.0.2:53".parse().unwrap()));
    assert_eq!(settings.session_limits.max_buffered_bytes, 1 << 30);
    let [last, cache, spare] = &settings.pools[..] else { panic!("three pools") };
    let expected = HealthSettings {
        eject: true,
        failure_limit: 5,
        retry_timeout: Duration::from_secs(60),
        failure_replies: vec!["OOM".to_owned(), "LOADING".to_owned()],
        max_ejected_percent: 75,
        // Where it is after the pools are sorted.
        on_ejected: OnEjected::Pool(2),
        gutter_ttl: Duration::from_secs(120),
        on_readmit: OnReadmit::Quarantine(Duration::from_secs(3600)),
        probe_interval: Duration::from_millis(10),
        probe_timeout: Duration::from_secs(2),
        probe_successes: 3,
        slow_start: Duration::ZERO,
    };
    assert_eq!(cache.health, expected);
    assert_eq!((cache.slow_timeout, cache.retry_budget_percent), (None, 0));
    assert_eq!(cache.max_reconnect_delay, Duration::from_secs(5));
    assert_eq!((cache.client_write_timeout, cache.client_idle_timeout), (None, Some(Duration::from_secs(3600))));
    assert_eq!(spare.slow_timeout, Some(Duration::from_secs(7)), "as timeout");
    assert_eq!([&spare.health.failure_replies, &last.health.failure_replies], [&Vec::<String>::new(); 2]);
}

/// Rehash and a pool write elsewhere what the server holds too; in a nutcracker.yml it is served again, as in twemproxy.
#[test]
fn on_readmit_must_be_chosen_where_keys_are_written_elsewhere() {
    let own = |policy: &str| {
        let pool = format!("listen: 'h:1', servers: ['a:1', 'b:1'], auto_eject_hosts: true{policy}");
        let text = format!("pools: {{p: {{{pool}}}, q: {{listen: 'h:2', servers: ['c:1']}}}}");
        config::parse("x.yml", &text).map(|loaded| loaded.settings.pools[0].health.on_readmit)
    };
    for policy in ["", ", on_ejected: rehash", ", on_ejected: q"] {
        assert!(own(policy).unwrap_err().to_string().contains("missing key in pool 'p': 'on_readmit'"), "{policy}");
    }
    for policy in [", on_ejected: fail_fast", ", on_ejected: miss", ", on_ejected: q, on_readmit: keep"] {
        assert_eq!(own(policy), Ok(OnReadmit::Keep), "{policy}");
    }
    assert_eq!(own(", on_readmit: flush"), Ok(OnReadmit::Flush));
    let twemproxys = "p:\n  listen: h:1\n  auto_eject_hosts: true\n  servers:\n   - a:1:1\n   - b:1:1\n";
    let health = pool_of(twemproxys).health;
    assert!(health.eject);
    assert_eq!((health.on_ejected, health.on_readmit), (OnEjected::Rehash, OnReadmit::Keep));
}

#[test]
fn passwords_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let text = "pools: {p: {listen: 'h:1', redis: true, redis_auth: {password_file: secret}, servers: ['a:1']}}";
    let file = folder.path().join("x.yml");
    std::fs::write(&file, text).unwrap();
    for (content, reason) in [(None, "No such file"), (Some("\n"), "it is empty"), (Some("pass word\n"), "")] {
        if let Some(content) = content {
            std::fs::write(folder.path().join("secret"), content).unwrap();
        }
        match config::load_file(&file) {
            Ok(loaded) => assert_eq!(loaded.settings.pools[0].redis_auth.as_ref().unwrap().password.0, "pass word"),
            Err(errors) => assert!(!reason.is_empty() && errors.to_string().contains(reason), "{errors}"),
        }
    }
}

#[test]
fn a_configuration_knows_its_files_and_whether_they_changed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| folder.path().join(name);
    let pool = |name: &str, port: u16, secret: &str| {
        format!(
            "  {name}: {{listen: 'h:{port}', redis: true, redis_auth: {{password_file: {secret}}}, servers: ['a:1']}}\n"
        )
    };
    let text = format!("pools:\n{}{}{}", pool("p", 1, "one"), pool("q", 2, "two"), pool("r", 3, "one"));
    std::fs::write(at("x.yml"), &text).unwrap();
    std::fs::write(at("two"), "zwei").unwrap();
    let sources = [at("x.yml"), at("one"), at("two")];
    let load = || config::load_file(&at("x.yml"));

    let missing = load().unwrap_err();
    assert_eq!(missing.sources, sources);
    assert_eq!(load().unwrap_err().fingerprint, missing.fingerprint);
    std::fs::write(at("one"), "eins").unwrap();
    let loaded = load().unwrap();
    assert_eq!(loaded.sources, sources);
    assert_ne!(loaded.fingerprint, missing.fingerprint);
    assert_eq!(load().unwrap().fingerprint, loaded.fingerprint);

    std::fs::write(at("two"), "deux").unwrap();
    let secret = load().unwrap();
    assert_ne!(secret.fingerprint, loaded.fingerprint);
    assert_eq!(secret.hash(), loaded.hash());
    std::fs::write(at("x.yml"), format!("{text}# more\n")).unwrap();
    let other = load().unwrap();
    assert_ne!(other.fingerprint, secret.fingerprint);
    assert_ne!(other.hash(), secret.hash());

    let errors = config::load_file(&at("none.yml")).unwrap_err();
    assert_eq!(errors.sources, [at("none.yml")]);
    let parsed = config::parse("x.yml", "pools: {p: {listen: 'h:1', servers: ['a:1']}}").unwrap();
    assert!(parsed.sources.is_empty());
}

#[test]
fn the_hash_of_a_configuration_is_md5sums_but_for_its_passwords() {
    // printf "pools: {p: {listen: 'h:1', servers: ['a:1']}}" | md5sum
    let hash = |text: &str| config::parse("x.yml", text).unwrap_or_else(|e| panic!("{e}")).hash().to_owned();
    assert_eq!(hash("pools: {p: {listen: 'h:1', servers: ['a:1']}}"), "002318920f9a9d76");

    let own = |auth: &str| format!("pools:\n p:\n  listen: h:1\n  redis: true\n{auth}  servers: ['a:1']\n");
    let anchored = "  redis_auth: &a secret\n  servers: ['a:1']\n q:\n  listen: h:2\n  redis: true\n  redis_auth: *a\n";
    let twemproxy = "p:\n  listen: h:1\n  redis: true\n  redis_auth: secret\n  servers:\n  - a:1:1\n";
    for text in [
        &own("  redis_auth: secret\n"),
        &own("  redis_auth: 'secret'\n"),
        &own("  redis_auth: \"secret\"\n"),
        &own("  redis_auth: {username: me, password: secret}\n"),
        &own("  redis_auth:\n    password: |-\n      secret\n      secret\n"),
        &format!("\u{feff}{}", own("  redis_auth: secret\n")),
        &own("  # ünïcödé\n  redis_auth:\n    password: secret\n"),
        &own(anchored),
        twemproxy,
    ] {
        let (other, longer) = (text.replace("secret", "SECRET"), text.replace("secret", "other secret"));
        assert!(hash(text) == hash(&other) && hash(text) == hash(&longer), "{text}");
        assert_ne!(hash(text), hash(&text.replace("h:1", "h:9")), "{text}");
        let fingerprint = |text: &str| config::parse("x.yml", text).unwrap().fingerprint;
        assert_ne!(fingerprint(text), fingerprint(&other));
    }
}

#[test]
fn anchors_work_in_our_own_format_and_nothing_blows_up() {
    let text = "pools:\n  a: {listen: 'h:1', servers: &s ['a:1', 'b:1']}\n  b: {listen: 'h:2', servers: *s}\n";
    assert_eq!(config::parse("x.yml", text).unwrap().settings.pools[1].servers.len(), 2);
    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        bomb += &format!("b{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    let errors = config::parse("x.yml", &bomb).unwrap_err().to_string();
    assert!(errors.contains("too large: the file unfolds to more than"), "{errors}");
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(config::parse("x.yml", &deep).unwrap_err().to_string().starts_with("x.yml:1:"));
    }
}

#[test]
fn unreadable_files_say_why() {
    let said = |path: &Path| config::load_file(path).unwrap_err().to_string();
    assert_eq!(
        said(Path::new("/nonexistent/x.yml")),
        "/nonexistent/x.yml: cannot be read: No such file or directory (os error 2)"
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    assert!(said(folder.path()).ends_with("cannot be read: Is a directory (os error 21)"));
    assert!(said(Path::new("/dev/zero")).contains("larger than 16 MiB"));
    let file = folder.path().join("latin1.yml");
    std::fs::write(&file, b"a:\n  b: \xe9\n").unwrap();
    assert!(said(&file).ends_with(":2:6: not UTF-8; allowed: UTF-8 text"));
}

#[test]
fn a_pipe_is_read_to_its_end_and_waited_for_by_nobody() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert!(config::load_file(&pipe).unwrap_err().to_string().contains(":1:1: an empty file"));
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &std::fs::read(samples().join("minimal.yml")).unwrap()).unwrap();
    drop(writer);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    assert!(config::load_file(Path::new(&path)).is_ok());
}

#[test]
fn of_a_great_many_mistakes_the_first_are_told_and_the_rest_is_counted() {
    let bad = "      - bad\n".repeat(100_000);
    let text = format!("pools:\n  a:\n    listen: 127.0.0.1:1\n    protocol: redis\n    servers:\n{bad}");
    let begun = std::time::Instant::now();
    let errors = config::parse("x.yml", &text).unwrap_err();
    // It was minutes when all were told.
    assert!(begun.elapsed().as_secs() < 20);
    assert_eq!((errors.problems.len(), errors.count()), (100, 100_000));
    let said = errors.to_string();
    assert!(said.starts_with("x.yml:6:9: bad server: 'bad'; ") && said.ends_with("\nx.yml: and 99900 more"), "{said}");
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_read() {
    let text = std::fs::read_to_string(samples().join("nutcracker.yml")).unwrap();
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(config::parse("x.yml", &windows).unwrap().settings.pools.len(), 3);
    let errors = config::parse("x.yml", &windows.replace("hash: md5", "hash: m5")).unwrap_err().to_string();
    let line = text.lines().position(|line| line.contains("hash: md5")).unwrap() + 1;
    assert!(errors.starts_with(&format!("x.yml:{line}:9: bad value of 'hash': 'm5'; did you mean 'md5'?")), "{errors}");
    assert!(errors.ends_with("|   hash: m5\n     |         ^^"), "{errors}");
}

#[test]
fn what_unit_text_means_is_the_same_in_any_key() {
    for (text, milliseconds) in [("500", 500), ("500ms", 500), ("2s", 2000), ("1m", 60_000), ("'2s'", 2000)] {
        let text = format!("pools: {{p: {{listen: 'h:1', servers: ['a:1'], timeout: {text}}}}}");
        let pool = pool_of(&text);
        assert_eq!(pool.timeout, Some(Duration::from_millis(milliseconds)), "{text}");
    }
}

fn pool_of(text: &str) -> PoolSettings {
    config::parse("x.yml", text).unwrap_or_else(|errors| panic!("{errors}")).settings.pools.remove(0)
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    files
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn property_names(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    each_property(schema, &mut |name, _| {
        names.insert(name.to_owned());
    });
}

fn property_defaults(schema: &serde_json::Value, defaults: &mut Vec<(String, String)>) {
    each_property(schema, &mut |name, property| {
        if let Some(default) = property.get("default") {
            // A list as YAML has it: [A, B].
            let shown = default.to_string().replace('"', "").replace(',', ", ");
            defaults.push((name.to_owned(), shown));
        }
    });
}

fn each_property(schema: &serde_json::Value, see: &mut dyn FnMut(&str, &serde_json::Value)) {
    if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
        properties.iter().for_each(|(name, property)| see(name, property));
    }
    for definition in schema.get("$defs").and_then(|d| d.as_object()).into_iter().flat_map(|d| d.values()) {
        each_property(definition, see);
    }
}
