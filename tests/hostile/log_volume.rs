//! What a client sends decides how much is logged, so that has a bound: six times its bytes, which
//! is the longest escape of one, and half a KiB for each request. What it sends beyond the bounds of
//! a logged value is not logged at all.

use std::io::Write;

use crate::support::{Server, read_response};

/// The bytes of log for each byte of a request, and for a request.
const FACTOR: usize = 6;
const EACH: usize = 512;
/// No line is longer: the target, the user agent, the referrer and the request id, escaped.
const LONGEST_LINE: usize = FACTOR * (2048 + 2 * 512 + 128) + EACH;

fn requests() -> Vec<Vec<u8>> {
    let odd = |count| [0xff].repeat(count);
    let with = |target: &[u8], fields: &[(&str, Vec<u8>)]| {
        let mut request = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n"].concat();
        for (name, value) in fields {
            request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        request
    };
    let query = "/\"".repeat(3000);
    let host = "h".repeat(20_000);
    vec![
        with(b"/", &[]),
        with(b"/", &[("User-Agent", odd(512)), ("Referer", odd(512))]),
        with(b"/", &[("User-Agent", odd(7000)), ("Referer", odd(7000))]),
        with(b"/", &[("X-Request-Id", vec![b'"'; 128])]),
        with(query.as_bytes(), &[("X-Forwarded-For", odd(7000))]),
        with(&b"/\xc3\xbc".repeat(2000), &[("Referer", odd(600))]),
        with(b"/", &[("X-Request-Id", vec![b'x'; 20_000])]),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        odd(10_000),
    ]
}

fn bounded(format: &str) {
    for request in requests() {
        let server = Server::start(&["--log-format", format]);
        for _ in 0..20 {
            let mut stream = server.connect();
            stream.write_all(&request).unwrap();
            // A refusal is logged too.
            assert!(matches!(
                read_response(&mut stream),
                Ok((200 | 400 | 414, _))
            ));
        }
        let lines = server.stdout.clone();
        server.terminate().assert_exact();
        let lines: Vec<_> = lines.all().iter().map(String::len).collect();
        let (longest, all) = (lines.iter().max().unwrap(), lines.iter().sum::<usize>());
        println!(
            "{format}: {} bytes of request, {longest} of log",
            request.len()
        );
        assert_eq!(lines.len(), 20);
        assert!(all <= 20 * (FACTOR * request.len() + EACH), "{all}");
        assert!(*longest <= LONGEST_LINE, "{longest}");
    }
}

#[test]
fn lines_are_bounded_by_what_was_sent() {
    bounded("json");
    bounded("text");
}
