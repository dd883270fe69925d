//! What the host has and allows. A test that needs what is missing calls `not_run` and returns: it does not fail, and
//! the line it prints is collected by CI.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// Prints that a check does not run here, past the test harness, which hides what a passing test prints.
pub(crate) fn not_run(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "NOT RUN: {what}: {why}");
}

/// Prints, in the same way, that a test begins anew because the machine was too slow for it.
pub(crate) fn again(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "AGAIN: {what}: {why}");
}

/// Whether a program can be started.
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
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether there is IPv6, at least to itself.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Whether this process may have `count` open files, which the servers it starts inherit; raises the soft limit where
/// needed. Where the hard one does not allow it, prints that `what` does not run. All tests of the process share the
/// limit, so `count` includes room for others.
pub(crate) fn open_files(what: &str, count: u64) -> bool {
    let (soft, hard) = open_files_of(std::process::id());
    let raise = || {
        let mut prlimit = Command::new("prlimit");
        // Always as far as it goes, so that no test takes back what another one has raised.
        let pid = format!("--pid={}", std::process::id());
        prlimit.args([pid, format!("--nofile={hard}:")]);
        prlimit.status().is_ok_and(|status| status.success())
    };
    let enough = soft >= count || (hard >= count && raise());
    if !enough {
        not_run(
            what,
            &format!("{count} open files are needed, and {hard} are allowed"),
        );
    }
    enough
}

/// The soft and the hard limit of open files of a process.
pub(crate) fn open_files_of(pid: u32) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits can be read");
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

/// An address that is free now, for what cannot choose its port by itself. It is below those that the kernel gives to
/// clients, so no connection of another test takes it meanwhile. It is asked and not bound: a program that another test
/// starts would have a copy of the listener for a moment, and a client of this address would reach that.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..32_000)));
        if TcpStream::connect(addr).is_err() {
            return addr;
        }
    }
}

/// A number in a file under `/proc/sys`.
pub(crate) fn kernel_setting(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).expect("this is Linux");
    text.trim().parse().expect("the setting is a number")
}
