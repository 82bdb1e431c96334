//! Follows the frame heads of an HTTP/2 byte stream without touching it.
//!
//! h2 answers pings by itself and tells nobody. The policy on pings, the last stream of a GOAWAY and the place where one can be put
//! in need no more than the nine bytes in front of each frame.

/// Bytes in front of every HTTP/2 frame: length (3), type, flags, stream (4).
const HEAD_BYTES: usize = 9;

/// What a client sends before its first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types of RFC 9113, section 6.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
}

/// The flag ACK of a PING.
const ACK: u8 = 1;

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// Its type, see [`kind`].
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// Bytes of the frame behind its head.
    pub payload_bytes: usize,
}

impl FrameHead {
    /// A ping that wants an answer.
    #[must_use]
    pub fn is_ping(self) -> bool {
        self.kind == kind::PING && self.flags & ACK == 0
    }
}

/// The position in one direction of a connection.
#[derive(Debug)]
pub struct FrameScanner {
    /// Bytes until the next head begins.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_len: usize,
}

impl FrameScanner {
    /// What a client sends: the preface, then frames.
    #[must_use]
    pub fn client() -> Self {
        Self { skip: PREFACE.len(), head: [0; HEAD_BYTES], head_len: 0 }
    }

    /// What a server sends: frames.
    #[must_use]
    pub fn server() -> Self {
        Self { skip: 0, head: [0; HEAD_BYTES], head_len: 0 }
    }

    /// Whether everything seen so far were whole frames.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }

    /// Follows `bytes` and reports each head that is complete.
    pub fn scan(&mut self, mut bytes: &[u8], mut report: impl FnMut(FrameHead)) {
        while let (len, Some(head)) = self.next_head(bytes) {
            report(head);
            bytes = &bytes[len..];
        }
    }

    /// Follows `bytes` to the end of the next head, or to their own end. Returns how far that is, and the head.
    pub fn next_head(&mut self, bytes: &[u8]) -> (usize, Option<FrameHead>) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let rest = &bytes[skipped..];
        let taken = rest.len().min(HEAD_BYTES - self.head_len);
        self.head[self.head_len..self.head_len + taken].copy_from_slice(&rest[..taken]);
        self.head_len += taken;
        if self.head_len < HEAD_BYTES {
            return (bytes.len(), None);
        }
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        self.head_len = 0;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        (skipped + taken, Some(FrameHead { kind, flags, stream, payload_bytes: self.skip }))
    }
}

/// A GOAWAY frame.
#[must_use]
pub fn goaway(last_stream: u32, reason: h2::Reason, debug_data: &[u8]) -> Vec<u8> {
    let payload_bytes = u32::try_from(8 + debug_data.len()).expect("debug data is short");
    let mut frame = payload_bytes.to_be_bytes()[1..].to_vec();
    frame.extend([kind::GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend(last_stream.to_be_bytes());
    frame.extend(u32::from(reason).to_be_bytes());
    frame.extend(debug_data);
    frame
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload_bytes: usize) -> Vec<u8> {
        let len = u32::try_from(payload_bytes).expect("small").to_be_bytes();
        let mut out = vec![len[1], len[2], len[3], kind, flags];
        out.extend(stream.to_be_bytes());
        out.resize(HEAD_BYTES + payload_bytes, 0xff);
        out
    }

    #[test]
    fn heads_are_found_wherever_the_stream_is_cut() {
        let mut random = Prng::new(3);
        let mut stream = PREFACE.to_vec();
        let mut want = Vec::new();
        for stream_id in 0..200 {
            let kind = u8::try_from(random.below(10)).expect("small");
            let payload_bytes = random.index(50);
            stream.extend(frame(kind, 1, stream_id, payload_bytes));
            want.push(FrameHead { kind, flags: 1, stream: stream_id, payload_bytes });
        }
        for _ in 0..20 {
            let mut scanner = FrameScanner::client();
            let mut got = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(1 + random.index(rest.len().min(30)));
                scanner.scan(piece, |head| got.push(head));
                rest = tail;
            }
            assert_eq!(got, want);
            assert!(scanner.at_boundary());
        }
    }

    #[test]
    fn the_middle_of_a_frame_is_no_boundary() {
        let bytes = frame(kind::DATA, 0, 1, 4);
        for cut in 1..bytes.len() {
            let mut scanner = FrameScanner::server();
            scanner.scan(&bytes[..cut], |_| ());
            assert!(!scanner.at_boundary(), "after {cut} bytes");
        }
    }

    #[test]
    fn own_goaway_is_a_whole_frame() {
        let mut scanner = FrameScanner::server();
        let mut heads = Vec::new();
        scanner.scan(&goaway(5, h2::Reason::ENHANCE_YOUR_CALM, b"too_many_pings"), |head| heads.push(head));
        assert_eq!(heads, [FrameHead { kind: kind::GOAWAY, flags: 0, stream: 0, payload_bytes: 22 }]);
        assert!(scanner.at_boundary());
    }
}
