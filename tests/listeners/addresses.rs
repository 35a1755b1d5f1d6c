//! Addresses that overlap: a pool goes from one to every address of the machine and back, and two want the same.

use super::*;

/// A second proxy that is started here by mistake is told so.
fn nobody_else_may_bind(address: SocketAddr) {
    let fixture = Fixture::new();
    let errors = fixture.refused(vec![wanted(1, tcp(&address.ip().to_string(), address.port()))]);
    assert!(errors.ends_with("Address already in use (os error 98)"), "{errors}");
}

/// Clients come to `target` all the time while the pool goes from one address to the other and back.
fn overlapping(one: &str, other: &str, target: &str) {
    let reserved = Port::reserve();
    let port = reserved.number();
    let at = |host: &str| vec![wanted(1, tcp(host, port))];
    let target = SocketAddr::new(target.parse().unwrap(), port);
    let mut fixture = Fixture::with(at(one));
    let clients = Visitors::start(target);
    for _ in 0..20 {
        for (host, next) in [(other, one), (one, other)] {
            clients.wait_for(20);
            fixture.change(at(host));
            nobody_else_may_bind(target);
            assert_eq!(fixture.addresses(), [tcp(host, port).to_string()]);
            // A change that is given up costs no client either.
            let prepared = fixture.listeners.prepare(at(next), &mut Inherited::default()).unwrap();
            let early = try_connect(target).unwrap();
            drop(prepared);
            assert_eq!(pool_of(early), 1);
            nobody_else_may_bind(target);
        }
    }
    clients.stop();
    fixture.change(Vec::new());
    assert!(is_refused(target));
}

#[test]
fn from_every_address_to_one_and_back() {
    let _process = PROCESS.read();
    overlapping("0.0.0.0", "127.0.0.1", "127.0.0.1");
}

#[test]
fn from_every_address_of_both_kinds_to_every_ipv4_address_and_back() {
    let _process = PROCESS.read();
    overlapping("::", "0.0.0.0", "127.0.0.1");
}

#[test]
fn from_every_address_of_both_kinds_to_one_and_back() {
    let _process = PROCESS.read();
    overlapping("::", "127.0.0.1", "127.0.0.1");
    overlapping("::", "::1", "::1");
}

#[test]
fn another_spelling_of_an_address_keeps_the_socket() {
    let _process = PROCESS.read();
    let (folder, port) = (support::folder(), Port::reserve());
    fs::create_dir(folder.path().join("sub")).unwrap();
    let (path, detour) = (folder.path().join("s"), folder.path().join("sub/../s"));
    let mut fixture = Fixture::with(vec![on(1, &port), wanted(2, unix(&path))]);
    let clients = Visitors::start(local(&port));
    for host in ["127.1", "127.0.0.1", "0177.0.0.1"] {
        clients.wait_for(5);
        fixture.change(vec![wanted(1, tcp(host, port.number())), wanted(2, unix(&detour))]);
        assert_eq!(fixture.addresses(), [format!("{host}:{}", port.number()), detour.display().to_string()]);
    }
    clients.stop();
    assert_eq!(pool_of(connect_unix(&path)), 2);
}

#[test]
fn an_address_that_someone_else_keeps_from_being_bound_is_said_with_what_may_help() {
    let _process = PROCESS.read();
    let [own, foreign] = Port::reserve_twice();
    let other = TcpListener::bind(foreign.address()).unwrap();
    let fixture = Fixture::with(vec![on(1, &own)]);
    let errors = fixture.refused(vec![wanted(1, tcp("0.0.0.0", own.number()))]);
    let (port, text) = (own.number(), "Address already in use (os error 98)");
    let advice = format!("if that is 127.0.0.1:{port} of this process, close it in a change of its own first");
    assert_eq!(errors, format!("pool pool1: cannot listen on 0.0.0.0:{port}: {text}; {advice}"));
    nobody_else_may_bind(local(&own));
    assert_eq!(pool_of(connect(&own)), 1);
    drop(other);
}

#[test]
fn two_pools_cannot_take_over_the_same_clients() {
    let _process = PROCESS.read();
    let port = Port::reserve();
    let fixture = Fixture::with(vec![on(1, &port)]);
    let errors = fixture.refused(vec![wanted(1, tcp("0.0.0.0", port.number())), wanted(2, tcp("::", port.number()))]);
    let expected = format!("pool pool2: cannot listen on [::]:{}: Address already in use (os error 98)", port.number());
    assert_eq!(errors, expected);
    assert_eq!(pool_of(connect(&port)), 1);
}
