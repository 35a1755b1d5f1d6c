//! The keys of a pool about failing servers: when one is ejected, what becomes of its keys meanwhile, how it returns.

use std::time::Duration;

use super::Dialect::Outrigger;
use super::fields::{Context, Fields, closest};
use super::report::quoted;
use super::settings::{HealthSettings, OnEjected, OnReadmit, PoolSettings, Protocol};
use super::traps::Given;
use super::value::{Value, duration};
use super::yaml::Kind;

/// The keys that do nothing where nothing is ejected.
pub(super) const ONLY_WITH_EJECTION: [&str; 11] = [
    "server_retry_timeout",
    "server_failure_limit",
    "failure_replies",
    "max_ejected_percent",
    "on_ejected",
    "gutter_ttl",
    "on_readmit",
    "probe_interval",
    "probe_timeout",
    "probe_successes",
    "slow_start",
];

/// The values of `on_ejected` that name no pool.
pub(super) const POLICIES: [(&str, OnEjected); 3] =
    [("rehash", OnEjected::Rehash), ("fail_fast", OnEjected::FailFast), ("miss", OnEjected::Miss)];

/// The index of a pool until all pools are known; with an error in the report it stays, and nobody sees it.
const UNRESOLVED: usize = usize::MAX;

const READMISSIONS: [&str; 3] = ["keep", "flush", "quarantine"];

/// Words of servers that answer and cannot serve. BUSY and OOM are not among them: a script that runs long, or a full
/// memory, is no better elsewhere.
const DEFAULT_FAILURE_REPLIES: [&str; 2] = ["LOADING", "MASTERDOWN"];
const LONGEST_REPLY_WORD: usize = 32;

const DEFAULT_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_EJECTED: u64 = 50;
const DEFAULT_GUTTER_TTL: Duration = Duration::from_secs(60);
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Probes more often than this, or given less time, would find out nothing but scheduling.
const LEAST_PROBE_TIME: Duration = Duration::from_millis(10);
const DEFAULT_SLOW_START: Duration = Duration::from_secs(10);

/// Reads the keys. `stand_in` becomes the value of `on_ejected` if that is to be the name of a pool, which only the
/// whole file can tell.
pub(super) fn read<'a>(
    fields: &mut Fields<'a>,
    protocol: Protocol,
    stand_in: &mut Option<Value<'a>>,
) -> HealthSettings {
    let probe_time = |v: Value<'_>| v.duration_from(LEAST_PROBE_TIME);
    HealthSettings {
        eject: fields.read("auto_eject_hosts", false, |v| v.boolean()),
        failure_limit: fields.read("server_failure_limit", 2, |v| v.number(super::pool::INT)).max(1) as u32,
        retry_timeout: fields.read("server_retry_timeout", DEFAULT_RETRY_TIMEOUT, |v| v.duration()),
        failure_replies: fields.read_in(Outrigger, "failure_replies", default_replies(protocol), failure_replies),
        max_ejected_percent: fields
            .read_in(Outrigger, "max_ejected_percent", DEFAULT_MAX_EJECTED, |v| v.number(0..=100))
            as u8,
        on_ejected: fields.read_in(Outrigger, "on_ejected", OnEjected::Rehash, |v| on_ejected(v, stand_in)),
        gutter_ttl: fields.read_in(Outrigger, "gutter_ttl", DEFAULT_GUTTER_TTL, |v| v.seconds()),
        on_readmit: fields.read_in(Outrigger, "on_readmit", OnReadmit::Keep, on_readmit),
        probe_interval: fields.read_in(Outrigger, "probe_interval", DEFAULT_PROBE_INTERVAL, probe_time),
        probe_timeout: fields.read_in(Outrigger, "probe_timeout", DEFAULT_PROBE_TIMEOUT, probe_time),
        probe_successes: fields.read_in(Outrigger, "probe_successes", 2, |v| v.number(1..=100)) as u32,
        slow_start: fields.read_in(Outrigger, "slow_start", DEFAULT_SLOW_START, |v| v.duration()),
    }
}

fn default_replies(protocol: Protocol) -> Vec<String> {
    match protocol {
        Protocol::Redis => DEFAULT_FAILURE_REPLIES.map(str::to_owned).to_vec(),
        Protocol::Memcached => Vec::new(),
    }
}

/// A list of words in upper case, each once; the empty list says that no reply is a failure.
fn failure_replies(value: Value<'_>) -> Option<Vec<String>> {
    let allowed = format!(
        "allowed: a list of the first words of error replies, 1 to {LONGEST_REPLY_WORD} letters each \
         ([LOADING, MASTERDOWN]), or [] for none"
    );
    let Kind::Sequence(items) = &value.node.kind else {
        value.reject(&allowed);
        return None;
    };
    let mut words: Vec<String> = Vec::with_capacity(items.len().min(64));
    for item in items {
        let fits =
            |text: &&str| text.len() <= LONGEST_REPLY_WORD && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let Some(word) = item.scalar().filter(fits) else {
            Value { node: item, ..value }.reject(&allowed);
            return None;
        };
        let word = word.to_ascii_uppercase();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Some(words)
}

/// Any text that is no policy is to be the name of a pool.
fn on_ejected<'a>(value: Value<'a>, stand_in: &mut Option<Value<'a>>) -> Option<OnEjected> {
    let text = value.text("allowed: rehash, fail_fast, miss, or the name of another pool")?;
    if let Some((_, policy)) = POLICIES.iter().find(|(name, _)| *name == text) {
        return Some(*policy);
    }
    *stand_in = Some(value);
    Some(OnEjected::Pool(UNRESOLVED))
}

fn on_readmit(value: Value<'_>) -> Option<OnReadmit> {
    let mut allowed = "allowed: keep, flush, or quarantine and a duration (quarantine 10m), up to 24 days".to_owned();
    let word = value.node.scalar().and_then(|text| text.split(' ').next());
    if let Some(near) = word.filter(|w| !READMISSIONS.contains(w)).and_then(|w| closest(w, &READMISSIONS)) {
        allowed = format!("did you mean {}? {allowed}", quoted(near));
    }
    value.parsed(&allowed, |text| match text {
        "keep" => Some(OnReadmit::Keep),
        "flush" => Some(OnReadmit::Flush),
        _ => {
            let time = text.strip_prefix("quarantine ")?.trim_start_matches(' ');
            duration(time).filter(|time| !time.is_zero()).map(OnReadmit::Quarantine)
        }
    })
}

/// What a server held when it was ejected is older than what was written elsewhere meanwhile; that it is served again
/// must be somebody's choice. In twemproxy it always is, so a nutcracker.yml cannot say otherwise.
pub(super) fn require_on_readmit(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let written_elsewhere = matches!(settings.health.on_ejected, OnEjected::Rehash | OnEjected::Pool(_));
    let missing = given.places.of("on_readmit").is_none();
    if let (Outrigger, true, true, true, Some(at)) =
        (context.dialect, settings.health.eject, written_elsewhere, missing, given.places.of("auto_eject_hosts"))
    {
        let pool = quoted(&settings.name);
        let message = format!(
            "missing key in pool {pool}: 'on_readmit'. While a server is ejected, its keys are written elsewhere. When it \
             returns with what it held before, older values would be served again; allowed: keep (they are served), \
             flush (the server is emptied first), quarantine 10m (it stays away until they have expired)"
        );
        context.report.error(at, message);
    }
}
