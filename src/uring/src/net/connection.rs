//! Accepting, reading and writing on an executor.
//!
//! Each call is tried first, and the ring waits for readiness only if it would block, so a busy connection costs one recv per
//! batch of requests. h2 sends frame head and payload in one vectored call.

use std::{
    future::Future,
    io::{self, IoSlice, Read},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use plinth_env::Env;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ListenAddr, Listeners};
use crate::{env::UringEnv, ring::Completion, runtime::Executor};

/// Events of poll(2).
const POLL_IN: u32 = libc::POLLIN as u32;
const POLL_OUT: u32 = libc::POLLOUT as u32;

/// First and longest pause after accept failed, for lack of descriptors mostly.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the kernel takes of a connection beyond what the network has room for. Everything in there stands before the next small message; a larger buffer
/// would only save wakes.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Probes of a silent connection before it is given up.
const PROBES: u32 = 3;

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Its address.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix,
}

/// The listening socket of one executor. Closed when dropped.
pub struct Listener {
    fd: Arc<OwnedFd>,
    is_tcp: bool,
    env: UringEnv,
}

impl Listener {
    /// Takes executor `index`'s socket out of `listeners`; nothing if it has none, it was taken before, or it is broken. Call it on that executor.
    pub fn take(listeners: &Listeners, index: usize, env: &UringEnv) -> Option<Self> {
        let socket = listeners.take(index)?;
        let is_tcp = matches!(listeners.local_addr(), ListenAddr::Tcp(_));
        socket.set_nonblocking(true).ok()?;
        Some(Self { fd: Arc::new(socket.into()), is_tcp, env: env.clone() })
    }

    /// The next connection. Failures are counted, waited for with growing pauses, and never returned.
    pub async fn accept(&self) -> Connection {
        let counters = &self.env.0.counters;
        let mut pause = BACKOFF_MIN;
        loop {
            match SockRef::from(&*self.fd).accept() {
                Ok((socket, _)) => {
                    counters.accepts.add(1);
                    if let Ok(connection) = Connection::new(socket, self.is_tcp, &self.env) {
                        return connection;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Broken or not, accept says how it goes on.
                    let _ = self.env.0.ring.poll_fd(Arc::clone(&self.fd), POLL_IN).await;
                }
                Err(_) => {
                    counters.accept_errors.add(1);
                    self.env.sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

/// A connection, to be used on the executor that accepted it.
pub struct Connection {
    fd: Arc<OwnedFd>,
    peer: Peer,
    executor: Rc<Executor>,
    /// The last read took all that was there: the next one waits first.
    is_drained: bool,
    readable: Option<Completion>,
    writable: Option<Completion>,
}

impl Connection {
    fn new(socket: Socket, is_tcp: bool, env: &UringEnv) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::of(Arc::new(socket.into()), is_tcp, env)
    }

    fn of(fd: Arc<OwnedFd>, is_tcp: bool, env: &UringEnv) -> io::Result<Self> {
        let socket = SockRef::from(&*fd);
        let mut peer = Peer::Unix;
        if is_tcp {
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
            // It may have gone again already; then there is nobody to serve.
            peer = Peer::Tcp(socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::NotConnected)?);
        }
        let executor = Rc::clone(&env.0);
        Ok(Self { fd, peer, executor, is_drained: false, readable: None, writable: None })
    }

    /// Connects to another machine. What was sent and not acknowledged for `silence_max` ends the connection.
    ///
    /// # Errors
    /// Nobody answers there, or not in time.
    pub async fn connect(addr: SocketAddr, silence_max: Duration, env: &UringEnv) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_user_timeout(Some(silence_max))?;
        let fd: Arc<OwnedFd> = match socket.connect(&addr.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                let fd = Arc::new(OwnedFd::from(socket));
                // Whether it has come about is asked next.
                let _ = env.0.ring.poll_fd(Arc::clone(&fd), POLL_OUT).await;
                fd
            }
            connected => {
                connected?;
                Arc::new(socket.into())
            }
        };
        if let Some(error) = SockRef::from(&*fd).take_error()? {
            return Err(error);
        }
        Self::of(fd, true, env)
    }

    /// Finds out within about `silence_max` when the other machine is gone, also if nothing is sent.
    ///
    /// # Errors
    /// The socket doesn't take it.
    pub fn probe_when_silent(&self, silence_max: Duration) -> io::Result<()> {
        let interval = (silence_max / PROBES).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(interval).with_interval(interval).with_retries(PROBES);
        self.socket().set_tcp_keepalive(&probes)
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    /// Waits until there is something to read, or nothing more will come.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.readable.get_or_insert_with(|| self.executor.ring.poll_fd(Arc::clone(&self.fd), POLL_IN));
        // An error of the socket is told by the call that follows.
        let _ = ready!(Pin::new(wait).poll(cx));
        self.readable = None;
        self.is_drained = false;
        Poll::Ready(())
    }

    /// Calls `send` until the socket takes something.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(wait) = &mut self.writable {
                let _ = ready!(Pin::new(wait).poll(cx));
                self.writable = None;
            }
            match send(&self.socket()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = Some(self.executor.ring.poll_fd(Arc::clone(&self.fd), POLL_OUT));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    self.executor.counters.socket_writes.add(u64::from(sent.is_ok()));
                    return Poll::Ready(sent);
                }
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.is_drained {
                ready!(self.poll_readable(cx));
            }
            let room = buf.remaining();
            let got = (&*self.socket()).read(buf.initialize_unfilled());
            match got {
                Ok(got) => {
                    buf.advance(got);
                    // Most often a short read has taken everything: asking again would cost a call to hear so.
                    self.is_drained = got > 0 && got < room;
                    self.executor.counters.socket_reads.add(1);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_drained = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_with_flags(buf, libc::MSG_NOSIGNAL))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_vectored_with_flags(bufs, libc::MSG_NOSIGNAL))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().shutdown(Shutdown::Write) {
            // The other end was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
