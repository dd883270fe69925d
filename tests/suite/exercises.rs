//! The three exercises, run as a reader runs them: the real binaries, their flags, their lines, Ctrl-C.
//!
//! They are judged by their output alone, so that each program stays one file without hooks for tests. Nothing here
//! sleeps: a test waits for a line, and where it must show that a thread is blocked, for a silence. Each wait for a
//! line has a limit, so a program that hangs fails its test and is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use crate::support::process::Program;
use crate::support::{each, ms, pause};

const WORDS: &str = env!("CARGO_BIN_EXE_words");
const ONE: &str = env!("CARGO_BIN_EXE_producer_consumer");
const SEVERAL: &str = env!("CARGO_BIN_EXE_producers_consumers");
/// Long enough for a thread that is not blocked to write a line.
const SILENCE: Duration = ms(400);

#[test]
fn words_become_smart_and_strong() {
    let output = Command::new(WORDS).output().unwrap();
    let expected = "[\"I\", \"am\", \"stupid\", \"and\", \"weak\"]\n[\"I\", \"am\", \"smart\", \"and\", \"strong\"]\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success());
}

#[test]
fn every_mix_takes_every_integer_once_and_in_order() {
    for (producers, consumers) in (1..=4).flat_map(|p| (1..=4).map(move |c| (p, c))) {
        let (p, c) = (producers.to_string(), consumers.to_string());
        let mut program = Running::start(
            SEVERAL,
            &[
                "--interval",
                "0",
                "--count",
                "1000",
                "--producers",
                &p,
                "--consumers",
                &c,
            ],
        );
        let lines = program.rest();
        assert_eq!(
            lines.last().unwrap(),
            "done: 1000 produced, 1000 consumed",
            "{p} to {c}"
        );
        assert!(program.ended().success(), "{p} to {c}");
        check_taken(&lines, 1_000);
        let ids = |side| {
            events(&lines, side)
                .iter()
                .map(|event| event.id)
                .collect::<BTreeSet<_>>()
        };
        assert!(
            ids("producer").is_subset(&(1..=producers).collect()),
            "{p} to {c}"
        );
        assert!(
            ids("consumer").is_subset(&(1..=consumers).collect()),
            "{p} to {c}"
        );
    }
}

#[test]
fn one_of_each_keeps_the_order() {
    let lines = Running::start(ONE, &["--interval", "0", "--count", "1000"]).rest();
    assert_eq!(lines.last().unwrap(), "done: 1000 produced, 1000 consumed");
    let taken = events(&lines, "consumer")
        .into_iter()
        .map(|event| event.number);
    assert!(taken.eq(1..=1_000), "not taken in order");
}

#[test]
fn three_producers_and_two_consumers_by_default() {
    let lines = Running::start(SEVERAL, &["--interval", "2ms", "--count", "300"]).rest();
    let ids = |side| {
        events(&lines, side)
            .iter()
            .map(|event| event.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        BTreeSet::from_iter(ids("producer")),
        BTreeSet::from([1, 2, 3])
    );
    assert_eq!(BTreeSet::from_iter(ids("consumer")), BTreeSet::from([1, 2]));
    check_taken(&lines, 300);
}

#[test]
fn a_full_queue_blocks_the_producer_at_10() {
    let mut program = Running::start(
        ONE,
        &["--producer-interval", "0", "--consumer-interval", "1h"],
    );
    for number in 1..=10 {
        assert_eq!(
            program.line(),
            format!("producer: put {number}, queue {number}/10")
        );
    }
    assert_eq!(program.line(), "producer: queue is full, waiting to put 11");
    program.assert_silent();
    program.interrupt();
    let lines = program.rest();
    let taken = events(&lines, "consumer")
        .into_iter()
        .map(|event| event.number);
    assert!(taken.eq(1..=11), "the queue was not emptied: {lines:?}");
    assert_eq!(lines.last().unwrap(), "done: 11 produced, 11 consumed");
    assert!(program.ended().success());
}

#[test]
fn a_full_queue_blocks_several_producers_at_10() {
    for (producers, consumers) in [(3, 2), (50, 50)] {
        let (p, c) = (producers.to_string(), consumers.to_string());
        let flags = [
            "--producer-interval",
            "0",
            "--consumer-interval",
            "1h",
            "--producers",
            &p,
            "--consumers",
            &c,
        ];
        let mut program = Running::start(SEVERAL, &flags);
        let mut lines = program.lines(10 + producers);
        program.assert_silent();
        assert!(
            events(&lines, "producer")
                .iter()
                .map(|event| event.fill)
                .eq(1..=10),
            "{lines:?}"
        );
        let waiting = lines
            .iter()
            .filter(|line| line.contains("queue is full, waiting to put"))
            .count();
        assert_eq!(waiting, producers, "{lines:?}");
        program.interrupt();
        lines.extend(program.rest());
        let total = 10 + producers;
        check_taken(&lines, total as u64);
        assert_eq!(
            *lines.last().unwrap(),
            format!("done: {total} produced, {total} consumed")
        );
        assert!(program.ended().success());
    }
}

#[test]
fn an_empty_queue_blocks_the_consumer() {
    for (program, waiting) in [
        (ONE, "consumer: queue is empty, waiting"),
        (SEVERAL, "queue is empty, waiting"),
    ] {
        let mut program = Running::start(
            program,
            &["--producer-interval", "1h", "--consumer-interval", "0"],
        );
        let line = program.line();
        assert!(line.ends_with(waiting), "{line}");
        program.assert_silent();
        program.interrupt();
        assert_eq!(program.rest(), ["done: 0 produced, 0 consumed"]);
        assert!(program.ended().success());
    }
}

#[test]
fn a_blocked_consumer_takes_what_comes_at_once() {
    let started = Instant::now();
    let program = Running::start(
        ONE,
        &[
            "--producer-interval",
            "500ms",
            "--consumer-interval",
            "0",
            "--count",
            "3",
        ],
    );
    let lines = program.rest();
    let steps: Vec<_> = lines
        .iter()
        .filter(|line| !line.contains("waiting"))
        .map(String::as_str)
        .collect();
    let expected = [
        "producer: put 1, queue 1/10",
        "consumer: took 1, queue 0/10",
        "producer: put 2, queue 1/10",
        "consumer: took 2, queue 0/10",
        "producer: put 3, queue 1/10",
        "consumer: took 3, queue 0/10",
        "done: 3 produced, 3 consumed",
    ];
    assert_eq!(steps, expected);
    assert_eq!(lines[0], "consumer: queue is empty, waiting");
    assert!(
        started.elapsed() >= Duration::from_millis(1500),
        "faster than its interval"
    );
}

#[test]
fn without_flags_each_takes_one_integer_a_second_until_ctrl_c() {
    each([ONE, SEVERAL], |program| {
        let started = Instant::now();
        let mut program = Running::start(program, &[]);
        let (mut lines, mut steps) = (Vec::new(), BTreeMap::<String, u32>::new());
        while steps.values().max() != Some(&2) {
            let line = program.line();
            if !line.contains("waiting") {
                let actor = line.split(':').next().unwrap().to_owned();
                let step = steps
                    .entry(actor)
                    .and_modify(|step| *step += 1)
                    .or_insert(1);
                assert!(
                    started.elapsed() >= Duration::from_secs(1) * *step,
                    "too early: {line}"
                );
            }
            lines.push(line);
        }
        program.interrupt();
        lines.extend(program.rest());
        let taken = events(&lines, "consumer").len();
        assert!(taken > 0);
        check_taken(&lines, taken as u64);
        assert_eq!(
            *lines.last().unwrap(),
            format!("done: {taken} produced, {taken} consumed")
        );
        assert!(program.ended().success());
    });
}

#[test]
fn ctrl_c_at_full_speed_loses_nothing() {
    for (program, flags) in [
        (ONE, &[][..]),
        (SEVERAL, &["--producers", "4", "--consumers", "4"]),
    ] {
        let mut program = Running::start(program, &[&["--interval", "0"], flags].concat());
        let mut lines = program.lines(1000);
        program.interrupt();
        lines.extend(program.rest());
        let taken = events(&lines, "consumer").len();
        check_taken(&lines, taken as u64);
        assert_eq!(
            *lines.last().unwrap(),
            format!("done: {taken} produced, {taken} consumed")
        );
        assert!(program.ended().success());
    }
}

#[test]
fn ends_when_nobody_reads_its_lines() {
    for program in [ONE, SEVERAL] {
        // The pipe is closed before the program writes its first line.
        let (reader, stdout) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new("timeout");
        command
            .args(["60", program])
            .args(["--producer-interval", "0", "--consumer-interval", "1h"])
            .stdout(stdout);
        let output = command.output().expect("timeout(1) runs");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said:?}");
        assert!(said.contains("Broken pipe"), "{said:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn bad_flags_are_one_line_and_64() {
    #[rustfmt::skip]
    let both: [(&[&str], &str); 9] = [
        (&["--speed", "2"], "\"--speed\" is not one of --interval, --producer-interval"),
        (&["--help"], "\"--help\" is not one of --interval"),
        (&["5"], "\"5\" is not one of --interval"),
        (&[""], "\"\" is not one of --interval"),
        (&["--interval", "fast"], "--interval: \"fast\" is not a duration such as 250ms"),
        (&["--producer-interval", "1"], "--producer-interval: \"1\" is not a duration"),
        (&["--consumer-interval"], "--consumer-interval: \"\" is not a duration"),
        (&["--count", "-1"], "--count: \"-1\" is not a whole number"),
        (&["--count", "1", "--count", "two\nlines"], "--count: \"two\\nlines\" is not a whole number"),
    ];
    for (flags, reason) in both {
        check_refused(ONE, "producer_consumer", flags, reason);
        check_refused(SEVERAL, "producers_consumers", flags, reason);
    }
    check_refused(
        ONE,
        "producer_consumer",
        &["--producers", "2"],
        "\"--producers\" is not one of",
    );
    for flag in ["--producers", "--consumers"] {
        for value in ["0", "256", "-1", "many"] {
            let reason = format!("{flag}: {value:?} is not a number from 1 to 255");
            check_refused(SEVERAL, "producers_consumers", &[flag, value], &reason);
        }
    }
}

#[track_caller]
fn check_refused(program: &str, name: &str, flags: &[&str], reason: &str) {
    // A flag that is wrongly accepted must end too: the count and the interval keep such a run short.
    let flags = [&["--count", "0", "--interval", "0"], flags].concat();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(&flags).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(64), "{flags:?}: {stderr}");
    assert!(
        stderr.starts_with(&format!("{name}: {reason}")),
        "{flags:?}: {stderr}"
    );
    assert_eq!(stderr.matches('\n').count(), 1, "{flags:?}: {stderr}");
    assert!(stdout.is_empty(), "{flags:?}");
}

/// Each of the integers 1 to `count` is put once and taken once, from the producer that put it; the integers of one
/// producer are taken in their order; the fill is never more than 10.
#[track_caller]
fn check_taken(lines: &[String], count: u64) {
    let (put, taken) = (events(lines, "producer"), events(lines, "consumer"));
    for (step, events) in [("put", &put), ("taken", &taken)] {
        let numbers: BTreeSet<u64> = events.iter().map(|event| event.number).collect();
        assert_eq!(events.len() as u64, count, "{step}: a line lost or doubled");
        assert!(
            numbers.into_iter().eq(1..=count),
            "{step}: an integer lost or doubled"
        );
        assert!(
            events.iter().all(|event| event.fill <= 10),
            "{step}: more than the queue holds"
        );
    }
    let owner: BTreeMap<u64, u64> = put.iter().map(|event| (event.number, event.id)).collect();
    let mut latest = [0; 256];
    for event in &taken {
        let producer = owner[&event.number];
        assert!(
            event.from.is_none_or(|from| from == producer),
            "{event:?} was put by {producer}"
        );
        let latest = &mut latest[usize::try_from(producer).unwrap()];
        assert!(*latest < event.number, "{event:?} came after {latest}");
        *latest = event.number;
    }
}

/// A line such as `consumer 2: took 17 from producer 3, queue 4/10`, or `producer: put 17, queue 5/10`.
#[derive(Debug)]
struct Event {
    id: u64,
    number: u64,
    from: Option<u64>,
    fill: u64,
}

/// What one side, `producer` or `consumer`, did; its lines about waiting are left out.
fn events(lines: &[String], side: &str) -> Vec<Event> {
    let steps = lines
        .iter()
        .filter(|line| line.starts_with(side) && !line.contains("waiting"));
    steps
        .map(|line| event(line).unwrap_or_else(|| panic!("not a line of the program: {line:?}")))
        .collect()
}

fn event(line: &str) -> Option<Event> {
    let (who, rest) = line.split_once(": ")?;
    let (what, fill) = rest.split_once(", queue ")?;
    let (what, from) = what
        .split_once(" from producer ")
        .map_or((what, None), |(what, from)| (what, Some(from)));
    let verb = if who.starts_with("producer") {
        "put "
    } else {
        "took "
    };
    Some(Event {
        id: who
            .split_once(' ')
            .map_or(Some(1), |(_, id)| id.parse().ok())?,
        number: what.strip_prefix(verb)?.parse().ok()?,
        from: from.map(str::parse).transpose().ok()?,
        fill: fill.strip_suffix("/10")?.parse().ok()?,
    })
}

/// A program at work, and how many of its lines the test has taken.
struct Running {
    program: Program,
    taken: usize,
}

impl Running {
    #[track_caller]
    fn start(program: &str, flags: &[&str]) -> Self {
        Self {
            program: Program::start(Command::new(program).args(flags)),
            taken: 0,
        }
    }

    /// The next lines.
    #[track_caller]
    fn lines(&mut self, count: usize) -> Vec<String> {
        let stdout = &self.program.stdout;
        stdout.wait_lines(self.taken + count);
        let mut lines = stdout.lines_behind(self.taken);
        lines.truncate(count);
        self.taken += count;
        lines
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines(1).remove(0)
    }

    /// All lines up to the end of the output.
    #[track_caller]
    fn rest(&self) -> Vec<String> {
        self.program.stdout.wait_end();
        self.program.stdout.lines_behind(self.taken)
    }

    #[track_caller]
    fn assert_silent(&self) {
        pause(SILENCE);
        let lines = self.program.stdout.lines_behind(self.taken);
        assert!(lines.is_empty(), "{lines:?}");
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        self.program.signal("INT");
    }

    /// The exit status, to be asked for after the end of the output.
    fn ended(&mut self) -> ExitStatus {
        self.program.wait()
    }
}
