//! Long bodies: `/bytes` paced and in chunks, `/upload`, `/events` and `/burn`. What takes its time ends early at the
//! drain, tells when it is not whole, and costs little memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::metrics::{aborted, rejected};
use crate::support::server::Account;
use crate::support::{Client, Server, eventually, find, host, ms, pause, process};

/// Reads until the head of a response is here; its length.
#[track_caller]
fn head(client: &mut Client) -> usize {
    loop {
        if let Some(end) = find(client.received(), b"\r\n\r\n") {
            return end + 4;
        }
        assert!(client.read().expect("it comes") > 0, "the head comes");
    }
}

#[test]
fn paced_bytes_never_run_ahead_and_do_not_come_at_once() {
    const SIZE: usize = 1_000_000;
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.ask("/bytes/1M?over=2s");
    let head = head(&mut client);
    assert!(String::from_utf8_lossy(client.received()).contains("Content-Length: 1000000\r\n"));
    let mut arrivals = 0;
    while client.received().len() - head < SIZE {
        let before = client.received().len();
        assert!(client.read().expect("it goes on") > 0, "it is whole");
        let (body, passed) = (client.received().len() - head, asked.elapsed());
        let due = SIZE as f64 * passed.as_secs_f64() / 2.0;
        assert!(body as f64 <= due + 1.0, "{body} bytes after {passed:?}");
        arrivals += usize::from(client.received().len() > before);
    }
    assert!(asked.elapsed() >= ms(2000), "{:?}", asked.elapsed());
    assert!(arrivals >= 4, "in {arrivals} pieces");
    assert_eq!(client.response().body.len(), SIZE);
    assert_eq!(
        client.get("/bytes/7").body,
        b"xxxxxxx",
        "the connection goes on"
    );
}

#[test]
#[ignore = "slow: 20 seconds"]
fn the_pace_holds_within_a_tenth() {
    const TENTH: usize = 100_000;
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.ask("/bytes/1M?over=20s");
    let head = head(&mut client);
    let mut late = 0;
    for tenth in 1..=10 {
        while client.received().len() < head + tenth * TENTH {
            assert!(client.read().expect("it goes on") > 0, "it is whole");
        }
        let (due, passed) = (ms(2000) * tenth as u32, asked.elapsed());
        late += usize::from(passed > due + ms(2000));
        assert!(
            passed + ms(100) >= due,
            "tenth {tenth} came after {passed:?}"
        );
    }
    // A machine that stands still makes one or two of them late; a pace that is too slow, the second half.
    assert!(late <= 2, "{late} of ten tenths were late");
}

#[test]
fn bytes_come_in_every_framing() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    for target in [
        "/bytes/100000",
        "/bytes/100000?over=0s",
        "/bytes/100000?over=200ms",
        "/bytes/0?over=100ms",
    ] {
        let size = if target.starts_with("/bytes/0") {
            0
        } else {
            100_000
        };
        let sized = client.get(target);
        assert_eq!(
            (sized.body.len(), sized.values("content-length").len()),
            (size, 1),
            "{target}"
        );
        let chunked = client.get(&format!(
            "{target}{}chunked",
            if target.contains('?') { '&' } else { '?' }
        ));
        assert_eq!(
            (chunked.body.len(), chunked.field("transfer-encoding")),
            (size, "chunked"),
            "{target}"
        );
    }
    // The head alone needs no time.
    client.send("HEAD /bytes/1MiB?over=10m HTTP/1.1\r\nHost: test\r\n\r\n");
    let response = client.try_response(true).expect("a head");
    assert_eq!(
        (response.status, response.field("content-length")),
        (200, "1048576")
    );
}

#[test]
fn paced_bytes_end_at_the_drains_limit_cut_short_and_told() {
    let mut server = Server::start(&["--drain-timeout", "1s"]);
    let mut plain = Client::new(&server);
    let mut chunked = Client::new(&server);
    plain.ask("/bytes/1GiB?over=10m");
    chunked.ask("/bytes/1GiB?over=10m&chunked");
    server.wait_in_flight(2);
    let signalled = Instant::now();
    server.signal("TERM");
    for client in [&mut plain, &mut chunked] {
        let end = client.end();
        assert!(
            end.at - signalled >= ms(1000),
            "it had the drain's time: {:?}",
            end.at - signalled
        );
        assert!(end.rest.starts_with(b"HTTP/1.1 200 ") && end.rest.len() < 1 << 30);
        assert!(!end.rest.ends_with(b"\r\n0\r\n\r\n"), "no last chunk");
    }
    server.ends_well();
    let account = Account::of(&server);
    let lines = server.lines();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(
            (line.status(), line.field("complete")),
            (200, "false"),
            "{line:?}; {account:?}"
        );
    }
    // The scrape that was made last may count.
    assert!(account.count("completed") <= 1, "{account:?}");
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let server = Server::start(&["--log-format", "json"]);
    for (target, count) in [
        ("/bytes/1GiB?over=10m", 1),
        ("/events?interval=100ms", 2),
        ("/bytes/256MiB", 3),
    ] {
        let mut client = Client::new(&server);
        let asked = Instant::now();
        client.ask(target);
        head(&mut client);
        server.wait_in_flight(1);
        drop(client);
        let left = asked.elapsed();
        server.wait_in_flight(0);
        server.wait_count(&aborted("client_closed"), |now| now == count);
        let line = server.line(target.split('?').next().unwrap_or_default());
        assert_eq!(
            (line.status(), line.field("complete")),
            (200, "false"),
            "{line:?}"
        );
        // Within a second, by the server's own clock; a loaded machine gets more.
        let took = Duration::from_secs_f64(line.number("duration"));
        assert!(took < left + ms(5000), "{took:?}, left after {left:?}");
    }
}

/// The numbers that an upload tells: bytes, seconds, bytes a second.
fn told(json: &Value) -> (u64, f64, f64) {
    let number = |name: &str| json[name].as_f64().expect("a number");
    (
        json["bytes"].as_u64().expect("a number"),
        number("seconds"),
        number("bytes_per_second"),
    )
}

#[test]
fn an_upload_of_64_mib_takes_little_memory() {
    const SIZE: usize = 64 << 20;
    let server = Server::start(&["--max-body", "1KiB", "--max-body-memory", "1KiB"]);
    assert_eq!(server.get("/").status, 200);
    let before = process::status(server.pid(), "VmHWM");
    let block = vec![b'u'; 64 << 10];
    for chunked in [false, true] {
        let mut client = Client::new(&server);
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {SIZE}")
        };
        let asked = Instant::now();
        client.send(format!(
            "PUT /upload?name=x HTTP/1.1\r\nHost: test\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.response().status, 100);
        for _ in 0..SIZE / block.len() {
            if chunked {
                client.send(format!("{:x}\r\n", block.len()));
            }
            client.send(&block);
            if chunked {
                client.send("\r\n");
            }
        }
        if chunked {
            client.send("0\r\nX-Sum: 9\r\n\r\n");
        }
        let response = client.response();
        assert_eq!(
            (response.status, response.field("content-type")),
            (200, "application/json")
        );
        let (bytes, seconds, rate) = told(&response.json());
        assert_eq!(bytes, SIZE as u64);
        let passed = (response.at - asked).as_secs_f64();
        assert!(seconds > 0.0 && seconds <= passed, "{seconds} of {passed}");
        let expected = SIZE as f64 / seconds;
        assert!(
            (rate - expected).abs() <= expected / 10.0,
            "{rate}, not {expected}"
        );
        assert_eq!(client.get("/").status, 200, "the connection goes on");
    }
    let grown = process::status(server.pid(), "VmHWM") - before;
    assert!(grown < 2 << 10, "it took {grown} KiB");
    // Elsewhere the limit holds.
    assert_eq!(
        Client::new(&server)
            .call("POST", "/", "", &"x".repeat(2000))
            .status,
        413
    );
}

/// Uploads a file of 1 GiB with curl; what curl says of the body's bytes and of the bytes a second, and the response.
#[track_caller]
fn curl_upload(server: &Server, file: &Path, chunked: bool) -> (u64, f64, Value) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-H", "Expect: 100-continue", "--limit-rate", "256M"])
        .args(["-w", "\n%{size_upload} %{speed_upload}", "-T"])
        .arg(if chunked { Path::new("-") } else { file })
        .arg(format!("http://{}/upload", server.addr))
        .stdin(File::open(file).expect("it can be read"));
    let output = curl.output().expect("there is curl");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.split_once('\n').expect("two lines");
    let numbers = told.1.trim().split_once(' ').expect("two numbers");
    (
        numbers.0.parse().expect("a number"),
        numbers.1.parse().expect("a number"),
        serde_json::from_str(told.0).expect("JSON"),
    )
}

#[test]
#[ignore = "heavy: 2 GiB through the loopback; needs curl"]
fn an_upload_of_a_gib_tells_what_curl_says() {
    const SIZE: u64 = 1 << 30;
    if !host::have("curl") {
        return host::not_run("an upload of 1 GiB", "no curl");
    }
    let server = Server::start(&["--max-body", "1KiB", "--max-body-memory", "1KiB"]);
    let file = std::env::temp_dir().join(format!("httpserver-gib-{}", std::process::id()));
    File::create(&file)
        .and_then(|file| file.set_len(SIZE))
        .expect("a file without blocks");
    assert_eq!(server.get("/").status, 200);
    let before = process::status(server.pid(), "VmHWM");
    for chunked in [false, true] {
        let (sent, speed, response) = curl_upload(&server, &file, chunked);
        let (bytes, _, rate) = told(&response);
        assert!(sent >= SIZE && bytes == SIZE, "{sent} {response}");
        let apart = (rate - speed).abs() / speed;
        assert!(
            apart < 0.1,
            "chunked {chunked}: {rate}, but {speed} by curl"
        );
    }
    fs::remove_file(&file).expect("it is there");
    let grown = process::status(server.pid(), "VmHWM") - before;
    println!("the memory grew by {grown} KiB");
    assert!(grown < 512, "it took {grown} KiB");
}

#[test]
fn an_upload_tells_how_long_it_took() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send(
        "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.response().status, 100);
    for _ in 0..3 {
        client.send("x");
        pause(ms(150));
    }
    client.send("x");
    let (bytes, seconds, rate) = told(&client.response().json());
    assert!(
        bytes == 4 && seconds >= 0.45 && rate <= 9.0,
        "{bytes} {seconds} {rate}"
    );
    // A body that came with its head, and none at all.
    assert_eq!(
        told(&client.call("POST", "/upload", "", "hello").json()).0,
        5
    );
    assert_eq!(told(&client.get("/upload").json()).0, 0);
    let huge = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1073741825\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(client.call_raw(huge).status, 413);
    server.wait_count(&rejected("body_too_large"), |count| count == 1);
}

#[test]
fn an_upload_has_the_body_timeout_for_each_mib() {
    let server = Server::start(&["--body-timeout", "6s"]);
    let block = vec![b'u'; (1 << 20) + (64 << 10)];
    let start = |count: usize| {
        format!(
            "PUT /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            count * block.len()
        )
    };
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.send(start(8));
    for _ in 0..7 {
        client.send(&block);
        pause(ms(1000));
    }
    client.send(&block);
    let response = client.response();
    assert!(
        response.status == 200 && response.at - asked > ms(6000),
        "{response}"
    );
    // One MiB at once, and nothing after it.
    let asked = Instant::now();
    client.send(start(2));
    client.send(&block);
    let response = client.response();
    assert!(
        response.status == 408 && response.at - asked >= ms(6000),
        "{response}"
    );
    server.wait_count(&rejected("body_timeout"), |count| count == 1);
}

/// The events of a body: id and data.
#[track_caller]
fn events(text: &str) -> Vec<(u64, Value)> {
    let event = |event: &str| {
        let (id, data) = event.split_once('\n').expect("two lines");
        let id = id.strip_prefix("id: ").and_then(|id| id.parse().ok());
        let data = data.strip_prefix("data: ").expect("data");
        (
            id.expect("an id"),
            serde_json::from_str(data).expect("JSON in one line"),
        )
    };
    assert!(
        text.is_empty() || text.ends_with("\n\n"),
        "each event is whole: {text:?}"
    );
    text.split_terminator("\n\n").map(event).collect()
}

#[test]
fn events_come_in_their_interval_and_end_in_order() {
    let server = Server::start_with(&[], &[("POD_NAME", "pod-\"1"), ("VERSION", "9.1")]);
    let mut client = Client::new(&server);
    for (target, count, least) in [
        ("/events?count=3&interval=200ms", 3, ms(400)),
        ("/events/?count=2", 2, ms(1000)),
        ("/events?count=1&interval=1h", 1, Duration::ZERO),
        ("/events?count=0", 0, Duration::ZERO),
    ] {
        let asked = Instant::now();
        let response = client.get(target);
        assert_eq!(
            (response.status, response.field("transfer-encoding")),
            (200, "chunked"),
            "{response}"
        );
        assert_eq!(response.field("content-type"), "text/event-stream");
        assert_eq!(response.field("cache-control"), "no-store");
        assert!(
            response.at - asked >= least,
            "{target}: {:?}",
            response.at - asked
        );
        let events = events(&response.text());
        let ids: Vec<u64> = events.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (1..=count).collect::<Vec<_>>(), "{target}");
        for (_, data) in &events {
            assert_eq!(
                (&data["pod"], &data["version"]),
                (&"pod-\"1".into(), &"9.1".into()),
                "{data}"
            );
            assert!(
                data["hostname"]
                    .as_str()
                    .is_some_and(|name| !name.is_empty()),
                "{data}"
            );
            assert!(data["time"].as_f64() > Some(1.7e9), "{data}");
        }
    }
    let old = Client::new(&server).call_raw("GET /events?count=2&interval=100ms HTTP/1.0\r\n\r\n");
    assert!(
        old.closes() && old.values("transfer-encoding").is_empty(),
        "{old}"
    );
    assert_eq!(events(&old.text()).len(), 2);
    for (target, name) in [
        ("interval=99ms", "interval"),
        ("interval=61m", "interval"),
        ("count=x", "count"),
        ("count=-1", "count"),
    ] {
        let response = server.get(&format!("/events?{target}"));
        assert!(
            response.status == 400 && response.text().contains(name),
            "{response}"
        );
    }
}

#[test]
fn events_end_with_a_last_chunk_as_soon_as_the_drain_begins() {
    let mut server = Server::start(&["--drain-timeout", "1h", "--shutdown-delay", "0s"]);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.ask("/events?interval=1h");
        head(client);
    }
    server.wait_in_flight(5);
    server.signal("TERM");
    for client in &mut clients {
        // A response is only parsed when its last chunk is here.
        assert_eq!(events(&client.response().text()).len(), 1);
        client.shut_down();
        client.finish();
    }
    server.ends_well();
    let account = Account::of(&server);
    let (completed, cut) = (account.count("completed"), account.count("cut"));
    // The scrape that was made last may count as well.
    assert!((5..=6).contains(&completed) && cut == 0, "{account:?}");
    assert!(
        server
            .lines()
            .iter()
            .all(|line| line.field("complete") == "true")
    );
}

#[test]
fn burning_has_to_be_allowed() {
    let server = Server::start(&[]);
    let response = server.get("/burn/60s");
    assert!(
        response.status == 200 && response.text().contains("\ntarget: /burn/60s\n"),
        "the echo: {response}"
    );
    assert_eq!(
        server
            .scrape()
            .count("http_requests_total{code=\"200\",method=\"GET\",route=\"echo\"}"),
        1
    );
    assert_eq!(server.line("/burn/60s").field("route"), "echo");
}

#[test]
fn a_burn_uses_the_processor_and_then_echoes() {
    let server = Server::start(&["--allow-burn", "true"]);
    let asked = Instant::now();
    let response = server.get("/burn/600ms");
    assert!(response.at - asked >= ms(600), "{:?}", response.at - asked);
    assert!(
        response.status == 200 && response.text().contains("\ntarget: /burn/600ms\n"),
        "{response}"
    );
    // On a machine of its own this is all of the time; a loaded one gives less, but something.
    let mut count = 1;
    eventually("the processor is used", || {
        count += 1;
        server.get("/burn/200ms");
        process::cpu_time(server.pid()) >= ms(300)
    });
    for target in ["/burn/11s", "/burn/x", "/burn/"] {
        let response = server.get(target);
        assert!(
            response.status == 400 && response.text().contains("up to 10s"),
            "{target}: {response}"
        );
    }
    assert_eq!(
        server
            .scrape()
            .count("http_requests_total{code=\"200\",method=\"GET\",route=\"burn\"}"),
        count
    );
}

#[test]
fn as_many_burns_compute_at_once_as_there_are_cores() {
    let mut server = Server::start(&["--allow-burn", "true", "--drain-timeout", "0s"]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if !host::open_files("burns on every core", 256 + 8 * cores as u64) {
        return;
    }
    let mut clients: Vec<Client> = (0..8 * cores).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.ask("/burn/10s");
    }
    server.wait_in_flight(clients.len() as u64);
    let used = || process::cpu_time(server.pid());
    eventually("they compute", || used() >= ms(200) * cores as u32);
    assert_eq!(server.get("/healthz").status, 200, "a probe gets through");
    let mut times = process::cpu_times(server.pid());
    times.sort_unstable_by(|a, b| b.cmp(a));
    let sum = |times: &[Duration]| times.iter().sum::<Duration>();
    // Shared among all of them, it would be an eighth.
    let most = sum(&times[..cores]);
    assert!(most * 2 > sum(&times), "on {cores} cores: {times:?}");
    // The drain reaches those that wait for a core, too; on a busy machine some are cut before their thread runs.
    server.signal("TERM");
    let answered = clients
        .iter_mut()
        .filter_map(|client| client.try_response(false).ok())
        .filter(|response| response.status == 200);
    assert!(answered.count() > cores, "one that waited got its response");
    server.ends_well();
}

#[test]
fn a_burn_ends_at_the_drains_limit() {
    let mut server = Server::start(&["--allow-burn", "true", "--drain-timeout", "500ms"]);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.ask("/burn/10s");
    server.wait_in_flight(1);
    server.signal("TERM");
    server.ends_well();
    assert!(
        asked.elapsed() < ms(10_000),
        "it does not burn to its end: {:?}",
        asked.elapsed()
    );
    assert!(asked.elapsed() >= ms(500));
}
