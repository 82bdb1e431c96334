//! A member as the cluster knows it.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{
    MemberId,
    codec::{Malformed, Reader, put_bytes, put_varint},
};

/// URLs one member may have.
const URLS_MAX: u64 = 64;

/// A member's entry in the tree `member`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MemberRecord {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl MemberRecord {
    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        out.put_u64_le(self.id.0);
        out.put_u8(u8::from(self.is_learner));
        put_bytes(out, self.name.as_bytes());
        for urls in [&self.peer_urls, &self.client_urls] {
            put_varint(out, urls.len() as u64);
            for url in urls {
                put_bytes(out, url.as_bytes());
            }
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode_into(&mut out);
        out.freeze()
    }

    pub(crate) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = MemberId(reader.u64()?);
        let is_learner = reader.u8()? != 0;
        let name = text(reader)?;
        Ok(Self { id, name, peer_urls: texts(reader)?, client_urls: texts(reader)?, is_learner })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let member = Self::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(member)
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let bytes = reader.bytes()?;
    Ok(std::str::from_utf8(bytes).map_err(|_| Malformed("text that isn't UTF-8"))?.to_owned())
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let count = reader.varint()?;
    if count > URLS_MAX {
        return Err(Malformed("more URLs than a member can have"));
    }
    (0..count).map(|_| text(reader)).collect()
}
