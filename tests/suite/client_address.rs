//! Whose address the echo and the log show: the peer's, or what trusted proxies say in `X-Forwarded-For`.

use crate::support::host::has_ipv6;
use crate::support::{Client, Server, not_run};

#[test]
fn the_client_is_told_by_trusted_proxies_alone() {
    let trusted = "127.0.0.0/8,10.0.0.0/8";
    let table: &[(&str, &[&str], &str)] = &[
        (trusted, &[], "127.0.0.1"),
        (
            trusted,
            &["198.51.100.1", "203.0.113.7, 10.0.0.1"],
            "203.0.113.7",
        ),
        ("10.0.0.0/8", &["203.0.113.7"], "127.0.0.1"),
        ("", &["203.0.113.7"], "127.0.0.1"),
    ];
    for (trusted, forwarded, client) in table {
        let mut server = Server::start(&["--trusted-proxies", trusted]);
        let fields: Vec<String> = forwarded
            .iter()
            .map(|value| format!("X-Forwarded-For: {value}\r\n"))
            .collect();
        let response = Client::new(&server).call("GET", "/", &fields.concat(), "");
        let told = format!("client: {client}\n");
        assert!(
            response.text().contains(&told),
            "{forwarded:?} behind {trusted}: {response}"
        );
        let line = server.stop_and_lines().remove(0);
        assert_eq!(
            line.field("client"),
            *client,
            "{forwarded:?} behind {trusted}"
        );
        assert!(
            line.field("peer").starts_with("127.0.0.1:"),
            "the peer is the peer: {line:?}"
        );
    }
}

#[test]
fn ipv4_over_ipv6_is_shown_and_trusted_as_ipv4() {
    if !has_ipv6() {
        return not_run("IPv4-mapped addresses", "this host has no IPv6");
    }
    for (trusted, host, client, peer) in [
        ("10.0.0.0/8", "127.0.0.1", "127.0.0.1", "127.0.0.1:"),
        ("127.0.0.0/8", "127.0.0.1", "203.0.113.7", "127.0.0.1:"),
        ("::1/128", "[::1]", "203.0.113.7", "[::1]:"),
        ("127.0.0.0/8", "[::1]", "::1", "[::1]:"),
    ] {
        let mut server = Server::start(&["--listen", "[::]:0", "--trusted-proxies", trusted]);
        let addr = format!("{host}:{}", server.addr.port()).parse().unwrap();
        if server.stderr.text().contains("bindv6only") {
            return not_run(
                "IPv4-mapped addresses",
                "this host does not map IPv4 (net.ipv6.bindv6only)",
            );
        }
        let mut connection = Client::to(addr).expect("it accepts");
        let response = connection.call("GET", "/", "X-Forwarded-For: 203.0.113.7\r\n", "");
        assert!(
            response.text().contains(&format!("client: {client}\n")),
            "{response}"
        );
        drop(connection);
        let line = server.stop_and_lines().remove(0);
        assert!(
            line.field("client") == client && line.field("peer").starts_with(peer),
            "{line:?}"
        );
    }
}
