//! Frames of HTTP/2 (RFC 9113, section 6).

/// Before every frame.
pub const HEADER_BYTES: usize = 9;
/// What every side must take, and what both here send unless they are asked for more.
pub const PAYLOAD_BYTES: usize = 16_384;
/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags; what they mean depends on the kind.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings that are sent or heeded.
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
}

/// What stands before a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Length of the payload.
    pub bytes: usize,
    /// One of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Header {
    /// Reads one.
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            bytes: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes what stands before a payload.
pub fn put_header(out: &mut Vec<u8>, bytes: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(bytes).expect("payloads are short").to_be_bytes();
    out.extend([length[1], length[2], length[3], kind, flags]);
    out.extend(stream.to_be_bytes());
}

/// Writes settings.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_header(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend(name.to_be_bytes());
        out.extend(value.to_be_bytes());
    }
}

/// Allows the other side to send so many bytes more.
pub fn put_window(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend(bytes.to_be_bytes());
}

/// A payload without its padding and priority; `None` if they don't fit.
pub fn unpadded(header: Header, mut payload: &[u8]) -> Option<&[u8]> {
    let mut padding = 0;
    if header.has(flag::PADDED) {
        padding = usize::from(*payload.split_off_first()?);
    }
    if header.kind == kind::HEADERS && header.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut out = Vec::new();
        put_header(&mut out, 70_000, kind::DATA, flag::END_STREAM, 5);
        let header = Header::read(out.first_chunk().expect("nine bytes"));
        assert_eq!(header, Header { bytes: 70_000, kind: kind::DATA, flags: 1, stream: 5 });
    }

    #[test]
    fn padding_and_priority_are_taken_off_and_too_much_of_it_is_refused() {
        let header = |kind, flags| Header { bytes: 0, kind, flags, stream: 1 };
        assert_eq!(unpadded(header(kind::DATA, flag::PADDED), &[2, 7, 0, 0]), Some(&[7][..]));
        assert_eq!(unpadded(header(kind::DATA, flag::PADDED), &[4, 7, 0, 0]), None);
        assert_eq!(unpadded(header(kind::HEADERS, flag::PRIORITY), &[0, 0, 0, 0, 0, 9]), Some(&[9][..]));
        assert_eq!(unpadded(header(kind::HEADERS, flag::PADDED), &[]), None);
    }
}
