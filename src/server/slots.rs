//! Slots: which connections may stay, and which one makes room for a newcomer.
//!
//! Each connection has a slot: one mutex over plain data. The connection's thread changes its phase;
//! whoever wants it to end shuts its socket down and marks the slot. A newcomer that finds no free
//! slot evicts, in this order: a delayed connection whose client has gone; one that only lingers;
//! one without a whole request head for a second; the longest idle one, if it was idle for a second.
//! Otherwise it gets an overflow slot, for one response. Where those are taken too, the oldest of
//! them is cut.
//!
//! Newcomers take turns, so an eviction is for the one whose turn it is. `cut` raises the stage
//! before it scans the slots; `admit` publishes its slot before it checks the stage. At least one of
//! them sees the other. The table's lock may be held when a slot is locked, never the reverse.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::app::SleepEnds;
use crate::limits;
use crate::observe::metrics::Snapshot;
use crate::server::capacity::Capacity;
use crate::server::shutdown::{Stage, StageCell};
use crate::server::websocket::{self, WriteLock};

/// What the connection in a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived yet.
    New,
    /// A request head has begun and is not whole.
    Head,
    /// A request is being read or answered.
    Active,
    /// A response is delayed.
    Delayed,
    /// The connection waits for a next request.
    Idle,
    /// The last response was sent; the connection waits for its client to take it.
    Lingering,
}

/// A slot for a connection.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<Occupant>>);

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
    slots: Box<[Slot]>,
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
    shed: AtomicBool,
}

impl Slots {
    /// Free slots, as many as the host can hold.
    pub fn new(capacity: &Capacity) -> Slots {
        let Capacity {
            connections: regular,
            overflow,
            ..
        } = *capacity;
        Slots {
            slots: (0..regular + overflow).map(|_| Slot::default()).collect(),
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
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.take(Kind::Regular)
                .or_else(|| self.take(Kind::Overflow))?
        };
        *self.slot(index) = Some(Occupant {
            stream: stream.clone(),
            thread: thread::current(),
            phase: Phase::New,
            since: Instant::now(),
            evicted: false,
            websocket: None,
        });
        let shed = AtomicBool::new(index >= self.regular);
        let permit = Permit {
            slots: self,
            index,
            stream,
            shed,
        };
        (!self.stage.reached(Stage::Cut)).then_some(permit)
    }

    /// Takes a free slot of a kind, or the one of a connection that it evicts.
    fn take(&self, kind: Kind) -> Option<usize> {
        let deadline = Instant::now() + limits::SHED_TIME;
        let mut table = self.table();
        let mut evicted = None;
        loop {
            if let Some(index) = table.take(kind, self.regular) {
                return Some(index);
            }
            // An evicted connection that got a request instead does not leave: evict another one.
            if !evicted.is_some_and(|index| self.is_leaving(index)) {
                evicted = self.evict(&mut table, kind);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if evicted.is_none() || left.is_zero() || self.stage.reached(Stage::Cut) {
                return None;
            }
            table.waiting = true;
            let waited = self.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
            table.waiting = false;
        }
    }

    /// Whether the connection in a slot was evicted and has no request to answer before it ends.
    fn is_leaving(&self, index: usize) -> bool {
        let slot = self.slot(index);
        slot.as_ref()
            .is_some_and(|occupant| occupant.evicted && occupant.phase != Phase::Active)
    }

    /// Evicts a connection for a newcomer; the slot that it will free.
    fn evict(&self, table: &mut Table, kind: Kind) -> Option<usize> {
        let now = Instant::now();
        match kind {
            Kind::Regular => {
                let range = 0..self.regular;
                let oldest = |phases, age| self.evict_oldest(range.clone(), phases, now - age);
                self.evict_gone(table)
                    .or_else(|| oldest(&[Phase::Lingering], Duration::ZERO))
                    .or_else(|| oldest(&[Phase::New, Phase::Head], limits::HEAD_GRACE))
                    .or_else(|| oldest(&[Phase::Idle], limits::IDLE_GRACE))
            }
            Kind::Overflow => {
                let range = self.regular..self.slots.len();
                let oldest = |phases, age| self.evict_oldest(range.clone(), phases, now - age);
                // Who had its response for a while loses less than who was not heard yet.
                oldest(&[Phase::Lingering], limits::SHED_WRITE_GRACE)
                    .or_else(|| oldest(&[Phase::New, Phase::Head], Duration::ZERO))
                    .or_else(|| oldest(&[Phase::Lingering], Duration::ZERO))
                    .or_else(|| oldest(&[Phase::Active], limits::SHED_WRITE_GRACE))
            }
        }
    }

    /// Evicts the connection that has been longest in one of these phases, if it came into it
    /// before a time.
    fn evict_oldest(
        &self,
        range: Range<usize>,
        phases: &[Phase],
        before: Instant,
    ) -> Option<usize> {
        let fits = |occupant: &&Occupant| {
            phases.contains(&occupant.phase) && occupant.since <= before && !occupant.evicted
        };
        let since = |index: usize| self.slot(index).as_ref().filter(fits).map(|o| o.since);
        // Between the scan and the eviction the connection may have changed: then look again.
        loop {
            let oldest = range
                .clone()
                .filter_map(|index| Some((since(index)?, index)))
                .min();
            let (since, index) = oldest?;
            let mut slot = self.slot(index);
            match slot.as_mut().filter(|occupant| fits(&&**occupant)) {
                Some(occupant) if occupant.since == since => {
                    occupant.evict();
                    return Some(index);
                }
                _ => {}
            }
        }
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
        let now = Instant::now();
        let oldest = |phases, age| self.evict_oldest(0..self.slots.len(), phases, now - age);
        let _ = self
            .evict_gone(&mut table)
            .or_else(|| oldest(&[Phase::Lingering], Duration::ZERO))
            .or_else(|| oldest(&[Phase::New, Phase::Head], limits::SHED_TIME_ALONE))
            .or_else(|| oldest(&[Phase::Idle], limits::IDLE_GRACE));
    }

    /// Counts of connections and requests at this time.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for index in 0..self.slots.len() {
            let slot = self.slot(index);
            let Some(occupant) = &*slot else { continue };
            snapshot.open += 1;
            match occupant.phase {
                Phase::Head | Phase::Active | Phase::Delayed => snapshot.in_flight += 1,
                Phase::Idle if !occupant.evicted => snapshot.idle += 1,
                _ => {}
            }
        }
        snapshot.draining = self.stage.reached(Stage::Draining);
        snapshot.max_connections = self.table().limit(self.regular);
        snapshot
    }

    /// From now on each response is its connection's last, and WebSockets are told to close.
    pub fn begin_drain(&self) {
        self.stage.raise(Stage::Draining);
        self.unpark_all();
        for index in 0..self.slots.len() {
            let websocket = self.slot(index).as_ref().and_then(Occupant::websocket);
            if let Some((stream, lock)) = websocket {
                websocket::say_going_away(&stream, &lock);
            }
        }
    }

    /// Evicts connections that have waited for a request for this long.
    pub fn close_idle(&self, for_at_least: Duration) {
        self.close(Instant::now() - for_at_least, &[Phase::Idle, Phase::New]);
    }

    /// Evicts every connection that waits for a request or lingers, and lets none wait again.
    pub fn end_idling(&self) {
        self.stage.raise(Stage::NoIdling);
        self.close(Instant::now(), &[Phase::Idle, Phase::New, Phase::Lingering]);
    }

    fn close(&self, before: Instant, phases: &[Phase]) {
        for index in 0..self.slots.len() {
            if let Some(occupant) = &mut *self.slot(index)
                && phases.contains(&occupant.phase)
                && occupant.since <= before
            {
                occupant.evict();
            }
        }
    }

    /// Ends the delays of responses.
    pub fn end_delays(&self) {
        self.stage.raise(Stage::NoDelays);
        self.unpark_all();
    }

    fn unpark_all(&self) {
        for index in 0..self.slots.len() {
            if let Some(occupant) = &*self.slot(index) {
                occupant.thread.unpark();
            }
        }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.stage.raise(Stage::Cut);
        for index in 0..self.slots.len() {
            if let Some(occupant) = &*self.slot(index) {
                // An error means that the connection has ended already.
                let _ = occupant.stream.shutdown(Shutdown::Both);
                occupant.thread.unpark();
            }
        }
        drop(self.table());
        self.changed.notify_all();
    }

    fn slot(&self, index: usize) -> MutexGuard<'_, Option<Occupant>> {
        self.slots[index]
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn limit(&mut self, regular: usize) -> usize {
        match self.lowered {
            Some((limit, until)) if Instant::now() < until => limit,
            _ => {
                self.lowered = None;
                regular
            }
        }
    }

    fn take(&mut self, kind: Kind, regular: usize) -> Option<usize> {
        match kind {
            Kind::Regular if self.lowered.is_none() => self.free_regular.pop(),
            Kind::Regular => {
                let taken = regular - self.free_regular.len();
                if taken < self.limit(regular) {
                    self.free_regular.pop()
                } else {
                    None
                }
            }
            Kind::Overflow => self.free_overflow.pop(),
        }
    }
}

impl Occupant {
    /// The stream and the lock of its writes, if it speaks WebSocket.
    fn websocket(&self) -> Option<(Arc<TcpStream>, WriteLock)> {
        self.websocket
            .clone()
            .map(|lock| (self.stream.clone(), lock))
    }

    /// Has the connection end: its thread wakes from whatever it waits for. A request that had
    /// already arrived on an idle connection is still read and answered.
    fn evict(&mut self) {
        self.evicted = true;
        let waits_for_request = matches!(self.phase, Phase::New | Phase::Idle | Phase::Head);
        let how = if waits_for_request {
            Shutdown::Read
        } else {
            Shutdown::Both
        };
        // An error means that the connection has ended already.
        let _ = self.stream.shutdown(how);
        self.thread.unpark();
    }

    /// Whether the client has closed or reset the connection. Its thread is parked and takes this
    /// slot's lock before it touches the socket again, so the socket can be asked without blocking.
    /// Unread input hides a close that follows it.
    fn client_has_gone(&self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return true;
        }
        let gone = match self.stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.stream.set_nonblocking(false).is_err() || gone
    }
}

impl Permit<'_> {
    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the connection gets one response and no more.
    pub fn is_shed(&self) -> bool {
        self.shed.load(SeqCst)
    }

    /// Gives the connection one response and no more.
    pub fn shed(&self) {
        self.shed.store(true, SeqCst);
    }

    /// A request head has begun and is not whole; `began` is when its client could begin. Later
    /// lines of the same head do not make it younger.
    pub fn head_begun(&self, began: Instant) {
        self.enter(Phase::Head, began);
    }

    /// A whole request head is here; `now` is the time. An evicted connection that gets one still answers it, so the
    /// newcomer has to evict another.
    pub fn request_begun(&self, now: Instant) {
        if self.enter(Phase::Active, now) {
            let table = self.slots.table();
            self.slots.notify(&table);
        }
    }

    /// A response has ended, and the connection waits for a next request; `now` is the time. After
    /// the drain's grace no connection may wait: then it is evicted, and what had already arrived is
    /// still read.
    pub fn idle(&self, now: Instant) {
        let mut slot = self.slots.slot(self.index);
        if let Some(occupant) = &mut *slot {
            (occupant.phase, occupant.since) = (Phase::Idle, now);
            if self.slots.stage.reached(Stage::NoIdling) {
                occupant.evict();
            }
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

    /// Waits this long, or until the shutdown or an eviction ends the sleep; the time that has
    /// passed.
    pub fn sleep(&self, duration: Duration, ends: SleepEnds) -> Duration {
        if duration.is_zero() {
            return duration;
        }
        let start = Instant::now();
        let end_stage = match ends {
            SleepEnds::AtDrain => Stage::Draining,
            SleepEnds::AtDrainLimit => Stage::NoDelays,
        };
        self.enter(Phase::Delayed, start);
        let slept = loop {
            let elapsed = start.elapsed();
            if elapsed >= duration {
                break duration;
            }
            if self.slots.stage.reached(end_stage) || self.is_evicted() {
                break elapsed;
            }
            thread::park_timeout(duration - elapsed);
        };
        self.enter(Phase::Active, Instant::now());
        slept
    }

    /// Whether the next response is the connection's last.
    pub fn is_leaving(&self) -> bool {
        self.is_shed() || self.slots.stage.reached(Stage::Draining) || self.is_evicted()
    }

    /// Whether the server told the connection to end.
    pub fn is_evicted(&self) -> bool {
        self.slots
            .slot(self.index)
            .as_ref()
            .is_some_and(|occupant| occupant.evicted)
    }

    /// Comes into a phase; whether the connection was evicted before.
    fn enter(&self, phase: Phase, now: Instant) -> bool {
        let mut slot = self.slots.slot(self.index);
        slot.as_mut().is_some_and(|occupant| {
            (occupant.phase, occupant.since) = (phase, now);
            occupant.evicted
        })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let occupant = self.slots.slot(self.index).take();
        drop(occupant);
        let mut table = self.slots.table();
        if self.index < self.slots.regular {
            table.free_regular.push(self.index);
        } else {
            table.free_overflow.push(self.index);
        }
        self.slots.notify(&table);
    }
}
