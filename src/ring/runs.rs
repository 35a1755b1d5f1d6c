//! Two rings compared: which share of all hashes has another owner.
//!
//! ```text
//!   before   ├──0──┼─────1─────┼──2──┤        a run is a stretch of hashes with one owner; ketama's go once around the
//!   after    ├──0──┼──3──┼──1──┼──2──┤        circle, those of modula's list come again and again
//!                  └moved┘
//! ```
//! The stretches between the ends of either are counted, so that the share is exact. Only where two lists of modula, or a
//! list and a continuum, take too many steps to come to an end together, a fixed sample of hashes is asked.

use std::collections::HashMap;

use super::ketama::{Point, ascending, point_count, points_of};
use super::{Distribution, RingServer};

/// How many hashes there are.
const HASHES: u64 = 1 << 32;
/// Stretches that are counted before a sample has to do. Two continua of a thousand servers are below it; 1 ms.
const MOST_STEPS: u128 = 1 << 19;
/// Hashes in a sample: its share is within 1 % of the true one.
const SAMPLE: u32 = 1 << 17;
/// The golden ratio in 32 bits: its multiples are spread evenly.
const STRIDE: u32 = 0x9E37_79B1;

/// The points of names: rings that are compared have most names in common, and a digest takes longer than all else.
#[derive(Debug, Default)]
pub struct KnownPoints(HashMap<String, Vec<u32>>);

/// A ring with all servers live, written out.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The end of each run, exclusive, and its server. Ascending; the last is `length`.
    runs: Vec<(u64, u32)>,
    /// After so many hashes they start again.
    length: u64,
    servers: usize,
}

/// A share of all hashes, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub share: f64,
    /// Every hash was counted; otherwise a sample.
    pub exact: bool,
}

impl Runs {
    /// As [`Ring::build`](super::Ring::build) has them. `servers` are in ring order, at least one.
    pub fn of(distribution: Distribution, servers: &[RingServer], known: &mut KnownPoints) -> Self {
        let mut runs = match distribution {
            Distribution::Ketama => circle(servers, known),
            Distribution::Modula => list(servers.iter().map(|server| server.weight.max(1))),
            Distribution::Random => list(servers.iter().map(|_| 1)),
        };
        runs.shrink_to_fit();
        Self { length: runs.last().map_or(0, |(end, _)| *end), runs, servers: servers.len() }
    }

    /// Per server: its share of all hashes.
    pub fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.servers];
        let mut start = 0;
        for &(end, server) in &self.runs {
            shares[server as usize] += (end - start) as f64 / self.length as f64;
            start = end;
        }
        shares
    }

    /// The share of hashes whose servers, here and in `after`, are not the same for `same`.
    pub fn moved(&self, after: &Self, same: impl Fn(usize, usize) -> bool) -> Share {
        if self.runs.is_empty() || after.runs.is_empty() {
            return Share { share: 0.0, exact: true };
        }
        let period = common_multiple(self.length, after.length).min(HASHES.into());
        let steps = self.steps(period) + after.steps(period);
        if steps > MOST_STEPS {
            let moved = (0..SAMPLE).map(|i| u64::from(i.wrapping_mul(STRIDE)));
            let moved = moved.filter(|hash| !same(self.server(*hash), after.server(*hash))).count();
            return Share { share: moved as f64 / f64::from(SAMPLE), exact: false };
        }
        // No more than the number of hashes.
        let period = period as u64;
        let moved =
            HASHES / period * self.moved_below(period, after, &same) + self.moved_below(HASHES % period, after, &same);
        Share { share: moved as f64 / HASHES as f64, exact: true }
    }

    /// How many of the first `limit` hashes have moved.
    fn moved_below(&self, limit: u64, after: &Self, same: &impl Fn(usize, usize) -> bool) -> u64 {
        let (mut one, mut other) = (Cursor::new(self), Cursor::new(after));
        let (mut start, mut moved) = (0, 0);
        while start < limit {
            let end = one.end().min(other.end()).min(limit);
            if !same(one.server(), other.server()) {
                moved += end - start;
            }
            start = end;
            one.pass(end);
            other.pass(end);
        }
        moved
    }

    fn steps(&self, period: u128) -> u128 {
        period.div_ceil(self.length.into()) * self.runs.len() as u128
    }

    fn server(&self, hash: u64) -> usize {
        let place = hash % self.length;
        self.runs[self.runs.partition_point(|(end, _)| *end <= place)].1 as usize
    }
}

/// A place in runs that start again after their end.
struct Cursor<'a> {
    runs: &'a Runs,
    at: usize,
    /// Hashes before this round.
    before: u64,
}

impl<'a> Cursor<'a> {
    fn new(runs: &'a Runs) -> Self {
        Self { runs, at: 0, before: 0 }
    }

    fn end(&self) -> u64 {
        self.before + self.runs.runs[self.at].0
    }

    fn server(&self) -> usize {
        self.runs.runs[self.at].1 as usize
    }

    /// Goes on if the run ends here.
    fn pass(&mut self, hash: u64) {
        if self.end() == hash {
            self.at += 1;
            if self.at == self.runs.runs.len() {
                self.at = 0;
                self.before += self.runs.length;
            }
        }
    }
}

impl KnownPoints {
    /// The first `count` points of a name.
    fn of(&mut self, name: &str, count: u32) -> &[u32] {
        let known = self.0.entry(name.to_owned()).or_default();
        if known.len() < count as usize {
            *known = points_of(name, 0, count).map(|point| point.value).collect();
        }
        &known[..count as usize]
    }
}

/// ketama: a point ends the run that is its own, and what is past the last one is the first one's.
fn circle(servers: &[RingServer], known: &mut KnownPoints) -> Vec<(u64, u32)> {
    let total = servers.iter().map(|server| u64::from(server.weight.max(1))).sum();
    let mut points = Vec::with_capacity(servers.len() * 160);
    for (index, server) in (0..).zip(servers) {
        let count = point_count(server.weight.max(1), total, servers.len());
        points.extend(known.of(server.name, count).iter().map(|&value| Point { value, server: index }));
    }
    let mut points = ascending(points);
    // Of equal ones the first is the owner.
    points.dedup_by_key(|point| point.value);
    let mut runs: Vec<(u64, u32)> = points.iter().map(|point| (u64::from(point.value) + 1, point.server)).collect();
    if let (Some(first), Some(last)) = (points.first(), points.last())
        && last.value < u32::MAX
    {
        runs.push((HASHES, first.server));
    }
    runs
}

/// modula: every server as often as it weighs.
fn list(weights: impl Iterator<Item = u32>) -> Vec<(u64, u32)> {
    let mut end = 0;
    let run = |(server, weight)| {
        end += u64::from(weight);
        (end, server)
    };
    (0..).zip(weights).map(run).collect()
}

fn common_multiple(a: u64, b: u64) -> u128 {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    u128::from(a / divisor) * u128::from(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Ring, server_order};
    use super::*;

    type Servers = Vec<(String, u32)>;

    fn servers(heaviest: u32) -> impl Strategy<Value = Servers> {
        let names = proptest::collection::btree_map(0..60u32, 1..=heaviest, 1..25);
        names.prop_map(|weights| {
            let mut servers: Servers = weights.into_iter().map(|(i, weight)| (format!("server{i}"), weight)).collect();
            servers.sort_by(|(a, _), (b, _)| server_order(a).cmp(&server_order(b)));
            servers
        })
    }

    /// Light servers mostly; sometimes lists too long to be counted.
    fn pools() -> impl Strategy<Value = (Servers, Servers)> {
        prop_oneof![(servers(4), servers(4)), (servers(300), servers(300)), (servers(1 << 28), servers(1 << 31))]
    }

    fn as_ring(servers: &Servers) -> Vec<RingServer<'_>> {
        servers.iter().map(|(name, weight)| RingServer { name, weight: *weight }).collect()
    }

    fn distribution() -> impl Strategy<Value = Distribution> {
        prop_oneof![Just(Distribution::Ketama), Just(Distribution::Modula)]
    }

    #[test]
    fn nothing_moves_between_equal_rings_and_all_between_strangers() {
        let servers: Servers = (0..20).map(|i| (format!("server{i:02}"), 1)).collect();
        for (_, distribution) in Distribution::ALL {
            let runs = Runs::of(distribution, &as_ring(&servers), &mut KnownPoints::default());
            assert_eq!(runs.moved(&runs, |a, b| a == b), Share { share: 0.0, exact: true });
            assert_eq!(runs.moved(&runs, |_, _| false), Share { share: 1.0, exact: true });
        }
    }

    #[test]
    fn modula_with_one_server_more_moves_all_but_one_in_n() {
        let servers: Servers = (0..5).map(|i| (format!("server{i}"), 1)).collect();
        let runs = |n| Runs::of(Distribution::Modula, &as_ring(&servers)[..n], &mut KnownPoints::default());
        // Of 20 in a row those four stay whose remainders are equal. 2^32 is no multiple of 20: the last 16 hold 4.
        let stay = (HASHES / 20 * 4 + 4) as f64 / HASHES as f64;
        assert_eq!(runs(4).moved(&runs(5), |a, b| a == b), Share { share: 1.0 - stay, exact: true });
    }

    #[test]
    fn large_weights_that_divide_each_other_are_still_counted() {
        let (old, new) = (vec![("a".to_owned(), 1 << 20)], vec![("a".to_owned(), 1 << 19), ("b".to_owned(), 1 << 19)]);
        let runs = |servers| Runs::of(Distribution::Modula, &as_ring(servers), &mut KnownPoints::default());
        assert_eq!(runs(&old).moved(&runs(&new), |a, b| a == b), Share { share: 0.5, exact: true });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// The runs own what the ring says, at their ends and anywhere.
        #[test]
        fn runs_are_the_ring_written_out(
            (servers, _) in pools(),
            distribution in distribution(),
            hashes in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let ring = Ring::build(distribution, &as_ring(&servers), |_| true);
            let runs = Runs::of(distribution, &as_ring(&servers), &mut KnownPoints::default());
            let ends = runs.runs.iter().filter_map(|(end, _)| u32::try_from(*end).ok());
            let edges = ends.flat_map(|end| [end.wrapping_sub(1), end]);
            for hash in hashes.into_iter().chain(edges) {
                prop_assert_eq!(ring.server(hash), Some(runs.server(hash.into())));
            }
            for (ours, theirs) in runs.shares().into_iter().zip(ring.shares()) {
                prop_assert!((ours - theirs).abs() < 1e-9);
            }
        }

        /// Whether counted or sampled: what 100,000 random hashes say, within 1 %.
        #[test]
        fn the_moved_share_is_that_of_random_hashes(
            (old, new) in pools(),
            (before, after) in (distribution(), distribution()),
            seed in 1..u32::MAX,
        ) {
            let mut known = KnownPoints::default();
            let runs = Runs::of(before, &as_ring(&old), &mut known);
            let moved = runs.moved(&Runs::of(after, &as_ring(&new), &mut known), |a, b| old[a].0 == new[b].0);
            let rings = (
                Ring::build(before, &as_ring(&old), |_| true),
                Ring::build(after, &as_ring(&new), |_| true),
            );
            let mut random = seed;
            let hashes = std::iter::repeat_with(|| {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random
            });
            let elsewhere = |hash: &u32| {
                let name = |ring: &Ring, servers: &Servers| ring.server(*hash).map(|i| servers[i].0.clone());
                name(&rings.0, &old) != name(&rings.1, &new)
            };
            let counted = hashes.take(100_000).filter(elsewhere).count() as f64 / 100_000.0;
            prop_assert!((moved.share - counted).abs() < 0.01, "{:?}, {} counted", moved, counted);
        }
    }
}
