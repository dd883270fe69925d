//! `httpserver watch` against servers that fail in every way, against the real binary, and against
//! other servers.
//!
//! Each purpose-made server does one thing wrong, so that each kind of loss is seen alone. The
//! server's own count, its log lines or those of the proxy, is compared with the verdict: nothing
//! may be counted twice, left out or sent again. The tests with other programs take seconds and
//! need them installed: they are ignored, and CI runs them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::host::{free_address, have};
use crate::support::process::Program;
use crate::support::server::BINARY;
use crate::support::{PATIENCE, Scratch, Server, each, eventually, ms, not_run, pause};

/// A whole response that keeps the connection.
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a run printed as JSON, and its exit status.
struct Report {
    status: Option<i32>,
    seconds: Vec<Value>,
    summary: Value,
}

impl Report {
    #[track_caller]
    fn parse(status: Option<i32>, text: &str) -> Self {
        let line =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let mut seconds: Vec<Value> = text.lines().map(line).collect();
        let summary = seconds.pop().expect("a summary");
        assert_eq!(summary["type"], "summary", "{text}");
        Self {
            status,
            seconds,
            summary,
        }
    }

    /// A number of the summary.
    #[track_caller]
    fn get(&self, name: &str) -> u64 {
        self.summary[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {}", self.summary))
    }

    #[track_caller]
    fn float(&self, name: &str) -> f64 {
        self.summary[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {}", self.summary))
    }

    /// How often a version, pod, status or cause was seen.
    fn seen(&self, group: &str, name: &str) -> u64 {
        self.summary[group][name]["count"].as_u64().unwrap_or(0)
    }

    /// Asserts that the lines add up to the summary, and the kinds to the requests.
    #[track_caller]
    fn adds_up(&self) {
        let kinds = [
            "ok", "status", "refused", "reset", "closed", "timeout", "bad", "unsent",
        ];
        for kind in kinds {
            let sum: u64 = self
                .seconds
                .iter()
                .map(|second| second[kind].as_u64().expect("a count"))
                .sum();
            assert_eq!(sum, self.get(kind), "{kind}: {}", self.summary);
            let uses =
                ["new_connections", "kept_connections"].map(|uses| &self.summary[uses][kind]);
            assert_eq!(
                uses.iter().filter_map(|count| count.as_u64()).sum::<u64>(),
                sum,
                "{kind}"
            );
        }
        assert_eq!(
            kinds.map(|kind| self.get(kind)).iter().sum::<u64>(),
            self.get("requests")
        );
        assert_eq!(self.get("requests") - self.get("ok"), self.get("lost"));
    }

    #[track_caller]
    fn nothing_lost(&self) {
        self.adds_up();
        assert_eq!(
            (self.get("lost"), self.get("unfinished")),
            (0, 0),
            "{}",
            self.summary
        );
        assert_eq!(self.status, Some(0));
    }
}

fn command(flags: &str, addr: SocketAddr, path: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["60", BINARY, "watch"])
        .args(flags.split_whitespace());
    command
        .arg(format!("http://{addr}{path}"))
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// Runs the command to its end.
#[track_caller]
fn watch_path(flags: &str, addr: SocketAddr, path: &str) -> Report {
    let output = command(&format!("--format json {flags}"), addr, path)
        .output()
        .expect("timeout(1) runs");
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = Report::parse(
        output.status.code(),
        &String::from_utf8_lossy(&output.stdout),
    );
    report.adds_up();
    report
}

#[track_caller]
fn watch(flags: &str, addr: SocketAddr) -> Report {
    watch_path(flags, addr, "/")
}

/// A run that goes on while the test does something.
#[track_caller]
fn begin(flags: &str, addr: SocketAddr, path: &str) -> Program {
    let mut command = Command::new(BINARY);
    command
        .args(["watch", "--format", "json"])
        .args(flags.split_whitespace())
        .arg(format!("http://{addr}{path}"));
    Program::start(command.env_clear())
}

/// The report of a run that ends.
#[track_caller]
fn end(mut running: Program) -> Report {
    let status = running.wait();
    Report::parse(status.code(), &running.stdout.text())
}

/// A server for which `act` does everything with a connection.
fn peer(act: impl Fn(BufReader<TcpStream>) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it has one");
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let act = Arc::clone(&act);
            thread::spawn(move || act(BufReader::new(stream.expect("a connection"))));
        }
    });
    addr
}

/// Reads the head of a request; false at the end of the stream or at the read time-out.
fn read_request(stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match stream.read_line(&mut line) {
            Ok(2) => return true,
            Ok(3..) => {}
            _ => return false,
        }
    }
}

/// A server that gives each request this response and then closes, if it says so.
fn responder(response: &'static str, closes: bool) -> SocketAddr {
    peer(move |mut stream| {
        while read_request(&mut stream) {
            if stream.get_mut().write_all(response.as_bytes()).is_err() || closes {
                break;
            }
        }
    })
}

/// Asserts that every request of a run is of this kind and has this cause.
#[track_caller]
fn all_are(kind: &str, cause: &str, addr: SocketAddr) {
    // On a slow machine a shorter time-out would add losses of its own kind.
    let timeout = if kind == "timeout" { "2s" } else { "20s" };
    let report = watch(&format!("--for 1s --timeout {timeout}"), addr);
    assert_eq!(
        (report.get("requests"), report.get(kind)),
        (20, 20),
        "{}",
        report.summary
    );
    assert_eq!(report.seen("causes", cause), 20, "{}", report.summary);
    assert_eq!(report.status, Some(1));
    assert_eq!(
        report.summary["verdict"],
        format!(
            "lost 20 of 20: 20 {}",
            if kind == "status" { cause } else { kind }
        )
    );
    assert!(
        report.float("gap_seconds") >= 0.9,
        "the whole run is a gap: {}",
        report.summary
    );
}

#[test]
fn each_kind_of_loss_is_told_with_its_cause() {
    let closed = free_address();
    // Closed with unread input, a connection is reset.
    let resets = peer(|mut stream| stream.get_mut().read_exact(&mut [0]).unwrap_or_default());
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let smtp = "220 mail.example.org ESMTP\r\n";
    let losses = [
        (
            "refused",
            "refused: Connection refused (os error 111)",
            closed,
        ),
        ("reset", "reset: reset without a response", resets),
        (
            "closed",
            "closed: closed without a response",
            responder("", true),
        ),
        (
            "closed",
            "closed: closed within the response",
            responder(half, true),
        ),
        (
            "timeout",
            "timeout: no response in time",
            responder("", false),
        ),
        (
            "timeout",
            "timeout: only a part of the response in time",
            responder(chunked, false),
        ),
        (
            "bad",
            "bad: the response is not HTTP/1.1: it does not begin with HTTP/1.",
            responder(smtp, false),
        ),
        ("status", "status 503", responder(busy, false)),
    ];
    each(losses, |(kind, cause, addr)| all_are(kind, cause, addr));
}

#[test]
fn a_redirect_and_a_body_up_to_the_close_are_ok() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    let up_to_the_close = "HTTP/1.1 200 OK\r\n\r\nup to the close";
    each(
        [(redirect, false), (up_to_the_close, true)],
        |(response, closes)| {
            let server = responder(response, closes);
            let report = watch("--for 500ms --rate 40 --timeout 20s", server);
            report.nothing_lost();
            assert_eq!(
                (report.get("requests"), &report.summary["verdict"]),
                (20, &"nothing lost of 20".into())
            );
        },
    );
}

/// A server that stops for two seconds, half a second after its first request.
fn sleeper() -> SocketAddr {
    let first = Mutex::new(None);
    peer(move |mut stream| {
        while read_request(&mut stream) {
            let first = *first
                .lock()
                .expect("no panic")
                .get_or_insert_with(Instant::now);
            let since = first.elapsed();
            if since > ms(500) {
                pause(ms(2500).saturating_sub(since));
            }
            if stream.get_mut().write_all(EMPTY.as_bytes()).is_err() {
                break;
            }
        }
    })
}

#[test]
fn a_stop_of_two_seconds_shows_in_forty_requests() {
    each(["20s", "1s"], |timeout| {
        let report = watch(&format!("--for 3s --timeout {timeout}"), sleeper());
        assert_eq!(report.get("requests"), 60);
        if timeout == "1s" {
            // Those that are due in the first second of the stop are lost.
            assert!(
                (12..=60).contains(&report.get("timeout")),
                "{}",
                report.summary
            );
            return;
        }
        report.nothing_lost();
        // Forty of sixty were due in the stop: 0 to 2 s late, evenly.
        let [p50, p90, max, gap] = ["p50_seconds", "p90_seconds", "max_seconds", "gap_seconds"]
            .map(|name| report.float(name));
        assert!(
            p50 > 0.2 && p90 > 1.2 && max > 1.5 && gap > 1.5,
            "{}",
            report.summary
        );
    });
}

/// A server that gives this response, and closes where a second request comes later than so long
/// after it.
fn impatient(response: String, patience: Duration) -> SocketAddr {
    peer(move |mut stream| {
        let mut last: Option<Instant> = None;
        while read_request(&mut stream) && last.is_none_or(|last| last.elapsed() < patience) {
            stream
                .get_mut()
                .write_all(response.as_bytes())
                .expect("it reads");
            last = Some(Instant::now());
        }
    })
}

#[test]
fn an_announced_close_is_honoured() {
    // Each kept connection is due for its next request after a second.
    each(
        [("1", PATIENCE), ("60", ms(600))],
        |(announced, patience)| {
            let head = format!("HTTP/1.1 200 OK\r\nKeep-Alive: timeout={announced}\r\n");
            let server = impatient(head + "Content-Length: 0\r\n\r\n", patience);
            let report = watch("--for 4s --rate 4 --connections 2 --timeout 20s", server);
            if announced == "1" {
                report.nothing_lost();
                // Sixteen, but for a request that comes late and so finds the one before it just answered. Ten, where the
                // announcement is not believed.
                assert!(
                    (11..=16).contains(&report.get("connections_opened")),
                    "{}",
                    report.summary
                );
            } else {
                // Where the announcement is a longer time, the connection is used, and the request is lost.
                let lost = report.summary["kept_connections"]["closed"].as_u64();
                assert!(lost >= Some(2), "{}", report.summary);
                assert_eq!(report.summary["new_connections"]["ok"], 8);
            }
        },
    );
}

#[test]
fn a_last_response_is_believed_though_its_connection_stays_open() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let addr = peer(move |mut stream| {
        read_request(&mut stream);
        stream
            .get_mut()
            .write_all(last.as_bytes())
            .expect("it reads");
        read_request(&mut stream);
    });
    let report = watch("--for 1s --timeout 20s", addr);
    report.nothing_lost();
    assert_eq!(report.get("connections_opened"), 20);
}

#[test]
fn nothing_that_was_sent_is_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    // One response for each connection; the second request gets a close.
    let addr = peer(move |mut stream| {
        for respond in [true, false] {
            if read_request(&mut stream) {
                seen.fetch_add(1, Ordering::SeqCst);
                if respond {
                    stream
                        .get_mut()
                        .write_all(EMPTY.as_bytes())
                        .expect("it reads");
                }
            }
        }
    });
    let report = watch("--for 2s --connections 2 --timeout 20s", addr);
    assert_eq!(
        (report.get("requests"), requests.load(Ordering::SeqCst)),
        (40, 40)
    );
    assert_eq!(report.summary["new_connections"]["ok"], 20);
    let kept = &report.summary["kept_connections"];
    assert!(kept["closed"].as_u64() > Some(0), "{kept}");
}

/// Lines of an access log for this path.
fn log_lines(log: &str, path: &str) -> u64 {
    log.lines()
        .filter(|line| line.contains(&format!("GET {path}")))
        .count() as u64
}

/// A TCP proxy that gives each new connection to the server that is named at that time.
fn forwarder(backend: Arc<Mutex<SocketAddr>>) -> SocketAddr {
    peer(move |client| {
        let addr = *backend.lock().expect("no panic");
        let Ok(server) = TcpStream::connect(addr) else {
            return;
        };
        let mut client = client.into_inner();
        let mut back = (
            server.try_clone().expect("a clone"),
            client.try_clone().expect("a clone"),
        );
        let up = thread::spawn(move || {
            let mut server = server;
            let _ = std::io::copy(&mut client, &mut server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut back.0, &mut back.1);
        let _ = back.1.shutdown(Shutdown::Write);
        let _ = up.join();
    })
}

#[test]
fn a_rollout_shows_both_versions_and_loses_nothing() {
    let start = |version, pod| {
        Server::start_with(
            &["--shutdown-delay", "2s"],
            &[("VERSION", version), ("POD_NAME", pod)],
        )
    };
    let (mut old, mut new) = (start("1.0", "old"), start("2.0", "new"));
    let backend = Arc::new(Mutex::new(old.addr));
    let running = begin(
        "--timeout 20s",
        forwarder(Arc::clone(&backend)),
        "/delay/50ms",
    );
    running.stdout.line("\"old\"");
    *backend.lock().expect("no panic") = new.addr;
    running.stdout.line("\"new\"");
    // The kept connections are still with the old one, which asks them to leave.
    old.stop();
    let lines = running.stdout.text().lines().count();
    running.stdout.wait_lines(lines + 2);
    running.signal("TERM");
    let report = end(running);
    report.nothing_lost();
    new.stop();
    for (version, pod, server) in [("1.0", "old", &old), ("2.0", "new", &new)] {
        let logged = log_lines(&server.stdout.text(), "/delay");
        let seen = (report.seen("versions", version), report.seen("pods", pod));
        assert_eq!(seen, (logged, logged), "{}", report.summary);
        assert!(logged > 0);
    }
    let last = |version: &str| report.summary["versions"][version]["last"].as_u64();
    assert!(last("1.0") < last("2.0"), "{}", report.summary);
}

#[test]
fn a_signal_waits_for_what_is_in_flight() {
    let server = Server::start(&[]);
    let running = begin("--rate 50", server.addr, "/delay/1500ms");
    running.stdout.line("\"200\":");
    running.signal("INT");
    let report = end(running);
    report.nothing_lost();
    assert!(report.float("max_seconds") >= 1.5);
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let running = begin("--timeout 10m --rate 10", responder("", false), "/");
    running.stdout.line("second");
    // Two that are not the same, because equal ones that come at once are one.
    running.signal("INT");
    running.signal("TERM");
    let report = end(running);
    report.adds_up();
    assert_eq!(
        (report.get("requests"), report.status),
        (0, Some(1)),
        "{}",
        report.summary
    );
    assert!(report.get("unfinished") > 0, "{}", report.summary);
    assert!(
        report.summary["verdict"]
            .as_str()
            .expect("words")
            .contains("in flight and not waited for")
    );
}

#[test]
fn a_closed_output_ends_it() {
    let addr = responder(EMPTY, false);
    let mut child = command("--timeout 20s", addr, "/")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert!(line.contains("  ok "), "{line}");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..]),
        "124 is the time-out's"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        return not_run("watch on a full disk", "no /dev/full");
    };
    let output = command("--for 1s", responder(EMPTY, false), "/")
        .stdout(full)
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("cannot write the output: "), "{stderr}");
}

#[test]
fn what_this_host_cannot_send_is_told_apart() {
    if !have("prlimit") {
        return not_run("watch without descriptors", "prlimit is not installed");
    }
    let inner = command(
        "--for 1s --format json --timeout 2s",
        responder("", false),
        "/",
    );
    let output = Command::new("prlimit")
        .arg("--nofile=16")
        .arg(inner.get_program())
        .args(inner.get_args())
        .output();
    let output = output.expect("prlimit runs");
    let report = Report::parse(
        output.status.code(),
        &String::from_utf8_lossy(&output.stdout),
    );
    report.adds_up();
    assert!(
        report.get("unsent") > 0 && report.get("timeout") > 0,
        "{}",
        report.summary
    );
    assert_eq!(
        report.seen("causes", "unsent: Too many open files (os error 24)"),
        report.get("unsent")
    );
}

#[test]
fn text_says_the_same() {
    let output = command("--for 1500ms --timeout 20s", responder(EMPTY, false), "/")
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("  lost    0  p50 ")
            && lines.iter().any(|line| line.contains("  status 200:")),
        "{text}"
    );
    assert_eq!(lines.last(), Some(&"verdict: nothing lost of 30"), "{text}");
}

/// Starts another program's server and waits until its port accepts.
#[track_caller]
fn serve(program: &str, args: &[&str], addr: SocketAddr) -> Program {
    let program = Program::start(Command::new(program).args(args));
    eventually("the program listens", || TcpStream::connect(addr).is_ok());
    program
}

/// Ends a program in order; its output is complete then.
#[track_caller]
fn stop(program: &mut Program) {
    program.signal("TERM");
    program.wait();
}

#[test]
#[ignore = "needs nginx"]
fn nginx_with_short_connections_loses_nothing() {
    if !have("nginx") {
        return not_run("watch against nginx", "it is not installed");
    }
    let (folder, addr) = (Scratch::directory("nginx"), free_address());
    let path = folder.text();
    let config = folder.put(
        "nginx.conf",
        &format!(
            "daemon off; pid {path}/pid; error_log {path}/error.log;\n events {{}}\n\
             http {{ access_log {path}/access.log; keepalive_requests 5; keepalive_timeout 3s 3s;\n\
             client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;\n\
             uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;\n\
             server {{ listen {addr}; location / {{ return 200 hello; }} location /no {{ return 404; }} }} }}\n"
        ),
    );
    let mut nginx = serve("nginx", &["-p", path, "-c", &config], addr);
    let report = watch_path("--for 3s --timeout 20s", addr, "/watched");
    report.nothing_lost();
    assert_eq!(
        (report.get("requests"), report.seen("statuses", "200")),
        (60, 60)
    );
    let refused = watch_path("--for 1s --timeout 20s", addr, "/no");
    assert_eq!(
        (refused.get("status"), refused.seen("causes", "status 404")),
        (20, 20)
    );
    stop(&mut nginx);
    let log = fs::read_to_string(folder.as_ref().join("access.log")).expect("a log");
    assert_eq!(
        (log_lines(&log, "/watched"), log_lines(&log, "/no")),
        (60, 20)
    );
}

#[test]
#[ignore = "needs python3"]
fn pythons_http_server_loses_nothing() {
    if !have("python3") {
        return not_run("watch against http.server", "python3 is not installed");
    }
    let (folder, addr) = (Scratch::directory("python"), free_address());
    folder.put("watched", "hello");
    let port = addr.port().to_string();
    let path = folder.text();
    let arguments = [
        "-u",
        "-m",
        "http.server",
        &port,
        "--bind",
        "127.0.0.1",
        "--directory",
        path,
    ];
    let mut python = serve("python3", &arguments, addr);
    let report = watch_path("--for 2s --timeout 20s", addr, "/watched");
    report.nothing_lost();
    assert_eq!(
        (report.get("requests"), report.get("connections_opened")),
        (40, 40),
        "it speaks HTTP/1.0"
    );
    assert!(
        report.summary["versions"]
            .as_object()
            .expect("an object")
            .is_empty()
    );
    stop(&mut python);
    assert_eq!(log_lines(&python.stderr.text(), "/watched"), 40);
}

/// Two servers behind a proxy that logs each request with the status that it gave.
struct Balanced {
    folder: Scratch,
    servers: [Option<Server>; 2],
    addrs: [SocketAddr; 2],
    /// The logs of the servers that have ended.
    logs: String,
}

impl Balanced {
    fn new(name: &str) -> Self {
        let (folder, addrs) = (Scratch::directory(name), [free_address(), free_address()]);
        let mut balanced = Self {
            folder,
            servers: [None, None],
            addrs,
            logs: String::new(),
        };
        balanced.start(0);
        balanced.start(1);
        balanced
    }

    fn start(&mut self, index: usize) {
        let listen = self.addrs[index].to_string();
        let pod = ["pod-a", "pod-b"][index];
        self.servers[index] = Some(Server::start_with(
            &["--listen", &listen, "--shutdown-delay", "1s"],
            &[("POD_NAME", pod)],
        ));
    }

    /// Ends a server by a signal and starts it again, once the proxy gives requests to the other.
    #[track_caller]
    fn restart(&mut self, index: usize, signal: &str) {
        for server in self.servers.iter().flatten() {
            server.stdout.line("/delay");
        }
        let mut server = self.servers[index].take().expect("it runs");
        server.signal(signal);
        server.wait();
        self.logs += &server.stdout.text();
        self.start(index);
    }

    #[track_caller]
    fn proxy(&self, addr: SocketAddr) -> Program {
        let [a, b] = self.addrs;
        let config = self.folder.put(
            "haproxy.cfg",
            &format!(
                "global\n log stdout format raw local0\n\
                 defaults\n mode http\n log global\n option httplog\n retries 0\n timeout connect 5s\n\
                 timeout client 60s\n timeout server 60s\n\
                 listen both\n bind {addr}\n balance roundrobin\n option httpchk GET /readyz\n\
                 default-server check inter 200ms fall 1 rise 1\n server a {a}\n server b {b}\n"
            ),
        );
        serve("haproxy", &["-db", "-f", &config], addr)
    }

    /// Ends everything and gives the log lines of both servers.
    fn stop(mut self) -> u64 {
        for mut server in self.servers.iter_mut().filter_map(Option::take) {
            server.stop();
            self.logs += &server.stdout.text();
        }
        log_lines(&self.logs, "/delay")
    }
}

/// Requests that the proxy logged with this status.
fn proxied(log: &str, status: &str) -> u64 {
    let with = |line: &&str| line.contains("\"GET /delay") && line.contains(&format!(" {status} "));
    log.lines().filter(with).count() as u64
}

#[test]
#[ignore = "needs haproxy"]
fn behind_haproxy_a_drain_loses_nothing() {
    if !have("haproxy") {
        return not_run("watch of a drain behind HAProxy", "it is not installed");
    }
    let (mut balanced, addr) = (Balanced::new("drain"), free_address());
    let mut proxy = balanced.proxy(addr);
    let running = begin("--timeout 20s", addr, "/delay/100ms");
    for round in 0..4 {
        balanced.restart(round % 2, "TERM");
    }
    running.signal("TERM");
    let report = end(running);
    report.nothing_lost();
    stop(&mut proxy);
    assert_eq!(proxied(&proxy.stdout.text(), "200"), report.get("ok"));
    assert_eq!(
        report.seen("pods", "pod-a") + report.seen("pods", "pod-b"),
        report.get("ok")
    );
    assert_eq!(
        balanced.stop(),
        report.get("requests"),
        "{}",
        report.summary
    );
}

#[test]
#[ignore = "needs haproxy"]
fn behind_haproxy_a_kill_is_told_exactly() {
    if !have("haproxy") {
        return not_run("watch of a kill behind HAProxy", "it is not installed");
    }
    let (mut balanced, addr) = (Balanced::new("kill"), free_address());
    let mut proxy = balanced.proxy(addr);
    let running = begin("--timeout 20s", addr, "/delay/300ms");
    for round in 0..4 {
        balanced.restart(round % 2, "KILL");
    }
    running.signal("TERM");
    let report = end(running);
    report.adds_up();
    stop(&mut proxy);
    let log = proxy.stdout.text();
    let counts = ["200", "502", "503"].map(|status| proxied(&log, status));
    assert_eq!(
        counts,
        ["200", "502", "503"].map(|status| report.seen("statuses", status)),
        "{}",
        report.summary
    );
    assert_eq!(report.get("ok"), counts[0]);
    assert_eq!(
        (report.get("lost"), report.status),
        (counts[1] + counts[2] + report.get("closed"), Some(1))
    );
    assert!(
        counts[1] > 0,
        "requests were in flight when a server was killed: {}",
        report.summary
    );
    // A response can be on its way a millisecond before its log line is.
    let logged = balanced.stop();
    assert!(
        logged <= report.get("ok") && logged + 4 >= report.get("ok"),
        "{logged}: {}",
        report.summary
    );
}
