//! The physical limit of a thread for each connection: read, count the ends of heads, write as many fixed answers. No
//! parsing, no log, no metrics, no limits. What the server is slower than this is what its work costs.
//!
//! Usage: `bare ADDRESS ANSWER_FILE close|keep DELAY_SECONDS`. The answer is the server's own, so that the sizes are
//! equal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const STACK_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 16 * 1024;

struct Answer {
    bytes: Vec<u8>,
    closes: bool,
    delay: Duration,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, file, mode, seconds] = arguments.as_slice() else {
        return Err("usage: bare ADDRESS ANSWER_FILE close|keep DELAY_SECONDS".into());
    };
    let answer = Arc::new(Answer {
        bytes: std::fs::read(file)?,
        closes: mode == "close",
        delay: Duration::from_secs(seconds.parse()?),
    });
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        let answer = Arc::clone(&answer);
        // A client that goes away ends its own thread alone.
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(serve(stream, &answer)))?;
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; READ_BYTES];
    let mut answers = Vec::new();
    // Bytes of "\r\n\r\n" seen so far; a head may end in another read than it began.
    let mut matched = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        answers.clear();
        for byte in &buffer[..length] {
            matched = match (byte, matched) {
                (b'\r', 0 | 2) | (b'\n', 1 | 3) => matched + 1,
                (b'\r', _) => 1,
                _ => 0,
            };
            if matched == 4 {
                answers.extend_from_slice(&answer.bytes);
                matched = 0;
            }
        }
        if answers.is_empty() {
            continue;
        }
        wait(answer.delay);
        stream.write_all(&answers)?;
        if answer.closes {
            return Ok(());
        }
    }
}

fn wait(delay: Duration) {
    let end = Instant::now() + delay;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
