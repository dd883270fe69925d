//! What `watch` asks: one request and its outcome, over a new or over a kept connection.
//!
//! A kept connection that the server closed between two requests, or has announced to close, is
//! replaced and costs nothing; one that ends after the request was sent costs the request. When
//! every kept connection is busy, one more is opened: a request waits for no other. The addresses
//! of a name are looked up again now and then, because a name can move during a failover.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::http::{Connection, Error, Response, Url};
use crate::client::options::Options;
use crate::client::tally::{Kind, Outcome};
use crate::sync::lock;

/// Addresses are looked up again after this time, when a connection is opened.
const LOOKUP_EVERY: Duration = Duration::from_secs(5);
/// How long one lookup may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);
/// Characters of a version or pod that are shown: a pod's name can have 253, the usual ones have
/// 40.
const NAME_SHOWN: usize = 64;
/// The fields of each request; an httpserver tells its pod in JSON.
const FIELDS: &str = "User-Agent: httpserver-watch\r\nAccept: application/json\r\n";

/// The server under watch, shared by the threads of all requests.
#[derive(Debug)]
pub struct Target {
    kept_request: Vec<u8>,
    new_request: Vec<u8>,
    timeout: Duration,
    /// A place for each kept connection, empty until there is one. A request takes the place that
    /// was not used for the longest time, and gives it back at its end.
    kept: Mutex<VecDeque<Option<Connection>>>,
    url: Url,
    lookup: Arc<Mutex<Lookup>>,
}

/// The addresses of the host.
#[derive(Debug)]
struct Lookup {
    addresses: Vec<SocketAddr>,
    /// When the latest lookup began.
    at: Instant,
}

/// A request to send: its connection's kind, and when it is due.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whether it goes over a kept connection.
    pub kept: bool,
    /// When it has to start; its latency counts from here.
    pub due: Instant,
}

impl Target {
    /// The target of these options. Its first lookup is waited for.
    pub fn new(options: &Options) -> Result<Target, Error> {
        let lookup = Lookup {
            addresses: options.url.resolve(Instant::now() + LOOKUP_LIMIT)?,
            at: Instant::now(),
        };
        Ok(Target {
            kept_request: options.url.get(FIELDS),
            new_request: options.url.get(&format!("{FIELDS}Connection: close\r\n")),
            timeout: options.timeout,
            kept: Mutex::new((0..options.connections).map(|_| None).collect()),
            url: options.url.clone(),
            lookup: Arc::new(Mutex::new(lookup)),
        })
    }

    /// Sends a request and waits for its outcome, at most until its time-out.
    pub fn ask(&self, request: Request) -> Outcome {
        let started = Instant::now();
        let deadline = request.due + self.timeout;
        let mut outcome = Outcome::of_request(request);
        outcome.late = started.saturating_duration_since(request.due);
        let result = if request.kept {
            self.ask_kept(deadline, &mut outcome)
        } else {
            self.open(deadline, &mut outcome)
                .and_then(|mut connection| connection.exchange(&self.new_request, deadline))
        };
        outcome.finished = Instant::now();
        match result {
            Ok(response) => describe(&response, &mut outcome),
            Err(error) => {
                outcome.kind = Kind::of_error(&error);
                outcome.cause = Some(format!("{}: {error}", outcome.kind.label()));
            }
        }
        outcome
    }

    fn ask_kept(&self, deadline: Instant, outcome: &mut Outcome) -> Result<Response, Error> {
        // Where every place is taken, one more connection is opened, and dropped afterwards.
        let place = lock(&self.kept).pop_front();
        let has_place = place.is_some();
        let idle = place.flatten();
        outcome.ended_idle = idle.as_ref().is_some_and(|idle| !idle.is_reusable());
        let usable = idle.filter(|_| !outcome.ended_idle);
        let (response, connection) = match usable.map_or_else(|| self.open(deadline, outcome), Ok) {
            Ok(mut connection) => {
                let response = connection.exchange(&self.kept_request, deadline);
                (response, Some(connection))
            }
            Err(error) => (Err(error), None),
        };
        if has_place {
            let reusable = connection.filter(Connection::is_reusable);
            lock(&self.kept).push_back(reusable);
        }
        response
    }

    fn open(&self, deadline: Instant, outcome: &mut Outcome) -> Result<Connection, Error> {
        let connection = Connection::open(&self.addresses(), deadline)?;
        outcome.opened = true;
        Ok(connection)
    }

    /// The addresses as last seen; where they are old, a new lookup begins, for which nobody waits.
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut lookup = lock(&self.lookup);
        if lookup.at.elapsed() > LOOKUP_EVERY {
            lookup.at = Instant::now();
            let (url, shared) = (self.url.clone(), Arc::clone(&self.lookup));
            let refresh = move || {
                if let Ok(addresses) = url.resolve(Instant::now() + LOOKUP_LIMIT) {
                    lock(&shared).addresses = addresses;
                }
            };
            // Without a thread, or where the lookup fails, the addresses stay as they are.
            let _ = thread::Builder::new().spawn(refresh);
        }
        lookup.addresses.clone()
    }
}

/// Takes over from a response what is counted of it.
fn describe(response: &Response, outcome: &mut Outcome) {
    let head = &response.head;
    outcome.status = Some(head.status);
    (outcome.kind, outcome.cause) = match head.status {
        200..400 => (Kind::Ok, None),
        status => (Kind::Status, Some(format!("status {status}"))),
    };
    outcome.version = head.field("version").map(shown);
    let server = head.field("server").unwrap_or_default();
    if server.starts_with("httpserver") {
        let body = String::from_utf8_lossy(&response.body);
        let name = member(&body, "pod").or_else(|| member(&body, "hostname"));
        outcome.pod = name.map(shown);
    }
}

/// A member of an httpserver's JSON. Its fields and trailers are pairs and its quotes are escaped,
/// so these bytes stand only where the object's own member is.
fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value)
}

/// A name as it may stand on a terminal.
fn shown(name: &str) -> String {
    let visible = |char: char| if char.is_control() { '?' } else { char };
    name.chars().take(NAME_SHOWN).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    fn target(address: SocketAddr, flags: &str) -> Target {
        let line = format!("{flags} http://{address}/");
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let options = Options::parse(&arguments).unwrap();
        Target::new(&options).unwrap()
    }

    fn kept() -> Request {
        Request {
            kept: true,
            due: Instant::now(),
        }
    }

    /// Reads one request head; `None` at the end of the stream.
    fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    /// A server that responds to every request on every connection with these bytes.
    fn server(response: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while read_request(&mut stream).is_some() {
                        stream.get_mut().write_all(response.as_bytes()).unwrap();
                    }
                });
            }
        });
        address
    }

    const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn requests_go_over_every_kept_connection_in_turn() {
        let target = target(server(EMPTY), "--connections 3");
        let opened = |_| u64::from(target.ask(kept()).opened);
        assert_eq!((0..3).map(opened).sum::<u64>(), 3);
        assert_eq!((0..9).map(opened).sum::<u64>(), 0);
        let idle = || lock(&target.kept).iter().flatten().count();
        assert_eq!(idle(), 3);
        let new = target.ask(Request {
            kept: false,
            due: Instant::now(),
        });
        assert!(new.opened && new.kind == Kind::Ok);
        assert_eq!(idle(), 3);
    }

    #[test]
    fn without_a_place_one_more_is_opened_and_dropped_afterwards() {
        let target = target(server(EMPTY), "--connections 1");
        assert!(target.ask(kept()).opened);
        let busy = lock(&target.kept).pop_front().unwrap();
        assert!(busy.is_some() && target.ask(kept()).opened);
        assert!(lock(&target.kept).is_empty());
        lock(&target.kept).push_back(busy);
        assert!(!target.ask(kept()).opened);
        assert_eq!(lock(&target.kept).len(), 1);
    }

    #[test]
    fn a_close_between_requests_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(listener.local_addr().unwrap(), "--connections 1");
        let (close, told) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            read_request(&mut stream).unwrap();
            stream.get_mut().write_all(EMPTY.as_bytes()).unwrap();
            told.recv().unwrap();
            drop(stream);
            listener
        });
        assert_eq!(target.ask(kept()).kind, Kind::Ok);
        close.send(()).unwrap();
        let listener = server.join().unwrap();
        let start = Instant::now();
        let is_reusable = || lock(&target.kept)[0].as_ref().unwrap().is_reusable();
        while is_reusable() {
            assert!(start.elapsed() < Duration::from_secs(60), "no close");
            thread::yield_now();
        }
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            read_request(&mut stream).unwrap();
            stream.get_mut().write_all(EMPTY.as_bytes()).unwrap();
            read_request(&mut stream).unwrap();
        });
        let outcome = target.ask(kept());
        assert_eq!(
            (outcome.kind, outcome.opened, outcome.ended_idle),
            (Kind::Ok, true, true)
        );
        // A close after the request was sent costs the request, which is not sent again.
        let outcome = target.ask(kept());
        assert_eq!(
            (outcome.kind, outcome.opened, outcome.ended_idle),
            (Kind::Closed, false, false)
        );
        let cause = outcome.cause.as_deref();
        assert_eq!(cause, Some("closed: closed without a response"));
        server.join().unwrap();
        assert!(lock(&target.kept)[0].is_none());
    }

    #[test]
    fn version_and_pod_are_learned_from_an_httpserver_alone() {
        let ours = "HTTP/1.1 200 OK\r\nServer: httpserver\r\nVersion: 1.2\t3\r\n\
                    Content-Length: 30\r\n\r\n{\"hostname\":\"h\",\"pod\":\"pod-1\"}";
        let outcome = target(server(ours), "").ask(kept());
        assert_eq!(
            (outcome.version.as_deref(), outcome.pod.as_deref()),
            (Some("1.2?3"), Some("pod-1"))
        );
        let other = "HTTP/1.1 404 x\r\nServer: nginx\r\n\
                     Content-Length: 15\r\n\r\n{\"pod\":\"pod-1\"}";
        let outcome = target(server(other), "").ask(kept());
        assert_eq!(
            (outcome.status, outcome.kind, outcome.pod),
            (Some(404), Kind::Status, None)
        );
        assert_eq!(outcome.cause.as_deref(), Some("status 404"));
    }

    #[test]
    fn only_the_objects_own_members_count() {
        for (json, pod) in [
            (r#"{"a":1.5,"pod":"x-1","b":[]}"#, Some("x-1")),
            (
                r#"{"l":[["pod","field"],["x","pod"]],"pod":"x"}"#,
                Some("x"),
            ),
            (
                r#"{"a":"\",\"pod\":\"forged\"","pod":"true"}"#,
                Some("true"),
            ),
            (r#"{"a-pod":"y","pod":"x"}"#, Some("x")),
            (r#"{"a":"pod","b":"c"}"#, None),
            (r#"{"pod":null,"a":"b"}"#, None),
            (r#"{"pod":"x","body":"cut"#, Some("x")),
            (r#"{"pod":"x"#, None),
            ("", None),
        ] {
            assert_eq!(member(json, "pod"), pod, "{json}");
        }
    }

    #[test]
    fn latency_counts_from_the_due_time() {
        let target = target(server(EMPTY), "");
        let due = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let outcome = target.ask(Request { kept: true, due });
        assert!(outcome.kind == Kind::Ok && outcome.latency() >= Duration::from_secs(2));
        assert!(outcome.late >= Duration::from_secs(2));
    }
}
