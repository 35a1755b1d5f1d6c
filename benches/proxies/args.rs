//! The command line, checked: after this file there are only known rows, protocols and contenders.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::contender::{Entry, Kind};
use crate::load::Refill;
use crate::sys::{Result, usable_cpus};
use crate::workload::{Protocol, SCENARIOS, Scenario};

/// Outrigger against nutcracker against no proxy at all, over the same servers, round by round.
#[derive(Debug, Parser)]
#[command(name = "proxies", version)]
pub struct Args {
    /// How often each row is measured for each contender; their order rotates from round to round
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Load before each measurement that is not counted, in seconds
    #[arg(long, default_value_t = 0.2)]
    pub warmup: f64,
    /// Only these rows, protocols and contenders, e.g. `50x1,50x16,redis,nutcracker`; a kind not named stays whole
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// The Outrigger to measure; if not given, what OUTRIGGER in the environment names
    #[arg(long, value_name = "PATH", default_value_t = outrigger_of_environment())]
    pub outrigger: String,
    /// One more contender: another build of Outrigger, or nutcracker again (told by the file name)
    #[arg(long = "contender", value_name = "NAME=PATH")]
    pub contenders: Vec<String>,
    /// The contender that the others are divided by
    #[arg(long, default_value = "nutcracker")]
    pub baseline: String,
    /// Which CPUs: `split` (proxy alone on the first), `none` (the scheduler decides), or `PROXY/LOAD/SERVERS` as
    /// lists, e.g. `0/1/2-3`
    #[arg(long, default_value = "split")]
    pub pin: String,
    /// How a client at a depth above 1 goes on
    #[arg(long, value_enum, default_value_t = Refill::Batch)]
    pub refill: Refill,
    /// After the rounds, one more pass per row that counts the system calls of each proxy (needs root)
    #[arg(long)]
    pub syscalls: bool,
    /// Instead of the rows: open so many client connections, one request each, and report the memory of each
    #[arg(long, value_name = "CONNECTIONS")]
    pub idle: Option<usize>,
    /// Also write every single measurement here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn outrigger_of_environment() -> String {
    std::env::var("OUTRIGGER").unwrap_or_else(|_| "target/release/outrigger".into())
}

/// What is to be measured.
pub struct Selection {
    pub scenarios: Vec<Scenario>,
    pub protocols: Vec<Protocol>,
    pub entries: Vec<Entry>,
}

impl Args {
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.max(0.01))
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup.max(0.0))
    }

    pub fn selection(&self) -> Result<Selection> {
        let mut named = vec![("nutcracker".to_owned(), "nutcracker".to_owned())];
        named.push(("outrigger".to_owned(), self.outrigger.clone()));
        for contender in &self.contenders {
            let (name, path) =
                contender.split_once('=').ok_or_else(|| format!("--contender {contender}: not NAME=PATH"))?;
            named.push((name.to_owned(), path.to_owned()));
        }
        let names: Vec<&str> = ["direct"].into_iter().chain(named.iter().map(|(name, _)| name.as_str())).collect();
        if let Some(twice) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
        {
            return Err(format!("two contenders are called {twice}"));
        }
        let scenario_names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        let protocol_names = Protocol::ALL.map(Protocol::name);
        let known = [scenario_names.as_slice(), &protocol_names, &names].concat();
        if let Some(unknown) = self.only.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(format!("--only {unknown}: not one of {}", known.join(", ")));
        }
        let mut entries = Vec::new();
        if self.wants("direct", &names) {
            entries.push(Entry { name: "direct".into(), kind: Kind::Direct });
        }
        for (name, path) in named.iter().filter(|(name, _)| self.wants(name, &names)) {
            entries.push(Entry::at(name, path)?);
        }
        Ok(Selection {
            scenarios: SCENARIOS.into_iter().filter(|scenario| self.wants(scenario.name, &scenario_names)).collect(),
            protocols: Protocol::ALL
                .into_iter()
                .filter(|protocol| self.wants(protocol.name(), &protocol_names))
                .collect(),
            entries,
        })
    }

    /// A kind of thing is filtered only when one of its kind is named.
    fn wants(&self, name: &str, kind: &[&str]) -> bool {
        let named = |word: &String| kind.contains(&word.as_str());
        !self.only.iter().any(named) || self.only.iter().any(|word| word == name)
    }
}

/// Who runs on which CPUs; an empty list: anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinning {
    pub proxy: Vec<usize>,
    pub load: Vec<usize>,
    pub servers: Vec<usize>,
}

impl Pinning {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self { proxy: vec![], load: vec![], servers: vec![] }),
            "split" => Ok(Self::split(&usable_cpus())),
            lists => {
                let bad = || format!("--pin {text}: not split, none or PROXY/LOAD/SERVERS");
                let lists = lists.split('/').map(parse_cpus).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
                let [proxy, load, servers] = <[Vec<usize>; 3]>::try_from(lists).map_err(|_| bad())?;
                Ok(Self { proxy, load, servers })
            }
        }
    }

    /// The proxy shares with nobody as long as there are two CPUs; then load and servers part.
    fn split(cpus: &[usize]) -> Self {
        let (proxy, load, servers): (&[usize], &[usize], &[usize]) = match cpus {
            [] | [_] => (&[], &[], &[]),
            [proxy, other] => (&[*proxy], &[*other], &[*other]),
            [proxy, load, rest @ ..] => (&[*proxy], &[*load], &rest[..rest.len().min(2)]),
        };
        Self { proxy: proxy.to_vec(), load: load.to_vec(), servers: servers.to_vec() }
    }
}

/// `0,2-3` is 0, 2, 3.
fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    let ranges = text.split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        (first <= last).then(|| (first..=last).collect::<Vec<_>>())
    });
    Some(ranges.collect::<Option<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_there_is() {
        let of = |count: usize| {
            let Pinning { proxy, load, servers } = Pinning::split(&(0..count).collect::<Vec<_>>());
            (proxy, load, servers)
        };
        assert_eq!(of(1), (vec![], vec![], vec![]));
        assert_eq!(of(2), (vec![0], vec![1], vec![1]));
        assert_eq!(of(3), (vec![0], vec![1], vec![2]));
        assert_eq!(of(8), (vec![0], vec![1], vec![2, 3]));
    }

    #[test]
    fn reads_lists_of_cpus() {
        let pinning = Pinning::parse("0/1/2,4-5").unwrap();
        assert_eq!((pinning.proxy, pinning.load, pinning.servers), (vec![0], vec![1], vec![2, 4, 5]));
        for bad in ["0/1", "0/1/x", "0/1/3-2", "", "0/1/2/3"] {
            assert!(Pinning::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_filters_within_a_kind() {
        let args = Args::parse_from(["proxies", "--only", "50x1,redis,direct"]);
        let selection = args.selection().unwrap();
        assert_eq!(selection.scenarios.len(), 1);
        assert_eq!(selection.protocols, [Protocol::Redis]);
        assert!(matches!(selection.entries[..], [Entry { kind: Kind::Direct, .. }]));
        assert!(Args::parse_from(["proxies", "--only", "50x2"]).selection().is_err());
    }
}
