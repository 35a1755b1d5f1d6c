//! Users: who is let in as whom, what each may do, and what a reload changes for those who are there.

mod support;

use rustix::process::Signal;
use support::client::{Reply, resp};
use support::{Client, Outrigger, Pool, Server, eventually};

/// Three users besides the default one, which is off.
const USERS: &str = "users: {\
    app: {password: apppw, rules: '~app:* &app:* +@all -@dangerous +client|list'}, \
    reader: {password_hash: '#30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4', rules: '~* +@read +acl|whoami'}, \
    root: {password: rootpw, rules: '~* &* +@all'}, \
    scripts: {password: scriptspw, trust_scripts: true, rules: '~app:* +eval'}}";

struct Scene {
    servers: Vec<Server>,
    proxy: Outrigger,
}

impl Scene {
    fn new(servers: usize, lines: &[&str]) -> Option<Self> {
        let servers: Vec<Server> = (0..servers).map(|_| Server::redis()).collect::<Option<_>>()?;
        let pool = lines.iter().fold(Pool::redis("cache", &servers), |pool, line| pool.set(line));
        let proxy = Outrigger::start_with("workers: 2\n", [pool]);
        Some(Self { servers, proxy })
    }

    #[track_caller]
    fn user(&self, login: &str) -> Client {
        let mut client = self.proxy.client();
        assert_eq!(client.ask(&format!("AUTH {login}")), "+OK");
        client
    }

    /// Other text in the file, which is in force when this returns.
    fn change(&self, before: &str, after: &str) {
        let file = self.proxy.file("outrigger.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(before), "{text}");
        let generation = || self.proxy.stats()["config"]["generation"].as_u64();
        let known = generation();
        std::fs::write(&file, text.replacen(before, after, 1)).unwrap();
        self.proxy.signal(Signal::HUP);
        eventually("the reload", || (generation() > known).then_some(()));
    }
}

#[test]
fn users_log_in_with_their_passwords() {
    let scene = need!(Scene::new(1, &[USERS]));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("GET app:1"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("ACL WHOAMI"), "-NOAUTH Authentication required.");
    for wrong in ["AUTH apppw", "AUTH app rootpw", "AUTH nobody apppw", "AUTH default apppw", "AUTH app apppw2"] {
        assert_eq!(client.ask(wrong), "-WRONGPASS invalid username-password pair or user is disabled.", "{wrong}");
    }
    assert_eq!(client.ask("GET app:1"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH app apppw"), "+OK");
    assert_eq!(client.ask("ACL WHOAMI"), "\"app\"");
    assert_eq!(client.ask("AUTH app wrong"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.ask("ACL WHOAMI"), "\"app\"", "a login that failed changes nothing");
    assert!(client.ask("HELLO 2 AUTH reader pw").contains("\"proto\" 2"));
    assert_eq!(client.ask("ACL WHOAMI"), "\"reader\"");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("ACL WHOAMI"), "-NOAUTH Authentication required.");
    let log = scene.proxy.log();
    assert!(["apppw", "rootpw", "scriptspw"].iter().all(|secret| !log.contains(secret)), "{log}");
}

#[test]
fn nobody_gets_at_keys_of_others() {
    let scene = need!(Scene::new(3, &[USERS]));
    let (mut root, mut app) = (scene.user("root rootpw"), scene.user("app apppw"));
    for key in 0..20 {
        assert_eq!(root.ask(&format!("SET other:{key} secret")), "+OK");
        assert_eq!(app.ask(&format!("SET app:{key} own")), "+OK");
    }
    let key = "-NOPERM No permissions to access a key";
    for request in [
        "GET other:1",
        "MGET app:1 other:1",
        "MGET app:1 app:2 app:3 app:4 app:5 app:6 other:6",
        "DEL app:1 other:1",
        "MSET app:1 x other:1 y",
        "EXISTS other:1",
        "COPY other:1 app:1",
        "SET other:1 x",
        "GETEX other:1",
        "STRLEN other:1",
        "OBJECT ENCODING other:1",
        "ZUNIONSTORE app:9 1 other:1",
        "XREAD STREAMS app:1 other:1 0 0",
        "BLPOP other:1 1",
    ] {
        assert_eq!(app.ask(request), key, "{request}");
    }
    assert_eq!(app.ask("PUBLISH other x"), "-NOPERM No permissions to access a channel");
    assert_eq!(app.ask("KEYS *"), "-NOPERM User app has no permissions to run the 'keys' command");
    assert_eq!(app.ask("CONFIG GET a"), "-NOPERM User app has no permissions to run the 'config|get' command");
    // What it names is allowed, what it does nobody sees.
    let eval = app.ask("EVAL return(redis.call('get','other:1')) 1 app:1");
    assert!(eval.starts_with("-NOPERM User app has no permissions to run the 'eval' command: "), "{eval}");
    let by = app.ask("LPUSH app:list 1");
    assert_eq!(by, "1");
    assert!(app.ask("SORT app:list BY other:* GET other:*").starts_with("-NOPERM User app"), "SORT is dangerous");
    assert_eq!(app.ask("MGET app:1 app:2"), "[\"own\" \"own\"]");
    assert_eq!(app.ask("SET app:1"), "-ERR wrong number of arguments for 'set' command");
    assert_eq!(app.ask("ZUNIONSTORE app:1 x app:2"), "-ERR value is not an integer or out of range");
    // In a pipeline each has its own answer.
    app.send([resp(&["GET", "app:1"]), resp(&["GET", "other:1"]), resp(&["GET", "app:2"])].concat());
    assert_eq!([app.reply(), app.reply(), app.reply()], ["\"own\"", key, "\"own\""]);

    let mut reader = scene.user("reader pw");
    assert_eq!(reader.ask("GET other:1"), "\"secret\"");
    assert_eq!(reader.ask("SET other:1 x"), "-NOPERM User reader has no permissions to run the 'set' command");
    let mut scripts = scene.user("scripts scriptspw");
    assert_eq!(scripts.ask("EVAL return(redis.call('get',KEYS[1])) 1 app:1"), "\"own\"");
    assert_eq!(scripts.ask("EVAL return(1) 1 other:1"), key);
    assert_eq!(root.ask("EVAL return(redis.call('get',KEYS[1])) 1 other:1"), "\"secret\"");
    assert!(scene.servers.iter().map(|server| server.client().ask("GET other:1")).any(|value| value == "\"secret\""));
    let metrics = scene.proxy.http("GET", "/metrics").body;
    let counted = metrics.lines().find(|line| line.contains("reason=\"forbidden\"") && line.contains("request_errors"));
    let counted: u64 = counted.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap();
    assert!(counted > 15, "{counted}");
}

#[test]
fn the_default_user_may_be_there_for_some_things() {
    let users = "users: {default: {nopass: true, rules: '~public:* +get +ping +acl|whoami'}, app: {password: pw, rules: '~* +@all'}}";
    let scene = need!(Scene::new(1, &[users]));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("ACL WHOAMI"), "\"default\"");
    assert_eq!(client.ask("GET public:1"), "nil");
    assert_eq!(client.ask("GET x"), "-NOPERM No permissions to access a key");
    assert_eq!(client.ask("SET public:1 x"), "-NOPERM User default has no permissions to run the 'set' command");
    assert!(client.ask("AUTH x").starts_with("-ERR AUTH <password> called without any password configured"));
    assert_eq!(client.ask("AUTH default x"), "+OK");
    assert_eq!(client.ask("AUTH app pw"), "+OK");
    assert_eq!(client.ask("SET public:1 x"), "+OK");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("GET public:1"), "\"x\"");
    assert!(client.ask("SET public:1 y").starts_with("-NOPERM User default"));
}

#[test]
fn the_password_for_servers_lets_clients_in_as_before() {
    let server = need!(Server::redis_with(&["--requirepass", "serverpw"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("redis_auth: serverpw");
    let proxy = Outrigger::start([pool.set("users: {app: {password: pw, rules: '~app:* +@all'}}")]);
    let mut client = proxy.client();
    assert_eq!(client.ask("PING"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH app pw"), "+OK");
    assert_eq!(client.ask("SET app:1 x"), "+OK");
    assert!(client.ask("GET x").starts_with("-NOPERM"));
    assert_eq!(client.ask("AUTH serverpw"), "+OK");
    assert_eq!(client.ask("ACL WHOAMI"), "\"default\"");
    assert_eq!(client.ask("SET x 1"), "+OK");
    assert_eq!(client.ask("ACL USERS"), "[\"app\" \"default\"]");
}

/// Where nothing differs, as Redis answers.
#[test]
fn acl_tells_what_redis_tells() {
    let scene = need!(Scene::new(1, &[USERS]));
    let mut direct = scene.servers[0].client();
    for setuser in [
        "ACL SETUSER app on >apppw ~app:* &app:* +@all -@dangerous +client|list",
        "ACL SETUSER reader on #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 ~* +@read +acl|whoami",
        "ACL SETUSER root on >rootpw ~* &* +@all",
    ] {
        assert_eq!(direct.ask(setuser), "+OK");
    }
    let mut root = scene.user("root rootpw");
    for same in [
        "ACL CAT",
        "ACL CAT nosuch",
        "ACL CAT a b",
        "ACL GETUSER reader",
        "ACL GETUSER root",
        "ACL GETUSER nosuch",
        "ACL GENPASS x",
        "ACL GENPASS 0",
        "ACL GENPASS 5000",
        "ACL DRYRUN nosuch get a",
        "ACL DRYRUN app nosuch",
        "ACL DRYRUN app get",
        "ACL DRYRUN app get app:1",
        "ACL DRYRUN root flushall",
        "ACL DRYRUN app",
        "ACL NOSUCH",
        "ACL",
    ] {
        assert_eq!(root.ask(same), direct.ask(same), "{same}");
    }
    let list = root.ask("ACL LIST");
    let theirs = direct.ask("ACL LIST");
    for name in ["reader", "root"] {
        let line =
            |list: &str| list.split('"').find(|line| line.starts_with(&format!("user {name} "))).map(str::to_owned);
        assert_eq!(line(&list), line(&theirs));
    }
    assert_eq!(root.ask("ACL USERS"), "[\"app\" \"reader\" \"root\" \"scripts\"]");
    assert_eq!(root.ask("ACL DRYRUN app get x"), "\"User app has no permissions to access the \\'x\\' key\"");
    assert_eq!(root.ask("ACL DRYRUN app keys x"), "\"User app has no permissions to run the \\'keys\\' command\"");
    assert_eq!(root.ask("ACL GENPASS").len(), 66);
    assert_eq!(root.ask("ACL GENPASS 5").len(), 4);
    assert_ne!(root.ask("ACL GENPASS"), root.ask("ACL GENPASS"));
    for changes in ["ACL SETUSER x on", "ACL DELUSER app", "ACL LOAD", "ACL SAVE"] {
        let reply = root.ask(changes);
        assert!(
            reply.ends_with("users come from the configuration file, change it and reload (pool cache)"),
            "{reply}"
        );
    }
    assert!(root.ask("ACL HELP").starts_with("[+ACL <subcommand>"));
    let mut app = scene.user("app apppw");
    assert_eq!(app.ask("ACL WHOAMI"), "\"app\"");
    for others in ["ACL LIST", "ACL GETUSER root", "ACL USERS", "ACL SETUSER app ~*"] {
        assert!(app.ask(others).starts_with("-NOPERM User app has no permissions to run the 'acl|"), "{others}");
    }
}

#[test]
fn without_users_there_is_one() {
    let scene = need!(Scene::new(1, &[]));
    let (mut client, mut direct) = (scene.proxy.client(), scene.servers[0].client());
    for same in ["ACL WHOAMI", "ACL USERS", "ACL LIST", "ACL GETUSER default", "AUTH x", "AUTH default x", "AUTH a b"] {
        assert_eq!(client.ask(same), direct.ask(same), "{same}");
    }
}

#[test]
fn a_reload_changes_what_those_may_do_who_are_there() {
    let scene = need!(Scene::new(2, &[USERS, "backlog: 100"]));
    let mut app = scene.user("app apppw");
    let (mut reader, mut idle) = (scene.user("reader pw"), scene.user("reader pw"));
    let mut root = scene.user("root rootpw");
    assert!(app.ask("GET new:1").starts_with("-NOPERM"));
    scene.change("~app:* &app:*", "~app:* ~new:*");
    eventually("the new right", || (app.ask("GET new:1") == "nil").then_some(()));
    // Another password cuts nobody off.
    scene.change("password: apppw", "password: other");
    assert!(scene.proxy.client().ask("AUTH app apppw").starts_with("-WRONGPASS"));
    assert_eq!(app.ask("GET new:1"), "nil");
    // Those whose user is gone are, also the one that says nothing.
    scene.change("reader: {password_hash", "lector: {password_hash");
    idle.expect_closed();
    reader.expect_closed();
    assert_eq!(root.ask("GET app:1"), "nil");
    assert_eq!(scene.user("lector pw").ask("ACL WHOAMI"), "\"lector\"");
    let metrics = scene.proxy.http("GET", "/metrics").body;
    let line = "outrigger_sessions_closed_total{pool=\"cache\",reason=\"user_removed\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn who_is_removed_while_a_pause_holds_a_request_back_goes_at_once_and_the_request_with_it() {
    let scene = need!(Scene::new(1, &[USERS]));
    let (mut app, mut root) = (scene.user("app apppw"), scene.user("root rootpw"));
    assert_eq!(app.ask("SET app:1 before"), "+OK");
    let id = app.ask("CLIENT ID");
    assert_eq!(root.ask("CLIENT PAUSE 600000 WRITE"), "+OK");
    app.send([resp(&["GET", "app:1"]), resp(&["SET", "app:1", "after"]), resp(&["GET", "app:1"])].concat());
    assert_eq!(app.reply(), "\"before\"");
    eventually("a request that waits", || {
        let line = root.ask(&format!("CLIENT LIST ID {id}"));
        (line.contains(" qbuf=") && !line.contains(" qbuf=0 ")).then_some(())
    });
    scene.change("app: {password", "other: {password");
    assert_eq!(app.rest(), "");
    assert_eq!(root.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(root.ask("SET app:2 x"), "+OK");
    assert_eq!(root.ask("GET app:1"), "\"before\"");
    assert!(!root.ask("CLIENT LIST").contains("user=app "));
    let metrics = scene.proxy.http("GET", "/metrics").body;
    let line = "outrigger_sessions_closed_total{pool=\"cache\",reason=\"user_removed\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn an_upgrade_keeps_everybody_logged_in_as_who_they_are() {
    let mut scene = need!(Scene::new(1, &[USERS]));
    let (mut app, mut root) = (scene.user("app apppw"), scene.user("root rootpw"));
    assert_eq!(app.ask("SET app:1 x"), "+OK");
    scene.proxy.upgrade();
    scene.proxy.expect_end_of_replaced();
    assert_eq!(app.ask("GET app:1"), "\"x\"");
    assert_eq!(app.ask("GET other"), "-NOPERM No permissions to access a key");
    assert_eq!(app.ask("ACL WHOAMI"), "\"app\"");
    assert_eq!(root.ask("SET other 1"), "+OK");
    assert!(root.ask("CLIENT LIST").contains(" user=app "));
}

/// What a user may not do within a transaction spoils it, as in Redis.
#[test]
fn what_is_forbidden_spoils_a_transaction() {
    let scene = need!(Scene::new(1, &[USERS]));
    let mut app = scene.user("app apppw");
    assert_eq!(app.ask("MULTI"), "+OK");
    assert_eq!(app.ask("SET app:1 x"), "+QUEUED");
    assert_eq!(app.ask("SET other:1 x"), "-NOPERM No permissions to access a key");
    assert!(app.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(app.ask("GET app:1"), "nil");
    assert_eq!(app.ask("WATCH other:1"), "-NOPERM No permissions to access a key");
}

#[test]
fn rights_that_change_within_a_transaction_end_it() {
    let mut scene = need!(Scene::new(1, &[USERS, "backlog: 100"]));
    // One worker: where one client has other rights, all have.
    let pool = Pool::redis("cache", &scene.servers).set(USERS).set("backlog: 100");
    scene.proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let begin = |watches: bool| {
        let mut app = scene.user("app apppw");
        if watches {
            assert_eq!(app.ask("WATCH app:2"), "+OK");
        }
        assert_eq!(app.ask("MULTI"), "+OK");
        assert_eq!(app.ask("SET app:1 x"), "+QUEUED");
        app
    };
    let (mut apps, mut other) = ([begin(false), begin(true)], [begin(false), begin(true)]);
    // Of nobody's rights.
    scene.change("backlog: 100", "backlog: 200");
    assert!(other.iter_mut().all(|app| app.ask("EXEC") == "[+OK]"));
    scene.change("~app:* &app:*", "~none:* &app:*");
    let mut seen = scene.user("root rootpw");
    eventually("the new rights", || {
        seen.ask("SET app:1 kept");
        scene.user("app apppw").ask("GET app:1").starts_with("-NOPERM").then_some(())
    });
    for app in &mut apps {
        let end = "-EXECABORT Transaction discarded because of: the rights of user app have changed";
        assert_eq!(app.ask("EXEC"), end);
    }
    assert_eq!(seen.ask("GET app:1"), "\"kept\"");
}

/// The entries of ACL LOG as they come in RESP3 or RESP2: by their fields.
fn denials(client: &mut Client, line: &str) -> Vec<Vec<(String, String)>> {
    client.send(resp(&line.split(' ').collect::<Vec<_>>()));
    let Reply::Array(entries) = client.try_reply().unwrap() else { panic!("{line}") };
    let entry = |entry| match entry {
        Reply::Array(fields) => {
            let texts: Vec<String> =
                fields.iter().map(|field| field.to_string().trim_matches('"').to_owned()).collect();
            texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
        other => panic!("{other}"),
    };
    entries.into_iter().map(entry).collect()
}

#[test]
fn what_was_denied_is_told_as_redis_tells_it() {
    const RULES: &str = "~a* &a* +@all -set -config -flushall";
    let scene = need!(Scene::new(
        1,
        &[&format!(
            "users: {{app: {{password: pw, rules: '{RULES}'}}, root: {{password: rootpw, rules: '~* &* +@all'}}}}"
        )]
    ));
    let plain = need!(Server::redis());
    let mut direct = plain.client();
    assert_eq!(direct.ask(&format!("ACL SETUSER app on >pw resetchannels {RULES}")), "+OK");
    assert_eq!(direct.ask("ACL SETUSER root on >rootpw ~* &* +@all"), "+OK");
    let run = |mut client: Client, mut root: Client| {
        assert_eq!(root.ask("AUTH root rootpw"), "+OK");
        assert_eq!(root.ask("ACL LOG"), "[]");
        for line in [
            "AUTH app wrong",
            "hello 2 AUTH nobody wrong",
            "AUTH app pw",
            "SET a 1",
            "GET b",
            "GET a",
            "MGET a b",
            "PUBLISH b x",
            "CONFIG GET x",
            "MULTI",
            "GET c",
            "flushall",
            "DISCARD",
            "GET b",
            "SORT a BY c*",
            "MGET a",
        ] {
            client.ask(line);
        }
        let all = denials(&mut root, "ACL LOG 100");
        assert_eq!(denials(&mut root, "ACL LOG 3").len(), 3);
        assert_eq!((denials(&mut root, "ACL LOG 0").len(), denials(&mut root, "ACL LOG -1").len()), (0, 0));
        for wrong in ["ACL LOG x", "ACL LOG RESET x", "ACL LOG 1 2"] {
            assert!(root.ask(wrong).starts_with("-ERR "), "{wrong}");
        }
        assert_eq!(root.ask("ACL LOG reset"), "+OK");
        assert_eq!(root.ask("ACL LOG"), "[]");
        client.ask("SET a 1");
        root.ask("HELLO 3");
        let resp3 = root.ask("ACL LOG 1");
        assert!(resp3.contains("\"age-seconds\" +") || resp3.contains("\"age-seconds\" ,"), "{resp3}");
        all
    };
    let (ours, theirs) = (run(scene.proxy.client(), scene.proxy.client()), run(plain.client(), plain.client()));
    let said = |all: &[Vec<(String, String)>]| -> Vec<Vec<String>> {
        let telling =
            |(name, _): &&(String, String)| ["count", "reason", "context", "object", "username"].contains(&&name[..]);
        all.iter()
            .map(|entry| entry.iter().filter(telling).map(|(name, value)| format!("{name}={value}")).collect())
            .collect()
    };
    assert_eq!(said(&ours), said(&theirs));
    assert_eq!(said(&ours).len(), 8);
    let field = |name: &str| &ours[0].iter().find(|(field, _)| field == name).unwrap().1;
    assert!(field("client-info").contains("cmd=get user=app"), "{:?}", ours[0]);
    assert!(field("age-seconds").parse::<f64>().unwrap() < 60.0);
    assert!(field("timestamp-created").parse::<u64>().unwrap() > 1_600_000_000_000);
    // The first fields are those of any Redis 7, in its order; newer ones have three more.
    let names = |entry: &[(String, String)]| entry.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert!(names(&ours[0]).starts_with(&names(&theirs[0])), "{:?}", names(&theirs[0]));
    // A reload forgets nothing.
    scene.change("+@all -set", "+@all +set");
    let mut root = scene.user("root rootpw");
    assert_eq!(denials(&mut root, "ACL LOG").len(), 1);
}
