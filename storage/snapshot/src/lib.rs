//! Files in bbolt's format, written front to back.
//!
//! bbolt is the store below etcd; etcd's tools take a snapshot as a bbolt file. Its first two pages name the root and the number of all pages, so
//! these must be known before the first byte leaves. A [`Builder`] is therefore run twice over the same pairs: once to [measure](Builder::measure),
//! which needs no values, only their sizes; once to [write](Builder::write). In both it does the same, since what it does depends on keys and sizes alone.
//!
//! Pages are numbered as they are filled: a branch comes behind the pages that it names, the root last. So nothing has to be remembered but one
//! open page per level of a tree, whatever the size of the file.
//!
//! Knows nothing of etcd: buckets, keys and values are bytes. The format is described in etcd's terms in `docs/format/snapshot.md`.

mod builder;
mod format;
mod levels;

pub use builder::{Builder, Layout};
pub use format::PAGE_BYTES;
