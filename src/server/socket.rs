//! Reads and writes with deadlines.
//!
//! A socket's time limits cost a system call each time they are set, so a deadline is kept with few
//! of them: the limit that the socket has stays as long as it is near enough, and a read or write
//! that it ends too early is tried again with the time that is left. Linux rounds long limits up by
//! as much as an eighth, so for a long wait an eighth less is set.
//!
//! A process may be frozen (docker pause, SIGSTOP) for longer than a time limit. Before anything is
//! given up, one more attempt is made without waiting, so nothing that has arrived is lost.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::limits;

/// What a connection needs of its socket; a test brings bytes in memory instead.
pub trait Transport {
    /// Reads some bytes; 0 at the end. `WouldBlock` once the time limit has passed.
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes some bytes. `WouldBlock` once the time limit has passed.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Sets how long a read may take; more than zero.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Sets how long a write may take; more than zero.
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Sets whether reads and writes return at once.
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    /// Tells the peer that nothing more will be written.
    fn end_writing(&self);
}

/// The limit to set for a wait that has to end within `left`.
pub fn limit_within(left: Duration) -> Duration {
    if left > Duration::from_secs(1) {
        left / 8 * 7
    } else {
        left
    }
}

/// One direction of a connection.
struct Side<'a> {
    transport: &'a dyn Transport,
    set_limit: fn(&dyn Transport, Duration) -> io::Result<()>,
    /// The time limit that the socket has at present.
    limit: Duration,
    /// The end of all calls, for a connection that is shed.
    end: Option<Instant>,
}

impl Side<'_> {
    /// Makes a call until it has a result or a deadline has passed, and then once more without
    /// waiting; `TimedOut` if that has no result either. `now` is the time, as far as it is known.
    fn call(
        &mut self,
        now: Instant,
        deadline: Instant,
        mut attempt: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let deadline = self.end.map_or(deadline, |end| deadline.min(end));
        let mut left = deadline.saturating_duration_since(now);
        while !left.is_zero() {
            let near = limit_within(left);
            if self.limit > left || self.limit < near / 8 * 7 {
                (self.set_limit)(self.transport, near)?;
                self.limit = near;
            }
            match attempt() {
                Err(error) if is_early_end(&error) => {
                    left = deadline.saturating_duration_since(Instant::now());
                }
                result => return result,
            }
        }
        self.transport.set_nonblocking(true)?;
        let result = attempt();
        self.transport.set_nonblocking(false)?;
        result.map_err(timed_out)
    }
}

/// The reading side.
pub struct Reader<'a>(Side<'a>);

impl<'a> Reader<'a> {
    /// The reading side of a transport that has no time limit yet; `end` is the end of all reading.
    pub fn new(transport: &'a dyn Transport, end: Option<Instant>) -> Reader<'a> {
        Reader(Side {
            transport,
            set_limit: |transport, limit| transport.set_read_timeout(limit),
            limit: Duration::ZERO,
            end,
        })
    }

    /// Reads some bytes until a deadline; `TimedOut` once it has passed. `now` is the time, as far
    /// as it is known.
    pub fn read(&mut self, room: &mut [u8], now: Instant, deadline: Instant) -> io::Result<usize> {
        let transport = self.0.transport;
        self.0.call(now, deadline, || transport.read(room))
    }

    /// Waits for some bytes, at most this long and perhaps less; `TimedOut` if none came. It costs
    /// one system call, because the caller gives nothing up then, but goes on with [`Reader::read`].
    pub fn try_read(&mut self, room: &mut [u8], within: Duration) -> io::Result<usize> {
        let Side {
            transport, limit, ..
        } = &mut self.0;
        if *limit != within {
            transport.set_read_timeout(within)?;
            *limit = within;
        }
        transport.read(room).map_err(timed_out)
    }

    /// Tells the peer that nothing more will be written.
    pub fn end_writing(&self) {
        self.0.transport.end_writing();
    }
}

/// The writing side: a client may take so long for each MiB.
pub struct Writer<'a> {
    side: Side<'a>,
    /// How long a client may take for each MiB.
    per_unit: Duration,
    /// When the present MiB has to be taken, and the bytes that are left of it.
    deadline: Option<Instant>,
    unit_left: u64,
    /// Counts the bytes that were taken.
    taken: &'a IntCounter,
}

impl<'a> Writer<'a> {
    /// The writing side of a transport that has the time limit for writes already; `end` is the end
    /// of all writing, and `taken` counts the bytes that the transport takes.
    pub fn new(
        transport: &'a dyn Transport,
        limit: Duration,
        end: Option<Instant>,
        taken: &'a IntCounter,
    ) -> Writer<'a> {
        Writer {
            side: Side {
                transport,
                set_limit: |transport, limit| transport.set_write_timeout(limit),
                limit: limit_within(limit),
                end,
            },
            per_unit: limit,
            deadline: None,
            unit_left: limits::TIMED_BYTES,
            taken,
        }
    }

    /// What comes next has its own time.
    fn start_over(&mut self) {
        (self.deadline, self.unit_left) = (None, limits::TIMED_BYTES);
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, transport) = (Instant::now(), self.side.transport);
        let deadline = *self.deadline.get_or_insert(now + self.per_unit);
        let taken = self.side.call(now, deadline, || transport.write(bytes))?;
        self.taken.inc_by(taken as u64);
        match self.unit_left.saturating_sub(taken as u64) {
            0 => self.start_over(),
            left => self.unit_left = left,
        }
        Ok(taken)
    }

    /// Everything was written.
    fn flush(&mut self) -> io::Result<()> {
        self.start_over();
        Ok(())
    }
}

/// Whether a call ended before its time without a result.
fn is_early_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The error of a call after which nothing is tried again.
fn timed_out(error: io::Error) -> io::Error {
    if is_early_end(&error) {
        ErrorKind::TimedOut.into()
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    /// What the server asked of its transport.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Call {
        ReadLimit(Duration),
        WriteLimit(Duration),
        /// A read or write, and whether it had to return at once.
        Attempt {
            at_once: bool,
        },
        EndWriting,
    }

    const WAITING: Call = Call::Attempt { at_once: false };
    const AT_ONCE: Call = Call::Attempt { at_once: true };

    /// How a read or write ends.
    #[derive(Clone, Copy)]
    enum Step {
        Moved(usize),
        Failed(ErrorKind),
        /// It ends without a result at this time, as in a process that was frozen.
        FrozenUntil(Instant),
    }

    /// A transport that does what a script says and keeps what it was asked.
    #[derive(Default)]
    struct Scripted {
        steps: RefCell<VecDeque<Step>>,
        calls: RefCell<Vec<Call>>,
        nonblocking: Cell<bool>,
    }

    impl Scripted {
        fn new(steps: &[Step]) -> Scripted {
            Scripted {
                steps: RefCell::new(steps.iter().copied().collect()),
                ..Scripted::default()
            }
        }

        fn attempt(&self) -> io::Result<usize> {
            let at_once = self.nonblocking.get();
            self.calls.borrow_mut().push(Call::Attempt { at_once });
            match self.steps.borrow_mut().pop_front().unwrap() {
                Step::Moved(count) => Ok(count),
                Step::Failed(kind) => Err(kind.into()),
                Step::FrozenUntil(end) => {
                    while Instant::now() < end {
                        std::thread::yield_now();
                    }
                    Err(ErrorKind::Interrupted.into())
                }
            }
        }

        /// What was asked since the last look; the script must be at its end.
        fn calls(&self) -> Vec<Call> {
            assert!(self.steps.borrow().is_empty() && !self.nonblocking.get());
            self.calls.take()
        }
    }

    impl Transport for Scripted {
        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            self.attempt()
        }

        fn write(&self, _: &[u8]) -> io::Result<usize> {
            self.attempt()
        }

        fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
            self.calls.borrow_mut().push(Call::ReadLimit(timeout));
            Ok(())
        }

        fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
            self.calls.borrow_mut().push(Call::WriteLimit(timeout));
            Ok(())
        }

        fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
            self.nonblocking.set(nonblocking);
            Ok(())
        }

        fn end_writing(&self) {
            self.calls.borrow_mut().push(Call::EndWriting);
        }
    }

    fn counter() -> IntCounter {
        IntCounter::new("taken", "bytes").unwrap()
    }

    /// Reads with a deadline so far from now; the outcome and the calls.
    fn read(steps: &[Step], within: Duration) -> (Result<usize, ErrorKind>, Vec<Call>) {
        let scripted = Scripted::new(steps);
        let now = Instant::now();
        let result = Reader::new(&scripted, None).read(&mut [], now, now + within);
        (result.map_err(|error| error.kind()), scripted.calls())
    }

    #[test]
    fn early_ends_are_tried_again_with_the_same_limit() {
        let steps = [
            Step::Failed(ErrorKind::WouldBlock),
            Step::Failed(ErrorKind::Interrupted),
            Step::Moved(3),
        ];
        let (result, calls) = read(&steps, HOUR);
        let limit = Call::ReadLimit(HOUR / 8 * 7);
        assert_eq!(result, Ok(3));
        assert_eq!(calls, [limit, WAITING, WAITING, WAITING]);
    }

    #[test]
    fn other_errors_and_the_end_are_handed_on() {
        let (result, calls) = read(&[Step::Failed(ErrorKind::ConnectionReset)], HOUR);
        assert_eq!(result, Err(ErrorKind::ConnectionReset));
        assert_eq!(calls.len(), 2);
        assert_eq!(read(&[Step::Moved(0)], HOUR).0, Ok(0));
    }

    #[test]
    fn past_the_deadline_there_is_one_attempt_without_waiting() {
        let (result, calls) = read(&[Step::Moved(3)], Duration::ZERO);
        assert_eq!((result, calls), (Ok(3), vec![AT_ONCE]));
        for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
            let (result, calls) = read(&[Step::Failed(kind)], Duration::ZERO);
            assert_eq!(result, Err(ErrorKind::TimedOut));
            assert_eq!(calls, [AT_ONCE]);
        }
        let (result, _) = read(&[Step::Failed(ErrorKind::BrokenPipe)], Duration::ZERO);
        assert_eq!(result, Err(ErrorKind::BrokenPipe));
    }

    #[test]
    fn what_arrived_while_the_process_was_frozen_is_read() {
        let scripted = Scripted::default();
        let now = Instant::now();
        let deadline = now + Duration::from_millis(50);
        scripted
            .steps
            .replace([Step::FrozenUntil(deadline), Step::Moved(7)].into());
        let result = Reader::new(&scripted, None).read(&mut [], now, deadline);
        assert_eq!(result.unwrap(), 7);
        let limit = Call::ReadLimit(deadline - now);
        assert_eq!(scripted.calls(), [limit, WAITING, AT_ONCE]);
    }

    #[test]
    fn a_limit_stays_while_it_is_near_enough() {
        let scripted = Scripted::new(&[Step::Moved(1); 4]);
        let mut reader = Reader::new(&scripted, None);
        let now = Instant::now();
        let mut read = |within| reader.read(&mut [], now, now + within).unwrap();
        read(80 * SECOND);
        read(79 * SECOND);
        read(60 * SECOND);
        read(SECOND);
        let [first, second, third] = [80, 60, 1].map(|seconds| seconds * SECOND);
        assert_eq!(
            scripted.calls(),
            [
                Call::ReadLimit(first / 8 * 7),
                WAITING,
                WAITING,
                Call::ReadLimit(second / 8 * 7),
                WAITING,
                Call::ReadLimit(third),
                WAITING
            ]
        );
    }

    #[test]
    fn a_try_costs_one_call() {
        let scripted = Scripted::new(&[Step::Failed(ErrorKind::WouldBlock), Step::Moved(5)]);
        let mut reader = Reader::new(&scripted, None);
        let error = reader.try_read(&mut [], SECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(reader.try_read(&mut [], SECOND).unwrap(), 5);
        reader.end_writing();
        let limit = Call::ReadLimit(SECOND);
        assert_eq!(
            scripted.calls(),
            [limit, WAITING, WAITING, Call::EndWriting]
        );
    }

    #[test]
    fn each_mebibyte_has_its_own_time() {
        let all = limits::TIMED_BYTES as usize;
        let scripted = Scripted::new(&[all - 1, 1, 1, all, 1].map(Step::Moved));
        let taken = counter();
        let mut writer = Writer::new(&scripted, HOUR, None, &taken);
        let mut write = || {
            assert!(writer.write(b"").unwrap() > 0);
            writer.deadline
        };
        let first = write();
        assert!(first.is_some());
        assert_eq!(write(), None, "the first is taken to its last byte");
        let second = write();
        assert!(second > first);
        assert_eq!(write(), None, "a write may take more than what is left");
        assert!(write() > second);
        writer.flush().unwrap();
        assert_eq!(writer.deadline, None);
        assert_eq!(scripted.calls(), [WAITING; 5], "the limit was set before");
    }

    #[test]
    fn a_slow_write_gets_the_time_that_is_left() {
        let scripted = Scripted::new(&[Step::Failed(ErrorKind::WouldBlock), Step::Moved(1)]);
        let taken = counter();
        let mut writer = Writer::new(&scripted, HOUR, None, &taken);
        writer.deadline = Some(Instant::now() + 8 * SECOND);
        assert_eq!(writer.write(b"x").unwrap(), 1);
        let calls = scripted.calls();
        let [Call::WriteLimit(limit), WAITING, WAITING] = calls[..] else {
            panic!("{calls:?}");
        };
        assert!(limit <= 7 * SECOND);
    }

    #[test]
    fn past_its_end_a_write_is_tried_once_without_waiting() {
        for (deadline, end) in [(true, false), (false, true)] {
            let now = Instant::now();
            let script = [Step::Moved(1), Step::Failed(ErrorKind::WouldBlock)];
            let scripted = Scripted::new(&script);
            let taken = counter();
            let mut writer = Writer::new(&scripted, HOUR, end.then_some(now), &taken);
            writer.deadline = deadline.then_some(now);
            assert_eq!(writer.write(b"x").unwrap(), 1);
            let error = writer.write(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(scripted.calls(), [AT_ONCE; 2]);
        }
    }
}
