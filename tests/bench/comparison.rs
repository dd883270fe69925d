//! `cargo bench`: the server beside its peers on one machine in one go.
//!
//! A shared machine is never quiet, so in each round every scenario measures all peers one right after the other, the
//! order turned by one each time. What is printed is the median of the rounds, and of the ratios to ours in the same
//! round. Beside the rate stands the processor time for a request, which other programs disturb less.
//!
//! ```text
//! cargo bench --bench comparison -- [--rounds 5] [--seconds 2] [--only WORD] [--peers WORD,WORD] [--musl PROGRAM]
//! ```
//!
//! No framework: the peers are programs, and none of the frameworks measures programs. The peers and the load generator
//! are a crate of their own in `peers/`, so that hyper and tokio are in nobody's lock file but theirs.

mod load;
mod peer;
mod report;
mod request;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use load::{Load, Outcome, Shape};
use peer::{Kind, Mode, Peer, Running};
use report::{Measure, Table};

const BURST: usize = 5_000;
const IN_FLIGHT: usize = 10_000;
const IDLE: usize = 1_000;
const OPEN_FILES: usize = 12_000;
const STARTS: usize = 20;
/// Long enough for a server to start all its threads or to give back what idle connections do not need, and shorter than
/// the delay that holds requests.
const SETTLE: Duration = Duration::from_secs(3);
const HELD_SECONDS: u32 = 10;

/// The rate whose half the latency is measured at.
const FULL_LOAD: usize = 1;
const RATES: [(&str, Shape); 5] = [
    (
        "keep-alive, 1 connection",
        Shape {
            connections: 1,
            depth: 1,
            closes: false,
        },
    ),
    (
        "keep-alive, 64 connections",
        Shape {
            connections: 64,
            depth: 1,
            closes: false,
        },
    ),
    (
        "keep-alive, 1,024 connections",
        Shape {
            connections: 1024,
            depth: 1,
            closes: false,
        },
    ),
    (
        "pipelined 16, 64 connections",
        Shape {
            connections: 64,
            depth: 16,
            closes: false,
        },
    ),
    (
        "a connection for each request, 64 at a time",
        Shape {
            connections: 64,
            depth: 1,
            closes: true,
        },
    ),
];

/// Takes a value into the table.
type Add<'a> = &'a mut dyn FnMut(Measure, f64);

/// One thing to measure of each peer.
#[derive(Clone, Copy)]
enum Scenario {
    Rate(usize),
    /// At so many requests a second.
    HalfLoad(u32),
    Start,
    Size,
    Burst,
    InFlight,
    Memory,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Rate(index) => RATES[index].0,
            Self::HalfLoad(_) => "half load",
            Self::Start => "start",
            Self::Size => "size",
            Self::Burst => "burst",
            Self::InFlight => "in flight",
            Self::Memory => "memory",
        }
    }

    fn depends_on_the_clock(self) -> bool {
        !matches!(self, Self::Size | Self::Memory)
    }
}

/// What the command line asked for.
struct Options {
    rounds: usize,
    seconds: u32,
    only: String,
    peers: Vec<String>,
    musl: Option<PathBuf>,
}

/// What every measurement needs.
struct Bench {
    load: Load,
    directory: PathBuf,
    options: Options,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this too, without the word; a quarter of an hour is not what it asked for.
    if !env::args().any(|word| word == "--bench") {
        println!("NOT RUN: the comparison: it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match options().and_then(|options| run(options).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rounds: 5,
        seconds: 2,
        only: String::new(),
        peers: Vec::new(),
        musl: None,
    };
    let mut words = env::args().skip(1).filter(|word| word != "--bench");
    while let Some(name) = words.next() {
        let value = words.next().ok_or(format!("{name}: a value is missing"))?;
        let number = value
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or(format!("{name}: {value:?} is not a number"));
        match name.as_str() {
            "--rounds" => options.rounds = number?,
            "--seconds" => {
                options.seconds = u32::try_from(number?).map_err(|error| error.to_string())?;
            }
            "--only" => options.only = value,
            "--peers" => options.peers = value.split(',').map(str::to_owned).collect(),
            "--musl" => options.musl = Some(value.into()),
            _ => {
                return Err(format!(
                    "{name}: unknown; see the head of tests/bench/comparison.rs"
                ));
            }
        }
    }
    Ok(options)
}

fn run(options: Options) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    fs::create_dir_all(&directory)?;
    let programs = build_peers(&directory)?;
    let peers = peers(&options, &programs);
    let load = Load::new(programs.join("load"), &directory);
    let bench = Bench {
        load,
        directory,
        options,
    };
    record_answers(&bench, &peers)?;
    let mut scenarios: Vec<Scenario> = (0..RATES.len()).map(Scenario::Rate).collect();
    if bench.wanted(Scenario::HalfLoad(0)) {
        scenarios.push(Scenario::HalfLoad(bench.half_load(&peers[0])?));
    }
    scenarios.extend([Scenario::Start, Scenario::Size]);
    if raise_open_files() {
        scenarios.extend([Scenario::Burst, Scenario::InFlight, Scenario::Memory]);
    }
    let mut table = Table::new(peers.iter().map(|peer| peer.name).collect());
    for round in 0..bench.options.rounds {
        let now = |scenario: &&Scenario| round == 0 || scenario.depends_on_the_clock();
        for scenario in scenarios
            .iter()
            .filter(|scenario| bench.wanted(**scenario))
            .filter(now)
        {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                bench.options.rounds,
                scenario.name()
            );
            for turn in 0..peers.len() {
                let column = (round + turn) % peers.len();
                bench.measure(*scenario, &peers[column], &mut |measure, value| {
                    table.add(measure, column, value);
                })?;
            }
        }
    }
    table.print();
    Ok(())
}

/// The peers crate, in a directory of its own below `target`.
fn build_peers(directory: &Path) -> io::Result<PathBuf> {
    let target = directory.join("peers");
    eprintln!("building the peers");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers/Cargo.toml");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
            manifest,
            "--target-dir",
        ])
        .arg(&target);
    match command.status()? {
        status if status.success() => Ok(target.join("release")),
        status => Err(io::Error::other(format!(
            "the peers do not build: {status}"
        ))),
    }
}

fn peers(options: &Options, programs: &Path) -> Vec<Peer> {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_httpserver"));
    let mut peers = vec![Peer {
        name: "ours",
        kind: Kind::Ours,
        program: ours,
    }];
    let usual = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("../x86_64-unknown-linux-musl/release/httpserver");
    match options
        .musl
        .clone()
        .or(Some(usual))
        .filter(|program| program.exists())
    {
        Some(program) => peers.push(Peer {
            name: "ours (musl)",
            kind: Kind::Ours,
            program,
        }),
        None => {
            eprintln!(
                "NOT RUN: ours with musl: not built (cargo build --release --target x86_64-unknown-linux-musl)"
            );
        }
    }
    peers.push(Peer {
        name: "bare loop",
        kind: Kind::Bare,
        program: programs.join("bare"),
    });
    peers.push(Peer {
        name: "hyper",
        kind: Kind::Hyper,
        program: programs.join("hyper"),
    });
    match ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .iter()
        .find(|file| Path::new(file).exists())
    {
        Some(program) => {
            let program = PathBuf::from(program);
            peers.push(Peer {
                name: "nginx",
                kind: Kind::Nginx(""),
                program: program.clone(),
            });
            peers.push(Peer {
                name: "nginx (log gathered)",
                kind: Kind::Nginx("buffer=64k flush=1ms"),
                program,
            });
        }
        None => eprintln!("NOT RUN: nginx: not installed (apt-get install nginx-light)"),
    }
    // Ours stays in any case: it is what the ratios refer to.
    let wanted = |peer: &Peer| {
        options.peers.is_empty()
            || peer.name == "ours"
            || options.peers.iter().any(|name| name == peer.name)
    };
    peers.retain(wanted);
    peers
}

/// The bare loop gives our own answers, so that the sizes are equal.
fn record_answers(bench: &Bench, peers: &[Peer]) -> io::Result<()> {
    for peer in peers.iter().filter(|peer| !matches!(peer.kind, Kind::Bare)) {
        let running = peer.start(Mode::default(), &bench.directory)?;
        for (file, closes) in [("keep", false), ("close", true)] {
            let answer = running.ask(&request::request(closes, None))?;
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other(format!(
                    "{}: not a 200: {}",
                    peer.name,
                    answer.escape_ascii()
                )));
            }
            eprintln!(
                "{}: an answer has {} bytes ({file})",
                peer.name,
                answer.len()
            );
            if peer.name == "ours" {
                fs::write(bench.directory.join(file), answer)?;
            }
        }
        running.stop()?;
    }
    Ok(())
}

/// Whether this process and its children may open enough files, after an attempt to let them.
fn raise_open_files() -> bool {
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={OPEN_FILES}:");
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status()
        .is_ok_and(|status| status.success());
    if !raised {
        eprintln!(
            "NOT RUN: the burst, requests in flight, memory: {OPEN_FILES} open files are not allowed (ulimit -Hn)"
        );
    }
    raised
}

impl Bench {
    /// One scenario, once, for one peer.
    fn measure(&self, scenario: Scenario, peer: &Peer, add: Add<'_>) -> io::Result<()> {
        match scenario {
            Scenario::Rate(index) => self.rate(peer, index, add)?,
            Scenario::HalfLoad(rate) => add(Measure::HalfLoad(rate), self.paced(peer, rate)?),
            Scenario::Start => add(Measure::Start, self.start(peer)?),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a program's size is far below 2^52 bytes"
            )]
            Scenario::Size => add(
                Measure::Size,
                fs::metadata(&peer.program)?.len() as f64 / 1024.0,
            ),
            Scenario::Burst => {
                let outcome = self.once(peer, BURST, None)?;
                add(Measure::Burst, outcome.p99);
                add(Measure::BurstLost, outcome.lost);
            }
            Scenario::InFlight if peer.delays() => {
                let outcome = self.once(peer, IN_FLIGHT, Some(1))?;
                add(Measure::InFlight, outcome.seconds);
                add(Measure::InFlightLost, outcome.lost);
            }
            Scenario::Memory => {
                self.memory_idle(peer, add)?;
                if peer.delays() {
                    self.memory_in_flight(peer, add)?;
                }
            }
            Scenario::InFlight => {}
        }
        Ok(())
    }

    fn wanted(&self, scenario: Scenario) -> bool {
        scenario.name().contains(&self.options.only)
    }

    fn start(&self, peer: &Peer) -> io::Result<f64> {
        let request = request::request(true, None);
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            times.push(peer.time_to_answer(&self.directory, &request)?);
        }
        times.sort_unstable();
        Ok(times[STARTS / 2].as_secs_f64())
    }

    fn rate(&self, peer: &Peer, index: usize, add: Add<'_>) -> io::Result<()> {
        let shape = RATES[index].1;
        let running = peer.start(
            Mode {
                closes: shape.closes,
                crowd: shape.connections > IDLE,
                ..Mode::default()
            },
            &self.directory,
        )?;
        let before = running.cpu_seconds();
        let outcome = self
            .load
            .rate(running.address, shape, self.options.seconds)?;
        let spent = running.cpu_seconds() - before;
        let logged = running.stop()?;
        if logged == 0 && !matches!(peer.kind, Kind::Bare) {
            return Err(io::Error::other(format!("{}: it wrote no log", peer.name)));
        }
        add(Measure::Rate(index), outcome.requests / outcome.seconds);
        add(Measure::Cpu(index), spent / outcome.requests);
        add(Measure::Errors(index), outcome.errors);
        Ok(())
    }

    /// Half of the requests a second that ours takes with as many connections, for all peers and rounds.
    fn half_load(&self, ours: &Peer) -> io::Result<u32> {
        let running = ours.start(Mode::default(), &self.directory)?;
        let shape = RATES[FULL_LOAD].1;
        let outcome = self
            .load
            .rate(running.address, shape, self.options.seconds)?;
        running.stop()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is above 0 and far below 2^32"
        )]
        Ok((outcome.requests / outcome.seconds / 2.0) as u32)
    }

    fn paced(&self, peer: &Peer, rate: u32) -> io::Result<f64> {
        let running = peer.start(Mode::default(), &self.directory)?;
        let (shape, seconds) = (RATES[FULL_LOAD].1, self.options.seconds);
        let outcome = self.load.paced(running.address, shape, rate, seconds)?;
        running.stop()?;
        if outcome.errors > 0.0 {
            return Err(io::Error::other(format!(
                "{}: errors at half of the load",
                peer.name
            )));
        }
        Ok(outcome.p99)
    }

    /// That many connections at once, one request each, which the server holds for some seconds.
    fn once(
        &self,
        peer: &Peer,
        connections: usize,
        delay_seconds: Option<u32>,
    ) -> io::Result<Outcome> {
        let mode = Mode {
            crowd: true,
            delay_seconds: delay_seconds.unwrap_or(0),
            ..Mode::default()
        };
        let running = peer.start(mode, &self.directory)?;
        let target = delay_seconds.map(|seconds| format!("/delay/{seconds}s"));
        let output = self
            .load
            .once("burst", running.address, connections, target.as_deref())?
            .output()?;
        running.stop()?;
        load::outcome(&String::from_utf8_lossy(&output.stdout))
    }

    fn memory_idle(&self, peer: &Peer, add: Add<'_>) -> io::Result<()> {
        let running = peer.start(Mode::default(), &self.directory)?;
        running.ask(&request::request(true, None))?;
        let before = running.status_kib("VmRSS");
        add(Measure::Idle, before);
        let mut client = self
            .load
            .once("idle", running.address, IDLE, None)?
            .spawn()?;
        // Its last line comes when all answers are there.
        let lines = BufReader::new(client.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).lines();
        lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("lost"));
        settle();
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        add(
            Measure::IdleEach,
            (running.status_kib("VmRSS") - before) / IDLE as f64,
        );
        drop(client.stdin.take());
        client.wait()?;
        running.stop().map(drop)
    }

    fn memory_in_flight(&self, peer: &Peer, add: Add<'_>) -> io::Result<()> {
        let mode = Mode {
            crowd: true,
            delay_seconds: HELD_SECONDS,
            ..Mode::default()
        };
        let running = peer.start(mode, &self.directory)?;
        let before = Held::now(&running);
        let target = format!("/delay/{HELD_SECONDS}s");
        let mut client = self
            .load
            .once("burst", running.address, IN_FLIGHT, Some(&target))?
            .spawn()?;
        let lines = BufReader::new(client.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).lines();
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)));
        });
        if receiver.recv().is_ok_and(|line| line == "sent")
            && receiver.recv_timeout(SETTLE).is_err()
        {
            let held = Held::now(&running);
            add(Measure::Held, held.resident);
            add(Measure::HeldTables, held.tables - before.tables);
            add(Measure::HeldStacks, held.stacks - before.stacks);
        } else {
            eprintln!(
                "NOT RUN: {}: memory in flight: not all requests were in flight at once",
                peer.name
            );
        }
        client.wait()?;
        drop(reader.join());
        running.stop().map(drop)
    }
}

fn settle() {
    let end = Instant::now() + SETTLE;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// KiB that requests in flight cost: the process's own, and what the kernel holds for it.
struct Held {
    resident: f64,
    tables: f64,
    stacks: f64,
}

impl Held {
    fn now(running: &Running) -> Self {
        Self {
            resident: running.status_kib("VmRSS"),
            tables: running.status_kib("VmPTE"),
            stacks: peer::kib("/proc/meminfo", "KernelStack").unwrap_or(f64::NAN),
        }
    }
}
