//! The load that wrk cannot make (a fixed rate, a burst of connections, thousands of requests held in flight, idle
//! connections), and a stand-in for wrk where it is not installed. One thread, so that the server keeps a core for
//! itself; a fixed rate has a thread for each connection, because tokio's clock knows whole milliseconds alone.
//!
//! Each mode prints `name value` pairs on one line, for the bench to read. Only for loopback: a few thousand connections
//! at once are an attack anywhere else.
//!
//! ```text
//! load rate  ADDRESS REQUEST_FILE CONNECTIONS DEPTH SECONDS   as many requests as go, DEPTH in each write
//! load paced ADDRESS REQUEST_FILE CONNECTIONS RATE SECONDS    so many requests a second, evenly spread
//! load burst ADDRESS REQUEST_FILE CONNECTIONS                 all at once, one request each; time to the first byte
//! load idle  ADDRESS REQUEST_FILE CONNECTIONS                 as burst, then keeps them open until stdin ends
//! ```

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than any answer that is on its way; what has none by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["rate", address, file, connections, depth, seconds] => {
            let request = std::fs::read(file)?.repeat(depth.parse()?);
            let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
            runtime.block_on(rate(address.parse()?, request, depth.parse()?, connections.parse()?, end));
        }
        ["paced", address, file, connections, rate, seconds] => {
            let (rate, seconds) = (rate.parse()?, Duration::from_secs(seconds.parse()?));
            paced(address.parse()?, &std::fs::read(file)?, connections.parse()?, rate, seconds);
        }
        ["burst", address, file, connections] => {
            drop(runtime.block_on(burst(address.parse()?, std::fs::read(file)?, connections.parse()?)));
        }
        ["idle", address, file, connections] => {
            let held = runtime.block_on(burst(address.parse()?, std::fs::read(file)?, connections.parse()?));
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            drop(held);
        }
        _ => {
            return Err("usage: load rate|paced|burst|idle ADDRESS REQUEST_FILE CONNECTIONS [DEPTH|RATE SECONDS]".into());
        }
    }
    Ok(())
}

async fn rate(address: SocketAddr, request: Vec<u8>, depth: usize, connections: usize, end: Instant) {
    let request = Arc::new(request);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let request = Arc::clone(&request);
        tasks.spawn(async move { repeat(address, &request, depth, end).await });
    }
    let (mut times, mut errors) = (Vec::new(), 0usize);
    while let Some(done) = tasks.join_next().await {
        if let Ok((mut some, failed)) = done {
            times.append(&mut some);
            errors += failed;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("requests {} seconds {seconds:.6} errors {errors} {}", times.len() * depth, quantiles(&mut times));
}

/// Batches of `depth` requests until the time is up, on a new connection whenever the server has closed the last one.
async fn repeat(address: SocketAddr, request: &[u8], depth: usize, end: Instant) -> (Vec<Duration>, usize) {
    let (mut times, mut errors, mut buffer) = (Vec::new(), 0, vec![0; READ_BYTES]);
    let mut open = None;
    while Instant::now() < end {
        let begun = Instant::now();
        let stream = match open.take() {
            Some(stream) => Ok(stream),
            None => TcpStream::connect(address).await.and_then(|stream| stream.set_nodelay(true).map(|()| stream)),
        };
        let Ok(mut stream) = stream else {
            errors += 1;
            tokio::task::yield_now().await;
            continue;
        };
        match exchange(&mut stream, request, depth, &mut buffer, || ()).await {
            Some(closes) => {
                times.push(begun.elapsed());
                open = (!closes).then_some(stream);
            }
            None => errors += 1,
        }
    }
    (times, errors)
}

/// So many requests a second, the connections one after the other.
fn paced(address: SocketAddr, request: &[u8], connections: u32, rate: u32, duration: Duration) {
    let interval = Duration::from_secs(1) * connections / rate;
    let begin = Instant::now() + Duration::from_millis(100);
    let results: Vec<io::Result<Vec<Duration>>> = thread::scope(|scope| {
        let client = |index| {
            let first = begin + interval * index / connections;
            let send = move || send_when_due(address, request, first, interval, begin + duration);
            thread::Builder::new().spawn_scoped(scope, send).expect("a thread for each client")
        };
        let clients: Vec<_> = (0..connections).map(client).collect();
        let ended = || io::Error::other("a client panicked");
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(ended()))).collect()
    });
    let errors = results.iter().filter(|result| result.is_err()).count();
    let mut times: Vec<Duration> = results.into_iter().flatten().flatten().collect();
    let seconds = begin.elapsed().as_secs_f64();
    println!("requests {} seconds {seconds:.6} errors {errors} {}", times.len(), quantiles(&mut times));
}

/// A request at each interval. Its time counts from when it was due, so that a slow response delays no later one unseen.
fn send_when_due(
    address: SocketAddr, request: &[u8], first: Instant, interval: Duration, end: Instant,
) -> io::Result<Vec<Duration>> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut times, mut buffer, mut due) = (Vec::new(), vec![0; READ_BYTES], first);
    while due < end {
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        stream.write_all(request)?;
        let mut filled = 0;
        while answer_len(&buffer[..filled]).map_err(|_| io::ErrorKind::InvalidData)?.is_none() {
            match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        times.push(due.elapsed());
        due += interval;
    }
    Ok(times)
}

/// Every connection opened at once. Gives them back open.
async fn burst(address: SocketAddr, request: Vec<u8>, connections: usize) -> Vec<TcpStream> {
    let (request, sent) = (Arc::new(request), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (request, sent) = (Arc::clone(&request), Arc::clone(&sent));
        tasks.spawn(timeout(PATIENCE, async move {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).await.ok()?;
            let mut first = None;
            stream.write_all(&request).await.ok()?;
            // The bench samples the server's memory at this moment, when all are in flight.
            if sent.fetch_add(1, Ordering::Relaxed) + 1 == connections {
                println!("sent");
            }
            let mut buffer = vec![0; 4096];
            exchange(&mut stream, &[], 1, &mut buffer, || first = first.or(Some(begun.elapsed()))).await?;
            Some((first?, stream))
        }));
    }
    let (mut times, mut open) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        if let Ok(Ok(Some((first, stream)))) = done {
            times.push(first);
            open.push(stream);
        }
    }
    let lost = connections - times.len();
    println!("lost {lost} seconds {:.6} {}", begun.elapsed().as_secs_f64(), quantiles(&mut times));
    open
}

/// Writes, then reads `count` answers of status 200. `Some(true)` if the server closes after them, `None` on any error.
async fn exchange(
    stream: &mut TcpStream, request: &[u8], count: usize, buffer: &mut [u8], mut on_bytes: impl FnMut(),
) -> Option<bool> {
    stream.write_all(request).await.ok()?;
    let (mut answers, mut filled, mut closes) = (0, 0, false);
    while answers < count {
        let length = stream.read(buffer.get_mut(filled..)?).await.ok()?;
        if length == 0 {
            return None;
        }
        on_bytes();
        filled += length;
        let mut at = 0;
        while let Some(length) = answer_len(&buffer[at..filled]).ok()? {
            closes |= closing(&buffer[at..at + length]);
            (answers, at) = (answers + 1, at + length);
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    Some(closes)
}

/// Not the answer that was asked for: a status other than 200, or no length.
struct Unexpected;

/// The length of the whole answer at the start of `bytes`, or `None` if more is needed.
fn answer_len(bytes: &[u8]) -> Result<Option<usize>, Unexpected> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head + 2]).map_err(|_| Unexpected)?.to_ascii_lowercase();
    let value = text.split_once("\r\ncontent-length: ").filter(|_| text.starts_with("http/1.1 200 "));
    let digits = value.and_then(|(_, value)| value.split_once('\r')).ok_or(Unexpected)?.0;
    let length = head + 4 + digits.parse::<usize>().map_err(|_| Unexpected)?;
    Ok((bytes.len() >= length).then_some(length))
}

fn closing(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    answer[..head].to_ascii_lowercase().windows(19).any(|window| window == b"\r\nconnection: close")
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(f64::NAN, Duration::as_secs_f64)
    };
    format!("p50 {:.6} p99 {:.6} max {:.6}", at(50), at(99), at(100))
}
