//! Headers as HPACK has them (RFC 7541), as far as a client of gRPC needs them.
//!
//! A run sends the same few heads again and again: each is spelled out once, then it is a reference. Of what comes back only three headers
//! matter; the others are followed because the table's references count them.

mod decoder;
mod encoder;

pub use decoder::{Decoder, Head};
pub use encoder::Encoder;

/// What both sides' tables may hold unless they agree on something else.
const TABLE_BYTES: usize = 4096;
/// Static entries, 1 to 61: names and values that need no table.
const STATIC_MAX: usize = 61;
