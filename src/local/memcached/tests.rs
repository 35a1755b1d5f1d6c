//! Every command, with the replies of memcached 1.6; time is what each step says it is.

use bytes::BytesMut;

use super::*;

const MEMORY: u64 = 1024 * 1024;
const START: Millis = 1_700_000_000_000;

/// A server and one connection to it.
struct Peer {
    server: MemcachedServer,
    session: MemcachedSession,
    input: BytesMut,
    now: Millis,
}

impl Peer {
    fn new() -> Self {
        let server = MemcachedServer::new(MEMORY);
        Self { session: server.session(), server, input: BytesMut::new(), now: START }
    }

    fn send(&mut self, bytes: &[u8]) -> (String, Flow) {
        self.input.extend_from_slice(bytes);
        let mut output = Vec::new();
        let flow = self.server.serve(&mut self.session, &mut self.input, &mut output, self.now);
        (String::from_utf8_lossy(&output).replace("\r\n", "|"), flow)
    }

    /// Runs a conversation: `request → reply`, `|` for CRLF, and `@seconds` to set the clock relative to the start.
    fn converse(&mut self, conversation: &str) {
        for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(seconds) = line.strip_prefix('@') {
                self.now = START + (seconds.parse::<f64>().unwrap() * 1000.0) as Millis;
                continue;
            }
            let (request, reply) = line.split_once(" → ").unwrap();
            let request = format!("{}\r\n", request.replace('|', "\r\n"));
            assert_eq!(self.send(request.as_bytes()).0, reply.trim(), "{request:?} at {}", self.now - START);
        }
    }
}

fn converse(conversation: &str) {
    Peer::new().converse(conversation);
}

#[test]
fn storage_and_retrieval() {
    converse(
        "get k → END|
         set k 5 0 3|abc → STORED|
         get k → VALUE k 5 3|abc|END|
         get missing k k → VALUE k 5 3|abc|VALUE k 5 3|abc|END|
         gets k → VALUE k 5 3 1|abc|END|
         add k 0 0 1|x → NOT_STORED|
         add n 1 0 0| → STORED|
         get n → VALUE n 1 0||END|
         replace k 4294967295 0 1|y → STORED|
         replace missing 0 0 1|y → NOT_STORED|
         append k 9 9 2|23 → STORED|
         prepend k 9 9 2|01 → STORED|
         get k → VALUE k 4294967295 5|01y23|END|
         append missing 0 0 1|x → NOT_STORED|
         prepend missing 0 0 1|x → NOT_STORED|
         delete k → DELETED|
         delete k → NOT_FOUND|
         delete n 0 → DELETED|
         delete n what → CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]|
         get → ERROR|
         set k 0 0 → ERROR|",
    );
}

#[test]
fn cas_stores_over_the_value_that_was_read_only() {
    converse(
        "cas k 0 0 1 1|x → NOT_FOUND|
         set k 0 0 1|a → STORED|
         gets k → VALUE k 0 1 1|a|END|
         cas k 0 0 1 2|x → EXISTS|
         cas k 7 0 1 1|b → STORED|
         gets k → VALUE k 7 1 2|b|END|
         cas k 7 0 1 1|c → EXISTS|
         touch k 0 → TOUCHED|
         gat 0 k → VALUE k 7 1|b|END|
         gats 0 k → VALUE k 7 1 2|b|END|
         append k 0 0 1|! → STORED|
         cas k 0 0 1 2|c → EXISTS|
         cas k 0 0 1 x|c → CLIENT_ERROR bad command line format|ERROR|",
    );
}

#[test]
fn counters() {
    converse(
        "incr n 1 → NOT_FOUND|
         set n 3 0 2|10 → STORED|
         incr n 5 → 15|
         decr n 6 → 9|
         get n → VALUE n 3 2|9 |END|
         incr n 1 → 10|
         decr n 100 → 0|
         incr n 18446744073709551615 → 18446744073709551615|
         incr n 2 → 1|
         get n → VALUE n 3 20|1                   |END|
         incr n x → CLIENT_ERROR invalid numeric delta argument|
         incr n -1 → CLIENT_ERROR invalid numeric delta argument|
         incr n → ERROR|
         set n 0 0 1|x → STORED|
         incr n 1 → CLIENT_ERROR cannot increment or decrement non-numeric value|
         set n 0 0 6|12 abc → STORED|
         incr n 1 → 13|
         get n → VALUE n 0 6|13    |END|
         set n 0 0 0| → STORED|
         decr n 1 → CLIENT_ERROR cannot increment or decrement non-numeric value|",
    );
}

#[test]
fn a_counter_is_digits_up_to_a_space() {
    for (value, expected) in [
        ("12  ", Some(12)),
        (" 12 abc", Some(12)),
        ("\t+5", Some(5)),
        ("-0", Some(0)),
        ("-1", None),
        ("-+0", None),
        ("12a", None),
        ("", None),
        (" ", None),
        ("-", None),
        ("18446744073709551616", None),
    ] {
        let mut peer = Peer::new();
        peer.send(format!("set n 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
        let refusal = "CLIENT_ERROR cannot increment or decrement non-numeric value|".to_owned();
        let expected = expected.map_or(refusal, |n: u64| format!("{n}|"));
        assert_eq!(peer.send(b"incr n 0\r\n").0, expected, "{value:?}");
    }
}

#[test]
fn exptimes() {
    converse(
        "set k 0 10 1|v → STORED|
         set never 0 0 1|v → STORED|
         set dead 0 -1 1|v → STORED|
         set long 0 2592000 1|v → STORED|
         set until 0 1700000020 1|v → STORED|
         set past 0 1600000000 1|v → STORED|
         get k never dead long until past → VALUE k 0 1|v|VALUE never 0 1|v|VALUE long 0 1|v|VALUE until 0 1|v|END|
         @9.999
         get k → VALUE k 0 1|v|END|
         append k 0 0 1|w → STORED|
         @10
         get k → END|
         touch k 5 → NOT_FOUND|
         add k 0 0 1|v → STORED|
         touch k 5 → TOUCHED|
         @15
         get k → END|
         @19.999
         gat 30 until gone → VALUE until 0 1|v|END|
         @20
         get until → VALUE until 0 1|v|END|
         gat -1 until until → VALUE until 0 1|v|END|
         get until → END|
         gat x never → CLIENT_ERROR invalid exptime argument|
         touch never x → CLIENT_ERROR invalid exptime argument|
         @2592000
         get long never → VALUE never 0 1|v|END|",
    );
}

#[test]
fn flush_all_at_once_or_later() {
    converse(
        "set a 0 0 1|v → STORED|
         flush_all → OK|
         get a → END|
         set a 0 0 1|v → STORED|
         flush_all 10 → OK|
         set b 0 0 1|v → STORED|
         @9.999
         get a b → VALUE a 0 1|v|VALUE b 0 1|v|END|
         @10
         get a b → END|
         set a 0 0 1|v → STORED|
         @100
         get a → VALUE a 0 1|v|END|
         flush_all 10 → OK|
         flush_all 20 → OK|
         @110
         get a → VALUE a 0 1|v|END|
         flush_all -1 → OK|
         get a → END|
         flush_all x → CLIENT_ERROR invalid exptime argument|",
    );
}

#[test]
fn noreply_is_silent() {
    converse(
        "set k 0 0 1 noreply|1|add k 0 0 1 noreply|2|incr k 1 noreply|get k → VALUE k 0 1|2|END|
         decr k 1 noreply|touch k 0 noreply|verbosity 1 noreply|get k → VALUE k 0 1|1|END|
         delete k noreply|delete k noreply|get k → END|
         set k 0 0 1|x → STORED|
         flush_all noreply|get k → END|
         set k 0 0 1|x → STORED|
         flush_all 0 noreply|get k → END|",
    );
}

#[test]
fn the_rest() {
    let version = env!("CARGO_PKG_VERSION");
    converse(&format!(
        "version → VERSION {version}|
         verbosity 1 → OK|
         verbosity → ERROR|
         verbosity x → CLIENT_ERROR bad command line format|
         stats reset → RESET|
         nonsense → ERROR|"
    ));
    let (reply, flow) = Peer::new().send(b"version\r\nquit\r\nversion\r\n");
    assert_eq!((reply, flow), (format!("VERSION {version}|"), Flow::Close));
    let mut peer = Peer::new();
    assert!(peer.send(b"stats slabs\r\n").0.starts_with("CLIENT_ERROR of 'stats' only"));
    assert!(peer.send(b"mg k v\r\n").0.starts_with("CLIENT_ERROR "));
}

#[test]
fn stats_count() {
    let mut peer = Peer::new();
    peer.send(b"set a 0 0 1\r\nx\r\nset b 0 1 1\r\nx\r\nadd a 0 0 1\r\nx\r\nget a b c\r\nflush_all 100\r\n");
    peer.now += 1000;
    let (stats, _) = peer.send(b"stats\r\n");
    for expected in
        ["cmd_get 3", "get_hits 2", "get_misses 1", "cmd_set 3", "total_items 2", "curr_items 1", "cmd_flush 1"]
    {
        assert!(stats.contains(&format!("|STAT {expected}|")), "{expected} in {stats}");
    }
    assert!(stats.starts_with("STAT version") && stats.ends_with("|END|"), "{stats}");
}

#[test]
fn requests_split_at_every_byte_are_answered_the_same() {
    let stream =
        b"set k 1 0 4\r\na\r\nb\r\nget k\r\nset k 0 0 1 noreply\r\nxget k k\r\nincr n 1\r\nset k 0 0 3\r\nabcde\r\n";
    let whole = Peer::new().send(stream).0;
    assert_eq!(whole, "STORED|VALUE k 1 4|a|b|END|ERROR|NOT_FOUND|CLIENT_ERROR bad data chunk|ERROR|");
    for split in 0..stream.len() {
        let mut peer = Peer::new();
        let first = peer.send(&stream[..split]).0;
        assert_eq!(first + &peer.send(&stream[split..]).0, whole, "split at {split}");
    }
}

#[test]
fn an_object_that_is_too_large_is_refused_without_losing_the_stream_or_serving_what_it_was_to_replace() {
    // One that fits the buffer, and one that is thrown away as it arrives.
    for len in [MEMORY as usize / 4, MEMORY as usize * 4] {
        let mut peer = Peer::new();
        assert_eq!(peer.send(b"set k 0 0 3\r\nold\r\n").0, "STORED|");
        let request = [format!("set k 0 0 {len}\r\n").into_bytes(), vec![b'x'; len], b"\r\n".to_vec()].concat();
        let mut replies = String::new();
        for piece in request.chunks(100_000) {
            replies += &peer.send(piece).0;
            assert!(peer.input.len() < MEMORY as usize / 2, "buffered {}", peer.input.len());
        }
        assert_eq!(replies, "SERVER_ERROR object too large for cache|", "{len}");
        assert_eq!(peer.send(b"get k\r\n").0, "END|");
    }
    let mut peer = Peer::new();
    let half = MEMORY as usize / 8;
    peer.send(&[format!("set k 0 0 {half}\r\n").into_bytes(), vec![b'x'; half], b"\r\n".to_vec()].concat());
    let request = [format!("append k 0 0 {half}\r\n").into_bytes(), vec![b'x'; half], b"\r\n".to_vec()].concat();
    assert_eq!(peer.send(&request).0, "SERVER_ERROR object too large for cache|");
}

#[test]
fn a_reply_larger_than_the_memory_is_refused() {
    let mut peer = Peer::new();
    peer.send(&[b"set k 0 0 200000\r\n".as_slice(), &[b'x'; 200_000], b"\r\n"].concat());
    assert!(peer.send(b"get k k k k k\r\n").0.ends_with("END|"));
    assert_eq!(peer.send(b"get k k k k k k\r\n").0, "SERVER_ERROR out of memory writing get response|");
}
