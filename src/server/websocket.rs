//! A WebSocket connection after its handshake (RFC 6455): each message comes back as it went.
//!
//! A ping goes out after half of the idle timeout, and the connection ends after all of it. At the
//! drain the main thread sends the close frame, because this thread is blocked in a read and a read
//! that was shut down could not wait for the client's close. So every write holds a lock that also
//! says whether a close frame was sent; the main thread only tries it, and this thread looks at the
//! stage after each write.

use std::io::{ErrorKind, Write};
use std::mem;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::app::Stage;
use crate::http::websocket::frames::{
    Decoder, Event, GOING_AWAY, Opcode, TRY_AGAIN_LATER, close_frame, frame_header,
};
use crate::limits;
use crate::observe::metrics::Direction;
use crate::server::connection::Connection;
use crate::sync::lock;

/// The lock of a WebSocket's writes; true once a close frame was sent.
pub type WriteLock = Arc<Mutex<bool>>;

/// Sends a close frame because of the drain, unless the connection's own thread is writing: that
/// one looks at the stage afterwards.
pub fn say_going_away(stream: &TcpStream, writes: &WriteLock) {
    let Ok(mut close_sent) = writes.try_lock() else {
        return;
    };
    if *close_sent {
        return;
    }
    *close_sent = true;
    // The main thread must not wait for a client that does not read. Such a client is cut.
    let frame = close_frame(Some(GOING_AWAY), "draining");
    let sent = stream
        .set_nonblocking(true)
        .and_then(|()| (&*stream).write(&frame));
    let restored = stream.set_nonblocking(false);
    if restored.is_err() || sent.map_or(true, |count| count < frame.len()) {
        // An error means that the connection has ended already.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Connection<'_> {
    /// Serves the connection up to its end; how many messages came.
    pub(super) fn websocket(&mut self) -> u64 {
        let writes = self.permit.begin_websocket();
        let max = usize::try_from(self.app().config.max_body).unwrap_or(usize::MAX);
        let (mut decoder, mut messages) = (Decoder::new(max), 0);
        let mut reservation = self.server.body_memory.reservation();
        if !self.send(&writes, None) || !self.flush() {
            return messages;
        }
        // The description was the first message.
        self.app().metrics.message(Direction::Sent);
        self.shrink();
        let (mut last_received, mut pinged) = (Instant::now(), false);
        loop {
            let mut input = mem::take(&mut self.buffers.input);
            let goes_on = self.handle_frames(&writes, &mut decoder, input.unread(), &mut messages);
            input.clear();
            self.buffers.input = input;
            if !goes_on {
                return messages;
            }
            let idle = self.app().config.idle_timeout;
            let deadline = last_received + if pinged { idle } else { idle / 2 };
            decoder.release();
            self.out.release();
            if reservation.resize(decoder.memory() as u64).is_err() {
                self.send_close(&writes, Some(TRY_AGAIN_LATER), "no memory for the message");
                return messages;
            }
            match self.read(limits::READ_BYTES, deadline) {
                Ok(1..) => (last_received, pinged) = (Instant::now(), false),
                Err(error) if error.kind() == ErrorKind::TimedOut && !pinged => {
                    pinged = true;
                    if !self.send(&writes, Some((Opcode::Ping, b""))) {
                        return messages;
                    }
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    // The client is gone, or its close frame will be discarded with the rest.
                    self.send_close(&writes, Some(GOING_AWAY), "idle for too long");
                    return messages;
                }
                _ => return messages,
            }
        }
    }

    /// Handles the frames that are whole; whether the connection goes on.
    fn handle_frames(
        &mut self,
        writes: &WriteLock,
        decoder: &mut Decoder,
        mut rest: &[u8],
        messages: &mut u64,
    ) -> bool {
        loop {
            match decoder.decode(&mut rest) {
                Ok(None) => return true,
                Ok(Some(Event::Message { text, payload })) => {
                    *messages += 1;
                    self.app().metrics.message(Direction::Received);
                    let opcode = if text { Opcode::Text } else { Opcode::Binary };
                    if !self.send(writes, Some((opcode, payload))) {
                        return false;
                    }
                    self.app().metrics.message(Direction::Sent);
                }
                Ok(Some(Event::Ping(payload))) => {
                    if !self.send(writes, Some((Opcode::Pong, payload))) {
                        return false;
                    }
                }
                Ok(Some(Event::Pong)) => {}
                Ok(Some(Event::Close(code))) => {
                    self.send_close(writes, code, "");
                    return false;
                }
                Err(violation) => {
                    self.send_close(writes, Some(violation.code()), violation.label());
                    return false;
                }
            }
        }
    }

    /// Writes a frame and what is pending before it; nothing after a close frame. Whether the client
    /// still takes it.
    fn send(&mut self, writes: &WriteLock, frame: Option<(Opcode, &[u8])>) -> bool {
        let close_sent = lock(writes);
        if !*close_sent && let Some((opcode, payload)) = frame {
            self.out.put(&frame_header(opcode, payload.len()));
            self.out.put(payload);
        }
        self.out.flush();
        drop(close_sent);
        // The main thread raises the stage before it tries the lock. Where it found the lock held,
        // the stage is seen here, after the unlock.
        let draining = self.server.slots.stage().reached(Stage::Draining);
        if draining && !mem::replace(&mut *lock(writes), true) {
            self.out.put(&close_frame(Some(GOING_AWAY), "draining"));
            self.out.flush();
        }
        self.out.failed().is_none()
    }

    /// Sends a close frame, unless one was sent before.
    fn send_close(&mut self, writes: &WriteLock, code: Option<u16>, reason: &str) {
        if !mem::replace(&mut *lock(writes), true) {
            self.out.put(&close_frame(code, reason));
        }
        self.send(writes, None);
    }
}
