//! Other programs than the server, a look at a process through `/proc`, and signals to it.

use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::server::Output;
use super::{eventually, ms};

/// A program that runs while the test goes on; it is killed when the value is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Program {
    /// Starts a command and collects what it prints.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let pipes = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("it starts");
        let stdout = Output::collect(child.stdout.take().expect("a pipe"));
        let stderr = Output::collect(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Sends a signal by its name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Waits for its end; its output is complete then.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.stdout.wait_end();
        self.stderr.wait_end();
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name, such as `TERM`. std cannot send one; every shell can.
#[track_caller]
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .status();
    assert!(
        status.expect("there is a shell").success(),
        "kill -s {name} {pid} failed"
    );
}

/// The ids of a process's threads.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The open files of a process.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

/// A number in `/proc/PID/status`, in its unit, which is KiB for memory.
pub(crate) fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// CPU time that a process has used so far, user and system.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs"))
}

/// CPU time that each thread of a process has used so far; a thread that ends meanwhile has none.
pub(crate) fn cpu_times(pid: u32) -> Vec<Duration> {
    let stat = |thread| fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok();
    threads(pid)
        .into_iter()
        .filter_map(|thread| Some(ticks(&stat(thread)?)))
        .collect()
}

/// User and system time in the `stat` of a process or thread.
fn ticks(stat: &str) -> Duration {
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

/// Stops a process with SIGSTOP and waits until each of its threads stands still.
#[track_caller]
pub(crate) fn freeze(pid: u32) {
    signal("STOP", pid);
    let stopped = |thread: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
        stat.map_or(true, |stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|state| state.starts_with('T'))
        })
    };
    eventually("each thread stands still", || {
        threads(pid).into_iter().all(stopped)
    });
}
