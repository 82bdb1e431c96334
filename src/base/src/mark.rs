//! Marks: branches that a test run must have reached.
//!
//! A simulator run counts them and fails when one stayed at 0, so that a workload that no longer reaches
//! a rare branch is noticed. In the server they cost one relaxed addition on paths that are rare by nature.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A branch worth counting.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Mark { $($(#[$doc])* $name,)* }

        impl Mark {
            /// All marks.
            pub const ALL: &'static [Mark] = &[$(Mark::$name,)*];

            /// The name that reports show.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mark::$name => $text,)* }
            }
        }

        static COUNTS: [AtomicU64; Mark::ALL.len()] = [const { AtomicU64::new(0) }; Mark::ALL.len()];
    };
}

marks! {
    /// A leader whose disk was stuck handed over.
    LeaderFled = "leader fled its disk",
    /// Recovery found a batch that was only partly written at the end of the log and cut it.
    TornTailCut = "torn tail cut",
    /// A log segment that was no longer needed became the next one.
    SegmentRecycled = "segment recycled",
    /// A page that an older generation had freed was handed out again.
    PageReused = "page reused",
    /// A crash fell into a checkpoint, and recovery went back to the one before.
    CheckpointLost = "checkpoint lost",
    /// A record larger than a batch was split.
    RecordSplit = "record split",
    /// A command stopped for a page that was not in memory and went on later.
    PageMissing = "page missing",
    /// A command took more than one slice.
    ApplySliced = "apply sliced",
    /// Recovery replayed entries that the tree did not have yet.
    LogReplayed = "log replayed",
    /// A start found everything in the trees already.
    CleanStart = "clean start",
    /// What lay in the tail of a tree file was moved to the front.
    TailRelocated = "tail relocated",
    /// Committed entries waited until a checkpoint had made room in memory.
    ApplyWaited = "apply waited for memory",
    /// A branch that nobody used was let go of.
    BranchTrimmed = "branch trimmed",
    /// A watcher's stream had no room for an event.
    WatchStalled = "watch stalled",
    /// The fullest outbox gave its events back.
    WatchSpilled = "watch spilled",
    /// The feed of events had a gap that watchers had to be caught up over.
    WatchGap = "watch gap",
    /// A compaction ended a watcher.
    WatchCompacted = "watch compacted",
    /// A lease that nobody had touched since the start expired.
    LeaseExpiredUntouched = "lease expired untouched",
    /// A lease was revoked in more than one slice, some of its keys before the others.
    LeaseRevokeSliced = "lease revoke sliced",
    /// A lease was to be renewed when its time was over.
    LeaseRenewedLate = "lease renewed too late",
    /// A start went on with a sweep that the last process had left half done.
    SweepResumed = "sweep resumed",
    /// A compaction came while what the one before had left was being swept.
    CompactedInSweep = "compacted in a sweep",
    /// A checkpoint was due while the log was behind what was applied.
    CheckpointWaitedForLog = "checkpoint waited for the log",
    /// A snapshot was offered to a member that was far behind.
    SnapshotOffered = "snapshot offered",
    /// A snapshot came as pages, and all of them were proven.
    SnapshotCopied = "snapshot copied",
    /// A snapshot went on with what the receiver had of it, behind an interruption.
    CopyResumed = "snapshot resumed",
    /// A snapshot that took too long became one of a newer checkpoint.
    SnapshotMoved = "snapshot moved to a newer checkpoint",
    /// A snapshot that had been proven went on as one of a newer checkpoint, to be up to date.
    SnapshotRenewed = "snapshot brought up to date before its end",
    /// A snapshot came as records, of which a tree was built.
    SnapshotBuilt = "snapshot built",
    /// A snapshot took the place of a member's tree.
    SnapshotInstalled = "snapshot installed",
    /// A scrub found a page that isn't what was written.
    RotFoundByScrub = "rot found by a scrub",
}

impl Mark {
    /// Counts one passage.
    pub fn hit(self) {
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often this process passed here.
    #[must_use]
    pub fn count(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }
}
