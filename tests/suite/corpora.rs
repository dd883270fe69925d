//! The inputs that fuzzing found worth keeping, as an ordinary test: each file under `fuzz/corpus/TARGET/` keeps what
//! `fuzz/properties.rs` asserts of that target. A crash that the fuzzer finds becomes a file here.
//!
//! To these come the table's own inputs, which have the most peculiar bytes that we could think of.

#[path = "../fuzz/properties.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]
mod properties;

use std::fs;
use std::path::Path;

use crate::cases;
use crate::support::find;

#[track_caller]
fn corpus(target: &str, property: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&directory).expect("the corpus is committed");
    let paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    assert!(
        paths.len() >= 10,
        "only {} inputs in {}",
        paths.len(),
        directory.display()
    );
    for path in paths {
        println!("{}", path.display());
        property(&fs::read(&path).expect("an input can be read"));
    }
}

#[test]
fn heads() {
    corpus("head", properties::head);
}

#[test]
fn chunks() {
    corpus("chunked", properties::chunked);
}

#[test]
fn connections() {
    corpus("connection", properties::connection);
}

#[test]
fn settings() {
    corpus("settings", properties::settings);
}

#[test]
fn controls() {
    corpus("controls", properties::controls);
}

#[test]
fn echoes() {
    corpus("echo", properties::echo);
}

/// Every byte between others, and as the last of a value that it could end or escape. The echo asks a server dozens of
/// times for each, so of letters and digits, and of the bytes beyond ASCII, it gets the first and the last of each kind.
#[test]
fn every_byte() {
    const ENDS: &[u8] = b"09AZaz\x80\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xef\xf0\xf4\xf5\xff";
    for byte in 0..=u8::MAX {
        properties::controls(&[byte]);
        properties::controls(&[0, b'2', b'0', b'0', byte]);
        if ENDS.contains(&byte) || (byte.is_ascii() && !byte.is_ascii_alphanumeric()) {
            properties::echo(&[b'a', byte, b'b']);
        }
    }
}

#[test]
fn websockets() {
    corpus("websocket", properties::websocket);
}

#[test]
fn doors() {
    corpus("door", properties::door);
}

#[test]
fn the_tables_inputs() {
    for case in cases::all() {
        println!("{}", case.name);
        properties::head(&case.input);
        properties::door(&case.input);
        properties::connection(&case.input);
        if let Some(end) = find(&case.input, b"\r\n\r\n") {
            properties::chunked(&case.input[end + 4..]);
        }
    }
}
