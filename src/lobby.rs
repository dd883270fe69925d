//! Seats: the admission limit, the list of idle connections, and the drain, in one.
//!
//! A connection's stream lives in its place, so that it costs one descriptor: its thread reads and writes it under a
//! read guard, and whoever wants it to end takes another read guard and calls `shutdown`. A place's activity is one
//! atomic: free, busy, leaving, or idle since a moment. Only the connection's own thread makes it busy; only from idle
//! can it be told to leave, and then a request that had already arrived is still answered, with `Connection: close`.
//!
//! A newcomer that finds no seat asks the longest-idle connection to leave: first one that only waits for its client to
//! take a last answer, never one that came within a second and may have its first request on the way. Where none is
//! idle it gets one of the shed places, for a single answer; where those are taken, the oldest without a whole request
//! is cut.

use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use crate::limits;
use crate::metrics::Moment;
use crate::process::Capacity;

/// A place for a connection.
#[derive(Debug)]
struct Place {
    stream: RwLock<Option<TcpStream>>,
    activity: AtomicU64,
}

/// Nobody is here.
const FREE: u64 = 0;
/// A request has begun and its answer has not ended.
const BUSY: u64 = 1;
/// The connection was told to end when it was idle.
const LEAVING: u64 = 2;
/// It was told to end, but a request had already arrived, whose answer is the last.
const LAST: u64 = 3;
/// The last answer was given, and the connection only waits for its client to take it: the first to make room.
const LINGERING: u64 = 4;
/// From here on: idle since so many half milliseconds after the lobby opened, and this.
const IDLE: u64 = 6;
/// Set in an idle activity, which is even without it: the connection has had no answer yet, so its first request may be on its way.
const NEWCOMER: u64 = 1;

/// How far the drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Connections come and stay.
    Open,
    /// Each answer is a connection's last.
    Draining,
    /// No connection may wait for a request.
    NoIdling,
    /// No answer may wait, and no client is waited for.
    NoPauses,
    /// Everything ends.
    Cut,
}

/// The two kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// For a connection that is served for as long as it likes.
    Seat,
    /// For a connection that gets one answer.
    ShedPlace,
}

/// Where delayed answers wait, until the drain ends that.
#[derive(Debug, Default)]
struct Pauses {
    ended: Mutex<bool>,
    end: Condvar,
}

/// Every place, and who may take one.
#[derive(Debug)]
pub struct Lobby {
    places: Box<[Place]>,
    seats: usize,
    spare_threads: usize,
    state: Mutex<State>,
    freed: Condvar,
    stage: AtomicU8,
    /// Several, because thousands of pauses that end together would queue for one lock.
    pauses: [Pauses; 32],
    next_pause: AtomicUsize,
    opened: Instant,
}

#[derive(Debug)]
struct State {
    seats: Pool,
    shed_places: Pool,
    lowered: Option<(usize, Instant)>,
}

/// Places of one kind.
#[derive(Debug)]
struct Pool {
    range: Range<usize>,
    free: Vec<usize>,
    /// Newcomers that wait for a place, and connections that were told to leave for them.
    waiting: usize,
    leaving: usize,
}

impl Pool {
    fn new(range: Range<usize>) -> Pool {
        Pool { free: range.clone().rev().collect(), range, waiting: 0, leaving: 0 }
    }

    fn one_less_leaves(&mut self) {
        // At the drain connections leave for nobody.
        self.leaving = self.leaving.saturating_sub(1);
    }
}

/// The proof of admission; dropping it closes the connection and frees its place.
#[derive(Debug)]
pub struct Seat<'a> {
    lobby: &'a Lobby,
    place: usize,
    shed: bool,
}

impl Lobby {
    /// Empty places: seats, and shed places for when those are taken.
    pub fn new(capacity: &Capacity) -> Lobby {
        let Capacity { seats, shed_places, spare_threads, .. } = *capacity;
        let place = || Place { stream: RwLock::new(None), activity: AtomicU64::new(FREE) };
        Lobby {
            places: (0..seats + shed_places).map(|_| place()).collect(),
            seats,
            spare_threads,
            state: Mutex::new(State {
                seats: Pool::new(0..seats),
                shed_places: Pool::new(seats..seats + shed_places),
                lowered: None,
            }),
            freed: Condvar::new(),
            stage: AtomicU8::new(Stage::Open as u8),
            pauses: Default::default(),
            next_pause: AtomicUsize::new(0),
            opened: Instant::now(),
        }
    }

    /// How many threads may wait for a next connection.
    pub fn spare_threads(&self) -> usize {
        self.spare_threads
    }

    /// Gives a connection a seat or else a shed place, making room if need be; `None` if there is neither in time.
    pub fn admit(&self, stream: TcpStream) -> Option<Seat<'_>> {
        let place = self.take(Kind::Seat).or_else(|| self.take(Kind::ShedPlace))?;
        *self.places[place].stream.write().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        let seat = Seat { lobby: self, place, shed: place >= self.seats };
        // A shed connection has to ask at once; one with a seat has the grace of a newcomer.
        let newcomer = if seat.shed { 0 } else { NEWCOMER };
        self.places[place].activity.store(self.idle_now(Instant::now()) | newcomer, SeqCst);
        // Whoever cuts marks the stage first and looks at the places then, so one of both sees the other.
        (!self.reached(Stage::Cut)).then_some(seat)
    }

    /// Takes a free place of a kind, or the one of a connection that leaves for it.
    fn take(&self, kind: Kind) -> Option<usize> {
        let mut state = self.lock();
        if let Some(place) = state.take(kind) {
            return Some(place);
        }
        state.pool(kind).waiting += 1;
        let deadline = Instant::now() + limits::SHED_TIME;
        let mut taken = None;
        while taken.is_none() {
            // A place that was freed for one may have gone to another, who came later: each that waits has one leave.
            let pool = state.pool(kind);
            if pool.leaving < pool.waiting && self.evict_longest_idle(pool.range.clone()) {
                pool.leaving += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let hopeless = kind == Kind::Seat && pool.leaving == 0;
            if hopeless || left.is_zero() || self.reached(Stage::Cut) {
                break;
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            taken = state.take(kind);
        }
        state.pool(kind).waiting -= 1;
        taken
    }

    /// Tells the connection that has been idle for the longest to leave; whether there was one.
    fn evict_longest_idle(&self, range: Range<usize>) -> bool {
        let graced = self.idle_now(Instant::now()).saturating_sub(2 * millis(limits::GRACE));
        let may_leave = |activity| activity >= LINGERING && (activity & NEWCOMER == 0 || activity <= graced);
        loop {
            let longest = self.places[range.clone()]
                .iter()
                .map(|place| (place.activity.load(SeqCst), place))
                .filter(|(activity, _)| may_leave(*activity))
                .min_by_key(|(activity, _)| *activity);
            match longest {
                Some((activity, place)) if place.evict(activity) => return true,
                // It became busy in between: another one is the longest now.
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Takes back as many seats as are free, for a while, because the system has no thread for them.
    pub fn lower_seats(&self) {
        let mut state = self.lock();
        let in_use = self.seats - state.seats.free.len();
        state.lowered = Some((in_use.saturating_sub(1).max(1), Instant::now() + limits::LOWERED));
    }

    /// How many seats, shed places and requests there are at this moment.
    pub fn moment(&self) -> Moment {
        let mut moment = Moment { draining: self.draining(), ..Moment::default() };
        for place in &self.places {
            match place.activity.load(SeqCst) {
                FREE => continue,
                BUSY | LAST => moment.in_flight += 1,
                _ => moment.idle += 1,
            }
            moment.open += 1;
        }
        moment.seats = self.lock().limit();
        moment
    }

    /// Waits so long, or until the drain ends all waiting; tells how long it was.
    pub fn pause(&self, duration: Duration) -> Duration {
        if duration.is_zero() {
            return duration;
        }
        let start = Instant::now();
        let pauses = &self.pauses[self.next_pause.fetch_add(1, SeqCst) % self.pauses.len()];
        let ended = pauses.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let result = pauses.end.wait_timeout_while(ended, duration, |ended| !*ended);
        let ended = *result.unwrap_or_else(PoisonError::into_inner).0;
        if ended { start.elapsed().min(duration) } else { duration }
    }

    /// Whether the drain has begun.
    pub fn draining(&self) -> bool {
        self.reached(Stage::Draining)
    }

    /// From now on each answer is its connection's last.
    pub fn begin_drain(&self) {
        self.reach(Stage::Draining);
    }

    /// Tells connections that have been idle for so long to leave.
    pub fn close_idle(&self, for_at_least: Duration) {
        let since = self.idle_now(Instant::now()).saturating_sub(2 * millis(for_at_least));
        for place in &self.places {
            let activity = place.activity.load(SeqCst);
            if activity >= IDLE && activity <= since | NEWCOMER {
                place.evict(activity);
            }
        }
    }

    /// Tells every idle connection to leave, and lets none become idle again.
    pub fn end_idling(&self) {
        self.reach(Stage::NoIdling);
        self.close_idle(Duration::ZERO);
    }

    /// Ends the pauses of delayed answers, and those after a last answer.
    pub fn end_pauses(&self) {
        self.reach(Stage::NoPauses);
        for pauses in &self.pauses {
            *pauses.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
            pauses.end.notify_all();
        }
    }

    /// Cuts every connection; tells how many had a request in flight.
    pub fn cut(&self) -> usize {
        self.reach(Stage::Cut);
        drop(self.lock());
        self.freed.notify_all();
        let in_flight = self.moment().in_flight;
        self.places.iter().for_each(Place::cut);
        in_flight
    }

    fn reach(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, SeqCst);
    }

    fn reached(&self, stage: Stage) -> bool {
        self.stage.load(SeqCst) >= stage as u8
    }

    fn idle_now(&self, now: Instant) -> u64 {
        IDLE + 2 * millis(now.saturating_duration_since(self.opened))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The seats that may be taken at present.
    fn limit(&mut self) -> usize {
        match self.lowered {
            Some((limit, until)) if Instant::now() < until => limit,
            _ => {
                self.lowered = None;
                self.seats.range.len()
            }
        }
    }

    fn pool(&mut self, kind: Kind) -> &mut Pool {
        match kind {
            Kind::Seat => &mut self.seats,
            Kind::ShedPlace => &mut self.shed_places,
        }
    }

    fn take(&mut self, kind: Kind) -> Option<usize> {
        let in_use = self.seats.range.len() - self.seats.free.len();
        if kind == Kind::Seat && in_use >= self.limit() { None } else { self.pool(kind).free.pop() }
    }
}

impl Place {
    /// Makes an idle connection leave, unless it has just become busy.
    fn evict(&self, activity: u64) -> bool {
        // The guard first: while it is held, the place cannot go to another connection.
        let stream = self.stream.read().unwrap_or_else(PoisonError::into_inner);
        let evicted = self.activity.compare_exchange(activity, LEAVING, SeqCst, SeqCst).is_ok();
        if let (Some(stream), true) = (&*stream, evicted) {
            // Only the reading side: what had already arrived is still read, and answered. An error means that the
            // connection has ended already.
            let _ = stream.shutdown(Shutdown::Read);
        }
        evicted
    }

    fn cut(&self) {
        if let Some(stream) = &*self.stream.read().unwrap_or_else(PoisonError::into_inner) {
            // An error means that the connection has ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Seat<'_> {
    /// The connection.
    pub fn stream(&self) -> RwLockReadGuard<'_, Option<TcpStream>> {
        self.lobby.places[self.place].stream.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection gets one answer and no more.
    pub fn is_shed(&self) -> bool {
        self.shed
    }

    /// Gives the connection one answer and no more.
    pub fn shed(&mut self) {
        self.shed = true;
    }

    /// A request has begun. One that had been told to leave does not leave for anybody now: another has to.
    pub fn busy(&self) {
        let busy = |activity| match activity {
            LEAVING => Some(LAST),
            IDLE.. => Some(BUSY),
            _ => None,
        };
        if self.activity().fetch_update(SeqCst, SeqCst, busy) == Ok(LEAVING) {
            let mut state = self.lobby.lock();
            state.pool(self.kind()).one_less_leaves();
            self.tell_those_who_wait(&state);
        }
    }

    fn kind(&self) -> Kind {
        if self.place < self.lobby.seats { Kind::Seat } else { Kind::ShedPlace }
    }

    fn tell_those_who_wait(&self, state: &State) {
        // Without anybody who waits this would be a system call for nothing.
        if state.seats.waiting + state.shed_places.waiting > 0 {
            self.lobby.freed.notify_all();
        }
    }

    /// An answer has ended, and another request may come. If none may any more, the connection is told to leave: what
    /// had already arrived is still read.
    pub fn idle(&self, now: Instant) {
        // Refused for one that has just come, which is idle already, and for one that is leaving.
        let _ = self.activity().compare_exchange(BUSY, self.lobby.idle_now(now), SeqCst, SeqCst);
        let activity = self.activity().load(SeqCst);
        if activity >= IDLE && self.lobby.reached(Stage::NoIdling) {
            self.lobby.places[self.place].evict(activity);
        }
    }

    /// The last answer was given; whether there is still time to wait for the client to take it.
    pub fn linger(&self) -> bool {
        let lingers = |activity| matches!(activity, BUSY | LAST).then_some(LINGERING);
        // Refused for one that is leaving.
        let _ = self.activity().fetch_update(SeqCst, SeqCst, lingers);
        !self.lobby.reached(Stage::NoPauses)
    }

    /// Whether the next answer is the connection's last.
    pub fn leaving(&self) -> bool {
        self.is_shed() || self.lobby.draining() || matches!(self.activity().load(SeqCst), LEAVING | LAST)
    }

    fn activity(&self) -> &AtomicU64 {
        &self.lobby.places[self.place].activity
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let place = &self.lobby.places[self.place];
        let stream = place.stream.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(stream);
        let was_leaving = place.activity.swap(FREE, SeqCst) == LEAVING;
        let mut state = self.lobby.lock();
        let pool = state.pool(self.kind());
        pool.free.push(self.place);
        if was_leaving {
            pool.one_less_leaves();
        }
        self.tell_those_who_wait(&state);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may panic where it gets no thread")]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// A connection: the client's end and ours.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn lobby(seats: usize) -> Lobby {
        Lobby::new(&Capacity { seats, shed_places: 1, spare_threads: 1, lowered_by: None })
    }

    /// A connection that has had an answer.
    fn admit(lobby: &Lobby) -> Option<(TcpStream, Seat<'_>)> {
        let (client, ours) = connection();
        let seat = lobby.admit(ours)?;
        if !seat.is_shed() {
            seat.busy();
            seat.idle(Instant::now());
        }
        Some((client, seat))
    }

    /// Whether the connection's thread is woken by its end.
    fn ended(seat: &Seat<'_>) -> bool {
        let guard = seat.stream();
        let mut stream = guard.as_ref().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    }

    #[test]
    fn the_longest_idle_leaves_for_a_newcomer() {
        let lobby = lobby(2);
        let (_a, first) = admit(&lobby).unwrap();
        std::thread::scope(|scope| {
            let (_b, second) = admit(&lobby).unwrap();
            let later = Instant::now() + Duration::from_millis(5);
            second.busy();
            second.idle(later);
            let newcomer = scope.spawn(|| admit(&lobby).map(|(_, seat)| seat.is_shed()));
            while !ended(&first) {}
            assert!(!ended(&second) && first.leaving() && !second.leaving());
            drop(first);
            assert_eq!(newcomer.join().unwrap(), Some(false));
        });
    }

    #[test]
    fn busy_ones_stay_and_a_newcomer_is_shed() {
        let lobby = lobby(1);
        let (_a, seat) = admit(&lobby).unwrap();
        seat.busy();
        let (_b, shed) = admit(&lobby).unwrap();
        assert!(shed.is_shed() && shed.leaving() && !seat.leaving() && !ended(&seat));
        let moment = lobby.moment();
        assert_eq!((moment.in_flight, moment.idle, moment.open, moment.seats), (1, 1, 2, 1));
        std::thread::scope(|scope| {
            let newcomer = scope.spawn(|| admit(&lobby).map(|(_, seat)| seat.is_shed()));
            while !ended(&shed) {}
            drop(shed);
            assert_eq!(newcomer.join().unwrap(), Some(true));
        });
        let (_c, shed) = admit(&lobby).unwrap();
        shed.busy();
        let start = Instant::now();
        assert!(admit(&lobby).is_none());
        assert!(start.elapsed() >= limits::SHED_TIME);
    }

    #[test]
    fn one_told_to_leave_answers_what_had_arrived() {
        let lobby = lobby(1);
        let (_a, seat) = admit(&lobby).unwrap();
        assert!(lobby.evict_longest_idle(0..1));
        seat.busy();
        seat.idle(Instant::now());
        assert!(seat.leaving());
        assert_eq!(lobby.moment().in_flight, 1);
    }

    #[test]
    fn for_one_that_answers_instead_of_leaving_another_leaves() {
        let lobby = lobby(2);
        let (_a, first) = admit(&lobby).unwrap();
        let (_b, second) = admit(&lobby).unwrap();
        std::thread::scope(|scope| {
            let newcomer = scope.spawn(|| admit(&lobby).map(|(_, seat)| seat.is_shed()));
            let evicted = loop {
                let leaving = |seat: &&Seat<'_>| seat.activity().load(SeqCst) == LEAVING;
                if let Some(evicted) = [&first, &second].into_iter().find(leaving) {
                    break evicted;
                }
            };
            evicted.busy();
            let other = if std::ptr::eq(evicted, &raw const first) { second } else { first };
            while !ended(&other) {}
            drop(other);
            assert_eq!(newcomer.join().unwrap(), Some(false));
        });
    }

    #[test]
    fn a_newcomer_has_its_grace() {
        let lobby = lobby(1);
        let (_client, ours) = connection();
        let newcomer = lobby.admit(ours).unwrap();
        assert!(!lobby.evict_longest_idle(0..1) && admit(&lobby).unwrap().1.is_shed());
        lobby.close_idle(limits::GRACE);
        assert!(!ended(&newcomer));
        lobby.end_idling();
        assert!(ended(&newcomer));
    }

    #[test]
    fn one_that_had_its_last_answer_makes_room_first() {
        let lobby = lobby(2);
        let (_a, idle) = admit(&lobby).unwrap();
        let (_b, lingering) = admit(&lobby).unwrap();
        lingering.busy();
        lingering.linger();
        assert!(lobby.evict_longest_idle(0..2));
        assert!(ended(&lingering) && !ended(&idle));
    }

    #[test]
    fn lowered_seats_come_back() {
        let lobby = lobby(3);
        let (_a, first) = admit(&lobby).unwrap();
        let (_b, second) = admit(&lobby).unwrap();
        first.busy();
        second.busy();
        lobby.lower_seats();
        assert_eq!(lobby.moment().seats, 1);
        assert!(admit(&lobby).unwrap().1.is_shed());
        lobby.lock().lowered = Some((1, Instant::now()));
        assert_eq!(lobby.moment().seats, 3);
        assert!(!admit(&lobby).unwrap().1.is_shed());
    }

    #[test]
    fn the_drain() {
        let lobby = lobby(4);
        let (_a, idle) = admit(&lobby).unwrap();
        let (mut client, busy) = admit(&lobby).unwrap();
        busy.busy();
        lobby.begin_drain();
        assert!(busy.leaving() && lobby.draining());
        lobby.close_idle(Duration::from_secs(3600));
        assert!(!ended(&idle));
        lobby.end_idling();
        assert!(ended(&idle) && !ended(&busy));
        let (_c, late) = admit(&lobby).unwrap();
        late.busy();
        late.idle(Instant::now());
        assert!(ended(&late));
        drop(late);
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| lobby.pause(Duration::from_secs(60)));
            lobby.end_pauses();
            assert!(pausing.join().unwrap() < Duration::from_secs(60));
        });
        busy.busy();
        // The idle one was told to leave, and has no request.
        assert_eq!(lobby.cut(), 1);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(admit(&lobby).is_none());
    }
}
