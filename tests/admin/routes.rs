//! Paths, methods, statuses, and what is said.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::proxy::PROGRAM;
use crate::support::{How, Outrigger, Pool, eventually};

fn locals(name: &str) -> Pool {
    Pool::new(name, "redis", &["local one".to_owned(), "local two".to_owned()])
}

#[test]
fn every_path_answers_its_method_and_no_other() {
    let proxy = Outrigger::start([locals("cache").set("auto_eject_hosts: true").set("on_readmit: keep")]);
    for (path, kind) in [
        ("/", "text/plain; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/topology", "application/json"),
        ("/config", "application/yaml; charset=utf-8"),
        ("/events", "application/json"),
        ("/slowlog", "application/json"),
        ("/hotkeys", "application/json"),
        ("/schema", "application/json"),
        ("/explain?pool=cache&key=k", "application/json"),
    ] {
        let get = proxy.http("GET", path);
        assert_eq!((get.status, get.header("content-type")), (200, kind), "{path}: {}", get.body);
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!((get.header("x-content-type-options"), get.header("cache-control")), ("nosniff", "no-store"));
        let head = proxy.http("HEAD", path);
        assert_eq!((head.status, &head.body[..], head.header("content-type")), (200, "", kind), "{path}");
        assert_ne!(head.header("content-length"), "0", "{path}");
        let post = proxy.http("POST", path);
        assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"), "{path}");
        assert_eq!(post.json(), json!({"error": "allowed here: GET, HEAD"}));
    }
    for path in ["/reload", "/loglevel", "/pools/cache/servers/one/eject", "/pools/cache/servers/one/admit"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let other = proxy.http(method, path);
            assert_eq!((other.status, other.header("allow")), (405, "POST"), "{method} {path}");
        }
    }
    for nothing in ["/nothing", "/healthz/", "//", "/pools", "/pools/cache", "/favicon.ico", "/../etc/passwd"] {
        let response = proxy.http("GET", nothing);
        assert_eq!(response.status, 404, "{nothing}");
        assert!(response.json()["error"].as_str().unwrap().starts_with("there is no "), "{nothing}");
    }
    let page = proxy.http_with("GET", "/", &["Accept: text/html,*/*"], "");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; "));
    let list = proxy.http("GET", "/").body;
    assert!(list.contains("\nGET  /healthz ") && list.contains("\nPOST /pools/P/servers/S/eject "), "{list}");
}

/// Checks a value against what of JSON Schema our own schemas use; where it does not fit.
fn misfits(value: &Value, schema: &Value, root: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let found =
            name.strip_prefix("#/").into_iter().flat_map(|path| path.split('/')).fold(root, |node, key| &node[key]);
        assert!(found.is_object(), "{name} leads nowhere");
        return misfits(value, found, root, at);
    }
    if let Some(any) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let fits = any.iter().any(|one| misfits(value, one, root, at).is_empty());
        return if fits { Vec::new() } else { vec![format!("{at}: {value} fits none")] };
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |wanted: &Value| wanted == is || (wanted == "number" && is == "integer");
    let right = match &schema["type"] {
        Value::Array(types) => types.iter().any(allowed),
        Value::Null => true,
        one => allowed(one),
    };
    let mut wrong = if right { Vec::new() } else { vec![format!("{at}: {is} in place of {}", schema["type"])] };
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(misfits(item, &schema["items"], root, &format!("{at}[{index}]")));
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Object(_)) => {
                wrong.extend(misfits(item, &schema["additionalProperties"], root, &format!("{at}.{key}")));
            }
            (Value::Null, _) => wrong.push(format!("{at}.{key} is not in the schema")),
            (known, _) => wrong.extend(misfits(item, known, root, &format!("{at}.{key}"))),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    wrong.extend(required.filter(|key| value.get(key).is_none()).map(|key| format!("{at}.{key} is missing")));
    wrong
}

#[test]
fn what_is_answered_is_as_the_schema_says() {
    let mut proxy = Outrigger::start([locals("cache").set("auto_eject_hosts: true").set("on_readmit: keep")]);
    proxy.announce("server ejected");
    assert_eq!(proxy.client().ask("SET k v"), "+OK");
    proxy.http("POST", "/pools/cache/servers/one/eject");
    let schemas = proxy.json("/schema");
    for path in ["/topology", "/events", "/explain?pool=cache&key=k", "/slowlog", "/hotkeys"] {
        let schema = &schemas[path.split('?').next().unwrap()];
        assert!(schema["properties"].is_object(), "{path}: {schema}");
        let answer = proxy.json(path);
        assert_eq!(misfits(&answer, schema, schema, path), [""; 0], "{answer}");
        assert_ne!(misfits(&json!({"x": 1}), schema, schema, path), [""; 0], "anything fits");
    }
}

#[test]
fn bad_parameters_are_named() {
    let mut proxy =
        Outrigger::start([locals("cache").set("auto_eject_hosts: true").set("on_readmit: keep"), locals("plain")]);
    proxy.announce("ejected");
    for (method, path, status, error) in [
        ("GET", "/explain", 400, "pool is missing: /explain?pool=P&key=K"),
        ("GET", "/explain?pool=cache", 400, "key is missing: /explain?pool=P&key=K"),
        ("GET", "/explain?pool=cach&key=k", 404, "no pool 'cach'; there are: cache, plain"),
        ("GET", "/explain?pool=cache&key=k&server=x", 400, "parameter 'server' unknown; allowed: pool, key"),
        ("GET", "/explain?pool=cache&key=k&key=l", 400, "parameter 'key' given twice; allowed: pool, key"),
        ("GET", "/explain?pool=%ff&key=k", 400, "bad value of 'pool': '\u{fffd}'; allowed: the name of a pool"),
        ("GET", "/explain?pool=%zz&key=k", 400, "a parameter has a bad %-escape"),
        ("GET", "/%ff", 400, "the path has a bad %-escape or is no UTF-8"),
        ("GET", "/events?last=x", 400, "bad value of 'last': 'x'; allowed: a whole number"),
        ("GET", "/events?last=-1", 400, "bad value of 'last': '-1'; allowed: a whole number"),
        ("GET", "/config?x", 400, "parameter 'x' unknown; allowed: none"),
        ("POST", "/pools/cach/servers/one/eject", 404, "no pool 'cach'; there are: cache, plain"),
        ("POST", "/pools/cache/servers/three/eject", 404, "pool 'cache' has no server 'three'"),
        ("POST", "/pools/cache/servers/three/admit", 404, "pool 'cache' has no server 'three'"),
        (
            "POST",
            "/pools/cache/servers/one/eject?for=soon",
            400,
            "bad value of 'for': 'soon'; allowed: milliseconds or a whole number with a unit, ms, s, m or h (60s), at most 24 days",
        ),
        (
            "POST",
            "/pools/plain/servers/one/eject",
            409,
            "auto_eject_hosts is false in this pool: its servers are not probed, and nobody would bring one back",
        ),
    ] {
        let response = proxy.http(method, path);
        assert_eq!((response.status, response.json()), (status, json!({ "error": error })), "{method} {path}");
    }
    for (path, body) in [("/loglevel", ""), ("/loglevel", "loud"), ("/loglevel?level=12", ""), ("/loglevel", "12")] {
        let response = proxy.http_with("POST", path, &[], body);
        assert_eq!(response.status, 400, "{path} {body}");
        assert!(
            response.json()["error"].as_str().unwrap().contains("allowed: 0 to 11, or emerg, alert"),
            "{path} {body}"
        );
    }
    assert_eq!(proxy.json("/events")["events"], json!([]), "nothing has happened");
}

#[test]
fn the_token_opens_everything_but_what_probes_ask() {
    let how = How { admin_keys: "  token: open-sesame\n".to_owned(), ..How::default() };
    let proxy = Outrigger::start_as(how, "workers: 1\n", [locals("cache")]);
    for open in ["/healthz", "/readyz", "/"] {
        assert_eq!(proxy.http("GET", open).status, 200, "{open}");
    }
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/topology"),
        ("GET", "/config"),
        ("GET", "/events"),
        ("GET", "/explain?pool=cache&key=k"),
        ("POST", "/reload"),
        ("POST", "/loglevel?level=debug"),
        ("POST", "/pools/cache/servers/one/eject"),
        ("GET", "/nothing"),
    ] {
        for header in
            ["X: y", "Authorization: Bearer open", "Authorization: Bearer open-sesame2", "Authorization: open-sesame"]
        {
            let refused = proxy.http_with(method, path, &[header], "");
            assert_eq!(
                (refused.status, refused.header("www-authenticate")),
                (401, "Bearer realm=\"outrigger\""),
                "{path}"
            );
        }
        let let_in = proxy.http_with(method, path, &["Authorization: Bearer open-sesame"], "");
        assert!(![401, 403].contains(&let_in.status), "{path}: {}", let_in.status);
    }
    assert!(!proxy.http_with("GET", "/config", &["Authorization: Bearer open-sesame"], "").body.contains("sesame"));
    assert!(!proxy.log().contains("sesame"));
}

#[test]
fn pages_of_strangers_get_nothing_and_order_nothing() {
    let proxy = Outrigger::start([locals("cache")]);
    for (host, status) in [("127.0.0.1:1", 200), ("localhost", 200), ("evil.example", 403)] {
        assert_eq!(proxy.http_with("GET", "/topology", &[&format!("Host: {host}")], "").status, status, "{host}");
    }
    let own = proxy.admin_address().to_string();
    let post = |origin: &str| {
        let headers = [format!("Host: {own}"), format!("Origin: {origin}")];
        proxy.http_with("POST", "/loglevel?level=notice", &headers.each_ref().map(String::as_str), "").status
    };
    assert_eq!([post("http://evil.example"), post("null"), post(&format!("http://{own}"))], [403, 403, 200]);
}

#[test]
fn the_configuration_is_shown_without_secrets_and_can_be_loaded() {
    let pool = locals("cache").set("redis_auth: hunter2").set("timeout: 250");
    let proxy = Outrigger::start([pool]);
    let shown = proxy.http("GET", "/config").body;
    assert!(!shown.contains("hunter2") && shown.contains("    redis_auth: \"***\"\n"), "{shown}");
    assert!(shown.contains("    timeout: 250ms\n") && shown.contains("    slow_start: 10s\n"), "{shown}");
    let again = outrigger::config::parse("shown", &shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
    assert_eq!(again.settings.pools[0].timeout, Some(std::time::Duration::from_millis(250)));
}

#[test]
fn explain_says_where_the_proxy_really_sends_a_key() {
    let proxy = Outrigger::start([locals("cache").set("hash_tag: \"{}\"")]);
    let mut client = proxy.client();
    for number in 0..40 {
        let requests = |server: &str| proxy.stats()["cache"][server]["requests"].as_u64().unwrap();
        let key = format!("user:{{{number}}}:name");
        let said = proxy.json(&format!("/explain?pool=cache&key={}", key.replace('{', "%7B").replace('}', "%7D")));
        assert_eq!((&said["hash_tag"], &said["hashed"]), (&json!("{}"), &json!(number.to_string())));
        let server = said["server"].as_str().unwrap();
        let before = requests(server);
        assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
        assert_eq!(requests(server), before + 1, "{key}: {said}");
    }
}

#[test]
fn a_reload_is_answered_with_what_changed_or_all_that_is_wrong() {
    let mut proxy = Outrigger::start([locals("cache")]);
    proxy.announce("the configuration was not changed");
    let file = proxy.file("outrigger.yml");
    let good = std::fs::read_to_string(&file).unwrap();
    let reload = || proxy.http("POST", "/reload");

    let same = reload();
    assert_eq!((same.status, &same.json()["result"], &same.json()["generation"]), (200, &json!("same"), &json!(1)));

    // The watch on the file may come first; somebody's word is told what is the case then.
    std::fs::write(&file, good.replace("redis\n", "redis\n    timeout: 250\n")).unwrap();
    let changed = reload().json();
    assert_eq!(changed["generation"], 2, "{changed}");
    assert!(changed["summary"].as_str().is_none_or(|summary| summary.contains("cache")), "{changed}");

    std::fs::write(&file, good.replace("listen:", "lisen:").replace("redis\n", "redys\n")).unwrap();
    let broken = reload();
    let error = broken.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(broken.status, 422);
    assert!(error.contains("'lisen'") && error.contains("'redys'"), "all of it: {error}");
    let config = proxy.json("/topology")["config"].clone();
    assert_eq!((&config["generation"], &config["last_reload_successful"]), (&json!(2), &json!(false)));
    assert_eq!(proxy.json("/events?last=1")["events"][0]["what"], "reload_failed");

    std::fs::write(&file, &good).unwrap();
    eventually("the old file again", || (reload().json()["generation"] == 3).then_some(()));
}

#[test]
fn what_the_system_refuses_is_said_with_its_place_in_the_file_and_no_secret() {
    let mut proxy = Outrigger::start([locals("cache")]);
    proxy.announce("the configuration was not changed");
    let file = proxy.file("outrigger.yml");
    let good = std::fs::read_to_string(&file).unwrap();
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = taken.each_ref().map(|taken| taken.local_addr().unwrap());
    let pool =
        format!("  more: {{redis_auth: hunter2, listen: \"{one}\", protocol: redis, servers: [\"127.0.0.1:1:1\"]}}\n");
    let stats = good.lines().find(|line| line.starts_with("  stats: ")).unwrap();
    let bad = good.replace(stats, &format!("  stats: {two}")) + &pool + "log:\n  file: /nowhere/at/all.log\n";
    std::fs::write(&file, &bad).unwrap();
    let error = proxy.http("POST", "/reload").json()["error"].as_str().unwrap().to_owned();
    let in_use = "Address already in use (os error 98)";
    for (text, column, said) in [
        (&pool[..], 39, format!("pool more: cannot listen on {one}: {in_use}")),
        ("  stats: ", 10, format!("statistics: cannot listen on {two}: {in_use}")),
        ("  file: ", 9, "log file /nowhere/at/all.log: No such file or directory (os error 2)".to_owned()),
    ] {
        let line = bad.lines().position(|line| line.starts_with(text.trim_end_matches('\n'))).unwrap() + 1;
        assert!(error.contains(&format!("outrigger.yml:{line}:{column}: {said}\n")), "{said}: {error}");
    }
    assert!(!error.contains("hunter") && !proxy.log().contains("hunter"), "{error}");
    assert_eq!(proxy.json("/topology")["config"]["generation"], 1);
    // As soon as they can be had it is in force.
    drop(taken);
    std::fs::write(&file, bad.replace("/nowhere/at/all.log", "other.log")).unwrap();
    eventually("all of it", || (proxy.http("POST", "/reload").json()["generation"] == 2).then_some(()));
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    // A pipe is read once.
    let folder = crate::support::folder();
    let script = folder.path().join("from-a-pipe");
    std::fs::write(&script, format!("#!/bin/bash\nexec {PROGRAM} -c <(cat \"$2\")\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let proxy = Outrigger::start_as(How { program: Some(script), ..How::default() }, "", [locals("cache")]);
    let reload = proxy.http("POST", "/reload");
    let error = "not started with a configuration file, so there is nothing to read anew";
    assert_eq!((reload.status, reload.json()), (409, json!({ "error": error })));
}

#[test]
fn the_log_level_changes_by_name_by_number_and_in_the_body() {
    let proxy = Outrigger::start([locals("cache")]);
    let post = |path: &str, body: &str| proxy.http_with("POST", path, &[], body).json();
    assert_eq!(post("/loglevel?level=err", ""), json!({"level": "err", "number": 3}));
    assert_eq!(post("/loglevel", "debug\n"), json!({"level": "debug", "number": 7}));
    assert_eq!(post("/loglevel?level=5", ""), json!({"level": "notice", "number": 5}));
    assert!(proxy.log().contains("the log level was changed by the admin port level=7"), "{}", proxy.log());
    assert!(!proxy.log().contains("level=3"), "that is no error");
}
