//! Copying a durable generation to another machine, page by page: it becomes a file there.
//!
//! Which pages there are the generation's bitmap says. The receiver knows which it lacks, asks for them range by range, in any order and as often as it likes, and the
//! sender keeps nothing but the generation's pin and a small piece of its bitmap, however large the file is.
//!
//! While a generation is pinned none of its pages changes. So a sender that can't keep it any longer takes a newer one before it lets go of the old one: what the receiver
//! lacks of that are the pages that it lacked before, and those that only the newer one uses ([`CopySource::changed_since`]). They are counted in [`Blocks`], and [`Since`] when.
//!
//! Nothing that comes is believed before all of it is there and was proven, from the meta down; then the meta is written, and the file opened as after a
//! crash. Until then a copy that was interrupted goes on with what its progress file says; if that is too much, the proof tells.
//!
//! A part is any number of runs, each `first page (8 bytes) | pages (4 bytes) | the pages`.

mod blocks;
mod progress;
mod since;
mod source;
mod target;

use bytes::Bytes;
use plinth_base::codec::Malformed;

pub use self::{
    blocks::Blocks,
    since::Since,
    source::{CopyPart, CopySource},
    target::{AcceptedPages, CopyTarget},
};
use crate::{
    layout::PAGE_BYTES,
    meta::{BadMeta, META_PAGES, Meta},
    store::TreeSpec,
};

/// Bytes in front of each run.
const RUN_HEADER_BYTES: usize = 12;

/// The meta of a copy, if this code can read the pages below it.
#[derive(Clone, Debug)]
pub struct CopyMeta(Meta);

impl CopyMeta {
    /// Reads what [`CopySource::meta`] gave. None if it is of another version of the format.
    ///
    /// # Errors
    /// It isn't a meta, or one of other trees.
    pub fn decode(bytes: &[u8], trees: &[TreeSpec]) -> Result<Option<Self>, Malformed> {
        const NOT_ONE: Malformed = Malformed("what should be the meta of a tree isn't one");
        let generation = bytes.get(24..32).filter(|_| bytes.len() == PAGE_BYTES).ok_or(NOT_ONE)?;
        let generation = u64::from_le_bytes(generation.try_into().expect("eight bytes"));
        match Meta::decode(bytes, generation % META_PAGES, trees, "the copy".as_ref()) {
            Ok(Ok(meta)) => Ok(Some(Self(meta))),
            Ok(Err(BadMeta::Version(_))) => Ok(None),
            Ok(Err(BadMeta::Magic | BadMeta::Checksum { .. })) | Err(_) => Err(NOT_ONE),
        }
    }

    /// The owner's record in it.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.0.trees.state
    }

    /// Its generation, which names it among those of the same file.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }
}
