//! What `/metrics` says: a table of what can be told, and the samples of one scrape.
//!
//! Nothing is registered anywhere and nothing is kept: whoever is asked looks at the present
//! state and writes down what it is. Only what happens between two scrapes is counted where it
//! happens.

use std::collections::BTreeMap;
use std::fmt;

use failover::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::process;

pub use prometheus_client::metrics::histogram::Histogram;

/// OpenMetrics: every Prometheus since 2.5 reads it.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows while the process lives; its name ends in `_total`.
    Counter,
    /// How often something took how long.
    Histogram,
}

impl Kind {
    /// Its name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// One line of the table of what a daemon tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The whole name, as queries have it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The labels of every sample, in their order.
    pub labels: &'static [&'static str],
    /// What it says, in one line, without a full stop.
    pub help: &'static str,
}

impl Metric {
    /// One that goes up and down.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// One that only grows; `name` ends in `_total`.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// How often something took how long.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels: &[], help }
    }

    /// As the text form names the family: a counter's without its ending.
    fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

/// Which build runs; every daemon tells it.
const BUILD: Metric = Metric::gauge(
    "baton_build_info",
    &["daemon", "version"],
    "Which daemon this is, and its version; always 1",
);
/// When the certificate ends that a daemon took up at its start; every daemon tells it.
const CERTIFICATE: Metric = Metric::gauge(
    "baton_certificate_expiry_timestamp_seconds",
    &[],
    "When the certificate that this process uses ends, in Unix time",
);

/// What every daemon tells, before what is its own.
pub const COMMON: &[Metric] = &[
    BUILD,
    CERTIFICATE,
    process::CPU,
    process::RESIDENT,
    process::VIRTUAL,
    process::FDS,
    process::MAX_FDS,
    process::START,
];

/// The samples of one scrape.
#[derive(Debug)]
pub struct Exposition {
    table: &'static [Metric],
    samples: BTreeMap<&'static str, Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Gauge(f64),
    Counter(u64),
    /// A counter of seconds.
    Seconds(f64),
    Histogram(Histogram),
}

impl Exposition {
    /// Nothing told yet of what is common to all and of what stands in `table`.
    pub fn new(table: &'static [Metric]) -> Self {
        Self { table, samples: BTreeMap::new() }
    }

    /// Tells a gauge; `labels` as many as the table has for it, in that order.
    pub fn gauge(&mut self, metric: &'static str, labels: &[&dyn fmt::Display], value: f64) {
        self.put(metric, labels, Value::Gauge(value));
    }

    /// Tells whether something is so: 1 or 0.
    pub fn flag(&mut self, metric: &'static str, labels: &[&dyn fmt::Display], is_so: bool) {
        self.gauge(metric, labels, f64::from(u8::from(is_so)));
    }

    /// Tells a whole number that goes up and down. Exact to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "what is scraped is floating-point anyway")]
    pub fn number(&mut self, metric: &'static str, labels: &[&dyn fmt::Display], value: u64) {
        self.gauge(metric, labels, value as f64);
    }

    /// Tells a counter.
    pub fn counter(&mut self, metric: &'static str, labels: &[&dyn fmt::Display], value: u64) {
        self.put(metric, labels, Value::Counter(value));
    }

    /// Tells a histogram.
    pub fn histogram(&mut self, metric: &'static str, histogram: &Histogram) {
        self.put(metric, &[], Value::Histogram(histogram.clone()));
    }

    /// What every daemon tells: [`COMMON`].
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit 2^53")]
    pub fn daemon(&mut self, daemon: &str, version: &str, certificate_ends: Timestamp) {
        self.flag(BUILD.name, &[&daemon, &version], true);
        self.gauge(CERTIFICATE.name, &[], certificate_ends.0 as f64 / 1_000.0);
        let found = process::look();
        for (metric, bytes_or_count) in [
            (process::RESIDENT, found.resident),
            (process::VIRTUAL, found.address_space),
            (process::FDS, found.open_fds),
            (process::MAX_FDS, found.max_fds),
        ] {
            if let Some(value) = bytes_or_count {
                self.number(metric.name, &[], value);
            }
        }
        if let Some(seconds) = found.cpu_seconds {
            self.put(process::CPU.name, &[], Value::Seconds(seconds));
        }
        if let Some(at) = found.started {
            self.gauge(process::START.name, &[], at);
        }
    }

    fn put(&mut self, name: &'static str, labels: &[&dyn fmt::Display], value: Value) {
        let mut all = COMMON.iter().chain(self.table);
        let Some(metric) = all.find(|metric| metric.name == name) else {
            debug_assert!(false, "{name} is not in the table");
            return;
        };
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {name}");
        let texts = labels.iter().map(ToString::to_string);
        let labels = metric.labels.iter().copied().zip(texts).collect();
        self.samples.entry(metric.name).or_default().push(Sample { labels, value });
    }

    /// As Prometheus reads it: every line of the table, and the samples there are.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::with_capacity(8 * 1024);
        // Writing to a text cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in COMMON.iter().chain(self.table) {
            let kind = match metric.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.family(), metric.help, None, kind)?;
            let samples = self.samples.get(metric.name).map(Vec::as_slice).unwrap_or_default();
            if metric.labels.is_empty() {
                if let Some(sample) = samples.last() {
                    sample.value.encode(family)?;
                }
                continue;
            }
            for sample in samples {
                sample.value.encode(family.encode_family(&sample.labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Seconds(value) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            Self::Histogram(histogram) => histogram.encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Metric] = &[
        Metric::gauge("baton_lag_bytes", &["service", "postgres"], "How far behind"),
        Metric::counter("baton_asked_total", &[], "How often it was asked"),
        Metric::histogram("baton_probe_seconds", "How long it took"),
        Metric::gauge("baton_never", &[], "Nobody says"),
    ];

    #[test]
    fn every_line_of_the_table_is_told_and_every_sample() {
        let mut exposition = Exposition::new(TABLE);
        exposition.number("baton_lag_bytes", &[&"clinic", &"b"], 7);
        exposition.gauge("baton_lag_bytes", &[&"clinic", &"a \"quoted\"\nname"], 0.5);
        exposition.counter("baton_asked_total", &[], 3);
        let histogram = Histogram::new([0.25, 1.0]);
        histogram.observe(0.5);
        exposition.histogram("baton_probe_seconds", &histogram);
        let expected = "\
# HELP baton_lag_bytes How far behind
# TYPE baton_lag_bytes gauge
baton_lag_bytes{service=\"clinic\",postgres=\"b\"} 7.0
baton_lag_bytes{service=\"clinic\",postgres=\"a \\\"quoted\\\"\\nname\"} 0.5
# HELP baton_asked How often it was asked
# TYPE baton_asked counter
baton_asked_total 3
# HELP baton_probe_seconds How long it took
# TYPE baton_probe_seconds histogram
baton_probe_seconds_sum 0.5
baton_probe_seconds_count 1
baton_probe_seconds_bucket{le=\"0.25\"} 0
baton_probe_seconds_bucket{le=\"1.0\"} 1
baton_probe_seconds_bucket{le=\"+Inf\"} 1
# HELP baton_never Nobody says
# TYPE baton_never gauge
# EOF
";
        let common = Exposition::new(&[]).text();
        let common = common.strip_suffix("# EOF\n").expect("it ends so");
        assert_eq!(exposition.text(), format!("{common}{expected}"));
    }

    #[test]
    fn every_daemon_tells_of_its_process() {
        let mut exposition = Exposition::new(&[]);
        exposition.daemon("test", "1", Timestamp(1_000));
        let text = exposition.text();
        for metric in COMMON {
            let sample = format!("\n{}", metric.name);
            assert!(text.contains(&sample), "{}: {text}", metric.name);
        }
        assert!(text.contains("# TYPE process_cpu_seconds counter"), "{text}");
    }
}
