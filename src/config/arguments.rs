//! The arguments of every command: which are flags, which are words, and which flag a wrong one was
//! meant to be.
//!
//! A flag is `--name value` or `--name=value`; where it stands twice, the last one counts. A command
//! says which flags and how many words it takes; any other argument is an error, so that a slip
//! never becomes a silent default.

use std::fmt;

/// The arguments of a command, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    flags: Vec<(&'static str, &'a str)>,
    /// The arguments that are not flags.
    pub words: Vec<&'a str>,
}

/// Why a command does not take its arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// A flag that does not exist, and the one with the most similar name.
    UnknownFlag(String, Option<&'static str>),
    /// A flag without its value.
    NoValue(&'static str),
    /// One word more than the command takes.
    TooMany(String),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgumentError::UnknownFlag(flag, Some(similar)) => {
                write!(
                    f,
                    "unknown flag {flag:?}: did you mean --{similar}? See --help"
                )
            }
            ArgumentError::UnknownFlag(flag, None) => {
                write!(f, "unknown flag {flag:?}: see --help")
            }
            ArgumentError::NoValue(flag) => write!(f, "--{flag} needs a value: see --help"),
            ArgumentError::TooMany(word) => {
                write!(f, "{word:?} is one argument too many: see --help")
            }
        }
    }
}

impl std::error::Error for ArgumentError {}

impl<'a> Arguments<'a> {
    /// Takes the arguments of a command apart that knows these flags, and takes this many words.
    pub fn split(
        arguments: &'a [String],
        known: &[&'static str],
        words: usize,
    ) -> Result<Arguments<'a>, ArgumentError> {
        let (mut flags, mut found, mut rest) = (Vec::new(), Vec::new(), arguments.iter());
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                found.push(argument.as_str());
                continue;
            }
            let (dashed, value) = match argument.split_once('=') {
                Some((dashed, value)) => (dashed, Some(value)),
                None => (argument.as_str(), None),
            };
            let is_meant = |flag: &&&str| dashed.strip_prefix("--") == Some(**flag);
            let flag = *known.iter().find(is_meant).ok_or_else(|| {
                let name = dashed.trim_start_matches('-').replace('_', "-");
                ArgumentError::UnknownFlag(dashed.to_owned(), most_similar(&name, known))
            })?;
            let value = value.or_else(|| rest.next().map(String::as_str));
            flags.push((flag, value.ok_or(ArgumentError::NoValue(flag))?));
        }
        match found.get(words) {
            Some(word) => Err(ArgumentError::TooMany((*word).to_owned())),
            None => Ok(Arguments {
                flags,
                words: found,
            }),
        }
    }

    /// The value of a flag, if it was given.
    pub fn value(&self, flag: &str) -> Option<&'a str> {
        let mut given = self.flags.iter().rev();
        given
            .find(|(name, _)| *name == flag)
            .map(|(_, value)| *value)
    }
}

/// The candidate with the fewest edits from a name, if they are few.
pub fn most_similar(name: &str, candidates: &[&'static str]) -> Option<&'static str> {
    let name = name.to_lowercase();
    let distances = candidates
        .iter()
        .map(|candidate| (edit_distance(&name, candidate), *candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= 1 + candidate.len() / 4).then_some(candidate)
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

    fn split(line: &str) -> Result<(Option<String>, Vec<String>), String> {
        let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let arguments = Arguments::split(&line, KNOWN, 1).map_err(|error| error.to_string())?;
        let words = arguments.words.iter().map(|word| (*word).to_owned());
        Ok((arguments.value("rate").map(str::to_owned), words.collect()))
    }

    #[test]
    fn flags_in_both_forms_and_words_in_any_place() {
        for (line, rate, words) in [
            ("", None, vec![]),
            ("--rate 5", Some("5"), vec![]),
            ("--rate=5 word", Some("5"), vec!["word"]),
            ("word --rate 5 --rate=6", Some("6"), vec!["word"]),
            ("--rate --delay-max", Some("--delay-max"), vec![]),
        ] {
            let words = words.into_iter().map(str::to_owned).collect();
            assert_eq!(split(line), Ok((rate.map(str::to_owned), words)), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_argument_and_what_was_probably_meant() {
        for (line, text) in [
            ("--rate", "--rate needs a value: see --help"),
            ("a b", "\"b\" is one argument too many: see --help"),
            (
                "-rate=5",
                "unknown flag \"-rate\": did you mean --rate? See --help",
            ),
            (
                "--Delay_Max 5",
                "unknown flag \"--Delay_Max\": did you mean --delay-max? See --help",
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
