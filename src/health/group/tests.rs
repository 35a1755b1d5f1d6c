//! Every edge of the state machine, by the clock of the test.

use std::time::Duration;

use super::*;

mod invariants;

const MS: Duration = Duration::from_millis(1);

/// twemproxy's usual numbers, with all of it allowed to go.
fn policy() -> Policy {
    Policy {
        failure_limit: 2,
        retry_timeout: 1000 * MS,
        max_ejected_percent: 100,
        probe_successes: 2,
        quarantine: Duration::ZERO,
        flush: false,
        slow_start: 900 * MS,
    }
}

/// A group and its clock.
struct Walk {
    group: Group,
    start: Instant,
    now: Instant,
}

impl Walk {
    fn new(policy: Policy, servers: usize) -> Self {
        let now = Instant::now();
        Self { group: Group::new(policy, servers, 7), start: now, now }
    }

    fn at(&mut self, ms: u32) -> &mut Self {
        self.now = self.start + MS * ms;
        self
    }

    /// A request that was queued just now is refused at once.
    fn fails(&mut self, server: usize) -> Option<Transition> {
        self.now += MS;
        self.group.failed(server, self.now, self.now, "Connection refused")
    }

    fn good_probe(&mut self, server: usize) -> Option<Transition> {
        self.group.probed(server, Ok(()), self.now)
    }

    fn bad_probe(&mut self, server: usize) -> Option<Transition> {
        self.group.probed(server, Err("LOADING"), self.now)
    }

    /// Ejects it by traffic; until when.
    fn ejected(&mut self, server: usize) -> Instant {
        loop {
            if let Some(Transition::Ejected { until, .. }) = self.fails(server) {
                return until;
            }
        }
    }

    /// Brings an ejected one back with probes, at the end of its time.
    fn returned(&mut self, server: usize) -> Transition {
        self.now = self.group.report(server).until.unwrap();
        loop {
            if let Some(transition) = self.good_probe(server) {
                return transition;
            }
        }
    }

    fn standing(&self) -> Standing {
        self.group.standing(0)
    }
}

/// In milliseconds since the start of the walk.
fn ms(walk: &Walk, at: Instant) -> u128 {
    at.duration_since(walk.start).as_millis()
}

#[test]
fn ejects_at_the_limit_and_not_before() {
    let mut walk = Walk::new(policy(), 3);
    assert_eq!(walk.at(10).fails(0), None);
    assert!(walk.group.is_suspect(0));
    let Some(Transition::Ejected { why, since, until }) = walk.at(20).fails(0) else { panic!("not ejected") };
    assert_eq!((why.as_str(), ms(&walk, since)), ("Connection refused", 11));
    assert!((1021..=1221).contains(&ms(&walk, until)), "{}", ms(&walk, until));
    assert_eq!(walk.standing(), Standing::Ejected);
    let report = walk.group.report(0);
    assert_eq!((report.since, report.until, report.ejections, report.failures), (Some(walk.now), Some(until), 1, 0));
    assert_eq!((walk.group.ejected(), walk.group.ejections(), walk.group.is_suspect(0)), (1, 1, false));
}

#[test]
fn a_good_reply_starts_the_count_anew() {
    let mut walk = Walk::new(policy(), 3);
    for _ in 0..10 {
        assert_eq!(walk.fails(0), None);
        walk.group.answered(0);
    }
    assert_eq!((walk.standing(), walk.group.report(0).failures), (Standing::Live, 0));
}

#[test]
fn what_began_before_the_last_failure_was_noticed_is_the_same_failure() {
    let mut walk = Walk::new(policy(), 1);
    let begun = walk.start;
    walk.at(400);
    // A hundred connections are reset at once, and a hundred requests that were queued before time out later.
    for later in 0..100 {
        let now = walk.now + MS * later;
        assert_eq!(walk.group.failed(0, begun + MS * later, now, "reset"), None);
    }
    assert_eq!(walk.group.report(0).failures, 1);
    assert!(walk.group.failed(0, walk.now + MS, walk.now + 2 * MS, "refused").is_some());
}

#[test]
fn other_servers_do_not_matter() {
    let mut walk = Walk::new(policy(), 3);
    assert_eq!([walk.fails(0), walk.fails(1), walk.fails(2)], [None, None, None]);
    walk.ejected(1);
    assert_eq!([0, 1, 2].map(|s| walk.group.standing(s).is_live()), [true, false, true]);
}

#[test]
fn bad_probes_eject_a_server_that_nobody_asks() {
    let mut walk = Walk::new(policy(), 3);
    assert_eq!(walk.at(10).bad_probe(0), None);
    assert_eq!(walk.at(20).good_probe(0), None);
    assert_eq!(walk.at(30).bad_probe(0), None);
    let Some(Transition::Ejected { why, since, .. }) = walk.at(40).bad_probe(0) else { panic!("not ejected") };
    assert_eq!((why.as_str(), ms(&walk, since)), ("LOADING", 30));
}

#[test]
fn the_rows_of_traffic_and_probes_are_counted_apart() {
    let mut walk = Walk::new(policy(), 3);
    // One failure each, in turn: neither row is two long.
    assert_eq!((walk.fails(0), walk.bad_probe(0)), (None, None));
    // A good probe does not excuse traffic that fails.
    assert_eq!(walk.good_probe(0), None);
    assert!(walk.fails(0).is_some());
    // Nor do good replies excuse bad probes.
    assert_eq!(walk.bad_probe(1), None);
    walk.group.answered(1);
    assert!(walk.bad_probe(1).is_some());
}

#[test]
fn an_ejected_server_returns_after_its_time_and_good_probes_in_a_row() {
    let mut walk = Walk::new(policy(), 3);
    let until = walk.ejected(0);
    let until = ms(&walk, until) as u32;
    // Good probes, too early.
    assert_eq!(
        [walk.at(500).good_probe(0), walk.at(600).good_probe(0), walk.at(until).good_probe(0)],
        [const { None }; 3]
    );
    // In time, but the row is too short.
    assert_eq!(walk.at(until + 1).bad_probe(0), None);
    assert_eq!(walk.at(until + 100).good_probe(0), None);
    assert_eq!(walk.at(until + 150).bad_probe(0), None);
    assert_eq!(walk.at(until + 200).good_probe(0), None);
    assert_eq!(walk.standing(), Standing::Ejected);
    let Some(Transition::Returning { share: 10, since, until: full }) = walk.at(until + 300).good_probe(0) else {
        panic!("not back")
    };
    assert_eq!((ms(&walk, since), ms(&walk, full)), (2, u128::from(until) + 1200));
    assert_eq!(walk.standing(), Standing::Returning(10));
}

#[test]
fn nothing_returns_by_time_alone() {
    let mut walk = Walk::new(policy(), 3);
    walk.ejected(0);
    assert_eq!(walk.group.next_tick(), None);
    assert_eq!(walk.group.tick(walk.start + MS * 1_000_000), []);
    assert_eq!(walk.standing(), Standing::Ejected);
}

#[test]
fn failures_of_an_ejected_server_change_nothing() {
    let mut walk = Walk::new(policy(), 3);
    let until = walk.ejected(0);
    assert!((0..10).all(|_| walk.fails(0).is_none()));
    walk.group.answered(0);
    assert_eq!(walk.group.report(0).until, Some(until));
    assert_eq!((walk.standing(), walk.group.ejections()), (Standing::Ejected, 1));
}

#[test]
fn the_share_of_a_returning_server_grows_step_by_step() {
    let mut walk = Walk::new(policy(), 3);
    walk.ejected(0);
    walk.returned(0);
    let back = walk.now;
    let mut shares = vec![];
    while let Some(next) = walk.group.next_tick() {
        assert_eq!(walk.group.tick(next - MS), [], "not before its time");
        let steps = walk.group.tick(next);
        assert_eq!(steps.len(), 1);
        shares.push((next - back).as_millis());
        match &steps[0] {
            (0, Transition::Grown { share }) => assert_eq!(walk.standing(), Standing::Returning(*share)),
            (0, Transition::Readmitted { .. }) => assert_eq!(walk.standing(), Standing::Live),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shares, [100, 200, 300, 400, 500, 600, 700, 800, 900]);
    assert_eq!(walk.standing(), Standing::Live);
}

#[test]
fn a_late_tick_skips_steps() {
    let mut walk = Walk::new(policy(), 3);
    walk.ejected(0);
    walk.returned(0);
    assert_eq!(walk.group.tick(walk.now + 450 * MS), [(0, Transition::Grown { share: 50 })]);
    let [(0, Transition::Readmitted { .. })] = walk.group.tick(walk.now + 5000 * MS)[..] else { panic!("not live") };
}

#[test]
fn one_failure_ejects_a_returning_server_again() {
    for by_probe in [false, true] {
        let mut walk = Walk::new(policy(), 3);
        walk.ejected(0);
        walk.returned(0);
        // What was begun before it was back is no evidence.
        assert_eq!(walk.group.failed(0, walk.now - MS, walk.now + MS, "late"), None);
        walk.now += MS;
        let again = if by_probe { walk.bad_probe(0) } else { walk.fails(0) };
        assert!(matches!(again, Some(Transition::Ejected { .. })), "{again:?}");
        assert_eq!((walk.group.next_tick(), walk.group.ejections()), (None, 2));
    }
}

#[test]
fn without_slow_start_it_is_live_at_once() {
    let mut walk = Walk::new(Policy { slow_start: Duration::ZERO, ..policy() }, 3);
    walk.ejected(0);
    assert!(matches!(walk.returned(0), Transition::Readmitted { .. }));
    assert_eq!((walk.standing(), walk.group.next_tick()), (Standing::Live, None));
    assert_eq!(walk.fails(0), None, "and has its whole limit again");
}

#[test]
fn one_that_flaps_stays_away_longer_each_time() {
    let mut walk = Walk::new(Policy { slow_start: Duration::ZERO, ..policy() }, 3);
    let mut expected = 1000.0;
    for _ in 0..20 {
        let until = walk.ejected(0);
        let sentence = (until - walk.now).as_millis() as f64;
        assert!((expected..=expected * 1.2 + 1.0).contains(&sentence), "{sentence} beside {expected}");
        expected = f64::min(expected * 1.5, 600_000.0);
        walk.returned(0);
    }
    // A long time without trouble, and all is forgotten.
    walk.now += Duration::from_secs(24 * 3600);
    let until = walk.ejected(0);
    assert!((until - walk.now).as_millis() <= 1200);
}

#[test]
fn a_retry_timeout_beyond_the_longest_ejection_stands() {
    let mut walk = Walk::new(Policy { retry_timeout: Duration::from_secs(3600), ..policy() }, 3);
    for _ in 0..3 {
        let until = walk.ejected(0);
        assert!((3600..=4320).contains(&(until - walk.now).as_secs()));
        walk.returned(0);
    }
}

#[test]
fn the_guard_keeps_what_fails_after_half_are_gone_and_says_so_once() {
    let mut walk = Walk::new(Policy { max_ejected_percent: 50, ..policy() }, 3);
    assert_eq!(walk.group.most_ejected(), 1);
    walk.ejected(0);
    assert_eq!(walk.fails(1), None);
    let since = walk.now;
    let Some(Transition::Kept { why, since: said }) = walk.fails(1) else { panic!("nothing said") };
    assert_eq!((why.as_str(), said), ("Connection refused", since));
    assert!((0..100).all(|_| walk.fails(1).is_none()));
    assert_eq!([0, 1, 2].map(|s| walk.group.standing(s).is_live()), [false, true, true]);
    // The first returns: now there is room for the second, at its next failure.
    walk.returned(0);
    assert!(matches!(walk.fails(1), Some(Transition::Ejected { .. })));
    // And the first, which is only returning, is kept. This is news.
    assert!(matches!(walk.fails(0), Some(Transition::Kept { .. })));
}

#[test]
fn the_guard_says_it_again_of_a_new_row_of_failures_but_not_of_every_one() {
    let mut walk = Walk::new(Policy { max_ejected_percent: 0, ..policy() }, 3);
    let mut said = vec![];
    for _ in 0..1000 {
        walk.now += MS;
        said.extend(walk.fails(0).map(|_| ms(&walk, walk.now)));
        said.extend(walk.fails(0).map(|_| ms(&walk, walk.now)));
        walk.group.answered(0);
    }
    assert_eq!(said, [3, 1005, 2007], "at most once in a retry timeout");
    assert_eq!((walk.group.ejections(), walk.standing()), (0, Standing::Live));
}

#[test]
fn the_guard_says_it_again_when_others_are_ejected() {
    let mut walk = Walk::new(Policy { max_ejected_percent: 50, ..policy() }, 3);
    walk.ejected(0);
    assert_eq!([walk.fails(1), walk.fails(2)], [const { None }; 2]);
    assert!(matches!(walk.fails(1), Some(Transition::Kept { .. })));
    assert_eq!(walk.fails(1), None);
    walk.returned(0);
    walk.ejected(2);
    assert!(matches!(walk.fails(1), Some(Transition::Kept { .. })));
    assert_eq!(walk.fails(1), None);
}

#[test]
fn the_only_server_of_a_pool_stays() {
    let mut walk = Walk::new(Policy { max_ejected_percent: 50, ..policy() }, 1);
    assert!((0..100).filter_map(|_| walk.fails(0)).all(|t| matches!(t, Transition::Kept { .. })));
    assert_eq!(walk.standing(), Standing::Live);
}

#[test]
fn a_quarantined_server_must_have_been_healthy_for_long_enough() {
    let mut walk = Walk::new(Policy { quarantine: 5000 * MS, ..policy() }, 3);
    walk.ejected(0);
    for at in [2000, 3000, 4000, 5000, 6000] {
        assert_eq!(walk.at(at).good_probe(0), None);
    }
    assert_eq!(walk.at(6500).bad_probe(0), None, "which starts it anew");
    for at in [7000, 8000, 9000, 10_000, 11_000, 11_999] {
        assert_eq!(walk.at(at).good_probe(0), None);
    }
    assert!(matches!(walk.at(12_000).good_probe(0), Some(Transition::Returning { .. })));
}

#[test]
fn a_server_is_emptied_last_and_then_returns() {
    let mut walk = Walk::new(Policy { flush: true, ..policy() }, 3);
    walk.ejected(0);
    assert_eq!([walk.at(500).good_probe(0), walk.at(900).good_probe(0)], [const { None }; 2]);
    assert!(!walk.group.wants_flush(0), "not in time yet");
    assert_eq!(walk.group.flushed(0, Ok(()), walk.now), None, "and so it changes nothing");
    assert_eq!(walk.at(2000).good_probe(0), None);
    assert!(walk.group.wants_flush(0));
    // It dies before it is emptied, and comes back with who knows what.
    assert_eq!(walk.at(2100).bad_probe(0), None);
    assert!(!walk.group.wants_flush(0));
    assert_eq!(walk.group.flushed(0, Ok(()), walk.now), None);
    assert_eq!([walk.at(2200).good_probe(0), walk.at(2300).good_probe(0)], [const { None }; 2]);
    assert!(walk.group.wants_flush(0));
    assert!(matches!(walk.group.flushed(0, Ok(()), walk.now), Some(Transition::Returning { .. })));
    assert!(!walk.group.wants_flush(0));
}

#[test]
fn a_server_that_cannot_be_emptied_stays_away_and_it_is_said_once() {
    let mut walk = Walk::new(Policy { flush: true, ..policy() }, 3);
    walk.ejected(0);
    let mut said = vec![];
    for at in [2000, 3000, 4000, 5000] {
        assert_eq!(walk.at(at).good_probe(0), None);
        if walk.group.wants_flush(0) {
            said.extend(walk.group.flushed(0, Err("NOPERM"), walk.now));
            assert!(!walk.group.wants_flush(0), "not before the next good probe");
        }
    }
    let [Transition::NotFlushed { why, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!((why.as_str(), walk.standing()), ("NOPERM", Standing::Ejected));
}

#[test]
fn limits_of_zero_count_as_one() {
    let mut walk = Walk::new(Policy { failure_limit: 0, probe_successes: 0, ..policy() }, 3);
    assert!(walk.fails(0).is_some());
    walk.now = walk.group.report(0).until.unwrap();
    assert!(walk.good_probe(0).is_some());
}

#[test]
fn an_order_ejects_whatever_the_guard_says_and_for_as_long_as_it_says() {
    let mut walk = Walk::new(Policy { max_ejected_percent: 0, ..policy() }, 2);
    for (server, time) in [(0, Some(5000 * MS)), (1, None)] {
        let now = walk.now;
        let Transition::Ejected { why, until, .. } = walk.group.send_away(server, now, time, "by hand") else {
            panic!("not ejected")
        };
        assert_eq!((&why[..], until), ("by hand", now + time.unwrap_or(1000 * MS)));
        assert!(walk.group.report(server).by_order);
    }
    assert_eq!((walk.group.ejected(), walk.group.ejections()), (2, 2));
    // It comes back as any other does.
    assert_eq!(walk.at(4999).good_probe(0), None);
    assert!(matches!(walk.at(5000).good_probe(0), Some(Transition::Returning { .. })));
    // It says nothing about the server: its next ejection is not longer for it.
    let mut walk = Walk::new(policy(), 1);
    let now = walk.now;
    walk.group.send_away(0, now, Some(MS), "by hand");
    walk.returned(0);
    let until = walk.ejected(0);
    assert!(until - walk.now <= 1200 * MS, "{:?}", until - walk.now);
}

#[test]
fn a_second_order_sets_the_time_anew_and_is_no_second_ejection() {
    let mut walk = Walk::new(policy(), 1);
    walk.ejected(0);
    let now = walk.now;
    walk.group.send_away(0, now, Some(9000 * MS), "by hand");
    let report = walk.group.report(0);
    assert_eq!((report.until, report.ejections, &report.why[..]), (Some(now + 9000 * MS), 1, "by hand"));
    assert!(!report.by_order && report.wanted, "it had failed before");
    // Shorter settings are no order.
    let mut next = Group::new(Policy { retry_timeout: MS, ..policy() }, 1, 7);
    next.take_over(&walk.group, &[Some(0)]);
    assert_eq!(next.report(0).until, Some(now + 9000 * MS));
}

#[test]
fn an_order_ends_an_ejection_at_once_but_for_the_flush() {
    let quarantined = Policy { quarantine: 60_000 * MS, ..policy() };
    let mut walk = Walk::new(quarantined, 1);
    assert_eq!(walk.group.call_back(0, walk.now), None, "it is not ejected");
    walk.ejected(0);
    assert!(matches!(walk.group.call_back(0, walk.now), Some(Transition::Returning { share: 10, .. })));
    assert_eq!(walk.group.call_back(0, walk.now), None, "it returns already");

    let mut walk = Walk::new(Policy { flush: true, ..policy() }, 1);
    walk.ejected(0);
    assert_eq!(walk.group.call_back(0, walk.now), None);
    assert!(walk.group.wants_flush(0) && !walk.standing().is_live());
    let back = walk.group.flushed(0, Ok(()), walk.now);
    assert!(matches!(back, Some(Transition::Returning { .. })), "{back:?}");
}
