//! The house has floors: a file uses only what stands below it, and the lower floors know no socket, thread or clock.
//!
//! The order is the one of `lib.rs`, so that the order of reading and the order of use cannot part.

use std::fs;

/// The modules in the order of `lib.rs`, each with its text up to its tests.
fn modules() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    let lib = fs::read_to_string(format!("{root}lib.rs")).expect("lib.rs");
    let names = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let read = |name: &str| {
        let text = fs::read_to_string(format!("{root}{name}.rs")).expect(name);
        let code = text
            .split("#[cfg(test)]\n")
            .next()
            .unwrap_or_default()
            .to_owned();
        (name.to_owned(), code)
    };
    names.map(read).collect()
}

#[test]
fn every_file_uses_only_files_below_it() {
    let modules = modules();
    assert!(modules.len() >= 20, "{}", modules.len());
    for (place, (name, code)) in modules.iter().enumerate() {
        for used in code.split("crate::").skip(1) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            let below = modules[..place].iter().any(|(below, _)| *below == used);
            assert!(
                below,
                "{name}.rs uses {used}, which does not stand before it in lib.rs"
            );
        }
    }
}

#[test]
fn the_lower_floors_know_no_socket_thread_or_clock() {
    let modules = modules();
    let lower = modules.iter().take_while(|(name, _)| name != "live");
    let mut checked = 0;
    for (name, code) in lower {
        for foreign in [
            "TcpStream",
            "TcpListener",
            "UnixStream",
            "std::thread",
            "Instant",
            "SystemTime",
            "std::fs",
            "std::env",
        ] {
            assert!(!code.contains(foreign), "{name}.rs knows {foreign}");
        }
        checked += 1;
    }
    assert_eq!(checked, 8);
}

#[test]
fn the_tour_lists_every_module_in_order() {
    let lib = include_str!("../src/lib.rs");
    let mut from = 0;
    for (name, _) in modules() {
        let link = format!("[`{name}`]:");
        from += lib[from..]
            .find(&link)
            .unwrap_or_else(|| panic!("{name} is not in its place in the tour"));
    }
}

#[test]
fn one_unsafe_declaration_and_no_unwrap() {
    let all: Vec<(String, String)> = modules();
    let count = |what: &str| {
        all.iter()
            .map(|(_, code)| code.matches(what).count())
            .sum::<usize>()
    };
    assert_eq!(count("unsafe extern"), 1);
    assert_eq!(
        count("unsafe {") + count("unsafe fn") + count("unsafe impl"),
        0
    );
    assert_eq!(count(".unwrap()") + count(".expect("), 0);
}
