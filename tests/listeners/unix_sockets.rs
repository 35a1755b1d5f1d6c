//! The files of unix sockets: when they are there, who may use them, and whose they are.

use super::*;

#[test]
fn a_unix_socket_is_there_as_long_as_it_is_wanted() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let path = folder.path().join("s");
    let mut fixture = Fixture::with(vec![wanted(1, unix(&path))]);
    assert_eq!(pool_of(connect_unix(&path)), 1);
    fixture.change(vec![wanted(2, unix(&path))]);
    assert_eq!(pool_of(connect_unix(&path)), 2);
    let stalled = fixture.stall();
    let waiting = connect_unix(&path);
    fixture.change(Vec::new());
    assert!(!path.exists());
    drop(stalled);
    assert_eq!(pool_of(waiting), 2);
}

#[test]
fn permissions_follow_the_configuration() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let path = folder.path().join("s");
    let with = |mode| vec![wanted(1, ListenAddress::Unix { path: path.clone(), mode })];
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let mut fixture = Fixture::with(with(None));
    let usual = mode();
    fixture.change(with(Some(0o660)));
    assert_eq!(mode(), 0o660);
    // What an operator has set by hand stays until the configuration says something new.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o611)).unwrap();
    fixture.change(with(Some(0o660)));
    assert_eq!(mode(), 0o611);
    fixture.change(with(Some(0o777)));
    assert_eq!(mode(), 0o777);
    fixture.change(with(None));
    assert_eq!(mode(), usual);
    fixture.change(Vec::new());
    fixture.change(with(Some(0o666)));
    assert_eq!(mode(), 0o666);
}

#[test]
fn only_socket_files_that_nobody_uses_are_replaced() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let path = folder.path().join("s");
    let other = UnixListener::bind(&path).unwrap();
    let mut fixture = Fixture::new();
    let errors = fixture.refused(vec![wanted(1, unix(&path))]);
    let text = "another process accepts clients there";
    assert_eq!(errors, format!("pool pool1: cannot listen on {}: {text}", path.display()));
    // That its queue is full makes no difference.
    socket2::SockRef::from(&other).listen(1).unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| connect_now(&path)).collect();
    assert!(fixture.refused(vec![wanted(1, unix(&path))]).ends_with(text));
    drop((other, waiting));
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    fixture.change(vec![wanted(1, unix(&path))]);
    assert_eq!(pool_of(connect_unix(&path)), 1);
}

/// `None`: the queue is full.
fn connect_now(path: &Path) -> Option<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(&socket2::SockAddr::unix(path).unwrap()).ok().map(|()| socket)
}

#[test]
fn a_socket_file_that_was_removed_comes_back_and_one_of_another_process_stays() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let path = folder.path().join("s");
    let mut fixture = Fixture::with(vec![wanted(1, unix(&path))]);
    fs::remove_file(&path).unwrap();
    assert_eq!(fixture.listeners.sockets().unwrap().len(), 0);
    fixture.change(vec![wanted(1, unix(&path))]);
    assert_eq!(pool_of(connect_unix(&path)), 1);
    assert_eq!(fixture.listeners.sockets().unwrap().len(), 1);
    // Somebody else takes the path.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert!(fixture.refused(vec![wanted(1, unix(&path))]).ends_with("another process accepts clients there"));
    fixture.listeners.stop(false);
    let _reached = connect_unix(&path);
    assert!(other.accept().is_ok());
}
