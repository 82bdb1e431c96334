//! Ids are newtypes, so that a page is never taken for a log index.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A raft group: one replicated log, one tree file.
    GroupId(u32)
);
id!(
    /// A shard: one write-ahead log and the groups placed on it.
    ShardId(u16)
);
id!(
    /// A member of the cluster, as etcd's API shows it.
    MemberId(u64)
);
id!(
    /// A raft term.
    Term(u64)
);
id!(
    /// The position of an entry in a group's raft log; the first entry has index 1, 0 is "before all".
    LogIndex(u64)
);
id!(
    /// A page of a tree file, at byte offset `page id * page size`.
    PageId(u64)
);

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// `count` pages that follow each other, the first one at `first`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageRun {
    /// The first page.
    pub first: PageId,
    /// How many pages, at least 1.
    pub count: u32,
}

impl PageRun {
    /// A run of one page.
    #[must_use]
    pub fn one(page: PageId) -> Self {
        Self { first: page, count: 1 }
    }

    /// The page after the last one.
    #[must_use]
    pub fn end(self) -> PageId {
        PageId(self.first.0 + u64::from(self.count))
    }
}

/// The place of a change in a group's history. Clients see `main`; `sub` counts the changes of one revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision {
    /// etcd's revision: 1 for an empty store, the first write makes 2.
    pub main: i64,
    /// 0, 1, 2, ... in the order in which one request changes keys.
    pub sub: u32,
}
