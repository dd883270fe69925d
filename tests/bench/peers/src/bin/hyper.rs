//! The best async peer: hyper with the same echo (same fields, same body), the same log line and the same metrics.
//!
//! It has less to do than the server it is compared with: no time limits, no limit on connections, no drain, no
//! escaping, a shorter list of fields that are not copied. So where it is slower, that is not because it does more.
//!
//! Usage: `hyper ADDRESS`. `GET /delay/1s` answers after one second.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peers::{AccessLog, Metrics};
use tokio::net::TcpSocket;

const BACKLOG: u32 = 4096;
const WORKERS: usize = 2;
const NOT_COPIED: [&str; 12] = [
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "content-type",
    "cache-control", "set-cookie", "location", "date",
];

#[derive(Clone, Copy)]
struct Context {
    log: &'static AccessLog,
    metrics: &'static Metrics,
    peer: SocketAddr,
    local: SocketAddr,
    hostname: &'static str,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("usage: hyper ADDRESS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(serve(address))
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let log = AccessLog::start()?;
    let metrics: &'static Metrics = Box::leak(Box::new(Metrics::new()?));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned().leak();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let context = Context { log, metrics, peer, local: stream.local_addr()?, hostname };
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, context));
            // A client that goes away ends its connection with an error, which concerns nobody else.
            let connection = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

async fn answer(request: Request<Incoming>, context: Context) -> Result<Response<Full<Bytes>>, Infallible> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let received = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let delay = delay_of(head.uri.path());
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let body = describe(&head, &received, delay, context);
    let bytes = body.len();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    fill_fields(response.headers_mut(), &head.headers, delay);
    let duration = begun.elapsed();
    context.metrics.requests.with_label_values(&["echo", head.method.as_str(), "200"]).inc();
    context.metrics.duration.observe(duration.as_secs_f64());
    context.log.append(line(&head, bytes, delay, duration, context).as_bytes());
    Ok(response)
}

fn delay_of(path: &str) -> Duration {
    let seconds = path.strip_prefix("/delay/").and_then(|text| text.strip_suffix('s')?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

fn text_of(fields: &HeaderMap, name: &HeaderName) -> String {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
}

fn describe(head: &hyper::http::request::Parts, received: &[u8], delay: Duration, context: Context) -> Vec<u8> {
    let mut facts = String::with_capacity(2048);
    let _ = write!(
        facts,
        "method: {}\ntarget: {}\nprotocol: {:?}\nclient: {}\ndelay: {:.6}\npeer: {}\nlocal: {}\nhostname: {}\n\
         version: 1.0.0\n\n{} {} {:?}\r\n",
        head.method,
        head.uri,
        head.version,
        context.peer.ip(),
        delay.as_secs_f64(),
        context.peer,
        context.local,
        context.hostname,
        head.method,
        head.uri,
        head.version,
    );
    let mut body = facts.into_bytes();
    for (name, value) in &head.headers {
        body.extend_from_slice(name.as_str().as_bytes());
        body.extend_from_slice(b": ");
        body.extend_from_slice(value.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"\r\n");
    body.extend_from_slice(received);
    body
}

fn fill_fields(answer: &mut HeaderMap, request: &HeaderMap, delay: Duration) {
    for (name, value) in request {
        if !NOT_COPIED.contains(&name.as_str()) {
            answer.append(name, value.clone());
        }
    }
    let fixed = [
        (HeaderName::from_static("version"), "1.0.0"),
        (header::SERVER, "hyper"),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-request-id"), "0123456789abcdef0123456789abcdef"),
    ];
    for (name, value) in fixed {
        answer.insert(name, HeaderValue::from_static(value));
    }
    let timing = format!("delay;dur={:.3}", delay.as_secs_f64() * 1000.0);
    if let Ok(value) = HeaderValue::try_from(timing) {
        answer.insert(HeaderName::from_static("server-timing"), value);
    }
}

fn line(head: &hyper::http::request::Parts, bytes: usize, delay: Duration, took: Duration, context: Context) -> String {
    let mut line = String::with_capacity(512);
    let _ = writeln!(
        line,
        "{} - - [{}] \"{} {} {:?}\" 200 {bytes} \"{}\" \"{}\" level=info peer={} route=echo delay={:.6} \
         request_id=0123456789abcdef0123456789abcdef trace_id={} duration={:.6}",
        context.peer.ip(),
        httpdate::HttpDate::from(SystemTime::now()),
        head.method,
        head.uri,
        head.version,
        text_of(&head.headers, &header::REFERER),
        text_of(&head.headers, &header::USER_AGENT),
        context.peer,
        delay.as_secs_f64(),
        text_of(&head.headers, &HeaderName::from_static("traceparent")),
        took.as_secs_f64(),
    );
    line
}
