//! modula: a list with each live server as many times as it weighs; the hash modulo the list's length picks one.
//!
//! The list is kept as the places where it passes from one server to the next: weights may be large.

/// The live servers in index order.
#[derive(Debug, Clone)]
pub(super) struct Modula {
    /// Per live server, the end of its run in the list. Ascending; the last is the length of the list.
    ends: Box<[u64]>,
    /// Per live server, its index.
    servers: Box<[u32]>,
    length: u64,
}

impl Modula {
    /// From the indices and weights of the live servers.
    pub(super) fn new(live: &[(u32, u32)]) -> Self {
        let mut length = 0;
        let ends = live
            .iter()
            .map(|&(_, weight)| {
                length += u64::from(weight);
                length
            })
            .collect();
        Self { ends, servers: live.iter().map(|&(server, _)| server).collect(), length }
    }

    /// The server of a hash; `None` if no server is live.
    #[inline]
    pub(super) fn server(&self, hash: u32) -> Option<usize> {
        let place = u64::from(hash).checked_rem(self.length)?;
        let run = self.ends.partition_point(|&end| end <= place);
        self.servers.get(run).map(|&server| server as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_server_follows_the_one_before_it_as_often_as_it_weighs() {
        let modula = Modula::new(&[(0, 1), (2, 3), (3, 2)]);
        let servers: Vec<_> = (0..8).filter_map(|hash| modula.server(hash)).collect();
        assert_eq!(servers, [0, 2, 2, 2, 3, 3, 0, 2]);
    }

    #[test]
    fn no_live_server_is_no_server() {
        assert_eq!(Modula::new(&[]).server(3), None);
    }

    #[test]
    fn weights_may_add_up_to_more_than_there_are_hashes() {
        let modula = Modula::new(&[(0, u32::MAX), (1, u32::MAX)]);
        assert_eq!((modula.server(0), modula.server(u32::MAX)), (Some(0), Some(1)));
    }

    proptest! {
        #[test]
        fn agrees_with_the_written_out_list(
            weights in proptest::collection::vec(1..9u32, 1..9),
            hashes in proptest::collection::vec(any::<u32>(), 1..50),
        ) {
            let live: Vec<(u32, u32)> = (0..).zip(weights).collect();
            let modula = Modula::new(&live);
            let list: Vec<u32> = live.iter().flat_map(|&(server, weight)| vec![server; weight as usize]).collect();
            for hash in hashes {
                let expected = list[hash as usize % list.len()] as usize;
                prop_assert_eq!(modula.server(hash), Some(expected));
            }
        }
    }
}
