//! What a relay in front of s0 does to connections: delays, half replies, resets.

use crate::scene::{Front, Side, Times, millis, play};
use crate::support::{Bound, Trouble};

fn each(sides: &mut [Side; 2], bound: Bound, trouble: Trouble) {
    sides.iter().for_each(|side| side.trouble(bound, trouble));
}

#[test]
fn a_server_that_is_slow_but_in_time_costs_nothing_but_time() {
    play("replies 150 ms late", Front::Relay, &[], |scene| {
        let run = scene.run(
            Times::fault(800),
            |s| each(s, Bound::ForProxy, Trouble::Delay(millis(150))),
            |s| each(s, Bound::ForProxy, Trouble::None),
        );
        run.only_the_victim_suffers().nobody_is_told_an_error();
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn replies_that_come_after_the_time_out_are_nobody_elses() {
    play("replies 410 ms late", Front::Relay, &[], |scene| {
        // Late by less than the machine may be, so that some are in time.
        let run = scene.run(
            Times::fault(900),
            |s| each(s, Bound::ForProxy, Trouble::Delay(millis(410))),
            |s| each(s, Bound::ForProxy, Trouble::None),
        );
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(1000));
        run.errors_say(&["Connection timed out"]);
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn a_server_that_takes_no_bytes_costs_its_own_keys_a_time_out() {
    play("requests are not read", Front::Relay, &[], |scene| {
        let run = scene.run(
            Times::fault(1000),
            |s| each(s, Bound::ForServer, Trouble::Deaf),
            |s| each(s, Bound::ForServer, Trouble::None),
        );
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(1000));
        run.errors_say(&["Connection timed out"]).nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn half_a_reply_and_then_silence_is_never_passed_on() {
    play("half a reply, then silence", Front::Relay, &[], |scene| {
        let run = scene.run(
            Times::fault(1000),
            |s| each(s, Bound::ForProxy, Trouble::Silence(1003)),
            |s| each(s, Bound::ForProxy, Trouble::None),
        );
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(1000));
        run.errors_say(&["Connection timed out"]).nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn a_reset_in_the_middle_of_a_reply_costs_writes_their_answer() {
    play("reset in mid-reply", Front::Relay, &[], |scene| {
        let run = scene.run(
            Times::fault(800),
            |s| each(s, Bound::ForProxy, Trouble::Reset(1003)),
            |s| each(s, Bound::ForProxy, Trouble::None),
        );
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(500));
        run.errors_say(&["Connection reset", "Connection closed", "Broken pipe"]);
        scene.increments_add_up(&run);
        run
    });
}
