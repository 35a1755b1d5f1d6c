//! EVALSHA requests, and links on which their scripts have not run.

use super::*;
use crate::protocol::redis::script::Sha;

const BODY: &[u8] = b"return 1";
const EVALSHA: &[u8] = b"*3\r\n$7\r\nEVALSHA\r\n$40\r\ne0e1f9fabfc9d4800c877a703b823ac0578ff8db\r\n$1\r\n0\r\n";
const EVAL: &[u8] = b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n";
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script. Please use EVAL.\r\n";

impl Fixture {
    /// The body is remembered, and has run on the link.
    fn remember(&self) {
        let scripts = self.connection.known.scripts();
        scripts.set_limit(1 << 20);
        scripts.remember(Sha::of(BODY), BODY);
        self.connection.ran_script(Sha::of(BODY), scripts.times_forgotten());
        assert!(self.connection.has_script(&Sha::of(BODY)));
    }

    fn evalsha(&self, sequence: u64) {
        let once = Request::once(Ticket { sequence, part: 0 }, Expect::Resp);
        send_as(&self.connection, &self.asker, Request { script: true, ..once }, EVALSHA);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_waited_for_a_link_that_is_gone_goes_with_its_body_on_the_next_one_in_its_place() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, b"first\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        test.remember();
        // Nothing more is written here until the first is answered, and then nothing at all.
        test.connection.retire();
        test.evalsha(1);
        test.send(2, b"second\r\n");
        test.evalsha(3);
        socket.write_all(b"+0\r\n").await.unwrap();
        let mut next = test.accept().await;
        let expected = [EVAL, b"second\r\n", EVAL].concat();
        assert_eq!(receive(&mut next, expected.len()).await, text(&expected));
        assert!(!test.connection.has_script(&Sha::of(BODY)));
        next.write_all(b":1\r\n+2\r\n:3\r\n").await.unwrap();
        let told = test.asker.told(4).await;
        assert_eq!(told, [ok(0, "+0\r\n"), ok(1, ":1\r\n"), ok(2, "+2\r\n"), ok(3, ":3\r\n")]);
        assert_eq!(test.connection.wire.in_flight.borrow().bytes(), 0);
    });
}

#[test]
fn without_a_body_it_stays_as_it_is() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, b"first\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        test.remember();
        test.connection.retire();
        test.evalsha(1);
        test.connection.known.scripts().forget_all();
        socket.write_all(b"+0\r\n").await.unwrap();
        let mut next = test.accept().await;
        assert_eq!(receive(&mut next, EVALSHA.len()).await, text(EVALSHA));
        next.write_all(NOSCRIPT).await.unwrap();
        let both = text(&[EVALSHA, NOSCRIPT].concat());
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, &both)]);
    });
}

#[test]
fn a_script_that_is_missing_after_all_comes_back_with_its_request_and_is_not_known_any_more() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.remember();
        test.evalsha(0);
        test.send(1, b"other\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, EVALSHA.len() + 7).await;
        // Of a request that is none for a script the words mean nothing.
        socket.write_all(&[NOSCRIPT, NOSCRIPT].concat()).await.unwrap();
        let both = text(&[EVALSHA, NOSCRIPT].concat());
        assert_eq!(test.asker.told(2).await, [ok(0, &both), ok(1, &text(NOSCRIPT))]);
        assert!(!test.connection.has_script(&Sha::of(BODY)));
    });
}
