//! Runs the table against one server, each case in several deliveries that must all end the same: whole, byte by
//! byte, cut at every odd place at once, and cut in two at each odd place. An odd place is one beside a byte that is
//! no letter or digit: between CR and LF, around a colon, inside a chunk's size line.
//!
//! Behind an input that must be refused stands one more request: if the server ever answers it, it has read the end
//! of the refused one where we did not mean it, which is request smuggling. Behind one that keeps the connection
//! open stands a probe, which must be answered.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::cases::{self, Case, End, find};
use crate::client::{Answer, Client, get};
use crate::support::Server;

/// Enough threads to hide the pauses, few enough for a small machine.
const THREADS: usize = 12;
/// A longer input is cut only near its ends and where its parts meet.
const LONG: usize = 600;
/// Apart enough for the server to see two pieces as two reads, mostly; the order of bytes is the same anyhow.
const PAUSE: Duration = Duration::from_micros(250);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Where an input is cut.
struct Delivery {
    cuts: Vec<usize>,
    /// Send what stands behind the input in the same write.
    whole: bool,
}

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    let server = Server::start(&["--header-timeout", "60s", "--body-timeout", "60s"]);
    let cases = cases::all();
    assert!(cases.len() >= 250, "only {} cases", cases.len());
    let jobs = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(case) = jobs.lock().expect("no panic under it").next() else {
                return;
            };
            if let Err(failure) = deliver_all(&server, case) {
                failures
                    .lock()
                    .expect("no panic under it")
                    .push(format!("{}: {failure}", case.name));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new()
                .spawn_scoped(scope, work)
                .expect("a thread starts");
        }
    });
    let failures = failures.into_inner().expect("no panic under it");
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
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

fn deliver_all(server: &Server, case: &Case) -> Result<(), String> {
    let some = if case.whole_only { 1 } else { usize::MAX };
    for delivery in deliveries(&case.input).into_iter().take(some) {
        run(server, case, &delivery)
            .map_err(|failure| format!("cut at {:?}: {failure}", brief(&delivery.cuts)))?;
    }
    Ok(())
}

fn deliveries(input: &[u8]) -> Vec<Delivery> {
    let odd: Vec<usize> = (1..input.len()).filter(|&at| is_odd(input, at)).collect();
    let mut all = vec![Delivery {
        cuts: Vec::new(),
        whole: true,
    }];
    if input.len() <= LONG {
        all.push(Delivery {
            cuts: (1..input.len()).collect(),
            whole: false,
        });
    }
    all.push(Delivery {
        cuts: odd.clone(),
        whole: false,
    });
    all.extend(odd.into_iter().map(|at| Delivery {
        cuts: vec![at],
        whole: false,
    }));
    all
}

fn is_odd(input: &[u8], at: usize) -> bool {
    let near = |at: usize| at < LONG / 4 || at + 40 > input.len() || input.len() <= LONG;
    near(at) && !(input[at - 1].is_ascii_alphanumeric() && input[at].is_ascii_alphanumeric())
}

/// Sends a case over a connection of its own and holds what comes back against what was expected.
pub(crate) fn run_whole(server: &Server, case: &Case) -> Result<Vec<Answer>, String> {
    run(
        server,
        case,
        &Delivery {
            cuts: Vec::new(),
            whole: true,
        },
    )
}

fn run(server: &Server, case: &Case, delivery: &Delivery) -> Result<Vec<Answer>, String> {
    let stream = server.connect();
    stream
        .set_read_timeout(Some(LIMIT))
        .expect("a read time-out can be set");
    let mut client = Client::new(stream);
    let behind = if case.end == End::Eof {
        String::new()
    } else {
        get("/healthz?behind")
    };
    send(&mut client, case, delivery, behind.as_bytes())?;
    if case.end == End::Eof {
        client.end()?;
    }
    let answers = expect_answers(&mut client, case)?;
    let closes = answers.last().is_some_and(Answer::closes);
    match (case.end, closes) {
        (End::Keep, true) => return Err("closes instead of keeping the connection".to_owned()),
        (End::Close, false) => return Err("does not say that it closes".to_owned()),
        (End::Close | End::Any, true) | (End::Eof, _) => client.finish()?,
        (End::Keep | End::Any, false) => {
            if !delivery.whole {
                client.send(&behind)?;
            }
            let answer = client
                .answer(false)
                .map_err(|failure| format!("the probe behind: {failure}"))?;
            if answer.status != 200 || find(&answer.body, b"ok").is_none() {
                return Err(format!("the probe behind got {answer}"));
            }
        }
    }
    Ok(answers)
}

fn send(
    client: &mut Client,
    case: &Case,
    delivery: &Delivery,
    behind: &[u8],
) -> Result<(), String> {
    if delivery.whole {
        return client.send([&case.input[..], behind].concat());
    }
    let mut start = 0;
    for &cut in delivery.cuts.iter().chain([&case.input.len()]) {
        client.send(&case.input[start..cut])?;
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

fn expect_answers(client: &mut Client, case: &Case) -> Result<Vec<Answer>, String> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut early = None;
    for expected in &case.expected {
        if answers.last().is_some_and(Answer::closes) {
            return Err(format!("closes before the answer {:?}", expected.statuses));
        }
        let answer = early
            .take()
            .map_or_else(|| client.answer(expected.to_head), Ok)?;
        if expected.statuses.contains(&answer.status) {
            answers.push(answer);
        } else if expected.optional {
            early = Some(answer);
        } else {
            return Err(format!("expected {:?}, got {answer}", expected.statuses));
        }
    }
    if let Some(last) = answers.last() {
        case.examine(last)?;
    }
    Ok(answers)
}

fn brief(cuts: &[usize]) -> String {
    if cuts.len() > 3 {
        format!("{} places", cuts.len())
    } else {
        format!("{cuts:?}")
    }
}
