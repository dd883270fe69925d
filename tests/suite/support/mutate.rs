//! Small changes to the table's inputs: near enough to HTTP to get deep, wrong enough to find what nobody thought of.

use super::find;
use crate::cases;

/// The table's inputs, without those that take their time or many bytes on purpose.
pub(crate) fn inputs() -> Vec<Vec<u8>> {
    let slow = |input: &[u8]| {
        [&b"/delay"[..], b"/bytes"]
            .iter()
            .any(|part| find(input, part).is_some())
    };
    cases::all()
        .into_iter()
        .map(|case| case.input)
        .filter(|input| input.len() < 2_000 && !slow(input))
        .collect()
}

/// One to four small changes to an input of the table.
pub(crate) fn mutated(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    const SPECIAL: &[u8] = b"\r\n\r\n\0\t :;,/=\"\\%019afAF-+_\x7f\x80\xff";
    let mut input = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=input.len());
        let end = (at + random.usize(..=12)).min(input.len());
        let byte = SPECIAL[random.usize(..SPECIAL.len())];
        match random.u8(..7) {
            0 if at < input.len() => input[at] = byte,
            1 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            2 => input.insert(at, byte),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..end),
            5 => input.truncate(at),
            _ => {
                let other = &seeds[random.usize(..seeds.len())];
                input.splice(
                    at..end,
                    other[random.usize(..=other.len())..].iter().copied(),
                );
            }
        }
    }
    input
}
