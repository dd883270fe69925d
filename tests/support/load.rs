//! What the tests of load, end, log and command need besides `Server`: a client that reads one answer at a time and
//! says when a connection ended, a server whose output nobody reads, and the wrappers (`prlimit`, `setpriv`,
//! `strace`) under which the server meets a limit.
//!
//! Time is the subject of most of these tests, so `Client::end` gives the instant of the close and whether it was
//! a reset: a test that only says *that* a connection closed passes with the drain removed.
#![allow(dead_code, reason = "each test crate uses a part")]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, command};

/// Milliseconds, short enough for a table of times.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Lets time pass where time is what the test is about.
pub(crate) fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// Held by a test that loads the machine, so that no other of its crate runs beside it.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test that measures time, alone, until it passes, at most three times: a busy machine can hold up anything
/// once, but what fails three times in a row is the server's doing.
pub(crate) fn in_time(test: impl Fn()) {
    let _turn = alone();
    for _ in 0..2 {
        if panic::catch_unwind(AssertUnwindSafe(&test)).is_ok() {
            return;
        }
        let name = thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(
            io::stderr(),
            "AGAIN: {name}: it failed, perhaps because the machine is busy"
        );
    }
    test();
}

/// The loud line of a check that cannot run here, past the test harness's capture.
pub(crate) fn not_run(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "NOT RUN: {what}: {why}");
}

/// Whether a program can be started at all.
pub(crate) fn have(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok()
}

/// Whether this test runs as root, from the owner of its own process.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The server's command behind a program that sets something up and then executes it in its own place.
pub(crate) fn under(wrapper: &[&str], args: &[&str]) -> Command {
    let inner = command(args);
    let mut outer = Command::new(wrapper[0]);
    outer
        .env_clear()
        .args(&wrapper[1..])
        .arg(inner.get_program())
        .args(inner.get_args());
    outer
}

/// Raises this process's own limit of open files, which the servers it starts inherit; says whether it holds.
pub(crate) fn open_files(count: u64) -> bool {
    let (pid, soft) = (
        format!("--pid={}", std::process::id()),
        format!("--nofile={count}:"),
    );
    let tried = Command::new("prlimit")
        .args([&pid, &soft])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// The soft and the hard limit of open files of a process.
pub(crate) fn open_files_of(pid: u32) -> (u64, u64) {
    let limits =
        std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits can be read");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("it has one");
    let mut fields = line
        .split_whitespace()
        .skip(3)
        .map(|field| field.parse().unwrap_or(u64::MAX));
    (
        fields.next().expect("a soft limit"),
        fields.next().expect("a hard limit"),
    )
}

/// Whether the processors are mostly idle, so that a figure of time says something about the server.
pub(crate) fn is_calm(figure: &str) -> bool {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/stat").expect("a Linux");
        let fields = stat
            .lines()
            .next()
            .expect("the sum of all processors")
            .split_whitespace()
            .skip(1);
        let fields: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
        (fields[3] + fields[4], fields.iter().sum::<u64>())
    };
    let before = ticks();
    pause(ms(500));
    let after = ticks();
    let (idle, all) = (after.0 - before.0, after.1 - before.1);
    let calm = idle * 10 > all * 7;
    if !calm {
        not_run(figure, "the machine is busy with something else");
    }
    calm
}

/// CPU time that a process has used so far, user and system.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit(") ").next().expect("rsplit gives one");
    let ticks = |index: usize| {
        after_name
            .split(' ')
            .nth(index)
            .and_then(|ticks| ticks.parse::<u64>().ok())
    };
    let both = ticks(11).expect("user time") + ticks(12).expect("system time");
    ms(both * 10)
}

/// The ids of a process's threads.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Stops a server with SIGSTOP and waits until each of its threads stands still, which on a busy machine takes a while.
#[track_caller]
pub(crate) fn freeze(server: &Server) {
    server.signal("STOP");
    let limit = Instant::now() + PATIENCE;
    let stopped = |thread: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{}/task/{thread}/stat", server.pid()));
        stat.is_err()
            || stat.is_ok_and(|stat| {
                stat.rsplit(") ")
                    .next()
                    .is_some_and(|state| state.starts_with('T'))
            })
    };
    while !threads(server.pid()).into_iter().all(stopped) {
        assert!(Instant::now() < limit, "it does not stop");
        pause(ms(1));
    }
}

/// One whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// When its last byte was here.
    pub(crate) at: Instant,
}

impl Answer {
    /// The value of the first field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        fields
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// Whether the server says that it will close.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct End {
    /// When the end was seen.
    pub(crate) at: Instant,
    /// A reset instead of an orderly close.
    pub(crate) reset: bool,
    /// What came before it and had not been read.
    pub(crate) rest: Vec<u8>,
}

/// A client's side of one connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
}

impl Client {
    /// Connects to a server of this test.
    #[track_caller]
    pub(crate) fn new(server: &Server) -> Self {
        Self::to(server.addr).expect("the server accepts")
    }

    /// Connects to any address.
    pub(crate) fn to(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            ahead: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server's side is open");
    }

    /// Sends a GET that keeps the connection.
    #[track_caller]
    pub(crate) fn ask(&mut self, target: &str) {
        self.send(get(target));
    }

    /// One GET that keeps the connection, and its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask(target);
        self.answer().expect("an answer")
    }

    /// A request with a body.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ));
        self.answer().expect("an answer")
    }

    /// Reads one whole answer; an end before it is `UnexpectedEof`.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let head_end = loop {
            match self
                .ahead
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                Some(at) => break at + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..head_end]).into_owned();
        self.ahead.drain(..head_end);
        let status = head
            .get(9..12)
            .and_then(|code| code.parse().ok())
            .ok_or(ErrorKind::InvalidData)?;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
            at: Instant::now(),
        };
        let length = match answer.header("content-length") {
            Some(length) => length.parse().map_err(|_| ErrorKind::InvalidData)?,
            None => 0,
        };
        while self.ahead.len() < length {
            self.more()?;
        }
        answer.body = self.ahead.drain(..length).collect();
        answer.at = Instant::now();
        Ok(answer)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut block = [0; 16_384];
        match self.stream.read(&mut block)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.ahead.extend_from_slice(&block[..count]);
                Ok(())
            }
        }
    }

    /// Waits for the server to close.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let reset = loop {
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break false,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
                Err(error) => panic!("the server did not close within {PATIENCE:?}: {error}"),
            }
        };
        End {
            at: Instant::now(),
            reset,
            rest: std::mem::take(&mut self.ahead),
        }
    }

    /// Whether the connection is still open and silent after this long.
    pub(crate) fn silent_for(&mut self, length: Duration) -> bool {
        self.stream
            .set_read_timeout(Some(length))
            .expect("a time-out can be set");
        let silent = matches!(self.more(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out can be set");
        silent
    }
}

/// The bytes of a GET that keeps the connection.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// The median time of twenty GETs, each on a new connection, each of which must be answered with this status.
#[track_caller]
pub(crate) fn median_time(addr: SocketAddr, target: &str, status: u16) -> Duration {
    let mut times: Vec<Duration> = (0..20).map(|_| time_of_one(addr, target, status)).collect();
    times.sort();
    times[10]
}

/// The time of one GET on a new connection, which must be answered with this status.
#[track_caller]
pub(crate) fn time_of_one(addr: SocketAddr, target: &str, status: u16) -> Duration {
    let start = Instant::now();
    let mut client = Client::to(addr).expect("the server accepts");
    let answer = client.get(target);
    assert_eq!(answer.status, status, "{target}: {}", answer.head);
    start.elapsed()
}

/// A server of whose output nobody reads a byte after the line that tells its address.
pub(crate) struct Unread {
    child: Option<Child>,
    pid: u32,
    pub(crate) addr: SocketAddr,
    /// Drop it and the server's stdout is closed.
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<BufReader<ChildStderr>>,
}

impl Unread {
    /// Starts it and reads its stderr up to the line that says where it listens.
    #[track_caller]
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(args);
        command
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take();
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        let addr = loop {
            line.clear();
            let count = stderr.read_line(&mut line).expect("stderr is text");
            assert_ne!(count, 0, "it ended before it listened");
            if let Some((_, addr)) = line.trim_end().rsplit_once("listening on ") {
                break addr.parse().expect("an address follows `listening on`");
            }
        };
        Self {
            pid: child.id(),
            child: Some(child),
            addr,
            stdout,
            stderr: Some(stderr),
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        assert!(kill(name, self.pid), "kill -s {name} failed");
    }

    /// Waits for its end without reading its output; gives the status and how long the wait was.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let mut child = self.child.take().expect("waited for once");
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send((child.wait(), start.elapsed())));
        let Ok((status, after)) = told.recv_timeout(limit) else {
            kill("KILL", self.pid);
            panic!("still running after {limit:?}");
        };
        (status.expect("an ended child can be waited for"), after)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal by name to a process of this test.
pub(crate) fn kill(name: &str, pid: u32) -> bool {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    sent.is_ok_and(|status| status.success())
}

/// The accounting in the process's last line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) completed: u64,
    pub(crate) cut: u64,
    pub(crate) requests: u64,
    pub(crate) log_lines: u64,
}

/// Reads `drain finished: completed=12 cut=0 requests=340 log_lines=340`, which must be the last line of all.
#[track_caller]
pub(crate) fn account(stderr: &str) -> Account {
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("drain finished: "),
        "the last line is the account, but stderr is: {stderr}"
    );
    let value = |name: &str| {
        let field = last
            .split_whitespace()
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.and_then(|value| value.trim_end_matches(['"', '}']).parse().ok())
    };
    let value = |name: &str| value(name).unwrap_or_else(|| panic!("{name}= in {last:?}"));
    Account {
        completed: value("completed"),
        cut: value("cut"),
        requests: value("requests"),
        log_lines: value("log_lines"),
    }
}
