//! One batch on its way to the device, apart from the log: the shard's turn goes on meanwhile.
//!
//! A crash in the middle leaves the batch whole, torn or absent; at a rotation also a segment without a start batch, or one with
//! a start batch and nothing behind. Recovery knows them all.

use std::path::PathBuf;

use plinth_base::AlignedBuf;
use plinth_env::{Env, File, SyncMethod};

use crate::{
    batch::Batch,
    error::WalError,
    group::{Effects, Place},
    segment,
};

/// Where the batch goes.
pub(crate) enum Target<F> {
    /// Into the segment under way.
    Active(F),
    /// Into a fresh one, behind its start batch.
    Fresh {
        /// Ready under its name, or to be made ready first.
        ready: Option<F>,
        spare: Option<PathBuf>,
        start: Batch,
        segment_bytes: u64,
    },
}

/// One batch to be made durable.
#[must_use = "a batch that is not run is never durable, and no other can follow it"]
pub struct Flush<E: Env> {
    pub(crate) env: E,
    pub(crate) path: PathBuf,
    pub(crate) sync_method: SyncMethod,
    pub(crate) target: Target<E::File>,
    pub(crate) batch: Batch,
    pub(crate) offset: u64,
}

/// What came of a [`Flush`]; goes to `Wal::finish_flush`.
#[must_use = "the log takes no other flush before it knows how this one ended"]
pub struct FlushDone<E: Env> {
    pub(crate) result: Result<(), WalError>,
    pub(crate) batch: Batch,
    /// The fresh segment's file, if it was opened.
    pub(crate) opened: Option<E::File>,
    /// The start batch's memory.
    pub(crate) start_buf: Option<AlignedBuf>,
    pub(crate) flush_ns: u64,
}

/// A batch under way, as the log remembers it.
pub(crate) struct InFlight {
    pub(crate) place: Place,
    pub(crate) is_seal: bool,
    pub(crate) disk_bytes: u64,
    pub(crate) used_bytes: usize,
    pub(crate) effects: Effects,
    /// The segment that the flush begins.
    pub(crate) fresh: Option<FreshSegment>,
}

/// A segment that begins with the flush under way.
pub(crate) struct FreshSegment {
    pub(crate) sequence: u64,
    pub(crate) nonce: u64,
    pub(crate) next_nonce: u64,
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
    pub(crate) first_batch: u64,
}

impl<E: Env> Flush<E> {
    /// How many bytes go to the device, for the stall detector's sense of proportion.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.batch.disk_bytes()
    }

    /// Writes the batch and returns when it is durable or has failed. Never retried, and not to be dropped half way.
    pub async fn run(mut self) -> FlushDone<E> {
        let began = self.env.now();
        let mut opened = None;
        let mut start_buf = None;
        let result = match self.open(&mut opened, &mut start_buf).await {
            Ok(file) => {
                let (result, buf) = file.write_durable(self.offset, self.batch.take_buf()).await;
                self.batch.put_back(buf);
                result.map_err(WalError::io(&self.path, "writing a batch"))
            }
            Err(error) => Err(error),
        };
        let flush_ns = u64::try_from(self.env.now().since(began).as_nanos()).unwrap_or(u64::MAX);
        FlushDone { result, batch: self.batch, opened, start_buf, flush_ns }
    }

    /// The file that takes the batch; a fresh segment has its start batch durable then.
    async fn open(
        &mut self,
        opened: &mut Option<E::File>,
        start_buf: &mut Option<AlignedBuf>,
    ) -> Result<E::File, WalError> {
        let (ready, spare, start, segment_bytes) = match &mut self.target {
            Target::Active(file) => return Ok(file.clone()),
            Target::Fresh { ready, spare, start, segment_bytes } => (ready.take(), spare.take(), start, *segment_bytes),
        };
        let file = match ready {
            Some(file) => file,
            None => {
                // The batch itself waits for it.
                let pace = &mut async |_| {};
                segment::prepare(&self.env, &self.path, spare.as_deref(), segment_bytes, self.sync_method, pace).await?
            }
        };
        *opened = Some(file.clone());
        // Durable before the batch behind it: a segment whose start is bad holds nothing that was acknowledged.
        let (result, buf) = file.write_durable(0, start.take_buf()).await;
        *start_buf = Some(buf);
        result.map_err(WalError::io(&self.path, "writing a start batch"))?;
        Ok(file)
    }
}
