//! What entries to come will read: asked for together when one of them has to wait for a page anyway.
//!
//! An optimisation, never a guarantee: an entry that misses a page all the same says so when it is applied.

use bytes::Bytes;
use plinth_base::Revision;
use plinth_tree::{Missing, PageSource, View};

use crate::{
    Command, Envelope, Op,
    keys::{epoch, past_key},
    trees::{LIVE, PAST},
};

/// Adds to `missing` the pages that `payload`'s entry would miss first in `view`: where its keys are, and where what it supersedes will go. `revision` is
/// about the one that it will make. An entry that can't be read adds nothing: it is refused when it is applied.
pub fn add_wants<P: PageSource>(view: View<'_, P>, payload: &Bytes, revision: i64, missing: &mut Missing) {
    let Ok(Envelope { command, .. }) = Envelope::decode(payload) else { return };
    let mut wants = Wants { view, epoch: epoch(revision), past_key: Vec::new(), missing };
    match command {
        Command::Put(put) => wants.write(&put.key),
        Command::DeleteRange(delete) => wants.write(&delete.range.key),
        Command::Txn(txn) => {
            for node in &txn.nodes {
                node.compares.iter().for_each(|compare| wants.read(&compare.range.key));
                // The compares choose one of both; in most transactions the keys are the same.
                for op in node.success.iter().chain(&node.failure) {
                    match op {
                        Op::Put(put) => wants.write(&put.key),
                        Op::DeleteRange(delete) => wants.write(&delete.range.key),
                        Op::Range(query) => wants.read(&query.range.key),
                        Op::Txn(_) => {}
                    }
                }
            }
        }
        Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeasesExpire { .. }
        | Command::Compact { .. }
        | Command::Alarm { .. }
        | Command::PublishMember(_)
        | Command::ChangeMembers(_)
        | Command::UpdateMember { .. } => {}
    }
}

struct Wants<'a, P> {
    view: View<'a, P>,
    epoch: u64,
    past_key: Vec<u8>,
    missing: &'a mut Missing,
}

impl<P: PageSource> Wants<'_, P> {
    fn read(&mut self, key: &[u8]) {
        if let Err(more) = self.view.get(LIVE, key) {
            self.missing.wants.extend(more.wants);
        }
    }

    fn write(&mut self, key: &[u8]) {
        self.read(key);
        past_key(self.epoch, key, Revision::default(), &mut self.past_key);
        if let Err(more) = self.view.get(PAST, &self.past_key) {
            self.missing.wants.extend(more.wants);
        }
    }
}
