//! Which form of the echo an `Accept` field prefers (RFC 9110 section 12.5.1).
//!
//! Several `Accept` fields are one list (RFC 9110 section 5.3). A range such as `*/*` asks for no
//! form in particular, so it gets text; HTML is for clients that name `text/html`.

use std::cmp::Reverse;

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

/// The ranges that match each form, the most specific one first. HTML is for clients that name it.
const RANGES: [(Form, &[&[u8]]); 3] = [
    (Form::Text, &[b"text/plain", b"text/*", b"*/*"]),
    (Form::Json, &[b"application/json", b"application/*", b"*/*"]),
    (Form::Html, &[b"text/html"]),
];

/// The form that the values of `Accept` prefer. At equal weight the one that is named first wins.
pub fn preferred<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Form {
    // Of each form: the rank of its most specific range, then its weight and its place in the list.
    let mut found = [(usize::MAX, (Reverse(0), usize::MAX)); RANGES.len()];
    let ranges = accept.flat_map(field::list).enumerate();
    // Images, fonts and the like are no form of the echo.
    let may_match = |range: &[u8]| matches!(range, [b't' | b'T' | b'a' | b'A' | b'*', ..]);
    for (place, range) in ranges.filter(|(_, range)| may_match(range)) {
        let end = range.iter().position(|byte| *byte == b';');
        let (name, parameters) = range.split_at(end.unwrap_or(range.len()));
        let (name, weight) = (name.trim_ascii_end(), weight(parameters));
        for ((_, ranges), found) in RANGES.iter().zip(&mut found) {
            let rank = ranges
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            if let Some(rank) = rank.filter(|rank| *rank < found.0) {
                // `*/*` names no form, and a weight of 0 refuses one.
                let place = if rank < 2 && weight > 0 {
                    place
                } else {
                    usize::MAX
                };
                *found = (rank, (Reverse(weight), place));
            }
        }
    }
    // At equal weight and place the first form wins.
    let best = RANGES
        .iter()
        .zip(found)
        .min_by_key(|(_, (_, order))| *order);
    best.map_or(Form::Text, |((form, _), _)| *form)
}

/// The weight of a range in thousandths; 1000 without one, 0 for a malformed one.
fn weight(parameters: &[u8]) -> u32 {
    let mut parameters = parameters
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii);
    let weight = parameters.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")));
    match weight {
        None | Some([b'1', ..]) => 1000,
        Some([b'0', b'.', digits @ ..])
            if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) =>
        {
            let digits = digits.iter().chain(b"000").take(3);
            digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
        }
        Some(_) => 0,
    }
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
