//! What a connection does, and says of its server, when that is slow, refuses to serve, moves or is ejected.

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_rest_of_a_request_that_was_answered_early_does_not_open_the_next_connection() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, &vec![b'L'; 8 << 20]);
        let mut socket = test.accept().await;
        receive(&mut socket, 1000).await;
        socket.write_all(b"-ERR too large\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(test.asker.told(1).await, [ok(0, "-ERR too large\r\n")]);
        while test.connection.is_up() {
            yield_now().await;
        }
        test.send(1, b"next\r\n");
        let mut second = test.accept().await;
        assert_eq!(receive(&mut second, 6).await, "next\r\n");
    });
}

#[test]
fn a_request_of_which_a_part_is_written_is_finished_before_its_link_is_retired() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        let large = vec![b'L'; 8 << 20];
        test.send(0, &large);
        let mut old = test.accept().await;
        receive(&mut old, 1000).await;
        test.connection.retire();
        sleep(millis(20)).await;
        receive(&mut old, large.len() - 1000).await;
        test.send(1, b"new\r\n");
        sleep(millis(20)).await;
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = test.accept().await;
        assert_eq!(receive(&mut new, 5).await, "new\r\n");
        assert_eq!(test.asker.told(1).await, [ok(0, "+0\r\n")]);
    });
}
