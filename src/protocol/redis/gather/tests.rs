//! Merges by example, each in RESP2 and RESP3 where these differ.

use super::*;

/// What comes of these replies, `|` being a line end.
fn merged_with(kind: FanOut, replies: &[&str], hint: Hint) -> Option<String> {
    let replies: Vec<String> = replies.iter().map(|reply| reply.replace('|', "\r\n")).collect();
    let bytes: Vec<&[u8]> = replies.iter().map(|reply| reply.as_bytes()).collect();
    let mut out = b"before".to_vec();
    let done = gather(kind, &bytes, hint, &mut out);
    let text = String::from_utf8(out).unwrap().replace("\r\n", "|");
    let text = text.strip_prefix("before").unwrap().to_owned();
    assert!(done.is_some() || text.is_empty(), "{text} was written all the same");
    done.map(|()| text)
}

fn merged(kind: FanOut, replies: &[&str]) -> Option<String> {
    merged_with(kind, replies, Hint::default())
}

#[track_caller]
fn check(kind: FanOut, replies: &[&str], expected: &str) {
    assert_eq!(merged(kind, replies).as_deref(), Some(expected), "{kind:?} of {replies:?}");
}

#[test]
fn numbers_are_summed_or_the_least_or_the_greatest_is_taken() {
    check(FanOut::Sum, &[":1|", ":2|", ":39|"], ":42|");
    check(FanOut::Least, &[":7|", ":5|", ":9|"], ":5|");
    check(FanOut::Greatest, &[":7|", ":-5|", ":9|"], ":9|");
    for kind in [FanOut::Sum, FanOut::Least, FanOut::Greatest] {
        assert_eq!(merged(kind, &[":1|", "+OK|"]), None);
    }
    assert_eq!(merged(FanOut::Sum, &[":9223372036854775807|", ":1|"]), None);
}

#[test]
fn what_all_have_done_is_said_once() {
    for kind in [FanOut::Same, FanOut::Everywhere, FanOut::Flush, FanOut::Any] {
        check(kind, &["+first|", "+second|"], "+first|");
    }
    check(FanOut::Equal, &["+OK|", "+OK|"], "+OK|");
    assert_eq!(merged(FanOut::Equal, &["+OK|", "+KO|"]), None);
}

#[test]
fn a_script_exists_where_all_have_it() {
    check(FanOut::All, &["*3|:1|:1|:0|", "*3|:1|:0|:0|"], "*3|:1|:0|:0|");
    for odd in ["*2|:1|:1|", "*3|:1|+x|:1|", ":1|", "*-1|"] {
        assert_eq!(merged(FanOut::All, &["*3|:1|:1|:1|", odd]), None, "{odd}");
    }
}

#[test]
fn elements_are_put_together_in_the_type_of_the_first() {
    check(FanOut::Concat, &["*1|$1|a|", "*0|", "*2|$1|b|$1|a|"], "*3|$1|a|$1|b|$1|a|");
    check(FanOut::Concat, &["~1|$1|a|", "~1|$1|b|"], "~2|$1|a|$1|b|");
    check(FanOut::Union, &["*1|$1|a|", "*2|$1|b|$1|a|", "*0|"], "*2|$1|a|$1|b|");
    assert_eq!(merged(FanOut::Concat, &["*0|", "$-1|"]), None);
}

#[test]
fn subscribers_are_summed_by_name() {
    check(FanOut::SumPairs, &["*4|$1|a|:1|$1|b|:0|", "*4|$1|a|:2|$1|b|:0|"], "*4|$1|a|:3|$1|b|:0|");
    check(FanOut::SumPairs, &["%1|$1|a|:1|", "%1|$1|a|:2|"], "%1|$1|a|:3|");
    check(FanOut::SumPairs, &["*0|", "*0|"], "*0|");
    assert_eq!(merged(FanOut::SumPairs, &["*2|$1|a|:1|", "*2|$1|b|:1|"]), None);
    assert_eq!(merged(FanOut::SumPairs, &["*2|$1|a|:1|", "*0|"]), None);
    assert_eq!(merged(FanOut::SumPairs, &["$1|a|", "$1|a|"]), None);
}

#[test]
fn the_newest_come_first_and_no_more_than_are_asked_for() {
    let (one, two) = ("*2|*2|:5|:100|*2|:4|:90|", "*2|*2|:9|:95|*2|:8|:80|");
    let of = |count| merged_with(FanOut::Newest, &[one, two], Hint { count, random: 0 }).unwrap();
    assert_eq!(of(Some(3)), "*3|*2|:5|:100|*2|:9|:95|*2|:4|:90|");
    assert_eq!(of(Some(0)), "*0|");
    assert_eq!(of(None), "*4|*2|:5|:100|*2|:9|:95|*2|:4|:90|*2|:8|:80|");
    let old = format!("*1|*2|:1|:{}|", i64::MIN);
    check(FanOut::Newest, &[&old, "*1|*2|:5|:1|"], &format!("*2|*2|:5|:1|*2|:1|:{}|", i64::MIN));
    assert_eq!(merged(FanOut::Newest, &["*1|:5|"]), None);
}

#[test]
fn latency_is_in_the_order_of_time_and_by_event() {
    check(FanOut::History, &["*2|*2|:1|:50|*2|:9|:60|", "*1|*2|:5|:70|"], "*3|*2|:1|:50|*2|:5|:70|*2|:9|:60|");
    let (one, two) = ("*2|*4|$4|fork|:10|:3|:9|*4|$3|aof|:1|:1|:1|", "*1|*4|$4|fork|:20|:2|:4|");
    check(FanOut::Latest, &[one, two], "*2|*4|$4|fork|:20|:2|:9|*4|$3|aof|:1|:1|:1|");
    check(FanOut::Latest, &["*1|*6|+x|:1|:1|:1|:5|:1|", "*1|*6|+x|:0|:9|:9|:7|:2|"], "*1|*6|+x|:1|:1|:9|:12|:3|");
    check(FanOut::Latest, &["*0|", "*0|"], "*0|");
    assert_eq!(merged(FanOut::Latest, &["*1|*2|+x|:1|"]), None);
}

#[test]
fn the_server_that_runs_a_script_tells_of_it() {
    let idle = "*4|$14|running_script|$-1|$7|engines|*0|";
    let busy = "*4|$14|running_script|*2|$4|name|$1|f|$7|engines|*0|";
    check(FanOut::Running, &[idle, busy], busy);
    check(FanOut::Running, &[idle, idle], idle);
    let (idle, busy) = ("%2|$14|running_script|_|$7|engines|%0|", "%2|$14|running_script|%1|+a|:1|$7|engines|%0|");
    check(FanOut::Running, &[idle, busy], busy);
}

#[test]
fn a_random_key_is_of_a_server_in_proportion_to_its_keys() {
    let drawn = |replies: &[&str], part: f64| {
        let random = (part * f64::from(u32::MAX)) as u32;
        merged_with(FanOut::Random, replies, Hint { count: None, random }).unwrap()
    };
    let replies = ["$1|a|", "$1|b|", "$-1|", ":10|", ":30|", ":0|"];
    for (part, key) in [(0.0, "$1|a|"), (0.24, "$1|a|"), (0.26, "$1|b|"), (1.0, "$1|b|")] {
        assert_eq!(drawn(&replies, part), key, "{part}");
    }
    assert_eq!(drawn(&["$-1|", "$-1|", ":0|", ":0|"], 0.5), "$-1|");
    assert_eq!(drawn(&["_|", "$1|b|", ":5|", ":0|"], 0.9), "$1|b|", "its last key came in between");
    let most = i64::MAX;
    assert_eq!(drawn(&["$1|a|", "$1|b|", &format!(":{most}|"), &format!(":{most}|")], 0.9), "$1|b|");
    assert_eq!(merged(FanOut::Random, &["$1|a|", "+OK|"]), None);
}

#[test]
fn merges_are_offered_for_every_kind() {
    // Those that are not merged here are told apart by the session before.
    assert_eq!(merged(FanOut::Scan, &["*2|$1|0|*0|"]), None);
    assert_eq!(merged(FanOut::Info, &["$0||"]), None);
    assert_eq!(merged(FanOut::Sum, &[]), None);
}
