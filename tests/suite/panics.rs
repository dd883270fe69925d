//! A panic in a handler costs its own connection, is logged and counted, and changes nothing else.

use std::net::{SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use httpserver::access_log::Log;
use httpserver::body::Budget;
use httpserver::config::Config;
use httpserver::context::{Context, Identity};
use httpserver::handlers::{self, Call};
use httpserver::live::{Live, Start};
use httpserver::lobby::Lobby;
use httpserver::metrics::Metrics;
use httpserver::response::{Out, Sent};
use httpserver::{process, server, signals};

use crate::support::Client;

/// The product's handler, but for a target on which it panics.
fn fragile(call: &Call<'_>, random: &mut Rng, out: &mut Out<'_>) -> Sent {
    assert_ne!(call.request.target, "/panic", "on demand");
    handlers::respond(call, random, out)
}

/// Ten requests that panic, between two connections that must not notice.
fn ten_panics(addr: SocketAddr, metrics: &Metrics) {
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
    assert_eq!(metrics.panics.get(), 10);
}

#[test]
fn a_panic_costs_its_own_connection() {
    let config = Config::read(&[], |_| None).unwrap();
    let config = Config {
        admin_token: String::new(),
        ..config
    };
    let (log, diagnostics) = (Log::default(), Log::default());
    let metrics = Metrics::new(&[]).unwrap();
    let ctx = Context {
        live: &Live::new(Start {
            delay_max: Duration::ZERO,
            ..config.start
        }),
        metrics: &metrics,
        lobby: &Lobby::new(&process::capacity(8)),
        bodies: &Budget::new(config.max_body_memory),
        log: &log,
        diagnostics: &diagnostics,
        identity: &Identity::new("1", |_| None),
        config: &config,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (events, notifier) = signals::channel().unwrap();
    thread::scope(|scope| {
        let run = || server::run(&listener, ctx, events, &notifier, fragile);
        let server = thread::Builder::new().spawn_scoped(scope, run).unwrap();
        // A failure must end the server too, or the scope would wait for it for ever.
        let seen = panic::catch_unwind(AssertUnwindSafe(|| ten_panics(addr, &metrics)));
        notifier.signal();
        let drained = server
            .join()
            .expect("the panics stayed in their threads")
            .expect("it drains");
        assert_eq!(drained.cut, 0);
        seen.unwrap_or_else(|failure| panic::resume_unwind(failure));
    });
    let lines = diagnostics.finish(Duration::ZERO).lost;
    assert!(
        lines >= 10,
        "each panic is a line of diagnostics, which nobody wrote here: {lines}"
    );
}
