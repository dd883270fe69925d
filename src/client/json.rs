//! A JSON object that is written member by member, for the output of `watch`.

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
