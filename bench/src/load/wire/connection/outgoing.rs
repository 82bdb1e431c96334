//! What goes out, within what the server takes.

use std::collections::VecDeque;

use super::{
    DEFAULT_WINDOW_BYTES, Streams,
    frame::{self, PAYLOAD_BYTES, flag, kind},
};

/// Data that the server doesn't take yet.
#[derive(Debug)]
struct Held {
    stream: u32,
    data: Vec<u8>,
    is_last: bool,
}

/// Bytes to be sent, and how much the server takes.
#[derive(Debug)]
pub struct Outgoing {
    /// To be sent as they are.
    pub bytes: Vec<u8>,
    /// Of a new stream.
    pub initial_window: i64,
    /// Of a frame.
    pub payload_bytes_max: usize,
    window: i64,
    held: VecDeque<Held>,
}

impl Outgoing {
    /// As every connection begins.
    pub fn new() -> Self {
        let window = i64::from(DEFAULT_WINDOW_BYTES);
        Self {
            bytes: Vec::new(),
            initial_window: window,
            payload_bytes_max: PAYLOAD_BYTES,
            window,
            held: VecDeque::new(),
        }
    }

    /// Sends as much as the server takes; the rest waits.
    pub fn send(&mut self, streams: &mut Streams, id: u32, data: &[u8], is_last: bool) {
        let waits = self.held.iter().any(|held| held.stream == id);
        let rest = if waits { data } else { self.send_now(streams, id, data, is_last) };
        if waits || !rest.is_empty() {
            self.held.push_back(Held { stream: id, data: rest.to_vec(), is_last });
        }
    }

    /// Gives back what the server doesn't take.
    fn send_now<'a>(&mut self, streams: &mut Streams, id: u32, mut data: &'a [u8], is_last: bool) -> &'a [u8] {
        // A stream that has ended takes nothing, and nobody waits for it.
        let Some(open) = streams.get_mut(&id) else { return &[] };
        loop {
            let window = usize::try_from(self.window.min(open.window)).unwrap_or(0);
            let part = data.len().min(window).min(self.payload_bytes_max);
            if part == 0 && !data.is_empty() {
                return data;
            }
            let is_end = part == data.len();
            let flags = if is_end && is_last { flag::END_STREAM } else { 0 };
            frame::put_header(&mut self.bytes, part, kind::DATA, flags, id);
            self.bytes.extend_from_slice(&data[..part]);
            let sent = i64::try_from(part).expect("frames are short");
            (self.window, open.window) = (self.window - sent, open.window - sent);
            data = &data[part..];
            if is_end {
                return data;
            }
        }
    }

    /// The server takes more; `stream` 0: of the whole connection.
    pub fn widen(&mut self, streams: &mut Streams, stream: u32, bytes: u32) {
        if stream == 0 {
            self.window += i64::from(bytes);
        } else if let Some(open) = streams.get_mut(&stream) {
            open.window += i64::from(bytes);
        }
        self.retry(streams);
    }

    /// The server takes so much of each stream, open ones included.
    pub fn set_initial_window(&mut self, streams: &mut Streams, bytes: u32) {
        let change = i64::from(bytes) - self.initial_window;
        self.initial_window += change;
        streams.values_mut().for_each(|open| open.window += change);
        self.retry(streams);
    }

    fn retry(&mut self, streams: &mut Streams) {
        for mut held in std::mem::take(&mut self.held) {
            // Of one stream nothing overtakes.
            if !self.held.iter().any(|before| before.stream == held.stream) {
                let rest = self.send_now(streams, held.stream, &held.data, held.is_last).len();
                if rest == 0 {
                    continue;
                }
                held.data.drain(..held.data.len() - rest);
            }
            self.held.push_back(held);
        }
    }
}
