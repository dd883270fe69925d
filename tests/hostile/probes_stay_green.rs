//! Probes are answered while every slot is taken and clients ask for metrics that they do not read.
//!
//! The clients of the original attack set a small segment size and receive buffer, which std
//! cannot. In a network of the test's own every socket is small, so the test runs itself there.

use std::io::{self, Write};
use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{Prober, Server, connect, not_run, open_files, pause};

const INSIDE: &str = "HOSTILE_SMALL_NETWORK";

/// A server whose slots are all delayed and whose metrics are large, and the connections.
fn full_server(slots: usize) -> (Server, Vec<std::net::TcpStream>) {
    let server = Server::start(&[
        "--max-connections",
        &slots.to_string(),
        "--drain-timeout",
        "1s",
    ]);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = |code| format!("{method} /status/{code} HTTP/1.1\r\nHost: a\r\n\r\n");
        let requests: String = (200..=599).map(request).collect();
        let mut stream = server.connect();
        let mut writer = stream.try_clone().unwrap();
        // Where all buffers are small, a server that waits for its responses to be read reads no more requests.
        let sender = thread::spawn(move || {
            writer.write_all(requests.as_bytes()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        io::copy(&mut stream, &mut io::sink()).unwrap();
        sender.join().unwrap();
    }
    let delayed = (0..slots).map(|_| {
        let mut stream = server.connect();
        stream
            .write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        stream
    });
    let delayed = delayed.collect();
    (server, delayed)
}

fn attack(slots: usize, probes: usize) {
    if !open_files("responses that nobody reads", 2 * slots) {
        return;
    }
    let (server, delayed) = full_server(slots);
    let prober = Prober::start(server.address);
    let mut unread = Vec::new();
    while prober.count() < probes {
        if let Ok(mut stream) = connect(server.address) {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
            unread.push(stream);
        }
        pause(Duration::from_micros(12_500));
    }
    println!("{} responses unread", unread.len());
    prober.stop().assert_green(&server);
    drop((delayed, unread));
    server.terminate();
}

#[test]
fn metrics_that_nobody_reads() {
    attack(32, 40);
}

#[test]
#[ignore = "1,024 connections in a network of its own"]
fn metrics_that_nobody_reads_in_a_small_network() {
    if std::env::var_os(INSIDE).is_some() {
        attack(1024, 500);
        return;
    }
    let prepare = "ip link set lo up && ip link set lo mtu 600 \
        && echo 4096 4096 4096 > /proc/sys/net/ipv4/tcp_rmem \
        && echo 4096 4096 4096 > /proc/sys/net/ipv4/tcp_wmem";
    let what = "metrics_that_nobody_reads_in_a_small_network";
    let in_network = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]);
        command
    };
    match in_network(prepare).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return not_run(what, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return not_run(what, error),
    }
    let script =
        format!("{prepare} && exec \"$0\" --exact probes_stay_green::{what} --ignored --nocapture");
    let test = std::env::current_exe().unwrap();
    let status = in_network(&script).arg(test).env(INSIDE, "1").status();
    assert!(status.unwrap().success());
}
