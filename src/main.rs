//! The command: arguments to a command to an exit status.
//!
//! Nothing else in the program prints a fatal error or exits. Signals are caught first of all, so
//! that none is lost while the server starts. The two logs are leaked, once: their writers may hang
//! in a write that nobody reads, and a thread that cannot be ended cannot borrow from `main`.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use httpserver::app::identity::BUILD;
use httpserver::client::healthcheck;
use httpserver::client::http::Url;
use httpserver::client::options::{self, Options};
use httpserver::client::watch;
use httpserver::config::arguments::{ArgumentError, Arguments};
use httpserver::config::level::Level;
use httpserver::config::settings::{self, Config};
use httpserver::limits;
use httpserver::observe::diagnostics::Diagnostics;
use httpserver::observe::log::{Log, Totals};
use httpserver::observe::process;
use httpserver::server::listener::Listener;
use httpserver::server::{self, Drained, Server, shutdown};

/// Why the program ends, and its exit status; 64 and 78 are those of sysexits.h.
struct Failure(u8, String);

/// Makes an error end the program with this status.
fn failure<E: Error>(status: u8) -> impl FnOnce(E) -> Failure {
    move |error| Failure(status, error.to_string())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match command(&arguments) {
        Ok(status) => status,
        Err(Failure(status, text)) => {
            // If stderr is closed, only the exit status tells of the failure.
            let _ = writeln!(io::stderr(), "httpserver: {text}");
            ExitCode::from(status)
        }
    }
}

fn command(arguments: &[String]) -> Result<ExitCode, Failure> {
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => (name.as_str(), rest),
        _ => ("serve", arguments),
    };
    let asks_for_help = rest
        .iter()
        .any(|argument| matches!(argument.as_str(), "--help" | "-h"));
    let result = match name {
        "serve" if asks_for_help => print(&settings::help()),
        "serve" if rest == ["--version"] || rest == ["-V"] => print_version(),
        "serve" => serve(rest),
        "healthcheck" if asks_for_help => print(healthcheck::HELP),
        "healthcheck" => healthcheck(rest),
        "watch" if asks_for_help => print(&options::help()),
        "watch" => return watch(rest),
        _ => {
            let known = ["serve", "healthcheck", "watch"];
            let error = ArgumentError::unknown("command", name, "", &known);
            Err(failure(64)(error))
        }
    };
    result.map(|()| ExitCode::SUCCESS)
}

fn print_version() -> Result<(), Failure> {
    let build = BUILD.map(|(_, value)| value).join(" ");
    print(&format!("httpserver {build}\n"))
}

/// Prints a text. A reader that closes early (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure(1, format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn healthcheck(arguments: &[String]) -> Result<(), Failure> {
    let arguments = Arguments::split(arguments, &["listen"], true).map_err(failure(64))?;
    let url = if let Some(url) = arguments.word {
        Url::parse(url).map_err(failure(1))?
    } else {
        let listen = |name: &str| variable(name).filter(|_| name == "LISTEN");
        let config = Config::read(&arguments, listen).map_err(failure(78))?;
        let first = config.listen.first().ok_or(server::Error::NoAddress);
        healthcheck::url_of_listener(*first.map_err(failure(1))?)
    };
    healthcheck::run(&url).map_err(failure(1))
}

fn watch(arguments: &[String]) -> Result<ExitCode, Failure> {
    let options = Options::parse(arguments).map_err(failure(64))?;
    Ok(match watch::run(options).map_err(failure(1))? {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn serve(arguments: &[String]) -> Result<(), Failure> {
    let (events, notifier) = shutdown::channel().map_err(failure(1))?;
    notifier.catch_signals().map_err(failure(1))?;
    let arguments = settings::flags(arguments).map_err(failure(64))?;
    let config = Config::read(&arguments, variable).map_err(failure(78))?;
    let listener = Listener::bind(&config).map_err(failure(1))?;
    let (log, diagnostics) = start_logs(config.log_json)?;
    // The connection's thread tells which connection a panic ended; this tells where it happened.
    panic::set_hook(Box::new(move |panic| {
        diagnostics.say(Level::Error, format_args!("{panic}"));
    }));
    let server = Server::new(config, log, diagnostics, variable).map_err(failure(1))?;
    report_start(&server, &listener);
    let result = server.run(&listener, events, &notifier);
    let flushed_by = Instant::now() + limits::LOG_FLUSH;
    let totals = log.finish(limits::LOG_FLUSH);
    if let Ok(drained) = &result {
        report_end(&server, *drained, totals);
    }
    // On a busy machine the writer of stderr may start late: it gets what the log left of its time.
    let left = flushed_by.saturating_duration_since(Instant::now());
    diagnostics.log.finish(left + limits::DIAGNOSTICS_FLUSH);
    result.map(drop).map_err(failure(1))
}

/// Tells what a user should know before the first request.
fn report_start(server: &Server, listener: &Listener) {
    let app = &server.app;
    if let Some((connections, limit)) = server.lowered_by() {
        let wanted = app.config.max_connections;
        let text = format_args!("max-connections lowered from {wanted} to {connections}: {limit}");
        app.say(Level::Warn, text);
    }
    let backlog = limits::BACKLOG.unsigned_abs().into();
    if let Some(length) = process::sysctl("net/core/somaxconn").filter(|length| *length < backlog) {
        let text = format_args!(
            "the kernel queues {length} connections, not {backlog}: raise net.core.somaxconn"
        );
        app.say(Level::Warn, text);
    }
    if app.config.admin_token.is_empty() {
        app.say(Level::Info, format_args!("admin is off: no token is set"));
    }
    let Ok(address) = listener.local_addr() else {
        return;
    };
    if address.ip() == Ipv6Addr::UNSPECIFIED && process::sysctl("net/ipv6/bindv6only") == Some(1) {
        let text = format_args!(
            "{address} takes IPv6 alone, because net.ipv6.bindv6only is 1: IPv4 clients are \
             refused; set LISTEN=0.0.0.0:{} for IPv4",
            address.port()
        );
        app.say(Level::Warn, text);
    }
    app.say(Level::Info, format_args!("listening on {address}"));
}

/// Tells what became of requests and log lines.
fn report_end(server: &Server, drained: Drained, totals: Totals) {
    let app = &server.app;
    let requests = app.totals.requests.load(Relaxed);
    let not_logged = app.totals.not_logged.load(Relaxed);
    let Totals { written, lost, .. } = totals;
    if lost > 0 {
        let why = match totals.last_error {
            Some(kind) => format!("writing failed: {kind}"),
            None => "nobody read stdout in time".to_owned(),
        };
        let text = format_args!("{lost} log lines were lost: {why}");
        app.say(Level::Error, text);
    }
    let Drained { completed, cut } = drained;
    let text = format_args!(
        "drain finished: completed={completed} cut={cut} requests={requests} \
         log_lines={written} not_logged={not_logged}"
    );
    app.say(Level::Info, text);
}

/// Starts the access log on stdout and the diagnostics on stderr.
fn start_logs(json: bool) -> Result<(&'static Log, Diagnostics), Failure> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let stdout = stdout.as_fd().try_clone_to_owned();
    let stderr = stderr.as_fd().try_clone_to_owned();
    let diagnostics = start_log(Log::default(), "stderr", stderr, |_| ())?;
    let diagnostics = Diagnostics::new(diagnostics, json);
    let on_first_error = move |error: &io::Error| {
        let text = format_args!("cannot write the access log to stdout: {error}");
        diagnostics.say(Level::Error, text);
    };
    let log = Log::gathering(limits::LOG_GATHER);
    let log = start_log(log, "stdout", stdout, on_first_error)?;
    Ok((log, diagnostics))
}

/// Starts the writer of a log; a first failed write is reported to `on_first_error`.
fn start_log(
    log: Log,
    name: &'static str,
    stream: io::Result<OwnedFd>,
    on_first_error: impl Fn(&io::Error) + Send + 'static,
) -> Result<&'static Log, Failure> {
    let failed = |error| Failure(1, format!("no log on {name}: {error}"));
    let mut file = File::from(stream.map_err(failed)?);
    let log: &'static Log = Box::leak(Box::new(log));
    let writer = thread::Builder::new()
        .name(name.into())
        .stack_size(limits::STACK_BYTES);
    writer
        .spawn(move || log.write_to(&mut file, on_first_error))
        .map_err(failed)?;
    Ok(log)
}
