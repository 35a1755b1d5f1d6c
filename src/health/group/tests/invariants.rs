//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

/// What may happen to a group.
#[derive(Debug, Clone)]
enum Step {
    Fails { server: usize, begun_ago: u32 },
    Answered(usize),
    Probed { server: usize, good: bool },
    Flushed { server: usize, good: bool },
    Tick,
}

fn steps(servers: usize) -> impl Strategy<Value = Vec<(u32, Step)>> {
    let one = 0..servers;
    let step = prop_oneof![
        4 => (one.clone(), 0..300u32).prop_map(|(server, begun_ago)| Step::Fails { server, begun_ago }),
        1 => one.clone().prop_map(Step::Answered),
        8 => (one.clone(), prop::bool::weighted(0.8)).prop_map(|(server, good)| Step::Probed { server, good }),
        2 => (one, any::<bool>()).prop_map(|(server, good)| Step::Flushed { server, good }),
        2 => Just(Step::Tick),
    ];
    proptest::collection::vec((0..500u32, step), 1..300)
}

fn policies() -> impl Strategy<Value = Policy> {
    let numbers = (1..4u32, 0..=100u8, 1..4u32);
    let times = (0..3000u32, prop_oneof![Just(0), 1..3000u32], prop_oneof![Just(0), 1..3000u32]);
    (numbers, times, any::<bool>()).prop_map(|(numbers, times, flush)| Policy {
        failure_limit: numbers.0,
        max_ejected_percent: numbers.1,
        probe_successes: numbers.2,
        retry_timeout: MS * times.0,
        quarantine: MS * times.1,
        slow_start: MS * times.2,
        flush,
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(policy in policies(), steps in steps(5), seed in any::<u64>()) {
        let mut now = Instant::now() + Duration::from_secs(10);
        let mut group = Group::new(policy.clone(), 5, seed);
        // The good probes in a row of each server since it was ejected, and when the first of them was.
        let mut good = [(0, now); 5];
        let mut ejections = 0;
        for (pause, step) in steps {
            now += MS * pause;
            let before: Vec<_> = (0..5).map(|s| group.report(s)).collect();
            let transitions = match step {
                Step::Fails { server, begun_ago } => {
                    group.failed(server, now - MS * begun_ago, now, "x").map(|t| (server, t)).into_iter().collect()
                }
                Step::Answered(server) => {
                    group.answered(server);
                    prop_assert!(!group.is_suspect(server));
                    vec![]
                }
                Step::Probed { server, good: well } => {
                    good[server] = match (well, good[server]) {
                        (true, (0, _)) => (1, now),
                        (true, (n, since)) => (n + 1, since),
                        (false, _) => (0, now),
                    };
                    let result = if well { Ok(()) } else { Err("x") };
                    group.probed(server, result, now).map(|t| (server, t)).into_iter().collect()
                }
                Step::Flushed { server, good } => {
                    let result = if good { Ok(()) } else { Err("x") };
                    group.flushed(server, result, now).map(|t| (server, t)).into_iter().collect()
                }
                Step::Tick => group.tick(now),
            };
            let changed = |s: usize| transitions.iter().any(|(server, t)| *server == s && t.moves_keys());
            for server in 0..5 {
                let (old, new) = (&before[server], group.report(server));
                prop_assert_eq!(old.standing != new.standing || old.ejections != new.ejections, changed(server));
                if let Standing::Returning(share) = new.standing {
                    prop_assert!(matches!(share, 10 | 20 | 30 | 40 | 50 | 60 | 70 | 80 | 90), "{share}");
                }
                if old.standing.is_live() && !new.standing.is_live() {
                    good[server] = (0, now);
                    ejections += 1;
                    let time = new.until.expect("an end") - now;
                    prop_assert!(time >= policy.retry_timeout, "{time:?}");
                }
                if !old.standing.is_live() && new.standing.is_live() {
                    let (probes, since) = good[server];
                    prop_assert!(now >= old.until.expect("an end"));
                    prop_assert!(probes >= policy.probe_successes && now - since >= policy.quarantine);
                    let empty = matches!(step, Step::Flushed { good: true, .. });
                    prop_assert_eq!(empty, policy.flush);
                }
            }
            prop_assert!(group.ejected() <= 5 * usize::from(policy.max_ejected_percent) / 100);
            prop_assert_eq!(group.ejections(), ejections);
            prop_assert!(group.next_tick().is_some() == (0..5).any(|s| matches!(group.standing(s), Standing::Returning(_))));
        }
    }
}
