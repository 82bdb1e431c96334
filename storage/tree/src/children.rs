//! The children of a branch: links in short chunks, each shared by all versions of the branch that have it unchanged.
//!
//! After a publish a branch is copied before one of its children is changed. In one array that would cost a counted reference
//! per child; so it costs one per chunk, and the links of the one chunk that changes.

use std::{
    ops::{Index, IndexMut},
    sync::Arc,
};

use crate::node::Link;

/// Links in a chunk. A full branch has some eighty children: about as many chunks as links in each make the cheapest copy.
const CHUNK_LINKS_MAX: usize = 12;
/// Links in a chunk that was just read, so that some find room.
const CHUNK_LINKS_READ: usize = 8;

/// Links in order. No chunk is empty.
#[derive(Clone, Default, Debug)]
pub(crate) struct Children {
    chunks: Vec<Arc<[Link]>>,
    len: usize,
}

impl Children {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, at: usize) -> Option<&Link> {
        (at < self.len).then(|| &self[at])
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Link> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The chunk that holds link `at`, and the link's place in it.
    fn locate(&self, at: usize) -> (usize, usize) {
        let mut left = at;
        for (chunk, links) in self.chunks.iter().enumerate() {
            if left < links.len() {
                return (chunk, left);
            }
            left -= links.len();
        }
        panic!("child {at} of {}", self.len)
    }

    /// Puts `link` before the one at `at`.
    pub fn insert(&mut self, at: usize, link: Link) {
        assert!(at <= self.len, "a child goes between others or at an end");
        self.len += 1;
        let is_last = at + 1 == self.len;
        if is_last && self.chunks.last().is_none_or(|last| last.len() == CHUNK_LINKS_MAX) {
            // Keys that only grow fill their chunks.
            return self.chunks.push(Arc::new([link]));
        }
        let (chunk, place) =
            if is_last { (self.chunks.len() - 1, self.chunks[self.chunks.len() - 1].len()) } else { self.locate(at) };
        let mut links = self.chunks[chunk].to_vec();
        links.insert(place, link);
        if links.len() > CHUNK_LINKS_MAX {
            let right = links.split_off(links.len() / 2);
            self.chunks.insert(chunk + 1, right.into());
        }
        self.chunks[chunk] = links.into();
    }

    /// Takes the link at `at` out.
    pub fn remove(&mut self, at: usize) -> Link {
        let (chunk, place) = self.locate(at);
        self.len -= 1;
        let mut links = self.chunks[chunk].to_vec();
        let link = links.remove(place);
        let next = self.chunks.get(chunk + 1).map_or(0, |next| next.len());
        if next > 0 && links.len() + next <= CHUNK_LINKS_READ {
            links.extend_from_slice(&self.chunks.remove(chunk + 1));
        }
        if links.is_empty() {
            self.chunks.remove(chunk);
        } else {
            self.chunks[chunk] = links.into();
        }
        link
    }

    /// Keeps the links before `at` and returns the others.
    pub fn split_off(&mut self, at: usize) -> Self {
        if at == self.len {
            return Self::default();
        }
        let (chunk, place) = self.locate(at);
        let mut right = Self { chunks: self.chunks.split_off(chunk), len: self.len - at };
        self.len = at;
        if place > 0 {
            let (kept, moved) = right.chunks[0].split_at(place);
            self.chunks.push(kept.into());
            right.chunks[0] = moved.into();
        }
        right
    }

    /// Takes over all links of `other`, behind its own.
    pub fn append(&mut self, other: &mut Self) {
        self.chunks.append(&mut other.chunks);
        self.len += std::mem::take(&mut other.len);
    }
}

impl From<Vec<Link>> for Children {
    fn from(links: Vec<Link>) -> Self {
        let chunks = links.chunks(CHUNK_LINKS_READ).map(Arc::from).collect();
        Self { chunks, len: links.len() }
    }
}

impl Index<usize> for Children {
    type Output = Link;

    fn index(&self, at: usize) -> &Link {
        let (chunk, place) = self.locate(at);
        &self.chunks[chunk][place]
    }
}

impl IndexMut<usize> for Children {
    /// Unshares the chunk of the link.
    fn index_mut(&mut self, at: usize) -> &mut Link {
        let (chunk, place) = self.locate(at);
        &mut Arc::make_mut(&mut self.chunks[chunk])[place]
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::{PageId, Prng};

    use super::*;
    use crate::node::{PageRef, Totals};

    fn link(id: u64) -> Link {
        Link::of_page(PageRef { page: PageId(id), checksum: 0 }, Totals::default())
    }

    fn ids(children: &Children) -> Vec<u64> {
        children.iter().map(|link| link.page().expect("made of pages").page.0).collect()
    }

    #[test]
    fn children_do_what_a_vector_does_and_older_versions_stay_as_they_were() {
        let mut prng = Prng::new(7);
        let mut model: Vec<u64> = (0..40).collect();
        let mut children = Children::from(model.iter().map(|&id| link(id)).collect::<Vec<_>>());
        for id in 40..4000 {
            let (before, model_before) = (children.clone(), model.clone());
            let at = prng.below(model.len() as u64 + 1) as usize;
            match prng.below(8) {
                0..=3 if model.len() < 120 => {
                    children.insert(at, link(id));
                    model.insert(at, id);
                }
                4 | 5 if at < model.len() => {
                    assert_eq!(children.remove(at).page().expect("made of pages").page.0, model.remove(at));
                }
                6 if at < model.len() => {
                    children[at] = link(id);
                    model[at] = id;
                }
                _ => {
                    let (mut right, mut right_model) = (children.split_off(at), model.split_off(at));
                    assert_eq!((ids(&right), right.len()), (right_model.clone(), right_model.len()));
                    right.append(&mut children);
                    right_model.append(&mut model);
                    (children, model) = (right, right_model);
                }
            }
            assert_eq!((ids(&children), children.len()), (model.clone(), model.len()));
            assert_eq!(ids(&before), model_before);
            assert!(children.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_LINKS_MAX));
        }
    }
}
