//! Which connections persist (RFC 9112 9.3), and that small responses on them go out at once.

use crate::cases;
use crate::support::{Client, Server, get, ms};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::keep_alive(), 60, 1);
}

#[test]
fn small_responses_are_not_held_back_by_the_kernel() {
    // Without TCP_NODELAY the second of two small writes waits for the acknowledgement of the first, which the client's
    // kernel delays by 40 ms. A delay between two pipelined requests makes the server write twice. The connection is the
    // first one behind the start, which the kernel may have completed before the server accepts.
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let times: Vec<_> = (0..40)
        .map(|_| {
            client.send(get("/status/404") + &get("/delay/1ms") + &get("/delay/1ms"));
            let first = client.response().at;
            client.response();
            client.response().at - first
        })
        .collect();
    // A new connection is acknowledged at once for a while, so only the later ones tell.
    let quickest = times[20..].iter().min().unwrap();
    assert!(
        *quickest < ms(30),
        "two delays of 1 ms took {quickest:?} at best: {times:?}"
    );
}
