//! WebSocket frames (RFC 6455 section 5), as a server reads and writes them.
//!
//! The decoder takes the client's bytes in pieces of any size. It removes the mask, joins
//! fragments, lets control frames pass between them, and yields one event at a time. For an error
//! it returns the close code (section 7.4.1). A frame's length is only believed as far as bytes
//! arrive: a message grows by what was received, so nobody reserves memory by announcing a size.
//! Text is checked as it arrives, so a wrong byte ends the connection at once and not after the
//! last byte of a long message.

use std::fmt;

use crate::labelled::labelled;

/// The largest payload of a control frame, in bytes (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: usize = 125;

/// The close code of a server that shuts down.
pub const GOING_AWAY: u16 = 1001;
/// The close code of a server that is short of something for the moment (IANA's registry).
pub const TRY_AGAIN_LATER: u16 = 1013;

/// The kind of a frame, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0,
    /// A message of text, or its first fragment.
    Text = 1,
    /// A message of bytes, or its first fragment.
    Binary = 2,
    /// The last frame that its sender sends.
    Close = 8,
    /// A frame that asks for a pong with the same payload.
    Ping = 9,
    /// The response to a ping.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
        let all = [Continuation, Text, Binary, Close, Ping, Pong];
        all.into_iter().find(|opcode| *opcode as u8 == bits)
    }

    fn is_control(self) -> bool {
        self as u8 >= Opcode::Close as u8
    }
}

/// What a client has sent; the payloads stay valid until more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message.
    Message {
        /// Whether it is text, and then valid UTF-8.
        text: bool,
        /// Its bytes, of all fragments together.
        payload: &'a [u8],
    },
    /// A ping, which asks for a pong with this payload.
    Ping(&'a [u8]),
    /// A pong; a server may ignore it.
    Pong,
    /// The client sends no more, and expects a close frame if none was sent before; the code says
    /// why, if it told.
    Close(Option<u16>),
}

labelled! {
    /// What a client did wrong, which ends the connection; the label fits into a close frame.
    #[allow(missing_docs, reason = "the label says what each is")]
    Violation {
        Unmasked "a frame without a mask",
        ReservedBits "a reserved bit is set",
        ReservedOpcode "a reserved opcode",
        FragmentedControl "a fragmented control frame",
        LongControl "a control frame with more than 125 bytes",
        NothingToContinue "a continuation without a message",
        UnfinishedMessage "a new message before the end of the last one",
        Length "a length that is not in its shortest form",
        ShortClose "a close frame with one byte",
        CloseCode "a close code that may not be sent",
        NotUtf8 "text that is not UTF-8",
        TooLarge "a message above the limit",
    }
}

impl Violation {
    /// The code that the close frame carries.
    pub fn code(self) -> u16 {
        match self {
            Violation::NotUtf8 => 1007,
            Violation::TooLarge => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for Violation {}

/// Reads the frames of one client.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    /// The header of the next frame, as far as it has arrived.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// Whether the message that has begun is text.
    unfinished: Option<bool>,
    message: Vec<u8>,
    /// How much of the text is known to be UTF-8; behind it stands at most the start of one
    /// character.
    checked: usize,
    /// The payload of the control frame that came last.
    control: Vec<u8>,
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    last: bool,
    /// The mask, turned so that its first byte belongs to the next byte of payload.
    mask: [u8; 4],
    left: u64,
}

impl Decoder {
    /// A decoder for messages of at most so many bytes.
    pub fn new(max_message: usize) -> Decoder {
        Decoder {
            max_message,
            header: Vec::new(),
            frame: None,
            unfinished: None,
            message: Vec::new(),
            checked: 0,
            control: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input` up to the end of the next event; `None` when all of it
    /// is taken and no event is complete. What follows a close frame or a violation has no meaning,
    /// so nothing more is decoded then.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, Violation> {
        loop {
            if self.frame.is_none() {
                self.frame = self.read_header(input)?;
            }
            let Some(mut frame) = self.frame else {
                return Ok(None);
            };
            self.read_payload(&mut frame, input)?;
            self.frame = (frame.left > 0).then_some(frame);
            if self.frame.is_some() {
                return Ok(None);
            }
            if frame.last {
                return self.event(frame.opcode).map(Some);
            }
        }
    }

    /// The bytes of memory that messages take at present; it grows by what arrives, at most to
    /// twice a message.
    pub fn memory(&self) -> usize {
        self.message.capacity()
    }

    /// Gives back the memory of messages that were yielded; to be called before a long wait.
    pub fn release(&mut self) {
        if self.unfinished.is_none() {
            self.message = Vec::new();
        }
    }

    /// Reads to the end of a header.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        while let Some(byte) = input.split_off_first() {
            self.header.push(*byte);
            let [first, second, rest @ ..] = &*self.header else {
                continue;
            };
            let opcode = self.check_start(*first, *second)?;
            let short = second & 0x7f;
            let extended_bytes = match short {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if let Some((extended, mask)) = rest.split_last_chunk()
                && extended.len() == extended_bytes
            {
                let frame = Frame {
                    opcode,
                    last: first & 0x80 != 0,
                    mask: *mask,
                    left: payload_length(short, extended).ok_or(Violation::Length)?,
                };
                self.header.clear();
                self.start(&frame)?;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// What the first two bytes of a frame have to keep.
    fn check_start(&self, first: u8, second: u8) -> Result<Opcode, Violation> {
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpcode)?;
        let control = opcode.is_control();
        let fragment = first & 0x80 == 0;
        let long = usize::from(second & 0x7f) > CONTROL_PAYLOAD;
        let continues = opcode == Opcode::Continuation;
        let within_message = self.unfinished.is_some();
        let rules = [
            (first & 0x70 != 0, Violation::ReservedBits),
            (second & 0x80 == 0, Violation::Unmasked),
            (control && fragment, Violation::FragmentedControl),
            (control && long, Violation::LongControl),
            (continues && !within_message, Violation::NothingToContinue),
            (
                !continues && !control && within_message,
                Violation::UnfinishedMessage,
            ),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, violation)) => Err(violation),
            None => Ok(opcode),
        }
    }

    /// Makes room for the payload of a frame.
    fn start(&mut self, frame: &Frame) -> Result<(), Violation> {
        match frame.opcode {
            Opcode::Text | Opcode::Binary => {
                self.unfinished = Some(frame.opcode == Opcode::Text);
                self.message.clear();
                self.checked = 0;
            }
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control.clear(),
        }
        let room = (self.max_message - self.message.len()) as u64;
        if !frame.opcode.is_control() && frame.left > room {
            return Err(Violation::TooLarge);
        }
        Ok(())
    }

    /// Reads what has arrived of a frame's payload.
    fn read_payload(&mut self, frame: &mut Frame, input: &mut &[u8]) -> Result<(), Violation> {
        let control = frame.opcode.is_control();
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let (piece, rest) = input.split_at(input.len().min(left));
        *input = rest;
        frame.left -= piece.len() as u64;
        let payload = if control {
            &mut self.control
        } else {
            &mut self.message
        };
        let start = payload.len();
        payload.extend_from_slice(piece);
        unmask(&mut payload[start..], &mut frame.mask);
        if !control && self.unfinished == Some(true) {
            self.check_text(frame.last && frame.left == 0)?;
        }
        Ok(())
    }

    /// Checks the text that has arrived; only the last character of an unfinished message may be
    /// incomplete.
    fn check_text(&mut self, whole: bool) -> Result<(), Violation> {
        match str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() && !whole => {
                self.checked += error.valid_up_to();
            }
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }

    /// The event that a frame completes.
    fn event(&mut self, opcode: Opcode) -> Result<Event<'_>, Violation> {
        Ok(match opcode {
            Opcode::Ping => Event::Ping(&self.control),
            Opcode::Pong => Event::Pong,
            Opcode::Close => Event::Close(close_code(&self.control)?),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                let text = self.unfinished.take() == Some(true);
                Event::Message {
                    text,
                    payload: &self.message,
                }
            }
        })
    }
}

/// The length of a payload, unless it is written in more bytes than needed or above 63 bits.
fn payload_length(short: u8, extended: &[u8]) -> Option<u64> {
    let bytes = extended.iter();
    let number = bytes.fold(0, |number, byte| number << 8 | u64::from(*byte));
    match extended.len() {
        0 => Some(short.into()),
        2 => Some(number).filter(|number| *number > 125),
        _ => Some(number).filter(|number| (1 << 16..1 << 63).contains(number)),
    }
}

/// Removes the mask, and turns it to the byte that comes next.
fn unmask(payload: &mut [u8], mask: &mut [u8; 4]) {
    for group in payload.chunks_mut(4) {
        for (byte, mask) in group.iter_mut().zip(*mask) {
            *byte ^= mask;
        }
    }
    mask.rotate_left(payload.len() % 4);
}

/// The code in the payload of a close frame, if there is one.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::ShortClose),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::CloseCode);
            }
            str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Some(code))
        }
    }
}

/// Whether a close frame may carry this code: those that RFC 6455 section 7.4.1 and the IANA
/// registry define for it, and the ranges for libraries and applications (section 7.4.2).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The header of an unfragmented frame with so many bytes of payload. A server sends no mask.
pub fn frame_header(opcode: Opcode, payload: usize) -> Vec<u8> {
    let length = (payload as u64).to_be_bytes();
    let (short, extended) = match payload {
        0..=125 => (length[7], &[][..]),
        126..=0xffff => (126, &length[6..]),
        _ => (127, &length[..]),
    };
    [&[0x80 | opcode as u8, short], extended].concat()
}

/// A close frame; the reason has at most 123 bytes.
pub fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let code = code.map(u16::to_be_bytes);
    let payload = code.map_or(Vec::new(), |code| [&code, reason.as_bytes()].concat());
    [frame_header(Opcode::Close, payload.len()), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 70_000;
    const FIN: u8 = 0x80;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A frame as a client sends it: the first byte, and a payload with its shortest length and a
    /// mask.
    fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let payload = payload.as_ref();
        let mut frame = frame_header(Opcode::Text, payload.len());
        frame[0] = first;
        frame[1] |= 0x80;
        frame.extend_from_slice(&MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    fn frames<'a>(frames: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
        frames
            .into_iter()
            .flat_map(|(first, payload)| frame(first, payload))
            .collect()
    }

    fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
        frame(FIN | 1, payload)
    }

    fn closing(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
        frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// Payloads are shown as they are, long ones by their length.
    fn show(payload: &[u8]) -> String {
        if payload.len() > 40 {
            payload.len().to_string()
        } else {
            payload.escape_ascii().to_string()
        }
    }

    /// The events of an input that arrives in pieces of `size`, and how many bytes had arrived at
    /// the last of them.
    fn feed(input: &[u8], size: usize) -> (Vec<String>, usize) {
        let (mut decoder, mut events, mut arrived, mut at) = (Decoder::new(MAX), Vec::new(), 0, 0);
        'input: for mut piece in input.chunks(size) {
            arrived += piece.len();
            loop {
                let result = decoder.decode(&mut piece);
                let ends = matches!(result, Ok(Some(Event::Close(_))) | Err(_));
                let event = match result {
                    Ok(None) => break,
                    Ok(Some(Event::Message {
                        text: true,
                        payload,
                    })) => format!("text {}", show(payload)),
                    Ok(Some(Event::Message { payload, .. })) => format!("binary {}", show(payload)),
                    Ok(Some(Event::Ping(payload))) => format!("ping {}", show(payload)),
                    Ok(Some(Event::Pong)) => "pong".to_owned(),
                    Ok(Some(Event::Close(None))) => "close".to_owned(),
                    Ok(Some(Event::Close(Some(code)))) => format!("close {code}"),
                    Err(violation) => format!("fail {} {violation:?}", violation.code()),
                };
                events.push(event);
                at = arrived;
                if ends {
                    break 'input;
                }
            }
            assert!(piece.is_empty(), "it takes all of its input");
            assert!(
                decoder.memory() <= 2 * arrived.max(8),
                "{} bytes held of {arrived}",
                decoder.memory()
            );
        }
        (events, at)
    }

    #[track_caller]
    fn check(input: &[u8], expected: &[&str]) {
        for size in [usize::MAX, 1, 2, 3, 7] {
            let (events, _) = feed(input, size);
            assert_eq!(events, expected, "in pieces of {size}: {}", show(input));
        }
    }

    #[test]
    fn the_examples_of_rfc_6455() {
        check(
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            &["text Hello"],
        );
        check(
            b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            &["ping Hello"],
        );
        check(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &["pong"]);
    }

    #[test]
    fn framing() {
        for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, MAX] {
            let shown = show(&vec![b'*'; length]);
            check(&text(vec![b'*'; length]), &[&format!("text {shown}")]);
            check(
                &frame(FIN | 2, vec![b'*'; length]),
                &[&format!("binary {shown}")],
            );
        }
        check(
            &frame(FIN | 2, [0, 0xff, 0xfe]),
            &["binary \\x00\\xff\\xfe"],
        );
        check(b"\x81\x05Hello", &["fail 1002 Unmasked"]);
        check(b"\x89\x00", &["fail 1002 Unmasked"]);
    }

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        let lengths: [(&[u8], &[&str]); 7] = [
            (b"\xfe\0\x7d", &["fail 1002 Length"]),
            (b"\xfe\0\x7e", &[]),
            (b"\xff\0\0\0\0\0\0\xff\xff", &["fail 1002 Length"]),
            (b"\xff\0\0\0\0\0\x01\0\0", &[]),
            (b"\xff\0\0\0\0\0\0\0\0", &["fail 1002 Length"]),
            (b"\xff\x80\0\0\0\0\0\0\0", &["fail 1002 Length"]),
            (
                b"\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
                &["fail 1009 TooLarge"],
            ),
        ];
        for (length, expected) in lengths {
            check(&[b"\x82", length, &MASK].concat(), expected);
        }
    }

    #[test]
    fn pings() {
        let longest = [b'p'; 125];
        check(&frame(PING, ""), &["ping "]);
        check(&frame(PING, "hello"), &["ping hello"]);
        check(&frame(PING, [0, 0xff]), &["ping \\x00\\xff"]);
        check(&frame(PING, longest), &["ping 125"]);
        check(&frame(PING, [b'p'; 126]), &["fail 1002 LongControl"]);
        check(&frame(PONG, "unasked"), &["pong"]);
        check(
            &frames([(PONG, &b"x"[..]), (PING, b"y"), (PING, b"")]),
            &["pong", "ping y", "ping "],
        );
        let ten: Vec<_> = (0..10).flat_map(|_| frame(PING, "x")).collect();
        check(&ten, &["ping x"; 10]);
    }

    #[test]
    fn reserved_bits() {
        for bits in 1..8 {
            for opcode in [1, 2, 8, 9, 10] {
                let input = [
                    text("first"),
                    frame(FIN | bits << 4 | opcode, "x"),
                    frame(PING, ""),
                ]
                .concat();
                check(&input, &["text first", "fail 1002 ReservedBits"]);
            }
        }
    }

    #[test]
    fn reserved_opcodes() {
        for opcode in (3..8).chain(11..16) {
            for payload in ["", "x"] {
                let input = [text("first"), frame(FIN | opcode, payload), frame(PING, "")].concat();
                check(&input, &["text first", "fail 1002 ReservedOpcode"]);
            }
        }
    }

    /// Frames, and the events they make.
    type Case<'a> = (&'a [(u8, &'a [u8])], &'a [&'a str]);

    #[test]
    fn fragments() {
        let table: &[Case<'_>] = &[
            (&[(1, b"ab"), (FIN, b"cd")], &["text abcd"]),
            (
                &[(2, b"ab"), (0, b""), (0, b"c"), (FIN, b"")],
                &["binary abc"],
            ),
            (&[(1, b""), (0, b""), (FIN, b"")], &["text "]),
            (
                &[(1, b"a"), (PING, b"p"), (FIN, b"b")],
                &["ping p", "text ab"],
            ),
            (
                &[(1, b"a"), (PING, b"p"), (0, b"b"), (PONG, b""), (FIN, b"c")],
                &["ping p", "pong", "text abc"],
            ),
            (
                &[(1, b"a"), (CLOSE, b"\x03\xe8"), (FIN, b"b")],
                &["close 1000"],
            ),
            (
                &[(1, b"a"), (FIN, b"b"), (2, b"c"), (FIN, b"d")],
                &["text ab", "binary cd"],
            ),
            (&[(9, b"x")], &["fail 1002 FragmentedControl"]),
            (&[(10, b"x"), (FIN, b"y")], &["fail 1002 FragmentedControl"]),
            (&[(8, b"")], &["fail 1002 FragmentedControl"]),
            (&[(FIN, b"x")], &["fail 1002 NothingToContinue"]),
            (&[(0, b"x"), (FIN, b"y")], &["fail 1002 NothingToContinue"]),
            (
                &[(1, b"a"), (FIN, b"b"), (FIN, b"c")],
                &["text ab", "fail 1002 NothingToContinue"],
            ),
            (
                &[(1, b"a"), (FIN | 1, b"b")],
                &["fail 1002 UnfinishedMessage"],
            ),
            (
                &[(1, b"a"), (PING, b""), (2, b"b")],
                &["ping ", "fail 1002 UnfinishedMessage"],
            ),
            (&[(1, b"a"), (0, b"b")], &[]),
        ];
        for (input, expected) in table {
            check(&frames(input.iter().copied()), expected);
        }
    }

    /// Whole texts, and whether they are UTF-8.
    const TEXTS: &[(&[u8], bool)] = &[
        (b"hello\x24world", true),
        (b"\xc2\xa2 \xe2\x82\xac \xf0\xa4\xad\xa2", true),
        (b"\0 \xc2\x80 \xe0\xa0\x80 \xf0\x90\x80\x80", true),
        (b"\x7f \xdf\xbf \xef\xbf\xbf \xf4\x8f\xbf\xbf", true),
        (b"\xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbd \xef\xbf\xbe", true),
        (b"\xf4\x90\x80\x80", false),
        (b"\xf8\x88\x80\x80\x80", false),
        (b"\xfc\x84\x80\x80\x80\x80", false),
        (b"\x80", false),
        (b"a\xbf", false),
        (b"\xc0 ", false),
        (b"\xe0 ", false),
        (b"\xf0 ", false),
        (b"\xc0\xaf", false),
        (b"\xe0\x80\xaf", false),
        (b"\xf0\x80\x80\xaf", false),
        (b"\xc1\xbf", false),
        (b"\xe0\x9f\xbf", false),
        (b"\xf0\x8f\xbf\xbf", false),
        (b"\xed\xa0\x80", false),
        (b"\xed\xbf\xbf", false),
        (b"\xed\xa0\x80\xed\xb0\x80", false),
        (b"\xfe", false),
        (b"\xff\xff", false),
        (b"hello \xdf", false),
        (b"\xce\xba\xe1\xbd", false),
        (b"\xef\xbf", false),
        (b"\xf0\x9f\x98", false),
    ];

    #[test]
    fn utf8_whole_and_in_fragments() {
        for (payload, valid) in TEXTS {
            let shown = format!("text {}", show(payload));
            let expected = [if *valid { &*shown } else { "fail 1007 NotUtf8" }];
            check(&text(payload), &expected);
            let bytes: Vec<_> = payload.chunks(1).map(|byte| (0, byte)).collect();
            let mut fragments = frames(
                std::iter::once((1, &b""[..]))
                    .chain(bytes)
                    .chain([(FIN, &b""[..])]),
            );
            check(&fragments, &expected);
            fragments[0] = 2;
            check(&fragments, &[&shown.replace("text", "binary")]);
        }
    }

    /// A wrong byte is found when it arrives, whatever of its frame and message is still to come.
    #[test]
    fn utf8_fails_at_once() {
        for (payload, bad) in [
            (
                &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited"[..],
                12,
            ),
            (b"ab\xed\xa0\x80edited", 3),
            (b"\xf5 more", 0),
        ] {
            let whole = text(payload);
            let start = whole.len() - payload.len();
            assert_eq!(
                feed(&whole, 1),
                (vec!["fail 1007 NotUtf8".to_owned()], start + bad + 1)
            );
            let fragments = [frame(1, &payload[..=bad]), frame(FIN, &payload[bad + 1..])].concat();
            assert_eq!(feed(&fragments, 1).1, 6 + bad + 1);
        }
    }

    #[test]
    fn closes() {
        let long = "r".repeat(123);
        let table: &[(Vec<u8>, &str)] = &[
            (frame(CLOSE, ""), "close"),
            (frame(CLOSE, "x"), "fail 1002 ShortClose"),
            (closing(1000, ""), "close 1000"),
            (closing(1001, "bye"), "close 1001"),
            (closing(1000, &long), "close 1000"),
            (closing(1000, long + "r"), "fail 1002 LongControl"),
            (closing(1000, b"\xce\xba\xed\xa0\x80"), "fail 1007 NotUtf8"),
            (closing(1000, b"\xce"), "fail 1007 NotUtf8"),
        ];
        for (input, expected) in table {
            check(input, &[expected]);
        }
    }

    #[test]
    fn close_codes() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            check(&closing(code, ""), &[&format!("close {code}")]);
        }
        for code in [
            0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
        ] {
            check(&closing(code, ""), &["fail 1002 CloseCode"]);
        }
    }

    #[test]
    fn limits() {
        check(&text(vec![b'x'; MAX + 1]), &["fail 1009 TooLarge"]);
        let parts = [frame(2, vec![0; MAX - 1]), frame(0, "x"), frame(FIN, "")].concat();
        check(&parts, &[&format!("binary {MAX}")]);
        let parts = [frame(2, vec![0; MAX - 1]), frame(0, "x"), frame(FIN, "y")].concat();
        check(&parts, &["fail 1009 TooLarge"]);
        // The limit is one of a message, not of a connection.
        let twice = [
            text(vec![b'x'; MAX]),
            frame(PING, [0; 125]),
            text(vec![b'x'; MAX]),
        ]
        .concat();
        check(
            &twice,
            &[&*format!("text {MAX}"), "ping 125", &*format!("text {MAX}")],
        );
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = Decoder::new(1 << 40);
        let mut input = &b"\x82\xff\0\0\0\xff\0\0\0\0\0\0\0\0\x01\x02"[..];
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.memory() <= 16, "{}", decoder.memory());
    }

    #[test]
    fn released_memory() {
        let mut decoder = Decoder::new(MAX);
        let first = [frame(1, vec![b'x'; 5000]), frame(FIN, "")].concat();
        let (mut half, mut rest) = first.split_at(2000);
        assert_eq!(decoder.decode(&mut half), Ok(None));
        decoder.release();
        let payload = &*vec![b'x'; 5000];
        assert_eq!(
            decoder.decode(&mut rest),
            Ok(Some(Event::Message {
                text: true,
                payload
            }))
        );
        decoder.release();
        assert_eq!(decoder.memory(), 0);
        assert_eq!(
            decoder.decode(&mut &*text("y")),
            Ok(Some(Event::Message {
                text: true,
                payload: b"y"
            }))
        );
    }

    #[test]
    fn headers_of_a_server() {
        let table: [(Opcode, usize, &[u8]); 8] = [
            (Opcode::Text, 5, b"\x81\x05"),
            (Opcode::Ping, 0, b"\x89\x00"),
            (Opcode::Pong, 125, b"\x8a\x7d"),
            (Opcode::Binary, 126, b"\x82\x7e\x00\x7e"),
            (Opcode::Binary, 256, b"\x82\x7e\x01\x00"),
            (Opcode::Binary, 65_535, b"\x82\x7e\xff\xff"),
            (Opcode::Binary, 65_536, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
            (
                Opcode::Text,
                0x0102_0304_0506,
                b"\x81\x7f\0\0\x01\x02\x03\x04\x05\x06",
            ),
        ];
        for (opcode, length, expected) in table {
            assert_eq!(
                frame_header(opcode, length),
                expected,
                "{opcode:?} {length}"
            );
        }
    }

    #[test]
    fn close_frames_of_a_server() {
        assert_eq!(close_frame(None, "ignored"), b"\x88\x00");
        assert_eq!(close_frame(Some(GOING_AWAY), "bye"), b"\x88\x05\x03\xe9bye");
        for violation in Violation::ALL {
            let frame = close_frame(Some(violation.code()), violation.label());
            assert!(frame.len() <= 2 + CONTROL_PAYLOAD, "{violation}");
            assert!(frame.ends_with(violation.to_string().as_bytes()));
        }
    }
}
