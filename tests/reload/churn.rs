//! Random changes, one after the other, of all kinds and in all ways; broken files and upgrades of the program in between.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outrigger::config;

use crate::changes::{Changes, is_clear};
use crate::files::Way;
use crate::model::{Conf, Ground};
use crate::scene::{Scene, is_long};
use crate::support::eventually;
use crate::support::watch::{descriptors, memory};

/// What a process may keep of times of change: connections that are being closed, a listener that says farewell.
const SPARE_DESCRIPTORS: usize = 8;
/// Files after which there is nothing left that happens for the first time.
const WARM: usize = 30;
/// From one upgrade to the next, in files.
const UPGRADE: usize = 10;
/// What the long form does at the least.
const UPGRADES: usize = 10;
/// From one look at the memory to the next, in files.
const CURVE: usize = 50;
/// What an allocator may keep, in bytes.
const SPARE_MEMORY: u64 = 16 << 20;

#[test]
fn no_request_notices_random_changes() {
    // Some twenty seconds, on a machine with two cores.
    churn(Some(Duration::from_secs(12)), 400);
}

#[test]
#[ignore = "takes about ten minutes"]
fn no_request_notices_a_thousand_random_changes() {
    churn(None, if is_long() { 1000 } else { 100 });
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Usage {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Usage {
    fn of(scene: &Scene) -> Self {
        let pid = scene.proxy.pid();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
        Self { memory: memory(pid), descriptors: descriptors(pid), threads }
    }
}

pub fn seed() -> u64 {
    let given = std::env::var("OUTRIGGER_SEED").ok().map(|text| text.parse().expect("OUTRIGGER_SEED is a number"));
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    println!("OUTRIGGER_SEED={seed}");
    seed
}

/// At most so long, or at least so many changes.
fn churn(limit: Option<Duration>, most: usize) {
    let seed = seed();
    let Some(mut scene) = Scene::set() else { return };
    let ground = Ground { servers: scene.sea.ground.servers.clone(), addresses: scene.sea.ground.addresses.clone() };
    let mut changes = Scene::changes(seed, &ground);
    let mut tally = Tally::default();
    // Until every client has asked every server.
    std::thread::sleep(Duration::from_secs(1));
    let before = quiet(&scene, None);
    let (begun, mut warm) = (Instant::now(), None);
    while tally.changes < most && limit.is_none_or(|limit| begun.elapsed() < limit) {
        round(&mut scene, &mut changes, &mut tally);
        if tally.files / UPGRADE > tally.upgrades {
            an_upgrade(&mut scene, &mut changes, &mut tally);
        }
        if tally.files >= WARM {
            warm.get_or_insert_with(|| Usage::of(&scene));
        }
        if tally.files / CURVE >= tally.memory.len() {
            tally.memory.push(memory(scene.proxy.pid()) >> 20);
        }
    }
    scene.return_to_the_first();
    let after = quiet(&scene, Some(before));
    // A moment under the first configuration again: whatever was broken by a change would be seen.
    std::thread::sleep(Duration::from_millis(300));
    nothing_failed(&scene);
    scene.land();
    let (reads, certain) = (scene.sea.reads.load(SeqCst), scene.sea.certain.load(SeqCst));
    println!(
        "{} changes in {} files, {} broken files, {} upgrades, {:.1} s; {} replies, {certain} of {reads} reads certain, {} visits; \
         in force after {:?}, at most {:?}; {before:?} -> {warm:?} -> {after:?}",
        tally.changes,
        tally.files,
        tally.broken,
        tally.upgrades,
        begun.elapsed().as_secs_f64(),
        scene.sea.replies.load(SeqCst),
        scene.sea.visits.load(SeqCst),
        tally.took / tally.files.max(1) as u32,
        tally.longest,
    );
    println!("resident MiB every {CURVE} files: {:?}\n{:#?}", tally.memory, tally.kinds);
    assert!(limit.is_some() || !is_long() || tally.upgrades >= UPGRADES, "{} upgrades", tally.upgrades);
    // Otherwise the checks would be idle.
    assert!(certain * 100 > reads * 80, "{certain} of {reads} reads were certain");
    assert!(scene.sea.visits.load(SeqCst) > 100);
    let warm = warm.unwrap_or(before).memory.max(before.memory);
    assert!(after.memory <= warm + SPARE_MEMORY, "{before:?} -> {warm:?} -> {after:?}");
    scene.proxy.terminate();
}

/// No pool has refused or lost a request, as far as the running process knows.
fn nothing_failed(scene: &Scene) {
    let stats = scene.proxy.stats();
    for pool in scene.conf.pools.iter().map(|pool| &pool.name) {
        for count in ["forward_error", "client_err"] {
            assert_eq!(stats[pool][count], 0, "{pool}: {count}: {}", stats[pool]);
        }
    }
}

/// With those who stay only.
fn quiet(scene: &Scene, before: Option<Usage>) -> Usage {
    scene.calm();
    let usage = eventually("descriptors and threads to be as many as before", || {
        let now = Usage::of(scene);
        let few =
            |before: Usage| now.descriptors <= before.descriptors + SPARE_DESCRIPTORS && now.threads <= before.threads;
        before.is_none_or(few).then_some(now)
    });
    scene.go_on();
    usage
}

/// What was done.
#[derive(Default)]
struct Tally {
    changes: usize,
    files: usize,
    broken: usize,
    upgrades: usize,
    /// From the writing of a file until it was in force.
    took: Duration,
    longest: Duration,
    kinds: BTreeMap<String, usize>,
    /// Resident, in MiB, every so many files.
    memory: Vec<u64>,
}

fn round(scene: &mut Scene, changes: &mut Changes<'_>, tally: &mut Tally) {
    match changes.random.below(20) {
        0..=2 => {
            a_broken_file(scene, changes);
            tally.broken += 1;
        }
        3 => several_files_at_once(scene, changes, tally),
        _ => one_file(scene, changes, tally),
    }
}

impl Tally {
    fn count(&mut self, what: &[String]) {
        self.files += 1;
        self.changes += what.len();
        for change in what {
            // Without names and numbers.
            let kind: String = change
                .split(' ')
                .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
                .collect::<Vec<_>>()
                .join(" ");
            *self.kinds.entry(kind).or_default() += 1;
        }
    }
}

fn one_file(scene: &mut Scene, changes: &mut Changes<'_>, tally: &mut Tally) {
    let (conf, what) = scene.next(changes, 3);
    let (way, asked) = (changes.random.one_of(&Way::ALL), changes.random.below(2) == 0);
    note(scene, way, &what);
    let generation = scene.proxy.stats()["config"]["generation"].as_u64().unwrap();
    scene.write(conf, way);
    if asked {
        scene.ask_to_reload();
    }
    let took = scene.settle();
    assert_eq!(scene.proxy.stats()["config"]["generation"], generation + 1, "{what:?}");
    tally.count(&what);
    tally.took += took;
    tally.longest = tally.longest.max(took);
}

/// The program takes its own place, by another configuration than the one in force: the process before may have had the time to
/// go by it, or not.
fn an_upgrade(scene: &mut Scene, changes: &mut Changes<'_>, tally: &mut Tally) {
    // Who has sent something to a pool that is not there any more, and that nobody has read, is not answered.
    let (conf, what) = loop {
        let (conf, what) = scene.next(changes, 2);
        if scene.conf.pools.iter().all(|pool| conf.pool(pool.identity).is_some()) {
            break (conf, what);
        }
    };
    nothing_failed(scene);
    println!("     an upgrade:");
    note(scene, Way::Rename, &what);
    scene.write(conf, Way::Rename);
    scene.proxy.upgrade();
    scene.proxy.expect_end_of_replaced();
    scene.settle();
    tally.count(&what);
    tally.upgrades += 1;
}

/// Before each is in force the next is written; which of them are is open, but for the last one.
fn several_files_at_once(scene: &mut Scene, changes: &mut Changes<'_>, tally: &mut Tally) {
    let mut written = vec![scene.conf.clone()];
    for _ in 0..3 {
        let (conf, what) = scene.next(changes, 1);
        // Each may come after each of those before it.
        if !written.iter().all(|before| is_clear(before, &conf)) {
            continue;
        }
        let way = changes.random.one_of(&Way::ALL);
        note(scene, way, &what);
        scene.write(conf, way);
        if changes.random.below(2) == 0 {
            scene.ask_to_reload();
        }
        written.push(scene.conf.clone());
        tally.count(&what);
        std::thread::sleep(Duration::from_millis(changes.random.below(120) as u64));
    }
    scene.settle();
}

/// For the log of a test that fails.
fn note(scene: &Scene, way: Way, what: &[String]) {
    println!("{:>4} {way:?}: {}", scene.sea.timeline.newest() + 1, what.join(", "));
}

/// Changes nothing, and says why.
fn a_broken_file(scene: &mut Scene, changes: &mut Changes<'_>) {
    // What else is in it is valid, and another configuration than the one in force.
    let (mut conf, _) = scene.next(changes, 3);
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = occupied.local_addr().unwrap();
    scene.occupied.push(occupied);
    // It cannot be removed twice.
    let kind = changes.random.below(if scene.file.path().exists() { 5 } else { 4 });
    let text = broken_text(scene, &mut conf, changes, kind, taken);
    println!("     broken file of kind {kind}");
    let before = scene.proxy.stats()["config"].clone();
    let errors = || scene.proxy.log().lines().filter(|line| line.contains("ERROR ")).count();
    let known = errors();
    match text {
        Some(text) => scene.file.write(&text, changes.random.one_of(&Way::ALL)),
        None => scene.file.remove(),
    }
    if changes.random.below(2) == 0 {
        scene.ask_to_reload();
    }
    let after = eventually("the broken file to be noticed", || {
        let now = scene.proxy.stats()["config"].clone();
        (now["last_reload_successful"] == false && now["failed_reloads"] != before["failed_reloads"]).then_some(now)
    });
    for same in ["generation", "hash", "since", "reloads"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_ne!(after["last_error"], "");
    eventually("an error in the log", || (errors() > known).then_some(()));
    if changes.random.below(3) == 0 {
        // What is in force is back in the file.
        let text = scene.text(&scene.conf);
        scene.file.write(&text, Way::Rename);
        eventually("the file to be well again", || {
            let now = scene.proxy.stats()["config"].clone();
            (now["last_reload_successful"] == true).then(|| assert_eq!(now["generation"], before["generation"]))
        });
    }
}

fn broken_text(
    scene: &Scene,
    conf: &mut Conf,
    changes: &mut Changes<'_>,
    kind: usize,
    taken: SocketAddr,
) -> Option<String> {
    let text = scene.text(conf);
    Some(match kind {
        0 => text + "\n  : [\n",
        1 => text.replacen("    protocol:", "    no_such_key: 1\n    protocol:", 1),
        2 => {
            let listen = text.lines().find(|line| line.contains("listen: \"127")).expect("a pool on a port");
            text.replacen(listen, &format!("    listen: \"{taken}\""), 1)
        }
        3 => loop {
            let half = &text[..changes.random.below(text.len())];
            // What is left of it may be a whole configuration.
            if config::parse("test", half).is_err() {
                return Some(half.to_owned());
            }
        },
        _ => return None,
    })
}
