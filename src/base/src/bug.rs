//! Known bugs that a test build can switch on, to show that the tests notice them: a check that can't fail is none.
//!
//! Without the feature `known-bugs` [`bug!`](crate::bug!) is the literal `false`, and the server holds nothing of it. With
//! the feature, the bugs named by `PLINTH_BUGS=Name,Name` are active; the variable is read once.

/// The environment variable that names the active bugs.
pub const BUGS_VAR: &str = "PLINTH_BUGS";

/// The bugs that can be switched on, each at one place in the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Nothing is flushed: neither writes that must be durable, the log's, nor syncs, the trees' (`plinth-uring`).
    SkipFlush,
    /// Leases expire a second before their time (`plinth-kv`).
    LeaseExpiresEarly,
    /// The end of a lease leaves all of its keys but the first (`plinth-kv`).
    RevokeLeavesKeys,
    /// A sweep takes versions that were visible at the compacted revision (`plinth-kv`).
    SweepTooFar,
    /// A sweep leaves deletions (`plinth-kv`).
    SweepLeavesDeletions,
    /// A watcher whose stream has no room loses the revision at hand (`plinth-node`).
    WatchDropsWhenFull,
    /// Progress is told also while a watcher is behind (`plinth-node`).
    WatchProgressAhead,
    /// A watcher that was behind counts as up to date at a root that is older than what the feed has passed (`plinth-node`).
    WatchLosesAtResync,
    /// A vote for another member leaves before it is durable (`plinth-raft`).
    VoteNotDurable,
    /// A candidate asks for votes, leads and sends entries before its own vote and term are durable (`plinth-raft`).
    OwnVoteNotDurable,
    /// A follower tells its leader that it has entries which its disk may still lose (`plinth-raft`).
    AnswerBeforeFlush,
    /// Entries of an earlier term are committed because a quorum has them (`plinth-raft`).
    CommitEarlierTerm,
    /// Elections begin without asking whether they would be won (`plinth-raft`).
    MissingPreVote,
    /// A leader serves reads without proving that it still leads (`plinth-raft`).
    StaleRead,
    /// A read joins a round of heartbeats that have left (`plinth-raft`).
    ReadJoinsRound,
    /// A new leader serves reads before it knows what is committed: after restarts the revision goes back (`plinth-raft`).
    RevisionGoesBack,
    /// A follower goes on with the members that it had (`plinth-raft`).
    MembershipLate,
    /// A member that leads no more still ends leases (`plinth-kv`, `plinth-node`).
    DeposedLeaderRevokes,
    /// A checkpoint holds what the own log could still lose (`plinth-node`).
    CheckpointAheadOfLog,
    /// A snapshot is installed although the member has come further meanwhile (`plinth-node`).
    OldSnapshotInstalled,
    /// The log begins behind a snapshot before it is durable that the snapshot has taken the tree's place (`plinth-node`).
    InstallRecordEarly,
    /// The hard limit of a stalled log is never reached (`plinth-node`).
    HardStallIgnored,
    /// A leader hands over as soon as its log is late (`plinth-raft`).
    StallFleesEarly,
    /// A member whose snapshot came to nothing is never sent another one (`plinth-raft`).
    SnapshotNotRepeated,
    /// A root holds the applied index, and all of the state record, of the root before (`plinth-kv`).
    AppliedNotInRoot,
    /// A checkpoint writes over pages that the newest durable one and published roots still use (`plinth-tree`).
    PageReusedEarly,
    /// A sync that failed is called again, and its success is taken for that of the first (`plinth-tree`).
    FlushRetried,
    /// A log that was opened goes on where its last whole batch begins, not where it ends (`plinth-wal`).
    TailCutTooFar,
}

impl Bug {
    /// All of them.
    pub const ALL: &'static [Bug] = &[
        Bug::SkipFlush,
        Bug::LeaseExpiresEarly,
        Bug::RevokeLeavesKeys,
        Bug::SweepTooFar,
        Bug::SweepLeavesDeletions,
        Bug::WatchDropsWhenFull,
        Bug::WatchProgressAhead,
        Bug::WatchLosesAtResync,
        Bug::VoteNotDurable,
        Bug::OwnVoteNotDurable,
        Bug::AnswerBeforeFlush,
        Bug::CommitEarlierTerm,
        Bug::MissingPreVote,
        Bug::StaleRead,
        Bug::ReadJoinsRound,
        Bug::RevisionGoesBack,
        Bug::MembershipLate,
        Bug::DeposedLeaderRevokes,
        Bug::CheckpointAheadOfLog,
        Bug::OldSnapshotInstalled,
        Bug::InstallRecordEarly,
        Bug::HardStallIgnored,
        Bug::StallFleesEarly,
        Bug::SnapshotNotRepeated,
        Bug::AppliedNotInRoot,
        Bug::PageReusedEarly,
        Bug::FlushRetried,
        Bug::TailCutTooFar,
    ];

    /// The bugs of a comma-separated list of their names; the error is a name that none has.
    pub fn parse_list(list: &str) -> Result<Vec<Bug>, String> {
        let named = |name: &str| Bug::ALL.iter().copied().find(|bug| format!("{bug:?}") == name);
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| named(name).ok_or_else(|| name.to_owned())).collect()
    }
}

/// Whether a known bug is active: `if bug!(SkipFlush) { ... }`.
#[cfg(not(feature = "known-bugs"))]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {{
        // The name is checked in every build.
        const _: $crate::bug::Bug = $crate::bug::Bug::$name;
        false
    }};
}

/// Whether a known bug is active: `if bug!(SkipFlush) { ... }`.
#[cfg(feature = "known-bugs")]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        $crate::bug::is_active($crate::bug::Bug::$name)
    };
}

/// Whether `PLINTH_BUGS` names `bug`. A name that no bug has ends the process: else a typing error would pass for a bug that no test sees.
#[cfg(feature = "known-bugs")]
#[must_use]
pub fn is_active(bug: Bug) -> bool {
    static ACTIVE: std::sync::LazyLock<Vec<Bug>> = std::sync::LazyLock::new(|| {
        let list = std::env::var(BUGS_VAR).unwrap_or_default();
        Bug::parse_list(&list).unwrap_or_else(|name| panic!("{BUGS_VAR} names {name:?}, which is no known bug"))
    });
    ACTIVE.contains(&bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_named_in_a_list_and_unknown_names_are_refused() {
        assert_eq!(Bug::parse_list(""), Ok(Vec::new()));
        assert_eq!(Bug::parse_list("SkipFlush, SkipFlush"), Ok(vec![Bug::SkipFlush; 2]));
        assert_eq!(Bug::parse_list("SkipFlush,skipflush"), Err("skipflush".to_owned()));
    }

    #[test]
    fn no_bug_is_active_unless_it_is_named() {
        assert!(std::env::var_os(BUGS_VAR).is_some() || !crate::bug!(SkipFlush));
    }
}
