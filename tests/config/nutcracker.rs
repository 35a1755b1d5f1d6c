//! twemproxy's own files.

use super::*;

#[test]
fn a_nutcracker_yml_is_read_with_twemproxys_defaults() {
    let loaded = config::load_file(&samples().join("nutcracker.yml")).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.stats_listen.as_deref(), Some("0.0.0.0:22222"));
    let [beta, alpha, gamma] = &settings.pools[..] else { panic!("three pools") };
    assert_eq!([&beta.name, &alpha.name, &gamma.name], ["beta", "alpha", "gamma"], "by length, then by bytes");
    assert_eq!((alpha.protocol, beta.protocol), (Protocol::Redis, Protocol::Memcached));
    assert_eq!(beta.hash_tag.map(|tag| tag.0), Some(*b"{}"));
    assert_eq!((beta.backlog, beta.preconnect), (1024, true));
    assert_eq!(beta.timeout, Some(Duration::from_millis(400)));
    assert_eq!(beta.health.retry_timeout, Duration::from_millis(2000));
    assert_eq!(gamma.listen, ListenAddress::Unix { path: PathBuf::from("/tmp/gamma.sock"), mode: Some(0o666) });
    assert_eq!(gamma.servers[0].name, "one");

    let bare = pool_of("p:\n  listen: h:1\n  servers:\n   - b:11211:1\n   - a:6379:1\n");
    assert_eq!(bare.timeout, None, "twemproxy waits for ever");
    assert_eq!(bare.connect_timeout, Some(Duration::from_millis(500)));
    assert_eq!(bare.slowlog_threshold, Some(Duration::from_millis(100)));
    assert_eq!((bare.health.failure_limit, bare.health.retry_timeout), (2, Duration::from_secs(30)));
    let names: Vec<&str> = bare.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["b", "a:6379"], "in ring order");
}

/// What twemproxy accepts and refuses, asked of twemproxy itself where it is installed.
#[test]
fn a_nutcracker_yml_is_as_strict_as_twemproxy() {
    let pool = |lines: &str| format!("p:\n  listen: 127.0.0.1:22121\n{lines}  servers:\n   - 127.0.0.1:1:1\n");
    let listen = |listen: &str| format!("p:\n  listen: {listen}\n  servers:\n   - 127.0.0.1:1:1\n");
    let server = |server: &str| format!("p:\n  listen: 127.0.0.1:22121\n  servers:\n   - {server}\n");
    let cases = [
        (true, pool("")),
        (true, pool("  # a comment\n  hash: 'md5' # another\n")),
        (true, pool("  redis: true\n  redis_auth: x\n  redis_db: 3\n")),
        (true, pool("  hash_tag: \"$$\"\n")),
        (true, pool("  timeout: 0\n  server_failure_limit: 0\n  client_connections: 7\n")),
        (true, pool("  timeout: \"400\"\n  preconnect: 'true'\n")),
        (false, format!("---\n{}", pool(""))),
        (false, format!("%YAML 1.1\n---\n{}", pool(""))),
        (false, format!("{}---\n{}", pool(""), pool(""))),
        (false, String::new()),
        (false, "p: {listen: 127.0.0.1:22121, servers: [127.0.0.1:1:1]}\n".to_owned()),
        (false, "p:\n  listen: 127.0.0.1:22121\n  servers: [127.0.0.1:1:1]\n".to_owned()),
        (false, "p:\n  listen: 127.0.0.1:22121\n  servers:\n".to_owned()),
        (false, "p:\n  listen: 127.0.0.1:22121\n".to_owned()),
        (false, "p:\n  servers:\n   - 127.0.0.1:1:1\n".to_owned()),
        (false, pool("  hash: &h md5\n")),
        (false, pool("  hash: !!str md5\n")),
        (false, pool("  hash: MD5\n")),
        (false, pool("  hash: md5\n  hash: md5\n")),
        (false, pool("  hash:\n")),
        (false, pool("  hash: \"\"\n")),
        (false, pool("  hash_tag: \"{\"\n")),
        (false, pool("  hash_tag: \"{}}\"\n")),
        (false, pool("  distribution: consistent\n")),
        (false, pool("  timeout: -1\n")),
        (false, pool("  timeout: 1.5\n")),
        (false, pool("  timeout: 400ms\n")),
        (false, pool("  preconnect: yes\n")),
        (false, pool("  preconnect: True\n")),
        (false, pool("  server_connections: 0\n")),
        (false, pool("  redis_auth: x\n")),
        (false, pool("  colour: red\n")),
        (false, pool("  connect_timeout: 100\n")),
        (false, format!("{}q:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:1:1\n", pool(""))),
        (false, format!("{}p:\n  listen: 127.0.0.1:22122\n  servers:\n   - 127.0.0.1:1:1\n", pool(""))),
        (true, listen("::1:22121")),
        (true, listen("/tmp/outrigger-test.sock 0666")),
        (false, listen("22121")),
        (false, listen("127.0.0.1:0")),
        (false, listen("127.0.0.1:65536")),
        (false, listen("127.0.0.1:x")),
        (false, listen("/tmp/outrigger-test.sock 1777")),
        (true, server("127.0.0.1:1:1 name")),
        (true, server("/run/a.sock:1")),
        (true, server("::1:6379:1")),
        (true, server("127.0.0.1:1:1\n   - 127.0.0.1:1:1 again")),
        (false, server("127.0.0.1:1:1\n   - 127.0.0.1:1:2")),
        (false, server("127.0.0.1:1")),
        (false, server("127.0.0.1:1:0")),
        (false, server("127.0.0.1:1:-1")),
        (false, server("127.0.0.1:0:1")),
        (false, server("127.0.0.1:1:1  name")),
        (false, server("127.0.0.1:1:1 a name")),
        (false, server("/run/a.sock")),
    ];
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (i, (accepted, text)) in cases.iter().enumerate() {
        let ours = config::parse("nutcracker.yml", text);
        let own_format = ours.as_ref().is_ok_and(|loaded| loaded.dialect == Dialect::Outrigger);
        assert!(ours.is_ok() == *accepted && !own_format, "{text}\n{:?}", ours.err().map(|errors| errors.to_string()));
        let file = folder.path().join(format!("{i}.yml"));
        std::fs::write(&file, text).unwrap();
        let theirs = Command::new("nutcracker").arg("-t").arg("-c").arg(&file).stderr(Stdio::null()).status();
        if let Ok(status) = theirs {
            assert_eq!(status.success(), *accepted, "twemproxy itself:\n{text}");
        }
    }
}
