//! Every metric of the program: names, units and label sets in one place.
//!
//! Each series carries `service`, `instance` and `service_version`. The process samples itself once a
//! second ([`sample`]); the rest is recorded where it happens.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{
    CounterVec, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

mod process;

pub use process::{Sampler, Usage};

/// Bounds of latency histograms, in seconds.
const LATENCY: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    /// `http_requests_total{edge,method,operation,status}`
    pub http_requests: IntCounterVec,
    /// `http_request_duration_seconds{edge,method,operation}`
    pub http_duration: HistogramVec,
    /// `mocks3_call_duration_seconds{callee,kind,outcome}`: calls to actors, data planes, Consul and
    /// third parties, as the caller sees them; `outcome` is `ok` or the name of an error.
    pub call_duration: HistogramVec,
    /// `mocks3_actor_restarts_total{actor}`
    pub actor_restarts: IntCounterVec,
    /// `errors_total{edge,operation,status}`
    errors: IntCounterVec,
    /// `objects_total`, of the metadata service.
    pub objects: IntGaugeVec,
    /// `storage_usage_bytes`, of a storage node.
    pub storage_usage: IntGaugeVec,
    /// `queue_length{queue}`, of the queue.
    pub queue_length: IntGaugeVec,
    /// Requests, messages and connections at our own sockets since the start.
    moved: AtomicU64,
    cpu_seconds: CounterVec,
    cpu_percent: Gauge,
    memory_percent: Gauge,
    disk_percent: Gauge,
    network_qps: Gauge,
    online: IntGauge,
    rss_bytes: IntGauge,
    open_fds: IntGauge,
}

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Names this process in all its series. The first call counts.
pub fn init(service: &str, instance: &str) -> &'static Metrics {
    METRICS.get_or_init(|| Metrics::new(service, instance))
}

/// The metrics of this process.
pub fn get() -> &'static Metrics {
    init("none", "none")
}

impl Metrics {
    fn new(service: &str, instance: &str) -> Self {
        let labels = [
            ("service", service),
            ("instance", instance),
            ("service_version", env!("CARGO_PKG_VERSION")),
        ];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let registry = Registry::new_custom(None, Some(labels)).expect("the label names are valid");
        let r = &registry;
        Metrics {
            http_requests: keep(
                r,
                IntCounterVec::new(
                    Opts::new("http_requests_total", "Requests served at the HTTP edge."),
                    &["edge", "method", "operation", "status"],
                ),
            ),
            http_duration: keep(
                r,
                HistogramVec::new(
                    latency(
                        "http_request_duration_seconds",
                        "Time from request head to response head.",
                    ),
                    &["edge", "method", "operation"],
                ),
            ),
            call_duration: keep(
                r,
                HistogramVec::new(
                    latency(
                        "mocks3_call_duration_seconds",
                        "Calls to dependencies as their caller sees them.",
                    ),
                    &["callee", "kind", "outcome"],
                ),
            ),
            actor_restarts: keep(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "mocks3_actor_restarts_total",
                        "Actors that ended and were started again.",
                    ),
                    &["actor"],
                ),
            ),
            errors: keep(
                r,
                IntCounterVec::new(
                    Opts::new("errors_total", "Requests answered with a status of 400 or more."),
                    &["edge", "operation", "status"],
                ),
            ),
            objects: int_gauge_vec(r, "objects_total", "Current objects in the catalog.", &[]),
            storage_usage: int_gauge_vec(
                r,
                "storage_usage_bytes",
                "Bytes that the segments of this storage node occupy on disk.",
                &[],
            ),
            queue_length: int_gauge_vec(
                r,
                "queue_length",
                "Unfinished tasks by queue: delete, save or replicate.",
                &["queue"],
            ),
            moved: AtomicU64::new(0),
            cpu_seconds: keep(
                r,
                CounterVec::new(
                    Opts::new(
                        "process_cpu_seconds_total",
                        "CPU time of this process, user and system.",
                    ),
                    &[],
                ),
            ),
            cpu_percent: gauge(
                r,
                "system_cpu_usage_percent",
                "CPU use of this process over the last second, percent of its budget (all cores).",
            ),
            memory_percent: gauge(
                r,
                "system_memory_usage_percent",
                "Resident memory of this process, percent of the machine's memory.",
            ),
            disk_percent: gauge(
                r,
                "system_disk_usage_percent",
                "Use of the filesystem that holds the node's data, percent.",
            ),
            network_qps: gauge(
                r,
                "system_network_qps",
                "Requests, messages and connections per second at this process's own sockets, in and \
                 out, over the last second.",
            ),
            online: int_gauge(r, "system_machine_online_status", "1 while the process serves."),
            rss_bytes: int_gauge(
                r,
                "process_resident_memory_bytes",
                "Resident memory of this process.",
            ),
            open_fds: int_gauge(r, "process_open_fds", "Open file descriptors of this process."),
            registry,
        }
    }

    /// All series in Prometheus text format, version 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "encoding metrics failed");
        }
        text
    }

    /// Takes over a sample of the process.
    pub fn set_usage(&self, usage: &Usage) {
        let counter = self.cpu_seconds.with_label_values::<&str>(&[]);
        counter.inc_by((usage.cpu_seconds - counter.get()).max(0.0));
        self.cpu_percent.set(usage.cpu_percent);
        self.memory_percent.set(usage.memory_percent);
        self.disk_percent.set(usage.disk_percent);
        self.network_qps.set(usage.moved_per_second);
        self.rss_bytes.set(usage.rss_bytes as i64);
        self.open_fds.set(usage.open_fds as i64);
        self.online.set(1);
    }

    /// Records one served request.
    pub fn served(&self, edge: &str, method: &str, operation: &str, code: u16, took: Duration) {
        let method = bounded(method);
        let status = code.to_string();
        self.http_requests.with_label_values(&[edge, method, operation, &status]).inc();
        self.moved();
        if code >= 400 {
            self.errors.with_label_values(&[edge, operation, &status]).inc();
        }
        let duration = self.http_duration.with_label_values(&[edge, method, operation]);
        duration.observe(took.as_secs_f64());
    }

    /// Counts a request, message or connection at one of our own sockets.
    pub fn moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Records one call to a dependency.
    pub fn called(&self, callee: &str, kind: &str, outcome: &str, took: Duration) {
        let duration = self.call_duration.with_label_values(&[callee, kind, outcome]);
        duration.observe(took.as_secs_f64());
    }
}

/// A call under way. One that is dropped before its end counts with the outcome `cancelled`.
#[derive(Debug)]
pub struct CallTimer<'a> {
    callee: &'a str,
    kind: &'static str,
    begun: Instant,
    outcome: &'static str,
}

impl<'a> CallTimer<'a> {
    /// A call that begins now.
    pub fn begin(callee: &'a str, kind: &'static str) -> Self {
        CallTimer { callee, kind, begun: Instant::now(), outcome: "cancelled" }
    }

    /// The call ended: `ok`, or the name of its error out of a fixed set.
    pub fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for CallTimer<'_> {
    fn drop(&mut self) {
        get().called(self.callee, self.kind, self.outcome, self.begun.elapsed());
    }
}

/// Clients may invent methods; labels may not grow with them.
fn bounded(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "PATCH" => method,
        _ => "other",
    }
}

fn latency(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(LATENCY.to_vec())
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    keep(registry, Gauge::new(name, help))
}

fn int_gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    keep(registry, IntGauge::new(name, help))
}

fn int_gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    keep(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn keep<C>(registry: &Registry, made: prometheus::Result<C>) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    let collector = made.expect("metric names and labels are valid");
    registry.register(Box::new(collector.clone())).expect("metric names are unique");
    collector
}

/// Samples the process once a second until the token is cancelled, on a thread of its own.
pub fn sample(data_dir: std::path::PathBuf, stop: tokio_util::sync::CancellationToken) {
    let body = move || {
        let mut sampler = Sampler::new(data_dir);
        while !stop.is_cancelled() {
            get().set_usage(&sampler.sample(get().moved.load(Ordering::Relaxed)));
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("sampler".into()).spawn(body) {
        tracing::error!(%error, "no thread for the sampler: process metrics stay empty");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_service_and_instance_in_every_series() {
        let metrics = Metrics::new("queue-service", "queue-service-1");
        metrics.set_usage(&Sampler::new(".".into()).sample(0));
        metrics.served("s3", "GET", "GetObject", 200, Duration::from_millis(3));
        metrics.called("metadata", "apply", "ok", Duration::from_millis(1));
        metrics.served("s3", "BREW", "Unknown", 501, Duration::ZERO);
        let text = String::from_utf8(metrics.text()).unwrap();
        assert!(text.contains("method=\"other\"") && !text.contains("BREW"), "{text}");
        for name in [
            "system_cpu_usage_percent",
            "system_memory_usage_percent",
            "system_disk_usage_percent",
            "system_network_qps",
            "system_machine_online_status",
            "http_requests_total",
            "http_request_duration_seconds_bucket",
        ] {
            assert!(text.contains(&format!("{name}{{")), "{name} is missing");
        }
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            assert!(
                line.contains("service=\"queue-service\"") && line.contains("instance="),
                "{line}"
            );
        }
    }
}
