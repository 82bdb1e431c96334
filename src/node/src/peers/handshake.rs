//! The first thing that both ends of a connection say: who they are, whom they want, and what they understand.

use std::fmt;

use plinth_base::MemberId;
use plinth_env::PeerLane;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// The one version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u16 = 2;

const MAGIC: [u8; 8] = *b"plinthPR";

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It carries the frames of a lane.
    Carry(PeerLane),
    /// Whoever connects wants to know who the members are; see [`super::encode_census`]. It may be a stranger.
    Census,
    /// Whoever connects is a member of which whom it wants doesn't know yet, and says where it is found; see [`super::encode_census`].
    Introduce,
}

const CENSUS: u8 = 3;
const INTRODUCE: u8 = 4;

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Carry(lane) => lane as u8,
            Self::Census => CENSUS,
            Self::Introduce => INTRODUCE,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            CENSUS => Some(Self::Census),
            INTRODUCE => Some(Self::Introduce),
            _ => PeerLane::ALL.into_iter().find(|lane| *lane as u8 == code).map(Self::Carry),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Record {
    magic: [u8; 8],
    /// CRC32C of everything behind this field.
    checksum: U32,
    version: U16,
    /// Of a hello: what it is for. Of a welcome: why not, or 0.
    code: u8,
    /// 1 of a hello, 2 of a welcome.
    role: u8,
    cluster: U64,
    /// Who speaks.
    from: U64,
    /// Whom it wants, or answers.
    to: U64,
    /// Drawn when the speaker's process started: connections of an earlier life can be told apart.
    incarnation: U64,
    /// The version of tree pages that the speaker can read. What a snapshot consists of its offer says, too: it has the version of its pages.
    page_format: U16,
    reserved: U16,
    reserved_too: U32,
}

/// Length of either half of the handshake.
pub const HANDSHAKE_BYTES: usize = size_of::<Record>();

const CHECKED_FROM: usize = std::mem::offset_of!(Record, version);
const HELLO: u8 = 1;
const WELCOME: u8 = 2;

/// What whoever connects says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The cluster that it belongs to.
    pub cluster: u64,
    /// Who connects.
    pub from: MemberId,
    /// Whom it wants.
    pub to: MemberId,
    /// Drawn when the process that connects started.
    pub incarnation: u64,
    /// The version of tree pages that it can read.
    pub page_format: u16,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Why the connection is refused, if it is.
    pub refused: Option<Refused>,
    /// The cluster of whoever answers.
    pub cluster: u64,
    /// Who answers.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// Drawn when the process that answers started.
    pub incarnation: u64,
    /// The version of tree pages that it can read.
    pub page_format: u16,
}

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// What came isn't the start of this protocol.
    NotPlinth,
    /// The peer speaks another version.
    Version(u16),
    /// The bytes are not those that were sent, or mean nothing.
    Malformed,
    /// The two belong to different clusters.
    OtherCluster(u64),
    /// Another member is here.
    OtherMember(MemberId),
    /// Whoever connects is no member here, or not yet.
    UnknownMember,
    /// Whoever connects was removed from the cluster.
    Removed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPlinth => f.write_str("what is there isn't a member of a plinth cluster"),
            Self::Version(version) => {
                write!(
                    f,
                    "it speaks version {version} of the protocol, this member {PROTOCOL_VERSION}: update the older one"
                )
            }
            Self::Malformed => f.write_str("its handshake can't be read"),
            Self::OtherCluster(id) => write!(f, "it belongs to another cluster ({id:x}): check the URL"),
            Self::OtherMember(id) => write!(f, "another member is there ({:x}): check the URL", id.0),
            Self::UnknownMember => f.write_str("this member isn't known there, or not yet"),
            Self::Removed => f.write_str("this member was removed from the cluster"),
        }
    }
}

impl std::error::Error for Refused {}

impl Refused {
    fn code(self) -> u8 {
        match self {
            Self::NotPlinth => 1,
            Self::Version(_) => 2,
            Self::Malformed => 3,
            Self::OtherCluster(_) => 4,
            Self::OtherMember(_) => 5,
            Self::UnknownMember => 6,
            Self::Removed => 7,
        }
    }
}

impl Hello {
    /// Of somebody who asks who is there, and need not be known.
    #[must_use]
    pub fn census() -> Self {
        let nobody = MemberId(0);
        Self { purpose: Purpose::Census, cluster: 0, from: nobody, to: nobody, incarnation: 0, page_format: 0 }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let Self { purpose, cluster, from, to, incarnation, page_format } = *self;
        record(HELLO, purpose.code(), cluster, (from, to), incarnation, page_format)
    }

    /// Reads what came.
    ///
    /// # Errors
    /// It isn't the start of this protocol in this version.
    pub fn decode(bytes: &[u8; HANDSHAKE_BYTES]) -> Result<Self, Refused> {
        let record = read(bytes, HELLO)?;
        Ok(Self {
            purpose: Purpose::of(record.code).ok_or(Refused::Malformed)?,
            cluster: record.cluster.get(),
            from: MemberId(record.from.get()),
            to: MemberId(record.to.get()),
            incarnation: record.incarnation.get(),
            page_format: record.page_format.get(),
        })
    }
}

impl Welcome {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let Self { refused, cluster, from, to, incarnation, page_format } = *self;
        record(WELCOME, refused.map_or(0, Refused::code), cluster, (from, to), incarnation, page_format)
    }

    /// Reads what came.
    ///
    /// # Errors
    /// It isn't an answer of this protocol in this version.
    pub fn decode(bytes: &[u8; HANDSHAKE_BYTES]) -> Result<Self, Refused> {
        let record = read(bytes, WELCOME)?;
        let (cluster, from) = (record.cluster.get(), MemberId(record.from.get()));
        let refused = match record.code {
            0 => None,
            1 => Some(Refused::NotPlinth),
            2 => Some(Refused::Version(record.version.get())),
            3 => Some(Refused::Malformed),
            4 => Some(Refused::OtherCluster(cluster)),
            5 => Some(Refused::OtherMember(from)),
            6 => Some(Refused::UnknownMember),
            7 => Some(Refused::Removed),
            _ => return Err(Refused::Malformed),
        };
        Ok(Self {
            refused,
            cluster,
            from,
            to: MemberId(record.to.get()),
            incarnation: record.incarnation.get(),
            page_format: record.page_format.get(),
        })
    }
}

fn record(
    role: u8,
    code: u8,
    cluster: u64,
    (from, to): (MemberId, MemberId),
    incarnation: u64,
    page_format: u16,
) -> [u8; HANDSHAKE_BYTES] {
    let mut record = Record {
        magic: MAGIC,
        checksum: 0.into(),
        version: PROTOCOL_VERSION.into(),
        code,
        role,
        cluster: cluster.into(),
        from: from.0.into(),
        to: to.0.into(),
        incarnation: incarnation.into(),
        page_format: page_format.into(),
        reserved: 0.into(),
        reserved_too: 0.into(),
    };
    record.checksum = plinth_base::crc32c(0, &record.as_bytes()[CHECKED_FROM..]).into();
    zerocopy::transmute!(record)
}

fn read(bytes: &[u8; HANDSHAKE_BYTES], role: u8) -> Result<Record, Refused> {
    let record = Record::read_from_bytes(bytes).expect("the array has its length");
    if record.magic != MAGIC {
        return Err(Refused::NotPlinth);
    }
    // A later version may count its checksum otherwise: this one first.
    if record.version.get() != PROTOCOL_VERSION {
        return Err(Refused::Version(record.version.get()));
    }
    if record.checksum.get() != plinth_base::crc32c(0, &bytes[CHECKED_FROM..]) || record.role != role {
        return Err(Refused::Malformed);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(lane: PeerLane) -> Hello {
        Hello {
            purpose: Purpose::Carry(lane),
            cluster: 7,
            from: MemberId(1),
            to: MemberId(2),
            incarnation: 99,
            page_format: 2,
        }
    }

    #[test]
    fn both_halves_come_back_as_they_were() {
        for lane in PeerLane::ALL {
            assert_eq!(Hello::decode(&hello(lane).encode()), Ok(hello(lane)));
        }
        assert_eq!(Hello::decode(&Hello::census().encode()), Ok(Hello::census()));
        let introduction = Hello { purpose: Purpose::Introduce, ..hello(PeerLane::Log) };
        assert_eq!(Hello::decode(&introduction.encode()), Ok(introduction));
        let refusals = [
            Refused::NotPlinth,
            Refused::Version(PROTOCOL_VERSION),
            Refused::Malformed,
            Refused::OtherCluster(7),
            Refused::OtherMember(MemberId(2)),
            Refused::UnknownMember,
            Refused::Removed,
        ];
        for refused in refusals.into_iter().map(Some).chain([None]) {
            let welcome =
                Welcome { refused, cluster: 7, from: MemberId(2), to: MemberId(1), incarnation: 5, page_format: 2 };
            assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused_with_its_reason() {
        let sound = hello(PeerLane::Log).encode();
        let changed = |at: usize| {
            let mut bytes = sound;
            bytes[at] ^= 0x10;
            Hello::decode(&bytes)
        };
        assert_eq!(changed(0), Err(Refused::NotPlinth));
        assert_eq!(changed(12), Err(Refused::Version(PROTOCOL_VERSION ^ 0x10)));
        for at in (8..HANDSHAKE_BYTES).filter(|at| !(12..14).contains(at)) {
            assert_eq!(changed(at), Err(Refused::Malformed), "byte {at}");
        }
        assert_eq!(Welcome::decode(&sound), Err(Refused::Malformed), "a hello is no welcome");
    }
}
