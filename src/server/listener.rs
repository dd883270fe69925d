//! The listening socket and its options.
//!
//! On Linux an accepted connection inherits `TCP_NODELAY` and the time limit for writes from its
//! listener, which spares each connection two system calls. Not everywhere: gVisor's connections
//! inherit nothing, and a connection that the kernel completed before the options were set has
//! none. So the first connections get them explicitly, and one of them tells about the rest.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::config::settings::Config;
use crate::limits;
use crate::server::Error;
use crate::server::socket;

/// The addresses of a connection: the peer's and our own.
pub type Addresses = (SocketAddr, SocketAddr);

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// The same socket, with the options that std has for streams alone.
    socket: TcpStream,
    write_limit: Duration,
    address: SocketAddr,
    accepted: AtomicUsize,
    /// Whether connections inherit the options; unknown until the first one.
    inherits: OnceLock<bool>,
}

impl Listener {
    /// Opens the first configured address that the host has.
    pub fn bind(config: &Config) -> Result<Listener, Error> {
        let mut first_error = None;
        for address in &config.listen {
            match TcpListener::bind(address) {
                Ok(listener) => {
                    let failed = |error| Error::Listen(*address, error);
                    return Listener::with_options(listener, config).map_err(failed);
                }
                // Another server has the port: its users would reach one or the other.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(Error::Listen(*address, error));
                }
                Err(error) => {
                    first_error.get_or_insert(Error::Listen(*address, error));
                }
            }
        }
        Err(first_error.unwrap_or(Error::NoAddress))
    }

    /// A listener over a socket that listens already.
    pub fn with_options(listener: TcpListener, config: &Config) -> io::Result<Listener> {
        let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
        let write_limit = socket::limit_within(config.write_timeout);
        set_options(&socket, write_limit)?;
        lengthen_queue(&listener)?;
        Ok(Listener {
            socket,
            write_limit,
            address: listener.local_addr()?,
            listener,
            accepted: AtomicUsize::new(0),
            inherits: OnceLock::new(),
        })
    }

    /// The address that the socket listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for a connection.
    pub fn accept(&self) -> io::Result<(TcpStream, Addresses)> {
        let (stream, peer) = self.listener.accept()?;
        let early = self.accepted.fetch_add(1, Relaxed) < limits::EARLY_CONNECTIONS;
        let inherits = || has_options(&stream, self.write_limit);
        if early || !self.inherits.get_or_init(inherits) {
            // A connection that has ended already takes no options; reading from it tells.
            let _ = set_options(&stream, self.write_limit);
        }
        // Only a socket that listens on every address has to be asked for each connection.
        let local = if self.address.ip().is_unspecified() {
            stream.local_addr().unwrap_or(self.address)
        } else {
            self.address
        };
        Ok((stream, (peer, local)))
    }

    /// Makes `accept` return at once where no connection waits.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.listener.set_nonblocking(true)
    }

    /// Refuses newcomers, and ends every blocked `accept`.
    pub fn close(&self) {
        // An error means that the socket is not listening any more.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

fn set_options(socket: &TcpStream, write_limit: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(write_limit))
}

fn has_options(stream: &TcpStream, write_limit: Duration) -> bool {
    // The kernel rounds the limit up to its own clock tick.
    let near = |limit: Duration| limit.abs_diff(write_limit) < Duration::from_millis(50);
    stream.nodelay().unwrap_or(false) && stream.write_timeout().ok().flatten().is_some_and(near)
}

/// Asks for a longer queue than the 128 that std asks for. With those a burst of 5,000 connections
/// loses SYNs, and their clients wait for seconds.
fn lengthen_queue(listener: &TcpListener) -> io::Result<()> {
    // listen(2) may be called again on a listening socket and sets the new length. It takes two
    // integers and touches no memory of ours; on a descriptor that is not a socket it fails. So no
    // argument can break a rule of Rust.
    #[expect(
        unsafe_code,
        reason = "no safe function of std sets the length of the queue"
    )]
    unsafe extern "C" {
        safe fn listen(socket: i32, backlog: i32) -> i32;
    }
    if listen(listener.as_raw_fd(), limits::BACKLOG) == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::settings;

    #[test]
    fn a_connection_that_came_before_the_options_gets_them() {
        let early = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(early.local_addr().unwrap()).unwrap();
        let config = Config::read(&settings::flags(&[]).unwrap(), |_| None).unwrap();
        let listener = Listener::with_options(early, &config).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(has_options(&stream, listener.write_limit));
    }
}
