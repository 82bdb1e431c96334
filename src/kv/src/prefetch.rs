//! What entries to come will read: asked for together when one of them has to wait for a page anyway.
//!
//! An optimisation, never a guarantee: an entry that misses a page all the same says so when it is applied.

use bytes::Bytes;
use plinth_tree::{Missing, PageSource, View};

use crate::{Command, Envelope, Op, trees::LIVE};

/// Adds to `missing` the pages that `payload`'s entry would miss first in `view`. One that can't be read adds nothing: it is refused when it is
/// applied.
pub fn add_wants<P: PageSource>(view: View<'_, P>, payload: &Bytes, missing: &mut Missing) {
    let Ok(Envelope { command, .. }) = Envelope::decode(payload) else { return };
    let mut want = |key: &[u8]| {
        if let Err(more) = view.cursor(LIVE).seek(key) {
            missing.wants.extend(more.wants);
        }
    };
    match command {
        Command::Put(put) => want(&put.key),
        Command::DeleteRange(delete) => want(&delete.range.key),
        Command::Txn(txn) => {
            for node in &txn.nodes {
                node.compares.iter().for_each(|compare| want(&compare.range.key));
                // The compares choose one of both; in most transactions the keys are the same.
                for op in node.success.iter().chain(&node.failure) {
                    match op {
                        Op::Put(put) => want(&put.key),
                        Op::DeleteRange(delete) => want(&delete.range.key),
                        Op::Range(query) => want(&query.range.key),
                        Op::Txn(_) => {}
                    }
                }
            }
        }
        Command::Alarm { .. } | Command::PublishMember(_) => {}
    }
}
