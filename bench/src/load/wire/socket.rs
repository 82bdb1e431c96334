//! Connections with their sockets, and the wait for all of them.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};

use super::{connection::Connection, events::Events};

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Looked at per wait.
const READY_MAX: usize = 128;

/// One connection and its socket.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    connection: Connection,
    /// The kernel takes no more at the moment.
    is_stuffed: bool,
}

/// All connections of a load.
pub struct Sockets {
    poll: OwnedFd,
    all: Vec<Socket>,
    ready: Vec<epoll::Event>,
}

impl Sockets {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { poll, all: Vec::new(), ready: Vec::with_capacity(READY_MAX) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Opens one, whose number is [`Sockets::count`] before; the server has introduced itself when this returns.
    ///
    /// # Errors
    /// Why not, on one line.
    pub fn connect(&mut self, endpoint: SocketAddr) -> Result<(), String> {
        let refused = |error: io::Error| format!("cannot connect to {endpoint}: {error}");
        let stream = TcpStream::connect_timeout(&endpoint, CONNECT_MAX).map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let connection = introduced(&stream, endpoint)?;
        stream.set_nonblocking(true).map_err(refused)?;
        let number = EventData::new_u64(self.all.len() as u64);
        epoll::add(&self.poll, &stream, number, EventFlags::IN).map_err(|error| refused(error.into()))?;
        self.all.push(Socket { stream, connection, is_stuffed: false });
        Ok(())
    }

    /// Closes the last one.
    pub fn close_last(&mut self) {
        if let Some(socket) = self.all.pop() {
            // Closing takes it out of the poll as well.
            drop(socket);
        }
    }

    /// The connection of a number.
    pub fn connection(&mut self, number: usize) -> &mut Connection {
        &mut self.all[number].connection
    }

    /// Sends what waits on a connection.
    pub fn flush(&mut self, number: usize) -> Result<(), String> {
        let Socket { stream, connection, is_stuffed } = &mut self.all[number];
        let output = connection.output();
        let mut sent = 0;
        while sent < output.len() && !*is_stuffed {
            match stream.write(&output[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    *is_stuffed = true;
                    let both = EventFlags::IN | EventFlags::OUT;
                    self.poll_for(number, both)?;
                    return self.forget(number, sent);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.forget(number, sent)
    }

    fn forget(&mut self, number: usize, sent: usize) -> Result<(), String> {
        let output = self.all[number].connection.output();
        if sent == output.len() {
            output.clear();
        } else {
            output.drain(..sent);
        }
        Ok(())
    }

    fn poll_for(&self, number: usize, flags: EventFlags) -> Result<(), String> {
        let data = EventData::new_u64(number as u64);
        epoll::modify(&self.poll, &self.all[number].stream, data, flags).map_err(|error| error.to_string())
    }

    /// Waits until a connection has something to read, or until then; gives the numbers of those that have.
    pub fn wait(&mut self, until: Instant, readable: &mut Vec<usize>) -> Result<(), String> {
        readable.clear();
        self.ready.clear();
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a run is shorter than an age");
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        for at in 0..self.ready.len() {
            let (flags, number) = (self.ready[at].flags, self.ready[at].data.u64());
            let number = usize::try_from(number).expect("a place in a list");
            if flags.contains(EventFlags::OUT) {
                self.all[number].is_stuffed = false;
                self.poll_for(number, EventFlags::IN)?;
                self.flush(number)?;
            }
            // An error or a hangup as well: reading tells it.
            if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
                readable.push(number);
            }
        }
        Ok(())
    }

    /// Reads once what a connection has; what it means goes to `events`.
    pub fn read(&mut self, number: usize, events: &mut Events) -> Result<(), String> {
        let Socket { stream, connection, .. } = &mut self.all[number];
        match stream.read(connection.room()) {
            Ok(0) => Err("it closed the connection".to_owned()),
            Ok(bytes) => connection.received(bytes, events),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Says hello and waits for the server's settings: what they allow must be known before the first call.
fn introduced(mut stream: &TcpStream, endpoint: SocketAddr) -> Result<Connection, String> {
    let mut connection = Connection::new(endpoint.to_string());
    let gone = |why: &dyn std::fmt::Display| format!("{endpoint} is no server of etcd's clients: {why}");
    stream.set_read_timeout(Some(CONNECT_MAX)).map_err(|error| gone(&error))?;
    stream.write_all(connection.output()).map_err(|error| gone(&error))?;
    connection.output().clear();
    let mut events = Events::default();
    while !connection.is_open() {
        match stream.read(connection.room()) {
            Ok(0) => return Err(gone(&"it closed the connection")),
            Ok(bytes) => connection.received(bytes, &mut events).map_err(|why| gone(&why))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let text = format!("it accepts connections and says nothing for {} s", CONNECT_MAX.as_secs());
                return Err(gone(&text));
            }
            Err(error) => return Err(gone(&error)),
        }
    }
    Ok(connection)
}
