//! The in-flight queue against a model: the byte stream itself, each byte with the number of its request.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What happens to the connection next.
#[derive(Debug, Clone)]
enum Act {
    Push {
        bytes: usize,
        noreply: bool,
        slow: bool,
    },
    /// Part of what is unwritten, in 1/256.
    Write(u8),
    Reply,
    /// Time goes by.
    Wait(u64),
    Disconnect,
    /// A connection could not be made at all.
    Drain,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1..40usize, any::<bool>(), any::<bool>())
            .prop_map(|(bytes, noreply, slow)| Act::Push { bytes, noreply, slow }),
        4 => any::<u8>().prop_map(Act::Write),
        4 => Just(Act::Reply),
        2 => (0..4u64).prop_map(Act::Wait),
        1 => Just(Act::Disconnect),
        1 => prop_oneof![9 => Just(Act::Reply), 1 => Just(Act::Drain)],
    ];
    proptest::collection::vec(act, 1..200)
}

const TIMEOUT: u64 = 5;
const SLOW_TIMEOUT: u64 = 9;

/// One request that the server has not answered.
#[derive(Debug)]
struct Asked {
    number: u64,
    bytes: usize,
    written: usize,
    deadline: u64,
    given_up: bool,
}

#[derive(Default)]
struct Model {
    /// Unwritten bytes of requests, each the number of its request: the out buffer.
    out: VecDeque<u64>,
    asked: VecDeque<Asked>,
    /// Requests that somebody waits for.
    owed: BTreeSet<u64>,
    now: u64,
    next: u64,
    /// While a queue is taken apart: how many were put back.
    kept: usize,
}

impl Model {
    /// Whoever waited for this request, if anybody, has been told. Nobody is told twice.
    fn told(&mut self, requester: Option<u64>, number: u64) {
        match requester {
            Some(requester) => {
                assert_eq!(requester, number, "told something about another request");
                assert!(self.owed.remove(&number), "{number} told twice");
            }
            None => assert!(!self.owed.contains(&number), "{number} never told"),
        }
    }

    fn write(&mut self, bytes: usize) {
        for number in self.out.drain(..bytes) {
            if let Some(asked) = self.asked.iter_mut().find(|a| a.number == number) {
                asked.written += 1;
            }
        }
    }

    fn unwritten(&self) -> usize {
        self.asked.iter().filter(|a| a.written < a.bytes).count()
    }
}

fn act(queue: &mut InFlight<u64>, model: &mut Model, act: Act, start: Instant) {
    let at = |time| start + Duration::from_secs(time);
    match act {
        Act::Push { bytes, noreply, slow } => {
            let (number, deadline) = (model.next, model.now + if slow { SLOW_TIMEOUT } else { TIMEOUT });
            let ticket = Ticket { sequence: number, part: 0 };
            queue.push(Entry::new((!noreply).then_some(number), ticket, Expect::Resp, Some(at(deadline))), bytes);
            model.out.extend(std::iter::repeat_n(number, bytes));
            model.asked.push_back(Asked { number, bytes, written: 0, deadline, given_up: false });
            if !noreply {
                model.owed.insert(number);
            }
            model.next += 1;
        }
        Act::Write(part) => {
            let bytes = (model.out.len() * (usize::from(part) + 1)).div_ceil(256);
            let before = model.unwritten();
            model.write(bytes);
            assert_eq!(queue.wrote(bytes, Stamp::default()), before - model.unwritten());
        }
        Act::Reply => {
            let expected = model.asked.front().is_some_and(|a| a.written > 0);
            assert_eq!(queue.next().is_some(), expected);
            let answered = queue.answered();
            assert_eq!(answered.is_some(), expected);
            if let (Some(entry), Some(asked)) = (answered, model.asked.pop_front_if(|_| expected)) {
                assert_eq!(entry.ticket.sequence, asked.number);
                model.told(entry.requester, asked.number);
            }
        }
        Act::Wait(time) => {
            model.now += time;
            let now = model.now;
            for overdue in queue.expire(at(now)) {
                let asked = model.asked.iter_mut().find(|a| !a.given_up && a.deadline <= now);
                let asked = asked.expect("a request that has not expired before");
                asked.given_up = true;
                assert_eq!((asked.number, at(asked.deadline)), (overdue.ticket.sequence, overdue.deadline));
                model.told(overdue.requester, overdue.ticket.sequence);
            }
            assert!(model.asked.iter().all(|a| a.given_up || a.deadline > now));
        }
        Act::Disconnect => {
            let (orphaned, taken) = queue.take_apart();
            model.out.drain(..orphaned);
            let mut out = VecDeque::new();
            for Taken { entry, bytes, written } in taken {
                let asked = model.asked.pop_front().expect("as many as were asked");
                assert_eq!((entry.ticket.sequence, bytes), (asked.number, asked.bytes));
                assert_eq!((written, entry.expired), (asked.written, asked.given_up));
                // The next bytes of the out buffer are exactly those of it that were not written.
                let rest: Vec<u64> = model.out.drain(..bytes - written).collect();
                assert!(rest.iter().all(|number| *number == asked.number));
                if written > 0 || asked.given_up {
                    model.told(entry.requester, asked.number);
                } else {
                    queue.push(entry, bytes);
                    out.extend(rest);
                    model.asked.push_back(asked);
                    model.kept += 1;
                }
            }
            assert!(model.out.is_empty());
            (model.out, model.kept) = (out, 0);
        }
        Act::Drain => {
            for taken in queue.take_apart().1 {
                model.told(taken.entry.requester, taken.entry.ticket.sequence);
            }
            model.asked.clear();
            model.out.clear();
        }
    }
}

fn check(queue: &InFlight<u64>, model: &Model, start: Instant) {
    assert_eq!(queue.len(), model.asked.len());
    assert_eq!(queue.unwritten(), model.unwritten());
    let amid = model.asked.iter().find(|a| a.written > 0 && a.written < a.bytes);
    assert_eq!(queue.rest_of_request(), amid.map_or(0, |a| a.bytes - a.written));
    assert_eq!(queue.bytes(), model.asked.iter().map(|a| a.bytes as u64).sum::<u64>());
    assert_eq!(queue.has_expired(), model.asked.iter().any(|a| a.given_up));
    let soonest = model.asked.iter().filter(|a| !a.given_up).map(|a| start + Duration::from_secs(a.deadline)).min();
    assert!(soonest.is_none() || queue.soonest() <= soonest, "no deadline is overlooked");
    let kept = queue.queue.iter().filter_map(|e| e.requester);
    assert!(kept.eq(model.owed.iter().copied()), "everyone who is owed a reply is in the queue, once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_told_about_once_and_by_its_own_reply(acts in acts()) {
        let start = Instant::now();
        let (mut queue, mut model) = (InFlight::default(), Model::default());
        for next in acts {
            act(&mut queue, &mut model, next, start);
            check(&queue, &model, start);
        }
        act(&mut queue, &mut model, Act::Wait(SLOW_TIMEOUT), start);
        prop_assert!(model.owed.is_empty(), "{:?} never told", model.owed);
        act(&mut queue, &mut model, Act::Disconnect, start);
        check(&queue, &model, start);
        prop_assert!(queue.is_empty() && model.out.is_empty());
    }
}

fn ticket(sequence: u64) -> Ticket {
    Ticket { sequence, part: 0 }
}

fn queue_of(sizes: &[usize], at: Option<Instant>) -> InFlight<u32> {
    let mut q = InFlight::default();
    for (i, size) in sizes.iter().enumerate() {
        q.push(Entry::new(Some(i as u32), ticket(i as u64), Expect::Resp, at), *size);
    }
    q
}

#[test]
fn a_reply_before_anything_was_written_is_not_owed() {
    let mut q = queue_of(&[10], None);
    assert!(q.answered().is_none());
    q.wrote(1, Stamp::default());
    assert_eq!(q.answered().and_then(|e| e.requester), Some(0));
    assert!(q.answered().is_none());
}

#[test]
fn an_early_reply_leaves_the_rest_of_its_bytes_to_be_written() {
    let mut q = queue_of(&[10, 5], None);
    q.wrote(4, Stamp::default());
    assert_eq!(q.answered().and_then(|e| e.requester), Some(0));
    assert_eq!(q.unwritten(), 1);
    assert!(q.answered().is_none(), "the second request is not written");
    assert_eq!(q.wrote(6, Stamp::default()), 0);
    assert!(q.answered().is_none());
    assert_eq!(q.wrote(5, Stamp::default()), 1);
    assert_eq!(q.answered().and_then(|e| e.requester), Some(1));
}

#[test]
fn a_lost_connection_leaves_what_was_written_and_what_was_not() {
    let mut q = queue_of(&[10, 10, 10, 10], None);
    q.wrote(15, Stamp::default());
    let (orphaned, taken) = q.take_apart();
    assert_eq!(orphaned, 0);
    assert_eq!(taken.iter().map(|t| (t.bytes, t.written)).collect::<Vec<_>>(), [(10, 10), (10, 5), (10, 0), (10, 0)]);
    assert!(q.is_empty());
    for asked in taken.into_iter().skip(2) {
        q.push(asked.entry, asked.bytes);
    }
    assert!(q.answered().is_none());
    assert_eq!(q.wrote(20, Stamp::default()), 2);
    assert_eq!(q.answered().and_then(|e| e.requester), Some(2));
}

#[test]
fn a_connection_lost_after_an_early_reply_drops_the_rest_of_that_request() {
    let mut q = queue_of(&[10, 10], None);
    q.wrote(4, Stamp::default());
    q.answered();
    let (orphaned, taken) = q.take_apart();
    assert_eq!((orphaned, taken.len()), (6, 1));
    assert_eq!((taken[0].bytes, taken[0].written), (10, 0));
}

#[test]
fn expired_requests_swallow_their_late_replies() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut q = queue_of(&[1, 1], Some(now));
    q.push(Entry::new(Some(2), ticket(2), Expect::Resp, Some(later)), 1);
    q.wrote(3, Stamp::default());
    let overdue = q.expire(now).into_iter().map(|o| (o.requester, o.ticket)).collect::<Vec<_>>();
    assert_eq!(overdue, [(Some(0), ticket(0)), (Some(1), ticket(1))]);
    assert_eq!(q.expire(now), []);
    assert_eq!(q.soonest(), Some(later));
    assert!(q.answered().is_some_and(|e| e.requester.is_none()));
    assert!(q.answered().is_some_and(|e| e.requester.is_none()));
    assert!(!q.has_expired());
    assert_eq!(q.answered().and_then(|e| e.requester), Some(2));
}

#[test]
fn a_usual_request_behind_a_slow_one_expires_before_it() {
    let now = Instant::now();
    let mut q = InFlight::default();
    q.push(Entry::new(Some(0), ticket(0), Expect::Resp, Some(now + Duration::from_secs(9))), 1);
    q.push(Entry::new(Some(1), ticket(1), Expect::Resp, Some(now)), 1);
    q.wrote(2, Stamp::default());
    assert_eq!(q.expire(now).iter().map(|o| o.requester).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(q.answered().and_then(|e| e.requester), Some(0));
    assert!(q.has_expired());
    assert!(q.answered().is_some_and(|e| e.requester.is_none()), "its late reply is nobody's");
}

#[test]
fn a_request_knows_when_it_was_queued_and_when_its_last_byte_was_written() {
    let mut q = InFlight::<()>::default();
    for (number, queued) in [(0, 10), (1, 20)] {
        let entry = Entry::new(None, Ticket { sequence: number, part: 0 }, Expect::Resp, None).at(Stamp(queued));
        q.push(entry, 10);
    }
    q.wrote(5, Stamp(30));
    assert_eq!(q.next().unwrap().written, Stamp(10), "a part is not all of it");
    q.wrote(10, Stamp(40));
    q.wrote(5, Stamp(50));
    let times = |entry: Entry<()>| (entry.queued.0, entry.written.0);
    assert_eq!(q.answered().map(times), Some((10, 40)));
    assert_eq!(q.answered().map(times), Some((20, 50)));
}

#[test]
fn requests_that_are_to_be_given_up_are_shown_with_the_place_of_their_copies() {
    let now = Instant::now();
    let mut q = InFlight::<()>::default();
    for (number, bytes, kept, late) in [(0, 10, 4, false), (1, 20, 0, true), (2, 30, 7, true)] {
        let deadline = if late { now } else { now + Duration::from_secs(1) };
        let ticket = Ticket { sequence: number, part: 0 };
        q.push(Entry { kept, ..Entry::new(None, ticket, Expect::Resp, Some(deadline)) }, bytes);
    }
    q.wrote(35, Stamp::default());
    let seen = |q: &InFlight<()>, now| {
        let mut seen = Vec::new();
        q.overdue(now, |due| seen.push((due.entry.ticket.sequence, due.bytes, due.written, due.copies_before)));
        seen
    };
    assert_eq!(seen(&q, now - Duration::from_secs(1)), []);
    assert_eq!(seen(&q, now), [(1, 20, true, 4), (2, 30, false, 4)]);
    assert_eq!(q.expire(now).len(), 2);
    assert_eq!(seen(&q, now + Duration::from_secs(2)).len(), 1, "the others were given up before");
}
