//! The architecture that `src/lib.rs` promises, asserted on the source text.
//!
//! A folder uses only itself and the folders above it in the tour of `lib.rs`, so that the order of
//! reading and the order of use cannot part. `src/http` knows no socket, thread or clock. There is
//! one unsafe declaration, no unwrap outside of tests, and no sleep that nothing can end.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders, and the files beside them, in the order of use.
const ORDER: [&str; 10] = [
    "labelled", "sync", "limits", "http", "config", "observe", "app", "server", "client", "lib",
];

/// A source file.
struct Source {
    /// Its path below `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The folder it belongs to; a file beside the folders is its own.
    fn folder(&self) -> String {
        let first = self.path.iter().next().expect("a name");
        Path::new(first)
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    }

    /// The text without comments and without what only tests use.
    fn code(&self) -> String {
        let (mut code, mut in_tests) = (String::new(), false);
        for line in self.text.lines() {
            in_tests |= line == "#[cfg(test)]";
            let comment = line.trim_start().starts_with("//");
            if !in_tests && !comment {
                code.push_str(line);
                code.push('\n');
            }
            // Items for tests end like every item: with a brace or a semicolon at the margin.
            in_tests &=
                !(line == "}" || (line.starts_with(char::is_alphabetic) && line.ends_with(';')));
        }
        code
    }

    fn name(&self) -> String {
        format!("src/{}", self.path.display())
    }
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file of the library.
fn library() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&source_root(), &mut sources);
    sources.retain(|source| !["bin", "main", "build"].contains(&&*source.folder()));
    assert!(sources.len() >= 40, "only {} files", sources.len());
    sources
}

fn collect(directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let path = path.strip_prefix(source_root()).expect("below").to_owned();
            sources.push(Source { path, text });
        }
    }
}

/// The first names of the paths that begin with `crate::`.
fn used_folders(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for rest in code.split("crate::").skip(1) {
        // `use crate::{a::b, c}` names more than one.
        let inside = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest,
        };
        let paths = if inside.len() < rest.len() {
            inside.split(',').collect()
        } else {
            vec![rest]
        };
        for path in paths {
            let name = path.trim_start();
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            used.push(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    used
}

fn place(folder: &str) -> usize {
    let place = ORDER.iter().position(|known| *known == folder);
    place.unwrap_or_else(|| panic!("{folder} has no place in the order"))
}

#[test]
fn a_folder_uses_only_itself_and_those_above() {
    for source in library() {
        let folder = source.folder();
        for used in used_folders(&source.code()) {
            assert!(
                place(&used) <= place(&folder),
                "{} uses {used}, which stands below {folder}",
                source.name()
            );
        }
        // Paths from the parent would hide a direction.
        let climbs = source.code().contains("super::super");
        assert!(!climbs, "{} climbs out of its folder", source.name());
    }
}

#[test]
fn every_file_is_declared_once() {
    let sources = library();
    for source in &sources {
        let stem = source.path.file_stem().expect("a name").to_string_lossy();
        let folder = source.path.parent().expect("a folder");
        let (module, parent) = match &*stem {
            "lib" => continue,
            "mod" => {
                let name = folder.file_name().expect("a name").to_string_lossy();
                (name.into_owned(), folder.parent().expect("a folder"))
            }
            _ => (stem.into_owned(), folder),
        };
        let declared_in = if parent.as_os_str().is_empty() {
            PathBuf::from("lib.rs")
        } else {
            parent.join("mod.rs")
        };
        let parent = sources.iter().find(|other| other.path == declared_in);
        let code = parent.expect("the folder has a mod.rs").code();
        let declarations = code.lines().filter(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let name = line
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';'));
            name == Some(&*module)
        });
        let count = declarations.count();
        assert_eq!(
            count,
            1,
            "{} declares {module} {count} times",
            declared_in.display()
        );
    }
}

#[test]
fn every_file_says_what_it_is() {
    for source in library() {
        let doc = source
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"));
        let lines = doc.count();
        let enough = if source.path.ends_with("lib.rs") {
            3..=20
        } else {
            1..=15
        };
        assert!(
            enough.contains(&lines),
            "{}: {lines} lines of doc",
            source.name()
        );
    }
}

#[test]
fn http_and_app_know_no_socket_and_no_thread_and_http_no_clock() {
    #[rustfmt::skip]
    let foreign: [(&str, &[&str]); 2] = [
        ("http", &["TcpStream", "TcpListener", "UnixStream", "std::thread", "Instant", "SystemTime", "std::fs", "std::env"]),
        ("app", &["TcpStream", "TcpListener", "UnixStream", "std::thread", "std::io::Read"]),
    ];
    let sources = library();
    for (folder, names) in foreign {
        let files = sources.iter().filter(|source| source.folder() == folder);
        let files: Vec<_> = files.collect();
        assert!(files.len() >= 10, "only {} files in {folder}", files.len());
        for source in files {
            let code = source.code();
            let known = names.iter().find(|name| code.contains(**name));
            assert_eq!(known, None, "{}", source.name());
        }
    }
}

#[test]
fn one_unsafe_declaration_no_unwrap_and_no_sleep() {
    let mut everything: Vec<_> = library();
    collect(&source_root().join("bin"), &mut everything);
    for file in ["main.rs", "build.rs"] {
        let text = fs::read_to_string(source_root().join(file)).expect("text");
        everything.push(Source {
            path: file.into(),
            text,
        });
    }
    let count = |what: &str| -> usize {
        let in_each = everything
            .iter()
            .map(|source| source.code().matches(what).count());
        in_each.sum()
    };
    assert_eq!(count("unsafe extern"), 1);
    assert_eq!(count("unsafe "), 1, "nothing but that declaration");
    let forbidden = [
        ".unwrap()",
        ".expect(",
        "todo!",
        "unimplemented!",
        "thread::sleep",
        "dbg!",
        "static mut",
    ];
    for source in &everything {
        for what in forbidden {
            assert!(
                !source.code().contains(what),
                "{} has {what}",
                source.name()
            );
        }
    }
}

#[test]
fn no_function_is_longer_than_60_lines() {
    let mut functions = 0;
    for source in library() {
        let code = source.code();
        let lines: Vec<_> = code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let is_function = line.contains("fn ") && line.ends_with(['(', '{']);
            // A table in the form of a function is as long as its rows are many.
            let table = start > 0 && lines[start - 1].trim() == "#[rustfmt::skip]";
            if !is_function || table || !starts_function(line.trim_start()) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == end);
            let length = length.map_or(0, |end| end + 1);
            functions += 1;
            assert!(length <= 60, "{}: {length} lines: {line}", source.name());
        }
    }
    assert!(functions >= 300, "only {functions} functions");
}

/// Whether a line is the first one of a function.
fn starts_function(mut line: &str) -> bool {
    for word in ["pub ", "pub(super) ", "pub(crate) ", "const "] {
        line = line.strip_prefix(word).unwrap_or(line);
    }
    line.starts_with("fn ")
}

#[test]
fn the_tour_lists_every_folder_in_order() {
    let lib = include_str!("../src/lib.rs");
    let mut declared = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut rest = lib;
    for (number, folder) in ORDER[2..ORDER.len() - 1].iter().enumerate() {
        assert_eq!(
            declared.next(),
            Some(*folder),
            "the declarations have the order of the tour"
        );
        let entry = format!("\n//! {}. [`{folder}`]: ", number + 1);
        let at = rest.find(&entry);
        let at = at.unwrap_or_else(|| panic!("{folder} is not in its place in the tour"));
        rest = &rest[at + entry.len()..];
    }
    assert_eq!(declared.next(), None);
}
