//! Whatever way a stream is cut into reads, and whenever the consumer pauses, the messages are the same.

use std::future::poll_fn;
use std::io::Write;

use proptest::prelude::*;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::yield_now;

use super::*;

/// Bytes of the length in front of a message.
const HEADER: usize = 4;

fn message(number: usize, size: usize) -> Vec<u8> {
    let length = u32::try_from(size).unwrap().to_be_bytes();
    let body = (0..size).map(|i| (i * 31 + number * 7 + i / 256) as u8);
    length.into_iter().chain(body).collect()
}

/// Takes messages as a session does.
struct Consumer {
    taken: Vec<Vec<u8>>,
    /// Those handed over without a copy.
    owned: usize,
    /// Says at once how long a message is, or only that a byte is missing.
    knows_length: bool,
    /// After each so many messages it takes no more until it is asked to go on; 0: never.
    pause_every: usize,
    paused: bool,
}

impl Consumer {
    fn consume(&mut self, input: &mut Input<'_>) {
        self.paused = false;
        while !input.bytes().is_empty() {
            let bytes = input.bytes();
            let header = bytes.get(..HEADER).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
            let length = header.map(|body| HEADER + body as usize);
            match length {
                Some(length) if length <= bytes.len() => self.take(input, length),
                Some(length) if self.knows_length => return input.incomplete(length),
                _ => return input.incomplete(bytes.len() + 1),
            }
            if self.pause_every > 0 && self.taken.len().is_multiple_of(self.pause_every) {
                self.paused = true;
                return;
            }
        }
    }

    fn take(&mut self, input: &mut Input<'_>, length: usize) {
        if self.taken.len() % 5 == 4 {
            self.taken.push(input.bytes()[..length].to_vec());
            return input.skip(length);
        }
        let payload = input.take(length);
        self.owned += usize::from(matches!(payload, Payload::Owned(_)));
        self.taken.push(payload.as_slice().to_vec());
    }
}

/// Sends the stream in pieces of these sizes, over and over, and reads after each until nothing is left.
fn run(stream: &[u8], cuts: &[usize], mut consumer: Consumer) -> (Inbound, Consumer) {
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let pass = Pass::new();
        let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut ours = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let mut inbound = Inbound::default();
        let (mut sent, mut read) = (0, 0);
        for cut in cuts.iter().cycle() {
            let end = (sent + cut).min(stream.len());
            theirs.write_all(&stream[sent..end]).unwrap();
            sent = end;
            while read < sent {
                while consumer.paused {
                    inbound.resume(|input| consumer.consume(input));
                }
                let n = poll_fn(|cx| inbound.poll_read(cx, &mut ours, &pass, |input| consumer.consume(input)));
                read += n.await.unwrap();
            }
            while consumer.paused {
                inbound.resume(|input| consumer.consume(input));
            }
            if sent == stream.len() {
                break;
            }
            yield_now().await;
        }
        drop(theirs);
        let end = poll_fn(|cx| inbound.poll_read(cx, &mut ours, &pass, |_| panic!("nothing came"))).await;
        assert_eq!(end.unwrap(), 0);
        (inbound, consumer)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_same_messages(
        sizes in proptest::collection::vec(
            prop_oneof![6 => 0..300usize, 1 => LARGE - 6..LARGE + 2, 1 => 60_000..70_000usize, 1 => 70_000..200_000usize],
            1..25,
        ),
        cuts in proptest::collection::vec(prop_oneof![1 => 1..30usize, 2 => 500..20_000usize, 2 => 30_000..90_000usize], 1..12),
        knows_length in any::<bool>(),
        pause_every in 0..4usize,
    ) {
        let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| message(n, *size)).collect();
        let consumer = Consumer { taken: Vec::new(), owned: 0, knows_length, pause_every, paused: false };
        let (inbound, consumer) = run(&messages.concat(), &cuts, consumer);
        prop_assert!(consumer.taken == messages, "{} of {} messages", consumer.taken.len(), messages.len());
        prop_assert!(inbound.is_empty());
        prop_assert_eq!(inbound.held.capacity(), 0, "an idle socket holds no buffer");
    }
}

#[test]
fn a_large_message_of_known_length_is_handed_over_without_a_copy() {
    let messages = [message(0, 10), message(1, 300_000), message(2, 10)];
    let consumer = Consumer { taken: Vec::new(), owned: 0, knows_length: true, pause_every: 0, paused: false };
    let (_, consumer) = run(&messages.concat(), &[50_000], consumer);
    assert_eq!(consumer.taken, messages);
    assert_eq!(consumer.owned, 1);
}
