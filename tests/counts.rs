//! What a request and a connection cost, in counts that do not depend on the clock or on what else the machine does: system
//! calls in the connection's thread (strace), page faults (`/proc`), and user instructions of the whole process (callgrind).
//!
//! All of them watch the real binary, because a count of a part of it proves nothing about the rest. Instructions and faults are
//! those of a release build and compared with the figures in the README, so that the README cannot be wrong by more than
//! the tolerance: `cargo test --release --test counts`. Each test that its tool or build does not allow says so.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "bench/request.rs"]
mod request;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Few enough for a limit of 256 open files, which the tests of this program share.
const CONNECTIONS: usize = 24;
const BATCHES: usize = 40;
const PIPELINED: usize = 16;
/// Of a response, far above what a server under callgrind needs.
const PATIENCE: Duration = Duration::from_secs(60);
const TOLERANCE: f64 = 1.1;
/// Connections, one after the other, before the listener trusts its options to be inherited (`EARLY_CONNECTIONS`).
const EARLY: usize = 140;
const SHORT: usize = 100;

#[test]
fn a_request_takes_two_system_calls_and_the_logs_writer_few() {
    let Some(trace) = trace(1) else { return };
    let threads = threads(&trace);
    let calls = calls_for_a_request(&threads, 1);
    assert!(
        calls <= 2.1,
        "{calls} system calls for a request, 2.1 are allowed"
    );
    the_logs_writer_takes_few_system_calls(&threads);
}

#[test]
fn a_pipelined_request_takes_a_sixteenth_of_them() {
    let Some(trace) = trace(PIPELINED) else {
        return;
    };
    let calls = calls_for_a_request(&threads(&trace), PIPELINED);
    assert!(
        calls <= 0.3,
        "{calls} system calls for a request, 0.3 are allowed"
    );
}

/// However many lines come.
fn the_logs_writer_takes_few_system_calls(threads: &[Calls<'_>]) {
    let is_line =
        |(_, call): &(f64, &str)| call.starts_with("write(") && call.contains("\"127.0.0.1 - -");
    let places = |calls: &[(f64, &str)]| {
        (0..calls.len())
            .filter(|place| is_line(&calls[*place]))
            .collect::<Vec<_>>()
    };
    let writer = threads
        .iter()
        .max_by_key(|calls| places(calls).len())
        .unwrap();
    let lines = places(writer);
    let [first, .., last] = lines[..] else {
        panic!("no two writes of log lines: does the trace show them?")
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (calls, rounds) = ((last - first) as f64, (lines.len() - 1) as f64);
    let (each, rate) = (calls / rounds, rounds / (writer[last].0 - writer[first].0));
    say(&format!(
        "system calls for a write of log lines: {each:.2}; writes in a second: {rate:.0}"
    ));
    assert!(
        each <= 4.0,
        "{each:.2} system calls for a write, 4 are allowed"
    );
    assert!(
        rate <= 1_000.0,
        "{rate:.0} writes in a second, though lines gather for a millisecond"
    );
}

#[test]
fn a_request_takes_the_instructions_that_the_manual_says() {
    if !(optimised("instructions") && installed("valgrind")) {
        return;
    }
    let few = instructions(10);
    let many = instructions(110);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = (many - few) as f64 / (100.0 * 8.0);
    compare_with_manual("user instructions for a request", each);
}

#[test]
fn a_new_connection_takes_the_page_faults_that_the_manual_says() {
    if !optimised("page faults") {
        return;
    }
    // `env` becomes the server, so its id is the server's.
    let watched = Watched::start(&mut Command::new("env")).expect("the server does not start");
    let faults = |load: &dyn Fn()| {
        let before = minor_faults(watched.server());
        load();
        minor_faults(watched.server()) - before
    };
    // The first ones touch what all later ones share.
    watched.load(2, 1, 1);
    let with_thread = faults(&|| watched.load(CONNECTIONS, 1, 1));
    compare_with_manual(
        "page faults for a connection that starts a thread",
        with_thread / CONNECTIONS as f64,
    );
    let short = faults(&|| watched.short_connections(SHORT));
    compare_with_manual(
        "page faults for a connection that finds a thread",
        short / SHORT as f64,
    );
    watched.stop();
}

#[test]
fn a_short_connection_takes_five_system_calls() {
    let Some(trace) = trace_of(|watched| watched.short_connections(EARLY + SHORT)) else {
        return;
    };
    let is_accept = |(_, call): &(f64, &str)| call.starts_with("accept4(");
    // From one `accept` of a thread to its next one, with the time of the first.
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for mut calls in threads(&trace) {
        // Whether a thread that sleeps has to be woken is the scheduler's choice, and a debug build of std checks each
        // descriptor before it closes it.
        calls.retain(|(_, call)| !call.starts_with("futex(") && !call.contains("F_GETFD"));
        let accepts: Vec<usize> = (0..calls.len())
            .filter(|place| is_accept(&calls[*place]))
            .collect();
        counts.extend(
            accepts
                .windows(2)
                .map(|pair| (calls[pair[0]].0, pair[1] - pair[0])),
        );
    }
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut counts: Vec<usize> = counts
        .into_iter()
        .skip(EARLY)
        .map(|(_, count)| count)
        .collect();
    counts.sort_unstable();
    assert!(
        counts.len() > SHORT / 2,
        "only {} connections",
        counts.len()
    );
    // The median, because on a busy machine some threads start another one in between.
    let each = counts[counts.len() / 2];
    say(&format!("system calls for a short connection: {each}"));
    assert!(
        each <= 5,
        "{each} system calls for a short connection, 5 are allowed"
    );
}

#[test]
fn a_request_after_a_pause_takes_three_system_calls() {
    let mut windows = Vec::new();
    let Some(trace) = trace_of(|watched| windows = requests_after_pauses(watched)) else {
        return;
    };
    let threads = threads(&trace);
    let serves = |calls: &&Calls<'_>| {
        calls
            .iter()
            .any(|(_, call)| call.contains("\"HTTP/1.1 200"))
    };
    let calls = threads
        .iter()
        .find(serves)
        .expect("the trace shows the responses");
    // The call that waited for a request began before it came. Whether the
    // log's writer sleeps and has to be woken is the scheduler's choice.
    for (from, to) in &windows[1..] {
        let within =
            |(time, call): &&(f64, &str)| time > from && time < to && !call.starts_with("futex(");
        let within: Vec<&str> = calls.iter().filter(within).map(|(_, call)| *call).collect();
        say(&format!(
            "system calls for a request after a pause: {}",
            within.len() + 1
        ));
        assert!(
            within.len() < 3,
            "besides the read that waited: {within:#?}"
        );
    }
}

/// Sends a usual browser's head, long after the connection has given its buffers back; when each request was sent, and a
/// time behind its response. The first request has no pause before it and counts for nothing.
fn requests_after_pauses(watched: &Watched) -> Vec<(f64, f64)> {
    let mut request = request::request(false, Some("/paused"));
    let padding = format!("X-Padding: {}\r\n", "p".repeat(230));
    request.insert_str(request.len() - 2, &padding);
    let mut stream = TcpStream::connect(&watched.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut responses = BufReader::new(stream.try_clone().unwrap());
    let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH);
    let now = || since_epoch().unwrap().as_secs_f64();
    [0, 1_500, 1_500]
        .map(Duration::from_millis)
        .into_iter()
        .map(|pause| {
            thread::park_timeout(pause);
            let sent = now();
            stream.write_all(request.as_bytes()).unwrap();
            read_response(&mut responses).unwrap();
            thread::park_timeout(Duration::from_millis(300));
            (sent, now())
        })
        .collect()
}

/// System calls in the connections' threads for a request, between the first and the last response of each. A response
/// may wake the log's writer once; whether it sleeps is the scheduler's choice, so that call is not among them.
fn calls_for_a_request(threads: &[Calls<'_>], depth: usize) -> f64 {
    let (mut calls, mut woken, mut batches) = (0, 0, 0);
    for thread in threads {
        let is_response = |index: &usize| thread[*index].1.contains("\"HTTP/1.1 200");
        let responses: Vec<usize> = (0..thread.len()).filter(is_response).collect();
        if let [first, .., last] = responses.as_slice() {
            let between = &thread[*first..*last];
            let wakes = |(_, call): &&(f64, &str)| call.starts_with("futex(");
            woken += between.iter().filter(wakes).count();
            calls += between.len();
            batches += responses.len() - 1;
        }
    }
    let expected = CONNECTIONS * (BATCHES - 1);
    assert!(
        batches >= expected / 2,
        "{batches} responses seen, {expected} expected: does the trace show them?"
    );
    assert!(woken <= batches, "{woken} wake-ups for {batches} responses");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = (calls - woken) as f64 / (batches * depth) as f64;
    say(&format!(
        "system calls for a request, {depth} in a write: {each:.3}"
    ));
    each
}

/// Every system call of a server under the usual load; `None` where strace cannot run.
fn trace(depth: usize) -> Option<String> {
    trace_of(|watched| watched.load(CONNECTIONS, BATCHES, depth))
}

/// Every system call of a server under a load; `None` where strace cannot run.
fn trace_of(load: impl FnOnce(&Watched)) -> Option<String> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    if !installed("strace") {
        return None;
    }
    let file = scratch(&format!("strace-{}", FILES.fetch_add(1, Ordering::Relaxed)));
    let watched = Watched::start(
        Command::new("strace")
            .args(["-f", "-ttt", "-qq", "-s", "16", "-o"])
            .arg(&file),
    );
    let Some(watched) = watched else {
        not_run("system calls", "strace may not trace here");
        return None;
    };
    load(&watched);
    watched.stop();
    let trace = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    Some(trace)
}

/// The system calls of a thread, each with its Unix time in seconds.
type Calls<'a> = Vec<(f64, &'a str)>;

/// The calls of a trace by thread. A call that another thread interrupts stands in
/// two lines; its end is left out.
fn threads(trace: &str) -> Vec<Calls<'_>> {
    let mut lines: BTreeMap<&str, Calls<'_>> = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.contains(" resumed>")) {
        let (thread, rest) = line.split_once(' ').unwrap();
        let (time, call) = rest.trim_start().split_once(' ').unwrap();
        lines
            .entry(thread)
            .or_default()
            .push((time.parse().unwrap(), call));
    }
    lines.into_values().collect()
}

/// Compares a figure with the one in the manual's table of counts.
fn compare_with_manual(name: &str, figure: f64) {
    say(&format!("{name}: {figure:.1}"));
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/README.md");
    let manual = fs::read_to_string(manual).unwrap();
    let recorded = manual
        .lines()
        .find_map(|line| {
            line.strip_prefix(&format!("| {name} | "))?
                .split(' ')
                .next()
        })
        .unwrap_or_else(|| panic!("the manual of the benchmark has no line of {name}"));
    let recorded: f64 = recorded.replace(',', "").parse().unwrap();
    assert!(
        figure <= recorded * TOLERANCE,
        "{name}: {figure:.1}, the manual says {recorded}"
    );
}

/// Whether this is a build whose counts mean something; says so if not.
fn optimised(what: &str) -> bool {
    if cfg!(debug_assertions) {
        not_run(
            what,
            "a debug build's say nothing; cargo test --release --test counts",
        );
    }
    !cfg!(debug_assertions)
}

/// Page faults of a process so far that needed no disk.
fn minor_faults(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(7).unwrap().parse().unwrap()
}

/// All user instructions of a server that answers so many requests on each of eight connections.
fn instructions(requests: usize) -> u64 {
    let out = scratch("callgrind");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "-q"])
        .arg(format!("--callgrind-out-file={}", out.display()));
    let watched = Watched::start(&mut command).expect("the server does not start under valgrind");
    watched.load(8, requests, 1);
    watched.stop();
    let text = fs::read_to_string(&out).unwrap();
    fs::remove_file(&out).unwrap();
    let total = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("summary: ")
                .or(line.strip_prefix("totals: "))
        })
        .unwrap();
    total.trim().parse().unwrap()
}

/// The server under a tool; both are ended with the value.
struct Watched {
    tool: Child,
    address: String,
}

impl Watched {
    /// `None` if it ends before it listens.
    fn start(tool: &mut Command) -> Option<Self> {
        let server = [
            env!("CARGO_BIN_EXE_httpserver"),
            "--listen",
            "127.0.0.1:0",
            "--delay-max",
            "0s",
        ];
        tool.args(server)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut tool = tool.spawn().unwrap();
        let mut log = tool.stdout.take().unwrap();
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        let stderr = tool.stderr.take().unwrap();
        let mut watched = Self {
            tool,
            address: String::new(),
        };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
            let address =
                lines.find_map(|line| Some(line.split_once(" listening on ")?.1.to_owned()));
            let _ = tell.send(address);
            lines.for_each(drop);
        });
        watched.address = told.recv_timeout(PATIENCE).ok().flatten()?;
        Some(watched)
    }

    /// So many connections at once, each with batches one after the other; all stay open until the last is done, or a
    /// thread would take another connection, whose beginning would count as a part of requests.
    fn load(&self, connections: usize, batches: usize, depth: usize) {
        let open: Vec<TcpStream> = thread::scope(|scope| {
            let client = || converse(&self.address, batches, depth);
            let clients: Vec<_> = (0..connections)
                .map(|_| thread::Builder::new().spawn_scoped(scope, client).unwrap())
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap().unwrap())
                .collect()
        });
        drop(open);
    }

    /// Connections one after the other, each of which the server closes after its response.
    fn short_connections(&self, count: usize) {
        let request = request::request(true, None);
        for _ in 0..count {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 200 "), "{response:?}");
        }
    }

    /// Ends the server and waits for the tool.
    fn stop(mut self) {
        signal("TERM", self.server());
        assert!(
            self.tool.wait().unwrap().success(),
            "the server did not end well"
        );
    }

    /// The server is strace's child, but it is valgrind itself.
    fn server(&self) -> u32 {
        let pid = self.tool.id();
        let children =
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let child = children
            .split_whitespace()
            .next()
            .and_then(|child| child.parse().ok());
        child.unwrap_or(pid)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.tool.try_wait().is_ok_and(|status| status.is_none()) {
            signal("KILL", self.server());
            let _ = self.tool.kill();
            let _ = self.tool.wait();
        }
    }
}

fn signal(name: &str, pid: u32) {
    let mut kill = Command::new("sh");
    let _ = kill
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .status();
}

/// The batches of one connection, which is given back open.
fn converse(address: &str, batches: usize, depth: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let batch = request::request(false, None).repeat(depth);
    let mut responses = BufReader::new(stream.try_clone()?);
    for _ in 0..batches {
        stream.write_all(batch.as_bytes())?;
        for _ in 0..depth {
            read_response(&mut responses)?;
        }
    }
    Ok(stream)
}

fn read_response(stream: &mut impl BufRead) -> io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    assert!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
    while line != "\r\n" {
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
        stream.read_line(&mut line)?;
    }
    io::copy(&mut stream.take(length), &mut io::sink()).map(drop)
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("httpserver-counts-{name}-{}", std::process::id()))
}

fn installed(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        not_run(tool, &format!("not installed (apt-get install {tool})"));
    }
    found
}

fn not_run(what: &str, why: &str) {
    say(&format!("NOT RUN: {what}: {why}"));
}

/// Past the test harness, which hides what a passing test prints.
fn say(line: &str) {
    io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}
