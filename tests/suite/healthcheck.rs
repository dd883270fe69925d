//! `httpserver healthcheck`: exit status 0 for a 2xx within three seconds, else 1 and the reason in one line.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use crate::command_line::{fails, run};
use crate::support::host::{free_address, has_ipv6};
use crate::support::server::BINARY;
use crate::support::{PATIENCE, Server, each, host, ms, not_run, pause};

fn healthcheck(args: &[&str], env: &[(&str, &str)]) -> (Output, Duration) {
    let args: Vec<&str> = ["healthcheck"].iter().chain(args).copied().collect();
    let start = Instant::now();
    (run(&args, env), start.elapsed())
}

#[track_caller]
fn healthy(args: &[&str], env: &[(&str, &str)]) {
    let (output, _) = healthcheck(args, env);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{args:?} {env:?}: {stderr}"
    );
}

#[test]
fn it_finds_the_server_by_listen_or_by_url() {
    let server = Server::start(&[]);
    let (addr, port) = (server.addr.to_string(), server.addr.port());
    healthy(&["--listen", &addr], &[]);
    healthy(&[], &[("LISTEN", &addr)]);
    healthy(&["--listen", &format!("0.0.0.0:{port}")], &[]);
    healthy(&[], &[("LISTEN", &format!("[::]:{port}"))]);
    healthy(&[&format!("http://{addr}/readyz")], &[]);
    healthy(&[&format!("http://{addr}/status/204")], &[]);
    healthy(&[&format!("http://localhost:{port}/healthz")], &[]);
}

#[test]
fn it_asks_over_ipv6_and_of_a_wildcard_what_most_clients_ask() {
    if !has_ipv6() {
        return not_run("healthcheck over IPv6", "this host has no IPv6");
    }
    let server = Server::start(&["--listen", "[::1]:0"]);
    healthy(&["--listen", &server.addr.to_string()], &[]);
    healthy(
        &[&format!("http://[::1]:{}/healthz", server.addr.port())],
        &[],
    );
    // A server on every address that refuses IPv4 is not healthy.
    let (output, _) = healthcheck(&["--listen", &format!("[::]:{}", server.addr.port())], &[]);
    fails(&output, 1, &["127.0.0.1", "refused"]);
}

#[test]
fn it_says_why_not() {
    let server = Server::start(&[]);
    for code in ["503", "404", "500", "301"] {
        let (output, _) = healthcheck(&[&format!("http://{}/status/{code}", server.addr)], &[]);
        fails(&output, 1, &[code]);
    }
    let closed = free_address();
    let (output, _) = healthcheck(&[&format!("http://{closed}/")], &[]);
    fails(&output, 1, &[&closed.to_string(), "refused"]);
    let (output, _) = healthcheck(&["gopher://127.0.0.1/"], &[]);
    assert!(
        [1, 64].contains(&output.status.code().expect("it ends by itself")),
        "{output:?}"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("gopher"),
        "{output:?}"
    );
}

/// A peer that is no server: takes one connection and does this with it.
fn peer(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || act(listener.accept().unwrap().0));
    addr
}

#[test]
fn it_gives_up_after_three_seconds_in_all() {
    let silent = peer(|_stream| pause(PATIENCE));
    let drips = peer(|mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: 0123456789".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            pause(ms(400));
        }
    });
    each([silent, drips], |addr| {
        let (output, time) = healthcheck(&[&format!("http://{addr}/")], &[]);
        fails(&output, 1, &[]);
        // A peer that drips would extend a limit for each read without end.
        assert!(time > ms(2_900) && time < ms(20_000), "it took {time:?}");
    });
}

/// Starts the server with its default address in a network of its own, where port 8080 is free.
fn in_own_network(setup: &str, tracer: &str) -> Command {
    let script = format!(
        "set -e; mount -t sysfs none /sys; {setup} ip link set lo up; exec {tracer} \"$0\" --delay-max 0s"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "sh", "-c", &script, BINARY])
        .env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs the default healthcheck in the network of a server.
fn healthcheck_beside(server: &Server) -> Output {
    let network = format!("--net=/proc/{}/ns/net", server.pid());
    let mut check = Command::new("nsenter");
    check
        .arg(&network)
        .arg(BINARY)
        .arg("healthcheck")
        .env_clear();
    check.output().expect("nsenter runs")
}

#[test]
#[ignore = "needs root, iproute2 and strace: a network without IPv6"]
fn without_ipv6_the_default_address_is_ipv4() {
    if !host::is_root() || !host::have("strace") || !host::have("ip") || !has_ipv6() {
        return not_run(
            "the default address with and without IPv6",
            "it needs root, IPv6, iproute2 and strace",
        );
    }
    let refuse =
        "strace -D -f -qq -o /dev/null -e trace=socket -e inject=socket:error=EAFNOSUPPORT:when=1";
    for (tracer, addr) in [("", "[::]:8080"), (refuse, "0.0.0.0:8080")] {
        let server = Server::spawn(in_own_network("", tracer));
        assert_eq!(server.addr.to_string(), addr);
        let output = healthcheck_beside(&server);
        assert!(
            output.status.success(),
            "healthcheck knows the default address {addr}: {output:?}"
        );
    }
}

#[test]
#[ignore = "needs root and iproute2: a network with net.ipv6.bindv6only=1"]
fn with_bindv6only_ipv4_is_served_or_the_log_and_the_healthcheck_say_not() {
    if !host::is_root() || !host::have("ip") || !has_ipv6() {
        return not_run(
            "the default address with net.ipv6.bindv6only=1",
            "it needs root, IPv6 and iproute2",
        );
    }
    let server = Server::spawn(in_own_network("echo 1 >/proc/sys/net/ipv6/bindv6only;", ""));
    let warned = server
        .stderr
        .text()
        .lines()
        .any(|line| line.contains("bindv6only") && line.contains(" warn "));
    let network = format!("--net=/proc/{}/ns/net", server.pid());
    let mut check = Command::new("nsenter");
    check
        .args([
            &network,
            BINARY,
            "healthcheck",
            "http://127.0.0.1:8080/healthz",
        ])
        .env_clear();
    let ipv4 = check.output().expect("nsenter runs").status.success();
    let default = healthcheck_beside(&server).status.success();
    // Clients mostly come over IPv4, so the default check is green only where they are served.
    assert!(
        ipv4 == default,
        "IPv4 served: {ipv4}, healthcheck green: {default}"
    );
    assert!(
        ipv4 || warned,
        "IPv4 is refused and nobody is told: {}",
        server.stderr.text()
    );
}
