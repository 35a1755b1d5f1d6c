//! The policies for the keys of an ejected server, seen by the fleet: a server that hangs, with each of them.

use crate::run::Run;
use crate::scene::{Front, Scene, Times, each, millis, play};
use crate::support::fleet::Sample;

/// Ejection within half a second, and none of what the server holds is lost.
const EJECTING: [&str; 6] = [
    "auto_eject_hosts: true",
    "server_failure_limit: 3",
    "server_retry_timeout: 500",
    "probe_interval: 100ms",
    "probe_timeout: 100ms",
    "slow_start: 200ms",
];

/// Errors that were told when the ejection must be over and done with.
fn late_errors(run: &Run) -> Vec<&Sample> {
    run.errors().filter(|e| e.asked > run.broken + millis(700) && e.asked < run.mending).collect()
}

fn hang(scene: &mut Scene) -> Run {
    let run = scene.run(Times::fault(1300), |s| each(s, |s| s.pause()), |s| each(s, |s| s.resume()));
    run.only_the_victim_suffers_and_says(&["NOT_STORED"]).it_was_noticed().readmitted_within(millis(2000));
    run.nobody_waits_longer_than(millis(800));
    run
}

#[test]
fn fail_fast_tells_at_once_and_keeps_every_value_in_one_place() {
    let lines = [&EJECTING[..], &["on_ejected: fail_fast"]].concat();
    play("SIGSTOP, fail_fast", Front::Nothing, &lines, |scene| {
        let run = hang(scene);
        run.errors_say(&["Connection timed out", "Server is ejected"]);
        let late = late_errors(&run);
        if !late.iter().all(|e| e.error.as_deref().unwrap_or_default().contains("is ejected")) {
            run.doubt(format!("{late:#?}"));
        }
        run.most_errors_asked_after(millis(700), millis(5));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn miss_answers_reads_as_if_nothing_were_there() {
    let lines = [&EJECTING[..], &["on_ejected: miss"]].concat();
    play("SIGSTOP, miss", Front::Nothing, &lines, |scene| {
        let run = hang(scene);
        let late = late_errors(&run);
        if late.is_empty() || late.iter().any(|e| e.read) {
            run.doubt(format!("reads fail, or writes do not: {late:#?}"));
        }
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn a_stand_in_takes_the_keys_for_the_time() {
    let lines = [&EJECTING[..], &["on_ejected: STAND_IN", "gutter_ttl: 10s", "on_readmit: flush"]].concat();
    play("SIGSTOP, another pool", Front::Nothing, &lines, |scene| {
        let run = hang(scene);
        run.at_most(150).last_error_within(millis(1500));
        run
    });
}
