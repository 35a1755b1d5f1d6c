//! Servers that die, hang, come and go.

use crate::scene::{Front, Side, Times, each, flap, millis, play};
use crate::support::Server;

#[test]
fn without_a_fault_there_is_no_error() {
    play("none", Front::Nothing, &[], |scene| {
        let run = scene.run(Times::fault(300), |_| {}, |_| {});
        run.only_the_victim_suffers().nobody_is_told_an_error();
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn a_killed_server_costs_its_own_keys_until_it_is_back() {
    play("kill -9, restarted", Front::Nothing, &[], |scene| {
        let run = scene.run(Times::fault(800), |s| each(s, Server::kill), |s| each(s, Server::restart));
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(500));
        run.errors_say(&["Connection refused", "Connection closed", "Connection reset", "Broken pipe"]);
        // What cannot be served is refused at once.
        run.nobody_waits_longer_than(millis(300));
        run
    });
}

#[test]
fn a_stopped_server_costs_its_own_keys_a_time_out() {
    play("SIGSTOP, SIGCONT", Front::Nothing, &[], |scene| {
        let run = scene.run(Times::fault(900), |s| each(s, |s| s.pause()), |s| each(s, |s| s.resume()));
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(600));
        run.errors_say(&["Connection timed out"]);
        run.nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
#[ignore = "long form: make chaos"]
fn a_server_that_comes_and_goes_costs_only_the_time_it_is_away() {
    play("flapping x 6", Front::Nothing, &[], |scene| {
        let run = scene.run(Times::fault(800), flap, |_| {});
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(500));
        run.nobody_waits_longer_than(millis(800));
        run
    });
}

#[test]
fn with_all_servers_down_everybody_is_told_at_once() {
    play("all servers down", Front::Nothing, &[], |scene| {
        let all = |sides: &mut [Side; 2], what: fn(&mut Server)| {
            sides.iter_mut().flat_map(|side| &mut side.servers).for_each(what);
        };
        let run = scene.run(Times::fault(800), |s| all(s, Server::kill), |s| all(s, Server::restart));
        run.nothing_is_swapped_or_lost().it_was_noticed().well_again_within(millis(500));
        run.errors_say(&["Connection refused", "Connection closed", "Connection reset", "Broken pipe"]);
        run.most_errors_come_within(millis(5));
        run
    });
}
