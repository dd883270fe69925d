//! A stdout that does not block, as some supervisors give, tears and loses no line.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{PATIENCE, PROGRAM, Server, command, connect, pause};

const REQUESTS: usize = 20_000;

#[test]
fn every_line_arrives_whole() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = command(PROGRAM, &["--drain-timeout", "60s"]);
    command.stdout(Stdio::from(OwnedFd::from(theirs)));
    let server = Server::spawn_with_stdout(command);
    // The end waits a second at most for who reads, so it comes when the reader has nearly all.
    let (last, all_read) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::with_capacity(4096, ours).lines() {
            lines.push(line.unwrap());
            if lines.len() == REQUESTS {
                last.send(()).unwrap();
            }
            // A reader that is slow now and then, so that the pipe is full.
            if lines.len() % 500 == 0 {
                pause(Duration::from_millis(5));
            }
        }
        lines
    });
    let address = server.address;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = connect(address).unwrap();
                let mut copy = stream.try_clone().unwrap();
                let sender = thread::spawn(move || {
                    let request = b"HEAD /status/204 HTTP/1.1\r\nHost: a\r\n\r\n";
                    for _ in 0..REQUESTS / 4 / 50 {
                        copy.write_all(&request.repeat(50)).unwrap();
                    }
                    copy.shutdown(std::net::Shutdown::Write).unwrap();
                });
                std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                sender.join().unwrap();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let _ = all_read.recv_timeout(PATIENCE);
    let ended = server.terminate();
    let lines = reader.join().unwrap();
    assert!(ended.well, "{}", ended.stderr);
    assert_eq!(lines.len(), REQUESTS);
    let torn = lines.iter().filter(|line| {
        !line.contains("\"HEAD /status/204 HTTP/1.1\" 204 ") || !line.starts_with("127.0.0.1 ")
    });
    assert_eq!(torn.count(), 0);
    assert_eq!(ended.totals.get("log_lines"), Some(&(REQUESTS as u64)));
}
