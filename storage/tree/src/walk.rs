//! Walking the pages of one durable generation past all caches, and proving each of them: for the checker, for what a crash may have hit,
//! and for the scrub. What they have in common is here; which pages each of them looks at its [`Scope`] says.
//!
//! Pages come in key order. At most one key, one piece of a long body and 64 leaves that come next are in memory, and the ways that were not taken yet.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures_util::future::join_all;
use plinth_base::{AlignedBuf, Corrupt, PageId, PageRun, crc32c, limits::IO_BYTES_MAX};
use plinth_env::File;

use crate::{
    bitmap::Bitmap,
    branch::{Branch, BranchCount},
    error::TreeError,
    key::{KeyRef, RunRef, run_of},
    layout::{Kind, NO_TREE, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader},
    leaf::{CellBody, LeafRef},
    meta::Meta,
    node::{PageRef, Totals},
    open::read_run,
    store::{TreeSpec, Weigh},
};

/// A page to be looked at, and what its parent says of it.
pub(crate) struct Task {
    page: PageRef,
    tree: u8,
    level: usize,
    pub totals: Totals,
    /// Keys below this page are at least `low` and less than `high`.
    low: Arc<[u8]>,
    pub high: Option<Arc<[u8]>>,
}

impl Task {
    pub fn is_leaf(&self) -> bool {
        self.level == 0
    }
}

/// Which pages a walk looks at.
pub(crate) trait Scope {
    /// Whether a page, and all below it, is passed over: it was proven when it was written.
    fn skips(&self, page: PageId) -> bool;

    /// A run is about to be read. The error is a page of it that was reached before.
    fn reach(&mut self, run: PageRun) -> Result<(), u64>;

    /// Whether a child with these totals, whose keys are below `high`, is passed over: its turn was earlier.
    fn passes(&mut self, _totals: Totals, _high: Option<&[u8]>) -> bool {
        false
    }

    /// What to do about the long body at `key`.
    fn body(&mut self, _key: &[u8]) -> BodyTurn {
        BodyTurn::Now
    }
}

/// When a long body is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyTurn {
    Earlier,
    Now,
    /// And all behind it.
    Later,
}

/// How far a page was proven.
pub(crate) enum Proven {
    All,
    /// A leaf, up to the long body of this key; what the entries before it come to.
    UpTo(Vec<u8>, Totals),
}

/// Every page is looked at but for some, and each may be reached once.
pub(crate) struct Whole<'a> {
    /// Pages that are not looked into, and nothing below them.
    pub skip: Option<&'a Bitmap>,
    /// Pages reached so far.
    pub reached: Bitmap,
}

impl Scope for Whole<'_> {
    fn skips(&self, page: PageId) -> bool {
        self.skip.is_some_and(|skip| skip.get(page.0))
    }

    fn reach(&mut self, run: PageRun) -> Result<(), u64> {
        for page in run.first.0..run.end().0 {
            if self.reached.get(page) {
                return Err(page);
            }
            self.reached.set(page);
        }
        Ok(())
    }
}

/// Leaves that were read before their turn: those behind the one whose turn it is, whose reads would otherwise wait for each other.
#[derive(Default)]
pub(crate) struct Ahead(BTreeMap<u64, Vec<u8>>);

/// How many pages are read ahead at once.
const AHEAD_PAGES: usize = 64;

/// See the module.
pub(crate) struct Walk<'a, F, S> {
    pub file: &'a F,
    pub path: &'a Path,
    pub meta: &'a Meta,
    pub specs: &'a [TreeSpec],
    pub scope: S,
    pub ahead: Ahead,
}

impl<F: File, S: Scope> Walk<'_, F, S> {
    /// Looks at every page from the roots down. `pace` is called with the bytes of each read.
    pub async fn run(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        for tree in 0..self.meta.trees.roots.len() {
            let mut tasks: Vec<_> = self.root(tree).into_iter().collect();
            loop {
                self.read_ahead(&tasks, pace).await;
                let Some(task) = tasks.pop() else { break };
                self.prove(&task, &mut tasks, pace).await?;
            }
        }
        Ok(())
    }

    /// Reads the leaf whose turn is next, and those behind it that follow without a branch between them. What can't be read is read again when its turn comes, and
    /// is an error then.
    async fn read_ahead(&mut self, tasks: &[Task], pace: &mut impl AsyncFnMut(usize)) {
        let Some(next) = tasks.last().filter(|next| next.is_leaf()) else { return };
        if self.ahead.0.contains_key(&next.page.page.0) || self.scope.skips(next.page.page) {
            return;
        }
        self.ahead.0.clear();
        let leaves = tasks.iter().rev().take_while(|task| task.is_leaf()).map(|task| task.page.page);
        let is_read = |page: &PageId| page.0 < self.meta.pages && !self.scope.skips(*page);
        let mut pages: Vec<u64> = leaves.take(AHEAD_PAGES).filter(is_read).map(|page| page.0).collect();
        pages.sort_unstable();
        let runs: Vec<&[u64]> = pages.chunk_by(|page, next| page + 1 == *next).collect();
        let reads = runs.iter().map(|run| read_run(self.file, run[0] * PAGE_BYTES as u64, run.len() * PAGE_BYTES));
        for (run, read) in runs.iter().zip(join_all(reads).await) {
            let Ok(read) = read else { continue };
            pace(read.len()).await;
            let pages = read.chunks_exact(PAGE_BYTES).map(<[u8]>::to_vec);
            self.ahead.0.extend(run.iter().copied().zip(pages));
        }
    }

    /// The root of a tree, if anything is in it.
    pub fn root(&self, tree: usize) -> Option<Task> {
        let root = &self.meta.trees.roots[tree];
        let link = root.link.as_ref()?;
        let page = link.page().expect("a meta names pages");
        let tree = u8::try_from(tree).expect("at most TREES_MAX");
        Some(Task { page, tree, level: root.depth - 1, totals: link.totals, low: Arc::from([]), high: None })
    }

    /// Proves a page and what hangs on it alone. Its children go onto `tasks`, the first one on top.
    pub async fn prove(
        &mut self,
        task: &Task,
        tasks: &mut Vec<Task>,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Proven, TreeError> {
        if self.scope.skips(task.page.page) {
            return Ok(Proven::All);
        }
        let run = PageRun::one(task.page.page);
        let bytes = self.read(task.page, run, PAGE_BYTES, pace).await?;
        let kind = if task.is_leaf() { Kind::Leaf } else { Kind::Branch };
        let header = self.check_header(&bytes, run, kind)?;
        if header.tree != task.tree || usize::from(header.level) != task.level {
            let want = format!("tree {} level {}", task.tree, task.level);
            return Err(self.corrupt(task.page, want, format!("tree {} level {}", header.tree, header.level)));
        }
        if task.is_leaf() {
            return self.check_leaf(task, &bytes, pace).await;
        }
        self.check_branch(task, &bytes, tasks, pace).await?;
        Ok(Proven::All)
    }

    pub fn corrupt(&self, page: PageRef, want: impl Into<String>, got: impl Into<String>) -> TreeError {
        let offset = page.page.0 * PAGE_BYTES as u64;
        Corrupt { file: self.path.to_path_buf(), offset, want: want.into(), got: got.into() }.into()
    }

    fn reach(&mut self, first: PageRef, run: PageRun) -> Result<(), TreeError> {
        if run.end().0 > self.meta.pages {
            return Err(self.corrupt(first, format!("a page below {}", self.meta.pages), format!("{run:?}")));
        }
        let reached = self.scope.reach(run);
        reached.map_err(|page| self.corrupt(first, "one way to each page", format!("two to page {page}")))
    }

    /// Notes the run as reached, reads it, and compares its checksum.
    async fn read(
        &mut self,
        first: PageRef,
        run: PageRun,
        bytes: usize,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Vec<u8>, TreeError> {
        self.reach(first, run)?;
        let read = match self.ahead.0.remove(&run.first.0).filter(|read| read.len() == bytes) {
            Some(read) => read,
            None => {
                let read = read_run(self.file, run.first.0 * PAGE_BYTES as u64, bytes).await?;
                pace(bytes).await;
                read
            }
        };
        self.check_sum(first, crc32c(0, &read))?;
        Ok(read)
    }

    fn check_sum(&self, first: PageRef, got: u32) -> Result<(), TreeError> {
        if got == first.checksum {
            return Ok(());
        }
        Err(self.corrupt(first, format!("checksum {:08x}", first.checksum), format!("{got:08x}")))
    }

    /// Proves a run that holds `payload_bytes`, piece by piece: it may be far longer than what should be in memory for it.
    pub async fn prove_run(
        &mut self,
        kind: Kind,
        first: PageRef,
        payload_bytes: usize,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let run = run_of(first, payload_bytes);
        self.reach(first, run)?;
        let bytes = PAGE_HEADER_BYTES + payload_bytes;
        let mut header = Vec::new();
        let mut sum = 0;
        let mut at = 0;
        while at < bytes {
            let piece = (bytes - at).min(IO_BYTES_MAX);
            let offset = run.first.0 * PAGE_BYTES as u64 + at as u64;
            let (result, buf) = self.file.read_at(offset, AlignedBuf::zeroed(piece)).await;
            result?;
            let read = &buf.as_slice()[..piece];
            sum = crc32c(sum, read);
            if at == 0 {
                header.extend_from_slice(&read[..PAGE_HEADER_BYTES]);
            }
            at += piece;
            pace(piece).await;
        }
        self.check_sum(first, sum)?;
        self.check_run_header(first, run, kind, &header)
    }

    fn check_run_header(&self, first: PageRef, run: PageRun, kind: Kind, bytes: &[u8]) -> Result<(), TreeError> {
        let header = self.check_header(bytes, run, kind)?;
        if header.tree == NO_TREE {
            return Ok(());
        }
        Err(self.corrupt(first, "a run of no single tree", format!("tree {}", header.tree)))
    }

    fn check_header(&self, bytes: &[u8], run: PageRun, kind: Kind) -> Result<PageHeader, TreeError> {
        let page = PageRef { page: run.first, checksum: 0 };
        let header = PageHeader::decode(bytes).map_err(|error| self.corrupt(page, "a page", error.0))?;
        let sound = header.kind == kind
            && header.page == run.first
            && header.file_id == self.meta.file_id
            && header.generation <= self.meta.generation;
        if sound {
            return Ok(header);
        }
        let (id, generation) = (self.meta.file_id, self.meta.generation);
        let want = format!("{kind:?} page {} of file {id:016x}, generation up to {generation}", run.first);
        Err(self.corrupt(page, want, format!("{header:?}")))
    }

    async fn check_leaf(
        &mut self,
        task: &Task,
        bytes: &[u8],
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Proven, TreeError> {
        let weigh: Weigh = self.specs[usize::from(task.tree)].weigh;
        let leaf = LeafRef::of_page(bytes, task.page).map_err(|_| self.corrupt(task.page, "a leaf", "another page"))?;
        leaf.check(self.meta.pages).map_err(|error| self.corrupt(task.page, "a leaf", error.0))?;
        let mut totals = Totals::default();
        let mut before: Option<Vec<u8>> = None;
        for at in 0..leaf.count() {
            let cell = leaf.cell(at).map_err(|_| self.corrupt(task.page, "a cell", "bytes that are none"))?;
            let key = self.key(&cell.key, task.page, pace).await?;
            let ordered = before.as_ref().is_none_or(|before| *before < key);
            if !ordered || !in_bounds(&key, task) {
                return Err(self.corrupt(task.page, "keys in order", format!("key {at} out of order")));
            }
            if let CellBody::Run(RunRef::Disk(first), len) = cell.body {
                match self.scope.body(&key) {
                    BodyTurn::Earlier => {}
                    // A body that an older checkpoint wrote and a newer leaf refers to.
                    BodyTurn::Now if self.scope.skips(first.page) => {}
                    BodyTurn::Now => self.prove_run(Kind::Overflow, first, len, pace).await?,
                    BodyTurn::Later => return Ok(Proven::UpTo(key, totals)),
                }
            }
            totals += cell.totals(weigh);
            before = Some(key);
        }
        self.check_totals(task, totals)?;
        Ok(Proven::All)
    }

    /// A whole key, its overflow run proven.
    async fn key(
        &mut self,
        key: &KeyRef<'_>,
        page: PageRef,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Vec<u8>, TreeError> {
        match key.run {
            None => Ok(key.inline.to_vec()),
            Some(RunRef::Blob(_)) => Err(self.corrupt(page, "a run with pages", "one without")),
            Some(RunRef::Disk(first)) => {
                let whole = if self.scope.skips(first.page) {
                    // Not reached again, but needed to see the order of keys.
                    self.peek(first, key.len, pace).await?
                } else {
                    let run = run_of(first, key.len);
                    let mut bytes = self.read(first, run, PAGE_HEADER_BYTES + key.len, pace).await?;
                    self.check_run_header(first, run, Kind::Overflow, &bytes)?;
                    bytes.split_off(PAGE_HEADER_BYTES)
                };
                if !whole.starts_with(key.inline) {
                    return Err(self.corrupt(page, "a prefix of the key", "another prefix"));
                }
                Ok(whole)
            }
        }
    }

    async fn peek(&self, first: PageRef, len: usize, pace: &mut impl AsyncFnMut(usize)) -> Result<Vec<u8>, TreeError> {
        let mut read = read_run(self.file, first.page.0 * PAGE_BYTES as u64, PAGE_HEADER_BYTES + len).await?;
        pace(read.len()).await;
        self.check_sum(first, crc32c(0, &read))?;
        Ok(read.split_off(PAGE_HEADER_BYTES))
    }

    async fn check_branch(
        &mut self,
        task: &Task,
        bytes: &[u8],
        tasks: &mut Vec<Task>,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<(), TreeError> {
        let branch = Branch::decode(bytes, task.page.page, self.meta.pages, &BranchCount::default())
            .map_err(|error| self.corrupt(task.page, "a branch", error.0))?;
        self.check_totals(task, branch.totals())?;
        let mut low = Arc::clone(&task.low);
        let first = tasks.len();
        for (at, child) in branch.children.iter().enumerate() {
            let high = if at + 1 < branch.children.len() {
                let key = self.key(&branch.separator(at), task.page, pace).await?;
                if *key <= *low || !in_bounds(&key, task) {
                    return Err(self.corrupt(task.page, "separators in order", format!("separator {at} out of order")));
                }
                Some(Arc::from(key))
            } else {
                task.high.clone()
            };
            let page = child.page().expect("a decoded branch names pages");
            let (tree, level, totals) = (task.tree, task.level - 1, child.totals);
            if !self.scope.passes(totals, high.as_deref()) {
                tasks.push(Task { page, tree, level, totals, low: Arc::clone(&low), high: high.clone() });
            }
            low = high.unwrap_or_else(|| Arc::from([]));
        }
        tasks[first..].reverse();
        Ok(())
    }

    fn check_totals(&self, task: &Task, got: Totals) -> Result<(), TreeError> {
        if got == task.totals {
            Ok(())
        } else {
            Err(self.corrupt(task.page, format!("{:?}", task.totals), format!("{got:?}")))
        }
    }
}

fn in_bounds(key: &[u8], task: &Task) -> bool {
    *task.low <= *key && task.high.as_ref().is_none_or(|high| *key < **high)
}
