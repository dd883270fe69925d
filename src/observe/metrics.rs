//! The metrics: a registry of our own, and handles that the closed enums index.
//!
//! A request costs a few array look-ups and atomic additions. A series is made when its first event
//! comes, those of normal work at the start, so that their first error shows as an increase. No
//! label comes from the wire. What can be counted when it is asked for (connections, memory) is a
//! gauge that the scrape sets.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, Result, TextEncoder,
};

use crate::http::error::RequestError;
use crate::http::request::Method;
use crate::http::route::Route;
use crate::http::status::Status;
use crate::labelled::labelled;
use crate::observe::diagnostics::unix_now;
use crate::observe::process::{self, Usage};
use crate::sync::lock;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the histograms, in seconds: quarters up to 2, so that a uniform delay of 0 to 2 s shows
/// its shape.
const BUCKETS: [f64; 20] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75,
    2.0, 2.5, 5.0, 7.5, 10.0,
];

labelled! {
    /// What became of an accepted connection.
    Outcome {
        /// It had a slot.
        Served "served",
        /// It had an overflow slot, for one response.
        Shed "shed",
        /// There was no slot and no overflow slot.
        Refused "refused",
    }
}

labelled! {
    /// Why a request that had begun got no whole response.
    Aborted {
        /// The client closed the connection first.
        ClientClosed "client_closed",
        /// The client did not take its response in time.
        WriteTimeout "write_timeout",
        /// The server needed the slot for a newcomer.
        Evicted "evicted",
        /// The drain ended before the response.
        Cut "cut",
        /// The fault was injected on purpose.
        Fault "fault",
    }
}

labelled! {
    /// A fault that was injected on purpose.
    Fault {
        /// A status by `echo-status`.
        Status "status",
        /// A delay by `echo-delay`.
        Delay "delay",
        /// No response at all.
        Empty "empty",
        /// Half of the body that was announced.
        Truncate "truncate",
        /// The head and then nothing.
        Stall "stall",
        /// `Connection: close` by `echo-close`.
        Close "close",
        /// A 500 by the error rate.
        ErrorRate "error_rate",
    }
}

/// The faults of one response, at most one of each control.
pub type Faults = [Option<Fault>; 4];

labelled! {
    /// Which way a WebSocket message went.
    #[allow(missing_docs, reason = "the label says what each is")]
    Direction {
        Received "received",
        Sent "sent",
    }
}

/// What a scrape tells of the present state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Requests between their first byte and the end of their response.
    pub in_flight: usize,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Connections with a slot or an overflow slot.
    pub open: usize,
    /// Connections that can be served at once at present.
    pub max_connections: usize,
    /// Whether `/readyz` responds with 200.
    pub ready: bool,
    /// Whether the drain has begun.
    pub draining: bool,
    /// Lines of the access log that were written.
    pub log_lines: u64,
    /// Writes of the access log that failed.
    pub log_errors: u64,
}

/// A counter for each status code; most are never made.
type ByStatus = [OnceLock<IntCounter>; Status::INDICES];

/// The registry and its handles.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    requests_by: Vec<OnceLock<Box<ByStatus>>>,
    duration: HistogramVec,
    duration_by: Vec<OnceLock<Histogram>>,
    rejected: Vec<IntCounter>,
    aborted: Vec<IntCounter>,
    faults: Vec<IntCounter>,
    messages: Vec<IntCounter>,
    connections: Vec<IntCounter>,
    /// The random delay of the echo, in seconds.
    pub injected_delay: Histogram,
    /// Bytes of requests, heads and bodies.
    pub request_bytes: IntCounter,
    /// Bytes of responses that the kernel took, heads and bodies.
    pub response_bytes: IntCounter,
    /// How many requests each connection had, observed at its end.
    pub requests_per_connection: Histogram,
    /// Panics that cost a connection.
    pub panics: IntCounter,
    /// Failed calls of `accept`.
    pub accept_errors: IntCounter,
    /// Threads that the system refused.
    pub thread_spawn_errors: IntCounter,
    log_lines: IntCounter,
    log_errors: IntCounter,
    gauges: Vec<IntGauge>,
    cpu_seconds: Counter,
    /// Two scrapes at once would each add what the other has added.
    scrape: Mutex<()>,
}

/// A gauge that a scrape sets: its name, its help text, and where its value comes from.
type ScrapedGauge = (&'static str, &'static str, fn(&Snapshot, &Usage) -> i64);

#[rustfmt::skip]
const GAUGES: [ScrapedGauge; 10] = [
    ("http_requests_in_flight", "Requests between their first byte and the end of their response.", |m, _| m.in_flight as i64),
    ("http_open_connections", "Connections that are open.", |m, _| m.open as i64),
    ("http_idle_connections", "Kept-alive connections that wait for a next request.", |m, _| m.idle as i64),
    ("http_max_connections", "Connections that can be served at once.", |m, _| m.max_connections as i64),
    ("httpserver_ready", "Whether /readyz responds with 200.", |m, _| m.ready.into()),
    ("httpserver_draining", "Whether the drain has begun.", |m, _| m.draining.into()),
    ("process_resident_memory_bytes", "Resident memory size in bytes.", |_, usage| usage.resident_bytes),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes.", |_, usage| usage.virtual_bytes),
    ("process_open_fds", "Number of open file descriptors.", |_, usage| usage.open_fds),
    ("process_threads", "Number of OS threads.", |_, usage| usage.threads),
];

/// Registers a metric and hands it back.
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: Result<C>) -> Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    register(registry, IntGauge::new(name, help))
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(buckets.to_vec())
}

/// Registers what stays as it is from the start.
fn register_constants(registry: &Registry, build: &[(&str, &str)]) -> Result<()> {
    let build_info = Opts::new("httpserver_build_info", "1, with what was built as labels.");
    let build_info = build.iter().fold(build_info, |opts, (name, value)| {
        opts.const_label(*name, *value)
    });
    register(registry, IntGauge::with_opts(build_info))?.set(1);
    let start_time = "Start time since the Unix epoch in seconds.";
    let start_time = Gauge::new("process_start_time_seconds", start_time);
    register(registry, start_time)?.set(unix_now().as_secs_f64());
    let max_files = process::max_open_files().and_then(|max| i64::try_from(max).ok());
    let max_fds = "Maximum number of open file descriptors.";
    gauge(registry, "process_max_fds", max_fds)?.set(max_files.unwrap_or(-1));
    Ok(())
}

impl Metrics {
    /// Every metric at zero; `build` are the labels of `httpserver_build_info`.
    pub fn new(build: &[(&str, &str)]) -> Result<Metrics> {
        let registry = Registry::new();
        register_constants(&registry, build)?;
        let count = |name, help| register(&registry, IntCounter::new(name, help));
        let observe = |name, help, buckets: &[f64]| {
            let histogram = Histogram::with_opts(histogram(name, help, buckets));
            register(&registry, histogram)
        };
        let family = |name, help, label, values: &[&str]| -> Result<Vec<IntCounter>> {
            let family = IntCounterVec::new(Opts::new(name, help), &[label]);
            let family = register(&registry, family)?;
            let member = |value: &&str| family.with_label_values(&[*value]);
            Ok(values.iter().map(member).collect())
        };
        let gauges = GAUGES
            .iter()
            .map(|(name, help, _)| gauge(&registry, name, help));
        let cells = Route::ALL.len() * Method::ALL.len();
        #[rustfmt::skip]
        let metrics = Metrics {
            requests: register(&registry, IntCounterVec::new(Opts::new("http_requests_total",
                "Responses by route, method and status code; refused and shed ones have the route none."),
                &["route", "method", "code"]))?,
            requests_by: (0..cells).map(|_| OnceLock::new()).collect(),
            duration: register(&registry, HistogramVec::new(histogram("http_request_duration_seconds",
                "From a request's first byte to the end of its response, the injected delay included.",
                &BUCKETS), &["route"]))?,
            duration_by: Route::ALL.iter().map(|_| OnceLock::new()).collect(),
            rejected: family("http_rejected_requests_total", "Requests refused, by reason.",
                "reason", RequestError::LABELS)?,
            aborted: family("http_aborted_requests_total",
                "Requests that began and got no whole response, by reason.", "reason", Aborted::LABELS)?,
            faults: family("http_injected_faults_total", "Faults injected on purpose.",
                "fault", Fault::LABELS)?,
            messages: family("http_websocket_messages_total", "WebSocket messages, by direction.",
                "direction", Direction::LABELS)?,
            connections: family("http_connections_total", "Accepted connections, by outcome.",
                "outcome", Outcome::LABELS)?,
            injected_delay: observe("http_injected_delay_seconds",
                "Random delay of the echo, on purpose.", &BUCKETS)?,
            requests_per_connection: observe("http_requests_per_connection",
                "Requests that a connection had, observed at its end.", &PER_CONNECTION)?,
            request_bytes: count("http_request_bytes_total", "Bytes of requests, heads and bodies.")?,
            response_bytes: count("http_response_bytes_total",
                "Bytes of responses that the kernel took, heads and bodies.")?,
            panics: count("http_panics_total", "Panics that cost a connection.")?,
            accept_errors: count("accept_errors_total", "Failed calls of accept.")?,
            thread_spawn_errors: count("thread_spawn_errors_total", "Threads that the system refused.")?,
            log_lines: count("access_log_lines_total", "Lines of the access log written.")?,
            log_errors: count("access_log_write_errors_total", "Failed writes of the access log.")?,
            gauges: gauges.collect::<Result<_>>()?,
            cpu_seconds: register(&registry, Counter::new("process_cpu_seconds_total",
                "User and system CPU time in seconds."))?,
            scrape: Mutex::new(()),
            registry,
        };
        metrics.start_normal_series();
        Ok(metrics)
    }

    /// Makes the series of normal work.
    fn start_normal_series(&self) {
        for (route, method, status) in [
            (Route::Echo, Method::Get, Status::OK),
            (Route::Echo, Method::Get, Status::INTERNAL_SERVER_ERROR),
            (Route::Echo, Method::Post, Status::OK),
            (Route::Echo, Method::Post, Status::INTERNAL_SERVER_ERROR),
            (Route::Healthz, Method::Get, Status::OK),
            (Route::Healthz, Method::Get, Status::SERVICE_UNAVAILABLE),
            (Route::Readyz, Method::Get, Status::OK),
            (Route::Readyz, Method::Get, Status::SERVICE_UNAVAILABLE),
            (Route::Metrics, Method::Get, Status::OK),
            (Route::None, Method::Get, Status::SERVICE_UNAVAILABLE),
            (Route::None, Method::Other, Status::BAD_REQUEST),
            (Route::None, Method::Other, Status::REQUEST_TIMEOUT),
        ] {
            self.requests_by(route, method, status);
            self.duration_by(route);
        }
    }

    /// Counts a response and how long it took.
    pub fn responded(&self, route: Route, method: Method, status: Status, duration: Duration) {
        self.requests_by(route, method, status).inc();
        self.duration_by(route).observe(duration.as_secs_f64());
    }

    fn requests_by(&self, route: Route, method: Method, status: Status) -> &IntCounter {
        let by_status = self.requests_by[route as usize * Method::ALL.len() + method as usize]
            .get_or_init(|| Box::new([const { OnceLock::new() }; Status::INDICES]));
        by_status[status.index()].get_or_init(|| {
            let code = match status.reason() {
                "" => "other".to_owned(),
                _ => status.code().to_string(),
            };
            self.requests
                .with_label_values(&[route.label(), method.label(), &code])
        })
    }

    fn duration_by(&self, route: Route) -> &Histogram {
        self.duration_by[route as usize]
            .get_or_init(|| self.duration.with_label_values(&[route.label()]))
    }

    /// Counts a refusal.
    pub fn rejected(&self, error: RequestError) {
        self.rejected[error as usize].inc();
    }

    /// Counts a request that got no whole response.
    pub fn aborted(&self, reason: Aborted) {
        self.aborted[reason as usize].inc();
    }

    /// How many requests got no whole response for a reason.
    pub fn aborted_for(&self, reason: Aborted) -> u64 {
        self.aborted[reason as usize].get()
    }

    /// Counts an injected fault.
    pub fn injected(&self, fault: Fault) {
        self.faults[fault as usize].inc();
    }

    /// Counts a WebSocket message.
    pub fn message(&self, direction: Direction) {
        self.messages[direction as usize].inc();
    }

    /// Counts a connection.
    pub fn connected(&self, outcome: Outcome) {
        self.connections[outcome as usize].inc();
    }

    /// Every metric in the text format of Prometheus.
    pub fn render(&self, snapshot: &Snapshot) -> Vec<u8> {
        let _one_at_a_time = lock(&self.scrape);
        let usage = process::usage();
        for (gauge, (_, _, read)) in self.gauges.iter().zip(GAUGES) {
            gauge.set(read(snapshot, &usage));
        }
        raise_to(&self.log_lines, snapshot.log_lines);
        raise_to(&self.log_errors, snapshot.log_errors);
        self.cpu_seconds
            .inc_by((usage.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        let mut text = String::with_capacity(32 << 10);
        // Writing into a string does not fail, and an empty family is only left out.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        text.into_bytes()
    }
}

/// Bounds of the histogram of requests on a connection.
const PER_CONNECTION: [f64; 10] = [0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1e3, 1e4, 1e5];

/// Raises a counter to what was counted elsewhere.
fn raise_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        let snapshot = Snapshot {
            max_connections: 7,
            ready: true,
            log_lines: 3,
            ..Snapshot::default()
        };
        String::from_utf8(metrics.render(&snapshot)).unwrap()
    }

    #[test]
    fn normal_work_starts_at_zero_and_counts() {
        let metrics = Metrics::new(&[("version", "a\"b\\c\n")]).unwrap();
        let fresh = rendered(&metrics);
        assert!(fresh.lines().count() < 400, "{}", fresh.lines().count());
        for line in [
            "http_requests_total{code=\"200\",method=\"GET\",route=\"echo\"} 0",
            "http_rejected_requests_total{reason=\"shed\"} 0",
            "http_connections_total{outcome=\"refused\"} 0",
            "httpserver_build_info{version=\"a\\\"b\\\\c\\n\"} 1",
            "http_max_connections 7",
            "httpserver_ready 1",
            "access_log_lines_total 3",
            "http_request_duration_seconds_count{route=\"echo\"} 0",
        ] {
            assert!(fresh.lines().any(|found| found == line), "{line}\n{fresh}");
        }
        let status = Status::from_code(599).unwrap();
        metrics.responded(
            Route::Status,
            Method::Other,
            status,
            Duration::from_millis(300),
        );
        metrics.response_bytes.inc_by(11);
        metrics.rejected(RequestError::Shed);
        metrics.aborted(Aborted::Cut);
        let aborted: u64 = Aborted::ALL
            .iter()
            .map(|why| metrics.aborted_for(*why))
            .sum();
        assert_eq!((aborted, metrics.aborted_for(Aborted::Cut)), (1, 1));
        metrics.connected(Outcome::Refused);
        let counted = rendered(&metrics);
        for line in [
            "http_requests_total{code=\"other\",method=\"other\",route=\"status\"} 1",
            "http_request_duration_seconds_bucket{route=\"status\",le=\"0.25\"} 0",
            "http_request_duration_seconds_bucket{route=\"status\",le=\"0.5\"} 1",
            "http_response_bytes_total 11",
            "http_rejected_requests_total{reason=\"shed\"} 1",
            "http_connections_total{outcome=\"refused\"} 1",
            "access_log_lines_total 3",
        ] {
            assert!(
                counted.lines().any(|found| found == line),
                "{line}\n{counted}"
            );
        }
    }
}
