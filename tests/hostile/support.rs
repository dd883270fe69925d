//! What the attacks share: the server as a process, a client of one request, a prober, cgroups.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The server's program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_httpserver");

/// Waits this long: what a client does between two requests, never what a test waits for.
pub(crate) fn pause(duration: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(duration);
}

/// Whether something becomes true in time.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > limit {
            return false;
        }
        pause(Duration::from_millis(10));
    }
    true
}

/// Prints that a test cannot run here, past the test harness, which hides what a passing test prints.
pub(crate) fn not_run(what: &str, why: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "NOT RUN: {what}: {why}");
}

/// Lines that a thread collects.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn collect(self, source: impl Read + Send + 'static) -> JoinHandle<()> {
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).into_owned();
                self.0.0.lock().unwrap().push(line);
                self.0.1.notify_all();
            }
        })
    }

    /// The first line that contains a text.
    pub(crate) fn wait_for(&self, text: &str) -> Option<String> {
        let limit = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return Some(line.clone());
            }
            let left = limit.checked_duration_since(Instant::now())?;
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }
}

/// Whether this process may have the open files for `connections`, which the servers it starts
/// inherit; raises the soft limit where needed. Where the hard one does not allow it, prints that
/// `what` does not run. All tests of the process share the limit, so there is room for others.
pub(crate) fn open_files(what: &str, connections: usize) -> bool {
    let needed = 1024 + 4 * connections;
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut fields = line.unwrap().split_whitespace().skip(3);
    let (soft, hard) = (fields.next().unwrap(), fields.next().unwrap());
    // A limit that is no number is "unlimited".
    let suffices = |limit: &str| limit.parse().map_or(true, |limit: usize| limit >= needed);
    let raise = || {
        let mut prlimit = Command::new("prlimit");
        // Always as far as it goes, so that no test takes back what another one has raised.
        let pid = format!("--pid={}", std::process::id());
        prlimit.args([pid, format!("--nofile={hard}:")]);
        prlimit.status().is_ok_and(|status| status.success())
    };
    let enough = suffices(soft) || (suffices(hard) && raise());
    if !enough {
        not_run(
            what,
            format!("{needed} open files are needed, and {hard} are allowed"),
        );
    }
    enough
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// The server's own process; with a wrapper it is not the child.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its diagnostics.
    pub(crate) stderr: Lines,
    /// Its access log.
    pub(crate) stdout: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// How a server ended.
pub(crate) struct Ended {
    /// Whether the exit status was 0.
    pub(crate) well: bool,
    /// The numbers of its last line.
    pub(crate) totals: BTreeMap<String, u64>,
    /// Lines of its access log.
    pub(crate) log_lines: u64,
    /// Its diagnostics.
    pub(crate) stderr: String,
}

impl Ended {
    /// Lines that the server tells it has lost: on a machine that stands still for a second their
    /// reader may be too late.
    fn lost_lines(&self) -> u64 {
        let line = self
            .stderr
            .lines()
            .find(|l| l.contains(" log lines were lost"));
        let words = line.unwrap_or_default().split(" log lines").next();
        let number = words.unwrap_or_default().rsplit([' ', '"']).next();
        number.unwrap_or_default().parse().unwrap_or_default()
    }

    /// Asserts that the last line accounts for every request, and that the log has each line.
    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        assert!(self.well, "the exit status is not 0: {}", self.stderr);
        let number = |name: &str| {
            let number = self.totals.get(name);
            *number.unwrap_or_else(|| panic!("no {name} in: {}", self.stderr))
        };
        assert_eq!(
            number("requests"),
            number("log_lines") + number("not_logged") + self.lost_lines(),
            "{}",
            self.stderr
        );
        assert_eq!(number("log_lines"), self.log_lines, "{}", self.stderr);
    }
}

/// A command that starts the server with an empty environment on a free port of 127.0.0.1.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.args(arguments).stdin(Stdio::null());
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("DELAY_MAX", "0s")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

impl Server {
    /// Starts the server with these flags.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::spawn(command(PROGRAM, arguments))
    }

    /// Starts the server with so many slots, and as many connections that send these bytes; `None`
    /// where there are too few open files.
    pub(crate) fn start_full(
        slots: usize,
        arguments: &[&str],
        first: &[u8],
    ) -> Option<(Server, Vec<TcpStream>)> {
        if !open_files("an attack on all slots", slots) {
            return None;
        }
        let slots_text = slots.to_string();
        let server = Server::start(&[&["--max-connections", &slots_text], arguments].concat());
        let begun = |_| {
            let mut stream = server.connect();
            stream.write_all(first).unwrap();
            stream
        };
        let connections = (0..slots).map(begun).collect();
        Some((server, connections))
    }

    /// Connects until so many newcomers are served; one that is shed comes again. `between` runs
    /// after each.
    #[track_caller]
    pub(crate) fn serve_newcomers(
        &self,
        count: usize,
        mut between: impl FnMut(),
    ) -> Vec<TcpStream> {
        let (mut served, start) = (Vec::new(), Instant::now());
        while served.len() < count {
            let mut stream = self.connect();
            if matches!(ask(&mut stream, "/"), Ok((200, _))) {
                served.push(stream);
            }
            assert!(start.elapsed() < PATIENCE, "not served");
            between();
        }
        println!("served after {:?}", start.elapsed());
        served
    }

    /// Starts the server inside of cgroups.
    #[track_caller]
    pub(crate) fn start_in(cgroups: &[&Cgroup], arguments: &[&str]) -> Server {
        let enter = |cgroup: &&Cgroup| format!("echo $$ > {}/cgroup.procs", cgroup.path.display());
        let enter: Vec<_> = cgroups.iter().map(enter).collect();
        let enter = enter.join(" && ");
        let script = format!("{enter} && exec \"$0\" \"$@\"");
        let mut all = vec!["-c", &script, PROGRAM];
        all.extend(arguments);
        Server::spawn(command("sh", &all))
    }

    /// Starts a prepared command and waits until the server listens. Stdout is collected unless
    /// the command has its own.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Server {
        command.stdout(Stdio::piped());
        Server::spawn_with_stdout(command)
    }

    /// As [`Server::spawn`], with the stdout that the command has.
    #[track_caller]
    pub(crate) fn spawn_with_stdout(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = vec![stderr.clone().collect(child.stderr.take().unwrap())];
        if let Some(pipe) = child.stdout.take() {
            readers.push(stdout.clone().collect(pipe));
        }
        let Some(line) = stderr.wait_for("listening on ") else {
            let _ = child.kill();
            panic!("the server does not listen: {:?}", stderr.all());
        };
        let (_, rest) = line.split_once("listening on ").unwrap();
        let address = rest.split(['"', ' ']).next().unwrap().parse().unwrap();
        Server {
            pid: child.id(),
            child,
            address,
            stderr,
            stdout,
            readers,
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid, name);
    }

    /// Whether the process has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn terminate(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        let ended = wait_until(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the server does not end: {:?}", self.stderr.all());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let stderr = self.stderr.all();
        let last = stderr.iter().rev().find(|l| l.contains("drain finished:"));
        let totals = last.map_or("", |line| line.as_str());
        let pairs = totals.split([' ', '"']).filter_map(|w| w.split_once('='));
        Ended {
            well: status.is_some_and(|status| status.success()),
            totals: pairs
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
            log_lines: self.stdout.all().len() as u64,
            stderr: stderr.join("\n"),
        }
    }

    /// Asks for a path on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> io::Result<Response> {
        get(self.address, path)
    }

    /// A connection.
    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address).unwrap()
    }

    /// The sum of a metric's series whose name and labels begin with `prefix`.
    #[track_caller]
    pub(crate) fn metric(&self, prefix: &str) -> u64 {
        sum_of(&self.get("/metrics").unwrap().text, prefix)
    }

    /// A number of `/proc/PID/status`: `Threads:`, `VmRSS:` in KiB.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_default()
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, |fds| fds.count() as u64)
    }

    /// Processor time so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let nanos = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn send_signal(pid: u32, name: &str) {
    // The shell's own kill: a small image has no program of that name.
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]);
    let status = shell.status();
    assert!(status.is_ok(), "kill: {status:?}");
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) text: String,
    /// From the connect to the last byte.
    pub(crate) took: Duration,
}

/// A connection whose reads and writes end in time.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for a path on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let start = Instant::now();
    let mut stream = connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // A server that sheds may have answered before it was asked.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = status_of(&text).ok_or_else(|| {
        end.err()
            .unwrap_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "no response"))
    })?;
    Ok(Response {
        status,
        text,
        took: start.elapsed(),
    })
}

fn status_of(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Sends a request without a body on a kept connection and reads its response, which tells its
/// length; the status, and whether the server closes.
pub(crate) fn ask(stream: &mut TcpStream, path: &str) -> io::Result<(u16, String)> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    read_response(stream)
}

/// Reads once. A socket with a time limit is interrupted on a machine that was frozen meanwhile.
pub(crate) fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Reads one response whose length is told.
pub(crate) fn read_response(stream: &mut TcpStream) -> io::Result<(u16, String)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse().unwrap_or(0));
            if body.len() >= length {
                return Ok((status_of(&text).unwrap_or(0), text.into_owned()));
            }
        }
        match read_some(stream, &mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The sum of the series that begin with `prefix`.
pub(crate) fn sum_of(metrics: &str, prefix: &str) -> u64 {
    let series = metrics.lines().filter(|line| line.starts_with(prefix));
    series
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Asks for `/healthz` on a new connection, again and again, as a kubelet does but more often.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Probes>,
}

/// What a prober saw.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// How long each one took that was answered 200.
    pub(crate) took: Vec<Duration>,
    /// What was wrong with the others.
    pub(crate) failed: Vec<String>,
}

impl Prober {
    /// Begins to probe, twenty times a second at most.
    pub(crate) fn start(address: SocketAddr) -> Prober {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted) = (stop.clone(), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let mut probes = Probes::default();
            while !stopped.load(SeqCst) {
                match get(address, "/healthz") {
                    Ok(response) if response.status == 200 => probes.took.push(response.took),
                    Ok(response) => probes.failed.push(response.status.to_string()),
                    Err(error) => probes.failed.push(error.to_string()),
                }
                counted.fetch_add(1, SeqCst);
                pause(Duration::from_millis(50));
            }
            probes
        });
        Prober {
            stop,
            count,
            thread,
        }
    }

    /// How many probes have ended.
    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Ends, and tells what it saw.
    pub(crate) fn stop(self) -> Probes {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

impl Probes {
    /// Asserts that every probe was answered 200, half of them within a second, and none after so
    /// long that a kubelet would count several failures. On a starved machine one in hundreds takes
    /// seconds, because the threads of those who have to make room do not run. After a second the
    /// server refuses it and says so: one in a hundred may be lost in this way, and no other.
    #[track_caller]
    pub(crate) fn assert_green(mut self, server: &Server) {
        self.took.sort();
        let median = self.took.get(self.took.len() / 2).copied();
        let longest = self.took.last().copied();
        println!(
            "{} probes, median {median:?}, longest {longest:?}, failed: {:?}",
            self.took.len(),
            self.failed
        );
        let lost = self.failed.len();
        if lost > 0 {
            let refused = server.metric("http_connections_total{outcome=\"refused\"}");
            assert!(
                lost <= self.took.len() / 100 && lost as u64 <= refused,
                "failed probes: {:?}, refused: {refused}",
                self.failed
            );
        }
        assert!(self.took.len() >= 5, "too few probes: {self:?}");
        assert!(median < Some(Duration::from_secs(1)), "slow: {median:?}");
        assert!(longest < Some(Duration::from_secs(20)), "slow: {longest:?}");
    }
}

/// A cgroup of a test's own.
pub(crate) struct Cgroup {
    path: PathBuf,
    v2: bool,
}

impl Cgroup {
    /// A cgroup with this controller, or why there is none.
    pub(crate) fn new(controller: &str, name: &str) -> Result<Cgroup, String> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let (root, v2) = if v1.is_dir() {
            (v1, false)
        } else {
            (PathBuf::from("/sys/fs/cgroup"), true)
        };
        if v2 {
            let control = root.join("cgroup.subtree_control");
            fs::write(control, format!("+{controller}"))
                .map_err(|error| format!("no {controller} controller: {error}"))?;
        }
        let path = root.join(format!("hostile-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("no cgroup: {error}"))?;
        Ok(Cgroup { path, v2 })
    }

    fn write(&self, file: &str, value: u64) -> Result<(), String> {
        fs::write(self.path.join(file), value.to_string())
            .map_err(|error| format!("{file}: {error}"))
    }

    fn read(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Limits the threads.
    pub(crate) fn limit_threads(&self, threads: u64) -> Result<(), String> {
        self.write("pids.max", threads)
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> u64 {
        self.read("pids.current")
    }

    /// Limits the memory; in version 1 the kernel counts the buffers of sockets apart, so they
    /// get the same limit, which has them counted.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<(), String> {
        if self.v2 {
            self.write("memory.swap.max", 0)?;
            return self.write("memory.max", bytes);
        }
        self.write("memory.kmem.tcp.limit_in_bytes", bytes)?;
        self.write("memory.limit_in_bytes", bytes)
    }

    /// The most memory that was used, socket buffers included.
    pub(crate) fn peak_memory(&self) -> u64 {
        if self.v2 {
            return self.read("memory.peak");
        }
        self.read("memory.max_usage_in_bytes") + self.read("memory.kmem.tcp.max_usage_in_bytes")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may still be in it for a moment.
        wait_until(|| fs::remove_dir(&self.path).is_ok());
    }
}
