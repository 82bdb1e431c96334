//! One call after the other, for what is done beside a load.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use plinth_client::Code;
use prost::Message;

use super::wire::{Events, Sockets, Status, What};
use crate::failure::Failure;

/// A call for which nothing comes for so long is stuck. A compaction of a long history under load takes minutes.
const SILENCE_MAX: Duration = Duration::from_secs(900);
/// Before a message: not compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

/// A connection of its own.
pub struct Client {
    endpoint: SocketAddr,
    sockets: Sockets,
    events: Events,
}

impl Client {
    /// Connects.
    pub fn connect(endpoint: SocketAddr) -> Result<Self, Failure> {
        let mut sockets = Sockets::new().map_err(|error| Failure::Trouble(format!("starting the load: {error}")))?;
        sockets.connect(endpoint).map_err(Failure::Trouble)?;
        Ok(Self { endpoint, sockets, events: Events::default() })
    }

    /// A call with one answer.
    pub fn call<A: Message + Default>(&mut self, path: &'static str, message: &impl Message) -> Result<A, Failure> {
        let mut answer = None;
        self.exchange(path, message, true, |message| answer = Some(A::decode(message)))?;
        match answer {
            Some(Ok(answer)) => Ok(answer),
            _ => Err(self.failed(path, "an answer that is none")),
        }
    }

    /// A call whose answer is read as fast as it comes and thrown away: its length.
    pub fn count(&mut self, path: &'static str, message: &impl Message) -> Result<u64, Failure> {
        self.exchange(path, message, false, |_| {})
    }

    fn exchange(
        &mut self,
        path: &'static str,
        message: &impl Message,
        wants_messages: bool,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, Failure> {
        let connection = self.sockets.connection(0);
        let id = connection.open(0, path, wants_messages);
        let id = id.ok_or_else(|| Failure::Trouble("a connection has no streams left".to_owned()))?;
        connection.send(id, &framed(message), true);
        let mut readable = Vec::new();
        loop {
            let step =
                self.sockets.flush(0).and_then(|()| self.sockets.wait(Instant::now() + SILENCE_MAX, &mut readable));
            step.map_err(|why| self.failed(path, &why))?;
            if readable.is_empty() {
                return Err(self.failed(path, "no answer"));
            }
            self.events.clear();
            self.sockets.read(0, &mut self.events).map_err(|why| self.failed(path, &why))?;
            for event in self.events.list() {
                match &event.what {
                    What::Message(range) => take(self.events.bytes(range)),
                    What::Ended(Status::Ok, bytes) => return Ok(*bytes),
                    What::Ended(Status::Error(code, text), _) => {
                        return Err(self.failed(path, &format!("{:?} {text:?}", Code(*code))));
                    }
                }
            }
        }
    }

    fn failed(&self, path: &str, why: &str) -> Failure {
        Failure::Trouble(format!("{path} at {}: {why}", self.endpoint))
    }
}

/// A message as gRPC sends it.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let mut out = vec![0; PREFIX_BYTES];
    message.encode(&mut out).expect("a vector takes everything");
    set_length(&mut out);
    out
}

/// Writes the length of a message into the prefix before it.
pub fn set_length(framed: &mut [u8]) {
    let length = u32::try_from(framed.len() - PREFIX_BYTES).expect("a request is shorter than 4 GiB");
    framed[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// One call on a connection of its own, read as fast as it comes and thrown away; gives the length of the answer.
pub fn call_once(endpoint: SocketAddr, path: &'static str, message: &impl Message) -> Result<u64, Failure> {
    Client::connect(endpoint)?.count(path, message)
}
