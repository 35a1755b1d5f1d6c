//! A metric family, what it is read from, and its samples.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::scene::{PoolScene, Scene, ServerScene};
use crate::telemetry::{BOUNDS, Times};

/// Families that answer one question.
pub struct Section {
    pub question: &'static str,
    pub families: &'static [Family],
}

/// One metric with all its labels.
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// Its labels besides those of its scope.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub(super) read: Read,
}

/// Types of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What a family has samples for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process,
    Pool,
    Server,
}

/// Where the samples of a family come from.
pub(super) enum Read {
    Process(fn(&Scene<'_>, &mut Samples)),
    Pool(fn(&PoolScene, &mut Samples)),
    Server(fn(&ServerScene, &mut Samples)),
}

impl Family {
    pub fn scope(&self) -> Scope {
        match self.read {
            Read::Process(_) => Scope::Process,
            Read::Pool(_) => Scope::Pool,
            Read::Server(_) => Scope::Server,
        }
    }

    /// The names of all its labels.
    pub fn all_labels(&self) -> impl Iterator<Item = &'static str> {
        self.scope().labels().iter().chain(self.labels).copied()
    }
}

impl Scope {
    /// What every family of the scope has.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Process => &[],
            Self::Pool => &["pool"],
            Self::Server => &["pool", "server"],
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl From<Kind> for MetricType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::COUNTER,
            Kind::Gauge => Self::GAUGE,
            Kind::Histogram => Self::HISTOGRAM,
        }
    }
}

/// The samples of one family after the other; what one leaves behind the next one uses again.
#[derive(Default)]
pub(super) struct Samples {
    family: MetricFamily,
    kind: Option<Kind>,
    /// Those of the family; the values of the scope's labels.
    labels: Vec<&'static str>,
    place: Vec<String>,
    /// Samples so far.
    count: usize,
}

impl Samples {
    /// Of the whole process; `None`: there are none.
    pub fn of(&mut self, family: &Family, scene: &Scene<'_>) -> Option<&MetricFamily> {
        self.family.set_name(family.name.to_owned());
        self.family.set_help(family.help.to_owned());
        self.family.set_field_type(family.kind.into());
        self.kind = Some(family.kind);
        self.labels = family.all_labels().collect();
        self.count = 0;
        self.place.clear();
        match family.read {
            Read::Process(read) => read(scene, self),
            Read::Pool(read) => scene.pools.iter().for_each(|pool| {
                self.place = vec![pool.pool.settings.name.clone()];
                read(pool, self);
            }),
            Read::Server(read) => scene.pools.iter().for_each(|pool| {
                self.place = vec![pool.pool.settings.name.clone(), String::new()];
                pool.servers.iter().for_each(|server| {
                    self.place[1].clone_from(&server.name);
                    read(server, self);
                });
            }),
        }
        self.family.mut_metric().truncate(self.count);
        (self.count > 0).then_some(&self.family)
    }

    /// A sample with the values of the family's own labels.
    pub fn count(&mut self, labels: &[&str], value: u64) {
        self.value(labels, value as f64);
    }

    /// A sample with the values of the family's own labels.
    pub fn value(&mut self, labels: &[&str], value: f64) {
        let kind = self.kind;
        let metric = self.next(labels);
        match kind {
            Some(Kind::Counter) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
    }

    /// A histogram with the values of the family's own labels; `bounds`: of its buckets, some of [`BOUNDS`].
    pub fn times(&mut self, labels: &[&str], times: &Times, bounds: &[u32]) {
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets(times, bounds));
        histogram.set_sample_count(times.count());
        histogram.set_sample_sum(times.sum_us as f64 / 1e6);
        self.next(labels).set_histogram(histogram);
    }

    fn next(&mut self, own: &[&str]) -> &mut Metric {
        let (names, values) = (&self.labels, self.place.iter().map(String::as_str).chain(own.iter().copied()));
        debug_assert_eq!(names.len(), self.place.len() + own.len(), "{names:?}");
        let metrics = self.family.mut_metric();
        if metrics.len() == self.count {
            metrics.push(Metric::default());
        }
        let metric = &mut metrics[self.count];
        self.count += 1;
        let mut pairs = metric.take_label();
        pairs.resize_with(names.len(), LabelPair::default);
        for (pair, (name, value)) in pairs.iter_mut().zip(names.iter().zip(values)) {
            // Most families have samples for the same pools and servers as the one before.
            if pair.name() != *name {
                pair.set_name((*name).to_owned());
            }
            if pair.value() != value {
                pair.set_value(value.to_owned());
            }
        }
        metric.set_label(pairs);
        metric
    }
}

fn buckets(times: &Times, bounds: &[u32]) -> Vec<Bucket> {
    let mut bins = BOUNDS.iter().zip(times.bins).peekable();
    let mut below = 0;
    let bucket = |bound: &u32| {
        while let Some((_, count)) = bins.next_if(|(upper, _)| *upper <= bound) {
            below += count;
        }
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(f64::from(*bound) / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    };
    bounds.iter().map(bucket).collect()
}
