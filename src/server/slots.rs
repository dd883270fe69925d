//! Slots: which connections may stay, and which one makes room for a newcomer.
//!
//! Each connection has a slot: one mutex over plain data. The connection's thread changes its phase;
//! whoever wants it to end shuts its socket down and marks the slot. A newcomer that finds no free
//! slot evicts, in this order: a delayed connection whose client has gone; one that only lingers;
//! one without a whole request head for a second; one whose body does not come for a second; the
//! longest idle one, if it was idle for a second. Otherwise it gets an overflow slot, for one
//! response. Where those are taken too, the oldest of them is cut.
//!
//! Newcomers take turns, so only one of them waits for the slot of an evicted connection. `cut`
//! raises the stage before it scans the slots; `admit` publishes its slot before it checks the stage.
//! At least one of them sees the other. The table's lock may be held when a slot is locked, never
//! the reverse. Only `evict_first` locks more than one slot, and it holds the table's lock.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::app::Stage;
use crate::limits;
use crate::observe::metrics::Snapshot;
use crate::server::capacity::Capacity;
use crate::server::shutdown::StageCell;
use crate::server::socket::Transport;
use crate::server::websocket::{self, WriteLock};
use crate::sync::{lock, wait_timeout};

/// What the connection in a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has arrived yet.
    New,
    /// A request head has begun and is not whole. The phase counts from the time at which the client
    /// could begin, so later lines of the same head do not make it younger.
    Head,
    /// A request is being read, or its response written.
    Active,
    /// A request waits for more of its body. The phase counts from the last bytes that came.
    Body,
    /// A response is delayed.
    Delayed,
    /// The connection waits for a next request. The phase counts from its last response.
    Idle,
    /// The last response was sent; the connection waits for its client to take it.
    Lingering,
}

/// Who makes room, in this order: the phases, and how long a connection has to have been in one.
type Order = [(&'static [Phase], Duration)];

/// Who makes room for a newcomer.
const FOR_A_SLOT: &Order = &[
    (&[Phase::Lingering], Duration::ZERO),
    (&[Phase::New, Phase::Head], limits::HEAD_GRACE),
    (&[Phase::Body], limits::BODY_GRACE),
    (&[Phase::Idle], limits::IDLE_GRACE),
];

/// Who makes room for a newcomer that is shed. One that has just come, such as a probe, is evicted
/// only if all others have too.
const FOR_AN_OVERFLOW_SLOT: &Order = &[
    (&[Phase::Lingering], limits::SHED_GRACE),
    (&[Phase::New, Phase::Head], limits::SHED_GRACE),
    (&[Phase::Active], limits::SHED_GRACE),
    (&[Phase::New, Phase::Head], Duration::ZERO),
    (&[Phase::Lingering], Duration::ZERO),
];

/// Which connection ends so that its thread accepts, when no other thread does.
const FOR_A_THREAD: &Order = &[
    (&[Phase::Lingering], Duration::ZERO),
    (&[Phase::New, Phase::Head], limits::SHED_TIME_ALONE),
    (&[Phase::Body], limits::BODY_GRACE),
    (&[Phase::Idle], limits::IDLE_GRACE),
];

/// The connection in a slot.
#[derive(Debug)]
struct Occupant {
    stream: Arc<TcpStream>,
    /// The thread to unpark when a delay has to end.
    thread: Thread,
    phase: Phase,
    since: Instant,
    /// Whether the connection was told to end by the server.
    evicted: bool,
    /// What a newcomer read from the connection while it was delayed.
    read_ahead: VecDeque<u8>,
    /// The lock of its writes, if it speaks WebSocket.
    websocket: Option<WriteLock>,
}

/// The two kinds of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The connection is served for as long as it likes.
    Regular,
    /// The connection gets one response.
    Overflow,
}

/// Every slot, and who may take one.
#[derive(Debug)]
pub struct Slots {
    slots: Box<[Mutex<Option<Occupant>>]>,
    regular: usize,
    table: Mutex<Table>,
    /// Notified when a slot was freed, or an evicted connection got a request.
    changed: Condvar,
    /// Held by the newcomer that looks for a slot.
    turn: Mutex<()>,
    stage: StageCell,
}

/// Which slots are free.
#[derive(Debug)]
struct Table {
    free_regular: Vec<usize>,
    free_overflow: Vec<usize>,
    /// Whether the newcomer whose turn it is waits for a change.
    waiting: bool,
    /// How many regular slots may be taken after the system refused a thread, and until when.
    lowered: Option<(usize, Instant)>,
    /// Regular slots that were taken when a thread was last started.
    taken_at_last_thread: usize,
    /// Where the next newcomer begins to check delayed connections.
    gone_check: usize,
}

/// The proof of admission. Dropping it closes the connection and frees its slot.
#[derive(Debug)]
pub struct Permit<'a> {
    slots: &'a Slots,
    index: usize,
    stream: Arc<TcpStream>,
    /// How long the connection may take in all, if it gets one response and no more.
    shed: Option<Duration>,
}

impl Slots {
    /// Free slots, as many as the host can hold.
    pub fn new(capacity: &Capacity) -> Slots {
        let (regular, overflow) = (capacity.connections, capacity.overflow);
        Slots {
            slots: (0..regular + overflow).map(|_| Mutex::default()).collect(),
            regular,
            table: Mutex::new(Table {
                free_regular: (0..regular).rev().collect(),
                free_overflow: (regular..regular + overflow).rev().collect(),
                waiting: false,
                lowered: None,
                taken_at_last_thread: 0,
                gone_check: 0,
            }),
            changed: Condvar::new(),
            turn: Mutex::new(()),
            stage: StageCell::default(),
        }
    }

    /// The stage of the shutdown.
    pub fn stage(&self) -> &StageCell {
        &self.stage
    }

    /// Gives a connection a slot, or else an overflow slot, evicting another connection if need
    /// be; `None` if there is neither in time.
    pub fn admit(&self, stream: TcpStream) -> Option<Permit<'_>> {
        let stream = Arc::new(stream);
        let index = {
            let _turn = lock(&self.turn);
            self.take(Kind::Regular, limits::SHED_TIME)
                .or_else(|| self.take(Kind::Overflow, limits::SHED_TIME))?
        };
        let now = Instant::now();
        *self.slot(index) = Some(Occupant {
            stream: stream.clone(),
            thread: thread::current(),
            phase: Phase::New,
            since: now,
            evicted: false,
            read_ahead: VecDeque::new(),
            websocket: None,
        });
        let permit = Permit {
            slots: self,
            index,
            stream,
            shed: (index >= self.regular).then_some(limits::SHED_TIME),
        };
        permit.enter(Phase::New, now);
        (!self.stage.reached(Stage::Cut)).then_some(permit)
    }

    /// Takes a free slot of a kind, or the one of a connection that it evicts and that ends within
    /// this time.
    fn take(&self, kind: Kind, within: Duration) -> Option<usize> {
        let deadline = Instant::now() + within;
        let mut table = self.table();
        let mut evicted = None;
        loop {
            if let Some(index) = table.take(kind, self.regular) {
                return Some(index);
            }
            // An evicted connection that got a request is served first: evict another one.
            if !evicted.is_some_and(|index| self.will_free_its_slot(index)) {
                evicted = self.evict(&mut table, kind, Instant::now());
            }
            // Where nobody else can be evicted, those that were evicted before soon free theirs, also
            // one that has a request: it gets one response.
            if evicted.is_none() && kind == Kind::Overflow {
                let is_evicted = |slot: &Occupant| slot.evicted;
                let mut overflow = self.regular..self.slots.len();
                evicted = overflow.find(|index| self.slot(*index).as_ref().is_some_and(is_evicted));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if evicted.is_none() || left.is_zero() || self.stage.reached(Stage::Cut) {
                return None;
            }
            table.waiting = true;
            table = wait_timeout(&self.changed, table, left);
            table.waiting = false;
        }
    }

    /// Whether the connection in a slot was evicted and has no request to answer before it ends.
    fn will_free_its_slot(&self, index: usize) -> bool {
        let slot = self.slot(index);
        slot.as_ref()
            .is_some_and(|occupant| occupant.evicted && occupant.phase != Phase::Active)
    }

    /// Evicts a connection for a newcomer; the slot that it will free.
    fn evict(&self, table: &mut Table, kind: Kind, now: Instant) -> Option<usize> {
        match kind {
            Kind::Regular => self
                .evict_gone(table)
                .or_else(|| self.evict_first(0..self.regular, FOR_A_SLOT, now)),
            Kind::Overflow => {
                self.evict_first(self.regular..self.slots.len(), FOR_AN_OVERFLOW_SLOT, now)
            }
        }
    }

    /// Evicts the connection that comes first: by the row of the order that it fits, then by its age.
    /// The first one so far stays locked, so it still fits when it is evicted.
    fn evict_first(&self, range: Range<usize>, order: &Order, now: Instant) -> Option<usize> {
        let candidates = range.filter_map(|index| {
            let slot = self.slot(index);
            let occupant = slot.as_ref().filter(|occupant| !occupant.evicted)?;
            let fits = |(phases, age): &(&[Phase], Duration)| {
                phases.contains(&occupant.phase) && occupant.since + *age <= now
            };
            let rank = (order.iter().position(fits)?, occupant.since);
            Some((rank, index, slot))
        });
        let (_, index, mut slot) = candidates.min_by_key(|(rank, ..)| *rank)?;
        slot.as_mut()?.evict();
        Some(index)
    }

    /// Evicts a delayed connection whose client has gone. Each newcomer checks a few of them.
    fn evict_gone(&self, table: &mut Table) -> Option<usize> {
        let start = table.gone_check;
        let mut checks = 0;
        for offset in 0..self.regular {
            let index = (start + offset) % self.regular;
            let mut slot = self.slot(index);
            let delayed = slot
                .as_mut()
                .filter(|o| o.phase == Phase::Delayed && !o.evicted);
            let Some(occupant) = delayed else { continue };
            if occupant.client_has_gone() {
                occupant.evict();
                table.gone_check = index;
                return Some(index);
            }
            checks += 1;
            if checks == limits::GONE_CHECKS {
                table.gone_check = index + 1;
                break;
            }
        }
        None
    }

    /// Takes note that a thread was started: its slots can be taken.
    pub fn thread_started(&self) {
        let mut table = self.table();
        table.taken_at_last_thread = self.regular - table.free_regular.len();
        table.lowered = None;
    }

    /// Lowers the number of slots for a while, because the system refused a thread, but not below
    /// half of what was in use when a thread was last started.
    pub fn thread_refused(&self) {
        let mut table = self.table();
        let taken = self.regular - table.free_regular.len();
        let least = (table.taken_at_last_thread / 2).max(1);
        let limit = taken.saturating_sub(1).max(least);
        table.lowered = Some((limit, Instant::now() + limits::LOWERED));
    }

    /// Evicts a connection, so that its thread accepts the next one: the system has no more
    /// threads.
    pub fn free_a_thread(&self) {
        let mut table = self.table();
        let _ = self
            .evict_gone(&mut table)
            .or_else(|| self.evict_first(0..self.slots.len(), FOR_A_THREAD, Instant::now()));
    }

    /// Counts of connections and requests at this time.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.for_each(|occupant| {
            snapshot.open += 1;
            match occupant.phase {
                Phase::Head | Phase::Body | Phase::Active | Phase::Delayed => {
                    snapshot.in_flight += 1;
                }
                Phase::Idle if !occupant.evicted => snapshot.idle += 1,
                _ => {}
            }
        });
        snapshot.draining = self.stage.reached(Stage::Draining);
        snapshot.max_connections = self.table().limit(self.regular);
        snapshot
    }

    /// From now on each response is its connection's last, and WebSockets are told to close.
    pub fn begin_drain(&self) {
        self.stage.raise(Stage::Draining);
        self.for_each(|occupant| {
            occupant.thread.unpark();
            if let Some(lock) = &occupant.websocket {
                websocket::say_going_away(&occupant.stream, lock);
            }
        });
    }

    /// Evicts connections that have waited for a request for this long.
    pub fn close_idle(&self, for_at_least: Duration) {
        self.close(for_at_least, &[Phase::Idle, Phase::New]);
    }

    /// Evicts every connection that waits for a request or lingers, and lets none wait again.
    pub fn end_idling(&self) {
        self.stage.raise(Stage::NoIdling);
        let phases = [Phase::Idle, Phase::New, Phase::Lingering];
        self.close(Duration::ZERO, &phases);
    }

    /// Evicts connections that have been in one of these phases for at least `age`.
    fn close(&self, age: Duration, phases: &[Phase]) {
        let now = Instant::now();
        self.for_each(|occupant| {
            if phases.contains(&occupant.phase) && occupant.since + age <= now {
                occupant.evict();
            }
        });
    }

    /// Ends the delays of responses.
    pub fn end_delays(&self) {
        self.stage.raise(Stage::NoDelays);
        self.for_each(|occupant| occupant.thread.unpark());
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.stage.raise(Stage::Cut);
        self.for_each(|occupant| {
            // An error means that the connection has ended already.
            let _ = occupant.stream.shutdown(Shutdown::Both);
            occupant.thread.unpark();
        });
        drop(self.table());
        self.changed.notify_all();
    }

    /// Does this to each connection, while its slot is locked.
    fn for_each(&self, mut action: impl FnMut(&mut Occupant)) {
        for index in 0..self.slots.len() {
            if let Some(occupant) = &mut *self.slot(index) {
                action(occupant);
            }
        }
    }

    fn slot(&self, index: usize) -> MutexGuard<'_, Option<Occupant>> {
        lock(&self.slots[index])
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Wakes the newcomer that waits, if one does. Notifying nobody would cost a system call.
    fn notify(&self, table: &Table) {
        if table.waiting {
            self.changed.notify_all();
        }
    }
}

impl Table {
    /// How many regular slots may be taken at present.
    fn limit(&self, regular: usize) -> usize {
        match self.lowered {
            Some((limit, until)) if Instant::now() < until => limit,
            _ => regular,
        }
    }

    fn take(&mut self, kind: Kind, regular: usize) -> Option<usize> {
        let taken = regular - self.free_regular.len();
        match kind {
            Kind::Regular if taken < self.limit(regular) => self.free_regular.pop(),
            Kind::Regular => None,
            Kind::Overflow => self.free_overflow.pop(),
        }
    }
}

impl Occupant {
    /// Has the connection end: its thread wakes from whatever it waits for. A request that had
    /// already arrived on an idle connection is still read and answered.
    fn evict(&mut self) {
        self.evicted = true;
        let how = match self.phase {
            Phase::New | Phase::Idle | Phase::Head | Phase::Body => Shutdown::Read,
            Phase::Active | Phase::Delayed | Phase::Lingering => Shutdown::Both,
        };
        // An error means that the connection has ended already.
        let _ = self.stream.shutdown(how);
        self.thread.unpark();
    }

    /// Whether the client has closed or reset the connection. Its thread is parked and takes this
    /// slot's lock before it touches the socket again, so the socket can be asked without blocking.
    fn client_has_gone(&mut self) -> bool {
        let gone = self.stream.set_nonblocking(true).is_err() || self.read_ahead();
        self.stream.set_nonblocking(false).is_err() || gone
    }

    /// Reads what the client sent behind its request, because unread bytes hide the close that
    /// follows them; whether it has closed. One that sends more than may be kept counts as gone.
    fn read_ahead(&mut self) -> bool {
        let mut bytes = [0; limits::READ_BYTES];
        while self.read_ahead.len() <= limits::READ_AHEAD_BYTES {
            match (&*self.stream).read(&mut bytes) {
                Ok(0) => return true,
                Ok(count) => self.read_ahead.extend(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl Permit<'_> {
    /// Whether the connection gets one response and no more.
    pub fn is_shed(&self) -> bool {
        self.shed.is_some()
    }

    /// How long such a connection may take in all.
    pub fn shed_time(&self) -> Option<Duration> {
        self.shed
    }

    /// Gives the connection one response and no more, within this time.
    pub fn shed(&mut self, within: Duration) {
        self.shed = Some(within);
    }

    /// A whole request head or more of a body is here; `now` is the time. An evicted connection that
    /// gets one still answers it, so the newcomer has to evict another.
    pub fn active(&self, now: Instant) {
        if self.enter(Phase::Active, now) {
            let table = self.slots.table();
            self.slots.notify(&table);
        }
    }

    /// The last response was sent; whether there is still time to wait for the client to take it.
    pub fn linger(&self) -> bool {
        let evicted = self.enter(Phase::Lingering, Instant::now());
        !evicted && !self.slots.stage.reached(Stage::NoIdling)
    }

    /// The connection speaks WebSocket from now on; the lock of its writes.
    pub fn begin_websocket(&self) -> WriteLock {
        let lock = WriteLock::default();
        if let Some(occupant) = &mut *self.slots.slot(self.index) {
            occupant.websocket = Some(lock.clone());
        }
        lock
    }

    /// Waits this long, or until a stage of the shutdown or an eviction; the time that has passed.
    pub fn sleep(&self, duration: Duration, until: Stage) -> Duration {
        let (start, mut slept) = (Instant::now(), Duration::ZERO);
        self.enter(Phase::Delayed, start);
        while slept < duration && !self.slots.stage.reached(until) && !self.is_evicted() {
            thread::park_timeout(duration.saturating_sub(slept));
            slept = start.elapsed().min(duration);
        }
        self.enter(Phase::Active, Instant::now());
        slept
    }

    /// Whether the next response is the connection's last.
    pub fn closes_after_next_response(&self) -> bool {
        self.is_shed() || self.slots.stage.reached(Stage::Draining) || self.is_evicted()
    }

    /// Whether the server told the connection to end.
    pub fn is_evicted(&self) -> bool {
        self.slots
            .slot(self.index)
            .as_ref()
            .is_some_and(|occupant| occupant.evicted)
    }

    /// Puts the connection into a phase; whether it was evicted before. After the drain's grace no
    /// connection may wait for a request: then it is evicted, and what has already arrived is read.
    pub fn enter(&self, phase: Phase, since: Instant) -> bool {
        let mut slot = self.slots.slot(self.index);
        slot.as_mut().is_some_and(|occupant| {
            let evicted = occupant.evicted;
            (occupant.phase, occupant.since) = (phase, since);
            let waits = matches!(phase, Phase::New | Phase::Idle);
            if waits && self.slots.stage.reached(Stage::NoIdling) {
                occupant.evict();
            }
            evicted
        })
    }
}

impl Transport for Permit<'_> {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(occupant) = &mut *self.slots.slot(self.index)
            && !occupant.read_ahead.is_empty()
        {
            let count = occupant.read_ahead.read(bytes);
            occupant.read_ahead.shrink_to_fit();
            return count;
        }
        (&*self.stream).read(bytes)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes)
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(timeout))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn end_writing(&self) {
        // An error means that the connection has ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.slots.slot(self.index) = None;
        let mut table = self.slots.table();
        if self.index < self.slots.regular {
            table.free_regular.push(self.index);
        } else {
            table.free_overflow.push(self.index);
        }
        self.slots.notify(&table);
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test may panic where it gets no thread"
)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::OnceLock;

    const SECOND: Duration = Duration::from_secs(1);
    /// Longer than any step of a test takes, so what ends sooner was ended.
    const MINUTE: Duration = Duration::from_secs(60);

    fn slots(connections: usize, overflow: usize) -> Slots {
        Slots::new(&Capacity {
            connections,
            overflow,
            spare_threads: 1,
            lowered_by: None,
        })
    }

    /// A connection: the client's end and ours.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(MINUTE)).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// An age that is not enough.
    fn just_below(age: Duration) -> Duration {
        age.saturating_sub(Duration::from_nanos(1))
    }

    /// The time from which ages count.
    fn base() -> Instant {
        static BASE: OnceLock<Instant> = OnceLock::new();
        *BASE.get_or_init(Instant::now)
    }

    /// A connection that came into a phase so long before the base, or before now.
    fn admit(slots: &Slots, phase: Phase, age: Duration) -> (TcpStream, Permit<'_>) {
        let (client, ours) = connection();
        let permit = slots.admit(ours).unwrap();
        permit.enter(phase, base().checked_sub(age).unwrap());
        (client, permit)
    }

    /// A connection that is too young for every grace, however slow the test is.
    fn admit_young(slots: &Slots, phase: Phase) -> (TcpStream, Permit<'_>) {
        let (client, permit) = admit(slots, phase, Duration::ZERO);
        permit.enter(phase, Instant::now() + MINUTE);
        (client, permit)
    }

    /// Evicts for a newcomer; the slot that will be free.
    fn evict(slots: &Slots, kind: Kind) -> Option<usize> {
        slots.evict(&mut slots.table(), kind, base())
    }

    fn stream<'a>(permit: &'a Permit<'_>) -> &'a TcpStream {
        &permit.stream
    }

    /// Reads. On a machine that was frozen meanwhile a read with a time limit is interrupted.
    fn read(mut stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match stream.read(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Waits until the connection's thread is woken by the end of its input.
    fn wait_for_end(permit: &Permit<'_>) {
        stream(permit).set_read_timeout(Some(MINUTE)).unwrap();
        assert_eq!(read(stream(permit), &mut [0]).unwrap(), 0);
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < MINUTE, "{what}: not in a minute");
            thread::yield_now();
        }
    }

    fn has_gone(permit: &Permit<'_>) -> bool {
        let mut slot = permit.slots.slot(permit.index);
        slot.as_mut().is_some_and(Occupant::client_has_gone)
    }

    /// Evicts for newcomers, one after the other, until no connection can be evicted.
    #[track_caller]
    fn check_order(slots: &Slots, kind: Kind, expected: &[&Permit<'_>]) {
        let evicted: Vec<usize> = std::iter::from_fn(|| evict(slots, kind)).collect();
        let expected: Vec<usize> = expected.iter().map(|permit| permit.index).collect();
        assert_eq!(evicted, expected);
    }

    #[test]
    fn who_makes_room_and_in_which_order() {
        let slots = slots(12, 0);
        let (_a, idle) = admit(&slots, Phase::Idle, 2 * SECOND);
        let (_b, longest_idle) = admit(&slots, Phase::Idle, 3 * SECOND);
        let (_c, _young) = admit(&slots, Phase::Idle, just_below(limits::IDLE_GRACE));
        let (_d, _active) = admit(&slots, Phase::Active, 9 * SECOND);
        let (_e, _delayed) = admit(&slots, Phase::Delayed, 9 * SECOND);
        let (_f, head) = admit(&slots, Phase::Head, SECOND);
        let (_g, new) = admit(&slots, Phase::New, 2 * SECOND);
        let (_h, _newer) = admit(&slots, Phase::New, just_below(limits::HEAD_GRACE));
        let (_i, lingering) = admit(&slots, Phase::Lingering, Duration::ZERO);
        let (j, gone) = admit(&slots, Phase::Delayed, Duration::ZERO);
        let (_k, body) = admit(&slots, Phase::Body, SECOND);
        let (_l, _coming) = admit(&slots, Phase::Body, just_below(limits::BODY_GRACE));
        drop(j);
        wait_until("the client's end arrives", || has_gone(&gone));
        let order = [&gone, &lingering, &new, &head, &body, &longest_idle, &idle];
        check_order(&slots, Kind::Regular, &order);
        assert!(order.into_iter().all(Permit::is_evicted));
        assert!(order.into_iter().all(Permit::closes_after_next_response));
    }

    #[test]
    fn who_makes_room_in_the_overflow() {
        let slots = slots(0, 6);
        let old = limits::SHED_GRACE;
        let (_a, written) = admit(&slots, Phase::Active, old);
        let (_b, _writing) = admit(&slots, Phase::Active, just_below(old));
        let (_c, lingering) = admit(&slots, Phase::Lingering, Duration::ZERO);
        let (_d, new) = admit(&slots, Phase::New, Duration::ZERO);
        let (_e, head) = admit(&slots, Phase::Head, SECOND);
        let (_f, _delayed) = admit(&slots, Phase::Delayed, SECOND);
        check_order(&slots, Kind::Overflow, &[&head, &written, &new, &lingering]);
    }

    #[test]
    fn who_frees_a_thread() {
        let slots = slots(4, 1);
        let (_a, idle) = admit_young(&slots, Phase::Active);
        let (_b, _young) = admit_young(&slots, Phase::Idle);
        let (_c, new) = admit_young(&slots, Phase::New);
        let (_d, _active) = admit(&slots, Phase::Active, SECOND);
        let (_e, shed) = admit(&slots, Phase::Lingering, Duration::ZERO);
        let ago = |age| Instant::now().checked_sub(age).unwrap();
        idle.enter(Phase::Idle, ago(limits::IDLE_GRACE));
        new.enter(Phase::New, ago(limits::SHED_TIME_ALONE));
        let evicted = || [&shed, &new, &idle].map(Permit::is_evicted);
        for expected in [
            [false, false, false],
            [true, false, false],
            [true, true, false],
            [true, true, true],
        ] {
            assert_eq!(evicted(), expected);
            slots.free_a_thread();
        }
        assert_eq!(slots.snapshot().open, 5);
        assert_eq!(slots.snapshot().idle, 1, "no other one is evicted");
    }

    #[test]
    fn a_newcomer_takes_the_slot_of_an_idle_one() {
        let slots = slots(1, 0);
        let (_a, idle) = admit(&slots, Phase::Idle, limits::IDLE_GRACE);
        thread::scope(|scope| {
            let newcomer = scope.spawn(|| slots.take(Kind::Regular, MINUTE));
            wait_for_end(&idle);
            let start = Instant::now();
            drop(idle);
            assert_eq!(newcomer.join().unwrap(), Some(0));
            assert!(start.elapsed() < MINUTE / 2, "it was not notified");
        });
    }

    #[test]
    fn a_newcomer_waits_for_one_that_was_evicted_for_another() {
        for phase in [Phase::Lingering, Phase::Active] {
            let slots = slots(0, 1);
            let (_a, evicted) = admit(&slots, phase, limits::SHED_GRACE);
            assert_eq!(evict(&slots, Kind::Overflow), Some(0));
            thread::scope(|scope| {
                let newcomer = scope.spawn(|| slots.take(Kind::Overflow, MINUTE));
                wait_until("it waits", || slots.table().waiting);
                drop(evicted);
                assert_eq!(newcomer.join().unwrap(), Some(0), "{phase:?}");
            });
        }
    }

    #[test]
    fn for_one_that_gets_a_request_another_is_evicted() {
        let slots = slots(2, 0);
        let (_a, first) = admit(&slots, Phase::Idle, 3 * SECOND);
        let (_b, second) = admit(&slots, Phase::Idle, 2 * SECOND);
        thread::scope(|scope| {
            let newcomer = scope.spawn(|| slots.take(Kind::Regular, MINUTE));
            wait_until("the first is evicted", || first.is_evicted());
            assert!(!second.is_evicted());
            first.active(Instant::now());
            wait_for_end(&second);
            drop(second);
            assert_eq!(newcomer.join().unwrap(), Some(1));
        });
        assert!(first.closes_after_next_response());
        assert_eq!(slots.snapshot().in_flight, 1);
    }

    #[test]
    fn a_newcomer_that_nobody_makes_room_for_is_shed_or_refused() {
        let slots = slots(1, 1);
        let (_a, active) = admit(&slots, Phase::Active, SECOND);
        let (_b, shed) = admit_young(&slots, Phase::Active);
        assert!(shed.is_shed() && shed.closes_after_next_response());
        assert!(!active.is_shed() && !active.closes_after_next_response());
        assert!(slots.admit(connection().1).is_none());
        drop(active);
        assert!(!slots.admit(connection().1).unwrap().is_shed());
        drop(shed);
        assert_eq!(slots.snapshot().open, 0);
    }

    #[test]
    fn an_evicted_one_reads_what_had_arrived_and_answers() {
        let slots = slots(1, 0);
        let (mut client, idle) = admit(&slots, Phase::Idle, SECOND);
        client.write_all(b"x").unwrap();
        wait_until("the byte arrives", || {
            stream(&idle).peek(&mut [0]).is_ok_and(|count| count == 1)
        });
        assert_eq!(evict(&slots, Kind::Regular), Some(0));
        assert!(slots.will_free_its_slot(0));
        assert_eq!(stream(&idle).read(&mut [0; 9]).unwrap(), 1);
        idle.active(Instant::now());
        assert!(!slots.will_free_its_slot(0) && idle.closes_after_next_response());
        stream(&idle).write_all(b"y").unwrap();
        assert_eq!(read(&client, &mut [0; 9]).unwrap(), 1);
        assert!(!idle.linger(), "an evicted one has no time to linger");
    }

    #[test]
    fn a_delayed_one_whose_client_is_there_stays_as_it_was() {
        let slots = slots(1, 0);
        let (_client, delayed) = admit(&slots, Phase::Delayed, SECOND);
        assert_eq!(evict(&slots, Kind::Regular), None);
        let wait = Duration::from_millis(30);
        stream(&delayed).set_read_timeout(Some(wait)).unwrap();
        let start = Instant::now();
        read(stream(&delayed), &mut [0]).unwrap_err();
        assert!(start.elapsed() >= wait, "the socket does not block");
    }

    #[test]
    fn what_is_read_ahead_is_read_first() {
        let slots = slots(1, 0);
        let (mut client, delayed) = admit(&slots, Phase::Delayed, SECOND);
        let ahead = |count| {
            wait_until("it is read ahead", || {
                assert_eq!(evict(&slots, Kind::Regular), None);
                slots.slot(0).as_ref().unwrap().read_ahead.len() == count
            });
        };
        let mut bytes = [0; 4];
        let mut read = || {
            let count = Transport::read(&delayed, &mut bytes).unwrap();
            bytes[..count].to_vec()
        };
        client.write_all(b"abc").unwrap();
        ahead(3);
        client.write_all(b"de").unwrap();
        ahead(5);
        client.write_all(b"f").unwrap();
        assert_eq!([read(), read(), read()], [&b"abcd"[..], b"e", b"f"]);
        client.write_all(b"g").unwrap();
        ahead(1);
        drop(client);
        wait_until("its end is seen", || has_gone(&delayed));
    }

    #[test]
    fn one_that_sends_more_than_is_read_ahead_has_gone() {
        let slots = slots(1, 0);
        let (mut client, delayed) = admit(&slots, Phase::Delayed, SECOND);
        client
            .write_all(&vec![b'x'; limits::READ_AHEAD_BYTES + 1])
            .unwrap();
        wait_until("it is too much", || has_gone(&delayed));
        assert_eq!(evict(&slots, Kind::Regular), Some(0));
    }

    #[test]
    fn each_newcomer_checks_a_few_delayed_ones() {
        let slots = slots(limits::GONE_CHECKS + 1, 0);
        let delayed: Vec<_> = (0..=limits::GONE_CHECKS)
            .map(|_| admit(&slots, Phase::Delayed, SECOND))
            .collect();
        let (client, last) = delayed.last().unwrap();
        client.shutdown(Shutdown::Both).unwrap();
        wait_until("its end arrives", || has_gone(last));
        assert_eq!(evict(&slots, Kind::Regular), None);
        assert_eq!(evict(&slots, Kind::Regular), Some(limits::GONE_CHECKS));
    }

    #[test]
    fn lowered_slots_come_back() {
        let slots = slots(4, 1);
        let [a, b, c] = [(); 3].map(|()| admit(&slots, Phase::Active, SECOND));
        slots.thread_started();
        slots.thread_refused();
        slots.table().lowered = Some((2, Instant::now() + MINUTE));
        assert_eq!(slots.snapshot().max_connections, 2);
        assert!(slots.admit(connection().1).unwrap().is_shed());
        drop(a);
        assert!(slots.admit(connection().1).unwrap().is_shed());
        drop(b);
        assert!(!slots.admit(connection().1).unwrap().is_shed());
        slots.table().lowered = Some((1, Instant::now()));
        assert_eq!(slots.snapshot().max_connections, 4);
        assert!(!slots.admit(connection().1).unwrap().is_shed());
        drop(c);
    }

    #[test]
    fn slots_are_not_lowered_below_half() {
        let slots = slots(8, 0);
        let lowered = || slots.table().lowered.map(|(limit, _)| limit);
        let mut taken: Vec<_> = (0..6)
            .map(|_| admit(&slots, Phase::Active, SECOND))
            .collect();
        slots.thread_refused();
        assert_eq!(lowered(), Some(5), "one less than are taken");
        slots.thread_started();
        assert_eq!(lowered(), None);
        taken.truncate(2);
        slots.thread_refused();
        assert_eq!(lowered(), Some(3), "half of what was taken");
        taken.clear();
        slots.thread_started();
        slots.thread_refused();
        assert_eq!(lowered(), Some(1), "at least one");
    }

    #[test]
    fn counts() {
        let slots = slots(8, 1);
        let phases = [
            Phase::New,
            Phase::Head,
            Phase::Body,
            Phase::Active,
            Phase::Delayed,
            Phase::Idle,
            Phase::Lingering,
            Phase::Idle,
        ];
        let permits = phases.map(|phase| admit(&slots, phase, Duration::ZERO));
        let counts = || {
            let Snapshot {
                in_flight,
                idle,
                open,
                max_connections,
                ..
            } = slots.snapshot();
            (in_flight, idle, open, max_connections)
        };
        assert_eq!(counts(), (4, 2, 8, 8));
        slots.close_idle(Duration::ZERO);
        assert_eq!(counts(), (4, 0, 8, 8));
        drop(permits);
        assert_eq!(counts(), (0, 0, 0, 8));
    }

    #[test]
    fn the_drain_ends_idling_in_two_steps() {
        let slots = slots(8, 0);
        let (_a, idle) = admit(&slots, Phase::Idle, SECOND);
        let (_b, young) = admit_young(&slots, Phase::Idle);
        let (_c, new) = admit(&slots, Phase::New, SECOND);
        let (_d, lingering) = admit(&slots, Phase::Lingering, SECOND);
        let (_e, head) = admit(&slots, Phase::Head, SECOND);
        let (_f, active) = admit(&slots, Phase::Active, SECOND);
        let all = [&idle, &young, &new, &lingering, &head, &active];
        let evicted = || all.map(Permit::is_evicted);

        assert!(!active.closes_after_next_response());
        slots.begin_drain();
        assert!(all.iter().all(|permit| permit.closes_after_next_response()));
        assert!(slots.snapshot().draining);
        assert_eq!(evicted(), [false; 6]);

        slots.close_idle(limits::DRAIN_GRACE);
        assert_eq!(evicted(), [true, false, true, false, false, false]);
        wait_for_end(&idle);
        assert!(active.linger(), "there is time to linger");
        active.active(Instant::now());

        young.enter(Phase::Idle, Instant::now());
        slots.end_idling();
        assert_eq!(evicted(), [true, true, true, true, false, false]);
        active.enter(Phase::Idle, Instant::now());
        assert!(active.is_evicted(), "no connection may wait any more");
        wait_for_end(&active);
        assert!(!head.linger(), "there is no time to linger");
    }

    /// The port is closed after what waits in the kernel's queue, so some come late.
    #[test]
    fn a_connection_admitted_after_end_idling_does_not_wait() {
        let slots = slots(2, 0);
        let (mut client, ours) = connection();
        client.write_all(b"x").unwrap();
        ours.peek(&mut [0]).unwrap();
        slots.end_idling();
        let late = slots.admit(ours).unwrap();
        assert_eq!(stream(&late).read(&mut [0; 9]).unwrap(), 1);
        wait_for_end(&late);
        late.active(Instant::now());
        assert!(late.closes_after_next_response());
    }

    /// How long a connection sleeps in a thread of its own, up to `end`.
    fn slept(slots: &Slots, duration: Duration, until: Stage, end: impl Fn()) -> Duration {
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let (_client, ours) = connection();
                slots.admit(ours).unwrap().sleep(duration, until)
            });
            let sleeps = |index| {
                let slot = slots.slot(index);
                slot.as_ref().is_some_and(|o| o.phase == Phase::Delayed)
            };
            wait_until("it sleeps", || (0..slots.slots.len()).any(sleeps));
            end();
            sleeper.join().unwrap()
        })
    }

    #[test]
    fn sleeps_end_at_their_time_or_their_stage() {
        let slots = slots(1, 0);
        let (at_drain, at_limit) = (Stage::Draining, Stage::NoDelays);
        let moment = Duration::from_millis(10);
        let evict = || {
            let mut slot = slots.slot(0);
            slot.as_mut().unwrap().evict();
        };
        assert!(slept(&slots, MINUTE, at_drain, evict) < MINUTE);
        assert!(slept(&slots, MINUTE, at_drain, || slots.begin_drain()) < MINUTE);
        let (_client, permit) = admit(&slots, Phase::Active, Duration::ZERO);
        assert_eq!(permit.sleep(moment, at_limit), moment);
        assert!(permit.sleep(MINUTE, at_drain) < MINUTE);
        assert_eq!(permit.sleep(Duration::ZERO, at_limit), Duration::ZERO);
        drop(permit);
        assert!(slept(&slots, MINUTE, at_limit, || slots.end_delays()) < MINUTE);
    }

    #[test]
    fn the_cut_ends_everything() {
        let slots = slots(2, 0);
        let (client, active) = admit(&slots, Phase::Active, Duration::ZERO);
        assert!(slept(&slots, MINUTE, Stage::NoDelays, || slots.cut()) < MINUTE);
        assert_eq!(read(&client, &mut [0]).unwrap(), 0);
        stream(&active).write_all(b"x").unwrap_err();
        assert!(slots.admit(connection().1).is_none());
        assert_eq!(slots.snapshot().open, 1, "its slot is free again");
    }

    #[test]
    fn the_cut_ends_the_wait_of_a_newcomer() {
        let slots = slots(1, 0);
        let (_client, idle) = admit(&slots, Phase::Idle, limits::IDLE_GRACE);
        thread::scope(|scope| {
            let newcomer = scope.spawn(|| slots.take(Kind::Regular, MINUTE));
            wait_for_end(&idle);
            let start = Instant::now();
            slots.cut();
            assert_eq!(newcomer.join().unwrap(), None);
            assert!(start.elapsed() < MINUTE / 2, "it waited to its own end");
        });
    }

    #[test]
    fn the_drain_tells_websockets_to_close() {
        let slots = slots(1, 0);
        let (mut client, permit) = admit(&slots, Phase::Active, Duration::ZERO);
        let lock = permit.begin_websocket();
        slots.begin_drain();
        let mut frame = [0; 4];
        client.read_exact(&mut frame).unwrap();
        assert_eq!((frame[0], &frame[2..]), (0x88, &1001u16.to_be_bytes()[..]));
        assert!(*lock.lock().unwrap());
    }
}
