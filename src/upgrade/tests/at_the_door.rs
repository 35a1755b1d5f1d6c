//! The door: who asks there, and who may.

use super::*;

/// There is one door to a process, and tests share theirs. To be dropped in reverse.
fn the_door(visit: impl Fn(Visit) + Send + Sync + 'static) -> (MutexGuard<'static, ()>, Door) {
    static DOOR: Mutex<()> = Mutex::new(());
    let turn = DOOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (mut door, visit) = (None, Arc::new(visit));
    // A process that another test is about to start holds the door before for a moment.
    eventually("a free door", || {
        let visit = visit.clone();
        door = Door::open(move |who| visit(who)).ok();
        door.is_some()
    });
    (turn, door.unwrap())
}

#[test]
fn who_asks_at_the_door_is_told_how_it_goes() {
    let results = Mutex::new(vec![Err("there is no such file"), Ok(())]);
    let (_turn, door) = the_door(move |visit| {
        let Visit::Upgrade(visitor) = visit else { panic!("{visit:?}") };
        assert_eq!(visitor.pid, std::process::id());
        visitor.say("starting it");
        visitor.say("it serves");
        let result = results.lock().unwrap().pop();
        if let Some(result) = result {
            visitor.finish(result);
        }
    });
    let pid = std::process::id();
    let mut lines = Vec::new();
    assert_eq!(ask(pid, |line| lines.push(line.to_owned())), Ok(()));
    assert_eq!(lines, ["starting it", "it serves"]);
    assert_eq!(ask(pid, |_| ()), Err("there is no such file".into()));
    assert_eq!(ask(pid, |_| ()), Err(format!("process {pid} ended without an answer")));
    assert_eq!(Door::open(|_| ()).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(door);
    let gone = ask(pid, |_| ()).unwrap_err();
    assert_eq!(gone, format!("process {pid} is no running outrigger, or one in another container"));
}

#[test]
fn a_process_that_comes_by_itself_takes_over() {
    let sockets = listeners(2);
    let (upgrade, count) = (shell(""), sockets.len());
    let (_turn, _door) = the_door(move |visit| {
        let Visit::TakeOver(caller) = visit else { panic!("{visit:?}") };
        upgrade
            .hand_to(caller, &sockets, &Estate { last_client: 5, ..Estate::default() }, PATIENCE)
            .unwrap()
            .finish(0)
            .unwrap();
    });
    let mut old = Predecessor::find(Some(std::process::id())).unwrap().unwrap();
    assert_eq!(old.pid(), std::process::id());
    let inherited = old.sockets().unwrap();
    assert_eq!((inherited.sockets.len(), inherited.estate.last_client), (count, 5));
    old.ready().unwrap();
    old.serving(|_, _| panic!("there are no sessions")).unwrap().join().unwrap();
    let again = Predecessor::take_over(std::process::id()).unwrap_err().to_string();
    assert_eq!(again, "this process is being replaced already");
    assert!(Predecessor::find(None).unwrap().is_none());
}

#[test]
fn what_comes_to_the_door_is_bounded() {
    let (_turn, _door) = the_door(|visit| panic!("{visit:?}"));
    let pid = std::process::id();
    let why = |wire: &mut Wire| match wire.receive(Some(Instant::now() + PATIENCE)).unwrap().unwrap().message {
        Message::Failed { why } => why,
        other => panic!("{other:?}"),
    };
    let mut odd = door::connect(pid).unwrap();
    odd.say(&Message::Go).unwrap();
    assert_eq!(why(&mut odd), "not a request: Go");
    let mut odd = door::connect(pid).unwrap();
    odd.say(&Message::failed("x")).unwrap();
    assert_eq!(why(&mut odd), r#"not a request: Failed { why: "x" }"#);
    let mut silent: Vec<Wire> = Vec::new();
    let begin = Instant::now();
    // Those before may still be on their way out.
    let mut turned_away = loop {
        let mut wire = door::connect(pid).unwrap();
        match wire.receive(Some(Instant::now() + Duration::from_millis(200))) {
            Ok(Some(received)) if silent.len() >= 4 => break received.message,
            Ok(_) => {}
            Err(_) => silent.push(wire),
        }
    };
    if let Message::Failed { why } = &mut turned_away {
        assert_eq!(why, "too many ask at a time");
    }
    assert_eq!(silent.len(), 4);
    for wire in &mut silent {
        assert_eq!(why(wire), "nothing was said in 5 s");
        assert!(wire.receive(None).unwrap().is_none());
    }
    assert!(begin.elapsed() > Duration::from_secs(4) && begin.elapsed() < Duration::from_secs(15));
    let mut odd = door::connect(pid).unwrap();
    odd.say(&Message::Serving).unwrap();
    assert_eq!(why(&mut odd), "not a request: Serving", "there is room again");
}

#[test]
fn another_user_cannot_have_a_process_replaced() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: only root can become another user");
        return;
    }
    let (_turn, _door) = the_door(|visit| panic!("{visit:?}"));
    // By the file that runs, to which this user may have no path.
    let mut command = Command::new("/proc/self/exe");
    let arguments = ["--exact", "upgrade::tests::roles::asks_its_parent", "--include-ignored", "--nocapture"];
    let output = command.args(arguments).env("OUTRIGGER_TEST_ASK", "yes").uid(65534).gid(65534).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("answer: only root and user 0 may upgrade this process, not user 65534\n"), "{said}");
}

#[test]
fn a_process_that_answers_for_another_one_is_found_out() {
    let mut other = Command::new("sleep").arg("100").spawn().unwrap();
    let name = door::name(other.id()).unwrap();
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&socket, &name).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    let why = ask(other.id(), |_| ()).unwrap_err();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(why, format!("process {} answers in the place of process {}", std::process::id(), other.id()));
}
