//! A copy-on-write B+tree in one file: several named trees that change and become durable together.
//!
//! The writer ([`Store`]) changes a *working* root in memory. [`Store::publish`] gives readers on all executors an
//! immutable [`Snapshot`] of it. [`Store::begin_checkpoint`] freezes the newest published root and writes its changed pages
//! beside the old ones; a meta page written last makes them durable together. The layout of the file is described in
//! `docs/format/tree.md` and held to this code by a test.
//!
//! Invariants:
//! - A page that a durable meta or a pinned root reaches is never written. A page freed by generation g is handed
//!   out again only when g is not above the older durable meta's generation, and nothing is pinned before g that reaches it.
//! - Every page has a checksum that its parent stores, together with the number of entries below it and the sum of their weights.
//! - An operation that returns [`Missing`] has had no effect.
//! - A failed write or sync poisons the store: nothing is retried, nothing else is written.
//!
//! A crash in the middle of a checkpoint leaves the older generations as they were: pages are written only where
//! neither durable meta reaches, and a torn meta page fails its checksum, so the other one counts.
//!
//! Nothing here knows raft or etcd; the owner's record is opaque `state` in the root, atomic with the data.

mod bitmap;
mod branch;
mod branch_page;
mod check;
mod checkpoint;
mod children;
mod copy;
mod cursor;
mod error;
mod key;
mod layout;
mod leaf;
mod ledger;
mod meta;
mod node;
mod open;
mod pins;
mod punch;
mod put;
mod relocate;
mod remove;
mod room;
mod scrub;
mod separators;
mod settle;
mod space;
mod store;
mod stored_bitmap;
mod trim;
mod value;
mod verify;
mod view;
mod walk;
mod way;
mod writer;

pub use check::{GenerationReport, Report, check};
pub use checkpoint::{Checkpoint, CheckpointDone, CheckpointStates};
pub use copy::{AcceptedPages, Blocks, CopyMeta, CopyPart, CopySource, CopyTarget, Since};
pub use cursor::Cursor;
pub use error::{Missing, TreeError};
pub use layout::{
    BODY_BYTES_MAX, HEAD_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PAGE_BYTES, STATE_BYTES_MAX, TREES_MAX,
};
pub use meta::FORMAT_VERSION;
pub use node::Totals;
pub use plinth_env::{Env, PageSource};
pub use punch::{Punch, PunchDone};
pub use relocate::Relocation;
pub use room::{Grow, GrowDone, RESERVE_PAGES, Room, Sizes, put_pages_max, remove_pages_max};
pub use scrub::{Scrub, ScrubDone, ScrubPlace, ScrubSlice};
pub use store::{Store, StoreOptions, TreeId, TreeSpec};
pub use value::{Detached, DetachedBody, NewBody, NewValue, ValueRef};
pub use verify::Verify;
pub use view::{Snapshot, View};
