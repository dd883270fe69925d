//! gVisor (GKE Sandbox): its accepted sockets inherit no option of their listener, neither
//! `TCP_NODELAY` nor the time limit for writes (google/gvisor issue 1095).
//!
//! The kernel of gVisor is a program, `runsc`, so the same test runs on it: without a network but
//! its own loopback, as gVisor's containers have it, and with the files of this machine. Without
//! the limit a client that does not read is never cut. The server sets both options in one
//! function, so the one that can be seen from outside tells about the other.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Server, connect, not_run, wait_until};

/// More connections than the server sets the options on without a look whether they are inherited.
const EARLY: usize = 140;

/// The name of the test that runs on gVisor.
const INNER: &str = "gvisor::early_and_late_clients_that_do_not_read_are_cut";

#[track_caller]
fn assert_cut(server: &Server, stream: &mut TcpStream, count: u64) {
    let request = b"GET /bytes/256MiB HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).unwrap();
    let series = "http_aborted_requests_total{reason=\"write_timeout\"} ";
    assert!(wait_until(|| server.metric(series) == count), "not cut");
}

#[test]
fn early_and_late_clients_that_do_not_read_are_cut() {
    // A limit of a second or less is set again before the first write.
    let server = Server::start(&["--write-timeout", "2s"]);
    let (address, mut first) = (server.address, server.connect());
    assert_cut(&server, &mut first, 1);
    for _ in 0..EARLY {
        assert_eq!(server.get("/healthz").unwrap().status, 200);
    }
    let mut late = connect(address).unwrap();
    assert_cut(&server, &mut late, 2);
    server.terminate().assert_exact();
}

/// Runs a program on gVisor, for two minutes at most. Its slowest way to run programs, `ptrace`,
/// asks the least of the machine.
fn on_gvisor(program: &Path, arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["120", "runsc", "--network=none", "--platform=ptrace", "do"])
        .arg(program)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
#[ignore = "needs runsc and root"]
fn they_are_cut_on_gvisor() {
    let trial = on_gvisor(Path::new("/bin/true"), &[]);
    if !trial.status.success() {
        let why = String::from_utf8_lossy(&trial.stderr);
        return not_run("gvisor", why.trim());
    }
    let tests = std::env::current_exe().unwrap();
    let output = on_gvisor(&tests, &["--exact", INNER, "--nocapture"]);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(text.contains("1 passed"), "the test did not run");
}
