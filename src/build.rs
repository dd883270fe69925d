//! Tells the program what it was built from: the git revision, the compiler and the target, for `/version` and
//! `httpserver_build_info`. A variable of the same name overrides what is found here, for builds without git.

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
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let target = std::env::var("TARGET").ok();
    tell("HTTPSERVER_REVISION", || {
        first_line("git", &["rev-parse", "--short=12", "HEAD"])
    });
    tell("HTTPSERVER_RUSTC", || first_line(&rustc, &["--version"]));
    tell("HTTPSERVER_TARGET", || target);
}

fn tell(variable: &str, find: impl FnOnce() -> Option<String>) {
    println!("cargo::rerun-if-env-changed={variable}");
    let given = std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty());
    println!(
        "cargo::rustc-env={variable}={}",
        given.or_else(find).as_deref().unwrap_or("unknown")
    );
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .to_owned(),
    )
}
