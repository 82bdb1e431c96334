//! The writer: the one place where a tree file is changed. It belongs to the shard that owns the file.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use plinth_env::Env;

use crate::{
    branch::BranchCount,
    checkpoint::Frozen,
    error::Missing,
    key::Pages,
    layout::{BODY_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PAGE_BYTES, STATE_BYTES_MAX, TREES_MAX},
    ledger::{Dirty, Ledger},
    meta::Meta,
    pins::Pins,
    punch::Punching,
    put, remove,
    room::Growth,
    settle::Settling,
    space::{Capacity, Space},
    trim::Trimming,
    value::{Detached, NewBody, NewValue, ValueRef},
    view::{Published, Snapshot, Trees, View},
};

/// A tree of the file: its place in the list given at open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeId(pub u8);

/// What an entry weighs: from the length of its key, its head and the length of its body.
pub(crate) type Weigh = fn(key_len: usize, head: &[u8], body_len: usize) -> u64;

/// A tree of the file.
#[derive(Clone, Copy, Debug)]
pub struct TreeSpec {
    /// At most `NAME_BYTES_MAX` bytes; stored in the file and compared at open.
    pub name: &'static str,
    /// What an entry weighs, from the length of its key, its head and the length of its body. Must always give the same
    /// answer: sums are stored.
    pub weigh: fn(key_len: usize, head: &[u8], body_len: usize) -> u64,
}

/// Where the file is and how it may grow.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file.
    pub path: PathBuf,
    /// Its trees, at most `TREES_MAX`; a [`TreeId`] is a place in this list.
    pub trees: &'static [TreeSpec],
    /// The file never grows beyond: address space is reserved for it once.
    pub file_bytes_max: u64,
    /// How much the file grows at once, at least.
    pub grow_bytes: u64,
}

/// The single writer of a tree file.
pub struct Store<E: Env> {
    pub(crate) env: E,
    pub(crate) file: E::File,
    pub(crate) options: StoreOptions,
    pub(crate) file_id: u64,
    pub(crate) pages: Arc<E::Pages>,
    pub(crate) working: Trees,
    /// Whether the working root says something else than the published one.
    pub(crate) changed: bool,
    /// Whether it says the same with fewer nodes in memory.
    pub(crate) resettled: bool,
    /// The newest published sequence that says something new.
    pub(crate) newest_change: u64,
    pub(crate) published: Arc<Published>,
    /// What a checkpoint of the published root would write.
    pub(crate) published_dirty: Dirty,
    pub(crate) ledger: Ledger,
    pub(crate) branches: BranchCount,
    pub(crate) pins: Pins,
    /// With the running checkpoint while there is one.
    pub(crate) space: Option<Space>,
    /// What the space could hold when it was here last.
    pub(crate) capacity: Capacity,
    pub(crate) frozen: Option<Frozen>,
    pub(crate) newest: Meta,
    /// None after the newest checkpoint was lost in a crash and until the next one.
    pub(crate) older: Option<Meta>,
    pub(crate) settling: Option<Settling>,
    /// About how many pages' nodes are in memory although a durable checkpoint holds them.
    pub(crate) unsettled_pages: u64,
    pub(crate) trimming: Trimming,
    pub(crate) growth: Growth,
    pub(crate) punching: Punching,
    pub(crate) poisoned: bool,
}

impl StoreOptions {
    pub(crate) fn assert_valid(&self) {
        assert!(self.trees.len() <= TREES_MAX, "a file has at most {TREES_MAX} trees");
        assert!(self.trees.iter().all(|spec| spec.name.len() <= NAME_BYTES_MAX), "names of trees are short");
    }
}

impl<E: Env> Store<E> {
    /// Reads the working root: everything put so far, published or not.
    #[must_use]
    pub fn view(&self) -> View<'_, E::Pages> {
        View {
            trees: &self.working,
            specs: self.options.trees,
            pages: &*self.pages,
            pages_end: self.pages_end(),
            branches: &self.branches,
            keeps: true,
        }
    }

    /// The pages of the file, for `Env::load_pages`.
    #[must_use]
    pub fn pages(&self) -> &Arc<E::Pages> {
        &self.pages
    }

    /// Puts `value` at `key` and returns the value that was there.
    ///
    /// # Panics
    /// If key, head or body are longer than their limits: the owner's own limits are lower.
    pub fn put(&mut self, tree: TreeId, key: &[u8], value: NewValue<'_>) -> Result<Option<Detached>, Missing> {
        self.put_with(tree, key, value.body, |_| value.head)
    }

    /// Puts `body` at `key`, behind a head that `head` makes of the value that is there, and returns that value. One search for
    /// what else would be a get and a put. `head` is called again when the call is repeated after a miss.
    ///
    /// # Panics
    /// If key, head or body are longer than their limits: the owner's own limits are lower.
    pub fn put_with<H: AsRef<[u8]>>(
        &mut self,
        tree: TreeId,
        key: &[u8],
        body: NewBody<'_>,
        head: impl FnOnce(Option<ValueRef<'_>>) -> H,
    ) -> Result<Option<Detached>, Missing> {
        assert!(key.len() <= KEY_BYTES_MAX && body.len() <= BODY_BYTES_MAX, "key or body beyond the limit");
        let weigh = self.options.trees[usize::from(tree.0)].weigh;
        let pages = Pages { source: &*self.pages, end: self.pages_end(), branches: &self.branches, keeps: true };
        let root = &mut self.working.roots[usize::from(tree.0)];
        let old = put::put(root, key, body, head, weigh, pages, &mut self.ledger)?;
        self.changed = true;
        Ok(old)
    }

    /// Removes `key` and returns the value that was there.
    pub fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<Option<Detached>, Missing> {
        let weigh = self.options.trees[usize::from(tree.0)].weigh;
        let pages = Pages { source: &*self.pages, end: self.pages_end(), branches: &self.branches, keeps: true };
        let root = &mut self.working.roots[usize::from(tree.0)];
        let old = remove::remove(root, key, weigh, pages, &mut self.ledger)?;
        self.changed |= old.is_some();
        Ok(old)
    }

    /// Frees the overflow pages of a value that nothing needs any longer.
    pub fn discard(&mut self, old: Detached) {
        old.discard(&mut self.ledger);
    }

    /// Replaces the owner's record.
    ///
    /// # Panics
    /// If it is longer than `STATE_BYTES_MAX`.
    pub fn set_state(&mut self, state: Bytes) {
        assert!(state.len() <= STATE_BYTES_MAX, "the owner's record is at most {STATE_BYTES_MAX} bytes");
        self.working.state = state;
        self.changed = true;
    }

    /// The owner's record in the working root.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.working.state
    }

    /// Makes the working root visible. Without changes since the last time the same root is returned.
    pub fn publish(&mut self) -> Snapshot<E::Pages> {
        if self.changed || self.resettled {
            let sequence = self.ledger.epoch;
            if self.changed {
                self.newest_change = sequence;
            }
            (self.changed, self.resettled) = (false, false);
            self.published_dirty = self.ledger.publish();
            self.published = Arc::new(Published {
                trees: self.working.clone(),
                specs: self.options.trees,
                pages_end: self.pages_end(),
                branches: self.branches.clone(),
                sequence,
                pin: self.pins.pin(),
            });
        }
        self.snapshot()
    }

    /// The newest published root.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<E::Pages> {
        Snapshot { root: Arc::clone(&self.published), pages: Arc::clone(&self.pages) }
    }

    /// Bytes of pages that are changed and in no checkpoint yet, not even a running one.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.ledger.dirty.bytes()
    }

    /// Bytes of pages that the running checkpoint writes; 0 without one.
    #[must_use]
    pub fn frozen_bytes(&self) -> u64 {
        self.frozen.as_ref().map_or(0, |frozen| frozen.dirty.bytes())
    }

    /// About how many bytes of nodes are in memory although a durable checkpoint holds their pages: `settle` lets go of them.
    #[must_use]
    pub fn unsettled_bytes(&self) -> u64 {
        self.unsettled_pages * PAGE_BYTES as u64
    }

    /// No page that the file can ever have has this id or a higher one.
    pub(crate) fn pages_end(&self) -> u64 {
        self.options.file_bytes_max / PAGE_BYTES as u64
    }

    /// Whether a write or sync failed: nothing is written any longer.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}
