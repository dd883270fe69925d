//! The real binary, started on a free port and watched, for the tests that talk to it over a socket.
//!
//! `Server::start(&["--max-connections", "8"])` returns once it listens. Unless the arguments say otherwise it
//! listens on 127.0.0.1:0 and delays nothing. The environment is empty but for what `start_with` gives, so a variable
//! of the machine changes no test. What it prints is collected by two threads, and a wait for a line is a wait on
//! a condition variable. Dropping it kills it.
//!
//! Each integration test is a crate of its own and uses a part of this, hence the allowance for dead code.
#![allow(dead_code, reason = "each test crate uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// As `start`, with variables in its environment.
    #[track_caller]
    pub(crate) fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(args);
        command.envs(env.iter().copied());
        Self::spawn(command)
    }

    /// Starts a prepared command, for a test that wants something unusual of it.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = Output::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Output::collect(child.stderr.take().expect("stderr is piped"));
        let Some(line) = stderr.wait_line("listening on ", PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the server does not listen; its stderr: {:?}",
                stderr.text()
            );
        };
        let tail = line
            .rsplit("listening on ")
            .next()
            .expect("rsplit gives one");
        let addr = tail
            .trim_end_matches(['"', '}'])
            .parse()
            .expect("an address follows `listening on`");
        Self {
            child,
            addr,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM` or `INT`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(
            status.expect("kill runs").success(),
            "kill -s {name} failed"
        );
    }

    /// Waits for the process to end; its status and all output are then complete.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        for output in [&self.stderr, &self.stdout] {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                output.wait_end(left),
                "still running after {limit:?}; stderr: {:?}",
                self.stderr.text()
            );
        }
        self.child.wait().expect("an ended child can be waited for")
    }

    /// SIGTERM, then `wait`.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(PATIENCE)
    }

    /// A new connection; a read on it gives up after `PATIENCE`, so that no test hangs.
    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("the server accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a read time-out can be set");
        stream.set_nodelay(true).expect("Nagle can be switched off");
        stream
    }

    /// One GET on its own connection: the status, and the whole answer as text.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> (u16, String) {
        let mut stream = self.connect();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .expect("it answers and closes");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.get(9..12).and_then(|code| code.parse().ok());
        (
            status.unwrap_or_else(|| panic!("no status in {answer:?}")),
            answer,
        )
    }

    /// The value of one series, written as /metrics writes it (`name` or `name{label="value"}`); 0 if it is absent.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (status, answer) = self.get("/metrics");
        assert_eq!(status, 200, "/metrics answers");
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| {
            value.trim().parse().expect("a metric is a number")
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that `Server::start` runs, for a test that changes it first or expects the start to fail.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httpserver"));
    command.env_clear();
    for (flag, value) in [("--listen", "127.0.0.1:0"), ("--delay-max", "0s")] {
        if !args.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(args);
    command
}

/// What a process has printed on one of its streams so far.
#[derive(Clone)]
pub(crate) struct Output(Arc<(Mutex<Printed>, Condvar)>);

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Reads a stream to its end in a thread of its own.
    pub(crate) fn collect(mut source: impl Read + Send + 'static) -> Self {
        let output = Self(Arc::default());
        let sink = output.clone();
        thread::spawn(move || {
            let mut block = vec![0; 65_536];
            while let Ok(count @ 1..) = source.read(&mut block) {
                sink.printed().bytes.extend_from_slice(&block[..count]);
                sink.0.1.notify_all();
            }
            sink.printed().ended = true;
            sink.0.1.notify_all();
        });
        output
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed().bytes).into_owned()
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.printed().bytes.clone()
    }

    /// Waits until the collected bytes satisfy `done`, the stream ends or the limit is reached; says whether they do.
    pub(crate) fn wait_until(&self, limit: Duration, mut done: impl FnMut(&[u8]) -> bool) -> bool {
        let waiting = |printed: &mut Printed| !done(&printed.bytes) && !printed.ended;
        let (printed, _) = self
            .0
            .1
            .wait_timeout_while(self.printed(), limit, waiting)
            .expect("no panic under it");
        let bytes = printed.bytes.clone();
        drop(printed);
        done(&bytes)
    }

    /// Waits for the first whole line that holds `needle`.
    pub(crate) fn wait_line(&self, needle: &str, limit: Duration) -> Option<String> {
        self.wait_until(limit, |bytes| line_with(bytes, needle).is_some());
        line_with(&self.bytes(), needle)
    }

    /// Waits for the end of the stream, which is the end of the process.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        let waiting = |printed: &mut Printed| !printed.ended;
        let (printed, _) = self
            .0
            .1
            .wait_timeout_while(self.printed(), limit, waiting)
            .expect("no panic under it");
        printed.ended
    }

    fn printed(&self) -> MutexGuard<'_, Printed> {
        self.0.0.lock().expect("no panic under it")
    }
}

fn line_with(bytes: &[u8], needle: &str) -> Option<String> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n')?;
    let text = String::from_utf8_lossy(&bytes[..whole]);
    text.lines()
        .find(|line| line.contains(needle))
        .map(str::to_owned)
}
