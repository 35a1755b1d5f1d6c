//! A look-up over sorted points in constant time.
//!
//! ```text
//!   starts   [0   |1   |1   |4   ]      one entry per bucket: hashes with the same top bits
//!             │    └──┬─┘    └────────┐
//!   points   [•0  |•1  |•2  |•3  |•4  |wrap]  sorted; scanned from the bucket's entry, mostly no further
//! ```
//! Invariant: `points[..starts[b]]` are all below bucket `b`; the wrap is at or above every hash, so a scan ends.

use super::ketama::Point;

/// Buckets for each point, rounded up to a power of two. One is slower; with four the gain is lost in the noise.
const BUCKETS_PER_POINT: usize = 2;

/// The points and, per bucket, where to begin.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Sorted, then the wrap: the greatest value with the first point's server. Empty if there are no points.
    points: Box<[Point]>,
    starts: Box<[u32]>,
    /// What turns a hash into its bucket. Below 32.
    shift: u32,
}

impl Index {
    /// An index over points that come in ascending order.
    pub(super) fn new(sorted: &[Point]) -> Self {
        debug_assert!(sorted.is_sorted_by_key(|point| (point.value, point.server)));
        let Some(first) = sorted.first() else {
            return Self { points: Box::default(), starts: Box::default(), shift: 0 };
        };
        let buckets = (sorted.len() * BUCKETS_PER_POINT).next_power_of_two();
        let shift = u32::BITS - buckets.trailing_zeros();
        let mut start = 0;
        let starts = (0..buckets as u64)
            .map(|bucket| {
                let below = |point: &&Point| u64::from(point.value) < bucket << shift;
                start += sorted[start..].iter().take_while(below).count();
                start as u32
            })
            .collect();
        let wrap = Point { value: u32::MAX, server: first.server };
        Self { points: [sorted, &[wrap]].concat().into(), starts, shift }
    }

    /// The server of the first point at or after `hash`, around the circle; `None` if there are no points.
    #[inline]
    pub(super) fn server(&self, hash: u32) -> Option<usize> {
        let start = *self.starts.get((hash >> self.shift) as usize)?;
        let point = self.points.get(start as usize..)?.iter().find(|point| point.value >= hash)?;
        Some(point.server as usize)
    }

    /// The points in ascending order, without the wrap.
    pub(super) fn points(&self) -> &[Point] {
        self.points.split_last().map_or(&[], |(_wrap, points)| points)
    }
}
