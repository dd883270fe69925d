//! A strict reader of JSON (RFC 8259), small enough not to need a package: what it takes, any log tool takes.

/// A value; numbers stay as they were written, so that a test can see their digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| format!("{error} in {}", bytes.escape_ascii()))?;
        let mut rest = text;
        value(&mut rest)
            .filter(|_| rest.trim_matches([' ', '\n', '\r', '\t']).is_empty())
            .ok_or_else(|| format!("no JSON at {rest:?} in {text:?}"))
    }

    /// A member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// A member of an object as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Self::Text(text) | Self::Number(text)) => text,
            other => panic!("{name} is {other:?} in {self:?}"),
        }
    }
}

fn value(rest: &mut &str) -> Option<Json> {
    space(rest);
    let value = match rest.chars().next()? {
        '"' => Json::Text(string(rest)?),
        '[' => Json::List(sequence(rest, "[", "]", value)?),
        '{' => {
            let members = sequence(rest, "{", "}", member)?;
            let twice = |name| members.iter().filter(|(other, _)| other == name).count() > 1;
            if members.iter().any(|(name, _)| twice(name)) {
                return None;
            }
            Json::Object(members)
        }
        '-' | '0'..='9' => Json::Number(number(rest)?),
        _ => [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ]
        .into_iter()
        .find_map(|(word, value)| take(rest, word).map(|()| value))?,
    };
    space(rest);
    Some(value)
}

fn member(rest: &mut &str) -> Option<(String, Json)> {
    space(rest);
    let name = string(rest)?;
    space(rest);
    take(rest, ":")?;
    Some((name, value(rest)?))
}

fn sequence<T>(
    rest: &mut &str,
    open: &str,
    close: &str,
    item: fn(&mut &str) -> Option<T>,
) -> Option<Vec<T>> {
    take(rest, open)?;
    space(rest);
    let mut items = Vec::new();
    if take(rest, close).is_some() {
        return Some(items);
    }
    loop {
        items.push(item(rest)?);
        space(rest);
        if take(rest, close).is_some() {
            return Some(items);
        }
        take(rest, ",")?;
    }
}

fn string(rest: &mut &str) -> Option<String> {
    take(rest, "\"")?;
    let mut text = String::new();
    loop {
        let next = rest.chars().next()?;
        *rest = &rest[next.len_utf8()..];
        match next {
            '"' => return Some(text),
            '\\' => text.push(escape(rest)?),
            '\0'..='\x1f' => return None,
            other => text.push(other),
        }
    }
}

fn escape(rest: &mut &str) -> Option<char> {
    let next = rest.chars().next()?;
    *rest = &rest[next.len_utf8()..];
    Some(match next {
        '"' | '\\' | '/' => next,
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let digits = rest
                .get(..4)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            *rest = &rest[4..];
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
        }
        _ => return None,
    })
}

fn number(rest: &mut &str) -> Option<String> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c))
        .unwrap_or(rest.len());
    let (number, tail) = rest.split_at(end);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let whole = digits.split(['.', 'e', 'E']).next()?;
    let sound =
        !whole.is_empty() && (whole == "0" || !whole.starts_with('0')) && !number.ends_with('.');
    *rest = tail;
    (sound && number.parse::<f64>().is_ok()).then(|| number.to_owned())
}

fn take(rest: &mut &str, word: &str) -> Option<()> {
    *rest = rest.strip_prefix(word)?;
    Some(())
}

fn space(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\n', '\r', '\t']);
}

#[test]
fn json_is_read_strictly() {
    for good in [
        r#"{"a":[1,-0.5,1e9,null,true,"\u00e9\n\\"],"b":{}}"#,
        " [] ",
        "\"\u{2028}\"",
    ] {
        assert!(Json::read(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "",
        "{",
        "{} x",
        "{\"a\":1,}",
        "[1 2]",
        "01",
        "1.",
        "\"\n\"",
        r#""\x""#,
        "{\"a\":1,\"a\":2}",
        "nul",
        "\"\\ud800\"",
    ] {
        assert!(Json::read(bad.as_bytes()).is_err(), "{bad}");
    }
}
