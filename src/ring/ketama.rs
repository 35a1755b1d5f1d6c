//! ketama: every server owns points on a circle of 2^32; a hash belongs to the first point at or after it.
//!
//! ```text
//!   0 ──•────────•──•──────────────•─────•── 2^32-1
//!       1        0  2      ▲       0     1
//!                          └ hash: server 0.   Past the last point: the first one's server.
//! ```
//! The points are kept twice. The [`HashRing`] is what is built, and the truth: `explain` asks it, and a debug build
//! checks every answer against it. The request path asks an [`Index`] made from it, which pays, if little: of 1,600
//! points it finds the owner in 3 ns, a binary search through bare values in 10, the HashRing in 15 (`benches/placement.rs`).

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use md5::{Digest, Md5};

use super::index::Index;

/// What a server of average weight gets. In groups of four: one MD5 digest each.
const POINTS_PER_SERVER: f32 = 160.0;
const POINTS_PER_DIGEST: u32 = 4;
/// How many hashes there are.
const CIRCLE: i64 = 1 << 32;

/// One point of the continuum, owned by the server with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub value: u32,
    pub server: u32,
}

/// The sorted points of the live servers.
#[derive(Debug, Clone)]
pub(super) struct Continuum {
    ring: HashRing<Point, Verbatim>,
    index: Index,
}

/// The number of points of a server among `live` servers that weigh `total` together.
///
/// Rounded to `f32` at every step, as twemproxy does it, so that 25 equal servers have 156 points each and not 160; a
/// small enough weight has none.
pub(super) fn point_count(weight: u32, total: u64, live: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let digests = share * POINTS_PER_SERVER / POINTS_PER_DIGEST as f32 * live as f32;
    // The addition alone is in double precision.
    let digests = (f64::from(digests) + 0.0000000001) as f32;
    digests.floor() as u32 * POINTS_PER_DIGEST
}

/// The first `count` points of the server called `name`: the digests of `name-0`, `name-1`, ... in four words each.
///
/// Names are hashed whole. twemproxy reads past the end of a buffer when `name-N` exceeds 85 bytes: such pools have no
/// placement of their own that could be kept.
pub(super) fn points_of(name: &str, server: u32, count: u32) -> impl Iterator<Item = Point> {
    let mut text = format!("{name}-");
    let (front, mut digits) = (text.len(), itoa::Buffer::new());
    (0..count / POINTS_PER_DIGEST).flat_map(move |number| {
        text.truncate(front);
        text.push_str(digits.format(number));
        let digest = Md5::digest(&text);
        [0, 4, 8, 12].map(|at| {
            let value = u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]]);
            Point { value, server }
        })
    })
}

impl Continuum {
    /// A continuum of these points, in any order.
    pub(super) fn new(points: Vec<Point>) -> Self {
        let points = ascending(points);
        let index = Index::new(&points);
        let mut ring = HashRing::with_hasher(Verbatim);
        ring.batch_add(points);
        Self { ring, index }
    }

    /// The server of a hash; `None` if there are no points.
    #[inline]
    pub(super) fn server(&self, hash: u32) -> Option<usize> {
        let server = self.index.server(hash);
        debug_assert_eq!(server, self.point(hash).map(|point| point.server as usize));
        server
    }

    /// The point of a hash; `None` if there are no points.
    pub(super) fn point(&self, hash: u32) -> Option<Point> {
        self.ring.get(&Point { value: hash, server: 0 }).copied()
    }

    /// The points in ascending order.
    pub(super) fn points(&self) -> &[Point] {
        self.index.points()
    }

    /// The share of all hashes that each of `servers` servers gets.
    pub(super) fn shares(&self, servers: usize) -> Vec<f64> {
        let mut shares = vec![0.0; servers];
        let points = self.points();
        // The first point also gets what lies past the last: the last one is its predecessor, a whole circle back.
        let mut before = points.last().map_or(0, |last| i64::from(last.value) - CIRCLE);
        for point in points {
            let owned = i64::from(point.value) - before;
            shares[point.server as usize] += owned as f64 / CIRCLE as f64;
            before = i64::from(point.value);
        }
        shares
    }
}

/// The points in the order of the circle. One that a server has twice comes once.
pub(super) fn ascending(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_unstable_by_key(|point| point.place());
    points.dedup();
    points
}

impl Point {
    /// Where it is in the ring: ordered by value and, where values are equal, the lower server index first. A look-up
    /// asks for server 0 and so finds the first of its equals.
    fn place(self) -> u64 {
        u64::from(self.value) << 32 | u64::from(self.server)
    }
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place());
    }
}

/// A hasher that hands through: points are their own place on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Verbatim;

#[derive(Default)]
struct VerbatimHasher(u64);

impl BuildHasher for Verbatim {
    type Hasher = VerbatimHasher;

    fn build_hasher(&self) -> VerbatimHasher {
        VerbatimHasher::default()
    }
}

impl Hasher for VerbatimHasher {
    fn write_u64(&mut self, place: u64) {
        self.0 = place;
    }

    /// Not used by [`Point`]; big-endian, so that order is kept.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |place, &byte| place << 8 | u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few distinct values, so that many are equal; both ends of the circle among them.
    fn crowded_points() -> impl Strategy<Value = Vec<Point>> {
        let value = prop_oneof![0..20u32, Just(0), Just(u32::MAX), (u32::MAX - 20)..=u32::MAX, any::<u32>()];
        proptest::collection::vec((value, 0..5u32).prop_map(|(value, server)| Point { value, server }), 1..200)
    }

    fn linear_search(points: &[Point], hash: u32) -> Option<Point> {
        let points = points.iter().copied();
        let after = points.clone().filter(|point| point.value >= hash);
        after.min_by_key(|point| point.place()).or(points.min_by_key(|point| point.place()))
    }

    #[test]
    fn twenty_five_equal_servers_lose_four_points_each_to_rounding() {
        // All such sizes up to 200, as the reference program counts.
        let short = [25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115, 122, 142, 159, 163, 188, 193, 200];
        for live in 1..=200 {
            let expected = if short.contains(&live) { 156 } else { 160 };
            assert_eq!(point_count(1, live as u64, live), expected, "{live} servers");
        }
    }

    #[test]
    fn a_feather_beside_a_mountain_has_no_points() {
        assert_eq!(point_count(100_000, 100_001, 2), 316);
        assert_eq!(point_count(1, 100_001, 2), 0);
    }

    #[test]
    fn points_are_the_little_endian_words_of_the_digest() {
        // printf a-0 | md5sum: a165efd196e17ba195ad4dc50028b39a
        let points: Vec<_> = points_of("a", 7, 8).collect();
        let values: Vec<_> = points.iter().map(|point| point.value).collect();
        assert_eq!(
            values,
            [0xd1ef65a1, 0xa17be196, 0xc54dad95, 0x9ab32800, 0x1a197c73, 0x0b4552ed, 0x8350659c, 0xdd1b97c9]
        );
        assert!(points.iter().all(|point| point.server == 7));
    }

    #[test]
    fn no_points_own_nothing() {
        let none = Continuum::new(Vec::new());
        assert_eq!((none.server(5), none.point(5)), (None, None));
        assert_eq!(none.shares(2), [0.0, 0.0]);
    }

    #[test]
    fn one_point_owns_the_whole_circle() {
        let one = Continuum::new(vec![Point { value: 17, server: 1 }]);
        assert_eq!([0, 17, 18, u32::MAX].map(|hash| one.server(hash)), [Some(1); 4]);
        assert_eq!(one.shares(2), [0.0, 1.0]);
    }

    proptest! {
        /// The index, the HashRing and a search through unsorted points say the same, equal values included.
        #[test]
        fn both_look_ups_agree_with_a_linear_search(
            points in crowded_points(),
            hashes in proptest::collection::vec(any::<u32>(), 1..50),
        ) {
            let continuum = Continuum::new(points.clone());
            let edges = points.iter().flat_map(|p| [p.value.wrapping_sub(1), p.value, p.value.wrapping_add(1)]);
            for hash in hashes.into_iter().chain(edges) {
                let expected = linear_search(&points, hash);
                prop_assert_eq!(continuum.point(hash), expected);
                prop_assert_eq!(continuum.server(hash), expected.map(|point| point.server as usize));
            }
        }

        #[test]
        fn shares_add_up_to_the_circle(points in crowded_points()) {
            let shares = Continuum::new(points).shares(5);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        }
    }
}
