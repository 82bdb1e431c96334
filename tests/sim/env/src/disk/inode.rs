//! One file: what reads see, what is certainly on the device, and the changes between the two.
//!
//! Invariant: `durable` with every pending change applied in order is `live`. A crash starts from `durable` and keeps, loses or
//! tears each pending change; a sync moves the changes that it covers, in order, from pending to durable.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use plinth_base::{BLOCK_BYTES, Prng};

use super::{
    counters::Counters,
    image::{Block, Image},
};

/// What a device writes whole or not at all.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// A change of a file's content or length.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Bytes at an offset.
    Data { offset: u64, data: Arc<[u8]> },
    /// Space and length reserved.
    Reserve { offset: u64, bytes: u64 },
    /// A range given back.
    Punch { offset: u64, bytes: u64 },
    /// Cut or extended to this length.
    Length(u64),
}

impl Change {
    fn apply(&self, image: &mut Image) {
        match *self {
            Self::Data { offset, ref data } => image.write(offset, data),
            Self::Reserve { offset, bytes } => image.reserve(offset, bytes),
            Self::Punch { offset, bytes } => image.punch(offset, bytes),
            Self::Length(bytes) => image.set_len(bytes),
        }
    }

    /// Whose bytes it decides.
    fn footprint(&self) -> Range<u64> {
        match *self {
            Self::Data { offset, ref data } => offset..offset + data.len() as u64,
            Self::Punch { offset, bytes } => offset..offset + bytes,
            Self::Length(bytes) => bytes..u64::MAX,
            Self::Reserve { .. } => 0..0,
        }
    }

    fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. })
    }
}

/// A change that no sync has covered yet.
#[derive(Debug)]
struct Pending {
    seq: u64,
    change: Change,
    /// Bytes whose sync failed: as on Linux, their pages count as clean and no later sync writes them. Metadata is never that: it is
    /// in a journal, and a file system whose journal has failed lets no later sync succeed.
    abandoned: bool,
    /// Ranges for which a later change is durable already, so that this one must not come back over it.
    masked: Vec<Range<u64>>,
}

/// A file with its unsynced changes.
#[derive(Debug, Default)]
pub(crate) struct Inode {
    live: Image,
    durable: Image,
    pending: Vec<Pending>,
    /// Blocks as they were before their last change, for stale reads. Zero where there was nothing.
    before: BTreeMap<u64, Option<Arc<Block>>>,
    last_seq: u64,
    /// Goes up when cached pages are dropped.
    cache_epoch: u64,
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Inode {
    /// What reads see.
    pub(crate) fn live(&self) -> &Image {
        &self.live
    }

    /// What a crash can't take away.
    pub(crate) fn durable(&self) -> &Image {
        &self.durable
    }

    /// The number of the newest change.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn cache_epoch(&self) -> u64 {
        self.cache_epoch
    }

    pub(crate) fn drop_cache(&mut self) {
        self.cache_epoch += 1;
    }

    /// Makes a change that reads see and a crash may take away.
    pub(crate) fn change(&mut self, change: Change) {
        self.last_seq += 1;
        if change.is_data() {
            let range = change.footprint();
            for block in range.start / BLOCK_BYTES as u64..range.end.div_ceil(BLOCK_BYTES as u64) {
                self.before.insert(block, self.live.block(block).cloned());
            }
        }
        change.apply(&mut self.live);
        self.pending.push(Pending { seq: self.last_seq, change, abandoned: false, masked: Vec::new() });
    }

    /// Makes a change of bytes that is durable at once, without the ones before it.
    pub(crate) fn change_durably(&mut self, offset: u64, data: Arc<[u8]>) {
        let range = offset..offset + data.len() as u64;
        // A write that needs metadata commits the file system's journal, and with it the metadata changes before it.
        let needs_metadata = range.end > self.durable.len()
            || self.pending.iter().any(|p| !p.change.is_data() && overlap(&p.change.footprint(), &range));
        self.change(Change::Data { offset, data });
        let seq = self.last_seq;
        self.settle(|p| p.seq == seq || (needs_metadata && !p.change.is_data()));
    }

    /// Makes durable what was changed up to `seq`.
    pub(crate) fn sync(&mut self, seq: u64) {
        self.settle(|p| p.seq <= seq && !p.abandoned);
    }

    /// A sync up to `seq` failed.
    pub(crate) fn sync_failed(&mut self, seq: u64) {
        for pending in self.pending.iter_mut().filter(|p| p.seq <= seq && p.change.is_data()) {
            pending.abandoned = true;
        }
    }

    /// Moves the pending changes that `which` picks to the durable image, in order.
    fn settle(&mut self, which: impl Fn(&Pending) -> bool) {
        let (settled, mut rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(which);
        for pending in settled {
            write_unmasked(&mut self.durable, &pending.change, &pending.masked, |_| true);
            let footprint = pending.change.footprint();
            for older in rest.iter_mut().filter(|p| p.seq < pending.seq) {
                let known = older.masked.iter().any(|m| m.start <= footprint.start && footprint.end <= m.end);
                if !known && overlap(&older.change.footprint(), &footprint) {
                    older.masked.push(footprint.clone());
                }
            }
        }
        self.pending = rest;
    }

    /// Loses power: each pending change is kept, lost or torn, metadata in order.
    pub(crate) fn crash(&mut self, prng: &mut Prng, counters: &mut Counters) {
        let pending = std::mem::take(&mut self.pending);
        // Some crashes spare or take everything: the mixed ones alone would hardly ever show a plain loss of many writes.
        let mood = prng.below(4);
        let mut metadata_alive = true;
        for pending in pending {
            let fate = match mood {
                0 => 0,
                1 => 1,
                _ => prng.below(4).min(2),
            };
            if !pending.change.is_data() {
                metadata_alive &= fate == 0;
                if metadata_alive {
                    write_unmasked(&mut self.durable, &pending.change, &pending.masked, |_| true);
                }
                counters.add(if metadata_alive { "metadata change kept" } else { "metadata change lost" });
                continue;
            }
            let len_before = self.durable.len();
            let footprint = pending.change.footprint();
            let end = footprint.end;
            match fate {
                0 => write_unmasked(&mut self.durable, &pending.change, &pending.masked, |_| true),
                1 => {}
                _ => {
                    let mut tear = Tear::draw(prng, footprint);
                    write_unmasked(&mut self.durable, &pending.change, &pending.masked, |at| tear.keeps(at));
                }
            }
            counters.add(["unsynced write kept", "unsynced write lost", "unsynced write torn"][fate as usize]);
            // A write behind the end has a length of its own to lose, with or without its bytes.
            if end > len_before {
                let len_kept = metadata_alive && (mood == 0 || prng.chance(1, 2));
                self.durable.set_len(if len_kept { end } else { len_before });
                metadata_alive &= len_kept;
            }
        }
        self.live = self.durable.clone();
        self.before.clear();
        self.drop_cache();
    }

    /// Flips a bit on the device and in the page cache; false where there is no byte.
    pub(crate) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        self.durable.flip_bit(offset, bit) | self.live.flip_bit(offset, bit)
    }

    /// The range as it was before the last change of each of its blocks.
    pub(crate) fn read_stale(&self, offset: u64, out: &mut [u8]) {
        self.live.read(offset, out);
        for (index, chunk) in out.chunks_mut(BLOCK_BYTES).enumerate() {
            match self.before.get(&(offset / BLOCK_BYTES as u64 + index as u64)) {
                Some(Some(block)) => chunk.copy_from_slice(&block[..chunk.len()]),
                Some(None) => chunk.fill(0),
                None => {}
            }
        }
    }
}

/// Which sectors of a torn write are left.
enum Tear {
    /// Those before an offset.
    Before(u64),
    /// All but the one with this offset in it: what a checksum over the whole must notice.
    AllBut(u64),
    /// Each with a probability, in sixteenths.
    Random { keep: u64, prng: Prng },
}

impl Tear {
    fn draw(prng: &mut Prng, write: Range<u64>) -> Self {
        let somewhere = write.start + prng.below((write.end - write.start).max(1));
        match prng.below(3) {
            0 => Self::Before(somewhere),
            1 => Self::AllBut(somewhere),
            _ => Self::Random { keep: prng.below(17), prng: prng.fork() },
        }
    }

    fn keeps(&mut self, at: u64) -> bool {
        match self {
            Self::Before(end) => at / SECTOR_BYTES < *end / SECTOR_BYTES,
            Self::AllBut(lost) => at / SECTOR_BYTES != *lost / SECTOR_BYTES,
            Self::Random { keep, prng } => prng.below(16) < *keep,
        }
    }
}

/// Applies a change except where it is masked, and of data only the sectors that `keep` takes.
fn write_unmasked(image: &mut Image, change: &Change, masked: &[Range<u64>], mut keep: impl FnMut(u64) -> bool) {
    match change {
        Change::Data { offset, data } => {
            let end = offset + data.len() as u64;
            let mut at = *offset;
            while at < end {
                let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if keep(at) {
                    for piece in unmasked(at..sector_end, masked) {
                        image.write(piece.start, &data[(piece.start - offset) as usize..(piece.end - offset) as usize]);
                    }
                }
                at = sector_end;
            }
        }
        Change::Punch { offset, bytes } => {
            for piece in unmasked(*offset..offset + bytes, masked) {
                image.punch(piece.start, piece.end - piece.start);
            }
        }
        Change::Length(bytes) if !masked.is_empty() => {
            // Something behind the cut is durable already: the cut may only zero around it.
            let len = image.len();
            for piece in unmasked(*bytes..len.max(*bytes), masked) {
                image.punch(piece.start, piece.end - piece.start);
            }
            image.set_len(len.max(*bytes));
        }
        Change::Reserve { .. } | Change::Length(_) => change.apply(image),
    }
}

/// What is left of `range` outside all of `masked`.
fn unmasked(range: Range<u64>, masked: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = vec![range];
    for mask in masked {
        left = left
            .into_iter()
            .flat_map(|r| [r.start..r.end.min(mask.start).max(r.start), r.start.max(mask.end).min(r.end)..r.end])
            .filter(|r| r.start < r.end)
            .collect();
    }
    left
}

#[cfg(test)]
#[path = "inode_tests.rs"]
mod tests;
