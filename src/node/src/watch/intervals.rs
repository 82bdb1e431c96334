//! Half-open ranges of keys, each with its watchers: which of them hold a key?
//!
//! A treap ordered by (first key, end) whose nodes know the greatest end below them, so that a search visits only what may match: about log n nodes for
//! n ranges and a few for each match. The priorities come from the ranges themselves, so the same ranges always make the same tree.

use bytes::Bytes;
use plinth_base::hash::hash64;

use super::WatcherKey;

/// Where a range ends: before a key, or never. `None` sorts last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    Before(Bytes),
    Never,
}

impl End {
    fn is_above(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end,
            Self::Never => true,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Before(end) => end,
            Self::Never => &[],
        }
    }
}

/// The ranges of all watchers of a kind.
#[derive(Default, Debug)]
pub(super) struct Intervals {
    root: Tree,
}

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    first: Bytes,
    end: End,
    priority: u64,
    /// The greatest end in this node and below it.
    end_max: End,
    /// In the order in which they came.
    watchers: Vec<WatcherKey>,
    left: Tree,
    right: Tree,
}

impl Intervals {
    pub(super) fn insert(&mut self, first: &Bytes, end: &End, watcher: WatcherKey) {
        insert(&mut self.root, first, end, watcher);
    }

    /// Takes a watcher off the range with which it was inserted.
    pub(super) fn remove(&mut self, first: &Bytes, end: &End, watcher: WatcherKey) {
        remove(&mut self.root, first, end, watcher);
    }

    /// Appends the watchers of all ranges that hold `key`.
    pub(super) fn find(&self, key: &[u8], found: &mut Vec<WatcherKey>) {
        let mut waiting = vec![self.root.as_deref()];
        while let Some(next) = waiting.pop() {
            let Some(node) = next.filter(|node| node.end_max.is_above(key)) else { continue };
            if *node.first <= *key {
                if node.end.is_above(key) {
                    found.extend_from_slice(&node.watchers);
                }
                waiting.push(node.right.as_deref());
            }
            waiting.push(node.left.as_deref());
        }
    }
}

impl Node {
    fn update(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|child| &child.end_max);
        self.end_max = below.fold(&self.end, Ord::max).clone();
    }
}

fn insert(tree: &mut Tree, first: &Bytes, end: &End, watcher: WatcherKey) {
    let Some(node) = tree else {
        let priority = hash64(&[first, end.bytes()]);
        let (first, end, end_max) = (first.clone(), end.clone(), end.clone());
        let node = Node { first, end, priority, end_max, watchers: vec![watcher], left: None, right: None };
        *tree = Some(Box::new(node));
        return;
    };
    match (first, end).cmp(&(&node.first, &node.end)) {
        std::cmp::Ordering::Equal => return node.watchers.push(watcher),
        std::cmp::Ordering::Less => insert(&mut node.left, first, end, watcher),
        std::cmp::Ordering::Greater => insert(&mut node.right, first, end, watcher),
    }
    node.update();
    let is_below = |child: &Tree, node: &Node| child.as_ref().is_some_and(|child| child.priority > node.priority);
    if is_below(&node.left, node) {
        let mut node = tree.take().expect("looked at above");
        let mut left = node.left.take().expect("looked at above");
        node.left = left.right.take();
        node.update();
        left.right = Some(node);
        left.update();
        *tree = Some(left);
    } else if is_below(&node.right, node) {
        let mut node = tree.take().expect("looked at above");
        let mut right = node.right.take().expect("looked at above");
        node.right = right.left.take();
        node.update();
        right.left = Some(node);
        right.update();
        *tree = Some(right);
    }
}

fn remove(tree: &mut Tree, first: &Bytes, end: &End, watcher: WatcherKey) {
    let Some(node) = tree else { return };
    match (first, end).cmp(&(&node.first, &node.end)) {
        std::cmp::Ordering::Less => remove(&mut node.left, first, end, watcher),
        std::cmp::Ordering::Greater => remove(&mut node.right, first, end, watcher),
        std::cmp::Ordering::Equal => {
            if let Some(at) = node.watchers.iter().position(|other| *other == watcher) {
                node.watchers.swap_remove(at);
            }
            if node.watchers.is_empty() {
                let (left, right) = (node.left.take(), node.right.take());
                *tree = merge(left, right);
                return;
            }
        }
    }
    node.update();
}

/// Of two trees of which the first lies before the second.
fn merge(left: Tree, right: Tree) -> Tree {
    match (left, right) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                left.update();
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                right.update();
                Some(right)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;

    use super::*;

    fn some_key(rng: &mut Prng) -> Bytes {
        let len = rng.below(4) as usize;
        (0..len).map(|_| b'a' + rng.below(4) as u8).collect()
    }

    #[test]
    fn a_search_finds_the_ranges_that_a_walk_over_all_of_them_finds() {
        let mut rng = Prng::new(7);
        let (mut intervals, mut all) = (Intervals::default(), Vec::new());
        for step in 0..4000 {
            let shrinks = step / 1000 % 2 == 1;
            if rng.below(4) < 1 + 2 * u64::from(shrinks) && !all.is_empty() {
                let (first, end, watcher): (Bytes, End, WatcherKey) =
                    all.swap_remove(rng.below(all.len() as u64) as usize);
                intervals.remove(&first, &end, watcher);
            } else {
                let end = if rng.below(5) == 0 { End::Never } else { End::Before(some_key(&mut rng)) };
                let (first, watcher) = (some_key(&mut rng), WatcherKey { at: step, serial: 0 });
                intervals.insert(&first, &end, watcher);
                all.push((first, end, watcher));
            }
            let key = some_key(&mut rng);
            let mut found = Vec::new();
            intervals.find(&key, &mut found);
            found.sort_unstable();
            let holds = |(first, end, _): &&(Bytes, End, WatcherKey)| *first <= key && end.is_above(&key);
            let mut want: Vec<_> = all.iter().filter(holds).map(|(_, _, watcher)| *watcher).collect();
            want.sort_unstable();
            assert_eq!(found, want, "step {step}, key {key:?}");
        }
    }

    #[test]
    fn ranges_in_ascending_order_make_no_list() {
        let mut intervals = Intervals::default();
        for at in 0..10_000_u32 {
            let first = Bytes::copy_from_slice(&at.to_be_bytes());
            let end = End::Before(Bytes::copy_from_slice(&(at + 1).to_be_bytes()));
            intervals.insert(&first, &end, WatcherKey { at, serial: 0 });
        }
        fn depth(tree: &Tree) -> usize {
            tree.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
        }
        assert!(depth(&intervals.root) < 60, "{}", depth(&intervals.root));
    }
}
