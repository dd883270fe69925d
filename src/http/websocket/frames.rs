//! WebSocket frames (RFC 6455 section 5), as a server reads and writes them.
//!
//! The decoder takes the client's bytes in pieces of any size. It removes the mask, joins
//! fragments, lets control frames pass between them, and yields one event at a time. For an error
//! it returns the close code (section 7.4.1). A frame's length is only believed as far as bytes
//! arrive: a message grows by what was received, so nobody reserves memory by announcing a size.
//! Text is checked as it arrives, so a wrong byte ends the connection at once and not after the
//! last byte of a long message.

use std::error::Error;
use std::fmt;
use std::str;

/// The largest payload of a control frame, in bytes (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: usize = 125;
/// The longest header of a frame from a client, in bytes: two, a length of eight, a mask of four.
const CLIENT_HEADER: usize = 14;

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
    /// A ping, to be answered by a pong with this payload.
    Ping(&'a [u8]),
    /// A pong; a server may ignore it.
    Pong,
    /// The client sends no more; to be answered by a close frame, if none was sent before.
    Close {
        /// Why, as a number, if it told.
        code: Option<u16>,
        /// Why, in words, often empty.
        reason: &'a str,
    },
}

/// What a client did wrong, which ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame without a mask.
    Unmasked,
    /// One of the three bits that belong to extensions.
    ReservedBits,
    /// An opcode without a meaning.
    ReservedOpcode,
    /// A control frame that is only a fragment.
    FragmentedControl,
    /// A control frame with more than 125 bytes.
    LongControl,
    /// A continuation without a message to continue.
    NothingToContinue,
    /// A new message before the last fragment of the one before.
    UnfinishedMessage,
    /// A length in more bytes than it needs, or above 63 bits.
    Length,
    /// A close frame with half of a code.
    ShortClose,
    /// A close frame with a code that nobody may send.
    CloseCode,
    /// Text or a close reason that is not UTF-8.
    NotUtf8,
    /// A message above the limit.
    TooLarge,
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

    /// What is wrong, in words that fit into a close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::Unmasked => "a frame without a mask",
            Violation::ReservedBits => "a reserved bit is set",
            Violation::ReservedOpcode => "a reserved opcode",
            Violation::FragmentedControl => "a fragmented control frame",
            Violation::LongControl => "a control frame with more than 125 bytes",
            Violation::NothingToContinue => "a continuation without a message",
            Violation::UnfinishedMessage => "a new message before the end of the last one",
            Violation::Length => "a length that is not in its shortest form",
            Violation::ShortClose => "a close frame with one byte",
            Violation::CloseCode => "a close code that may not be sent",
            Violation::NotUtf8 => "text that is not UTF-8",
            Violation::TooLarge => "a message above the limit",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl Error for Violation {}

/// Reads the frames of one client.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    header: Header,
    frame: Option<Frame>,
    /// Whether the message that has begun is text.
    unfinished: Option<bool>,
    message: Vec<u8>,
    /// How much of the text is known to be UTF-8; behind it stands at most the start of one
    /// character.
    checked: usize,
    control: Vec<u8>,
    ended: bool,
}

/// The bytes of a header, as far as they have arrived.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; CLIENT_HEADER],
    length: usize,
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
            header: Header::default(),
            frame: None,
            unfinished: None,
            message: Vec::new(),
            checked: 0,
            control: Vec::new(),
            ended: false,
        }
    }

    /// Takes bytes from the front of `input` up to the end of the next event; `None` when all of it
    /// is taken and no event is complete. After a close frame or a violation everything else is
    /// dropped.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, Violation> {
        if self.ended {
            *input = &[];
            return Ok(None);
        }
        match self.next_frame(input) {
            Ok(Some(opcode)) => self.event(opcode).map(Some),
            Ok(None) => Ok(None),
            Err(violation) => {
                self.ended = true;
                Err(violation)
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

    /// Reads to the end of a frame that completes an event.
    fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Opcode>, Violation> {
        loop {
            let mut frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            self.read_payload(&mut frame, input)?;
            self.frame = (frame.left > 0).then_some(frame);
            if self.frame.is_some() {
                return Ok(None);
            }
            if frame.last {
                return Ok(Some(frame.opcode));
            }
        }
    }

    /// Reads to the end of a header.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        while !self.header.is_whole() {
            let Some((byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            *input = rest;
            self.header.bytes[self.header.length] = *byte;
            self.header.length += 1;
            if self.header.length == 2 {
                self.check_start()?;
            }
        }
        let header = std::mem::take(&mut self.header);
        self.start_frame(&header).map(Some)
    }

    /// What the first two bytes of a frame have to keep.
    fn check_start(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header.bytes;
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
            None => Ok(()),
        }
    }

    fn start_frame(&mut self, header: &Header) -> Result<Frame, Violation> {
        let opcode = Opcode::from_bits(header.bytes[0] & 0x0f).ok_or(Violation::ReservedOpcode)?;
        let (left, mask) = header.length_and_mask().ok_or(Violation::Length)?;
        match opcode {
            Opcode::Text | Opcode::Binary => {
                self.unfinished = Some(opcode == Opcode::Text);
                self.message.clear();
                self.checked = 0;
            }
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control.clear(),
        }
        if !opcode.is_control() && left > (self.max_message - self.message.len()) as u64 {
            return Err(Violation::TooLarge);
        }
        Ok(Frame {
            opcode,
            last: header.bytes[0] & 0x80 != 0,
            mask,
            left,
        })
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
            Opcode::Close => {
                self.ended = true;
                return close(&self.control);
            }
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

impl Header {
    fn is_whole(&self) -> bool {
        let whole = match self.bytes[1] & 0x7f {
            126 => 8,
            127 => CLIENT_HEADER,
            _ => 6,
        };
        self.length >= 2 && self.length == whole
    }

    /// The length of the payload, unless it is written in more bytes than needed, and the mask.
    fn length_and_mask(&self) -> Option<(u64, [u8; 4])> {
        let (extended, mask) = self.bytes[2..self.length].split_last_chunk()?;
        let number = extended
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (length, needs_all_its_bytes) = match extended.len() {
            0 => (u64::from(self.bytes[1] & 0x7f), true),
            2 => (number, number > 125),
            _ => (number, (1 << 16..1 << 63).contains(&number)),
        };
        needs_all_its_bytes.then_some((length, *mask))
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

/// What a close frame says.
fn close(payload: &[u8]) -> Result<Event<'_>, Violation> {
    match payload {
        [] => Ok(Event::Close {
            code: None,
            reason: "",
        }),
        [_] => Err(Violation::ShortClose),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::CloseCode);
            }
            let reason = str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Event::Close {
                code: Some(code),
                reason,
            })
        }
    }
}

/// Whether a close frame may carry this code: those that RFC 6455 section 7.4.1 and the IANA
/// registry define for it, and the ranges for libraries and applications (section 7.4.2).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The header of a frame from a server, which has no mask.
#[derive(Clone, Copy, Debug)]
pub struct FrameHeader {
    bytes: [u8; 10],
    length: usize,
}

impl FrameHeader {
    /// The header of an unfragmented frame with so many bytes of payload.
    pub fn new(opcode: Opcode, payload: usize) -> FrameHeader {
        let number = (payload as u64).to_be_bytes();
        let (short, extended) = match payload {
            0..=125 => (number[7], &[][..]),
            126..=0xffff => (126, &number[6..]),
            _ => (127, &number[..]),
        };
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&[0x80 | opcode as u8, short]);
        let length = 2 + extended.len();
        bytes[2..length].copy_from_slice(extended);
        FrameHeader { bytes, length }
    }

    /// Its bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A close frame; a reason that does not fit is cut.
pub fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let fits = |end: &usize| *end <= CONTROL_PAYLOAD - 2 && reason.is_char_boundary(*end);
    let end = (0..=reason.len()).rev().find(fits).unwrap_or(0);
    let code = code.map(u16::to_be_bytes);
    let payload = code.map_or(Vec::new(), |code| {
        [&code, &reason.as_bytes()[..end]].concat()
    });
    [
        FrameHeader::new(Opcode::Close, payload.len()).as_bytes(),
        &payload,
    ]
    .concat()
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
        let mut frame = FrameHeader::new(Opcode::Text, payload.len())
            .as_bytes()
            .to_vec();
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
        for mut piece in input.chunks(size) {
            arrived += piece.len();
            loop {
                let event = match decoder.decode(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(Event::Message {
                        text: true,
                        payload,
                    })) => format!("text {}", show(payload)),
                    Ok(Some(Event::Message { payload, .. })) => format!("binary {}", show(payload)),
                    Ok(Some(Event::Ping(payload))) => format!("ping {}", show(payload)),
                    Ok(Some(Event::Pong)) => "pong".to_owned(),
                    Ok(Some(Event::Close { code: None, reason })) => format!("close {reason}"),
                    Ok(Some(Event::Close {
                        code: Some(code),
                        reason,
                    })) => format!("close {code} {}", show(reason.as_bytes())),
                    Err(violation) => format!("fail {} {violation:?}", violation.code()),
                };
                events.push(event);
                at = arrived;
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
                &["close 1000 "],
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
            (frame(CLOSE, ""), "close "),
            (frame(CLOSE, "x"), "fail 1002 ShortClose"),
            (closing(1000, ""), "close 1000 "),
            (closing(1001, "bye"), "close 1001 bye"),
            (closing(1000, &long), "close 1000 123"),
            (closing(1000, long + "r"), "fail 1002 LongControl"),
            (closing(1000, b"\xce\xba\xed\xa0\x80"), "fail 1007 NotUtf8"),
            (closing(1000, b"\xce"), "fail 1007 NotUtf8"),
        ];
        for (input, expected) in table {
            check(input, &[expected]);
            // What follows a close frame or an error is dropped.
            check(
                &[
                    &input[..],
                    &text("late"),
                    &frame(PING, ""),
                    &frame(0xf7, ""),
                ]
                .concat(),
                &[expected],
            );
        }
    }

    #[test]
    fn close_codes() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            check(&closing(code, ""), &[&format!("close {code} ")]);
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
                FrameHeader::new(opcode, length).as_bytes(),
                expected,
                "{opcode:?} {length}"
            );
        }
    }

    #[test]
    fn close_frames_of_a_server() {
        assert_eq!(close_frame(None, "ignored"), b"\x88\x00");
        assert_eq!(close_frame(Some(GOING_AWAY), "bye"), b"\x88\x05\x03\xe9bye");
        assert_eq!(close_frame(Some(1000), &"r".repeat(200)).len(), 127);
        let cut = close_frame(Some(1000), &"\u{e9}".repeat(100));
        assert_eq!(
            (cut.len(), cut[1], str::from_utf8(&cut[4..]).is_ok()),
            (126, 124, true)
        );
        for violation in [
            Violation::LongControl,
            Violation::NotUtf8,
            Violation::TooLarge,
        ] {
            let frame = close_frame(Some(violation.code()), violation.reason());
            assert!(frame.ends_with(violation.to_string().as_bytes()));
        }
    }
}
