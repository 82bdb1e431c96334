//! After a crash: proving what the newest checkpoint wrote, before the owner gives up the log behind it. And of a copy, what has come.
//!
//! A disk that lost a write it had confirmed shows here, while everything needed to go on from the older checkpoint still exists.

use std::path::Path;

use plinth_base::PageId;
use plinth_env::{Env, OpenMode, OpenOptions};

use crate::{
    bitmap::Bitmap,
    error::TreeError,
    meta::{META_PAGES, Meta},
    node::PageRef,
    open::read_bitmaps,
    pins::Pin,
    store::{Store, StoreOptions, TreeSpec},
    walk::{Ahead, Walk, Whole},
};

/// A verification of the newest checkpoint: run it as a background task. Its pages stay what they are meanwhile.
#[must_use = "does nothing until it is run"]
pub struct Verify<E: Env> {
    env: E,
    options: StoreOptions,
    newest: Meta,
    older: Option<Meta>,
    _pin: Pin,
}

impl<E: Env> Store<E> {
    /// Begins to verify what the newest checkpoint wrote; all of its pages if there is no older one to compare with. Until it has
    /// ended no checkpoint may begin: that would replace the older one.
    pub fn begin_verify(&self) -> Verify<E> {
        Verify {
            env: self.env.clone(),
            options: self.options.clone(),
            newest: self.newest.clone(),
            older: self.older.clone(),
            _pin: self.pins.pin(),
        }
    }
}

impl<E: Env> Verify<E> {
    /// Reads past the page cache and returns how many pages were proven. After each read `pace` is called with its bytes.
    pub async fn run(self, pace: impl AsyncFnMut(usize)) -> Result<u64, TreeError> {
        let Self { env, options, newest, older, _pin } = self;
        let proven = match &older {
            Some(older) => {
                let file = env.open(&options.path, OpenOptions::direct(OpenMode::Read)).await?;
                read_bitmaps(&file, older, &options.path).await?.0
            }
            None => Bitmap::default(),
        };
        prove(&env, &options.path, (&newest, options.trees), &proven, pace).await.map(|(_, count)| count)
    }
}

/// Proves the pages of a generation past the page cache, but for those that were proven as pages of another one which has them as they are, and that its bitmap agrees
/// with them. Returns that, and how many were looked at.
pub(crate) async fn prove<E: Env>(
    env: &E,
    path: &Path,
    (meta, specs): (&Meta, &[TreeSpec]),
    proven: &Bitmap,
    mut pace: impl AsyncFnMut(usize),
) -> Result<(Bitmap, u64), TreeError> {
    let file = env.open(path, OpenOptions::direct(OpenMode::Read)).await?;
    let (used, _) = read_bitmaps(&file, meta, path).await?;
    let scope = Whole { skip: Some(proven), reached: Bitmap::new(meta.pages) };
    let mut walk = Walk { file: &file, path, meta, specs, scope, ahead: Ahead::default() };
    walk.run(&mut pace).await?;
    let run = meta.bitmap_run();
    let is_of_trees = |page: &u64| *page >= META_PAGES && !(run.first.0..run.end().0).contains(page);
    let reached = &walk.scope.reached;
    let is_wrong = |page: &u64| (used.get(*page) && !proven.get(*page)) != reached.get(*page);
    if let Some(page) = (0..meta.pages).filter(is_of_trees).find(is_wrong) {
        let at = PageRef { page: PageId(page), checksum: 0 };
        return Err(walk.corrupt(at, "a bitmap that agrees with the trees", format!("page {page} is different")));
    }
    let count = reached.ones();
    Ok((used, count))
}
