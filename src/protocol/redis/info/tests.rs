//! INFO by example.

use super::*;

fn merged(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| text.replace('|', "\r\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    merge(&texts).replace("\r\n", "|")
}

/// A field of one section.
#[track_caller]
fn check(field: &str, values: &[&str], expected: &str) {
    let texts: Vec<String> = values.iter().map(|value| format!("# S|{field}:{value}|")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(merged(&texts), format!("# S|{field}:{expected}|"), "{field} of {values:?}");
}

#[test]
fn figures_are_those_of_all_servers() {
    check("connected_clients", &["1", "2", "3"], "6");
    check("used_memory", &["100", "20"], "120");
    check("total_commands_processed", &["5", "7"], "12");
    check("instantaneous_ops_per_sec", &["5", "7"], "12");
    check("instantaneous_input_kbps", &["0.05", "0.17"], "0.22");
    check("used_cpu_sys", &["0.000001", "1.500000"], "1.500001");
    check("uptime_in_seconds", &["90", "1000"], "90");
    check("redis_version", &["7.2.4", "7.10.0", "7.2.10"], "7.2.4");
    check("loading", &["0", "1"], "1");
    check("rdb_bgsave_in_progress", &["0", "1"], "1");
    check("rdb_last_save_time", &["200", "100"], "100");
    check("aof_enabled", &["1", "0"], "0");
    check("mem_fragmentation_ratio", &["1.20", "13.86"], "13.86");
    check("mem_fragmentation_bytes", &["5", "-3"], "2");
    check("maxmemory", &["100", "100"], "200");
    check("maxmemory", &["100", "0"], "0");
    check("rdb_last_bgsave_status", &["ok", "err"], "err");
    check("rdb_last_bgsave_status", &["ok", "ok"], "ok");
    check("connected_slaves", &["0", "0"], "0");
}

#[test]
fn what_is_one_servers_is_the_first_ones() {
    for field in
        ["role", "redis_mode", "run_id", "os", "tcp_port", "total_system_memory", "mem_allocator", "unheard_of"]
    {
        check(field, &["master", "other"], "master");
    }
}

#[test]
fn sizes_for_people_are_those_of_the_sums() {
    let text = |bytes: &str| format!("# Memory|used_memory:{bytes}|used_memory_human:x|used_memory_peak_perc:99.00%|");
    let merged = merged(&[&text("512"), &text("512")]);
    assert_eq!(merged, "# Memory|used_memory:1024|used_memory_human:1.00K|");
    for (bytes, said) in [(0, "0B"), (1023, "1023B"), (916_368, "894.89K"), (12_144_640, "11.58M")] {
        assert_eq!(human(bytes), said);
    }
    assert_eq!(human(u64::MAX), "16384.00P");
}

#[test]
fn the_keyspace_has_the_databases_of_all() {
    let one = "# Keyspace|db0:keys=10,expires=1,avg_ttl=1000|";
    let two = "# Keyspace|db0:keys=5,expires=3,avg_ttl=2000|db3:keys=1,expires=0,avg_ttl=0|";
    assert_eq!(
        merged(&[one, "# Keyspace|", two]),
        "# Keyspace|db0:keys=15,expires=4,avg_ttl=1750|db3:keys=1,expires=0,avg_ttl=0|"
    );
    assert_eq!(merged(&["# Keyspace|", one]), one);
    assert_eq!(merged(&["# Keyspace|", "# Keyspace|"]), "# Keyspace|");
}

#[test]
fn statistics_of_commands_and_errors_are_put_together_by_name() {
    let one = "# Commandstats|cmdstat_get:calls=2,usec=10,usec_per_call=5.00,failed_calls=0|";
    let two = "# Commandstats|cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=1|\
               cmdstat_get:calls=2,usec=30,usec_per_call=15.00,failed_calls=1|";
    assert_eq!(
        merged(&[one, two]),
        "# Commandstats|cmdstat_get:calls=4,usec=40,usec_per_call=10.00,failed_calls=1|\
         cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=1|"
    );
    check("errorstat_ERR", &["count=1", "count=4"], "count=5");
    check("latency_percentiles_usec_get", &["p50=1.003,p99=9.023", "p50=2.007,p99=4.015"], "p50=2.007,p99=9.023");
}

#[test]
fn replicas_are_counted_through() {
    let one = "# Replication|role:master|connected_slaves:1|slave0:ip=a|master_repl_offset:7|";
    let two = "# Replication|role:master|connected_slaves:2|slave0:ip=b|slave1:ip=c|master_repl_offset:9|";
    assert_eq!(
        merged(&[one, two]),
        "# Replication|role:master|connected_slaves:3|slave0:ip=a|slave1:ip=b|slave2:ip=c|master_repl_offset:7|"
    );
}

#[test]
fn sections_are_the_first_servers_and_odd_lines_are_left_out() {
    assert_eq!(merged(&["# A|x:1||# B|y:2|", "# C|z:3|"]), "# A|x:1||# B|y:2|");
    assert_eq!(merged(&["nonsense|# A|no field|x:a:b|"]), "# A|x:a:b|");
    assert_eq!(merged(&["", "# A|x:1|"]), "");
    assert_eq!(merged(&[]), "");
}

#[test]
fn every_rule_has_a_field() {
    let known = include_str!("fields.txt");
    for (pattern, expected) in RULES {
        // The one before it takes what both fit.
        let fields = known.lines().filter(|field| rule(field) == *expected);
        let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
        let mut fields = fields.filter(|field| field.starts_with(start) && field.ends_with(end));
        assert!(fields.next().is_some(), "{pattern} fits nothing that a server says");
    }
}
