//! The replies against a model: a list of finished messages, joined in the order of the requests.

use proptest::prelude::*;

use super::super::merge;
use super::*;
use crate::telemetry::{Class, Stamp};

const ASKED: Asked = Asked { class: Class::Read, at: Stamp(0) };

/// What happens to the session next. Positions choose among what is open, so that every sequence makes sense.
#[derive(Debug, Clone)]
enum Act {
    Reserve,
    ReserveMerge(u32),
    Answer(usize),
    Settle { which: usize, size: usize, owned: bool, fails: bool },
    Send(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let size = prop_oneof![4 => 0..200usize, 1 => LARGE - 2..LARGE + 2, 1 => 20_000..40_000usize];
    let settle = (any::<usize>(), size.clone(), any::<bool>(), any::<bool>());
    let act = prop_oneof![
        3 => Just(Act::Reserve),
        1 => (1..4u32).prop_map(Act::ReserveMerge),
        2 => size.clone().prop_map(Act::Answer),
        5 => settle.prop_map(|(which, size, owned, fails)| Act::Settle { which, size, owned, fails }),
        1 => size.prop_map(Act::Send),
    ];
    proptest::collection::vec(act, 1..120)
}

/// Joins its parts in the order of their indexes.
struct Join(merge::Parts);

impl Merge for Join {
    fn parts(&mut self) -> &mut merge::Parts {
        &mut self.0
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|part| out.extend_from_slice(part.bytes()));
    }
}

/// A request as the model sees it: what has come of its parts.
type Parts = Vec<Option<Vec<u8>>>;

#[derive(Default)]
struct Model {
    requests: Vec<Parts>,
    /// Bytes already taken from the out buffer.
    sent: usize,
}

impl Model {
    /// What the client must have been given by now.
    fn due(&self) -> Vec<u8> {
        let whole = self.requests.iter().take_while(|r| r.iter().all(Option::is_some));
        whole.flatten().flatten().flatten().copied().collect()
    }

    fn unanswered(&self) -> usize {
        self.requests.iter().skip_while(|r| r.iter().all(Option::is_some)).count()
    }

    /// The parts that are still to come, with their tickets.
    fn open(&self) -> Vec<Ticket> {
        let all = self.requests.iter().enumerate();
        let parts = all.flat_map(|(n, r)| r.iter().enumerate().map(move |(part, got)| (n, part, got.is_none())));
        let open = parts.filter(|(.., open)| *open);
        open.map(|(n, part, _)| Ticket { sequence: n as u64, part: part as u32 }).collect()
    }
}

/// A message that no other request gets.
fn message(ticket: Ticket, size: usize) -> Vec<u8> {
    let start = format!("<{} {}>", ticket.sequence, ticket.part);
    start.bytes().cycle().take(size).collect()
}

fn act(replies: &mut Replies, model: &mut Model, act: Act, pass: &Pass) {
    let next = Ticket { sequence: model.requests.len() as u64, part: 0 };
    match act {
        Act::Reserve => {
            assert_eq!(replies.reserve(ASKED), next);
            model.requests.push(vec![None]);
        }
        Act::ReserveMerge(parts) => {
            assert_eq!(replies.reserve_merge(ASKED, Box::new(Join(merge::Parts::new(parts as usize)))), next);
            model.requests.push(vec![None; parts as usize]);
        }
        Act::Answer(size) => {
            replies.answer(pass, |_| (ASKED, Outcome::Ok), |out| out.extend(message(next, size)));
            model.requests.push(vec![Some(message(next, size))]);
        }
        Act::Settle { which, size, owned, fails } => {
            let open = model.open();
            let Some(&ticket) = open.get(which % open.len().max(1)) else { return };
            let bytes = message(ticket, size);
            match (fails, owned) {
                (true, _) => {
                    replies.fail(ticket, &bytes, pass);
                }
                (false, true) => replies.deliver(ticket, Payload::Owned(bytes.clone().into()), pass),
                (false, false) => replies.deliver(ticket, Payload::Borrowed(&bytes), pass),
            }
            model.requests[ticket.sequence as usize][ticket.part as usize] = Some(bytes);
        }
        Act::Send(size) => {
            let size = size.min(replies.out.len());
            replies.out.advance(size);
            model.sent += size;
        }
    }
}

/// Everything is where the model says, and nothing else is kept.
fn check(replies: &Replies, model: &Model) {
    assert_eq!(replies.unanswered(), model.unanswered());
    assert_eq!(replies.out.contents(), &model.due()[model.sent..]);
    assert!(
        !matches!(replies.slots.front().map(|place| &place.slot), Some(Slot::Ready { .. } | Slot::Large(_))),
        "it could have gone out"
    );
    let slots = || replies.slots.iter().map(|place| &place.slot);
    let ready = slots().map(|slot| if let Slot::Ready { len, .. } = slot { *len } else { 0 });
    assert_eq!(replies.stashed, ready.sum::<usize>());
    let large = slots().map(|slot| if let Slot::Large(bytes) = slot { bytes.len() } else { 0 });
    assert_eq!(replies.large, large.sum::<usize>());
    let open: Vec<&Parts> = model.requests.iter().filter(|r| r.iter().any(Option::is_none)).collect();
    let parts = open.iter().flat_map(|r| r.iter().flatten()).map(Vec::len);
    assert_eq!((replies.due, replies.parts), (open.len(), parts.sum()));
    assert!(replies.stash.len() < 2 * replies.stashed + STASH_SLACK, "{} for {}", replies.stash.len(), replies.stashed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_is_every_reply_once_in_the_order_of_the_requests(acts in acts()) {
        let pass = Pass::new();
        let (mut replies, mut model) = (Replies::default(), Model::default());
        for next in acts {
            act(&mut replies, &mut model, next, &pass);
            check(&replies, &model);
        }
        while !model.open().is_empty() {
            let last = Act::Settle { which: model.requests.len(), size: 30, owned: false, fails: false };
            act(&mut replies, &mut model, last, &pass);
            check(&replies, &model);
        }
        prop_assert_eq!(replies.unanswered(), 0);
        prop_assert_eq!(replies.bytes(), replies.out.len());
        prop_assert_eq!(replies.stash.capacity(), 0, "nothing stays behind");
        act(&mut replies, &mut model, Act::Send(usize::MAX), &pass);
        prop_assert!(replies.is_settled());
    }
}

#[test]
fn a_client_that_is_always_owed_one_reply_does_not_make_the_stash_grow() {
    let pass = Pass::new();
    let mut replies = Replies::default();
    replies.reserve(ASKED);
    // Each round leaves one reply of the proxy's own behind a request that a server still has.
    for head in (0..2000).step_by(2) {
        replies.answer(&pass, |_| (ASKED, Outcome::Ok), |out| out.extend_from_slice(&[b'p'; 1000]));
        replies.reserve(ASKED);
        if head > 0 {
            replies.deliver(Ticket { sequence: head - 2, part: 0 }, Payload::Borrowed(b"x"), &pass);
        }
        replies.out.clear(&pass);
        assert!(replies.stash.len() < 3 * STASH_SLACK, "{} bytes for {}", replies.stash.len(), replies.stashed);
    }
    assert_eq!(replies.unanswered(), 3);
}

/// Found by the fuzzer: the stash goes back when no byte of it is in use, and an empty reply still had its place in it.
#[test]
fn an_empty_reply_out_of_turn_outlives_the_stash() {
    let pass = Pass::new();
    let mut replies = Replies::default();
    let first = replies.reserve(ASKED);
    replies.answer(&pass, |_| (ASKED, Outcome::Ok), |out| out.extend_from_slice(b"+PONG\r\n"));
    let second = replies.reserve(ASKED);
    replies.answer(&pass, |_| (ASKED, Outcome::Ok), |_| ());
    replies.deliver(first, Payload::Borrowed(b"1"), &pass);
    replies.deliver(second, Payload::Borrowed(b"2"), &pass);
    assert_eq!(replies.out.contents(), b"1+PONG\r\n2");
    assert_eq!(replies.unanswered(), 0);
}
