//! Signals: a storm of them does not hang the exit, and none is lost that comes early.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{
    PROGRAM, Server, command, not_run, open_files, pause, send_signal, wait_until,
};

#[test]
fn a_storm_of_signals_does_not_hang_the_exit() {
    if !open_files("a storm of signals", 100) {
        return;
    }
    for _ in 0..4 {
        let server = Server::start(&[]);
        // Many threads have to end after the second signal, while more signals come. With 256 open files a server takes
        // 116 connections.
        let mut kept: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for stream in &mut kept {
            assert_eq!(crate::support::ask(stream, "/").unwrap().0, 200);
        }
        // The shell's own kill starts no process, so each sender is fast.
        let storm = format!(
            "i=0; while [ $i -lt 2000 ]; do kill -TERM {} 2>/dev/null; i=$((i+1)); done",
            server.pid
        );
        let senders: Vec<_> = (0..4)
            .map(|_| Command::new("sh").args(["-c", &storm]).spawn().unwrap())
            .collect();
        let ended = server.wait();
        ended.assert_exact();
        for mut sender in senders {
            sender.wait().unwrap();
        }
    }
}

/// How many threads and sockets a process has, and then whether it catches all its signals. SIGHUP is
/// the last one: a signal that comes while its own handler is being stored would be lost.
fn state(pid: u32) -> Option<(u64, usize, bool)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let sockets = descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| Some(status.lines().find_map(|l| l.strip_prefix(name))?.trim());
    let caught = u64::from_str_radix(field("SigCgt:")?, 16).ok()?;
    Some((field("Threads:")?.parse().ok()?, sockets, caught & 1 != 0))
}

#[test]
fn a_signal_is_caught_before_anything_else_is_there() {
    for _ in 0..10 {
        let mut child = command(PROGRAM, &[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        let caught = wait_until(|| {
            state(pid).is_some_and(|(threads, sockets, caught)| {
                assert!(caught || threads <= 1, "a thread before the signals");
                // The pair for the events, and one end for each signal.
                assert!(caught || sockets <= 5, "the port before the signals");
                caught
            })
        });
        assert!(caught);
        send_signal(pid, "TERM");
        let mut status = None;
        let ended = wait_until(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        child.kill().unwrap();
        assert!(ended, "SIGTERM was lost");
        assert!(status.unwrap().success(), "{status:?}");
    }
}

#[test]
fn as_pid_1_an_early_signal_ends_it() {
    for signal in ["TERM", "INT"].repeat(5) {
        let mut wrapper = command("unshare", &["--pid", "--fork", PROGRAM])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", wrapper.id());
        let mut server = None;
        let found = wait_until(|| {
            let text = fs::read_to_string(&children).unwrap_or_default();
            server = text
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok());
            let caught = server.and_then(state).is_some_and(|(_, _, caught)| caught);
            caught || matches!(wrapper.try_wait(), Ok(Some(_)))
        });
        if let Ok(Some(status)) = wrapper.try_wait() {
            let why = format!("no PID namespace: {status}");
            return not_run("as_pid_1_an_early_signal_ends_it", why);
        }
        assert!(found, "SIG{signal} is never caught");
        let server = server.unwrap();
        send_signal(server, signal);
        let mut status = None;
        let ended = wait_until(|| {
            status = wrapper.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            send_signal(server, "KILL");
            panic!("SIG{signal} was lost");
        }
        assert!(status.unwrap().success(), "{status:?}");
        pause(Duration::ZERO);
    }
}
