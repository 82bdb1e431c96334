//! Who the members are, for whoever wants to join them, or to know whether it was one of them.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{
    GroupId, MemberId,
    codec::{Malformed, Reader, put_texts, put_varint},
    limits::{MEMBERS_MAX, URLS_MAX},
};
use plinth_env::PeerAddress;

use super::frame::{FrameError, FrameHeader, put_frame};

const MEMBERS: u8 = 64;

/// Appends all members as a frame.
pub fn encode_census(members: &[PeerAddress], out: &mut BytesMut) {
    put_frame(out, MEMBERS, GroupId(0), |out| {
        put_varint(out, members.len() as u64);
        for PeerAddress { id, urls, has_started } in members {
            out.put_u64_le(id.0);
            out.put_u8(u8::from(*has_started));
            put_texts(out, urls);
        }
    });
}

/// The members in a frame.
///
/// # Errors
/// The payload isn't what was sent, or is no list of members.
pub fn decode_census(header: &FrameHeader, payload: &Bytes) -> Result<Vec<PeerAddress>, FrameError> {
    header.check(payload)?;
    if header.kind() != MEMBERS {
        return Err(FrameError::Malformed("no list of members"));
    }
    let mut reader = Reader::new(payload);
    let count = reader.varint()?;
    if count > MEMBERS_MAX as u64 {
        return Err(FrameError::Malformed("more members than a group can have"));
    }
    let members = (0..count).map(|_| member(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(members)
}

fn member(reader: &mut Reader<'_>) -> Result<PeerAddress, Malformed> {
    let id = MemberId(reader.u64()?);
    let has_started = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed("neither yes nor no")),
    };
    Ok(PeerAddress { id, urls: reader.texts(URLS_MAX)?, has_started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::FRAME_HEADER_BYTES;

    #[test]
    fn members_come_back_as_they_were_and_changed_bytes_are_noticed() {
        let member = |id: u64, has_started| PeerAddress {
            id: MemberId(id),
            urls: vec![format!("http://h{id}:2380"), "http://other:1".to_owned()],
            has_started,
        };
        let members = vec![member(1, true), member(u64::MAX, false)];
        let mut out = BytesMut::new();
        encode_census(&members, &mut out);
        let decode = |bytes: &[u8]| {
            let header = FrameHeader::read(bytes.first_chunk::<FRAME_HEADER_BYTES>().expect("a whole header"))?;
            decode_census(&header, &Bytes::copy_from_slice(&bytes[FRAME_HEADER_BYTES..]))
        };
        assert_eq!(decode(&out), Ok(members));
        for at in 8..out.len() {
            let mut changed = out.to_vec();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at}");
        }
    }
}
