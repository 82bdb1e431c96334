//! After a crash: proving what the newest checkpoint wrote, before the owner gives up the log behind it.
//!
//! A disk that lost a write it had confirmed shows here, while everything needed to go on from the older checkpoint still exists.

use plinth_env::{Env, OpenMode, OpenOptions};

use crate::{
    bitmap::Bitmap,
    error::TreeError,
    meta::Meta,
    open::read_bitmaps,
    space::Pin,
    store::{Store, StoreOptions},
    walk::{Ahead, Walk, Whole},
};

/// A verification of the newest checkpoint: run it as a background task. Its pages stay what they are meanwhile.
#[must_use = "does nothing until it is run"]
pub struct Verify<E: Env> {
    pub(crate) env: E,
    pub(crate) options: StoreOptions,
    pub(crate) newest: Meta,
    pub(crate) older: Option<Meta>,
    /// None of a file that nobody writes to.
    pub(crate) _pin: Option<Pin>,
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
            _pin: Some(self.pins.pin()),
        }
    }
}

impl<E: Env> Verify<E> {
    /// Reads past the page cache and returns how many pages were proven. After each read `pace` is called with its bytes.
    pub async fn run(self, mut pace: impl AsyncFnMut(usize)) -> Result<u64, TreeError> {
        let file = self.env.open(&self.options.path, OpenOptions::direct(OpenMode::Read)).await?;
        let path = &self.options.path;
        let (mut used, _) = read_bitmaps(&file, &self.newest, path).await?;
        let skip = match &self.older {
            Some(older) => read_bitmaps(&file, older, path).await?.0,
            None => Bitmap::default(),
        };
        let scope = Whole { skip: Some(&skip), reached: Bitmap::new(self.newest.pages) };
        let mut walk =
            Walk { file: &file, path, meta: &self.newest, specs: self.options.trees, scope, ahead: Ahead::default() };
        walk.run(&mut pace).await?;
        let run = self.newest.bitmap_run();
        (run.first.0..run.end().0).for_each(|page| used.clear(page));
        let new = |page: u64| used.get(page) && !skip.get(page) && page >= crate::meta::META_PAGES;
        let reached = &walk.scope.reached;
        if let Some(page) = (0..self.newest.pages).find(|&page| new(page) != reached.get(page)) {
            let at = crate::node::PageRef { page: plinth_base::PageId(page), checksum: 0 };
            return Err(walk.corrupt(at, "a bitmap that agrees with the trees", format!("page {page} is different")));
        }
        Ok(reached.ones())
    }
}
