//! Taking an address for all executors, or saying who to ask for it.
//!
//! Each executor has a listening socket of its own; SO_REUSEPORT lets the kernel spread connections over them. The same option
//! would let a second server share the port unnoticed. So the first socket is bound and listens *without* it, which fails if
//! anybody else listens there, and gets the option only then, for its siblings to join.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that wait for accept, per socket; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// How long an address may go on being held. A process that was killed is gone before the kernel has let go of what was in its io_uring, the
/// listening sockets among it, and whoever restarts it at once would be refused.
const HELD_MAX: Duration = Duration::from_secs(1);

/// Between two attempts.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddr {
    /// A TCP address; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A path of the file system.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why an address can't be listened on. Its text says what to do.
#[derive(Debug)]
pub struct ListenError {
    /// The address.
    pub addr: ListenAddr,
    /// How it failed.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't listen on {}: ", self.addr)?;
        match (self.error.kind(), &self.addr) {
            (io::ErrorKind::AddrInUse, ListenAddr::Tcp(addr)) => {
                let port = addr.port();
                write!(
                    f,
                    "another program holds the port: stop it (`ss -ltnp sport = :{port}` names it) or choose another address"
                )
            }
            (io::ErrorKind::AddrInUse, ListenAddr::Unix(_)) => {
                write!(f, "another program listens on the path: stop it or choose another path")
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                write!(f, "this machine doesn't have the address: choose one of its own")
            }
            (io::ErrorKind::PermissionDenied, ListenAddr::Tcp(addr)) if addr.port() < 1024 => {
                write!(f, "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port or grant it")
            }
            _ => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for ListenError {}

/// The listening sockets of one address, one for each executor to take. A path has one only, for executor 0.
pub struct Listeners {
    addr: ListenAddr,
    sockets: Mutex<Vec<Option<Socket>>>,
}

impl Listeners {
    /// Binds and listens, for `executors` executors.
    pub fn bind(addr: &ListenAddr, executors: usize) -> Result<Self, ListenError> {
        let bound = match addr {
            ListenAddr::Tcp(tcp) => bind_tcp(*tcp, executors),
            ListenAddr::Unix(path) => bind_unix(path).map(|socket| (addr.clone(), vec![socket])),
        };
        let (addr, sockets) = bound.map_err(|error| ListenError { addr: addr.clone(), error })?;
        Ok(Self { addr, sockets: Mutex::new(sockets.into_iter().map(Some).collect()) })
    }

    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The socket of executor `index`, once.
    pub(super) fn take(&self, index: usize) -> Option<Socket> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index)?.take()
    }
}

fn bind_tcp(addr: SocketAddr, executors: usize) -> io::Result<(ListenAddr, Vec<Socket>)> {
    let first = first_socket(addr)?;
    let addr = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = vec![first];
    if executors > 1 {
        sockets[0].set_reuse_port(true)?;
    }
    while sockets.len() < executors {
        let next = tcp_socket(addr)?;
        next.set_reuse_port(true)?;
        next.bind(&addr.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next);
    }
    Ok((ListenAddr::Tcp(addr), sockets))
}

fn first_socket(addr: SocketAddr) -> io::Result<Socket> {
    let began = Instant::now();
    loop {
        let socket = tcp_socket(addr)?;
        match socket.bind(&addr.into()).and_then(|()| socket.listen(BACKLOG)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < HELD_MAX => {
                thread::sleep(HELD_PAUSE);
            }
            done => return done.map(|()| socket),
        }
    }
}

fn tcp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart finds connections of its predecessor in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // An IPv4 address is listened on only if it is named.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// One socket, for the first executor: several can't share its queue, because glommio switches blocking on and off around
/// each accept, which would hit all that share it.
fn bind_unix(path: &Path) -> io::Result<Socket> {
    let addr = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, &addr)? => {
            fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether the path is a socket that nobody listens on any more, left behind by a process that was killed.
fn is_stale(path: &Path, addr: &SockAddr) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let refused = Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(addr);
    Ok(refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}
