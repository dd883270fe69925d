//! The command itself: exit statuses (64 wrong usage, 78 a bad setting, 1 a host that refuses), `--help`, `--version`,
//! and that a start which fails says so in one line.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use httpserver::config::settings::{self, Setting};

use crate::settings::SETTINGS;
use crate::support::server::BINARY;

/// Runs the binary with these arguments and variables to its end; `timeout` ends one that goes on. Where a start that
/// should fail does not, it takes no port that others use.
pub(crate) fn run(args: &[impl AsRef<OsStr>], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(BINARY).args(args);
    command
        .env_clear()
        .env("LISTEN", "127.0.0.1:0")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) runs")
}

/// Asserts that a run failed with this status and one line on stderr, which holds each of `words`.
#[track_caller]
pub(crate) fn fails(output: &Output, status: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(status),
        "{words:?}; stderr: {stderr}"
    );
    assert!(
        output.stdout.is_empty(),
        "nothing on stdout: {:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(
        stderr.ends_with('\n') && stderr.lines().count() == 1,
        "one line: {stderr:?}"
    );
    assert!(
        stderr.starts_with("httpserver: "),
        "it says who speaks: {stderr}"
    );
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
    }
}

#[test]
fn wrong_usage_is_status_64() {
    fails(&run(&["--nonsense", "1"], &[]), 64, &["--nonsense"]);
    let meant = "did you mean --listen?";
    fails(&run(&["--lissten", "1"], &[]), 64, &["--lissten", meant]);
    fails(&run(&["--listen"], &[]), 64, &["--listen"]);
    fails(&run(&["frobnicate"], &[]), 64, &["frobnicate"]);
    fails(&run(&["watch"], &[]), 64, &["needs a URL"]);
    fails(&run(&["serve", "--nonsense"], &[]), 64, &["--nonsense"]);
    fails(
        &run(&["healthcheck", "http://127.0.0.1:1/", "extra"], &[]),
        64,
        &["extra"],
    );
}

#[test]
fn a_host_that_refuses_is_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    fails(&run(&["--listen", &addr], &[]), 1, &[&addr]);
    fails(
        &run(&["--listen", "192.0.2.1:20001"], &[]),
        1,
        &["192.0.2.1:20001"],
    );
    let name = "no-such-host.invalid";
    let unknown = run(&["watch", &format!("http://{name}/")], &[]);
    fails(&unknown, 1, &[name]);
}

#[test]
fn bytes_that_are_not_text_are_refused_in_one_line() {
    let raw = OsStr::from_bytes(b"\xff\n\x1b");
    let output = run(&[OsStr::new("--delay-max"), raw], &[]);
    fails(&output, 78, &["--delay-max"]);
    assert!(!output.stderr.contains(&0x1b), "{:?}", output.stderr);
    let output = run(&[raw], &[]);
    fails(&output, 64, &[]);
    assert!(!output.stderr.contains(&0x1b), "{:?}", output.stderr);
}

/// What a run that must end well prints.
#[track_caller]
fn prints(args: &[&str]) -> String {
    let output = run(args, &[]);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{args:?}: {output:?}"
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_goes_to_stdout_with_status_0() {
    let help = prints(&["--help"]);
    for command in ["healthcheck", "watch"] {
        assert!(help.contains(command), "{command} in: {help}");
    }
    assert_eq!(prints(&["-h"]), help);
}

#[test]
fn each_command_has_its_help() {
    assert!(prints(&["serve", "--help"]).contains("--listen"));
    assert!(prints(&["healthcheck", "--help"]).contains("2xx within 3 s"));
    assert!(prints(&["watch", "--help"]).contains("httpserver watch [--FLAG VALUE]... URL"));
    for command in ["serve", "healthcheck", "watch"] {
        assert_eq!(prints(&[command, "-h"]), prints(&[command, "--help"]));
    }
}

#[test]
fn help_into_a_pipe_that_nobody_reads_ends_quietly() {
    for command in ["", "serve", "healthcheck", "watch"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut help = Command::new(BINARY);
        help.args([command, "--help"].iter().filter(|arg| !arg.is_empty()))
            .env_clear();
        let child = help
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {output:?}");
        assert!(output.stderr.is_empty(), "{command}: {output:?}");
    }
}

#[test]
fn version_is_one_line() {
    let version = prints(&["--version"]);
    let words: Vec<&str> = version.trim_end().split(' ').collect();
    assert_eq!(words[..2], ["httpserver", env!("CARGO_PKG_VERSION")]);
    assert_eq!(version.lines().count(), 1, "{version}");
    assert_eq!(prints(&["-V"]), version);
}

/// The rows of the README's table of settings.
fn readme_table() -> String {
    let code = |dashes: &str, text: &str| match text {
        "" => "(none)".to_owned(),
        _ => format!("`{dashes}{text}`"),
    };
    let row = |setting: &Setting| {
        let (flag, default) = (code("--", setting.name), code("", setting.default));
        let (variable, help) = (setting.variable, setting.help);
        format!("| {flag} | `{variable}` | {default} | {help} |\n")
    };
    let settings = settings::SETTINGS.iter();
    let listed = settings.filter(|setting| !setting.variable.is_empty());
    listed.map(row).collect()
}

#[test]
fn the_readme_lists_the_settings_as_the_code_does() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = readme_table();
    assert!(table.lines().count() > SETTINGS.len(), "{table}");
    let rows = |text: &str| -> Vec<String> {
        // The exercises have tables of flags too, with fewer columns.
        let has_variable = |line: &str| line.matches('|').count() == 5;
        let row = |line: &&str| {
            (line.starts_with("| `--") || line.starts_with("| (none) | `")) && has_variable(line)
        };
        text.lines().filter(row).map(str::to_owned).collect()
    };
    assert_eq!(
        rows(&readme),
        rows(&table),
        "left the README's rows, right those of the code; put these:\n{table}"
    );
}

#[test]
fn help_tells_what_the_readme_tells() {
    let help = prints(&["--help"]);
    for row in readme_table().lines() {
        let cells: Vec<String> = row
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        let [_, flag, variable, default, text, _] = &cells[..] else {
            panic!("a row has four cells: {row}");
        };
        let line = help
            .lines()
            .find(|line| line.contains(&format!(" {variable} ")));
        let line = line.unwrap_or_else(|| panic!("{variable} in: {help}"));
        let flag = if flag == "(none)" { "" } else { flag };
        assert!(
            line.trim_start().starts_with(flag) && line.contains(text),
            "{line}"
        );
        assert!(line.contains(default.trim_matches(['(', ')'])), "{line}");
    }
}
