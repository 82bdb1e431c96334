//! The store in revision order, as etcd's backend keeps it: each change with the message that etcd stores for it.
//!
//! An export walks `log`, which has a change's revision, key and size. The version that a put wrote is in `live` if it is the newest one of its key,
//! else in `past`, under the epoch of the change that ended it. That change comes later in `log`, anywhere: so a *window* of changes is taken at a time,
//! and what ended its versions is looked for in one pass over the rest of `log`. A window has a fixed size, so the memory that an export takes
//! doesn't grow with the store; where nothing was superseded, no such pass is needed.
//!
//! What is part of an export is a matter of revisions alone and never of how far a sweep is: it says the same on all members. Each slice may look at a
//! newer root, as long as that still [`holds`](crate::State::holds) the compacted revision that the export began with.

mod window;

use bytes::BufMut;
use plinth_base::Revision;
use plinth_tree::{Cursor, Missing, PageSource, ValueRef, View};

use crate::{
    Budget, Record, State,
    keys::{REVISION_BYTES, log_key, parse_log_key, past_key},
    logged::ChangeHead,
    query::Progress,
    record::sound,
    trees::{LIVE, LOG, PAST},
};
use window::{End, VERSIONS_MAX, Window};

/// Changes that are looked at ahead of one whose pages are missing, so that they are loaded together and in page order.
const AHEAD_CHANGES_MAX: usize = 256;

/// Pages that are asked for at once.
const AHEAD_WANTS_MAX: usize = 64;

/// Bytes of a deletion's key in etcd's backend.
const BACKEND_KEY_BYTES_MAX: usize = 18;

const TAG_KEY: u8 = 0x0a;

/// Which changes an export holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExportSpan {
    /// All behind `compacted` up to this main revision.
    pub revision: i64,
    /// Up to this one, only versions that a reader can still see. -1 before the first compaction.
    pub compacted: i64,
    /// A reader at this revision, from `compacted` to `revision`.
    pub visible_at: i64,
}

impl ExportSpan {
    /// Everything that can be read of a store: what etcd's backend holds after a compaction is through.
    #[must_use]
    pub fn whole(state: &State) -> Self {
        Self { revision: state.revision, compacted: state.compacted, visible_at: state.compacted }
    }

    /// What etcd's HashKV at `revision` covers. `has_keys` says whether any key exists at that revision: only then etcd leaves out old versions that
    /// were replaced since the compaction.
    #[must_use]
    pub fn hash_kv(state: &State, revision: i64, has_keys: bool) -> Self {
        let compacted = state.compacted;
        Self { revision, compacted, visible_at: if has_keys { revision } else { compacted } }
    }
}

/// A change of one key.
pub struct ExportEntry<'a> {
    /// Its revision.
    pub revision: Revision,
    /// The user key.
    pub key: &'a [u8],
    /// Bytes of the message that etcd stores for it.
    pub message_bytes: usize,
    /// What a put wrote; `None` for a deletion, and for a sink that only wants sizes.
    pub version: Option<(Record<'a>, &'a [u8])>,
    /// Whether it deleted the key.
    pub is_deletion: bool,
}

impl ExportEntry<'_> {
    /// The key under which etcd's backend stores it: main revision, `_`, sub revision, and `t` for a deletion.
    pub fn with_backend_key<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        let mut key = [b'_'; BACKEND_KEY_BYTES_MAX];
        key[..8].copy_from_slice(&self.revision.main.to_be_bytes());
        key[9..17].copy_from_slice(&u64::from(self.revision.sub).to_be_bytes());
        key[17] = b't';
        f(&key[..17 + usize::from(self.is_deletion)])
    }

    /// etcd's `KeyValue`, encoded, in parts: key, other fields, value, lease. Of a deletion it has the key alone.
    pub fn write_message(&self, mut part: impl FnMut(&[u8])) {
        let mut head = [0; 11];
        let mut out = &mut head[..];
        out.put_u8(TAG_KEY);
        let mut len = self.key.len();
        while len >= 0x80 {
            out.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        out.put_u8(len as u8);
        let unused = out.len();
        part(&head[..head.len() - unused]);
        part(self.key);
        if let Some((record, value)) = self.version {
            part(record.fields());
            part(value);
            part(record.lease_field());
        }
    }
}

/// Where an export goes.
pub trait ExportSink {
    /// Whether it wants what puts have written, not only the size of it.
    const WITH_VERSIONS: bool;

    /// Whether it wants a pause: nothing is passed to it before it has room again.
    fn is_full(&self) -> bool;

    /// Takes the next change.
    fn push(&mut self, entry: &ExportEntry<'_>);
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    span: ExportSpan,
    stage: Stage,
    window: Window,
    /// The first change that is in no window yet.
    unseen: Revision,
    /// The first change of the window that was not passed to the sink.
    next: Revision,
    /// A change that ended a version of the window is not before this one.
    scan: Revision,
    /// Changes before this one were swept when the export began: what they ended is gone.
    swept: Revision,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Take changes into the window.
    Fill,
    /// Find what ended its versions, among the changes up to a main revision.
    Scan(i64),
    /// Pass it to the sink.
    Emit,
    Done,
}

impl Export {
    /// An export of the store that `state` describes.
    ///
    /// # Panics
    /// If the span is none of that store's.
    #[must_use]
    pub fn new(span: ExportSpan, state: &State) -> Self {
        Self::with_window(span, state, VERSIONS_MAX)
    }

    /// The same with a window of so many versions: an export of a few changes has several then.
    ///
    /// # Panics
    /// As [`Export::new`].
    #[must_use]
    pub fn with_window(span: ExportSpan, state: &State, versions_max: usize) -> Self {
        let ExportSpan { revision, compacted, visible_at } = span;
        assert!(compacted == state.compacted && revision <= state.revision, "{span:?} is no span of {state:?}");
        assert!(compacted <= visible_at && visible_at <= revision, "{span:?} contradicts itself");
        let (start, window) = (Revision::default(), Window::new(versions_max));
        Self { span, stage: Stage::Fill, window, unseen: start, next: start, scan: start, swept: state.swept }
    }

    /// Does one slice. `view` is a root that holds the compacted revision of the span.
    ///
    /// # Errors
    /// Missing pages: load them and call again. What was passed to the sink stays there.
    pub fn run<P: PageSource, S: ExportSink>(
        &mut self,
        view: View<'_, P>,
        budget: &mut Budget,
        sink: &mut S,
    ) -> Result<Progress, Missing> {
        let view = view.passing();
        // Whether this root has been asked for everything that it knows of the window.
        let mut has_scanned_all = false;
        loop {
            let progress = match self.stage {
                Stage::Fill => {
                    has_scanned_all = false;
                    self.fill(view, budget)?
                }
                Stage::Scan(until) => {
                    let progress = self.scan(view, until, budget)?;
                    has_scanned_all = progress == Progress::Done && until == i64::MAX;
                    progress
                }
                Stage::Emit => match self.emit(view, budget, sink)? {
                    Emitted::Paused => Progress::More,
                    Emitted::All => Progress::Done,
                    Emitted::Superseded(revision) => {
                        assert!(!has_scanned_all, "the version {revision:?} is neither live nor was it ended");
                        self.stage = Stage::Scan(i64::MAX);
                        continue;
                    }
                },
                Stage::Done => return Ok(Progress::Done),
            };
            if progress == Progress::More {
                return Ok(Progress::More);
            }
            self.stage = self.stage_after();
        }
    }

    /// What comes when a stage is through.
    fn stage_after(&mut self) -> Stage {
        match self.stage {
            Stage::Fill if self.window.is_empty() && self.unseen == self.next => Stage::Done,
            Stage::Fill => {
                let first = self.next.max(self.window.first().unwrap_or_default());
                self.scan = first.max(self.swept);
                // Whether an old version is part of the export depends on when it ended.
                if first.main <= self.span.compacted { Stage::Scan(self.span.visible_at) } else { Stage::Emit }
            }
            Stage::Scan(_) => Stage::Emit,
            Stage::Emit => {
                self.window.clear();
                self.next = self.unseen;
                Stage::Fill
            }
            Stage::Done => Stage::Done,
        }
    }

    fn fill<P: PageSource>(&mut self, view: View<'_, P>, budget: &mut Budget) -> Result<Progress, Missing> {
        let mut log = view.cursor(LOG);
        let mut found = log.seek(&log_key(self.unseen))?;
        while found {
            let change = Change::at(&log);
            if change.revision.main > self.span.revision {
                break;
            }
            if !budget.spend() {
                return Ok(Progress::More);
            }
            if change.is_put && !self.window.push(change.revision) {
                break;
            }
            self.unseen = behind(change.revision);
            found = log.next()?;
        }
        Ok(Progress::Done)
    }

    fn scan<P: PageSource>(&mut self, view: View<'_, P>, until: i64, budget: &mut Budget) -> Result<Progress, Missing> {
        let mut log = view.cursor(LOG);
        let mut found = log.seek(&log_key(self.scan))?;
        while found && !self.window.is_resolved() {
            let change = Change::at(&log);
            if change.revision.main > until {
                break;
            }
            if !budget.spend() {
                return Ok(Progress::More);
            }
            let ExportSpan { compacted, visible_at, .. } = self.span;
            let is_invisible = change.previous.main <= compacted && change.revision.main <= visible_at;
            self.window.end(change.previous, change.revision, is_invisible);
            self.scan = behind(change.revision);
            found = log.next()?;
        }
        Ok(Progress::Done)
    }

    fn emit<P: PageSource, S: ExportSink>(
        &mut self,
        view: View<'_, P>,
        budget: &mut Budget,
        sink: &mut S,
    ) -> Result<Emitted, Missing> {
        let mut log = view.cursor(LOG);
        let mut found = log.seek(&log_key(self.next))?;
        while found {
            let change = Change::at(&log);
            if change.revision >= self.unseen {
                break;
            }
            if !budget.spend() || sink.is_full() {
                return Ok(Emitted::Paused);
            }
            match self.entry::<P, S>(view, &change) {
                Ok(Found::Entry(entry)) => sink.push(&entry),
                Ok(Found::NoPart) => {}
                Ok(Found::Superseded) => return Ok(Emitted::Superseded(change.revision)),
                Err(missing) => return Err(self.gather::<P, S>(view, log, missing)),
            }
            self.next = behind(change.revision);
            found = log.next()?;
        }
        self.next = self.unseen;
        Ok(Emitted::All)
    }

    /// A change of the window, if it is part of the export.
    fn entry<'a, P: PageSource, S: ExportSink>(
        &self,
        view: View<'a, P>,
        change: &Change<'a>,
    ) -> Result<Found<'a>, Missing> {
        let Change { revision, is_put, message_bytes, .. } = *change;
        let version = if is_put {
            let end = self.window.end_of(revision);
            if end == End::Invisible {
                return Ok(Found::NoPart);
            }
            let key = change.key.body()?;
            if !S::WITH_VERSIONS {
                None
            } else if let Some(record) = version(view, key, revision, end)? {
                Some((record, record.value()?))
            } else {
                return Ok(Found::Superseded);
            }
        } else if revision.main > self.span.compacted {
            None
        } else {
            return Ok(Found::NoPart);
        };
        let key = change.key.body()?;
        Ok(Found::Entry(ExportEntry { revision, key, message_bytes, version, is_deletion: !is_put }))
    }

    /// Adds the pages that the changes behind the one at `log` miss, in the order in which they lie in the file.
    fn gather<P: PageSource, S: ExportSink>(
        &self,
        view: View<'_, P>,
        mut log: Cursor<'_>,
        mut missing: Missing,
    ) -> Missing {
        for _ in 0..AHEAD_CHANGES_MAX {
            let has_next = log.next().unwrap_or(false);
            if !has_next || missing.wants.len() >= AHEAD_WANTS_MAX {
                break;
            }
            let change = Change::at(&log);
            if change.revision >= self.unseen {
                break;
            }
            if let Err(more) = self.entry::<P, S>(view, &change) {
                missing.wants.extend(more.wants);
            }
        }
        missing.wants.sort_unstable_by_key(|want| want.run.first);
        missing.wants.dedup_by_key(|want| want.run.first);
        missing
    }
}

/// How passing a window on ended.
enum Emitted {
    All,
    Paused,
    /// This version was taken for the newest of its key, and is not: what ended it has to be found.
    Superseded(Revision),
}

#[expect(clippy::large_enum_variant, reason = "it is taken apart where it was made")]
enum Found<'a> {
    Entry(ExportEntry<'a>),
    NoPart,
    Superseded,
}

/// An entry of `log`.
struct Change<'a> {
    revision: Revision,
    is_put: bool,
    /// The version that it ended, 0 if there was none.
    previous: Revision,
    message_bytes: usize,
    /// The user key.
    key: ValueRef<'a>,
}

impl<'a> Change<'a> {
    /// The one at which `log` stands.
    fn at(log: &Cursor<'a>) -> Self {
        let key = log.key().expect("keys of `log` are short, so they lie in the leaf");
        let value = log.value();
        let ChangeHead { is_put, previous, message_bytes } = ChangeHead::parse(value.head());
        Self { revision: sound(parse_log_key(key)), is_put, previous, message_bytes, key: value }
    }
}

/// The version of `key` that `revision` wrote; `None` if it was taken for live and isn't.
fn version<'a, P: PageSource>(
    view: View<'a, P>,
    key: &[u8],
    revision: Revision,
    end: End,
) -> Result<Option<Record<'a>>, Missing> {
    let End::InEpoch(epoch) = end else {
        let live = view.get(LIVE, key)?.map(|value| sound(Record::parse(value, 0)));
        return Ok(live.filter(|record| record.meta().modified == revision));
    };
    let mut place = Vec::new();
    past_key(epoch, key, revision, &mut place);
    let past = view.get(PAST, &place)?.expect("a version that was ended and not swept is in `past`");
    Ok(Some(sound(Record::parse(past, REVISION_BYTES))))
}

/// The first revision that could come behind this one.
fn behind(revision: Revision) -> Revision {
    match revision.sub.checked_add(1) {
        Some(sub) => Revision { main: revision.main, sub },
        None => Revision { main: revision.main + 1, sub: 0 },
    }
}
