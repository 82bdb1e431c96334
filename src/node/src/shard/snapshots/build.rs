//! A tree is made of a snapshot's pages, or built from its records, beside everything else.

use std::{cell::Cell, future::poll_fn, rc::Rc, sync::Arc};

use bytes::Bytes;
use plinth_base::{Mark, codec::Malformed};
use plinth_env::{Env, PageError};
use plinth_kv::trees::TREES;
use plinth_tree::{
    CopyMeta, CopyPart, CopyTarget, NewBody, NewValue, Since, Store, StoreOptions, TreeError, TreeId, put_pages_max,
};

use super::receive::{BuildError, Built};
use crate::{
    budget::{Budget, Use},
    completions::Completions,
    peers::{Content, Place, RANGES_MAX, SnapshotRecord},
};

/// With so many bytes of changed pages the tree is written.
const DIRTY_BYTES_MAX: u64 = 16 << 20;

/// Records that are put before others have their turn.
const SLICE_RECORDS: usize = 64;

/// Nodes that are let go of at once after a checkpoint.
const SETTLE_NODES: usize = 256;

/// How much the file grows beyond what a record takes.
const GROW_PAGES: u64 = 256;

/// All there is.
const WHOLE_PPM: u32 = 1_000_000;

/// A checkpoint whose pages are offered.
pub(super) struct OfferedPages {
    pub(super) meta: CopyMeta,
    /// What has changed since an older one.
    pub(super) since: Option<Since>,
}

impl OfferedPages {
    /// Whether a copy of `generation` can become one of this: what has changed since an even older one is more than what has changed since.
    pub(super) fn follows(&self, generation: u64) -> bool {
        self.since.as_ref().is_some_and(|since| (since.from()..self.meta.generation()).contains(&generation))
    }
}

/// What the builder is given.
pub(super) enum Step {
    /// A part that was asked for.
    Part(Place, Content),
    /// A newer checkpoint takes the place of the one that is copied.
    Advance(OfferedPages),
    /// What was proven is new enough.
    Finish,
    /// It may have been given up.
    Wake,
}

/// The task that builds.
pub(super) struct Builder<E: Env> {
    pub(super) env: E,
    pub(super) options: StoreOptions,
    /// What has come is made durable after each so many bytes.
    pub(super) save_bytes: u64,
    /// The checkpoint whose pages come; none if records come.
    pub(super) pages: Option<OfferedPages>,
    /// The record of the root.
    pub(super) state: Bytes,
    pub(super) budget: Arc<Budget>,
    pub(super) steps: Completions<Step>,
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

fn part_done(done: u64, all: u64) -> u32 {
    u32::try_from(done * u64::from(WHOLE_PPM) / all.max(1)).unwrap_or(WHOLE_PPM)
}

/// The copy becomes one of a newer checkpoint.
async fn advance<E: Env>(
    target: &mut CopyTarget<E>,
    OfferedPages { meta, since }: OfferedPages,
) -> Result<(), TreeError> {
    target.advance(meta, &since.expect("it follows")).await
}

impl<E: Env> Builder<E> {
    /// Takes part after part, until the last one or until nobody wants it any more. Pages that have come are kept then, for the next one to go on with.
    pub(super) async fn run(mut self, told: impl Fn(Built<E>)) -> Result<(), BuildError> {
        let built = match self.pages.take() {
            Some(pages) => self.copy(pages, &told).await,
            None => self.build(&told).await,
        };
        match built {
            Ok(Some(store)) => told(Built::Whole(Box::new(store))),
            Ok(None) => {}
            Err(error) => {
                // What can't be removed now is when the next one comes.
                drop(CopyTarget::remove(&self.env, &self.options).await);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Of pages; none if it was given up.
    async fn copy(&self, pages: OfferedPages, told: &impl Fn(Built<E>)) -> Result<Option<Store<E>>, BuildError> {
        let mut target = self.target(pages).await?;
        let mut is_new_enough = false;
        while !is_new_enough {
            if !self.copy_missing(&mut target, told).await? {
                return Ok(None);
            }
            told(Built::Complete);
            target.prove(self.paced()).await?;
            // Proving the whole file takes long; what has changed meanwhile is copied and proven in a moment.
            told(Built::Proven(target.generation()));
            is_new_enough = loop {
                let step = self.next_step().await;
                if self.is_given_up.get() {
                    return Ok(None);
                }
                match step {
                    Step::Finish => break true,
                    Step::Advance(pages) => {
                        advance(&mut target, pages).await?;
                        break false;
                    }
                    Step::Part(..) => return Err(Malformed("a part that wasn't asked for").into()),
                    Step::Wake => {}
                }
            };
        }
        let mut store = target.finish().await?;
        Mark::SnapshotCopied.hit();
        // Both checkpoints of a tree have to be of use.
        store.set_state(store.state().clone());
        self.write(&mut store).await?;
        Ok(Some(store))
    }

    /// Copies until nothing is missing; false if it was given up.
    async fn copy_missing(&self, target: &mut CopyTarget<E>, told: &impl Fn(Built<E>)) -> Result<bool, BuildError> {
        let (mut unsaved, mut is_asked) = (0, false);
        let ask = |target: &CopyTarget<E>| {
            let ((left, all), generation, wanted) = (target.left(), target.generation(), target.next(RANGES_MAX));
            let wants_more = !wanted.is_empty();
            if wants_more {
                told(Built::Until(Place::Pages { generation, wanted }, part_done(all - left, all)));
            }
            wants_more
        };
        while is_asked || ask(target) {
            is_asked = true;
            let step = self.next_step().await;
            if self.is_given_up.get() {
                if unsaved > 0 {
                    target.save().await?;
                }
                return Ok(false);
            }
            match step {
                Step::Part(Place::Pages { wanted, .. }, Content::Pages(CopyPart { pages, until })) => {
                    unsaved += pages.len() as u64;
                    let accepted = target.accept(&wanted, until, pages)?;
                    // The next part is on its way while this one is written.
                    is_asked = ask(target);
                    target.write(accepted, self.paced()).await?;
                }
                Step::Part(..) => return Err(Malformed("records where pages were asked for").into()),
                Step::Advance(pages) => {
                    advance(target, pages).await?;
                    is_asked = false;
                    // What is noted of the older one is soon of no use.
                    unsaved = self.save_bytes;
                }
                Step::Finish | Step::Wake => {}
            }
            if unsaved >= self.save_bytes {
                target.save().await?;
                unsaved = 0;
            }
        }
        Ok(true)
    }

    /// What is there of it, or a new file.
    async fn target(&self, pages: OfferedPages) -> Result<CopyTarget<E>, BuildError> {
        let (env, options) = (self.env.clone(), self.options.clone());
        if let Some(target) =
            CopyTarget::resume(env.clone(), options.clone(), pages.meta.clone(), pages.since.as_ref()).await?
        {
            let (left, all) = target.left();
            plinth_base::log_info!("a snapshot goes on where it was", "blocks_left" => left, "blocks" => all);
            return Ok(target);
        }
        Ok(CopyTarget::create(env, options, pages.meta).await?)
    }

    /// From records; none if it was given up.
    async fn build(&self, told: &impl Fn(Built<E>)) -> Result<Option<Store<E>>, BuildError> {
        CopyTarget::remove(&self.env, &self.options).await?;
        let mut store = Store::create(self.env.clone(), self.options.clone()).await?;
        let mut place = Place::RECORDS;
        told(Built::Until(place.clone(), 0));
        loop {
            let step = self.next_step().await;
            if self.is_given_up.get() {
                drop(store);
                CopyTarget::remove(&self.env, &self.options).await?;
                return Ok(None);
            }
            let (mut records, is_last) = match step {
                Step::Part(_, Content::Records { records, is_last }) => (records, is_last),
                Step::Part(..) | Step::Advance(_) | Step::Finish => {
                    return Err(Malformed("pages where records were asked for").into());
                }
                Step::Wake => continue,
            };
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
                told(Built::Complete);
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
            // How many there are nobody knows; trees come one after the other.
            let done = match &place {
                Place::Records { tree, .. } => part_done(u64::from(*tree), TREES.len() as u64),
                Place::Pages { .. } | Place::Proven { .. } => 0,
            };
            told(Built::Until(place.clone(), done));
        }
    }

    async fn next_step(&self) -> Step {
        loop {
            if let Some(step) = self.steps.take() {
                return step;
            }
            poll_fn(|cx| self.steps.poll_ready(cx)).await;
        }
    }

    async fn put(&self, store: &mut Store<E>, record: &SnapshotRecord) -> Result<(), BuildError> {
        let SnapshotRecord { tree, key, head, body } = record;
        if usize::from(*tree) >= TREES.len() {
            return Err(Malformed("a record of a tree that isn't here").into());
        }
        let pages = put_pages_max(key.len(), body.len());
        let run_bytes = key.len().max(body.len());
        while !store.room(run_bytes).admits_put(pages) {
            let Some(grow) = store.begin_grow(pages + GROW_PAGES, run_bytes) else {
                return Err(TreeError::StorageFull.into());
            };
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
