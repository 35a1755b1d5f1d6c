//! Servers that say what they should not.

use crate::scene::{Front, Side, Times, millis, pass, play};
use crate::support::Mood;

/// The mood of the Redis and of the memcached.
fn each(sides: &mut [Side; 2], moods: [Mood; 2]) {
    sides.iter().zip(moods).for_each(|(side, mood)| side.is(mood));
}

const WELL: [Mood; 2] = [Mood::Well; 2];

/// In this mood for a time; what the proxy says begins with one of `said`, what the servers say is one of `own`.
fn in_a_mood(name: &str, moods: [Mood; 2], said: &[&str], own: &[&str]) {
    play(name, Front::Moody, &[], |scene| {
        let run = scene.run(Times::fault(700), |s| each(s, moods), |s| each(s, WELL));
        // A connection that is silent since before the repair is replaced after two time-outs.
        run.only_the_victim_suffers_and_says(own).well_again_within(millis(1000));
        run.errors_say(&[said, own].concat());
        for (told, _) in run.told.iter().zip(moods).filter(|(_, mood)| *mood != Mood::Well) {
            assert!(!told.seen.errors.is_empty(), "{}: no errors", told.pool);
        }
        run
    });
}

/// The reply that is none, and what is behind it on the connection.
const BROKEN: [&str; 4] = ["Invalid reply", "Connection closed", "Connection reset", "Broken pipe"];

#[test]
fn garbage_is_never_passed_on() {
    in_a_mood("garbage for a reply", [Mood::Says("HTTP/1.1 400 Bad Request\r\n\r\n"); 2], &BROKEN, &[]);
}

/// Redis does not say what its replies are about: one too many is seen only while nothing is in flight
/// (`tests/faults.rs`). memcached names the keys of values.
#[test]
fn a_reply_too_many_is_nobodys() {
    let stray = Mood::Adds("VALUE stray 0 5\r\nstray\r\nEND\r\n");
    in_a_mood("a reply too many (memcached)", [Mood::Well, stray], &BROKEN, &[]);
}

#[test]
fn a_value_of_another_key_is_not_passed_on() {
    in_a_mood("values under other keys (memcached)", [Mood::Well, Mood::Mislabels], &BROKEN, &[]);
}

#[test]
fn a_server_that_cannot_serve_now_is_quoted() {
    const REDIS: [&str; 3] = [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    ];
    const MEMCACHED: &str = "SERVER_ERROR out of memory storing object\r\n";
    play("-LOADING, -MASTERDOWN, -OOM, SERVER_ERROR", Front::Moody, &[], |scene| {
        let fault = |sides: &mut [Side; 2]| {
            for redis in REDIS {
                each(sides, [Mood::Says(redis), Mood::Says(MEMCACHED)]);
                pass(millis(250));
            }
        };
        let run = scene.run(Times::fault(0), fault, |s| each(s, WELL));
        let own: Vec<&str> = REDIS.iter().map(|text| text.trim_start_matches('-').trim_end()).collect();
        let own = [&own[..], &[MEMCACHED.trim_end()]].concat();
        run.only_the_victim_suffers_and_says(&own).it_was_noticed().errors_say(&own).well_again_within(millis(300));
        for text in own {
            assert!(run.errors().any(|e| e.error.as_deref() == Some(text)), "nobody was told {text:?}");
        }
        run
    });
}

#[test]
fn a_server_that_accepts_and_never_answers_costs_a_time_out() {
    in_a_mood("accepts, never answers", [Mood::Mute; 2], &["Connection timed out"], &[]);
}
