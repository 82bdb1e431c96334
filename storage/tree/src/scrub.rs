//! The scrub: all pages of a file proven beside the work, a little at a time, so that rot is found while somebody else still has what
//! was there.
//!
//! A *pass* goes through the file once: the metas, the bitmap, then tree by tree in key order. It is made of *slices*. Each one pins the newest
//! durable generation, goes from the root down to where the last one stopped, and proves about so many bytes from there on, past the page cache.
//! Its pin is gone with it: a pass may take a day, and no page waits that long to be used again.
//!
//! Invariants:
//! - A slice gets further than the one before, whatever became of the tree between them: it ends behind a leaf, or behind a long body.
//! - Whatever stays where it is in key order during a pass is proven by it, also when it is written elsewhere meanwhile. A long body that moves
//!   to a place where the pass has been is left to the next one.
//! - What a slice calls wrong is wrong in the generation that it pinned. The meta pages alone no pin protects; see [`Store::finish_scrub`].
//! - Memory is bounded by the limits of a key and of a branch, not by the file or a value.
//!
//! Two things only the whole of a generation can tell, so a scrub can't, and the checker does: that each page is reached only once, and that
//! the bitmap says what is reached. A crash loses how far a pass was.

use plinth_base::{PageId, PageRun};
use plinth_env::{Env, OpenMode, OpenOptions};

use crate::{
    error::TreeError,
    layout::{Kind, PAGE_BYTES},
    meta::{META_PAGES, Meta},
    node::{PageRef, Totals, TreeRoot},
    open::read_run,
    pins::Pin,
    store::{Store, StoreOptions},
    walk::{Ahead, BodyTurn, Proven, Scope, Task, Walk},
};

/// How far a pass is. The default is its beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubPlace(Stage);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Metas,
    Bitmap,
    /// In the tree with this number, at this key.
    Tree(usize, Vec<u8>),
}

/// A slice that was begun: run it as a background task and hand the result to [`Store::finish_scrub`].
#[must_use = "does nothing until it is run"]
pub struct Scrub<E: Env> {
    env: E,
    options: StoreOptions,
    meta: Meta,
    /// Those whose pages nobody was about to write when the slice began.
    metas: Vec<Meta>,
    place: ScrubPlace,
    bytes_max: u64,
    _pin: Pin,
}

/// A slice that was run.
#[must_use = "goes to Store::finish_scrub"]
pub struct ScrubDone {
    slice: ScrubSlice,
    /// The generation whose meta page is what is wrong, if it is one.
    wrong_meta: Option<u64>,
}

/// What a slice has found.
#[derive(Debug)]
pub struct ScrubSlice {
    /// Where the pass goes on, behind what was found to be wrong; None at its end.
    pub next: Option<ScrubPlace>,
    /// Pages that were read. The ways down from the roots are read again by each slice.
    pub pages: u64,
    /// How much of the pass is done, in millionths.
    pub progress_ppm: u32,
    /// What ended the slice early: stored bytes that can't be right, or a file that can't be read. What lies behind the page that it is about,
    /// or hangs on the same leaf, was not looked at.
    pub error: Option<TreeError>,
}

impl<E: Env> Store<E> {
    /// Begins a slice of about `bytes_max` bytes.
    pub fn begin_scrub(&self, place: ScrubPlace, bytes_max: u64) -> Scrub<E> {
        let metas = [Some(&self.newest), self.older.as_ref()].into_iter().flatten();
        let metas = metas.filter(|meta| self.keeps_meta(meta.generation)).cloned().collect();
        let (env, options, meta, _pin) =
            (self.env.clone(), self.options.clone(), self.newest.clone(), self.pin_newest());
        Scrub { env, options, meta, metas, place, bytes_max, _pin }
    }

    /// What the slice has found. A meta page that looked wrong may have been read while it was written: that counts only if no checkpoint that
    /// writes there has begun since.
    #[must_use]
    pub fn finish_scrub(&self, done: ScrubDone) -> ScrubSlice {
        let mut slice = done.slice;
        if done.wrong_meta.is_some_and(|generation| !self.keeps_meta(generation)) {
            slice.error = None;
        }
        slice
    }

    /// Whether the meta page of this generation is still as it was written, and stays so until another checkpoint begins.
    fn keeps_meta(&self, generation: u64) -> bool {
        let begun = self.newest.generation + u64::from(self.frozen.is_some());
        begun < generation + META_PAGES
    }
}

impl<E: Env> Scrub<E> {
    /// Reads and proves. After each read `pace` is called with its bytes.
    pub async fn run(self, mut pace: impl AsyncFnMut(usize)) -> ScrubDone {
        let mut window = Window { bytes_max: self.bytes_max, ..Window::default() };
        let mut next = Some(self.place.0.clone());
        let error = self.prove(&mut next, &mut window, &mut pace).await.err();
        let sizes: Vec<u64> = self.meta.trees.roots.iter().map(|root| size(TreeRoot::totals(root))).collect();
        let progress_ppm = match &next {
            None => 1_000_000,
            Some(Stage::Tree(tree, _)) => {
                let trees_before: u64 = sizes.iter().take(*tree).sum();
                let in_tree = if window.tree == *tree { size(window.before) } else { 0 };
                parts_per_million(trees_before + in_tree, sizes.iter().sum())
            }
            Some(Stage::Metas | Stage::Bitmap) => 0,
        };
        let slice = ScrubSlice { next: next.map(ScrubPlace), pages: window.pages, progress_ppm, error };
        ScrubDone { wrong_meta: window.meta.filter(|_| slice.error.is_some()), slice }
    }

    /// Goes on from `next`, which always says what comes behind the page that is being proven.
    async fn prove(
        &self,
        next: &mut Option<Stage>,
        window: &mut Window,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let path = &self.options.path;
        let file = self.env.open(path, OpenOptions::direct(OpenMode::Read)).await?;
        let mut walk = Walk {
            file: &file,
            path,
            meta: &self.meta,
            specs: self.options.trees,
            scope: window,
            ahead: Ahead::default(),
        };
        while let Some(stage) = next.take() {
            match stage {
                Stage::Metas => {
                    *next = Some(Stage::Bitmap);
                    for meta in &self.metas {
                        self.prove_meta(&mut walk, meta, pace).await?;
                    }
                }
                Stage::Bitmap => {
                    *next = self.tree_from(0);
                    let payload_bytes = Meta::bitmap_bytes(self.meta.pages);
                    walk.prove_run(Kind::Bitmap, self.meta.bitmap, payload_bytes, pace).await?;
                    walk.scope.has_advanced = true;
                }
                Stage::Tree(tree, key) => {
                    *next = self.tree_from(tree + 1);
                    walk.scope.begin_tree(tree, key);
                    self.prove_tree(&mut walk, next, pace).await?;
                }
            }
            if walk.scope.is_spent() && walk.scope.has_advanced {
                break;
            }
        }
        Ok(())
    }

    /// The first tree from `first` on that has anything in it.
    fn tree_from(&self, first: usize) -> Option<Stage> {
        let roots = &self.meta.trees.roots;
        let found = (first..roots.len()).find(|tree| roots[*tree].link.is_some());
        found.map(|tree| Stage::Tree(tree, Vec::new()))
    }

    async fn prove_meta(
        &self,
        walk: &mut Walk<'_, E::File, &mut Window>,
        meta: &Meta,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let page = PageRef { page: meta.slot(), checksum: 0 };
        walk.scope.meta = Some(meta.generation);
        let read = read_run(walk.file, page.page.0 * PAGE_BYTES as u64, PAGE_BYTES).await?;
        pace(PAGE_BYTES).await;
        if read != meta.encode(self.options.trees) {
            return Err(walk.corrupt(page, format!("the meta of generation {}", meta.generation), "other bytes"));
        }
        walk.scope.meta = None;
        walk.scope.count(1);
        Ok(())
    }

    /// Goes through a tree from the window's key on, until the window is spent.
    async fn prove_tree(
        &self,
        walk: &mut Walk<'_, E::File, &mut Window>,
        next: &mut Option<Stage>,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let tree = walk.scope.tree;
        let mut tasks: Vec<Task> = walk.root(tree).into_iter().collect();
        while let Some(task) = tasks.pop() {
            // If it is wrong, the pass goes on behind all that it leads to.
            *next = match &task.high {
                Some(high) => Some(Stage::Tree(tree, high.to_vec())),
                None => self.tree_from(tree + 1),
            };
            match walk.prove(&task, &mut tasks, pace).await {
                Err(error) => {
                    walk.scope.before += task.totals;
                    return Err(error);
                }
                Ok(Proven::UpTo(key, before)) => {
                    walk.scope.before += before;
                    *next = Some(Stage::Tree(tree, key));
                    return Ok(());
                }
                Ok(Proven::All) if task.is_leaf() => {
                    walk.scope.before += task.totals;
                    walk.scope.has_advanced = true;
                    if walk.scope.is_spent() {
                        return Ok(());
                    }
                }
                Ok(Proven::All) => {}
            }
        }
        Ok(())
    }
}

/// What a slice looks at: keys from some place on, until it has read enough.
#[derive(Default)]
struct Window {
    bytes_max: u64,
    pages: u64,
    /// The tree that it is in.
    tree: usize,
    /// What sorts before was proven by earlier slices.
    from: Vec<u8>,
    /// What is done of this tree.
    before: Totals,
    /// Something was proven that the next slice need not look at again.
    has_advanced: bool,
    /// The generation whose meta page is being proven.
    meta: Option<u64>,
}

impl Window {
    fn begin_tree(&mut self, tree: usize, from: Vec<u8>) {
        (self.tree, self.from, self.before) = (tree, from, Totals::default());
    }

    fn count(&mut self, pages: u64) {
        self.pages += pages;
    }

    fn is_spent(&self) -> bool {
        self.pages * PAGE_BYTES as u64 >= self.bytes_max
    }
}

impl Scope for &mut Window {
    fn skips(&self, _page: PageId) -> bool {
        false
    }

    fn reach(&mut self, run: PageRun) -> Result<(), u64> {
        self.count(u64::from(run.count));
        Ok(())
    }

    fn passes(&mut self, totals: Totals, high: Option<&[u8]>) -> bool {
        let passes = high.is_some_and(|high| *high <= *self.from);
        if passes {
            self.before += totals;
        }
        passes
    }

    fn body(&mut self, key: &[u8]) -> BodyTurn {
        if *key < *self.from {
            return BodyTurn::Earlier;
        }
        if self.is_spent() && self.has_advanced {
            return BodyTurn::Later;
        }
        self.has_advanced = true;
        BodyTurn::Now
    }
}

/// What entries count in a pass's progress: small ones take room too.
fn size(totals: Totals) -> u64 {
    totals.entries.saturating_mul(16).saturating_add(totals.weight)
}

fn parts_per_million(part: u64, whole: u64) -> u32 {
    let ppm = u128::from(part.min(whole)) * 1_000_000 / u128::from(whole.max(1));
    u32::try_from(ppm).expect("at most a million")
}
