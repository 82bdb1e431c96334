//! Makes h2 take the `:authority` that real clients send.
//!
//! grpc-go sends what was dialed as it is: etcdctl 3.4 `http://10.0.0.1:2379` and `unix:///run/etcd.sock` (`endpoint status`),
//! etcdctl 3.4 and 3.5 `/run/etcd.sock`. etcd takes any of it and looks at none. h2 refuses what is no host and port, and has no
//! option for it. No plinth code reads the authority either; so one that h2 would refuse is overwritten, in place, with a host of
//! `X`es. Frame lengths and string lengths stay as they are; nothing is shifted and no frame is built anew.
//!
//! The client's HPACK encoder remembers the field as it sent it, h2's decoder the overwritten one. That is sound as long as ours
//! isn't larger: the decoder then evicts no earlier than the encoder, so whatever the encoder may still refer to is there, at the
//! same index. Plain text keeps its size. In Huffman code `X` is one of the characters with 8 bits, so the new text is as long as the
//! code was; it is left alone in the odd case that the code was longer than its text.
//!
//! Cost: pseudo-header fields come first in a block, so looking at its first [`INSTRUCTIONS_MAX`] instructions is enough, and looking
//! needs no table: strings are jumped over. A client that indexes its authority has one byte for each of those in all calls but the
//! first. This is cheaper than to remember what a connection has shown so far, and right also for clients that never index.
//!
//! Left alone, for h2 to judge: malformed blocks; characters that no header field may have; an authority behind the first
//! [`HELD_BYTES_MAX`] bytes of the block or not whole in its HEADERS frame (CONTINUATION frames are for blocks of more than 16 KiB);
//! an empty one; one whose name is given by an index of the dynamic table (encoders prefer the static one).

use std::{borrow::Cow, ops::Range};

use http::{HeaderValue, uri::Authority};

use super::{huffman, scan::FrameHead};

/// Bytes of a header block that are held until its authority is there. A field of this size fits no HPACK table of the default size.
pub const HELD_BYTES_MAX: usize = 4 << 10;

/// Two size updates of the table, `:method`, `:scheme`, `:path`, `:authority`: what a gRPC request may begin with.
const INSTRUCTIONS_MAX: usize = 6;

/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;

/// The name where a client spells it.
const AUTHORITY: &[u8] = b":authority";

/// The same in Huffman code.
const AUTHORITY_CODED: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// `X`, and the 8 bits of its Huffman code.
const FILL: u8 = b'X';
const FILL_CODED: u8 = 0xfc;

/// Flags of HEADERS.
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The bytes of a stream's priority in front of the block.
const PRIORITY_BYTES: usize = 5;

/// Bytes of an HPACK integer behind its first, as h2 allows.
const INTEGER_BYTES_MAX: u32 = 4;

/// What [`settle`] made of a header block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may go to h2.
    Settled,
    /// To be asked again when more of it has arrived.
    NeedsMore,
}

/// Overwrites an authority that h2 would refuse. `payload` is what has arrived of the HEADERS frame behind `head`, and perhaps more.
pub fn settle(head: FrameHead, payload: &mut [u8]) -> Verdict {
    match Walker::new(head, payload).and_then(|mut walker| walker.authority()) {
        Ok(value) => overwrite_refused(&mut payload[value.range], value.huffman),
        Err(Stop::NeedsMore) if payload.len() < HELD_BYTES_MAX => return Verdict::NeedsMore,
        Err(_) => {}
    }
    Verdict::Settled
}

fn overwrite_refused(coded: &mut [u8], huffman: bool) {
    let text = match huffman {
        false => Cow::Borrowed(&*coded),
        true => match huffman::decode(coded) {
            Some(text) => Cow::Owned(text),
            None => return,
        },
    };
    let no_larger = coded.len() <= text.len();
    let refused = Authority::try_from(&*text).is_err() && HeaderValue::from_bytes(&text).is_ok();
    if refused && no_larger {
        coded.fill(if huffman { FILL_CODED } else { FILL });
    }
}

/// Why the walk ended without an authority.
enum Stop {
    /// The bytes that have arrived end here.
    NeedsMore,
    /// There is none, or what there is isn't ours to judge.
    Nothing,
}

/// A string in a header block.
struct Coded {
    huffman: bool,
    range: Range<usize>,
}

/// Goes through a header block's instructions (RFC 7541, section 6).
struct Walker<'a> {
    /// What has arrived of the frame's payload, and perhaps more.
    bytes: &'a [u8],
    at: usize,
    /// Where the block, or this frame's part of it, ends; may lie behind what has arrived.
    end: usize,
}

impl<'a> Walker<'a> {
    fn new(head: FrameHead, bytes: &'a [u8]) -> Result<Self, Stop> {
        let mut walker = Self { bytes, at: 0, end: head.payload_bytes };
        if head.flags & PADDED != 0 {
            let padding_bytes = usize::from(walker.byte()?);
            walker.end = walker.end.checked_sub(padding_bytes).ok_or(Stop::Nothing)?;
        }
        if head.flags & PRIORITY != 0 {
            walker.at += PRIORITY_BYTES;
        }
        Ok(walker)
    }

    /// The value of the first literal `:authority`.
    fn authority(&mut self) -> Result<Coded, Stop> {
        for _ in 0..INSTRUCTIONS_MAX {
            let first = self.byte()?;
            let index_bits = match first {
                // An indexed field.
                0x80.. => {
                    self.integer(first, 7)?;
                    continue;
                }
                // A literal that goes into the table.
                0x40.. => 6,
                // A size update.
                0x20.. => {
                    self.integer(first, 5)?;
                    continue;
                }
                // A literal that doesn't, or never may.
                _ => 4,
            };
            let is_authority = match self.integer(first, index_bits)? {
                0 => {
                    let name = self.string()?;
                    self.arrived(&name)? == if name.huffman { AUTHORITY_CODED } else { AUTHORITY }
                }
                index => index == AUTHORITY_INDEX,
            };
            let value = self.string()?;
            if is_authority {
                self.arrived(&value)?;
                return Ok(value);
            }
        }
        Err(Stop::Nothing)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        if self.at >= self.end {
            return Err(Stop::Nothing);
        }
        let byte = *self.bytes.get(self.at).ok_or(Stop::NeedsMore)?;
        self.at += 1;
        Ok(byte)
    }

    /// The integer in the low `prefix_bits` of `first` and, if they are all set, in the bytes behind (section 5.1).
    fn integer(&mut self, first: u8, prefix_bits: u32) -> Result<usize, Stop> {
        let prefix_max = (1 << prefix_bits) - 1;
        let mut value = usize::from(first) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        for nth in 0..INTEGER_BYTES_MAX {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Nothing)
    }

    /// A string (section 5.2), which is jumped over.
    fn string(&mut self) -> Result<Coded, Stop> {
        let first = self.byte()?;
        let len = self.integer(first, 7)?;
        let start = self.at;
        if len > self.end - start {
            return Err(Stop::Nothing);
        }
        self.at += len;
        Ok(Coded { huffman: first & 0x80 != 0, range: start..self.at })
    }

    fn arrived(&self, string: &Coded) -> Result<&'a [u8], Stop> {
        self.bytes.get(string.range.clone()).ok_or(Stop::NeedsMore)
    }
}

#[cfg(test)]
mod tests;
