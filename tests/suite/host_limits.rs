//! Each limit of the host, met for real: open files, threads, processes, memory mappings, and the kernel's queue. The
//! slots are lowered with one warning, what is refused is shed and tried again, and nothing ends.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::admission::probes_are_prompt;
use crate::resources::Tracer;
use crate::support::metrics::{Scrape, aborted};
use crate::support::server::under;
use crate::support::{
    Client, PATIENCE, Server, eventually, host, ms, not_run, pause, process, swarm,
};

/// Asks on many connections at once and counts whole responses of 200 and of 503. One that got neither is a failure,
/// unless the server tells that it had to make room: on a slow machine one may have no overflow slot, or lose it before
/// its request has arrived.
#[track_caller]
fn served_and_shed(server: &Server, count: usize, target: &str) -> (usize, usize) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let made_room = || {
        let scrape = server.scrape();
        let ended = scrape.value("http_requests_per_connection_count");
        let without_request = ended - scrape.value("http_requests_per_connection_sum");
        without_request
            + scrape.count_or_zero(&aborted("evicted")) as f64
            + scrape.value("http_connections_total{outcome=\"refused\"}")
    };
    let before = made_room();
    let outcomes = swarm::ask_all(server.addr, count, request.as_bytes(), PATIENCE);
    let of = |status| outcomes.iter().filter(|outcome| outcome.is(status)).count();
    let (good, shed) = (of(200), of(503));
    let mut odd = outcomes.iter().filter(|odd| !odd.is(200) && !odd.is(503));
    let odd = odd.next().map(|odd| {
        let response = odd.response.as_deref().unwrap_or_default();
        (odd.error, String::from_utf8_lossy(response))
    });
    let what =
        format!("served {good}, shed {shed}, and one of the rest, {odd:?}, is accounted for");
    eventually(&what, || {
        (count - good - shed) as f64 <= made_room() - before
    });
    (good, shed)
}

/// Waits until a burst is served without a shed, which is the recovery.
#[track_caller]
fn recovers(server: &Server, burst: usize) {
    eventually("a burst is served without a shed", || {
        served_and_shed(server, burst, "/").1 == 0
    });
}

/// The one warning that slots were lowered because of this limit.
#[track_caller]
fn one_warning(server: &Server, limit: &str) -> String {
    let stderr = server.stderr.text();
    let warned: Vec<&str> = stderr.lines().filter(|line| line.contains(limit)).collect();
    assert!(
        warned.len() == 1 && warned[0].contains(" warn "),
        "one warning with {limit:?} in: {stderr}"
    );
    warned[0].to_owned()
}

#[test]
fn few_open_files_mean_fewer_slots_and_a_warning() {
    if !host::have("prlimit") || !host::open_files("few open files", 512) {
        return not_run(
            "few open files",
            "no prlimit, or few open files for the clients too",
        );
    }
    let server = Server::spawn(under(
        &["prlimit", "--nofile=64"],
        &["--max-connections", "1000"],
    ));
    assert!(one_warning(&server, "open files").contains("64"));
    let slots = server.count("http_max_connections");
    assert!((9..60).contains(&slots), "{slots} slots in 64 open files");
    let (good, shed) = served_and_shed(&server, 150, "/delay/300ms");
    assert!(good >= 8 && shed > 0, "served {good}, shed {shed}");
    let silent: Vec<Client> = (0..100).map(|_| Client::new(&server)).collect();
    probes_are_prompt(&server, "100 silent connections in 64 open files");
    drop(silent);
    recovers(&server, 8);
    assert_eq!(
        server.count("accept_errors_total"),
        0,
        "the slots were counted so that accept never fails"
    );
}

#[track_caller]
fn set_open_files(pid: u32, soft: u64) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([format!("--pid={pid}"), format!("--nofile={soft}:")]);
    assert!(
        prlimit.status().expect("prlimit runs").success(),
        "the limit can be set"
    );
}

#[test]
fn accept_errors_back_off_and_end_nothing() {
    if !host::have("prlimit") {
        return not_run("accept errors", "no prlimit to provoke them");
    }
    let mut server = Server::start(&[]);
    let mut kept = Client::new(&server);
    assert_eq!(kept.get("/").status, 200);
    let (soft, _) = host::open_files_of(server.pid());
    set_open_files(server.pid(), 3);
    let hanging: Vec<Client> = (0..5).map(|_| Client::new(&server)).collect();
    let errors =
        |client: &mut Client| Scrape(client.get("/metrics").text()).count("accept_errors_total");
    eventually("accept fails", || errors(&mut kept) > 0);
    let (before, since) = (errors(&mut kept), Instant::now());
    let cpu = process::cpu_time(server.pid());
    pause(ms(2_000));
    // 5 ms doubling to 1 s are 9 tries in the first two seconds, then one each second, of each thread that accepts.
    let (tries, passed) = (errors(&mut kept) - before, since.elapsed().as_secs());
    assert!(
        tries >= 1 && tries <= 4 * (12 + passed),
        "{tries} tries in {passed} s"
    );
    let spent = process::cpu_time(server.pid()).saturating_sub(cpu);
    assert!(
        spent < ms(500),
        "it does not spin: {spent:?} of CPU in {passed} s"
    );
    assert_eq!(kept.get("/").status, 200, "who has a connection is served");
    set_open_files(server.pid(), soft);
    for mut client in hanging {
        assert_eq!(client.get("/").status, 200, "who waited is served");
    }
    server.stop();
    let stderr = server.stderr.text();
    let told = stderr
        .lines()
        .filter(|line| line.contains("accept"))
        .count();
    assert!((1..=8).contains(&told), "told, and not each time: {stderr}");
}

#[test]
fn sigterm_ends_it_while_accept_fails() {
    if !host::have("prlimit") {
        return not_run("the end while accept fails", "no prlimit to provoke it");
    }
    let mut server = Server::start(&[]);
    set_open_files(server.pid(), 3);
    let _hanging: Vec<Client> = (0..5).map(|_| Client::new(&server)).collect();
    server.stderr.line("accept");
    server.stop();
}

#[test]
fn refused_threads_shed_and_recover() {
    if !host::have("strace") {
        return not_run("refused threads", "no strace to refuse them");
    }
    // While strace is attached, each attempt to make a thread fails as it does at a limit.
    let inject = [
        "-e",
        "trace=clone,clone3",
        "-e",
        "inject=clone,clone3:error=EAGAIN",
        "-o",
        "/dev/null",
    ];
    let mut server = Server::start(&["--max-connections", "100", "--write-timeout", "1h"]);
    // Some clients stay, each with a thread.
    let busy = || {
        let mut client = Client::new(&server);
        (client.hold(), client)
    };
    let mut stay: Vec<Client> = (0..5).map(|_| busy().1).collect();
    let Some(tracer) = Tracer::attach(server.pid(), &inject) else {
        return not_run("refused threads", "strace may not attach");
    };
    // Threads that wait for a connection serve some more, and then one is shed.
    loop {
        match busy() {
            (200, client) => stay.push(client),
            (503, _) => break,
            (other, _) => panic!("{other} while threads are refused"),
        }
        assert!(stay.len() < 90, "no thread is refused");
    }
    assert!(server.count("thread_spawn_errors_total") >= 1);
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            server.get(target).status,
            200,
            "{target} while threads are refused"
        );
    }
    drop(tracer);
    // The slots are lowered for a while, not for good: newcomers are served though nobody left.
    eventually("a newcomer is served again", || {
        Client::new(&server).get("/").status == 200
    });
    for client in &mut stay {
        assert_eq!(client.response().status, 200, "who had a thread kept it");
    }
    drop(stay);
    recovers(&server, 30);
    assert_eq!(server.count("http_panics_total"), 0);
    server.stop();
    let stderr = server.stderr.text();
    let told = stderr
        .lines()
        .filter(|line| line.contains("thread"))
        .count();
    assert!((1..=8).contains(&told), "told, and not each time: {stderr}");
}

/// A control group of this test, removed at its end.
struct Group(PathBuf);

impl Group {
    /// In whichever hierarchy has the pids controller here; `None` where none can be made.
    fn new(pids: u32) -> Option<Self> {
        let name = format!("httpserver-test-{}", std::process::id());
        ["pids", "unified", "."].iter().find_map(|hierarchy| {
            let path = PathBuf::from("/sys/fs/cgroup").join(hierarchy).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            fs::write(group.0.join("pids.max"), pids.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let limit = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < limit {
            pause(ms(20));
        }
    }
}

#[test]
#[ignore = "needs root: makes a control group"]
fn a_small_pids_max_means_fewer_slots_and_a_warning() {
    let Some(group) = Group::new(32) else {
        return not_run("a control group with pids.max 32", "none can be made here");
    };
    let script = format!(
        "echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"",
        group.0.display()
    );
    let mut server = Server::spawn(under(
        &["sh", "-c", &script],
        &["--max-connections", "1000"],
    ));
    let slots = server.count("http_max_connections");
    assert!((5..32).contains(&slots), "{slots} slots in 32 processes");
    let warning = one_warning(&server, "pids.max");
    assert!(
        warning.contains("pids.max leaves ") && warning.contains(" threads"),
        "{warning}"
    );
    let (good, shed) = served_and_shed(&server, 100, "/delay/300ms");
    assert!(good >= 4 && shed > 0, "served {good}, shed {shed}");
    probes_are_prompt(&server, "32 processes");
    recovers(&server, 4);
    let refused = server.count("thread_spawn_errors_total");
    assert_eq!(
        refused, 0,
        "the slots were counted so that no thread is refused"
    );
    server.stop();
}

#[test]
#[ignore = "needs root: mounts a made-up /sys/fs/cgroup for the server alone"]
fn pids_max_is_found_where_version_2_has_it() {
    if !host::is_root() {
        return not_run("pids.max of a control group version 2", "it needs root");
    }
    for group in ["/", "/kubepods.slice/pod1.slice/abc"] {
        let script = format!(
            "set -e; mount -t tmpfs none /sys/fs/cgroup; mkdir -p /sys/fs/cgroup{group}; \
             echo pids >/sys/fs/cgroup/cgroup.controllers; echo 32 >/sys/fs/cgroup{group}/pids.max; \
             echo 0::{group} >/sys/fs/cgroup/self; mount --bind /sys/fs/cgroup/self /proc/$$/cgroup; \
             exec \"$0\" \"$@\""
        );
        let wrapper = ["unshare", "--mount", "sh", "-c", &script];
        let server = Server::spawn(under(&wrapper, &["--max-connections", "1000"]));
        one_warning(&server, "pids.max");
        let slots = server.count("http_max_connections");
        assert!(slots < 32, "{group}: {slots} slots");
    }
}

#[test]
fn more_threads_than_the_host_can_map_mean_fewer_slots() {
    let maps = host::kernel_setting("vm/max_map_count");
    let slots = maps / 4 + 1000;
    if !host::open_files("slots lowered by vm.max_map_count", slots + 500) {
        return;
    }
    let server = Server::start(&["--max-connections", &slots.to_string()]);
    let stderr = server.stderr.text();
    let lower = |limit: &&&str| stderr.contains(**limit);
    if let Some(limit) = ["pids.max", "memory limit"].iter().find(lower) {
        return not_run(
            "slots lowered by vm.max_map_count",
            &format!("{limit} of the control group is lower"),
        );
    }
    let warning = one_warning(&server, "vm.max_map_count");
    assert!(warning.contains(&maps.to_string()), "{warning}");
    let lowered = server.count("http_max_connections");
    assert!(
        lowered >= 100 && 4 * lowered < maps,
        "{lowered} slots in {maps} mappings"
    );
}

#[test]
#[ignore = "needs root: a network of its own with a short queue"]
fn a_short_queue_is_warned_of() {
    if !host::is_root() || !host::have("ip") {
        return not_run(
            "the warning about net.core.somaxconn",
            "it needs root and iproute2",
        );
    }
    let script = "mount -t sysfs none /sys && echo 128 >/proc/sys/net/core/somaxconn && ip link set lo up && exec \"$0\" \"$@\"";
    let server = Server::spawn(under(
        &["unshare", "--net", "--mount", "sh", "-c", script],
        &[],
    ));
    assert!(one_warning(&server, "net.core.somaxconn").contains("128"));
}

#[test]
fn the_kernels_queue_holds_a_thousand() {
    if host::kernel_setting("net/core/somaxconn") < 1000 {
        return not_run("a queue of 1,000", "net.core.somaxconn is below 1000");
    }
    if !host::open_files("a queue of 1,000", 4096) {
        return;
    }
    let server = Server::start(&["--max-connections", "1200"]);
    server.freeze();
    // A connection that finds the queue full waits for its SYN to be sent again, after a second.
    let connect = |_| TcpStream::connect_timeout(&server.addr, ms(900)).ok();
    let queued: Vec<TcpStream> = (0..1000).map_while(connect).collect();
    server.signal("CONT");
    assert_eq!(queued.len(), 1000, "a stopped server's queue took so many");
}

#[test]
#[ignore = "heavy: 10,000 requests in flight"]
fn ten_thousand_requests_in_flight_are_answered() {
    if !host::open_files("10,000 requests in flight", 15_000) {
        return;
    }
    let mut server = Server::start(&[
        "--max-connections",
        "12000",
        "--delay-min",
        "1s",
        "--delay-max",
        "1s",
    ]);
    if server.count("http_max_connections") < 12_000 {
        return not_run(
            "10,000 requests in flight",
            "the host has no room for 12,000 connections",
        );
    }
    let request = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let start = Instant::now();
    let outcomes = swarm::ask_all(server.addr, 10_000, request, PATIENCE);
    let answered = outcomes.iter().filter(|outcome| outcome.is(200)).count();
    let (cpu, memory) = (
        process::cpu_time(server.pid()),
        process::status(server.pid(), "VmHWM"),
    );
    let time = start.elapsed();
    println!(
        "10,000 requests of 1 s in flight: {answered} in {time:?}, {cpu:?} of CPU, {memory} KiB"
    );
    assert_eq!(
        answered,
        10_000,
        "all are answered: {}",
        server.stderr.text()
    );
    server.stop();
    assert_eq!(server.stdout.text().lines().count(), 10_000);
}
