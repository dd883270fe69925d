//! Tells the program what it was built from, for `/version` and `httpserver_build_info`: the git
//! revision, the compiler and the target. `HTTPSERVER_REVISION` gives the revision to a build
//! without git.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    for log in [".git/logs/HEAD", ".git/HEAD"] {
        // A path that does not exist would make every build a new one.
        if Path::new(log).exists() {
            println!("cargo::rerun-if-changed={log}");
        }
    }
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=HTTPSERVER_REVISION");
    let given = variable("HTTPSERVER_REVISION");
    let of_git = || first_line("git", &["rev-parse", "--short=12", "HEAD"]);
    let rustc = variable("RUSTC").unwrap_or_else(|| "rustc".into());
    for (name, value) in [
        ("HTTPSERVER_REVISION", given.or_else(of_git)),
        ("HTTPSERVER_RUSTC", first_line(&rustc, &["--version"])),
        ("HTTPSERVER_TARGET", variable("TARGET")),
    ] {
        let value = value.unwrap_or_else(|| "unknown".into());
        println!("cargo::rustc-env={name}={value}");
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().filter(|_| output.status.success());
    line.map(str::to_owned)
}
