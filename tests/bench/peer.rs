//! What is compared: each peer as a command, started on a free port with its stdout in a pipe that is read (a log that
//! goes to /dev/null costs nothing, and no container runtime offers that), measured from outside, and ended.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(10);
/// Room for a crowd; the default of 1024 would shed it, as it should.
const SEATS: &str = "12000";
/// `/proc/PID/stat` counts in hundredths of a second on every architecture of Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How a peer is started.
#[derive(Clone)]
pub(crate) enum Kind {
    Ours,
    Bare,
    Hyper,
    /// With the parameters of its access log.
    Nginx(&'static str),
}

/// One row of the table.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
}

/// How it is to behave in this measurement: the bare loop needs to be told, and ours what crowd to expect.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mode {
    pub(crate) crowd: bool,
    pub(crate) closes: bool,
    pub(crate) delay_seconds: u32,
}

impl Peer {
    /// Whether it can hold a request in flight for a given time.
    pub(crate) fn delays(&self) -> bool {
        !matches!(self.kind, Kind::Nginx(_))
    }

    fn command(&self, address: SocketAddr, mode: Mode, directory: &Path) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        let address = address.to_string();
        match self.kind {
            Kind::Ours => {
                command.args(["--listen", &address, "--delay-max", "0s"]);
                if mode.crowd {
                    command.args(["--max-connections", SEATS]);
                }
            }
            Kind::Hyper => {
                command.arg(address);
            }
            Kind::Bare => {
                let word = if mode.closes { "close" } else { "keep" };
                command
                    .arg(address)
                    .arg(directory.join(word))
                    .args([word, &mode.delay_seconds.to_string()]);
            }
            Kind::Nginx(log) => {
                let text = include_str!("nginx.conf")
                    .replace("@ADDRESS@", &address)
                    .replace("@LOG@", log);
                let file = directory.join("nginx.conf");
                fs::write(&file, text.replace("@DIR@", &directory.to_string_lossy()))?;
                command.arg("-c").arg(file);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Ok(command)
    }

    /// Starts it and waits until it accepts.
    pub(crate) fn start(&self, mode: Mode, directory: &Path) -> io::Result<Running> {
        let address = free_address()?;
        let running = Running::spawn(self.command(address, mode, directory)?, address)?;
        drop(running.connect()?);
        Ok(running)
    }

    /// From the start of the process to the first byte of its first answer.
    pub(crate) fn time_to_answer(&self, directory: &Path, request: &str) -> io::Result<Duration> {
        let address = free_address()?;
        let command = self.command(address, Mode::default(), directory)?;
        let begun = Instant::now();
        let running = Running::spawn(command, address)?;
        let mut stream = running.connect()?;
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut [0])?;
        let took = begun.elapsed();
        drop(stream);
        running.stop()?;
        Ok(took)
    }
}

/// A peer that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    child: Child,
    reader: Option<JoinHandle<io::Result<u64>>>,
}

impl Running {
    fn spawn(mut command: Command, address: SocketAddr) -> io::Result<Self> {
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
        let reader = child
            .stdout
            .take()
            .map(|mut pipe| thread::spawn(move || io::copy(&mut pipe, &mut io::sink())));
        Ok(Self {
            address,
            child,
            reader,
        })
    }

    /// Tries again and again, because a peer that is not ours says nothing when it is ready.
    fn connect(&self) -> io::Result<TcpStream> {
        let begun = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => return Ok(stream),
                Err(error) if begun.elapsed() > START_LIMIT => return Err(error),
                Err(_) => thread::yield_now(),
            }
        }
    }

    /// One request, one answer: head and body.
    pub(crate) fn ask(&self, request: &str) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = vec![0; 64 * 1024];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }

    /// Seconds of processor time so far, its children's included.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks = |pid: &u32| -> Option<f64> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<f64> = stat
                .rsplit_once(") ")?
                .1
                .split(' ')
                .map(|word| word.parse().unwrap_or(0.0))
                .collect();
            Some(fields.get(11)? + fields.get(12)?)
        };
        self.processes().iter().filter_map(ticks).sum::<f64>() / TICKS_PER_SECOND
    }

    /// KiB of a field in `/proc/PID/status`, its children's included.
    pub(crate) fn status_kib(&self, field: &str) -> f64 {
        let value = |pid: &u32| kib(&format!("/proc/{pid}/status"), field);
        self.processes().iter().filter_map(value).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|word| word.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }

    /// Ends it as Kubernetes would, and tells how many bytes it wrote to stdout.
    pub(crate) fn stop(mut self) -> io::Result<u64> {
        self.terminate()?;
        let reader = self.reader.take().map(JoinHandle::join);
        reader.and_then(Result::ok).unwrap_or(Ok(0))
    }

    fn terminate(&mut self) -> io::Result<()> {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // An error has brought us here already; there is nobody to tell of another.
            drop(self.terminate());
        }
    }
}

/// KiB of a `Name: 123 kB` line.
pub(crate) fn kib(file: &str, field: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
