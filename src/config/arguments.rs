//! The arguments of every command: its flags, its word, and what a wrong name was meant to be.
//!
//! A flag is `--name value` or `--name=value`; where it stands twice, the last one counts. A command
//! says which flags it takes and whether it takes a word; any other argument is an error. Otherwise
//! the program would take a default in place of what the user meant, and say nothing.

use std::collections::BTreeMap;
use std::fmt;

/// The arguments of a command, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    flags: BTreeMap<&'static str, &'a str>,
    /// The argument that is not a flag.
    pub word: Option<&'a str>,
}

/// Why a command does not take its arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// A flag or a command that does not exist: which of both, its name, and one that is similar.
    Unknown(&'static str, String, Option<String>),
    /// A flag without its value.
    NoValue(&'static str),
    /// One word more than the command takes.
    TooMany(String),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgumentError::Unknown(what, name, similar) => {
                write!(f, "unknown {what} {name:?}: ")?;
                if let Some(similar) = similar {
                    write!(f, "did you mean {similar}? ")?;
                }
                f.write_str("see --help")
            }
            ArgumentError::NoValue(flag) => write!(f, "--{flag} needs a value: see --help"),
            ArgumentError::TooMany(word) => {
                write!(f, "{word:?} is one argument too many: see --help")
            }
        }
    }
}

impl std::error::Error for ArgumentError {}

impl ArgumentError {
    /// The error for a name that is not among the known ones; these have `dashes` before them.
    pub fn unknown(what: &'static str, name: &str, dashes: &str, known: &[&str]) -> ArgumentError {
        let bare = name.trim_start_matches('-').replace('_', "-");
        let bare = bare.to_lowercase();
        let distance = |known: &&&str| edit_distance(&bare, known);
        let nearest = known.iter().min_by_key(distance);
        let is_near = |known: &&&str| distance(known) <= 1 + known.len() / 4;
        let similar = nearest.filter(is_near);
        let similar = similar.map(|known| format!("{dashes}{known}"));
        ArgumentError::Unknown(what, name.to_owned(), similar)
    }
}

impl<'a> Arguments<'a> {
    /// Takes the arguments of a command apart that knows these flags.
    pub fn split(
        arguments: &'a [String],
        known: &[&'static str],
        takes_word: bool,
    ) -> Result<Arguments<'a>, ArgumentError> {
        let (mut flags, mut word, mut rest) = (BTreeMap::new(), None, arguments.iter());
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                if !takes_word || word.replace(argument.as_str()).is_some() {
                    return Err(ArgumentError::TooMany(argument.clone()));
                }
                continue;
            }
            let (dashed, value) = match argument.split_once('=') {
                Some((dashed, value)) => (dashed, Some(value)),
                None => (argument.as_str(), None),
            };
            let is_meant = |flag: &&&str| dashed.strip_prefix("--") == Some(**flag);
            let unknown = || ArgumentError::unknown("flag", dashed, "--", known);
            let flag = *known.iter().find(is_meant).ok_or_else(unknown)?;
            let value = value.or_else(|| rest.next().map(String::as_str));
            flags.insert(flag, value.ok_or(ArgumentError::NoValue(flag))?);
        }
        Ok(Arguments { flags, word })
    }

    /// The value of a flag, if it was given.
    pub fn value(&self, flag: &str) -> Option<&'a str> {
        self.flags.get(flag).copied()
    }
}

/// How many insertions, removals and replacements of bytes make one text of the other
/// (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["rate", "delay-max"];

    fn split(line: &str) -> Result<(Option<String>, Option<String>), String> {
        let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let arguments = Arguments::split(&line, KNOWN, true).map_err(|error| error.to_string())?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok((owned(arguments.value("rate")), owned(arguments.word)))
    }

    #[test]
    fn flags_in_both_forms_and_a_word_in_any_place() {
        for (line, rate, word) in [
            ("", None, None),
            ("--rate 5", Some("5"), None),
            ("--rate=5 word", Some("5"), Some("word")),
            ("word --rate 5 --rate=6", Some("6"), Some("word")),
            ("--rate --delay-max", Some("--delay-max"), None),
        ] {
            let expected = (rate.map(str::to_owned), word.map(str::to_owned));
            assert_eq!(split(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_argument_and_what_was_probably_meant() {
        for (line, text) in [
            ("--rate", "--rate needs a value: see --help"),
            ("a b", "\"b\" is one argument too many: see --help"),
            (
                "-rate=5",
                "unknown flag \"-rate\": did you mean --rate? see --help",
            ),
            (
                "--Delay_Max 5",
                "unknown flag \"--Delay_Max\": did you mean --delay-max? see --help",
            ),
            ("-x", "unknown flag \"-x\": see --help"),
        ] {
            assert_eq!(split(line), Err(text.to_owned()), "{line}");
        }
    }

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "", 3),
            ("abc", "axc", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!(
                (edit_distance(a, b), edit_distance(b, a)),
                (distance, distance)
            );
        }
    }
}
