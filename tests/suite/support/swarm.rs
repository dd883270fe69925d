//! Thousands of clients in one thread: each opens a connection, sends the same request and reads to the end.
//!
//! A client with a thread for each connection would measure its own threads' waking up; this one waits for all of
//! its sockets with one `mio::Poll`, opens them without blocking, and takes the time of each first byte when it is
//! ready. What is slow here is the server, or the kernel's queue before it.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Opened between two looks at the sockets, so that no ready byte waits for the rest to be opened.
const STRIDE: usize = 32;

/// What one client saw.
#[derive(Default)]
pub(crate) struct Outcome {
    /// From the start of its opening to its first byte.
    pub(crate) first_byte: Option<Duration>,
    /// All bytes, once the server closed in order.
    pub(crate) response: Option<Vec<u8>>,
    /// Why there is no response.
    pub(crate) error: Option<ErrorKind>,
}

impl Outcome {
    /// Whether it is a whole response of this status: its body has the length that its head tells.
    pub(crate) fn is(&self, status: u16) -> bool {
        let text = String::from_utf8_lossy(self.response.as_deref().unwrap_or_default());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        });
        head.starts_with(&format!("HTTP/1.1 {status} ")) && length == Some(body.len())
    }
}

struct One {
    stream: TcpStream,
    opened: Instant,
    sent: usize,
    bytes: Vec<u8>,
    outcome: Outcome,
}

/// Opens `count` connections at once, sends `request` on each and reads until each is closed or the limit is over.
pub(crate) fn ask_all(
    addr: SocketAddr,
    count: usize,
    request: &[u8],
    limit: Duration,
) -> Vec<Outcome> {
    let mut poll = Poll::new().expect("the system has epoll");
    let mut events = Events::with_capacity(1024);
    let deadline = Instant::now() + limit;
    let mut swarm: Vec<One> = Vec::with_capacity(count);
    let mut ended = 0;
    while ended < count && Instant::now() < deadline {
        let opening = swarm.len() < count;
        for index in swarm.len()..count.min(swarm.len() + STRIDE) {
            let opened = Instant::now();
            let mut stream =
                TcpStream::connect(addr).expect("a socket; is the limit of open files too low?");
            poll.registry()
                .register(
                    &mut stream,
                    Token(index),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .expect("a socket can be watched");
            swarm.push(One {
                stream,
                opened,
                sent: 0,
                bytes: Vec::new(),
                outcome: Outcome::default(),
            });
            ended += usize::from(advance(&mut swarm[index], request));
        }
        let wait = if opening {
            Duration::ZERO
        } else {
            deadline.saturating_duration_since(Instant::now())
        };
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("epoll: {error}"),
            _ => {}
        }
        for event in &events {
            ended += usize::from(advance(&mut swarm[event.token().0], request));
        }
    }
    swarm.into_iter().map(|one| one.outcome).collect()
}

/// Writes and reads what can be, and says whether this was the end of it.
fn advance(one: &mut One, request: &[u8]) -> bool {
    if one.outcome.response.is_some() || one.outcome.error.is_some() {
        return false;
    }
    match progress(one, request) {
        Ok(()) => one.outcome.response = Some(std::mem::take(&mut one.bytes)),
        Err(ErrorKind::WouldBlock | ErrorKind::NotConnected) => return false,
        Err(error) => one.outcome.error = Some(error),
    }
    true
}

fn progress(one: &mut One, request: &[u8]) -> Result<(), ErrorKind> {
    while one.sent < request.len() {
        one.sent += one
            .stream
            .write(&request[one.sent..])
            .map_err(|error| error.kind())?;
    }
    let mut block = [0; 4096];
    loop {
        let count = one.stream.read(&mut block).map_err(|error| error.kind())?;
        if count == 0 {
            return Ok(());
        }
        one.outcome
            .first_byte
            .get_or_insert_with(|| one.opened.elapsed());
        one.bytes.extend_from_slice(&block[..count]);
    }
}
