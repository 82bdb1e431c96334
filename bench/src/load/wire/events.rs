//! What came of the bytes that were read.

use std::ops::Range;

use plinth_client::Code;

use super::hpack::Head;

const CANCELLED: Code = Code(1);
const PERMISSION_DENIED: Code = Code(7);
const RESOURCE_EXHAUSTED: Code = Code(8);

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// Well.
    Ok,
    /// With this code of gRPC and this message.
    Error(u32, String),
}

impl Status {
    /// Of an answer's last headers, and the status of HTTP, which its first ones told.
    pub fn of_trailers(trailers: &Head, http: Option<u16>) -> Self {
        match trailers.grpc_status {
            Some(0) => Self::Ok,
            // Percent-encoded as it came: etcd's texts are readable so.
            Some(code) => Self::Error(code, trailers.grpc_message.clone().unwrap_or_default()),
            None => {
                let http = http.map_or_else(|| "none".to_owned(), |status| status.to_string());
                Self::Error(Code::UNKNOWN.0, format!("HTTP status {http} without a grpc-status"))
            }
        }
    }

    /// Of a stream that the server broke off with this code of HTTP/2: as gRPC maps them.
    pub fn of_reset(reset: u32) -> Self {
        let code = match reset {
            7 => Code::UNAVAILABLE,
            8 => CANCELLED,
            11 => RESOURCE_EXHAUSTED,
            12 => PERMISSION_DENIED,
            _ => Code::INTERNAL,
        };
        Self::Error(code.0, format!("the server broke the call off with code {reset} of HTTP/2"))
    }
}

/// One thing that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What the stream's owner calls it.
    pub token: u32,
    /// What came.
    pub what: What,
}

/// What came on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A message, see [`Events::bytes`].
    Message(Range<usize>),
    /// The call is over; its answer had so many bytes, prefixes included.
    Ended(Status, u64),
}

/// All that came at once, in its order.
#[derive(Default, Debug)]
pub struct Events {
    list: Vec<Event>,
    bytes: Vec<u8>,
}

impl Events {
    /// A message came.
    pub fn message(&mut self, token: u32, message: &[u8]) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.list.push(Event { token, what: What::Message(at..self.bytes.len()) });
    }

    /// A call is over.
    pub fn ended(&mut self, token: u32, status: Status, bytes: u64) {
        self.list.push(Event { token, what: What::Ended(status, bytes) });
    }

    /// In their order.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// The message of an event.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }
}
