//! As much JSON as `watch` needs: to write an object, and to find a string member of one.
//!
//! The reader takes the beginning of an object too, because only the beginning of a long body is
//! kept.

use std::fmt;

use crate::observe::escape::json_string;

/// An object that is written member by member.
#[derive(Debug, Default)]
pub struct Object(String);

impl Object {
    /// With one more member, whose value is JSON already.
    pub fn member(mut self, name: &str, value: impl fmt::Display) -> Object {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0 += &format!("{comma}{}:{value}", string(name));
        self
    }

    /// With one more member, a text.
    pub fn text(self, name: &str, value: &str) -> Object {
        self.member(name, string(value))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

/// A text as a JSON string, quotes included.
fn string(text: &str) -> String {
    let mut json = Vec::new();
    json_string(text.as_bytes(), &mut |bytes| json.extend_from_slice(bytes));
    String::from_utf8(json).unwrap_or_default()
}

/// The value of the object's own member of this name, if it is a string.
pub fn member(json: &[u8], name: &str) -> Option<String> {
    let (mut at, mut depth, mut key) = (0, 0, None);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 1 => key = None,
            b'"' => {
                let (text, end) = read_string(json, at)?;
                at = end;
                match &key {
                    None if depth == 1 => key = Some(text),
                    Some(key) if depth == 1 && key == name => return Some(text),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    None
}

/// The string whose first character is at this place, and the place behind its closing quote.
fn read_string(json: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut bytes, mut at) = (Vec::new(), start);
    loop {
        match *json.get(at)? {
            b'"' => return Some((String::from_utf8_lossy(&bytes).into_owned(), at + 1)),
            b'\\' => {
                let (char, length) = read_escape(json.get(at + 1..)?)?;
                bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                at += 1 + length;
            }
            byte => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
}

/// The character of an escape without its backslash, and the length of that; half of a surrogate
/// pair is `U+FFFD`.
fn read_escape(escape: &[u8]) -> Option<(char, usize)> {
    let char = match escape.first()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => {
            let digits = str::from_utf8(escape.get(1..5)?).ok()?;
            let code = u32::from_str_radix(digits, 16).ok()?;
            return Some((char::from_u32(code).unwrap_or('\u{fffd}'), 5));
        }
        other => char::from(*other),
    };
    Some((char, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, pod: Option<&str>) {
        assert_eq!(member(json.as_bytes(), "pod").as_deref(), pod, "{json}");
    }

    #[test]
    fn only_the_objects_own_members_count() {
        check(r#"{"a":1.5,"pod":"x-1","b":[]}"#, Some("x-1"));
        check(r#" { "a" : "pod" , "pod" : "x" } "#, Some("x"));
        check(
            r#"{"a":{"pod":"inner"},"l":[["pod","field"],"pod"],"pod":"outer"}"#,
            Some("outer"),
        );
        check(
            r#"{"a":"\",\"pod\":\"forged\"","pod":"true\u0041\n\/"}"#,
            Some("trueA\n/"),
        );
        check(r#"{"pod":null,"a":"b"}"#, None);
        check(r#"{"pod":7}"#, None);
        check(r#"["pod","x"]"#, None);
        check(r#""pod":"x""#, None);
        check("", None);
    }

    #[test]
    fn an_object_that_was_cut() {
        check(r#"{"pod":"x","body":"long"#, Some("x"));
        check(r#"{"pod":"x"#, None);
        check(r#"{"body":"long\"#, None);
        check(r#"{"body":"\u00"#, None);
    }
}
