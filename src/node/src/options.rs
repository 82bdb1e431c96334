//! What a shard is told at start. Everything is validated before it gets here.

use std::{path::PathBuf, time::Duration};

use plinth_base::{GroupId, MemberId};
use plinth_env::SyncMethod;
use plinth_kv::MemberRecord;

/// What is more than enough of each, whatever the machine has.
const DIRTY_BYTES_MAX: u64 = 192 << 20;
const CHECKPOINT_DIRTY_BYTES_MAX: u64 = 32 << 20;
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// The branches of a tree file of about 16 GiB.
const BRANCH_BYTES_MAX: u64 = 512 << 20;
/// With less of anything little would get done.
const MEMORY_PART_MIN: u64 = 4 << 20;

/// Who this member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member, with the name and URLs that it announces.
    pub member: MemberRecord,
    /// All members that a new member knows of, this one among them.
    pub initial_members: Vec<MemberRecord>,
    /// Their cluster is there already, and this member begins with nothing: it is sent everything.
    pub joins: bool,
}

impl Identity {
    /// This member's id.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.member.id
    }
}

/// How a shard works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardOptions {
    /// Where the trees are.
    pub data_dir: PathBuf,
    /// Where the log is.
    pub wal_dir: PathBuf,
    /// The groups placed on the shard.
    pub groups: Vec<GroupId>,
    /// Size of a log segment in bytes.
    pub segment_bytes: u64,
    /// How the log reaches its device.
    pub sync_method: SyncMethod,
    /// A batch of the log that takes so long is a stall: new proposals wait until it has ended.
    pub stall_soft: Duration,
    /// When the log's device has been silent for so long, this member gives its leadership away if others do better, and takes none.
    pub stall_hard: Duration,
    /// How long a leader may be silent, at least, before others ask for votes.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
    /// Entries of one message to a peer, in bytes; a larger entry goes alone.
    pub append_bytes_max: usize,
    /// Entries on their way to one peer, in bytes.
    pub window_bytes: usize,
    /// What a member that begins to decide about leases gives each of them beside its TTL: one election timeout.
    pub lease_grace: Duration,
    /// Proposals that waited so long are not made any more: nobody expects an answer.
    pub request_timeout: Duration,
    /// At the start every page of every tree is proven before anything is served, not only what the newest checkpoint wrote.
    pub verify_all: bool,
    /// A checkpoint starts when the log has grown by so many bytes since the last one.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint starts when so many bytes of pages are dirty.
    pub checkpoint_dirty_bytes: u64,
    /// A checkpoint starts when the last one is so old and something changed.
    pub checkpoint_age: Duration,
    /// With so many bytes of changed pages in memory, proposals and replayed entries wait until a checkpoint has made room.
    pub dirty_bytes_max: u64,
    /// With so many bytes of entries that wait to be applied, proposals wait.
    pub tail_bytes_max: usize,
    /// Above this, copies of branch pages that are not used much are let go of.
    pub branch_bytes_max: u64,
    /// The other members are gone for ever: this one keeps what it has, and is the cluster from now on.
    pub force_new_cluster: bool,
    /// Learners that a group may have.
    pub learners_max: usize,
    /// Snapshots are taken as pages where both ends have one format of them; else as records.
    pub reads_pages: bool,
    /// The leader keeps so many bytes of the log for members that are behind.
    pub catch_up_log_bytes: u64,
    /// A checkpoint that is held for a snapshot to another member for so long is replaced by a newer one, ...
    pub pin_age_max: Duration,
    /// ... or while so many bytes of pages can't be used again, if they are more than a quarter of those in use. Each time both limits are doubled.
    pub pin_bytes_max: u64,
    /// Parts of snapshots to other members are about so long.
    pub snapshot_part_bytes: usize,
    /// What has come of a snapshot is made durable after each so many bytes, so that another process can go on with it.
    pub snapshot_save_bytes: u64,
    /// An idle log is sealed after this.
    pub seal_after: Duration,
    /// Entries visited by commands in one turn.
    pub apply_budget: u32,
    /// All pages of the tree files are read and proven once in so long; zero: never.
    pub scrub_interval: Duration,
    /// The largest tree file, in bytes: the address range that is reserved for it.
    pub tree_bytes_max: u64,
    /// How much a tree file grows at once, in bytes.
    pub grow_bytes: u64,
    /// The tail of a tree file is emptied when more bytes than this are free before its last page in use, ...
    pub tail_free_bytes_max: u64,
    /// ... and they are more than so many hundredths of all that.
    pub tail_free_percent_max: u64,
}

impl ShardOptions {
    /// The usual values for a shard with its files in `data_dir` and `wal_dir`.
    #[must_use]
    pub fn new(data_dir: PathBuf, wal_dir: PathBuf) -> Self {
        Self {
            data_dir,
            wal_dir,
            groups: vec![GroupId(0)],
            segment_bytes: 64 << 20,
            sync_method: SyncMethod::WriteDsync,
            stall_soft: Duration::from_millis(500),
            stall_hard: Duration::from_millis(750),
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            append_bytes_max: 512 << 10,
            window_bytes: 4 << 20,
            force_new_cluster: false,
            learners_max: 1,
            reads_pages: true,
            catch_up_log_bytes: 4 << 30,
            pin_age_max: Duration::from_secs(60),
            pin_bytes_max: 256 << 20,
            snapshot_part_bytes: 512 << 10,
            snapshot_save_bytes: 64 << 20,
            lease_grace: Duration::from_secs(1),
            request_timeout: Duration::from_secs(7),
            verify_all: false,
            checkpoint_log_bytes: 128 << 20,
            checkpoint_dirty_bytes: CHECKPOINT_DIRTY_BYTES_MAX,
            checkpoint_age: Duration::from_secs(60),
            dirty_bytes_max: DIRTY_BYTES_MAX,
            tail_bytes_max: TAIL_BYTES_MAX as usize,
            branch_bytes_max: 64 << 20,
            seal_after: Duration::from_millis(200),
            apply_budget: 4096,
            scrub_interval: Duration::from_secs(24 * 3600),
            tree_bytes_max: 256 << 30,
            grow_bytes: 16 << 20,
            tail_free_bytes_max: 16 << 20,
            tail_free_percent_max: 25,
        }
    }

    /// Divides what the shard keeps in memory among its uses, so that all of it stays well below `memory_bytes`: the rest is for connections,
    /// requests, and the page cache that the tree is read through.
    pub fn fit_memory(&mut self, memory_bytes: u64) {
        let part = |divisor: u64, max: u64| (memory_bytes / divisor).clamp(MEMORY_PART_MIN, max);
        self.dirty_bytes_max = part(4, DIRTY_BYTES_MAX);
        self.checkpoint_dirty_bytes = part(16, CHECKPOINT_DIRTY_BYTES_MAX);
        self.branch_bytes_max = part(8, BRANCH_BYTES_MAX);
        self.tail_bytes_max = usize::try_from(part(16, TAIL_BYTES_MAX)).expect("the largest fits");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_and_a_large_machine_keeps_the_usual_values() {
        let usual = ShardOptions::new(PathBuf::from("d"), PathBuf::from("w"));
        let mut options = usual.clone();
        options.fit_memory(256 << 20);
        let kept =
            |options: &ShardOptions| options.dirty_bytes_max + options.branch_bytes_max + options.tail_bytes_max as u64;
        assert_eq!((options.dirty_bytes_max, kept(&options)), (64 << 20, (64 + 32 + 16) << 20));
        assert!(options.checkpoint_dirty_bytes < options.dirty_bytes_max / 2, "there is time for a checkpoint");
        options.fit_memory(64 << 30);
        assert_eq!(options, ShardOptions { branch_bytes_max: BRANCH_BYTES_MAX, ..usual });
        options.fit_memory(0);
        assert_eq!(options.dirty_bytes_max, MEMORY_PART_MIN);
    }
}
