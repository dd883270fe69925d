//! A system that refuses threads does not stop the probes, nor shed everybody for long.

use std::time::{Duration, Instant};

use crate::support::{Cgroup, Prober, Server, ask, not_run, open_files, pause, wait_until};

/// A server in a cgroup that limits threads.
fn start(name: &str) -> Option<(Server, Cgroup)> {
    match Cgroup::new("pids", name) {
        Ok(cgroup) => Some((
            Server::start_in(&[&cgroup], &["--drain-timeout", "1s"]),
            cgroup,
        )),
        Err(why) => {
            not_run(name, why);
            None
        }
    }
}

#[test]
fn silent_connections_do_not_stop_the_probes() {
    if !open_files("silent connections", 60) {
        return;
    }
    let Some((server, cgroup)) = start("silent") else {
        return;
    };
    cgroup.limit_threads(54).unwrap();
    // As many delays as there are threads left, and silent connections on top of them.
    let delayed: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = server.connect();
            let _ = std::io::Write::write_all(
                &mut stream,
                b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n",
            );
            stream
        })
        .collect();
    assert!(wait_until(
        || server.metric("thread_spawn_errors_total ") > 0
    ));
    let prober = Prober::start(server.address);
    let mut silent = Vec::new();
    while prober.count() < 15 {
        silent.push(server.connect());
        pause(Duration::from_millis(200));
    }
    prober.stop().assert_green(&server);
    drop((silent, delayed));
    server.terminate().assert_exact();
}

#[test]
fn one_refusal_on_an_idle_server_sheds_nobody_for_long() {
    let Some((server, cgroup)) = start("idle") else {
        return;
    };
    let mut first = server.connect();
    assert_eq!(ask(&mut first, "/").unwrap().0, 200);
    cgroup.limit_threads(cgroup.threads()).unwrap();
    let mut held = vec![server.connect(), server.connect()];
    assert!(wait_until(|| {
        let _ = server.get("/healthz");
        server.metric("thread_spawn_errors_total ") > 0
    }));
    cgroup.limit_threads(10_000).unwrap();
    let start = Instant::now();
    let served = wait_until(|| {
        let mut stream = server.connect();
        let served = matches!(ask(&mut stream, "/"), Ok((200, _)));
        held.push(stream);
        served
    });
    println!("served again after {:?}", start.elapsed());
    assert!(served && start.elapsed() < Duration::from_secs(6));
    drop((held, first));
    server.terminate().assert_exact();
}
