//! What a run has shown, and what must hold of it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::machine::Usage;
use crate::scene::is_long;
use crate::support::fleet::{Sample, Seen};

/// What the clients of one pool were told.
pub struct Told {
    pub pool: &'static str,
    pub seen: Seen,
}

pub struct Run {
    pub told: Vec<Told>,
    pub controls: Vec<(Instant, Duration)>,
    /// How long the proxy took for what it answers itself.
    pub doors: Vec<(Instant, Duration)>,
    pub begun: Instant,
    pub broken: Instant,
    /// The repair began.
    pub mending: Instant,
    /// And was done.
    pub mended: Instant,
    /// From the repair until the servers had all their keys again, where they can be ejected.
    pub readmitted: Option<Duration>,
    pub usage: (Usage, Usage),
    /// Servers without a fault were ejected: the machine made them late.
    pub others_ejected: bool,
    /// What must not be, but may be the machine's fault.
    pub doubts: RefCell<Vec<String>>,
}

/// The bit of the server with the fault.
const VICTIM: u8 = 1;
/// What two busy cores add to the slowest of a hundred.
const NOISE: Duration = Duration::from_millis(20);
/// So many replies that name their keys are enough, where a busy machine makes them few.
const MATCHED: u64 = 40;
/// No run takes longer.
const END: Duration = Duration::from_secs(3600);
/// What an allocator may keep of the buffers of a time of errors.
const KEPT_KIB: u64 = 32 << 10;

impl Run {
    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.told.iter().flat_map(|told| &told.seen.samples)
    }

    /// Errors so far told by all.
    pub fn errors(&self) -> impl Iterator<Item = &Sample> {
        self.samples().filter(|sample| sample.error.is_some())
    }

    /// From the fault to the last error.
    pub fn last_error(&self) -> Duration {
        self.errors()
            .map(|e| e.answered)
            .max()
            .map_or(Duration::ZERO, |last| last.saturating_duration_since(self.broken))
    }

    /// From the repair to the last error.
    pub fn recovery(&self) -> Duration {
        self.errors()
            .map(|e| e.answered)
            .max()
            .map_or(Duration::ZERO, |last| last.saturating_duration_since(self.mended))
    }

    /// Of requests of others, by when they were asked.
    fn others(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let of_others = |s: &&Sample| s.homes & VICTIM == 0 && s.free && (from..to).contains(&s.asked);
        self.samples().filter(of_others).map(|s| s.answered - s.asked).collect()
    }

    fn control(&self, from: Instant, to: Instant) -> Vec<Duration> {
        self.controls.iter().filter(|(asked, _)| (from..to).contains(asked)).map(|(_, took)| *took).collect()
    }

    /// The longest that a request took that had nothing to do with any fault, past the proxy or at the proxy itself.
    pub fn machine_stood_still(&self) -> Duration {
        self.controls.iter().chain(&self.doors).map(|(_, took)| *took).max().unwrap_or_default()
    }

    /// What must hold whatever the fault was.
    pub fn nothing_is_swapped_or_lost(&self) -> &Self {
        for Told { pool, seen } in &self.told {
            assert!(seen.wrong.is_empty(), "{pool}: {}", seen.wrong.join("\n"));
            if seen.answered <= 500 {
                self.doubt(format!("{pool}: only {} replies", seen.answered));
                continue;
            }
            let good = seen.samples.iter().filter(|s| s.error.is_none()).count() as u64;
            assert!(
                seen.matched > (good / 8).min(MATCHED),
                "{pool}: {} of {good} good replies named a key",
                seen.matched
            );
        }
        let (before, after) = self.usage;
        assert!(after.memory_kib <= before.memory_kib + KEPT_KIB, "{before:?} {after:?}");
        self
    }

    pub fn no_value_is_older_than_an_acknowledged_one(&self) -> &Self {
        for Told { pool, seen } in &self.told {
            let older: Vec<String> = seen
                .older
                .iter()
                .map(|(at, text)| format!("{text}, {:?} after the repair", at.saturating_duration_since(self.mended)))
                .collect();
            if self.others_ejected && !older.is_empty() {
                // Whoever is ejected and comes back may have kept them from the time before.
                self.doubt(format!("{pool}: {}", older.join("\n")));
                continue;
            }
            assert!(older.is_empty(), "{pool}: {}", older.join("\n"));
        }
        self
    }

    /// Errors are told after the fault only, of requests for its server only, and say so, unless they are the server's own.
    fn only_keys_of_the_victim_fail(&self, own: &[&str]) -> &Self {
        for Told { pool, seen } in &self.told {
            let (place, mut strange) = (format!("(pool {pool}, server s0)"), Vec::new());
            for sample in seen.samples.iter().filter(|s| s.error.is_some()) {
                let text = sample.error.as_deref().unwrap_or_default();
                let after = sample.answered.saturating_duration_since(self.broken);
                let its_own = sample.homes & VICTIM != 0 && sample.answered >= self.broken;
                let says_so = text.ends_with(&place) || own.contains(&text);
                // A machine that stands still makes any server late, and who is late too often is ejected.
                let late = text.contains("timed out") || self.others_ejected;
                if late && !(its_own && says_so) {
                    strange.push(format!(
                        "{after:?} after the fault, asked {:?} earlier, at home on {:b}: {text}",
                        sample.answered - sample.asked,
                        sample.homes
                    ));
                    continue;
                }
                assert!(its_own, "{pool}: {after:?} after the fault, another server's: {text}");
                assert!(says_so, "{pool}: no {place}: {text}");
            }
            if let Some(first) = strange.first() {
                self.doubt(format!("{pool}: {} errors of others or in the name of others: {first}", strange.len()));
            }
        }
        self
    }

    fn others_are_as_quick_as_before(&self) -> &Self {
        let before = percentile(self.others(self.begun, self.broken), 99);
        let during = percentile(self.others(self.broken, self.mended), 99);
        // What is there from the start has no time before it.
        let after = percentile(self.others(self.mended, self.mended + END), 99);
        let machine = percentile(self.control(self.broken, self.mended), 99);
        if during > 2 * before.max(after).max(machine) + NOISE {
            self.doubt(format!(
                "p99 of others {before:?} before, {during:?} during, {after:?} after; the machine's own {machine:?}"
            ));
        }
        self
    }

    /// What depends on time is noted; [`crate::scene::play`] judges, as the machine may be to blame.
    pub fn doubt(&self, text: String) {
        self.doubts.borrow_mut().push(text);
    }

    /// The usual: all of the above.
    pub fn only_the_victim_suffers(&self) -> &Self {
        self.only_the_victim_suffers_and_says(&[])
    }

    /// The same, for servers that are ejected more than once: the others may have kept values from the time before.
    pub fn only_the_victim_suffers_but_for_older_values(&self) -> &Self {
        self.nothing_is_swapped_or_lost().only_keys_of_the_victim_fail(&[]).others_are_as_quick_as_before()
    }

    /// The same, where the victim's own errors are passed on.
    pub fn only_the_victim_suffers_and_says(&self, own: &[&str]) -> &Self {
        self.nothing_is_swapped_or_lost()
            .no_value_is_older_than_an_acknowledged_one()
            .only_keys_of_the_victim_fail(own)
            .others_are_as_quick_as_before()
    }

    /// The fault was one: there were errors.
    pub fn it_was_noticed(&self) -> &Self {
        // Clients that hardly come to ask anything ask nothing of the one server while it fails.
        for told in self.told.iter().filter(|told| told.seen.errors.is_empty()) {
            self.doubt(format!("{}: no errors", told.pool));
        }
        self
    }

    pub fn nobody_is_told_an_error(&self) -> &Self {
        self.at_most(0)
    }

    pub fn at_most(&self, errors: usize) -> &Self {
        let (count, last) = (self.errors().count(), self.last_error());
        if count > errors {
            self.doubt(format!("{count} errors, limit {errors}, the last after {last:?}: {:?}", self.summary()));
        }
        self
    }

    /// What changes nothing is asked again; once, so on a machine that stands still two resets may meet the same request.
    pub fn no_read_fails(&self) -> &Self {
        // One that is asked again late meets the next fault.
        let failed: Vec<&Sample> = self.errors().filter(|s| s.read).collect();
        if !failed.is_empty() {
            self.doubt(format!("{} reads failed: {:#?}", failed.len(), &failed[..failed.len().min(5)]));
        }
        self
    }

    pub fn readmitted_within(&self, limit: Duration) -> &Self {
        let after = self.readmitted.expect("a scene with ejection");
        if after > limit {
            self.doubt(format!("back {after:?} after the repair, limit {limit:?}"));
        }
        self
    }

    pub fn last_error_within(&self, limit: Duration) -> &Self {
        let last = self.last_error();
        if last > limit {
            self.doubt(format!("an error {last:?} after the fault, limit {limit:?}: {:?}", self.summary()));
        }
        self
    }

    pub fn well_again_within(&self, limit: Duration) -> &Self {
        let last = self.recovery();
        if last > limit {
            self.doubt(format!("an error {last:?} after the repair, limit {limit:?}: {:?}", self.summary()));
        }
        self
    }

    /// Each error text begins with one of these, behind `ERR ` or `SERVER_ERROR `.
    pub fn errors_say(&self, beginnings: &[&str]) -> &Self {
        for text in self.errors().filter_map(|s| s.error.as_deref()) {
            let told = text.trim_start_matches("SERVER_ERROR ").trim_start_matches("ERR ");
            assert!(beginnings.iter().any(|b| told.starts_with(b) || text == *b), "{text:?} is none of {beginnings:?}");
        }
        self
    }

    /// No request took longer, errors included.
    pub fn nobody_waits_longer_than(&self, limit: Duration) -> &Self {
        let slowest = self.samples().max_by_key(|s| s.answered - s.asked).expect("samples");
        if slowest.answered - slowest.asked > limit {
            self.doubt(format!("{:?}, limit {limit:?}: {slowest:?}", slowest.answered - slowest.asked));
        }
        self
    }

    /// Errors of a known cause need no time of their own. The first ones come from requests that were under way.
    pub fn most_errors_come_within(&self, limit: Duration) -> &Self {
        self.most_errors_asked_after(Duration::from_millis(100), limit)
    }

    /// Of those that asked so long after the fault.
    pub fn most_errors_asked_after(&self, after: Duration, limit: Duration) -> &Self {
        let from = self.broken + after;
        let known = |s: &&Sample| s.free && (from..self.mending).contains(&s.asked);
        let times: Vec<Duration> = self.errors().filter(known).map(|s| s.answered - s.asked).collect();
        let in_time = |(asked, _): &&(Instant, Duration)| (from..self.mending).contains(asked);
        let usual: Vec<Duration> = self.doors.iter().filter(in_time).map(|(_, took)| *took).collect();
        let limits = [(50, Duration::ZERO), (99, NOISE)].map(|(percent, noise)| {
            let (took, own) = (percentile(times.clone(), percent), percentile(usual.clone(), percent));
            (percent, took, own, limit.max(2 * own) + noise)
        });
        for (percent, took, own, limit) in limits {
            if took > limit {
                self.doubt(format!(
                    "errors take {took:?} (p{percent}), limit {limit:?}; what the proxy answers itself {own:?}"
                ));
            }
        }
        self
    }

    /// Errors by text, and how many.
    pub fn summary(&self) -> Vec<(usize, String)> {
        let mut texts: Vec<String> = self.errors().filter_map(|s| s.error.clone()).collect();
        texts.sort();
        let counts = texts.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0].clone()));
        counts.collect()
    }

    /// One line of the table.
    pub fn print(&self, fault: &str) {
        static HEAD: std::sync::Once = std::sync::Once::new();
        HEAD.call_once(|| {
            let others = "others' p99 ms: before  during   after";
            println!("{:<44} replies  errors  late  older  last error  recovery   back   {others}   RSS MiB", "fault");
        });
        let replies: u64 = self.told.iter().map(|t| t.seen.answered).sum();
        let late: u64 = self.told.iter().map(|t| t.seen.late).sum();
        let older: usize = self.told.iter().map(|t| t.seen.older.len()).sum();
        let back = self.readmitted.map_or("-".to_owned(), |after| format!("{:.2}", after.as_secs_f64()));
        let spans = [(self.begun, self.broken), (self.broken, self.mended), (self.mended, self.mended + END)];
        let [before, during, after] =
            spans.map(|(from, to)| percentile(self.others(from, to), 99).as_secs_f64() * 1000.0);
        println!(
            "{fault:<44} {replies:>7} {:>7} {late:>5} {older:>6} {:>9.2} s {:>7.2} s {back:>6} {before:>21.1} {during:>7.1} {after:>7.1}   {} -> {}",
            self.errors().count(),
            self.last_error().as_secs_f64(),
            self.recovery().as_secs_f64(),
            self.usage.0.memory_kib >> 10,
            self.usage.1.memory_kib >> 10,
        );
        if is_long() {
            for (count, text) in self.summary() {
                println!("{count:>20} × {text}");
            }
        }
    }
}

/// Nothing of nothing.
pub fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}
