//! The command: arguments to a configuration, to a server, to an exit status.
//!
//! Nothing else in the program prints a fatal error or exits. The logs are leaked, once: their writers may hang in a
//! write that nobody reads, and a thread that cannot be ended cannot borrow from `main`.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use httpserver::access_log::Log;
use httpserver::body::Budget;
use httpserver::client::healthcheck::{self, Check};
use httpserver::client::watch::{self, Verdict};
use httpserver::config::{self, Config};
use httpserver::context::{self, BUILD, Context, Identity};
use httpserver::live::{Level, Live};
use httpserver::lobby::Lobby;
use httpserver::metrics::Metrics;
use httpserver::process::{self, Capacity};
use httpserver::{handlers, limits, server, signals};

/// Why the program ends, and its exit status; 64 and 78 are those of sysexits.h.
struct Failure(u8, String);

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Failure {
        let status = match error {
            config::Error::Usage(_) => 64,
            config::Error::Value(_) => 78,
        };
        Failure(status, error.to_string())
    }
}

impl From<watch::Error> for Failure {
    fn from(error: watch::Error) -> Failure {
        let status = if matches!(error, watch::Error::Options(_)) { 64 } else { 1 };
        Failure(status, error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(1, text)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match command(&arguments) {
        Ok(status) => status,
        Err(Failure(status, text)) => {
            // Where stderr is closed, the exit status has to do.
            let _ = writeln!(io::stderr(), "httpserver: {text}");
            ExitCode::from(status)
        }
    }
}

fn command(arguments: &[String]) -> Result<ExitCode, Failure> {
    let result = match arguments.first().map(String::as_str) {
        Some("watch") if watch::run(&arguments[1..])? == Verdict::Lost => return Ok(ExitCode::FAILURE),
        Some("watch") => Ok(()),
        Some("healthcheck") => healthcheck(&arguments[1..]),
        Some("--help" | "-h" | "help") => print(&config::help()),
        Some("--version" | "-V") => print(&format!("httpserver {}\n", BUILD.map(|(_, value)| value).join(" "))),
        Some("serve") => serve(&arguments[1..]),
        _ => serve(arguments),
    };
    result.map(|()| ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure(1, format!("cannot write: {error}")))
}

fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn healthcheck(arguments: &[String]) -> Result<(), Failure> {
    let check = match arguments {
        [flag] if flag == "--help" || flag == "-h" => return print(healthcheck::HELP),
        [url] if !url.starts_with("--") => Check::of_url(url).map_err(|error| error.to_string())?,
        [url, extra, ..] if !url.starts_with("--") => {
            return Err(Failure(64, format!("healthcheck takes one URL, not {extra:?} too: see --help")));
        }
        flags => Check::of_listener(config::listen_setting(flags, variable)?),
    };
    check.run().map_err(|error| error.to_string().into())
}

fn serve(arguments: &[String]) -> Result<(), Failure> {
    let config = Config::read(arguments, variable)?;
    let listener = server::listen(config.listen)?;
    let (events, notifier) = signals::channel().map_err(|error| format!("no socket pair: {error}"))?;
    notifier.bring_signals().map_err(|error| format!("no signal handlers: {error}"))?;
    let diagnostics = start_log(Log::default(), "stderr", io::stderr().as_fd().try_clone_to_owned(), None)?;
    let accesses = Log::gathering(limits::LOG_GATHER);
    let complain_to = Some((diagnostics, config.log_json));
    let log = start_log(accesses, "stdout", io::stdout().as_fd().try_clone_to_owned(), complain_to)?;
    let log_json = config.log_json;
    // The connection's thread tells which connection a panic cost; here stands where it happened.
    panic::set_hook(Box::new(move |panic| {
        context::say(diagnostics, log_json, Level::Error, format_args!("{panic}"));
    }));
    let capacity = process::capacity(config.max_connections);
    let labels = [("version", config.version.as_str())].into_iter().chain(BUILD);
    let labels: Vec<_> = labels.filter(|(name, _)| ["version", "revision", "rustc"].contains(name)).collect();
    let metrics = Metrics::new(&labels).map_err(|error| format!("no metrics: {error}"))?;
    let ctx = Context {
        live: &Live::new(config.start),
        metrics: &metrics,
        lobby: &Lobby::new(&capacity),
        bodies: &Budget::new(config.max_body_memory),
        log,
        diagnostics,
        identity: &Identity::new(&config.version, variable),
        config: &config,
    };
    greet(ctx, &capacity);
    let address = listener.local_addr().map_err(|error| format!("no address: {error}"))?;
    ctx.say(Level::Info, format_args!("listening on {address}"));
    let result = server::run(&listener, ctx, events, &notifier, handlers::respond);
    let totals = log.finish(limits::LOG_FLUSH);
    if totals.lost > 0 {
        ctx.say(Level::Error, format_args!("{} log lines were lost: nobody read stdout in time", totals.lost));
    }
    if let Ok(drained) = &result {
        let (completed, cut, requests, lines) = (drained.completed, drained.cut, metrics.answers(), totals.written);
        ctx.say(
            Level::Info,
            format_args!("drain finished: completed={completed} cut={cut} requests={requests} log_lines={lines}"),
        );
    }
    diagnostics.finish(Duration::from_secs(1).saturating_sub(limits::LOG_FLUSH));
    result.map(drop).map_err(|error| Failure(1, format!("cannot serve: {error}")))
}

/// Tells what a user should know before the first request.
fn greet(ctx: Context<'_>, capacity: &Capacity) {
    if let Some((limit, value)) = capacity.lowered_by {
        let (wanted, seats) = (ctx.config.max_connections, capacity.seats);
        ctx.say(Level::Warn, format_args!("max-connections lowered from {wanted} to {seats}: {limit} {value}"));
    }
    if let Some(length) = process::somaxconn().filter(|length| *length < limits::BACKLOG) {
        let wanted = limits::BACKLOG;
        ctx.say(Level::Warn, format_args!("the kernel queues {length} connections, not {wanted}: net.core.somaxconn"));
    }
    if ctx.config.admin_token.is_empty() {
        ctx.say(Level::Info, format_args!("admin is off: no token is set"));
    }
}

/// Starts a log that writes to a standard stream; a first failed write is told to another log.
fn start_log(
    log: Log, name: &'static str, stream: io::Result<impl Into<File>>, other: Option<(&'static Log, bool)>,
) -> Result<&'static Log, String> {
    let failed = |error| format!("no log on {name}: {error}");
    let mut file: File = stream.map_err(failed)?.into();
    let log: &'static Log = Box::leak(Box::new(log));
    let complain = move |error: &io::Error| {
        if let Some((diagnostics, json)) = other {
            context::say(diagnostics, json, Level::Error, format_args!("cannot write the log to {name}: {error}"));
        }
    };
    let writer = thread::Builder::new().name(name.into()).stack_size(limits::STACK);
    writer.spawn(move || log.write_to(&mut file, complain)).map_err(failed)?;
    Ok(log)
}
