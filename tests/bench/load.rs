//! The load: what is sent, and who sends it. wrk where it is installed, because it is known, fast and not ours; else the
//! `load` program of the peers crate. What wrk cannot do (a fixed rate, a burst, requests held in flight) is always
//! `load`'s.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::request::request;

/// One way to send requests for some seconds.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Requests in each write.
    pub(crate) depth: usize,
    /// A new connection for each request.
    pub(crate) closes: bool,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) errors: f64,
    pub(crate) lost: f64,
    pub(crate) p99: f64,
}

/// Who sends, with a directory for its files.
pub(crate) struct Load {
    wrk: bool,
    program: PathBuf,
    directory: PathBuf,
}

impl Load {
    pub(crate) fn new(program: PathBuf, directory: &Path) -> Self {
        let wrk = Command::new("wrk")
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !wrk {
            eprintln!(
                "NOT RUN: wrk: not installed (apt-get install wrk); the bench's own load takes its place"
            );
        }
        Self {
            wrk,
            program,
            directory: directory.to_owned(),
        }
    }

    /// As many requests as go, for some seconds.
    pub(crate) fn rate(
        &self,
        address: SocketAddr,
        shape: Shape,
        seconds: u32,
    ) -> io::Result<Outcome> {
        let mut command = if self.wrk {
            self.wrk(address, shape, seconds)?
        } else {
            self.stand_in(address, shape, seconds)?
        };
        outcome(&String::from_utf8_lossy(&command.output()?.stdout))
    }

    /// `load MODE`, with as many connections at once; its stdin ends it in mode `idle`.
    pub(crate) fn once(
        &self,
        mode: &str,
        address: SocketAddr,
        connections: usize,
        target: Option<&str>,
    ) -> io::Result<Command> {
        let mut command = self.own(mode, address, &request(false, target), &[connections])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }

    /// So many requests a second, each at its time, for some seconds.
    pub(crate) fn paced(
        &self,
        address: SocketAddr,
        shape: Shape,
        rate: u32,
        seconds: u32,
    ) -> io::Result<Outcome> {
        let numbers = [shape.connections, rate as usize, seconds as usize];
        let mut command = self.own("paced", address, &request(shape.closes, None), &numbers)?;
        outcome(&String::from_utf8_lossy(&command.output()?.stdout))
    }

    fn stand_in(&self, address: SocketAddr, shape: Shape, seconds: u32) -> io::Result<Command> {
        let numbers = [shape.connections, shape.depth, seconds as usize];
        self.own("rate", address, &request(shape.closes, None), &numbers)
    }

    /// `load MODE ADDRESS REQUEST_FILE NUMBER...`
    fn own(
        &self,
        mode: &str,
        address: SocketAddr,
        request: &str,
        numbers: &[usize],
    ) -> io::Result<Command> {
        let file = self.directory.join("request");
        fs::write(&file, request)?;
        let mut command = Command::new(&self.program);
        command.args([mode, &address.to_string()]).arg(file);
        command.args(numbers.iter().map(usize::to_string));
        Ok(command)
    }

    /// `wrk.format` is replaced, not `request`: wrk then asks Lua once, not for each request.
    fn wrk(&self, address: SocketAddr, shape: Shape, seconds: u32) -> io::Result<Command> {
        let script = self.directory.join("request.lua");
        let bytes = request(shape.closes, None).repeat(shape.depth);
        let text = bytes.replace('\r', "\\r").replace('\n', "\\n");
        fs::write(
            &script,
            format!("local request = '{text}'\n{}", include_str!("wrk.lua")),
        )?;
        let mut command = Command::new("wrk");
        command.args([
            "-c",
            &shape.connections.to_string(),
            "-d",
            &seconds.to_string(),
            "--timeout",
            "10s",
        ]);
        command
            .args(["-t", if shape.connections == 1 { "1" } else { "2" }])
            .arg("-s")
            .arg(script);
        command.arg(format!("http://{address}/"));
        Ok(command)
    }
}

/// The last line that both programs print: `name value` pairs.
pub(crate) fn outcome(output: &str) -> io::Result<Outcome> {
    let line = output.lines().rfind(|line| line.contains(" seconds "));
    let line =
        line.ok_or_else(|| io::Error::other(format!("the load gave no result: {output:?}")))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name| {
        words
            .chunks_exact(2)
            .find(|pair| pair[0] == name)
            .and_then(|pair| pair[1].parse().ok())
            .unwrap_or(0.0)
    };
    Ok(Outcome {
        requests: value("requests"),
        seconds: value("seconds"),
        errors: value("errors"),
        lost: value("lost"),
        p99: value("p99"),
    })
}
