//! The real binary, started on a free port and watched.
//!
//! `Server::start(&["--max-connections", "8"])` returns once it listens. Unless the flags say otherwise it listens on
//! 127.0.0.1:0 and delays nothing. The environment is empty but for what `start_with` gives, so that no variable of
//! the machine changes a test. What it prints is collected, and a wait for a line is a wait on a condition variable.
//! Dropping a `Server` kills its process.

use std::borrow::Cow;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::Instant;

use super::log::{Line, lines_of};
use super::metrics::Scrape;
use super::{Client, PATIENCE, Response, eventually, ms, pause, process};

/// What opens `/admin` of the servers of `start_admin`.
pub(crate) const TOKEN: &str = "s3cret-Token.of~the+test/42=";
/// The binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_httpserver");

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Its access log.
    pub(crate) stdout: Output,
    /// Its diagnostics.
    pub(crate) stderr: Output,
}

impl Server {
    /// Starts the server with these flags and waits until it listens.
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(command(flags))
    }

    /// As `start`, with variables in its environment.
    #[track_caller]
    pub(crate) fn start_with(flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(flags);
        command.envs(env.iter().copied());
        Self::spawn(command)
    }

    /// As `start`, with an `/admin` that `TOKEN` opens.
    #[track_caller]
    pub(crate) fn start_admin(flags: &[&str]) -> Self {
        Self::start_with(flags, &[("ADMIN_TOKEN", TOKEN)])
    }

    /// Starts a prepared command, for a test that wants something unusual of it.
    #[track_caller]
    pub(crate) fn spawn(command: Command) -> Self {
        let server = Self::spawn_unread(command);
        server.stdout.read();
        server.stderr.read();
        server
    }

    /// As `spawn`, but of its output nobody reads a byte behind the line that tells its address, until the test calls
    /// `read` or `close` of an `Output`.
    #[track_caller]
    pub(crate) fn spawn_unread(mut command: Command) -> Self {
        let (out, stdout) = std::io::pipe().expect("a pipe");
        let (err, stderr) = std::io::pipe().expect("a pipe");
        let spawned = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        // The command holds the pipes' other ends, without whose close they never end.
        drop(command);
        // It is a `Server` before it listens, so that its drop ends a process that never does.
        let mut server = Self {
            child: spawned.expect("the binary starts"),
            addr: SocketAddr::from(([0; 4], 0)),
            stdout: Output::new(Box::new(out), &[]),
            stderr: Output::new(Box::new(std::io::empty()), &[]),
        };
        let (tell, told) = mpsc::channel();
        let listen = move || tell.send(Output::from_listening(Box::new(err)));
        thread::Builder::new()
            .spawn(listen)
            .expect("a thread starts");
        let listening = told.recv_timeout(PATIENCE).expect("it listens or ends");
        (server.addr, server.stderr) =
            listening.unwrap_or_else(|said| panic!("it ends before it listens: {said}"));
        server
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM` or `INT`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        process::signal(name, self.pid());
    }

    /// Stops it with SIGSTOP until it gets `CONT`.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        process::freeze(self.pid());
    }

    /// Waits for the process to end; the output that is read is then complete.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        for output in [&self.stdout, &self.stderr] {
            output.wait_end();
        }
        status.expect("it ended")
    }

    /// SIGTERM, then `wait`; it must end well.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.ends_well();
    }

    /// `wait`, and the exit status must be 0.
    #[track_caller]
    pub(crate) fn ends_well(&mut self) {
        let status = self.wait();
        assert_eq!(
            status.code(),
            Some(0),
            "{status}; stderr: {}",
            self.stderr.text()
        );
    }

    /// Stops it and gives the lines of its access log.
    #[track_caller]
    pub(crate) fn stop_and_lines(&mut self) -> Vec<Line> {
        self.stop();
        self.lines()
    }

    /// The whole lines of its access log so far, each of which must be sound.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Line> {
        lines_of(&self.stdout.text())
    }

    /// Waits for the first whole line of the access log that holds `needle`.
    #[track_caller]
    pub(crate) fn line(&self, needle: &str) -> Line {
        Line::parse(&self.stdout.line(needle)).unwrap_or_else(|what| panic!("{what}"))
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        let mut client = Client::new(self);
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        client.response()
    }

    /// A request below `/admin/` with the right token, on a connection of its own.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> Response {
        let fields = format!("Authorization: Bearer {TOKEN}\r\n");
        Client::new(self).call(method, &format!("/admin/{path}"), &fields, body)
    }

    /// Changes a setting through `/admin`.
    #[track_caller]
    pub(crate) fn set(&self, name: &str, value: &str) {
        let response = self.admin("PUT", &format!("settings/{name}"), value);
        assert_eq!(response.status, 200, "{name}={value}: {response}");
    }

    /// One scrape on a connection of its own.
    #[track_caller]
    pub(crate) fn scrape(&self) -> Scrape {
        let response = self.get("/metrics?scrape");
        assert_eq!(response.status, 200, "{response}");
        Scrape(response.text())
    }

    /// A series that must exist and counts something.
    #[track_caller]
    pub(crate) fn count(&self, series: &str) -> u64 {
        self.scrape().count(series)
    }

    /// Waits until a series that counts something satisfies `done`, each time on a new connection.
    #[track_caller]
    pub(crate) fn wait_count(&self, series: &str, mut done: impl FnMut(u64) -> bool) -> u64 {
        let limit = Instant::now() + PATIENCE;
        loop {
            let count = self.scrape().count_or_zero(series);
            if done(count) {
                return count;
            }
            assert!(
                Instant::now() < limit,
                "{series} is {count} for {PATIENCE:?}"
            );
            pause(ms(10));
        }
    }

    /// Waits until so many requests are in flight besides the one that looks.
    #[track_caller]
    pub(crate) fn wait_in_flight(&self, count: u64) {
        // On one connection if it is kept: one that has just closed would count for a moment.
        let mut kept = None;
        eventually(&format!("{count} requests are in flight"), || {
            let client = kept.get_or_insert_with(|| Client::new(self));
            let response = client.get("/metrics?scrape");
            if response.closes() {
                kept = None;
            }
            Scrape(response.text()).count("http_requests_in_flight") == count + 1
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that `Server::start` runs, for a test that changes it first.
pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    for (flag, value) in [("--listen", "127.0.0.1:0"), ("--delay-max", "0s")] {
        if !flags.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
    command
}

/// The server's command behind a program that sets something up and then executes it in its own place.
pub(crate) fn under(wrapper: &[&str], flags: &[&str]) -> Command {
    let inner = command(flags);
    let mut outer = Command::new(wrapper[0]);
    outer
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(&wrapper[1..])
        .arg(inner.get_program())
        .args(inner.get_args());
    outer
}

/// What a process has printed on one of its streams so far.
pub(crate) struct Output {
    printed: Arc<(Mutex<Printed>, Condvar)>,
    source: Mutex<Option<Source>>,
}

type Source = Box<dyn Read + Send>;

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    /// Where each whole line ends.
    ends: Vec<usize>,
    ended: bool,
}

impl Printed {
    fn add(&mut self, bytes: &[u8]) {
        let start = self.bytes.len();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.ends.extend(ends.map(|(place, _)| start + place + 1));
        self.bytes.extend_from_slice(bytes);
    }

    /// The whole lines behind so many others.
    fn lines(&self, behind: usize) -> impl Iterator<Item = Cow<'_, str>> {
        let start = |line: usize| line.checked_sub(1).map_or(0, |line| self.ends[line]);
        let line = move |line: usize| &self.bytes[start(line)..self.ends[line] - 1];
        (behind..self.ends.len()).map(move |place| String::from_utf8_lossy(line(place)))
    }
}

impl Output {
    fn new(source: Source, bytes: &[u8]) -> Self {
        let mut printed = Printed::default();
        printed.add(bytes);
        Self {
            printed: Arc::new((Mutex::new(printed), Condvar::new())),
            source: Mutex::new(Some(source)),
        }
    }

    /// Reads up to the line that tells where the server listens, and no byte more; where there is none, gives all.
    fn from_listening(mut source: Source) -> Result<(SocketAddr, Self), String> {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        loop {
            if source.read(&mut byte).unwrap_or_default() == 0 {
                return Err(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.push(byte[0]);
            let line = bytes
                .strip_suffix(b"\n")
                .and_then(|whole| whole.rsplit(|&byte| byte == b'\n').next());
            let line = line.map(String::from_utf8_lossy);
            if let Some((_, addr)) = line
                .as_ref()
                .and_then(|line| line.rsplit_once("listening on "))
            {
                let addr = addr
                    .trim_end_matches(['"', '}'])
                    .parse()
                    .expect("an address follows `listening on`");
                return Ok((addr, Self::new(source, &bytes)));
            }
        }
    }

    /// Reads a stream from now on.
    pub(crate) fn collect(source: impl Read + Send + 'static) -> Self {
        let output = Self::new(Box::new(source), &[]);
        output.read();
        output
    }

    /// Begins to read the stream, to its end, in a thread of its own.
    pub(crate) fn read(&self) {
        let Some(mut source) = self.source.lock().expect("no panic under it").take() else {
            return;
        };
        let printed = self.printed.clone();
        let collect = move || {
            let mut block = vec![0; 65_536];
            while let Ok(count @ 1..) = source.read(&mut block) {
                printed
                    .0
                    .lock()
                    .expect("no panic under it")
                    .add(&block[..count]);
                printed.1.notify_all();
            }
            printed.0.lock().expect("no panic under it").ended = true;
            printed.1.notify_all();
        };
        thread::Builder::new()
            .spawn(collect)
            .expect("a thread starts");
    }

    /// Closes the stream that nobody reads.
    pub(crate) fn close(&self) {
        self.source.lock().expect("no panic under it").take();
        self.locked().ended = true;
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.locked().bytes).into_owned()
    }

    /// Waits until `look` finds something in what is collected; `None` when the stream ends or `PATIENCE` does before.
    fn wait_for<T>(&self, mut look: impl FnMut(&Printed) -> Option<T>) -> Option<T> {
        let mut found = None;
        let waiting = |printed: &mut Printed| {
            found = look(printed);
            found.is_none() && !printed.ended
        };
        let waited = self
            .printed
            .1
            .wait_timeout_while(self.locked(), PATIENCE, waiting);
        drop(waited.expect("no panic under it"));
        found
    }

    /// Waits for the first whole line that holds `needle`.
    #[track_caller]
    pub(crate) fn line(&self, needle: &str) -> String {
        let mut seen = 0;
        let found = self.wait_for(|printed| {
            let line = printed.lines(seen).find(|line| line.contains(needle));
            seen = printed.ends.len();
            line.map(Cow::into_owned)
        });
        found.unwrap_or_else(|| panic!("no line with {needle:?} in:\n{}", self.text()))
    }

    /// Waits for so many whole lines.
    #[track_caller]
    pub(crate) fn wait_lines(&self, count: usize) {
        let all = self.wait_for(|printed| (printed.ends.len() >= count).then_some(()));
        assert!(
            all.is_some(),
            "only {} of {count} lines",
            self.locked().ends.len()
        );
    }

    /// The whole lines behind so many others.
    pub(crate) fn lines_behind(&self, count: usize) -> Vec<String> {
        self.locked().lines(count).map(Cow::into_owned).collect()
    }

    /// Waits for the end of a stream that is read.
    #[track_caller]
    pub(crate) fn wait_end(&self) {
        if self.source.lock().expect("no panic under it").is_some() {
            return;
        }
        let end = self.wait_for(|printed| printed.ended.then_some(()));
        assert!(end.is_some(), "the stream does not end");
    }

    fn locked(&self) -> MutexGuard<'_, Printed> {
        self.printed.0.lock().expect("no panic under it")
    }
}

/// The accounting in the process's last line.
#[derive(Debug)]
pub(crate) struct Account(String);

impl Account {
    /// Reads `drain finished: completed=12 cut=0 requests=340 log_lines=340 not_logged=0`, which must be the last line
    /// of all.
    #[track_caller]
    pub(crate) fn of(server: &Server) -> Self {
        let stderr = server.stderr.text();
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains("drain finished: "),
            "the last line is the account, but stderr is: {stderr}"
        );
        Self(last.trim_end_matches(['"', '}']).to_owned())
    }

    /// One of its numbers.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        let value = |word: &'_ str| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        self.0
            .split_whitespace()
            .find_map(value)
            .unwrap_or_else(|| panic!("{name}= in {:?}", self.0))
    }
}
