//! Which form of the echo an `Accept` field prefers (RFC 9110 section 12.5.1).
//!
//! Several `Accept` fields are one list (RFC 9110 section 5.3). A range such as `*/*` asks for no
//! form in particular, so it gets text; HTML is for clients that name `text/html`.

use crate::http::field;

/// A form of the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `text/plain`.
    Text,
    /// `application/json`.
    Json,
    /// `text/html`.
    Html,
}

/// What the list says of one form, by the most specific range that matches it.
#[derive(Clone, Copy)]
struct Preference {
    form: Form,
    /// That of the range in `RANGES`: 0 for the type itself, 1 for `type/*`, 2 for `*/*`.
    rank: usize,
    /// In thousandths.
    weight: u32,
    /// The place of the range in the list.
    place: usize,
}

/// The ranges that match a form, each with its rank and its forms.
const RANGES: [(&[u8], usize, &[Form]); 6] = [
    (b"text/plain", 0, &[Form::Text]),
    (b"application/json", 0, &[Form::Json]),
    (b"text/html", 0, &[Form::Html]),
    (b"text/*", 1, &[Form::Text, Form::Html]),
    (b"application/*", 1, &[Form::Json]),
    (b"*/*", 2, &[Form::Text, Form::Json, Form::Html]),
];

/// The form that the values of `Accept` prefer. At equal weight the one that is named first wins.
pub fn preferred<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Form {
    let mut preferences = [Form::Text, Form::Json, Form::Html].map(|form| Preference {
        form,
        rank: usize::MAX,
        weight: 0,
        place: usize::MAX,
    });
    let ranges = accept.flat_map(field::list).enumerate();
    // Images, fonts and the like are no form of the echo.
    let counts = |range: &[u8]| matches!(range, [b't' | b'T' | b'a' | b'A' | b'*', ..]);
    for (place, range) in ranges.filter(|(_, range)| counts(range)) {
        let end = range.iter().position(|byte| *byte == b';');
        let (name, parameters) = range.split_at(end.unwrap_or(range.len()));
        let name = name.trim_ascii_end();
        let known = RANGES
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let Some((_, rank, forms)) = known else {
            continue;
        };
        let weight = weight(parameters);
        for form in *forms {
            let preference = &mut preferences[*form as usize];
            if *rank < preference.rank {
                (preference.rank, preference.weight) = (*rank, weight);
                preference.place = if *rank < 2 { place } else { usize::MAX };
            }
        }
    }
    let [text, json, html] = preferences;
    let best = if json.beats(&text) { json } else { text };
    if html.rank == 0 && html.beats(&best) {
        Form::Html
    } else {
        best.form
    }
}

impl Preference {
    fn beats(&self, other: &Preference) -> bool {
        self.weight > other.weight
            || (self.weight == other.weight && self.weight > 0 && self.place < other.place)
    }
}

/// The weight of a range in thousandths; 1000 without one, 0 for a malformed one.
fn weight(parameters: &[u8]) -> u32 {
    let mut parameters = parameters
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii);
    let weight = parameters.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")));
    match weight {
        None | Some([b'1', ..]) => 1000,
        Some([b'0', b'.', digits @ ..]) if digits.len() <= 3 => thousandths(digits).unwrap_or(0),
        Some(_) => 0,
    }
}

fn thousandths(digits: &[u8]) -> Option<u32> {
    let digit = |place| {
        digits
            .get(place)
            .map_or(Some(0), |byte| char::from(*byte).to_digit(10))
    };
    (0..3).try_fold(0, |sum, place| Some(sum * 10 + digit(place)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (accept, form) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("application/json", Form::Json),
            ("APPLICATION/JSON", Form::Json),
            ("application/*", Form::Json),
            ("application/json, text/plain, */*", Form::Json),
            ("application/json;q=0.5, */*", Form::Text),
            ("application/json, */*", Form::Json),
            ("text/html;q=0.9, */*", Form::Text),
            ("text/plain, application/json", Form::Text),
            ("text/plain;q=0.5, application/json", Form::Json),
            ("application/json;q=0.5, text/plain", Form::Text),
            ("application/json;q=0", Form::Text),
            ("application/json;q=0.001", Form::Json),
            ("application/json;q=x", Form::Text),
            ("application/json;q=0.1234", Form::Text),
            ("*/*;q=0.1, application/json;q=0.2", Form::Json),
            ("text/*, application/json;q=0.9", Form::Text),
            ("text/*", Form::Text),
            ("text/html", Form::Html),
            ("text/html, */*;q=0.8", Form::Html),
            ("text/html;q=0.5, application/json", Form::Json),
            ("text/html;q=0.5, text/plain", Form::Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Form::Html,
            ),
        ] {
            assert_eq!(preferred([accept.as_bytes()].into_iter()), form, "{accept}");
        }
        let lines: [&[u8]; 2] = [b"text/plain;q=0.1", b"application/json"];
        assert_eq!(preferred(lines.into_iter()), Form::Json);
        assert_eq!(preferred(lines.into_iter().rev()), Form::Json);
    }
}
