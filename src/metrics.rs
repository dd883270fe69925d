//! The metrics: a registry of our own, and handles that the closed enums index.
//!
//! A request costs a few array look-ups and atomic additions. A series is made when its first event comes, those of
//! normal work at the start, so that their first error shows as an increase. No label comes from the wire. What can be
//! counted when it is asked for (connections, memory) is a gauge that the scrape sets.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, Result, TextEncoder,
};

use crate::live::Level;
use crate::process::{self, Usage};
use crate::request::{Method, Reject};
use crate::response::Status;
use crate::route::Route;
use crate::text::labelled;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the histograms, in seconds: quarters up to 2, so that a uniform delay of 0 to 2 s shows its shape.
const BUCKETS: [f64; 20] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 5.0, 7.5,
    10.0,
];

labelled! {
    /// How a connection ended up.
    Outcome {
        /// It had a seat.
        Served "served",
        /// It had a shed place, for one answer.
        Shed "shed",
        /// There was no place at all, or no thread.
        Refused "refused",
    }
}

/// What a scrape tells of the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Requests between their first byte and the end of their answer.
    pub in_flight: usize,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Connections with a seat or a shed place.
    pub open: usize,
    /// Seats that can be taken at present.
    pub seats: usize,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// Whether the drain has begun.
    pub draining: bool,
    /// Lines of the access log that were written.
    pub log_lines: u64,
    /// Writes of the access log that failed.
    pub log_errors: u64,
}

/// One answer, to be counted and logged.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Where the request went.
    pub route: Route,
    /// Its method.
    pub method: Method,
    /// The status of the answer.
    pub status: Status,
}

impl Answer {
    /// How much its line in the log matters.
    pub fn level(self) -> Level {
        match (self.route, self.status) {
            (route, _) if route.is_probe() => Level::Debug,
            // This status was asked for.
            (Route::Status, _) => Level::Info,
            (_, Status::INTERNAL_SERVER_ERROR | Status::SERVICE_UNAVAILABLE) => Level::Warn,
            _ => Level::Info,
        }
    }
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
    rejected_by: Vec<IntCounter>,
    connections_by: Vec<IntCounter>,
    /// The random delay of the echo.
    pub injected_delay: Histogram,
    /// Bytes of requests, heads and bodies.
    pub request_bytes: IntCounter,
    response_bytes: IntCounter,
    /// Answers that were not written to their end.
    pub unwritten_answers: IntCounter,
    /// Panics that a connection survived.
    pub panics: IntCounter,
    /// Failed calls of `accept`.
    pub accept_errors: IntCounter,
    /// Threads that the system refused.
    pub thread_spawn_errors: IntCounter,
    log_lines: IntCounter,
    log_errors: IntCounter,
    gauges: Vec<IntGauge>,
    cpu_seconds: Counter,
    /// Of two scrapes at once, each would add what the other has added.
    scrape: Mutex<()>,
}

/// A gauge that a scrape sets: its name, its help text, and what it tells of the moment and of the process.
type ScrapedGauge = (&'static str, &'static str, fn(&Moment, &Usage) -> i64);

#[rustfmt::skip]
const GAUGES: [ScrapedGauge; 10] = [
    ("http_requests_in_flight", "Requests between their first byte and their answer's end.", |m, _| m.in_flight as i64),
    ("http_open_connections", "Connections that are open.", |m, _| m.open as i64),
    ("http_idle_connections", "Connections that wait for a request.", |m, _| m.idle as i64),
    ("http_seats", "Connections that can be served at once.", |m, _| m.seats as i64),
    ("httpserver_ready", "Whether /readyz answers 200.", |m, _| m.ready.into()),
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

impl Metrics {
    /// Every metric at zero; `build` are the labels of `httpserver_build_info`.
    pub fn new(build: &[(&str, &str)]) -> Result<Metrics> {
        let registry = Registry::new();
        let r = &registry;
        let counter = |name, help| register(r, IntCounter::new(name, help));
        let gauge = |name, help| register(r, IntGauge::new(name, help));
        let counters = |name, help, labels: &[&str]| register(r, IntCounterVec::new(Opts::new(name, help), labels));
        let options = |name, help| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let requests = counters(
            "http_requests_total",
            "Answers by route, method and status code; refused and shed ones have the route none.",
            &["route", "method", "code"],
        )?;
        let duration = options(
            "http_request_duration_seconds",
            "From a request's first byte to the end of its answer, the injected delay included.",
        );
        let delay = options("http_injected_delay_seconds", "Random delay of the echo, on purpose.");
        let rejected = counters("http_rejected_requests_total", "Requests refused, by reason.", &["reason"])?;
        let connections = counters("http_connections_total", "Accepted connections, by outcome.", &["outcome"])?;
        let duration = register(r, HistogramVec::new(duration, &["route"]))?;
        let build_info = Opts::new("httpserver_build_info", "1, with what was built as labels.");
        let build_info = build.iter().fold(build_info, |opts, (name, value)| opts.const_label(*name, *value));
        register(r, IntGauge::with_opts(build_info))?.set(1);
        let start_time = Gauge::new("process_start_time_seconds", "Start time since the Unix epoch in seconds.");
        register(r, start_time)?.set(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64());
        let max_fds = process::max_open_files().and_then(|max| i64::try_from(max).ok()).unwrap_or(-1);
        gauge("process_max_fds", "Maximum number of open file descriptors.")?.set(max_fds);
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds.");
        let metrics = Metrics {
            requests_by: (0..Route::ALL.len() * Method::ALL.len()).map(|_| OnceLock::new()).collect(),
            requests,
            duration_by: Route::ALL.iter().map(|_| OnceLock::new()).collect(),
            duration,
            rejected_by: Reject::ALL.iter().map(|reject| rejected.with_label_values(&[reject.label()])).collect(),
            connections_by: Outcome::ALL.iter().map(|o| connections.with_label_values(&[o.label()])).collect(),
            injected_delay: register(r, Histogram::with_opts(delay))?,
            request_bytes: counter("http_request_bytes_total", "Bytes of requests, heads and bodies.")?,
            response_bytes: counter("http_response_bytes_total", "Bytes of answers, heads and bodies.")?,
            unwritten_answers: counter("http_unwritten_answers_total", "Answers not written to their end.")?,
            panics: counter("http_panics_total", "Panics that cost a connection.")?,
            accept_errors: counter("accept_errors_total", "Failed calls of accept.")?,
            thread_spawn_errors: counter("thread_spawn_errors_total", "Threads that the system refused.")?,
            log_lines: counter("access_log_lines_total", "Lines of the access log written.")?,
            log_errors: counter("access_log_write_errors_total", "Failed writes of the access log.")?,
            gauges: GAUGES.iter().map(|(name, help, _)| gauge(name, help)).collect::<Result<_>>()?,
            cpu_seconds: register(r, cpu_seconds)?,
            scrape: Mutex::new(()),
            registry,
        };
        metrics.start_normal_series();
        Ok(metrics)
    }

    /// Makes the series of normal work.
    fn start_normal_series(&self) {
        for (route, method, statuses) in [
            (Route::Echo, Method::Get, &[Status::OK, Status::INTERNAL_SERVER_ERROR][..]),
            (Route::Echo, Method::Post, &[Status::OK, Status::INTERNAL_SERVER_ERROR]),
            (Route::Healthz, Method::Get, &[Status::OK, Status::SERVICE_UNAVAILABLE]),
            (Route::Readyz, Method::Get, &[Status::OK, Status::SERVICE_UNAVAILABLE]),
            (Route::Metrics, Method::Get, &[Status::OK]),
            (Route::None, Method::Get, &[Status::SERVICE_UNAVAILABLE]),
            (Route::None, Method::Other, &[Status::BAD_REQUEST, Status::REQUEST_TIMEOUT]),
        ] {
            for status in statuses {
                self.requests_by(Answer { route, method, status: *status });
            }
            self.duration_by(route);
        }
    }

    /// Counts an answer, how long it took from the request's first byte to its own end, and what was sent of it.
    pub fn answered(&self, answer: Answer, duration: Duration, sent_bytes: u64) {
        self.requests_by(answer).inc();
        self.duration_by(answer.route).observe(duration.as_secs_f64());
        self.response_bytes.inc_by(sent_bytes);
    }

    fn requests_by(&self, Answer { route, method, status }: Answer) -> &IntCounter {
        let by_status = self.requests_by[route as usize * Method::ALL.len() + method as usize]
            .get_or_init(|| Box::new([const { OnceLock::new() }; Status::INDICES]));
        by_status[status.index()].get_or_init(|| {
            let code = if status.reason().is_empty() { "other".into() } else { status.code().to_string() };
            self.requests.with_label_values(&[route.label(), method.label(), &code])
        })
    }

    fn duration_by(&self, route: Route) -> &Histogram {
        self.duration_by[route as usize].get_or_init(|| self.duration.with_label_values(&[route.label()]))
    }

    /// How many answers there were.
    pub fn answers(&self) -> u64 {
        let cells = self.requests_by.iter().filter_map(OnceLock::get).flat_map(|by_status| by_status.iter());
        cells.filter_map(OnceLock::get).map(IntCounter::get).sum()
    }

    /// Counts a way to say no.
    pub fn rejected(&self, reject: Reject) {
        self.rejected_by[reject as usize].inc();
    }

    /// Counts a connection.
    pub fn connected(&self, outcome: Outcome) {
        self.connections_by[outcome as usize].inc();
    }

    /// Every metric in the text format of Prometheus.
    pub fn render(&self, moment: &Moment) -> Vec<u8> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = process::usage();
        for (gauge, (_, _, read)) in self.gauges.iter().zip(GAUGES) {
            gauge.set(read(moment, &usage));
        }
        raise(&self.log_lines, moment.log_lines);
        raise(&self.log_errors, moment.log_errors);
        self.cpu_seconds.inc_by((usage.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        let mut text = Vec::with_capacity(32 << 10);
        // Writing into a vector does not fail, and an empty family would only be left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// Raises a counter to what was counted elsewhere.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        let moment = Moment { seats: 7, ready: true, log_lines: 3, ..Moment::default() };
        String::from_utf8(metrics.render(&moment)).unwrap()
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
            "http_seats 7",
            "httpserver_ready 1",
            "access_log_lines_total 3",
            "http_request_duration_seconds_count{route=\"echo\"} 0",
        ] {
            assert!(fresh.lines().any(|found| found == line), "{line}\n{fresh}");
        }
        let answer = Answer { route: Route::Status, method: Method::Other, status: Status::of(599).unwrap() };
        metrics.answered(answer, Duration::from_millis(300), 11);
        metrics.rejected(Reject::Shed);
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
            assert!(counted.lines().any(|found| found == line), "{line}\n{counted}");
        }
    }
}
