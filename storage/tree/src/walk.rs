//! Walking the pages of one durable generation past all caches, and proving each of them: for the checker, and for what a
//! crash may have hit.

use std::{path::Path, sync::Arc};

use plinth_base::{Corrupt, PageRun, crc32c};
use plinth_env::File;

use crate::{
    bitmap::Bitmap,
    branch::{Branch, BranchCount},
    error::TreeError,
    key::{KeyRef, RunRef, run_of},
    layout::{Kind, NO_TREE, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader},
    leaf::{Cell, CellBody, LeafRef},
    meta::Meta,
    node::{PageRef, Totals},
    open::read_run,
    store::{TreeSpec, Weigh},
};

/// A page to be looked at, and what its parent says of it.
struct Task {
    page: PageRef,
    tree: u8,
    level: usize,
    totals: Totals,
    /// Keys below this page are at least `low` and less than `high`.
    low: Arc<[u8]>,
    high: Option<Arc<[u8]>>,
}

/// See the module.
pub(crate) struct Walk<'a, F> {
    pub file: &'a F,
    pub path: &'a Path,
    pub meta: &'a Meta,
    pub specs: &'a [TreeSpec],
    /// Pages that are not looked into, and nothing below them.
    pub skip: Option<&'a Bitmap>,
    /// Pages reached so far.
    pub reached: Bitmap,
}

impl<F: File> Walk<'_, F> {
    /// Looks at every page from the roots down. `pace` is called with the bytes of each read.
    pub async fn run(&mut self, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        for (tree, root) in (0u8..).zip(&self.meta.trees.roots) {
            let Some(link) = &root.link else { continue };
            let page = link.page().expect("a meta names pages");
            let task = Task { page, tree, level: root.depth - 1, totals: link.totals, low: Arc::from([]), high: None };
            self.run_tree(task, pace).await?;
        }
        Ok(())
    }

    async fn run_tree(&mut self, root: Task, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        let mut tasks = vec![root];
        while let Some(task) = tasks.pop() {
            if self.skip.is_some_and(|skip| skip.get(task.page.page.0)) {
                continue;
            }
            let run = PageRun::one(task.page.page);
            let bytes = self.read(task.page, run, PAGE_BYTES, pace).await?;
            let kind = if task.level == 0 { Kind::Leaf } else { Kind::Branch };
            let header = self.check_header(&bytes, run, kind)?;
            if header.tree != task.tree || usize::from(header.level) != task.level {
                let want = format!("tree {} level {}", task.tree, task.level);
                return Err(self.corrupt(task.page, want, format!("tree {} level {}", header.tree, header.level)));
            }
            if task.level == 0 {
                self.check_leaf(&task, &bytes, pace).await?;
            } else {
                self.check_branch(&task, &bytes, &mut tasks, pace).await?;
            }
        }
        Ok(())
    }

    pub fn corrupt(&self, page: PageRef, want: impl Into<String>, got: impl Into<String>) -> TreeError {
        let offset = page.page.0 * PAGE_BYTES as u64;
        Corrupt { file: self.path.to_path_buf(), offset, want: want.into(), got: got.into() }.into()
    }

    /// Marks the run reached, reads it, and compares its checksum.
    async fn read(
        &mut self,
        first: PageRef,
        run: PageRun,
        bytes: usize,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Vec<u8>, TreeError> {
        if run.end().0 > self.meta.pages {
            return Err(self.corrupt(first, format!("a page below {}", self.meta.pages), format!("{run:?}")));
        }
        for page in run.first.0..run.end().0 {
            if self.reached.get(page) {
                return Err(self.corrupt(first, "one way to each page", format!("two to page {page}")));
            }
            self.reached.set(page);
        }
        let read = read_run(self.file, run.first.0 * PAGE_BYTES as u64, bytes).await?;
        pace(bytes).await;
        match crc32c(0, &read) {
            got if got == first.checksum => Ok(read),
            got => Err(self.corrupt(first, format!("checksum {:08x}", first.checksum), format!("{got:08x}"))),
        }
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
    ) -> Result<(), TreeError> {
        let weigh: Weigh = self.specs[usize::from(task.tree)].weigh;
        let leaf = LeafRef::of_page(bytes, task.page).map_err(|_| self.corrupt(task.page, "a leaf", "another page"))?;
        leaf.check(self.meta.pages).map_err(|error| self.corrupt(task.page, "a leaf", error.0))?;
        let mut totals = Totals::default();
        let mut before: Option<Vec<u8>> = None;
        for at in 0..leaf.count() {
            let cell = leaf.cell(at).map_err(|_| self.corrupt(task.page, "a cell", "bytes that are none"))?;
            totals += cell.totals(weigh);
            let key = self.key(&cell.key, task.page, pace).await?;
            let ordered = before.as_ref().is_none_or(|before| *before < key);
            if !ordered || !in_bounds(&key, task) {
                return Err(self.corrupt(task.page, "keys in order", format!("key {at} out of order")));
            }
            before = Some(key);
            self.check_body(&cell, pace).await?;
        }
        self.check_totals(task, totals)
    }

    async fn check_body(&mut self, cell: &Cell<'_>, pace: &mut impl AsyncFnMut(usize)) -> Result<(), TreeError> {
        match cell.body {
            // A body that an older checkpoint wrote and a newer leaf refers to.
            CellBody::Run(RunRef::Disk(first), _) if self.skip.is_some_and(|skip| skip.get(first.page.0)) => Ok(()),
            CellBody::Run(RunRef::Disk(first), len) => self.run_payload(first, len, pace).await.map(|_| ()),
            CellBody::Run(RunRef::Blob(_), _) | CellBody::Inline(_) => Ok(()),
        }
    }

    /// The payload of an overflow run.
    async fn run_payload(
        &mut self,
        first: PageRef,
        len: usize,
        pace: &mut impl AsyncFnMut(usize),
    ) -> Result<Vec<u8>, TreeError> {
        let run = run_of(first, len);
        let mut bytes = self.read(first, run, PAGE_HEADER_BYTES + len, pace).await?;
        let header = self.check_header(&bytes, run, Kind::Overflow)?;
        if header.tree != NO_TREE {
            return Err(self.corrupt(first, "an overflow run of no single tree", format!("tree {}", header.tree)));
        }
        Ok(bytes.split_off(PAGE_HEADER_BYTES))
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
                let whole = if self.skip.is_some_and(|skip| skip.get(first.page.0)) {
                    // Not reached again, but needed to see the order of keys.
                    self.peek(first, key.len, pace).await?
                } else {
                    self.run_payload(first, key.len, pace).await?
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
        if crc32c(0, &read) != first.checksum {
            return Err(self.corrupt(first, format!("checksum {:08x}", first.checksum), "another one"));
        }
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
            tasks.push(Task { page, tree, level, totals, low: Arc::clone(&low), high: high.clone() });
            low = high.unwrap_or_else(|| Arc::from([]));
        }
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
