//! Questions that measure how long it takes to a peer and back. Whoever gets one sends it back on its own connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, Instant};

use super::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, put_frame};

const PING: u8 = 80;
const PONG: u8 = 81;

/// A question, or its answer, with the time at which the asker's clock was when it asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ping {
    /// Send it back.
    Ping(Instant),
    /// It came back.
    Pong(Instant),
}

impl Ping {
    /// As a frame.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let (kind, Instant(asked)) = match self {
            Self::Ping(asked) => (PING, asked),
            Self::Pong(asked) => (PONG, asked),
        };
        let mut out = BytesMut::new();
        put_frame(&mut out, kind, GroupId(0), |out| out.put_u64_le(asked));
        out.freeze()
    }

    /// What a whole frame is, if it is one of these.
    ///
    /// # Errors
    /// It is, but not what was sent.
    pub fn decode(frame: &Bytes) -> Result<Option<Self>, FrameError> {
        let Some(head) = frame.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let header = FrameHeader::read(head)?;
        if !(PING..=PONG).contains(&header.kind()) {
            return Ok(None);
        }
        let mut payload = frame.slice(FRAME_HEADER_BYTES..);
        header.check(&payload)?;
        let asked = payload.try_get_u64_le().map_err(|_| FrameError::Malformed("a message ends early"))?;
        let asked = Instant(asked);
        Ok(Some(if header.kind() == PING { Self::Ping(asked) } else { Self::Pong(asked) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_come_back_as_they_were_and_changed_ones_are_refused() {
        for ping in [Ping::Ping(Instant(7)), Ping::Pong(Instant(u64::MAX))] {
            let frame = ping.encode();
            assert_eq!(Ping::decode(&frame), Ok(Some(ping)));
            for at in 9..frame.len() {
                let mut changed = frame.to_vec();
                changed[at] ^= 1;
                assert!(Ping::decode(&changed.into()).is_err(), "byte {at}");
            }
        }
        let mut other = BytesMut::new();
        put_frame(&mut other, 5, GroupId(0), |_| {});
        assert_eq!(Ping::decode(&other.freeze()), Ok(None));
    }
}
