//! The same hostile bytes to this server and to nginx: what one of them reads as one request the other never reads as
//! two, unless it says that it closes. A proxy and a server that disagree there is how requests are smuggled.
//!
//! Behind each input stands one more request. Where it is swallowed by one server and answered by the other, they
//! disagree. nginx proxies to itself, so that it reads each body before it answers, as a front server does; it listens
//! on a Unix socket in a directory of its own.

use std::cmp::Ordering;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::support::client::uninterrupted;
use crate::support::host::have;
use crate::support::mutate::{inputs, mutated};
use crate::support::process::Program;
use crate::support::{Client, PATIENCE, Scratch, Server, eventually, find, not_run};

const MUTATIONS: usize = 20_000;
const THREADS: usize = 8;
const SEED: u64 = 2_026;

/// What stands behind each input.
const BEHIND: &[u8] = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";

/// nginx with a directory of its own.
struct Nginx {
    _program: Program,
    directory: Scratch,
}

/// The responses of one server to one input.
#[derive(Debug)]
struct Outcome {
    statuses: Vec<u16>,
    closes: bool,
}

#[test]
#[ignore = "needs nginx"]
fn this_server_and_nginx_agree_where_a_request_ends() {
    if !have("nginx") {
        return not_run(
            "the comparison with nginx",
            "no nginx (Debian: nginx-light)",
        );
    }
    let server = Server::start(&[]);
    let nginx = Nginx::start();
    let seeds = inputs();
    let total = seeds.len() + MUTATIONS;
    let (next, disagreements, lenient) = (
        AtomicUsize::new(0),
        Mutex::new(Vec::new()),
        AtomicUsize::new(0),
    );
    let work = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= total {
                return;
            }
            let input = seeds.get(number).cloned().unwrap_or_else(|| {
                let mut random = fastrand::Rng::with_seed(
                    SEED.wrapping_mul(1_000_003).wrapping_add(number as u64),
                );
                mutated(&mut random, &seeds)
            });
            let (ours, theirs) = (ours(&server, &input), nginx.responses(&input));
            if disagree(&ours, &theirs) {
                let shown = input.escape_ascii();
                disagreements
                    .lock()
                    .unwrap()
                    .push(format!("ours {ours:?}, nginx {theirs:?} for \"{shown}\""));
            }
            if !ours.statuses.contains(&400) && theirs.statuses.contains(&400) {
                lenient.fetch_add(1, Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
    let disagreements = disagreements.into_inner().unwrap();
    println!(
        "{total} inputs, {} of them answered 400 by nginx and not by ours",
        lenient.into_inner()
    );
    assert!(
        disagreements.is_empty(),
        "{} disagree:\n{}",
        disagreements.len(),
        disagreements.join("\n")
    );
}

/// One server goes on where the other waits for more of the same request, and ours did not refuse and close.
fn disagree(ours: &Outcome, theirs: &Outcome) -> bool {
    if ours.closes && ours.statuses.last().is_some_and(|&status| status >= 400) {
        return false;
    }
    match ours.statuses.len().cmp(&theirs.statuses.len()) {
        Ordering::Equal => false,
        Ordering::Less => !ours.closes,
        Ordering::Greater => !theirs.closes,
    }
}

fn ours(server: &Server, input: &[u8]) -> Outcome {
    let mut client = Client::new(server);
    client.send([input, BEHIND].concat());
    client.shut_down();
    read(&client.end().rest)
}

/// The statuses in a stream of responses. No input of the table has a status line in its body.
fn read(stream: &[u8]) -> Outcome {
    let is_final = |line: &[u8]| {
        let digits = line
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit) && digits[0] != b'1')
    };
    let is_start = |at: &usize| is_final(&stream[*at..]);
    let starts: Vec<_> = (0..stream.len()).filter(is_start).collect();
    let status = |at: &usize| {
        String::from_utf8_lossy(stream.get(at + 9..at + 12)?)
            .parse()
            .ok()
    };
    let statuses: Vec<u16> = starts.iter().filter_map(status).collect();
    let last = starts.last().map_or(&[][..], |&at| &stream[at..]);
    let head = find(last, b"\r\n\r\n").map_or(last, |end| &last[..end]);
    Outcome {
        statuses,
        closes: String::from_utf8_lossy(head)
            .to_lowercase()
            .contains("\r\nconnection: close"),
    }
}

impl Nginx {
    fn start() -> Self {
        let directory = Scratch::directory("nginx");
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;
             events {{ worker_connections 512; }}
             http {{
                 access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
                 fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
                 server {{ listen unix:{dir}/back; keepalive_requests 1; location / {{ return 200 x; }} }}
                 server {{
                     listen unix:{dir}/front; lingering_timeout 1s; client_max_body_size 1m;
                     location / {{ proxy_pass http://unix:{dir}/back:; proxy_ignore_client_abort on; }}
                 }}
             }}",
            dir = directory.text()
        );
        let file = directory.put("nginx.conf", &config);
        let mut command = Command::new("nginx");
        command.args(["-c", &file, "-p", directory.text()]);
        let nginx = Self {
            _program: Program::start(&mut command),
            directory,
        };
        eventually("nginx listens", || nginx.connect().is_ok());
        nginx
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.directory.as_ref().join("front"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn responses(&self, input: &[u8]) -> Outcome {
        let mut stream = self.connect().unwrap();
        // nginx resets a connection whose rest it does not want; what it has answered before is all we ask.
        let _ = stream.write_all(&[input, BEHIND].concat());
        let _ = stream.shutdown(Shutdown::Write);
        let (mut response, mut block) = (Vec::new(), [0; 8_192]);
        while let Ok(count @ 1..) = uninterrupted(|| stream.read(&mut block)) {
            response.extend_from_slice(&block[..count]);
        }
        read(&response)
    }
}
