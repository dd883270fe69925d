//! Runs the table against one server, each case in several deliveries that must all end the same: whole, byte by
//! byte, cut at every odd place at once, and cut in two at an odd place. An odd place is one beside a byte that is no
//! letter or digit: between CR and LF, around a colon, inside a chunk's size line. Where the cases are about the syntax,
//! each is cut at each of its odd places; where they are about the content, their heads are alike, and each is cut at
//! every fourth of them, the next case at the places beside.
//!
//! Behind an input that must be refused stands one more request: if the server ever answers it, it has read the end
//! of the refused one where we did not mean it, which is request smuggling. Behind one that keeps the connection
//! open stands a probe, which must be answered.

use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::cases::{self, Case, End};
use crate::support::{Client, Response, Server, find, get};

/// Enough threads to hide the pauses, few enough for a small machine and its open files.
const THREADS: usize = 12;
/// A longer input is cut only near its ends and where its parts meet.
const LONG: usize = 600;
/// Apart enough for the server to see two pieces as two reads, mostly; the order of bytes is the same anyhow.
const PAUSE: Duration = Duration::from_micros(250);

/// Where an input is cut.
struct Delivery {
    cuts: Vec<usize>,
    /// Send what stands behind the input in the same write.
    whole: bool,
}

impl Delivery {
    const WHOLE: Self = Self {
        cuts: Vec::new(),
        whole: true,
    };
}

/// Runs each case in each delivery, of those in two pieces every `stride`th.
#[track_caller]
pub(crate) fn holds(cases: &[Case], least: usize, stride: usize) {
    let server = Server::start(&["--header-timeout", "5m", "--body-timeout", "5m"]);
    assert!(cases.len() >= least, "only {} cases", cases.len());
    let jobs = Mutex::new(cases.iter().enumerate());
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((number, case)) = jobs.lock().unwrap().next() else {
                return;
            };
            let deliveries = deliveries(case, number % stride, stride);
            if let Err(failure) = deliver_all(&server, case, deliveries) {
                failures
                    .lock()
                    .unwrap()
                    .push(format!("{}: {failure}", case.name));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
    let failures = failures.into_inner().unwrap();
    let (failed, all) = (failures.len(), cases.len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} cases fail:\n{}",
        failures.join("\n")
    );
}

#[test]
fn no_two_cases_have_one_name() {
    let mut names: Vec<_> = cases::all().into_iter().map(|case| case.name).collect();
    names.sort();
    let twice: Vec<_> = names
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| &pair[0])
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}

fn deliver_all(server: &Server, case: &Case, deliveries: Vec<Delivery>) -> Result<(), String> {
    for delivery in deliveries {
        run(server, case, &delivery)
            .map_err(|failure| format!("cut at {:?}: {failure}", brief(&delivery.cuts)))?;
    }
    Ok(())
}

fn deliveries(case: &Case, skip: usize, stride: usize) -> Vec<Delivery> {
    let input = &case.input;
    let mut all = vec![Delivery::WHOLE];
    if case.whole_only {
        return all;
    }
    let pieces = |cuts| Delivery { cuts, whole: false };
    if input.len() <= LONG {
        all.push(pieces((1..input.len()).collect()));
    }
    let odd: Vec<usize> = (1..input.len()).filter(|&at| is_odd(input, at)).collect();
    all.push(pieces(odd.clone()));
    let some = odd.into_iter().skip(skip).step_by(stride);
    all.extend(some.map(|at| pieces(vec![at])));
    all
}

fn is_odd(input: &[u8], at: usize) -> bool {
    let near = |at: usize| at < LONG / 4 || at + 40 > input.len() || input.len() <= LONG;
    near(at) && !(input[at - 1].is_ascii_alphanumeric() && input[at].is_ascii_alphanumeric())
}

/// Sends a case over a connection of its own and holds what comes back against what was expected.
pub(crate) fn run_whole(server: &Server, case: &Case) -> Result<Vec<Response>, String> {
    run(server, case, &Delivery::WHOLE)
}

fn run(server: &Server, case: &Case, delivery: &Delivery) -> Result<Vec<Response>, String> {
    let mut client = Client::to(server.addr).map_err(text)?;
    let behind = if case.end == End::Eof {
        String::new()
    } else {
        get("/healthz?behind")
    };
    send(&mut client, case, delivery, behind.as_bytes())?;
    if case.end == End::Eof {
        client.shut_down();
    }
    let responses = expect_responses(&mut client, case)?;
    let closes = responses.last().is_some_and(Response::closes);
    match (case.end, closes) {
        (End::Keep, true) => return Err("closes instead of keeping the connection".to_owned()),
        (End::Close, false) => return Err("does not say that it closes".to_owned()),
        (End::Close | End::Any, true) | (End::Eof, _) => finish(&mut client)?,
        (End::Keep | End::Any, false) => {
            if !delivery.whole {
                client.try_send(&behind).map_err(text)?;
            }
            let response = client
                .try_response(false)
                .map_err(|failure| format!("the probe behind: {failure}"))?;
            if response.status != 200 || find(&response.body, b"ok").is_none() {
                return Err(format!("the probe behind got {response}"));
            }
        }
    }
    Ok(responses)
}

fn send(
    client: &mut Client,
    case: &Case,
    delivery: &Delivery,
    behind: &[u8],
) -> Result<(), String> {
    if delivery.whole {
        return client
            .try_send([&case.input[..], behind].concat())
            .map_err(text);
    }
    let mut start = 0;
    for &cut in delivery.cuts.iter().chain([&case.input.len()]) {
        client.try_send(&case.input[start..cut]).map_err(text)?;
        start = cut;
        if cut < case.input.len() {
            thread::park_timeout(if delivery.cuts.len() > 1 {
                PAUSE / 10
            } else {
                PAUSE
            });
        }
    }
    Ok(())
}

fn expect_responses(client: &mut Client, case: &Case) -> Result<Vec<Response>, String> {
    let mut responses: Vec<Response> = Vec::new();
    let mut early = None;
    for expected in &case.expected {
        if responses.last().is_some_and(Response::closes) {
            return Err(format!(
                "closes before the response {:?}",
                expected.statuses
            ));
        }
        let response = early
            .take()
            .map_or_else(|| client.try_response(expected.to_head), Ok)
            .map_err(text)?;
        if expected.statuses.contains(&response.status) {
            responses.push(response);
        } else if expected.optional {
            early = Some(response);
        } else {
            return Err(format!("expected {:?}, got {response}", expected.statuses));
        }
    }
    if let Some(last) = responses.last() {
        case.examine(last)?;
    }
    Ok(responses)
}

fn finish(client: &mut Client) -> Result<(), String> {
    let end = client.end();
    let orderly = !end.reset && end.rest.is_empty();
    orderly
        .then_some(())
        .ok_or_else(|| format!("reset: {}, rest: {}", end.reset, end.rest.escape_ascii()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: io::Error) -> String {
    error.to_string()
}

fn brief(cuts: &[usize]) -> String {
    if cuts.len() > 3 {
        format!("{} places", cuts.len())
    } else {
        format!("{cuts:?}")
    }
}
