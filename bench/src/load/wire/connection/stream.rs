//! One stream of a connection.

use std::hash::Hasher;

use super::super::events::Events;

/// Before every message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A stream that both sides still know.
#[derive(Debug)]
pub struct Open {
    /// What its owner calls it.
    pub token: u32,
    /// What its first headers said.
    pub http_status: Option<u16>,
    /// Bytes of its messages so far, their prefixes included.
    pub bytes: u64,
    /// Read since the server was last allowed more.
    pub unannounced: u32,
    /// What the server takes.
    pub window: i64,
    /// The beginning of a message; `None` if nobody wants messages.
    partial: Option<Vec<u8>>,
}

impl Open {
    /// Nothing has come yet.
    pub fn new(token: u32, wants_messages: bool, window: i64) -> Self {
        let partial = wants_messages.then(Vec::new);
        Self { token, http_status: None, bytes: 0, unannounced: 0, window, partial }
    }

    /// Takes what came; messages that are whole go to `events`.
    pub fn take(&mut self, data: &[u8], events: &mut Events) {
        self.bytes += data.len() as u64;
        let Some(partial) = &mut self.partial else { return };
        if partial.is_empty() {
            let rest = hand_out(self.token, data, events);
            partial.extend_from_slice(rest);
        } else {
            partial.extend_from_slice(data);
            let rest = hand_out(self.token, partial, events).len();
            partial.drain(..partial.len() - rest);
        }
    }
}

/// Hands out all whole messages, and gives back what is left.
fn hand_out<'a>(token: u32, mut data: &'a [u8], events: &mut Events) -> &'a [u8] {
    while let Some([_, length @ ..]) = data.first_chunk::<PREFIX_BYTES>() {
        let end = PREFIX_BYTES + u32::from_be_bytes(*length) as usize;
        let Some(message) = data.get(PREFIX_BYTES..end) else { break };
        events.message(token, message);
        data = &data[end..];
    }
    data
}

/// Stream numbers need no hash: they ascend, and one client chose them all.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u32(&mut self, id: u32) {
        // The table looks at the lowest and at the highest bits.
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
