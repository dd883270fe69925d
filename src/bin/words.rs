//! Words: walks an array with a `for` loop and changes it in place.
//!
//! The loop runs over `&mut words`, so `word` is a reference into the array and `*word = …` changes
//! the array itself. A loop over `words` would change copies (`&str` is `Copy`), and the second
//! line would read like the first.

fn main() {
    let mut words = ["I", "am", "stupid", "and", "weak"];
    println!("{words:?}");
    for word in &mut words {
        *word = match *word {
            "stupid" => "smart",
            "weak" => "strong",
            other => other,
        };
    }
    println!("{words:?}");
}
