//! The command: every setting with its refusals, the exit statuses, `--help`, `--version` and `healthcheck`, all on
//! the real binary.
//!
//! A start that fails must say one line that names the setting, the value and what was expected, and say it with
//! the right status: 64 for a wrong usage, 78 for a bad setting, 1 for a host that refuses. The README's table of
//! settings is compared with `--help`, so that neither can be changed alone.

mod support;
#[path = "support/load.rs"]
mod tools;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use httpserver::config;

use support::{PATIENCE, Server};
use tools::{Client, ms};

/// Each setting: its flag, its variable, a value that is good and some that are not.
const SETTINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "--listen",
        "LISTEN",
        "127.0.0.1:0",
        &["nonsense", "127.0.0.1", "127.0.0.1:65536", ":", ""],
    ),
    (
        "--delay-min",
        "DELAY_MIN",
        "0s",
        &["banana", "1", "-1s", "1.5.5s", ""],
    ),
    (
        "--delay-max",
        "DELAY_MAX",
        "10ms",
        &["banana", "2", "2sx", "99999999999999999999s", ""],
    ),
    (
        "--error-rate",
        "ERROR_RATE",
        "0.25",
        &["1.01", "-0.1", "NaN", "inf", "half", ""],
    ),
    (
        "--log-level",
        "LOG_LEVEL",
        "debug",
        &["loud", "INFORMATION", ""],
    ),
    ("--log-format", "LOG_FORMAT", "json", &["xml", ""]),
    (
        "--trusted-proxies",
        "TRUSTED_PROXIES",
        "10.0.0.0/8,fd00::/8",
        &["10.0.0.0/33", "fd00::/129", "proxy"],
    ),
    (
        "--max-connections",
        "MAX_CONNECTIONS",
        "16",
        &["0", "-1", "many", "1.5", ""],
    ),
    ("--max-body", "MAX_BODY", "64KiB", &["1XB", "-1", "big", ""]),
    (
        "--max-body-memory",
        "MAX_BODY_MEMORY",
        "2MiB",
        &["1XB", "-1", "big", ""],
    ),
    (
        "--header-timeout",
        "HEADER_TIMEOUT",
        "3s",
        &["soon", "3", ""],
    ),
    ("--body-timeout", "BODY_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--write-timeout", "WRITE_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--idle-timeout", "IDLE_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--drain-linger", "DRAIN_LINGER", "10ms", &["soon", "3", ""]),
    ("--drain-timeout", "DRAIN_TIMEOUT", "3s", &["soon", "3", ""]),
];

/// Runs the binary with exactly these arguments and variables to its end; `timeout` ends one that goes on.
fn run(args: &[impl AsRef<OsStr>], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_httpserver"))
        .args(args);
    command
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) runs")
}

/// Asserts that a run failed with this status and one line on stderr, which holds each of `words`.
#[track_caller]
fn fails(output: &Output, status: i32, words: &[&str]) {
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
fn a_bad_flag_value_names_flag_and_value() {
    for (flag, _, _, bad) in SETTINGS {
        for value in *bad {
            fails(
                &run(&[flag, value], &[]),
                78,
                &[&format!("{flag}: \"{value}\"")],
            );
        }
    }
}

#[test]
fn a_bad_variable_names_variable_and_value() {
    for (_, variable, _, bad) in SETTINGS {
        let output = run(&[] as &[&str], &[(variable, bad[0])]);
        fails(&output, 78, &[&format!("{variable}: \"{}\"", bad[0])]);
    }
}

#[test]
fn what_was_expected_is_said() {
    fails(
        &run(&["--delay-max", "banana"], &[]),
        78,
        &["a duration such as 250ms, 2s or 1m30s"],
    );
    fails(
        &run(&["--log-level", "loud"], &[]),
        78,
        &["error", "warn", "info", "debug"],
    );
    fails(&run(&["--log-format", "xml"], &[]), 78, &["text", "json"]);
    fails(&run(&["--error-rate", "2"], &[]), 78, &["0", "1"]);
    fails(&run(&["--max-body", "1XB"], &[]), 78, &["64KiB"]);
    fails(
        &run(&["--trusted-proxies", "proxy"], &[]),
        78,
        &["10.0.0.0/8"],
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    fails(
        &run(&[] as &[&str], &[("DELAY_MIN", "3s")]),
        78,
        &["DELAY_MIN", "3s", "2s"],
    );
    fails(
        &run(&["--delay-min", "500ms", "--delay-max", "250ms"], &[]),
        78,
        &["--delay-min", "500ms", "250ms"],
    );
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

#[test]
fn wrong_usage_is_status_64() {
    fails(&run(&["--nonsense", "1"], &[]), 64, &["--nonsense"]);
    fails(&run(&["--listen"], &[]), 64, &["--listen"]);
    fails(&run(&["frobnicate"], &[]), 64, &["frobnicate"]);
    fails(&run(&["serve", "--nonsense"], &[]), 64, &["--nonsense"]);
    fails(
        &run(&["healthcheck", "http://127.0.0.1:1/", "extra"], &[]),
        64,
        &["extra"],
    );
}

#[test]
fn a_host_that_refuses_is_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("it has one").to_string();
    fails(&run(&["--listen", &addr], &[]), 1, &[&addr]);
    fails(
        &run(&["--listen", "192.0.2.1:20001"], &[]),
        1,
        &["192.0.2.1:20001"],
    );
}

#[test]
fn every_flag_and_every_variable_is_understood() {
    let flags: Vec<&str> = SETTINGS
        .iter()
        .flat_map(|(flag, _, good, _)| [*flag, *good])
        .collect();
    assert_eq!(Server::start(&flags).get("/healthz").0, 200);
    let serve: Vec<&str> = ["serve"].into_iter().chain(flags).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_httpserver"));
    command.env_clear().args(serve);
    assert_eq!(Server::spawn(command).get("/healthz").0, 200);
    let mut command = Command::new(env!("CARGO_BIN_EXE_httpserver"));
    command.env_clear().envs(
        SETTINGS
            .iter()
            .map(|(_, variable, good, _)| (variable, good)),
    );
    let server = Server::spawn(command);
    assert_eq!(server.get("/healthz").0, 200);
    assert!(
        server.stderr.text().starts_with("{\"time\":"),
        "LOG_FORMAT was read: {}",
        server.stderr.text()
    );
}

#[test]
fn the_longest_times_are_as_good_as_any() {
    let long = "5000000000h";
    let flags = [
        "--header-timeout",
        "--body-timeout",
        "--write-timeout",
        "--idle-timeout",
        "--drain-timeout",
    ];
    let args: Vec<&str> = flags.iter().flat_map(|flag| [*flag, long]).collect();
    let mut server = Server::start(&args);
    assert_eq!(
        Client::new(&server).call("POST", "/", "", "body").status,
        200
    );
    assert_eq!(server.stop().code(), Some(0));
    let mut server = Server::start(&["--drain-linger", long]);
    assert_eq!(server.get("/").0, 200);
    server.signal("TERM");
    server
        .stderr
        .wait_line("draining", PATIENCE)
        .expect("it lingers");
    assert_eq!(server.get("/").0, 200);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_default() {
    assert_eq!(Server::start(&[]).get("/").0, 200);
    assert_eq!(
        Server::start_with(&[], &[("ERROR_RATE", "1")]).get("/").0,
        500
    );
    assert_eq!(
        Server::start_with(&["--error-rate", "0"], &[("ERROR_RATE", "1")])
            .get("/")
            .0,
        200
    );
}

#[test]
fn what_kubernetes_injects_for_a_service_of_this_name_is_ignored() {
    let injected = [
        ("HTTPSERVER_PORT", "tcp://10.96.0.1:8080"),
        ("HTTPSERVER_SERVICE_HOST", "10.96.0.1"),
        ("HTTPSERVER_LISTEN", "nonsense"),
    ];
    assert_eq!(Server::start_with(&[], &injected).get("/").0, 200);
}

#[test]
fn version_is_read_once_from_the_environment() {
    let server = Server::start_with(&[], &[("VERSION", "7.1-rc2")]);
    let answer = Client::new(&server).get("/any/path");
    assert_eq!(answer.header("version"), Some("7.1-rc2"));
    let server = Server::start(&[]);
    let answer = Client::new(&server).get("/any/path");
    assert_eq!(answer.header("version"), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_version_that_would_break_a_header_is_refused() {
    fails(
        &run(
            &["--listen", "127.0.0.1:0"],
            &[("VERSION", "1\r\nX-Evil: 1")],
        ),
        78,
        &["VERSION"],
    );
}

#[test]
fn help_and_version_go_to_stdout_with_status_0() {
    let help = run(&["--help"], &[]);
    assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
    let help = String::from_utf8(help.stdout).expect("text");
    for (flag, variable, ..) in SETTINGS {
        assert!(
            help.contains(flag) && help.contains(variable),
            "{flag} and {variable} in: {help}"
        );
    }
    for word in [
        "ADMIN_TOKEN_FILE",
        "--admin-token-file",
        "ADMIN_TOKEN",
        "VERSION",
        "healthcheck",
    ] {
        assert!(help.contains(word), "{word} in: {help}");
    }
    let version = run(&["--version"], &[]);
    assert!(version.status.success() && version.stderr.is_empty());
    let version = String::from_utf8(version.stdout).expect("text");
    let words: Vec<&str> = version.trim_end().split(' ').collect();
    assert_eq!(words[..2], ["httpserver", env!("CARGO_PKG_VERSION")]);
    assert!(version.lines().count() == 1, "{version}");
}

#[test]
fn the_readme_lists_the_settings_as_the_code_does() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.expect("README.md stands at the top");
    let table = config::readme_table();
    assert!(
        table.lines().count() == config::SETTINGS.len() && table.lines().count() > SETTINGS.len(),
        "{table}"
    );
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
        "left the README's rows, right those of config.rs; put these:\n{table}"
    );
}

#[test]
fn help_tells_what_the_readme_tells() {
    let help = String::from_utf8(run(&["--help"], &[]).stdout).expect("text");
    for setting in config::SETTINGS {
        let line = help
            .lines()
            .find(|line| line.contains(&format!(" {} ", setting.variable)));
        let line = line.unwrap_or_else(|| panic!("{} in: {help}", setting.variable));
        let flag = if setting.flag.is_empty() {
            String::new()
        } else {
            format!("--{} ", setting.flag)
        };
        assert!(
            line.contains(&flag) && line.contains(setting.default),
            "{line}"
        );
        assert!(line.contains(&setting.help.replace('`', "")), "{line}");
    }
}

/// A `healthcheck` run and how long it took.
fn healthcheck(args: &[&str], env: &[(&str, &str)]) -> (Output, Duration) {
    let args: Vec<&str> = ["healthcheck"].iter().chain(args).copied().collect();
    let start = Instant::now();
    (run(&args, env), start.elapsed())
}

#[track_caller]
fn healthy(args: &[&str], env: &[(&str, &str)]) {
    let (output, _) = healthcheck(args, env);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{args:?} {env:?}: {stderr}"
    );
}

#[test]
fn healthcheck_finds_the_server_by_listen_or_by_url() {
    let server = Server::start(&[]);
    let (addr, port) = (server.addr.to_string(), server.addr.port());
    healthy(&["--listen", &addr], &[]);
    healthy(&[], &[("LISTEN", &addr)]);
    healthy(&["--listen", &format!("0.0.0.0:{port}")], &[]);
    healthy(&[], &[("LISTEN", &format!("[::]:{port}"))]);
    healthy(&[&format!("http://{addr}/readyz")], &[]);
    healthy(&[&format!("http://{addr}/status/204")], &[]);
    healthy(&[&format!("http://localhost:{port}/healthz")], &[]);
}

#[test]
fn healthcheck_of_a_wildcard_tries_ipv6_too() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return tools::not_run("healthcheck over IPv6", "this host has none");
    }
    let server = Server::start(&["--listen", "[::1]:0"]);
    healthy(&["--listen", &format!("[::]:{}", server.addr.port())], &[]);
    healthy(
        &[&format!("http://[::1]:{}/healthz", server.addr.port())],
        &[],
    );
}

#[test]
fn healthcheck_says_why_not() {
    let server = Server::start(&[]);
    for code in ["503", "404", "500", "301"] {
        let (output, _) = healthcheck(&[&format!("http://{}/status/{code}", server.addr)], &[]);
        fails(&output, 1, &[code]);
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|port| port.local_addr())
        .expect("a port");
    let (output, time) = healthcheck(&[&format!("http://{closed}/")], &[]);
    fails(&output, 1, &[&closed.to_string()]);
    assert!(
        time < ms(1000),
        "a refusal is told at once, not after {time:?}"
    );
    let (output, _) = healthcheck(&["gopher://127.0.0.1/"], &[]);
    assert!(
        [1, 64].contains(&output.status.code().expect("it ends by itself")),
        "{output:?}"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("gopher"),
        "{output:?}"
    );
}

/// A peer that is no server: takes one connection and does this with it.
fn peer(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it has one");
    thread::spawn(move || act(listener.accept().expect("a connection").0));
    addr
}

#[test]
fn healthcheck_gives_up_after_three_seconds_in_all() {
    let silent = peer(|_stream| tools::pause(ms(10_000)));
    let drops = peer(|mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: 0123456789".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            tools::pause(ms(400));
        }
    });
    for addr in [silent, drops] {
        let (output, time) = healthcheck(&[&format!("http://{addr}/")], &[]);
        fails(&output, 1, &[]);
        assert!(time > ms(2800) && time < ms(3500), "it took {time:?}");
    }
}

#[test]
fn healthcheck_believes_only_a_status_line() {
    for garbage in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 2\r\n\r\n",
        "200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2 200\r\n",
    ] {
        let addr = peer(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(garbage.as_bytes());
        });
        fails(&healthcheck(&[&format!("http://{addr}/")], &[]).0, 1, &[]);
    }
}

#[test]
fn ipv6_and_ipv4_reach_the_wildcard() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return tools::not_run("one socket for IPv4 and IPv6", "this host has no IPv6");
    }
    let server = Server::start(&["--listen", "[::]:0"]);
    let port = server.addr.port();
    for host in ["127.0.0.1", "[::1]"] {
        let addr = format!("{host}:{port}").parse().expect("an address");
        let answer = Client::to(addr).expect("it accepts").get("/");
        let client = host.trim_matches(['[', ']']);
        assert!(
            answer.text().contains(&format!("client: {client}\n")),
            "{}",
            answer.text()
        );
    }
}

/// Starts the server with its default address in a network of its own, where port 8080 is free.
fn in_own_network(tracer: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("ip link set lo up && exec {tracer} \"$0\" --delay-max 0s");
    command.env_clear().args([
        "--net",
        "sh",
        "-c",
        &script,
        env!("CARGO_BIN_EXE_httpserver"),
    ]);
    command
}

#[test]
#[ignore = "needs root, iproute2 and strace: a network without IPv6"]
fn without_ipv6_it_listens_on_ipv4() {
    if !tools::is_root() || !tools::have("strace") || !tools::have("ip") {
        return tools::not_run(
            "the default address with and without IPv6",
            "it needs root, iproute2 and strace",
        );
    }
    let refuse =
        "strace -D -f -qq -o /dev/null -e trace=socket -e inject=socket:error=EAFNOSUPPORT:when=1";
    for (tracer, addr) in [("", "[::]:8080"), (refuse, "0.0.0.0:8080")] {
        let server = Server::spawn(in_own_network(tracer));
        assert_eq!(server.addr.to_string(), addr);
        let network = format!("--net=/proc/{}/ns/net", server.pid());
        let mut check = Command::new("nsenter");
        check
            .arg(&network)
            .arg(env!("CARGO_BIN_EXE_httpserver"))
            .arg("healthcheck")
            .env_clear();
        let output = check.output().expect("nsenter runs");
        assert!(
            output.status.success(),
            "healthcheck knows the default address {addr}: {output:?}"
        );
    }
}

/// A file of this test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("httpserver-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("a scratch file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn an_empty_or_absent_token_is_refused() {
    let empty = Scratch::new("empty", "");
    let line = Scratch::new("line", "\n");
    let missing = Path::new("/nonexistent/token");
    for path in [&empty.0, &line.0, missing] {
        let path = path.to_str().expect("text");
        fails(
            &run(&["--admin-token-file", path], &[]),
            78,
            &["--admin-token-file", path],
        );
        fails(
            &run(&[] as &[&str], &[("ADMIN_TOKEN_FILE", path)]),
            78,
            &["ADMIN_TOKEN_FILE", path],
        );
    }
    fails(
        &run(&[] as &[&str], &[("ADMIN_TOKEN", "")]),
        78,
        &["ADMIN_TOKEN"],
    );
}

#[test]
fn a_failed_start_does_not_tell_the_token() {
    let file = Scratch::new("token", "top-secret\n");
    let path = file.0.to_str().expect("text");
    let from_file = run(&["--admin-token-file", path, "--delay-max", "banana"], &[]);
    let from_variable = run(&["--delay-max", "banana"], &[("ADMIN_TOKEN", "top-secret")]);
    for output in [from_file, from_variable] {
        fails(&output, 78, &["--delay-max"]);
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("secret"),
            "{output:?}"
        );
    }
}
