//! Putting an entry: first a plan, which may find pages missing, then the change, which can't fail.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{
    branch::{Branch, BranchCount},
    error::Missing,
    key::{Pages, RunRef, is_long, key_cell_bytes, put_key, separator},
    layout::{BRANCH_CAPACITY_BYTES, CELL_BYTES_MAX, DEPTH_MAX, HEAD_BYTES_MAX, LEAF_CAPACITY_BYTES},
    leaf::{CellBody, Leaf, LeafRef, cell_cost, put_value, used_bytes, value_cell_bytes},
    ledger::Ledger,
    node::{Blob, Link, NodeBody, Totals, TreeRoot},
    separators::Separator,
    store::Weigh,
    value::{BodyPlace, Detached, DetachedBody, NewBody, NewValue, ValueRef},
    way::descend_to_change,
};

/// The child taken at each branch, from the root down.
#[derive(Clone, Copy, Default)]
pub(crate) struct Path {
    steps: [u16; DEPTH_MAX],
    len: usize,
    /// Whether some step left children to its right.
    inner: bool,
}

impl Path {
    pub fn push(&mut self, branch: &Branch, at: usize) {
        self.steps[self.len] = u16::try_from(at).expect("a page has fewer children");
        self.len += 1;
        self.inner |= at + 1 < branch.children.len();
    }

    /// The child taken at a branch of this level; the leaf's level is 0.
    pub fn at(&self, level: usize) -> usize {
        usize::from(self.steps[self.len - level])
    }
}

/// Where a leaf is cut: counted with the new cell in it.
struct Split {
    cut: usize,
    separator: Vec<u8>,
}

/// A put that has everything it needs in memory.
struct Put<'v, 'p> {
    key: &'v [u8],
    value: NewValue<'v>,
    weigh: Weigh,
    path: Path,
    clean: Option<&'p [u8]>,
    /// The entry that is replaced, or where the new one goes.
    at: Result<usize, usize>,
    split: Option<Split>,
    old: Option<Detached>,
    added: Totals,
    removed: Totals,
}

/// Puts `body` at `key`, behind the head that `head` makes of what is there, and returns what was there. `Missing` comes before
/// anything is changed.
pub(crate) fn put<H: AsRef<[u8]>>(
    root: &mut TreeRoot,
    key: &[u8],
    body: NewBody<'_>,
    head: impl FnOnce(Option<ValueRef<'_>>) -> H,
    weigh: Weigh,
    pages: Pages<'_>,
    ledger: &mut Ledger,
) -> Result<Option<Detached>, Missing> {
    let mut path = Path::default();
    let link = descend_to_change(root, key, pages, |branch, at| path.push(branch, at))?;
    let Some(link) = link else {
        let head = head(None);
        let value = NewValue { head: checked_head(&head), body };
        put_first(root, key, value, weigh, ledger);
        return Ok(None);
    };
    let clean = link.clean_image(pages)?;
    let leaf = link.leaf(pages)?;
    let at = leaf.search(key, pages)?;
    let old = at.ok().map(|at| leaf.cell(at)).transpose()?;
    let head = head(old.as_ref().map(|cell| ValueRef::of_cell(cell, leaf.runs(pages))));
    let value = NewValue { head: checked_head(&head), body };
    let split = plan_split(leaf, key, &value, at, !path.inner, pages)?;
    let added = Totals { entries: 1, weight: weigh(key.len(), value.head, value.body.len()) };
    let mut put = Put { key, value, weigh, path, clean, at, split, old: None, added, removed: Totals::default() };
    let link = root.link.as_mut().expect("the descent found a leaf");
    if let Some((separator, right)) = put.put_below(link, root.depth - 1, ledger) {
        grow(root, separator, right, pages.branches, ledger);
    }
    Ok(put.old)
}

fn checked_head(head: &impl AsRef<[u8]>) -> &[u8] {
    let head = head.as_ref();
    assert!(head.len() <= HEAD_BYTES_MAX, "head beyond the limit");
    head
}

/// The first entry of a tree.
fn put_first(root: &mut TreeRoot, key: &[u8], value: NewValue<'_>, weigh: Weigh, ledger: &mut Ledger) {
    let (path, removed) = (Path::default(), Totals::default());
    let added = Totals { entries: 1, weight: weigh(key.len(), value.head, value.body.len()) };
    let mut put = Put { key, value, weigh, path, clean: None, at: Err(0), split: None, old: None, added, removed };
    let mut leaf = Leaf::new();
    put.put_in_leaf(&mut leaf, ledger);
    root.link = Some(Link::of_node(ledger.new_node(NodeBody::Leaf(leaf)), added));
    root.depth = 1;
}

/// The root was split: a new one goes above both halves.
fn grow(root: &mut TreeRoot, separator: Separator, right: Link, branches: &BranchCount, ledger: &mut Ledger) {
    assert!(root.depth < DEPTH_MAX, "no disk holds a tree of this height");
    let left = root.link.take().expect("the half that stayed");
    let mut totals = left.totals;
    totals += right.totals;
    let branch = Branch::over(left, separator, right, branches);
    root.link = Some(Link::of_node(ledger.new_node(NodeBody::Branch(branch)), totals));
    root.depth += 1;
}

/// Bytes of a new cell: the body is inline if the cell stays small enough.
fn new_cell_bytes(key_len: usize, value: &NewValue<'_>) -> usize {
    key_cell_bytes(key_len) + value_cell_bytes(value.head.len(), value.body.len(), !is_inline(key_len, value))
}

/// A body that has pages keeps them, whatever its size.
fn is_inline(key_len: usize, value: &NewValue<'_>) -> bool {
    let has_pages = matches!(&value.body, NewBody::Moved(DetachedBody(BodyPlace::Blob(_) | BodyPlace::Pages(..))));
    let inline_bytes = key_cell_bytes(key_len) + value_cell_bytes(value.head.len(), value.body.len(), false);
    !has_pages && inline_bytes <= CELL_BYTES_MAX
}

/// Where to cut the leaf, if the new cell doesn't fit.
fn plan_split<'a>(
    leaf: LeafRef<'a>,
    key: &'a [u8],
    value: &NewValue<'_>,
    at: Result<usize, usize>,
    is_last_leaf: bool,
    pages: Pages<'a>,
) -> Result<Option<Split>, Missing> {
    let new_cost = cell_cost(new_cell_bytes(key.len(), value));
    let old_cost = at.map_or(Ok(0), |at| leaf.cell(at).map(|cell| cell_cost(cell.bytes)))?;
    let total = used_bytes(leaf.image()) - old_cost + new_cost;
    if total <= LEAF_CAPACITY_BYTES {
        return Ok(None);
    }
    // The leaf as it would be: `place` is the new cell, old cells behind it move by `moved`.
    let (place, moved) = match at {
        Ok(at) => (at, 0),
        Err(at) => (at, 1),
    };
    let count = leaf.count() + moved;
    let cell_at = |at: usize| leaf.cell(if at > place { at - moved } else { at });
    // Keys that only grow would leave every leaf half empty if they were cut in the middle.
    let cut = if is_last_leaf && place + 1 == count && moved == 1 {
        place
    } else {
        let mut left = 0;
        let mut cut = 0;
        while cut + 1 < count && left < total / 2 {
            let cost = if cut == place { new_cost } else { cell_cost(cell_at(cut)?.bytes) };
            if left + cost > LEAF_CAPACITY_BYTES {
                break;
            }
            left += cost;
            cut += 1;
        }
        debug_assert!(cut > 0 && total - left <= LEAF_CAPACITY_BYTES, "cells have a maximum so that this holds");
        cut
    };
    let runs = leaf.runs(pages);
    let key_at = |at: usize, whole: bool| -> Result<&'a [u8], Missing> {
        if at == place {
            return Ok(key);
        }
        let cell = cell_at(at)?;
        if whole { cell.key.bytes(&runs) } else { Ok(cell.key.inline) }
    };
    let (left, right) = (key_at(cut - 1, false)?, key_at(cut, false)?);
    let decided = left.iter().zip(right).any(|(a, b)| a != b);
    let (left, right) = if decided { (left, right) } else { (key_at(cut - 1, true)?, key_at(cut, true)?) };
    Ok(Some(Split { cut, separator: separator(left, right).to_vec() }))
}

impl Put<'_, '_> {
    /// Returns what comes to the right of `link` if it was split.
    fn put_below(&mut self, link: &mut Link, level: usize, ledger: &mut Ledger) -> Option<(Separator, Link)> {
        if level == 0 {
            let leaf = link.leaf_mut(self.clean, ledger);
            let right = self.put_in_leaf(leaf, ledger);
            return self.finish(link, right.map(|(separator, right)| (separator, NodeBody::Leaf(right))), ledger);
        }
        let at = self.path.at(level);
        let branch = link.branch_mut(ledger);
        let mut right = None;
        if let Some((separator, child)) = self.put_below(&mut branch.children[at], level - 1, ledger) {
            branch.insert(at, separator, child);
            if branch.used_bytes() > BRANCH_CAPACITY_BYTES {
                let cut = if self.path.inner { branch.middle() } else { branch.children.len() - 1 };
                right = Some(branch.split_off(cut));
            }
        }
        self.finish(link, right.map(|(separator, right)| (separator, NodeBody::Branch(right))), ledger)
    }

    /// Brings the totals of `link` up to date and makes a link of what was split off.
    fn finish(
        &self,
        link: &mut Link,
        right: Option<(Separator, NodeBody)>,
        ledger: &mut Ledger,
    ) -> Option<(Separator, Link)> {
        link.totals += self.added;
        link.totals -= self.removed;
        let (separator, body) = right?;
        let totals = match &body {
            NodeBody::Leaf(leaf) => leaf.totals(self.weigh),
            NodeBody::Branch(branch) => branch.totals(),
        };
        link.totals -= totals;
        Some((separator, Link::of_node(ledger.new_node(body), totals)))
    }

    fn put_in_leaf(&mut self, leaf: &mut Leaf, ledger: &mut Ledger) -> Option<(Separator, Leaf)> {
        let mut cell = BytesMut::with_capacity(new_cell_bytes(self.key.len(), &self.value));
        let key_blob = self.put_cell_key(leaf, &mut cell, ledger);
        let (body_blob, body) = self.place_body(ledger);
        put_value(&mut cell, self.value.head, body.as_cell());
        let blobs = [key_blob, body_blob].into_iter().flatten();
        if let Some(at) = self.place_to_overwrite(leaf, cell.len()) {
            leaf.overwrite(at, &cell);
            blobs.for_each(|blob| leaf.add_blob(blob));
            return None;
        }
        if let Ok(at) = self.at {
            leaf.remove(at);
        }
        let (Ok(place) | Err(place)) = self.at;
        let mut right = None;
        let mut target = (&mut *leaf, place);
        if let Some(split) = self.split.take() {
            // The new cell is not in the leaf yet; with a cut at its place it becomes the first on the right.
            let to_right = split.cut <= place;
            let other = leaf.split_off(split.cut - usize::from(!to_right));
            let (_, other) = right.insert((Separator::new(&split.separator, ledger), other));
            target = if to_right { (other, place - split.cut) } else { (leaf, place) };
        }
        target.0.insert(target.1, &cell);
        blobs.for_each(|blob| target.0.add_blob(blob));
        right
    }

    /// The replaced cell, if the new one fits its place.
    fn place_to_overwrite(&self, leaf: &Leaf, cell_bytes: usize) -> Option<usize> {
        let at = self.at.ok().filter(|_| self.split.is_none())?;
        (cell_bytes <= leaf.cell_bytes(at).len()).then_some(at)
    }

    /// Begins the new cell with its key. Of an entry that is replaced the value is detached, its key stays as it is.
    fn put_cell_key(&mut self, leaf: &mut Leaf, cell: &mut BytesMut, ledger: &mut Ledger) -> Option<Arc<Blob>> {
        let Ok(at) = self.at else {
            let blob = is_long(self.key.len()).then(|| ledger.new_blob(Bytes::copy_from_slice(self.key)));
            put_key(cell, self.key, blob.as_ref().map(|blob| RunRef::Blob(blob.id)));
            return blob;
        };
        let view = leaf.view();
        let old = view.cell(at).expect("cells of a leaf in memory are well formed");
        cell.extend_from_slice(&leaf.cell_bytes(at)[..old.key_bytes]);
        self.removed = old.totals(self.weigh);
        let run = old.key.run;
        self.old = Some(detach(leaf, at));
        match run {
            Some(RunRef::Blob(id)) => Some(leaf.take_blob(id)),
            _ => None,
        }
    }

    /// Where the new body goes, and its blob if it has no pages yet.
    fn place_body(&self, ledger: &mut Ledger) -> (Option<Arc<Blob>>, Placed<'_>) {
        let inline = is_inline(self.key.len(), &self.value);
        let bytes = match &self.value.body {
            NewBody::Bytes(bytes) => *bytes,
            NewBody::Moved(DetachedBody(BodyPlace::Inline(bytes))) => bytes,
            NewBody::Moved(DetachedBody(BodyPlace::Blob(blob))) => {
                return (Some(blob.clone()), Placed::Run(RunRef::Blob(blob.id), blob.bytes.len()));
            }
            NewBody::Moved(DetachedBody(BodyPlace::Pages(first, len))) => {
                return (None, Placed::Run(RunRef::Disk(*first), *len));
            }
        };
        if inline {
            return (None, Placed::Inline(bytes));
        }
        let blob = ledger.new_blob(bytes.clone());
        let placed = Placed::Run(RunRef::Blob(blob.id), bytes.len());
        (Some(blob), placed)
    }
}

/// A body on its way into a cell.
enum Placed<'a> {
    Inline(&'a [u8]),
    Run(RunRef, usize),
}

impl Placed<'_> {
    fn as_cell(&self) -> CellBody<'_> {
        match self {
            Self::Inline(bytes) => CellBody::Inline(bytes),
            Self::Run(run, len) => CellBody::Run(*run, *len),
        }
    }
}

/// Copies the value of an entry whose cell is about to go, and takes its blob. A blob of the key stays in the leaf.
pub(crate) fn detach(leaf: &mut Leaf, at: usize) -> Detached {
    let view = leaf.view();
    let cell = view.cell(at).expect("cells of a leaf in memory are well formed");
    let head = Bytes::copy_from_slice(cell.head);
    let (place, blob) = match cell.body {
        CellBody::Inline(bytes) => (Some(BodyPlace::Inline(Bytes::copy_from_slice(bytes))), 0),
        CellBody::Run(RunRef::Disk(first), len) => (Some(BodyPlace::Pages(first, len)), 0),
        CellBody::Run(RunRef::Blob(id), _) => (None, id),
    };
    let place = place.unwrap_or_else(|| BodyPlace::Blob(leaf.take_blob(blob)));
    Detached { head, body: DetachedBody(place) }
}
