//! Good files, damaged at random: every one is answered, none gives a secret away.

use outrigger::config::{self, OnEjected, Settings};
use proptest::prelude::*;

use crate::{samples, yaml_files};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage to a good file gives settings or errors that can be printed, never a panic, and no secret.
    #[test]
    fn damaged_files_are_answered(file in 0..8usize, edits in prop::collection::vec(edit(), 1..6)) {
        let mut text = corpus()[file].clone();
        for edit in &edits {
            edit.apply(&mut text);
        }
        match config::parse("x.yml", &text) {
            Ok(loaded) => {
                check(&loaded.settings);
                for warning in &loaded.warnings {
                    prop_assert!(!warning.to_string().contains("hunter2"), "{warning}");
                }
            }
            Err(errors) => {
                prop_assert!(!errors.problems.is_empty());
                prop_assert!(!errors.to_string().contains("hunter2"), "{errors}\n---\n{text}");
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "(?s).{0,200}") {
        if let Err(errors) = config::parse("x.yml", &text) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}

/// One piece of damage, at a place that is a share of the text.
#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, String),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Edit {
    /// Lines with a secret stay as they are: with a changed key they are no longer known to hold one.
    fn apply(&self, text: &mut String) {
        let place =
            |share: usize| (0..=share % (text.len() + 1)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let secret = |range: std::ops::Range<usize>| {
            let start = text[..range.start].rfind('\n').map_or(0, |i| i + 1);
            let end = text[range.end..].find('\n').map_or(text.len(), |i| range.end + i);
            text[start..end].contains("hunter2")
        };
        match self {
            Self::Insert(at, token) => {
                let at = place(*at);
                if !secret(at..at) {
                    text.insert_str(at, token);
                }
            }
            Self::Remove(at, length) | Self::Repeat(at, length) => {
                let start = place(*at);
                let end = (start..=(start + length).min(text.len()))
                    .rev()
                    .find(|i| text.is_char_boundary(*i))
                    .unwrap_or(start);
                if secret(start..end) {
                    return;
                }
                match self {
                    Self::Remove(..) => text.replace_range(start..end, ""),
                    _ => {
                        let piece = text[start..end].to_owned();
                        text.insert_str(end, &piece);
                    }
                }
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!t ",
        "---\n",
        "\n",
        " ",
        "  ",
        ":",
        ": ",
        "- ",
        "\"",
        "'",
        "|\n",
        ">\n",
        "#",
        "%",
        "\t",
        "\r\n",
        "\r",
        "\u{feff}",
        "\0",
        "é",
        "😀",
        "99999999999999999999",
        "-1",
        "~",
        "null",
        "<<",
        "? ",
        ",",
        "@",
        "`",
        "\u{2028}",
    ];
    let token = prop::sample::select(tokens.map(str::to_owned).to_vec());
    prop_oneof![
        (any::<usize>(), token).prop_map(|(at, token)| Edit::Insert(at, token)),
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn corpus() -> &'static [String] {
    static CORPUS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    CORPUS.get_or_init(|| {
        let mut texts: Vec<String> = yaml_files(&samples()).iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
        texts.push(
            "pools:\n  a:\n    listen: 127.0.0.1:1\n    redis: true\n    redis_auth: hunter2\n    servers:\n    - a:1:1\n  \
             b:\n    listen: 127.0.0.1:2\n    redis: true\n    redis_auth:\n      username: me\n      password: hunter2\n    \
             servers:\n    - a:1:1 x\n"
                .to_owned(),
        );
        texts.push(
            "resolver: 10.0.0.2\npools:\n  a:\n    listen: 127.0.0.1:1\n    auto_eject_hosts: true\n    on_ejected: b\n    \
             gutter_ttl: 30s\n    on_readmit: quarantine 10m\n    servers: [a:1, b:1]\n  b:\n    listen: 127.0.0.1:2\n    \
             auto_eject_hosts: true\n    on_ejected: rehash\n    on_readmit: flush\n    servers: [a:2, b:2]\n  c:\n    \
             listen: 127.0.0.1:3\n    redis: true\n    failure_replies: [OOM]\n    servers: [c:1]\n"
                .to_owned(),
        );
        texts
    })
}

/// What the rest of the program relies on.
fn check(settings: &Settings) {
    assert!(!settings.pools.is_empty());
    for (index, pool) in settings.pools.iter().enumerate() {
        let health = &pool.health;
        assert!(health.failure_limit > 0 && health.probe_successes > 0 && !health.probe_interval.is_zero(), "{pool:?}");
        assert!(health.gutter_ttl.as_secs() > 0 && health.gutter_ttl.subsec_nanos() == 0, "{pool:?}");
        if let OnEjected::Pool(other) = health.on_ejected {
            let stand_in = &settings.pools[other];
            assert!(other != index && stand_in.protocol == pool.protocol, "{pool:?}");
            assert!(!matches!(stand_in.health.on_ejected, OnEjected::Pool(_)), "a chain: {pool:?}");
        }
        assert!(!pool.servers.is_empty() && pool.server_connections > 0, "{pool:?}");
        assert!(pool.servers.iter().all(|server| server.weight > 0 && !server.name.is_empty()), "{pool:?}");
        assert!(pool.servers.is_sorted_by_key(|server| (server.name.len(), server.name.clone())), "{pool:?}");
    }
}
