//! One connection, without its socket: bytes go in, what they mean comes out, and what is to be sent waits in a buffer.

mod outgoing;
mod stream;

use std::{collections::HashMap, hash::BuildHasherDefault};

use self::{
    outgoing::Outgoing,
    stream::{IdHasher, Open},
};
use super::{
    events::{Events, Status},
    frame::{self, HEADER_BYTES, Header, PAYLOAD_BYTES, flag, kind, setting, unpadded},
    hpack::{Decoder, Encoder, Head},
};

/// Flow control: wide, so that the server never waits for us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
const DEFAULT_WINDOW_BYTES: u32 = 65_535;
/// Longer blocks of headers are none.
const HEAD_BYTES_MAX: usize = 1 << 20;
const STREAM_ID_MAX: u32 = 0x7fff_ffff;
/// Room to read into: at first, and where answers are long.
const INPUT_BYTES: usize = 2 * PAYLOAD_BYTES;
const INPUT_BYTES_MAX: usize = 16 * PAYLOAD_BYTES;

/// The streams of a connection.
type Streams = HashMap<u32, Open, BuildHasherDefault<IdHasher>>;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Read and not yet understood: the first `filled` bytes.
    input: Vec<u8>,
    filled: usize,
    outgoing: Outgoing,
    encoder: Encoder,
    decoder: Decoder,
    streams: Streams,
    next_id: u32,
    /// Whether the server's settings have come.
    is_open: bool,
    /// What the server allows.
    streams_max: u32,
    /// Read since the server was last allowed more.
    unannounced: u32,
    /// The stream and the first part of a block of headers that goes on.
    unfinished: Option<(Header, Vec<u8>)>,
}

impl Connection {
    /// To a server known as `authority`.
    pub fn new(authority: String) -> Self {
        let mut outgoing = Outgoing::new();
        outgoing.bytes.extend(frame::PREFACE);
        let settings = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES)];
        frame::put_settings(&mut outgoing.bytes, &settings);
        frame::put_window(&mut outgoing.bytes, 0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES);
        Self {
            input: vec![0; INPUT_BYTES],
            filled: 0,
            outgoing,
            encoder: Encoder::new(authority),
            decoder: Decoder::new(),
            streams: Streams::default(),
            next_id: 1,
            is_open: false,
            streams_max: u32::MAX,
            unannounced: 0,
            unfinished: None,
        }
    }

    /// Whether the server has introduced itself.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Streams that the server allows at a time.
    pub fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// What is to be sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing.bytes
    }

    /// Opens a stream for a call of `path`; what comes of it is told with `token`. Messages are handed out only if they are wanted. `None`
    /// if the connection has no numbers left.
    pub fn open(&mut self, token: u32, path: &'static str, wants_messages: bool) -> Option<u32> {
        let id = self.next_id;
        if id > STREAM_ID_MAX {
            return None;
        }
        self.next_id += 2;
        let out = &mut self.outgoing.bytes;
        let at = out.len();
        frame::put_header(out, 0, kind::HEADERS, flag::END_HEADERS, id);
        self.encoder.encode(path, out);
        let length = u32::try_from(out.len() - at - HEADER_BYTES).expect("heads are short").to_be_bytes();
        out[at..at + 3].copy_from_slice(&length[1..]);
        self.streams.insert(id, Open::new(token, wants_messages, self.outgoing.initial_window));
        Some(id)
    }

    /// Sends on an open stream; `is_last`: nothing follows.
    pub fn send(&mut self, id: u32, data: &[u8], is_last: bool) {
        self.outgoing.send(&mut self.streams, id, data, is_last);
    }

    /// Where to read into.
    pub fn room(&mut self) -> &mut [u8] {
        if self.filled == self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
        &mut self.input[self.filled..]
    }

    /// So many bytes were read into [`Connection::room`]; what they mean goes to `events`.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub fn received(&mut self, bytes: usize, events: &mut Events) -> Result<(), String> {
        self.filled += bytes;
        if !self.is_open {
            self.expect_http2()?;
        }
        let input = std::mem::take(&mut self.input);
        let outcome = self.understand(&input[..self.filled], events);
        self.input = input;
        let understood = outcome?;
        // A full buffer means that there is more: larger reads cost less.
        if self.filled == self.input.len() && self.input.len() < INPUT_BYTES_MAX {
            self.input.resize(self.input.len() * 2, 0);
        }
        self.input.copy_within(understood..self.filled, 0);
        self.filled -= understood;
        Ok(())
    }

    /// A server of HTTP/2 begins with its settings.
    fn expect_http2(&self) -> Result<(), String> {
        match &self.input[..self.filled.min(4)] {
            [_, _, _, kind] if *kind != kind::SETTINGS && self.input.starts_with(b"HTTP") => {
                Err("it answers as a server of HTTP/1 does: this is no port for etcd's clients".to_owned())
            }
            // The alert of a server that wants TLS: 21, and its version.
            [21, 3, ..] => Err("it wants TLS, which this load doesn't speak".to_owned()),
            [_, _, _, kind] if *kind != kind::SETTINGS => Err("it doesn't speak HTTP/2".to_owned()),
            _ => Ok(()),
        }
    }

    /// Every whole frame; gives how many bytes they are.
    fn understand(&mut self, input: &[u8], events: &mut Events) -> Result<usize, String> {
        let mut rest = input;
        while let Some(header) = rest.first_chunk().map(Header::read) {
            if header.bytes > PAYLOAD_BYTES {
                return Err(format!("a frame of {} bytes, and {PAYLOAD_BYTES} were agreed on", header.bytes));
            }
            let Some(payload) = rest.get(HEADER_BYTES..HEADER_BYTES + header.bytes) else { break };
            self.frame(header, payload, events)?;
            rest = &rest[HEADER_BYTES + header.bytes..];
        }
        Ok(input.len() - rest.len())
    }

    fn frame(&mut self, header: Header, payload: &[u8], events: &mut Events) -> Result<(), String> {
        let broken = || format!("a broken frame of kind {}", header.kind);
        if self.unfinished.is_some() && header.kind != kind::CONTINUATION {
            return Err("a block of headers that doesn't go on".to_owned());
        }
        match header.kind {
            kind::DATA => {
                let data = unpadded(header, payload).ok_or_else(broken)?;
                self.data(header, data, events);
            }
            kind::HEADERS => {
                let block = unpadded(header, payload).ok_or_else(broken)?;
                if header.has(flag::END_HEADERS) {
                    return self.head(header, block, events);
                }
                self.unfinished = Some((header, block.to_vec()));
            }
            kind::CONTINUATION => {
                let (first, mut block) = self.unfinished.take().ok_or_else(broken)?;
                block.extend_from_slice(payload);
                if header.has(flag::END_HEADERS) {
                    return self.head(first, &block, events);
                }
                if block.len() > HEAD_BYTES_MAX {
                    return Err("headers without an end".to_owned());
                }
                self.unfinished = Some((first, block));
            }
            kind::RST_STREAM => {
                let code = u32::from_be_bytes(*payload.first_chunk().ok_or_else(broken)?);
                if let Some(open) = self.streams.remove(&header.stream) {
                    events.ended(open.token, Status::of_reset(code), open.bytes);
                }
            }
            kind::SETTINGS if !header.has(flag::ACK) => self.settings(payload),
            kind::PING if !header.has(flag::ACK) => {
                frame::put_header(&mut self.outgoing.bytes, payload.len(), kind::PING, flag::ACK, 0);
                self.outgoing.bytes.extend_from_slice(payload);
            }
            kind::GOAWAY => {
                let text = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                let code = payload.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |code| u32::from_be_bytes(*code));
                return Err(format!("it said goodbye with code {code} {text:?}"));
            }
            kind::WINDOW_UPDATE => {
                let bytes = u32::from_be_bytes(*payload.first_chunk().ok_or_else(broken)?) & STREAM_ID_MAX;
                self.outgoing.widen(&mut self.streams, header.stream, bytes);
            }
            kind::PUSH_PROMISE => return Err("it pushes, which it was asked not to do".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        self.is_open = true;
        for entry in payload.as_chunks::<6>().0 {
            let [a, b, value @ ..] = *entry;
            let value = u32::from_be_bytes(value);
            match u16::from_be_bytes([a, b]) {
                setting::HEADER_TABLE_SIZE => self.encoder.set_table_bytes(value as usize),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE => self.outgoing.set_initial_window(&mut self.streams, value),
                setting::MAX_FRAME_SIZE => self.outgoing.payload_bytes_max = value as usize,
                _ => {}
            }
        }
        frame::put_header(&mut self.outgoing.bytes, 0, kind::SETTINGS, flag::ACK, 0);
    }

    fn data(&mut self, header: Header, data: &[u8], events: &mut Events) {
        // Padding counts, and so does data of streams that are gone.
        let bytes = u32::try_from(header.bytes).expect("frames are short");
        self.unannounced += bytes;
        if self.unannounced > CONNECTION_WINDOW_BYTES / 2 {
            frame::put_window(&mut self.outgoing.bytes, 0, std::mem::take(&mut self.unannounced));
        }
        let Some(open) = self.streams.get_mut(&header.stream) else { return };
        open.take(data, events);
        open.unannounced += bytes;
        if header.has(flag::END_STREAM) {
            self.end(header.stream, &Head::default(), events);
        } else if open.unannounced > STREAM_WINDOW_BYTES / 2 {
            frame::put_window(&mut self.outgoing.bytes, header.stream, std::mem::take(&mut open.unannounced));
        }
    }

    /// A whole block of headers.
    fn head(&mut self, header: Header, block: &[u8], events: &mut Events) -> Result<(), String> {
        // Also if nobody waits for it: the table must stay the same on both sides.
        let head = self.decoder.decode(block).ok_or("headers that are none")?;
        if header.has(flag::END_STREAM) {
            self.end(header.stream, &head, events);
        } else if let Some(open) = self.streams.get_mut(&header.stream) {
            open.http_status = head.status;
        }
        Ok(())
    }

    fn end(&mut self, id: u32, trailers: &Head, events: &mut Events) {
        if let Some(open) = self.streams.remove(&id) {
            let status = Status::of_trailers(trailers, trailers.status.or(open.http_status));
            events.ended(open.token, status, open.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
