//! Changes of keys as the tree `log` has them, and the versions that they wrote and ended.

use plinth_base::Revision;
use plinth_tree::{Cursor, Missing, PageSource, ValueRef, View};

use crate::{
    Record,
    apply::OP_PUT,
    keys::{REVISION_BYTES, epoch, log_key, parse_log_key, past_key},
    record::sound,
    trees::{LIVE, LOG, PAST},
};

/// What an entry of `log` says in its head, so that its key needn't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChangeHead {
    pub(crate) is_put: bool,
    /// The version that the change ended, 0 if there was none.
    pub(crate) previous: Revision,
    /// Bytes of the message that etcd stores for the change.
    pub(crate) message_bytes: usize,
}

impl ChangeHead {
    pub(crate) fn parse(head: &[u8]) -> Self {
        let message_bytes = head.get(1 + REVISION_BYTES..).and_then(|rest| rest.first_chunk()).copied();
        Self {
            is_put: head.first() == Some(&OP_PUT),
            previous: sound(parse_log_key(head.get(1..=REVISION_BYTES).unwrap_or_default())),
            message_bytes: u32::from_le_bytes(message_bytes.unwrap_or_default()) as usize,
        }
    }
}

/// A change of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedChange<'a> {
    /// When it was made.
    pub revision: Revision,
    /// Whether it wrote the key; else it deleted it.
    pub is_put: bool,
    /// The version that it ended, if the key was there.
    pub previous: Option<Revision>,
    /// The key.
    pub key: &'a [u8],
}

impl<'a> LoggedChange<'a> {
    fn parse(revision: Revision, value: &ValueRef<'a>) -> Result<Self, Missing> {
        let ChangeHead { is_put, previous, .. } = ChangeHead::parse(value.head());
        let previous = (previous != Revision::default()).then_some(previous);
        Ok(Self { revision, is_put, previous, key: value.body()? })
    }

    /// The version that a put wrote, in a store whose newest revision is `current`; `None` if it is swept away.
    ///
    /// The newest version of a key lies in `live`; where another one lies depends on when it ended, so all epochs from the change's on are looked
    /// at. Whatever is overwritten often is found in the first of them.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and call again.
    pub fn written<P: PageSource>(&self, view: View<'a, P>, current: i64) -> Result<Option<Record<'a>>, Missing> {
        if let Some(value) = view.get(LIVE, self.key)? {
            let record = sound(Record::parse(value, 0));
            if record.meta().modified == self.revision {
                return Ok(Some(record));
            }
        }
        let mut place = Vec::new();
        for epoch in epoch(self.revision.main)..=epoch(current) {
            past_key(epoch, self.key, self.revision, &mut place);
            if let Some(value) = view.get(PAST, &place)? {
                return Ok(Some(sound(Record::parse(value, REVISION_BYTES))));
            }
        }
        Ok(None)
    }
}

/// The version of `key` that was visible just below the main revision of the change `by`, which ended the version `previous`. Only above the compacted revision
/// is it sure to be there.
///
/// # Errors
/// [`Missing`]: load the pages and call again.
pub fn visible_before<'a, P: PageSource>(
    view: View<'a, P>,
    key: &[u8],
    mut by: Revision,
    mut previous: Revision,
) -> Result<Option<Record<'a>>, Missing> {
    // A transaction may, through a gap in etcd's checks, delete what it has put.
    while previous.main == by.main {
        let Some(value) = view.get(LOG, &log_key(previous))? else { return Ok(None) };
        let Some(older) = LoggedChange::parse(previous, &value)?.previous else { return Ok(None) };
        (by, previous) = (previous, older);
    }
    let mut place = Vec::new();
    past_key(epoch(by.main), key, previous, &mut place);
    let value = view.get(PAST, &place)?;
    Ok(value.map(|value| sound(Record::parse(value, REVISION_BYTES))))
}

/// A walk over changes in the order of their revisions.
pub struct ChangeCursor<'a>(Cursor<'a>);

impl<'a> ChangeCursor<'a> {
    /// Over the changes of one root.
    #[must_use]
    pub fn new<P: PageSource>(view: View<'a, P>) -> Self {
        Self(view.cursor(LOG))
    }

    /// Goes to the first change at or above `from`; false if there is none.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and seek again, with a new cursor.
    pub fn seek(&mut self, from: Revision) -> Result<bool, Missing> {
        self.0.seek(&log_key(from))
    }

    /// Goes on to the next change; false if there is none.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and seek again, with a new cursor.
    pub fn advance(&mut self) -> Result<bool, Missing> {
        self.0.next()
    }

    /// The change at which it stands.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and seek again, with a new cursor.
    pub fn change(&self) -> Result<LoggedChange<'a>, Missing> {
        LoggedChange::parse(sound(parse_log_key(self.0.key()?)), &self.0.value())
    }
}
