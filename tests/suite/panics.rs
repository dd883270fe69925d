//! A panic in a handler costs its own connection, is logged and counted, and changes nothing else.
//!
//! The server runs in this process, so that a test can bring a handler that panics.

use std::net::{SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use httpserver::app::Exchange;
use httpserver::app::handlers;
use httpserver::config::settings::{self, Config};
use httpserver::http::output::OutputBuffer;
use httpserver::http::response::Sent;
use httpserver::observe::diagnostics::Diagnostics;
use httpserver::observe::log::Log;
use httpserver::server::listener::Listener;
use httpserver::server::{Server, shutdown};

use crate::support::Client;

/// The product's handler, but for a target on which it panics.
fn fragile(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    assert_ne!(exchange.request.target(), "/panic", "on demand");
    handlers::respond(exchange, out)
}

/// Ten requests that panic, between two connections that must not notice.
fn ten_panics(addr: SocketAddr, server: &Server) {
    let mut other = Client::to(addr).unwrap();
    assert_eq!(other.get("/before").status, 200);
    for _ in 0..10 {
        let mut client = Client::to(addr).unwrap();
        client.ask("/panic");
        client.end();
    }
    assert_eq!(
        other.get("/after").status,
        200,
        "another connection does not notice"
    );
    let mut newcomer = Client::to(addr).unwrap();
    assert_eq!(
        newcomer.get("/").status,
        200,
        "the slots outlast the panics"
    );
    assert_eq!(server.app.metrics.panics.get(), 10);
}

#[test]
fn a_panic_costs_its_own_connection() {
    let flags = ["--delay-max", "0s", "--max-connections", "8"].map(str::to_owned);
    let config = Config::read(&settings::flags(&flags).unwrap(), |_| None).unwrap();
    let (log, lines): (&Log, &Log) = (Box::leak(Box::default()), Box::leak(Box::default()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = Listener::with_options(listener, &config).unwrap();
    let mut server = Server::new(config, log, Diagnostics::new(lines, false), |_| None).unwrap();
    server.respond = fragile;
    let (events, notifier) = shutdown::channel().unwrap();
    thread::scope(|scope| {
        let run = || server.run(&listener, events, &notifier);
        let running = thread::Builder::new().spawn_scoped(scope, run).unwrap();
        // A failure must end the server too, or the scope would wait for it for ever.
        let seen = panic::catch_unwind(AssertUnwindSafe(|| ten_panics(addr, &server)));
        notifier.signal();
        let drained = running.join().expect("the panics stayed in their threads");
        assert_eq!(drained.expect("it drains").cut, 0);
        seen.unwrap_or_else(|failure| panic::resume_unwind(failure));
    });
    let lines = lines.finish(Duration::ZERO).lost;
    assert!(
        lines >= 10,
        "each panic is a line of diagnostics, which nobody wrote here: {lines}"
    );
}
