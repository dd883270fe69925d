//! The one parser of the access log's lines. It takes a line of either format apart and gives the same fields for both;
//! a line that some log tool could misread is an error.
//!
//! A line of text is the combined format: parts between spaces, where quotes and brackets hold parts together and a
//! backslash guards the next byte, then `name=value` pairs. A line of JSON is one flat object.

use std::collections::BTreeMap;

use serde_json::Value;

/// The one field that not every line has: only a WebSocket counts messages.
const OPTIONAL: &str = "messages";

/// Every field of a JSON line, in order, and its type.
const JSON: &[(&str, Kind)] = &[
    ("time", Kind::Text),
    ("level", Kind::Text),
    ("client", Kind::Text),
    ("peer", Kind::Text),
    ("method", Kind::Text),
    ("target", Kind::Text),
    ("route", Kind::Text),
    ("protocol", Kind::Text),
    ("user_agent", Kind::Text),
    ("referrer", Kind::Text),
    ("request_id", Kind::Text),
    ("trace_id", Kind::Text),
    ("host", Kind::Text),
    ("reason", Kind::Text),
    ("fault", Kind::Text),
    ("forwarded_for", Kind::Text),
    ("status", Kind::Number),
    ("bytes", Kind::Number),
    (OPTIONAL, Kind::Number),
    ("delay", Kind::Number),
    ("duration", Kind::Number),
    ("complete", Kind::Flag),
];

/// The pairs behind the combined format, in order.
const PAIRS: &[&str] = &[
    "level",
    "peer",
    "route",
    "delay",
    "request_id",
    "trace_id",
    "host",
    "forwarded_for",
    "reason",
    "fault",
    OPTIONAL,
    "duration",
    "complete",
];

/// The formats, for tests that hold for both.
pub(crate) const FORMATS: [&str; 2] = ["text", "json"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Flag,
}

/// A line, taken apart; what is absent is empty.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    fields: BTreeMap<String, String>,
}

impl Line {
    /// Takes a line apart or says what is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let parsed = match line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            false => Err("something else than printable ASCII".to_owned()),
            true if line.starts_with('{') => json(line),
            true => text(line),
        };
        let line = parsed.map_err(|what| format!("{what} in the log line {line:?}"));
        line.map(|fields| Self { fields })
    }

    /// A field as text.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A field that is a number.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> f64 {
        let text = self.field(name);
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?} in {self:?}"))
    }

    /// The status.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.field("status")
            .parse()
            .unwrap_or_else(|_| panic!("no status in {self:?}"))
    }
}

/// The whole lines of a log.
#[track_caller]
pub(crate) fn lines_of(log: &str) -> Vec<Line> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line| Line::parse(line).unwrap_or_else(|what| panic!("{what}"));
    whole.lines().map(line).collect()
}

/// The statuses of some lines, sorted: lines of different connections may be written in another order than their
/// responses.
pub(crate) fn sorted_statuses(lines: &[Line]) -> Vec<u16> {
    let mut statuses: Vec<u16> = lines.iter().map(Line::status).collect();
    statuses.sort_unstable();
    statuses
}

fn json(line: &str) -> Result<BTreeMap<String, String>, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("no object")?;
    let (mut fields, mut from) = (BTreeMap::new(), 0);
    let there = |name: &str| name != OPTIONAL || object.contains_key(OPTIONAL);
    for (name, kind) in JSON.iter().filter(|(name, _)| there(name)) {
        // A quote inside a value has a backslash before it, so this can only be a key.
        let key = format!("\"{name}\":");
        if line.matches(&key).count() != 1 {
            return Err(format!("not one {name}"));
        }
        from += line[from..]
            .find(&key)
            .ok_or_else(|| format!("{name} is not in its place"))?;
        let text = match &object[*name] {
            Value::String(text) if *kind == Kind::Text => text.clone(),
            Value::Number(number) if *kind == Kind::Number => number.to_string(),
            Value::Bool(flag) if *kind == Kind::Flag => flag.to_string(),
            other => return Err(format!("{name} is {other}")),
        };
        fields.insert((*name).to_owned(), text);
    }
    if object.len() != fields.len() {
        return Err("a field that nobody knows".to_owned());
    }
    let time = &fields["time"];
    let digits = shape(time) == "0000-00-00T00:00:00.000Z";
    digits
        .then_some(())
        .ok_or_else(|| format!("time {time:?}"))?;
    Ok(fields)
}

fn text(line: &str) -> Result<BTreeMap<String, String>, String> {
    let parts = parts(line)?;
    let optional = format!("{OPTIONAL}=");
    let counts = parts.iter().any(|part| part.starts_with(&optional));
    let pairs: Vec<&str> = PAIRS
        .iter()
        .copied()
        .filter(|name| *name != OPTIONAL || counts)
        .collect();
    let count = 9 + pairs.len();
    if parts.len() != count {
        return Err(format!("{} parts, not {count}", parts.len()));
    }
    let time = shape(&parts[3].replace(char::is_alphabetic, "x"));
    if parts[1..3] != ["-", "-"] || time != "[00/xxx/0000:00:00:00 +0000]" {
        return Err("a wrong start".to_owned());
    }
    if parts[5].parse::<u16>().is_err() || parts[6].parse::<u64>().is_err() {
        return Err("no status or no bytes".to_owned());
    }
    let request = quoted(&parts[4])?;
    let words: Vec<&str> = request.split(' ').collect();
    let (method, target, protocol) = match words[..] {
        [method, target, protocol] => (method, target, protocol),
        _ => ("", &request[..], ""),
    };
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        let value = if value == "-" { "" } else { value };
        fields.insert(name.to_owned(), value.to_owned());
    };
    put("client", &parts[0]);
    put("time", &parts[3]);
    put("method", method);
    put("target", target);
    put("protocol", protocol);
    put("status", &parts[5]);
    put("bytes", &parts[6]);
    put("referrer", &quoted(&parts[7])?);
    put("user_agent", &quoted(&parts[8])?);
    for (part, name) in parts[9..].iter().zip(pairs) {
        put(name, &value_of(part, name)?);
    }
    Ok(fields)
}

/// The value of the pair `name=value`, whose value may stand in quotes.
fn value_of(pair: &str, name: &str) -> Result<String, String> {
    match pair
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='))
    {
        None | Some("") => Err(format!("no {name}")),
        Some(value) if value.starts_with('"') => quoted(value),
        Some(value) => Ok(value.to_owned()),
    }
}

/// What stands in quotes.
fn quoted(part: &str) -> Result<String, String> {
    let inner = part
        .strip_prefix('"')
        .and_then(|part| part.strip_suffix('"'));
    unescaped(inner.ok_or_else(|| format!("{part} is not quoted"))?)
}

/// Splits a line of text at the spaces outside quotes and brackets; a backslash guards the next byte.
fn parts(line: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut part, mut closing, mut guarded) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, closing) {
            _ if guarded => guarded = false,
            ('\\', _) => guarded = true,
            (' ', None) => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            ('"', None) => closing = Some('"'),
            ('[', None) if part.is_empty() => closing = Some(']'),
            (c, Some(close)) if c == close => closing = None,
            _ => {}
        }
        part.push(c);
    }
    if closing.is_some() || guarded {
        return Err("an open quote".to_owned());
    }
    parts.push(part);
    Ok(parts)
}

/// Takes the escapes `\"`, `\\` and `\xNN` back; bytes that are no text become the replacement character.
fn unescaped(text: &str) -> Result<String, String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'\\', [c @ (b'"' | b'\\'), after @ ..]) => (*c, after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = String::from_utf8_lossy(&[*high, *low]).into_owned();
                let byte = u8::from_str_radix(&digits, 16);
                (byte.map_err(|_| format!("an escape of {digits:?}"))?, after)
            }
            (b'\\' | b'"', _) => return Err(format!("a bad escape in {text}")),
            (other, after) => (*other, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn shape(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect()
}

#[test]
fn a_bad_line_is_refused() {
    let text = "1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"\\\"\\\\\\xff\" level=info \
                peer=1.2.3.4:5 route=echo delay=0.0 request_id=x trace_id=- host=\"a b\" forwarded_for=\"\" reason=- \
                fault=- duration=0.1 complete=true";
    let parsed = Line::parse(text).expect("it is good");
    assert_eq!(parsed.field("user_agent"), "\"\\\u{fffd}");
    assert_eq!(
        (parsed.field("trace_id"), parsed.field("target")),
        ("", "/a")
    );
    assert_eq!(
        (parsed.field("host"), parsed.field("forwarded_for")),
        ("a b", "")
    );
    for (good, bad) in [
        ("\\\\\\xff", "\\\\\\xff\\"),
        ("\\xff", "\\xfg"),
        ("\\xff", "\\n"),
        ("\\xff", "\u{e9}"),
        ("\\\"", "\""),
        (" 200 ", " x "),
        (" 5 ", " -5 "),
        ("01/Jan", "1/Jan"),
        ("route=echo", "route="),
        ("route=echo ", ""),
        ("route=echo", "route=echo level=error"),
        ("complete=true", "complete=true forged=1"),
    ] {
        assert!(
            text.contains(good) && Line::parse(&text.replacen(good, bad, 1)).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_bad_object_is_refused() {
    let text = |name: &str| format!("\"{name}\":\"x\"");
    let member = |(name, kind): &(&str, Kind)| match (*name, kind) {
        ("time", _) => "\"time\":\"2026-01-01T00:00:00.000Z\"".to_owned(),
        ("target", _) => "\"target\":\"/\\u00e9\"".to_owned(),
        ("user_agent", _) => "\"user_agent\":\"\\\"status\\\":9\"".to_owned(),
        (name, Kind::Text) => text(name),
        (name, Kind::Number) => format!("\"{name}\":200"),
        (name, Kind::Flag) => format!("\"{name}\":true"),
    };
    let json = format!(
        "{{{}}}",
        JSON.iter().map(member).collect::<Vec<_>>().join(",")
    );
    let parsed = Line::parse(&json).expect("it is good");
    assert_eq!((parsed.field("target"), parsed.status()), ("/\u{e9}", 200));
    for (good, bad) in [
        ("\\u00e9", "\u{e9}"),
        ("\"status\":200", "\"status\":\"200\""),
        ("\"status\":200", "\"status\":200,\"status\":201"),
        ("\"level\":\"x\",", ""),
        ("\"level\":\"x\"", "\"level\":{}"),
        (
            "\"level\":\"x\",\"client\":\"x\"",
            "\"client\":\"x\",\"level\":\"x\"",
        ),
        ("}", ",\"more\":1}"),
        ("}", "}x"),
        ("00.000Z", "00Z"),
    ] {
        assert!(
            json.contains(good) && Line::parse(&json.replacen(good, bad, 1)).is_err(),
            "{bad}"
        );
    }
}
