//! Emptying the tail of the file: what lies there is marked as changed, so that the next checkpoint writes it further to the
//! front, where free pages are taken first. Then the tail is one free run, and punching gives it back.
//!
//! Nothing is lost by a crash: a relocation is a change like any other that says nothing new. Overflow runs of separators
//! longer than an eighth of a page stay where they are.

use std::sync::Arc;

use bytes::Bytes;
use plinth_env::Env;

use crate::{
    error::Missing,
    key::{Pages, RunRef, Runs, find_blob, run_of},
    layout::{DEPTH_MAX, PAGE_BYTES, run_pages},
    leaf::{LeafRef, body_run},
    ledger::Ledger,
    node::{Link, TreeRoot},
    put::Path,
    store::Store,
    way::descend_to_change,
};

/// A walk over all leaves that moves what lies in the tail.
#[derive(Clone, Debug)]
pub struct Relocation {
    /// Pages from here on are the tail.
    cutoff: u64,
    tree: usize,
    /// The next key to look at.
    from: Vec<u8>,
}

/// A run that is to be written elsewhere.
struct Move {
    cell: usize,
    is_key: bool,
    run: RunRef,
    bytes: Bytes,
}

/// What is to be done to one leaf.
struct Step<'p> {
    path: Path,
    clean: Option<&'p [u8]>,
    moves: Vec<Move>,
    /// Whether the leaf, a branch above it, or a run of it lies in the tail.
    is_due: bool,
    /// Where the next leaf begins.
    next: Option<Vec<u8>>,
}

impl<E: Env> Store<E> {
    /// Plans to move what lies behind the size that the file would have if everything were at its front, and `slack_bytes` more:
    /// short free runs don't fit everything. None if nothing does, or while a checkpoint is running.
    #[must_use]
    pub fn begin_relocation(&self, slack_bytes: u64) -> Option<Relocation> {
        let space = self.space.as_ref()?;
        let needed = space.pages() - space.free_pages() - space.holes().ones() + self.ledger.dirty.pages;
        let cutoff = needed + slack_bytes / PAGE_BYTES as u64;
        (space.end() > cutoff).then(|| Relocation { cutoff, tree: 0, from: Vec::new() })
    }

    /// Goes on with it for at most `leaves_max` leaves; true when it has seen all, or when there is no room to move anything. Publish
    /// and checkpoint as after other changes.
    pub fn relocate(&mut self, relocation: &mut Relocation, leaves_max: usize) -> Result<bool, Missing> {
        for _ in 0..leaves_max {
            let pages = Pages { source: &*self.pages, end: self.pages_end(), branches: &self.branches, keeps: true };
            let Some(root) = self.working.roots.get(relocation.tree) else { return Ok(true) };
            let step = plan(root, relocation, pages)?;
            if let Some(step) = &step
                && step.is_due
            {
                let longest = step.moves.iter().map(|it| it.bytes.len()).max().unwrap_or(0);
                let runs: u64 = step.moves.iter().map(|it| u64::from(run_pages(it.bytes.len()))).sum();
                if !self.room(longest).admits_put(DEPTH_MAX as u64 + runs) {
                    return Ok(true);
                }
                let root = &mut self.working.roots[relocation.tree];
                let link = root.link.as_mut().expect("the plan found a leaf");
                step.carry_out(link, root.depth - 1, &mut self.ledger);
                self.changed = true;
            }
            match step.and_then(|step| step.next) {
                Some(next) => relocation.from = next,
                None => {
                    relocation.tree += 1;
                    relocation.from.clear();
                }
            }
        }
        Ok(relocation.tree == self.working.roots.len())
    }
}

fn plan<'p>(root: &TreeRoot, relocation: &Relocation, pages: Pages<'p>) -> Result<Option<Step<'p>>, Missing> {
    let in_tail = |link: &Link| link.disk().is_some_and(|page| page.page.0 >= relocation.cutoff);
    let mut path = Path::default();
    let mut bound = None;
    let mut is_due = root.link.as_ref().is_some_and(in_tail);
    let leaf = descend_to_change(root, &relocation.from, pages, |branch, at| {
        path.push(branch, at);
        is_due |= in_tail(&branch.children[at]);
        if at + 1 < branch.children.len() {
            bound = Some((branch, at));
        }
    })?;
    let Some(link) = leaf else { return Ok(None) };
    let clean = link.clean_image(pages)?;
    let moves = plan_moves(link.leaf(pages)?, relocation.cutoff, pages)?;
    let next = match bound {
        None => None,
        Some((branch, at)) => {
            let runs = Runs { pages, blobs: branch.blobs(), page: None };
            Some(branch.separator(at).bytes(&runs)?.to_vec())
        }
    };
    is_due |= !moves.is_empty();
    Ok(Some(Step { path, clean, moves, is_due, next }))
}

/// The runs of a leaf that lie in the tail, with their bytes.
fn plan_moves<'a>(leaf: LeafRef<'a>, cutoff: u64, pages: Pages<'a>) -> Result<Vec<Move>, Missing> {
    let runs = leaf.runs(pages);
    let mut moves = Vec::new();
    for at in 0..leaf.count() {
        let cell = leaf.cell(at)?;
        for (is_key, run, len) in [(true, cell.key.run, cell.key.len), (false, body_run(&cell.body), cell.body.len())] {
            let Some(run) = run else { continue };
            let place = match run {
                RunRef::Disk(first) => Some(run_of(first, len)),
                RunRef::Blob(id) => find_blob(runs.blobs, id).and_then(|blob| blob.run()),
            };
            if place.is_some_and(|place| place.end().0 > cutoff) {
                moves.push(Move { cell: at, is_key, run, bytes: Bytes::copy_from_slice(runs.bytes(run, len)?) });
            }
        }
    }
    Ok(moves)
}

impl Step<'_> {
    fn carry_out(&self, link: &mut Link, level: usize, ledger: &mut Ledger) {
        if level > 0 {
            let child = &mut link.branch_mut(ledger).children[self.path.at(level)];
            return self.carry_out(child, level - 1, ledger);
        }
        let leaf = link.leaf_mut(self.clean, ledger);
        for it in &self.moves {
            // Copying the leaf may have turned a blob into the pages that it has.
            let cell =
                leaf.view().cell(it.cell).map(|cell| if it.is_key { cell.key.run } else { body_run(&cell.body) });
            match cell.ok().flatten().unwrap_or(it.run) {
                RunRef::Disk(first) => ledger.retire_run(first, it.bytes.len()),
                RunRef::Blob(id) => {
                    let blob: Arc<_> = leaf.take_blob(id);
                    ledger.retire_blob(&blob);
                }
            }
            leaf.replace_run(it.cell, it.is_key, ledger.new_blob(it.bytes.clone()));
        }
    }
}
