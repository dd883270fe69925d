//! The refusal of HTTP/2 (RFC 9113), in HTTP/2.
//!
//! A client that is sure of HTTP/2 starts with a fixed preface, and an HTTP/1.1 response would look
//! like noise to it: curl then reports an empty reply. So the preface gets SETTINGS, and the first
//! request a response with status 505 and a sentence, which curl prints. The same sentence stands
//! in `grpc-message`, which gRPC clients print. GOAWAY follows.
//!
//! A GOAWAY without a response says nothing to a person. gRPC's C library even takes such a request
//! for unseen, and opens connection after connection until its deadline; a GOAWAY with
//! `HTTP_1_1_REQUIRED` for a request in flight aborts its process (both seen with grpcio 1.85). A
//! response and then `NO_ERROR` avoid both.

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// To be sent as soon as the preface is recognised, because gRPC clients wait for it before they
/// send a request.
pub const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// What the client is told.
const TEXT: &str = "this server speaks HTTP/1.1, not HTTP/2 and not gRPC";

/// The length of a frame's header: a length of three bytes, a type, flags, and the number of a
/// stream.
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The response to the first request in `received`, which starts with the preface; `None` while
/// there is no request.
///
/// GOAWAY lets the client close the connection. The server waits for that: nginx drops a response
/// that comes together with the end of the connection.
pub fn refusal(received: &[u8]) -> Option<Vec<u8>> {
    let stream = first_request(received.strip_prefix(PREFACE)?)?;
    // In HPACK (RFC 7541): names 8 and 31 of the static table with new values, and two fields that
    // are spelled out.
    let status = b"\x08\x03505\x0f\x10\x0atext/plain";
    let names = b"\0\x0bgrpc-status\x0212\0\x0cgrpc-message";
    let grpc = [&names[..], &[TEXT.len() as u8], TEXT.as_bytes()].concat();
    // The last stream, `NO_ERROR`, and a text.
    let goaway = [&stream[..], &[0; 4], TEXT.as_bytes()].concat();
    let acknowledge = b"\0\0\0\x04\x01\0\0\0\0";
    let frames = [
        acknowledge.to_vec(),
        frame(HEADERS, END_HEADERS, stream, &[status, &*grpc].concat()),
        frame(DATA, 0, stream, format!("{TEXT}\n").as_bytes()),
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &grpc),
        frame(GOAWAY, 0, [0; 4], &goaway),
    ];
    Some(frames.concat())
}

/// The stream of the first HEADERS frame.
fn first_request(mut frames: &[u8]) -> Option<[u8; 4]> {
    loop {
        let ([a, b, c, kind, _flags, stream @ ..], rest) =
            frames.split_first_chunk::<FRAME_HEADER>()?;
        if *kind == HEADERS {
            return Some(*stream);
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        frames = rest.get(length as usize..)?;
    }
}

fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length, &[kind, flags][..], &stream, payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What curl 7.88 sends: SETTINGS with three values, `WINDOW_UPDATE`, and HEADERS on stream 1.
    const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\x02\0\0\0\0\x02\0\0\0\0\
        \0\0\x04\x08\0\0\0\0\0\x01\xff\0\x01\
        \0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";

    #[test]
    fn a_request_is_refused_as_soon_as_its_frame_begins() {
        let begins = REQUEST.len() - 3;
        for end in 0..=REQUEST.len() {
            assert_eq!(
                refusal(&REQUEST[..end]).is_some(),
                end >= begins,
                "{end} bytes"
            );
        }
    }

    #[test]
    fn frames_before_the_request_are_skipped() {
        let long = [
            &b"\x01\x01\x01\x04\0\0\0\0\0"[..],
            &vec![HEADERS; 0x01_0101],
        ]
        .concat();
        let received = [PREFACE, SETTINGS, &long, b"\0\0\0\x01\x05\0\0\0\x07"].concat();
        let refusal = refusal(&received).expect("there is a request");
        assert_eq!(refusal[9 + 5..9 + 9], [0, 0, 0, 7]);
    }

    #[test]
    fn the_refusal_is_well_formed() {
        assert_eq!(SETTINGS.len(), FRAME_HEADER);
        assert!(
            TEXT.len() < 127 && TEXT.is_ascii() && !TEXT.contains('%'),
            "{TEXT}"
        );
        let refusal = refusal(REQUEST).expect("there is a request");
        let (mut rest, mut kinds) = (&refusal[..], Vec::new());
        while let Some((header, tail)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let (payload, tail) = tail.split_at(usize::from(header[2]));
            kinds.push((header[3], header[4], header[8], payload));
            rest = tail;
        }
        assert!(rest.is_empty(), "{rest:?}");
        let streams: Vec<_> = kinds
            .iter()
            .map(|(kind, flags, stream, _)| (*kind, *flags, *stream))
            .collect();
        assert_eq!(
            streams,
            [(4, 1, 0), (1, 4, 1), (0, 0, 1), (1, 5, 1), (7, 0, 0)]
        );
        assert_eq!(kinds[2].3, format!("{TEXT}\n").as_bytes());
        assert!(kinds[1].3.ends_with(kinds[3].3) && kinds[3].3.ends_with(TEXT.as_bytes()));
        assert_eq!(
            kinds[4].3,
            [b"\0\0\0\x01\0\0\0\0", TEXT.as_bytes()].concat()
        );
    }

    #[test]
    fn what_is_not_a_request() {
        let settings = [PREFACE, SETTINGS].concat();
        let endless = [&settings, &b"\xff\xff\xff\x04\0\0\0\0\0"[..], &[0; 100]].concat();
        for received in [b"", PREFACE, &settings, &endless, &REQUEST[1..]] {
            assert_eq!(refusal(received), None, "{received:?}");
        }
    }
}
