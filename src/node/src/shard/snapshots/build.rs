//! A tree is made of a snapshot's pages, or built from its records, beside everything else.

use std::{cell::Cell, future::poll_fn, io, rc::Rc, sync::Arc};

use bytes::Bytes;
use plinth_base::{Mark, codec::Malformed};
use plinth_env::{Env, PageError};
use plinth_kv::trees::TREES;
use plinth_tree::{CopyMeta, CopyTarget, NewBody, NewValue, Store, StoreOptions, TreeError, TreeId, put_pages_max};

use super::receive::{BuildError, Built};
use crate::{
    budget::{Budget, Use},
    completions::Completions,
    peers::{Place, SnapshotRecord},
};

/// With so many bytes of changed pages the tree is written.
const DIRTY_BYTES_MAX: u64 = 16 << 20;

/// Records that are put before others have their turn.
const SLICE_RECORDS: usize = 64;

/// Nodes that are let go of at once after a checkpoint.
const SETTLE_NODES: usize = 256;

/// How much the file grows beyond what a record takes.
const GROW_PAGES: u64 = 256;

/// The task that builds.
pub(super) struct Builder<E: Env> {
    pub(super) env: E,
    pub(super) options: StoreOptions,
    /// The checkpoint whose pages come; none if records come.
    pub(super) meta: Option<CopyMeta>,
    /// The record of the root.
    pub(super) state: Bytes,
    pub(super) budget: Arc<Budget>,
    /// Parts, and whether they are the last ones.
    pub(super) parts: Completions<(Bytes, bool)>,
    pub(super) is_given_up: Rc<Cell<bool>>,
}

macro_rules! from {
    ($($error:ty => $variant:ident,)*) => {
        $(impl From<$error> for BuildError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! { TreeError => Tree, PageError => Page, Malformed => Malformed, }

impl<E: Env> Builder<E> {
    /// Takes part after part, until the last one or until nobody wants it any more.
    pub(super) async fn run(mut self, told: impl Fn(Built<E>)) -> Result<(), BuildError> {
        let path = self.options.path.clone();
        match self.env.remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BuildError::Io(path, error)),
            _ => {}
        }
        let store = match self.meta.take() {
            Some(meta) => self.copy(meta, &told).await?,
            None => self.build(&told).await?,
        };
        match store {
            Some(store) => told(Built::Whole(Box::new(store))),
            // What stays behind is removed before the next one.
            None => drop(self.env.remove_file(&path).await),
        }
        Ok(())
    }

    /// Of pages; none if it was given up.
    async fn copy(&self, meta: CopyMeta, told: &impl Fn(Built<E>)) -> Result<Option<Store<E>>, BuildError> {
        let mut target = CopyTarget::create(self.env.clone(), self.options.clone(), meta).await?;
        loop {
            let (pages, is_last) = self.next_part().await;
            if self.is_given_up.get() {
                return Ok(None);
            }
            target.write(pages, self.paced()).await?;
            if is_last {
                break;
            }
            told(Built::Until(Place::Pages { from: target.next() }));
        }
        let mut store = target.finish(self.paced()).await?;
        Mark::SnapshotCopied.hit();
        // Both checkpoints of a tree have to be of use.
        store.set_state(self.state.clone());
        self.write(&mut store).await?;
        Ok(Some(store))
    }

    /// From records; none if it was given up.
    async fn build(&self, told: &impl Fn(Built<E>)) -> Result<Option<Store<E>>, BuildError> {
        let mut store = Store::create(self.env.clone(), self.options.clone()).await?;
        let mut place = Place::RECORDS;
        loop {
            let (mut records, is_last) = self.next_part().await;
            if self.is_given_up.get() {
                return Ok(None);
            }
            let mut count = 0;
            while !records.is_empty() {
                let record = SnapshotRecord::take(&mut records)?;
                self.put(&mut store, &record).await?;
                place = Place::Records { tree: record.tree, after: Some(record.key) };
                count += 1;
                if count % SLICE_RECORDS == 0 {
                    self.env.yield_now().await;
                }
            }
            if is_last {
                Mark::SnapshotBuilt.hit();
                // Both checkpoints of a tree have to be of use.
                for _ in 0..2 {
                    store.set_state(self.state.clone());
                    self.write(&mut store).await?;
                }
                return Ok(Some(store));
            }
            if store.dirty_bytes() >= DIRTY_BYTES_MAX {
                self.write(&mut store).await?;
            }
            told(Built::Until(place.clone()));
        }
    }

    async fn next_part(&self) -> (Bytes, bool) {
        loop {
            if let Some(part) = self.parts.take() {
                return part;
            }
            poll_fn(|cx| self.parts.poll_ready(cx)).await;
        }
    }

    async fn put(&self, store: &mut Store<E>, record: &SnapshotRecord) -> Result<(), BuildError> {
        let SnapshotRecord { tree, key, head, body } = record;
        if usize::from(*tree) >= TREES.len() {
            return Err(Malformed("a record of a tree that isn't here").into());
        }
        let pages = put_pages_max(key.len(), body.len());
        while !store.room(key.len().max(body.len())).admits_put(pages) {
            let Some(grow) = store.begin_grow(pages + GROW_PAGES) else { return Err(TreeError::StorageFull.into()) };
            store.finish_grow(grow.run().await)?;
        }
        loop {
            let value = NewValue { head, body: NewBody::Bytes(body) };
            match store.put(TreeId(*tree), key, value) {
                Ok(None) => return Ok(()),
                Ok(Some(twin)) => {
                    store.discard(twin);
                    return Err(Malformed("a record that comes twice").into());
                }
                Err(missing) => self.env.load_pages(store.pages(), missing.wants).await?,
            }
        }
    }

    /// The log goes first.
    fn paced(&self) -> impl AsyncFnMut(usize) {
        async |bytes: usize| {
            let now = self.env.now();
            self.env.sleep(self.budget.take(now, Use::Snapshot, bytes as u64)).await;
        }
    }

    /// A checkpoint, and what it wrote is let go of.
    async fn write(&self, store: &mut Store<E>) -> Result<(), BuildError> {
        store.publish();
        let checkpoint = store.begin_checkpoint().expect("something was put");
        store.finish_checkpoint(checkpoint.run(self.paced()).await)?;
        while !store.settle(SETTLE_NODES) {
            self.env.yield_now().await;
        }
        Ok(())
    }
}
