//! An upgrade to another configuration, and upgrades between reloads.

use crate::stage::{Installed, edit};
use crate::support::client::resp;
use crate::support::process::Port;
use crate::support::{Client, Fake, How, Outrigger, Pool, eventually};

/// A server that answers every request with its own name.
fn says(name: &'static str) -> Fake {
    Fake::start(move |_, talk| {
        while talk.request().is_some() {
            talk.say(format!("+{name}\r\n"));
        }
    })
}

/// A proxy whose successor reads `next.yml`, which the running one does not watch.
struct Scene {
    proxy: Outrigger,
    installed: Installed,
}

impl Scene {
    fn set(pools: impl IntoIterator<Item = Pool>) -> Self {
        let installed = Installed::new();
        let how = How { program: Some(installed.path()), ..How::default() };
        let proxy = Outrigger::start_as(how, "workers: 2\ndrain_timeout: 5s\n", pools);
        Self { proxy, installed }
    }

    /// The successor goes by this change of the configuration.
    fn upgrade(&mut self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.proxy.file("outrigger.yml")).unwrap();
        std::fs::write(self.proxy.file("next.yml"), change(text)).unwrap();
        self.installed.install_script("exec $outrigger -c next.yml");
        self.proxy.upgrade();
        self.proxy.expect_end_of_replaced();
    }
}

fn asked(client: &mut Client) -> String {
    client.ask("GET a")
}

#[test]
fn sessions_find_their_pool_by_its_name_or_by_its_address() {
    let (one, two, three) = (says("one"), says("two"), says("three"));
    let pools = [("one", &one), ("two", &two), ("three", &three)];
    let mut scene = Scene::set(pools.map(|(name, server)| Pool::new(name, "redis", &[server.entry()])));
    let mut clients = [0, 1, 2].map(|pool| scene.proxy.client_of(pool));
    let ids = clients.each_mut().map(|client| client.ask("CLIENT ID"));
    let moved = Port::reserve();
    let old = scene.proxy.socket_address(1);
    scene.upgrade(|text| {
        // The first has another name, the second another address; the third has another server.
        text.replace("  one:\n", "  uno:\n")
            .replace(&old.to_string(), &moved.address().to_string())
            .replace(&three.entry(), &one.entry())
    });
    assert_eq!(clients.each_mut().map(asked), ["+one", "+two", "+one"]);
    assert_eq!(clients.each_mut().map(|client| client.ask("CLIENT ID")), ids);
    assert_eq!(asked(&mut crate::support::client::Address::Tcp(moved.address()).connect().unwrap()), "+two");
    assert!(scene.proxy.address_of(1).connect().is_err(), "nobody is let in at the old address");
    assert_eq!(asked(&mut scene.proxy.client_of(0)), "+one");
    assert!(scene.proxy.stats()["uno"]["client_connections"].as_u64().unwrap() >= 1);
}

#[test]
fn a_name_counts_more_than_an_address() {
    let (one, two) = (says("one"), says("two"));
    let mut scene = Scene::set([("one", &one), ("two", &two)].map(|(name, s)| Pool::new(name, "redis", &[s.entry()])));
    let mut clients = [0, 1].map(|pool| scene.proxy.client_of(pool));
    assert_eq!(clients.each_mut().map(asked), ["+one", "+two"]);
    let addresses = [0, 1].map(|pool| scene.proxy.socket_address(pool).to_string());
    scene.upgrade(|text| {
        text.replace(&addresses[0], "-")
            .replace(&addresses[1], &addresses[0])
            .replace("\"-\"", &format!("\"{}\"", addresses[1]))
    });
    assert_eq!(clients.each_mut().map(asked), ["+one", "+two"]);
    assert_eq!([0, 1].map(|pool| asked(&mut scene.proxy.client_of(pool))), ["+two", "+one"]);
}

#[test]
fn sessions_of_a_removed_pool_are_closed_after_their_last_reply() {
    let (one, two) = (says("one"), says("two"));
    let mut scene = Scene::set([("one", &one), ("two", &two)].map(|(name, s)| Pool::new(name, "redis", &[s.entry()])));
    let (mut stays, mut idle, mut amid) =
        (scene.proxy.client_of(0), scene.proxy.client_of(1), scene.proxy.client_of(1));
    assert_eq!((asked(&mut stays), asked(&mut idle)), ("+one".to_owned(), "+two".to_owned()));
    amid.send_aside(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n".repeat(500));
    let (_, rest) = (amid.reply(), 499);
    scene.upgrade(|text| {
        let (before, _) = text.split_once("  two:\n").unwrap();
        before.to_owned()
    });
    idle.expect_closed();
    let text = amid.rest();
    // What was answered, was answered whole.
    assert!(text.len() % "+two\r\n".len() == 0 && text.matches("+two\r\n").count() <= rest, "{text}");
    assert_eq!(asked(&mut stays), "+one");
    assert!(scene.proxy.address_of(1).connect().is_err());
    assert!(scene.proxy.log().contains("a session of a pool that is not there any more is closed"));
}

/// Nobody is given another pool's values, whatever address they came by.
#[test]
fn sessions_of_a_removed_pool_do_not_go_to_the_one_that_has_its_address_now() {
    let (one, two) = (says("one"), says("two"));
    let mut scene = Scene::set([("one", &one), ("two", &two)].map(|(name, s)| Pool::new(name, "redis", &[s.entry()])));
    let mut clients = [0, 1].map(|pool| scene.proxy.client_of(pool));
    assert_eq!(clients.each_mut().map(asked), ["+one", "+two"]);
    let addresses = [0, 1].map(|pool| scene.proxy.socket_address(pool).to_string());
    scene.upgrade(|text| {
        let (from, to) = (text.find("  one:\n").unwrap(), text.find("  two:\n").unwrap());
        text[..from].to_owned() + &text[to..].replace(&addresses[1], &addresses[0])
    });
    clients[0].expect_closed();
    assert_eq!(asked(&mut clients[1]), "+two");
    assert_eq!(asked(&mut scene.proxy.client_of(0)), "+two");
}

/// A listener that a reload has closed stays for a moment, for clients that are just being connected.
#[test]
fn an_address_that_has_just_gone_out_of_use_can_be_had_by_the_next_process() {
    let one = says("one");
    let mut scene = Scene::set([Pool::new("one", "redis", &[one.entry()])]);
    let mut client = scene.proxy.client();
    assert_eq!(asked(&mut client), "+one");
    let (address, moved) = (scene.proxy.socket_address(0).to_string(), Port::reserve());
    let before = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    edit(&scene.proxy, |text| text.replace(&address, &moved.address().to_string()));
    assert_eq!(scene.proxy.http("POST", "/reload").status, 200);
    assert!(scene.proxy.address_of(0).connect().is_err());
    scene.upgrade(|_| before);
    assert_eq!((asked(&mut client), asked(&mut scene.proxy.client())), ("+one".to_owned(), "+one".to_owned()));
}

/// A pool may be called what another one was called, and that one something else.
#[test]
fn sessions_follow_their_pool_over_names_that_are_passed_on_by_a_later_reload() {
    let (one, two) = (says("one"), says("two"));
    let mut scene = Scene::set([("one", &one), ("two", &two)].map(|(name, s)| Pool::new(name, "redis", &[s.entry()])));
    let mut client = scene.proxy.client_of(0);
    // It cannot go before it has sent the rest.
    let large = resp(&["SET", "a", &"x".repeat(200_000)]);
    client.send(&large[..150_000]);
    assert_eq!(asked(&mut scene.proxy.client_of(0)), "+one");
    std::fs::write(scene.proxy.file("next.yml"), std::fs::read(scene.proxy.file("outrigger.yml")).unwrap()).unwrap();
    scene.installed.install_script("exec $outrigger -c next.yml");
    scene.proxy.upgrade();
    for (from, to) in [("  one:\n", "  uno:\n"), ("  two:\n", "  one:\n")] {
        let text = std::fs::read_to_string(scene.proxy.file("next.yml")).unwrap();
        std::fs::write(scene.proxy.file("next.yml"), text.replace(from, to)).unwrap();
        assert_eq!(scene.proxy.http("POST", "/reload").status, 200);
    }
    client.send(&large[150_000..]);
    assert_eq!(client.reply(), "+one");
    scene.proxy.expect_end_of_replaced();
    assert_eq!(asked(&mut client), "+one");
}

#[test]
fn a_pool_that_speaks_another_protocol_is_another_pool() {
    let (one, two) = (says("one"), says("two"));
    let mut scene = Scene::set([("one", &one), ("two", &two)].map(|(name, s)| Pool::new(name, "redis", &[s.entry()])));
    let mut clients = [0, 1].map(|pool| scene.proxy.client_of(pool));
    assert_eq!(clients.each_mut().map(asked), ["+one", "+two"]);
    scene.upgrade(|text| {
        let at = text.find("  two:\n").unwrap();
        text[..at].to_owned() + &text[at..].replace("protocol: redis", "protocol: memcached")
    });
    assert_eq!(asked(&mut clients[0]), "+one");
    clients[1].expect_closed();
    assert_eq!(scene.proxy.client_of(1).tell("version").split(' ').next(), Some("VERSION"));
}

#[test]
fn reloads_and_upgrades_follow_each_other_at_once() {
    let (one, two) = (says("one"), says("two"));
    let mut proxy = Outrigger::start([Pool::new("r", "redis", &[one.entry()])]);
    let mut client = proxy.client();
    let id = client.ask("CLIENT ID");
    let (mut now, mut next) = ((&one, "+one"), (&two, "+two"));
    for _ in 0..3 {
        // A reload is under way, or is yet to begin, when the upgrade begins.
        edit(&proxy, |text| text.replace(&now.0.entry(), &next.0.entry()));
        proxy.signal(rustix::process::Signal::HUP);
        proxy.upgrade();
        (now, next) = (next, now);
        assert_eq!(asked(&mut proxy.client()), now.1);
        // And one right after it.
        edit(&proxy, |text| text.replace(&now.0.entry(), &next.0.entry()));
        proxy.signal(rustix::process::Signal::HUP);
        (now, next) = (next, now);
        eventually("the next configuration", || (asked(&mut client) == now.1).then_some(()));
        proxy.expect_end_of_replaced();
        assert_eq!(client.ask("CLIENT ID"), id);
    }
    let config = &proxy.stats()["config"];
    assert_eq!((&config["last_reload_successful"], config["failed_reloads"].as_u64()), (&true.into(), Some(0)));
}
