//! What a change tells those who watch its key, recorded while it is applied.

use plinth_base::Revision;

use crate::KeyValue;

/// Recorded events that wait to be taken may take so many bytes; beyond that they are dropped, and whoever wants them reads them from the trees.
const RECORDED_BYTES_MAX: usize = 8 << 20;

/// What an event takes beside key and value, about.
const EVENT_BYTES: usize = 160;

/// One key written or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The main revision and the place in it.
    pub revision: Revision,
    /// Whether the key was written; else it was deleted.
    pub is_put: bool,
    /// The version that ended, if the key was there.
    pub previous: Option<Revision>,
    /// What was written; of a deletion the key, and its revision as `modified`.
    pub kv: KeyValue,
}

impl Event {
    /// About the bytes of memory that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EVENT_BYTES + self.kv.key.len() + self.kv.value.len()
    }
}

/// The events of whole main revisions, in order: all of those above `after`, up to `upto`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recorded {
    /// Nothing is recorded up to here.
    pub after: i64,
    /// The newest revision.
    pub upto: i64,
    /// By ascending revision.
    pub events: Vec<Event>,
    /// About the bytes of memory that they hold.
    pub bytes: usize,
}

impl Recorded {
    /// Adds what one entry of the log did: it brought the store to `revision`. Without its events the record begins anew behind it.
    pub(crate) fn add(&mut self, revision: i64, events: Option<Vec<Event>>) {
        let bytes = events.as_ref().map(|events| events.iter().map(Event::bytes).sum::<usize>());
        match events.zip(bytes) {
            Some((mut events, bytes)) if self.bytes + bytes <= RECORDED_BYTES_MAX => {
                self.events.append(&mut events);
                self.bytes += bytes;
                self.upto = revision;
            }
            // An entry that changed no key leaves no gap.
            _ if revision == self.upto => {}
            _ => *self = Self { after: revision, upto: revision, events: Vec::new(), bytes: 0 },
        }
    }

    /// Takes everything; what comes next goes on behind it.
    pub(crate) fn take(&mut self) -> Self {
        let next = Self { after: self.upto, upto: self.upto, events: Vec::new(), bytes: 0 };
        std::mem::replace(self, next)
    }
}

/// The events of the entry under way.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// `None` if nobody wants them, or if there are too many.
    events: Option<Vec<Event>>,
    bytes: usize,
}

impl Recording {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { events: is_wanted.then(Vec::new), bytes: 0 }
    }

    pub(crate) fn push(&mut self, event: impl FnOnce() -> Event) {
        let Some(events) = &mut self.events else { return };
        let event = event();
        self.bytes += event.bytes();
        events.push(event);
        if self.bytes > RECORDED_BYTES_MAX {
            self.events = None;
        }
    }

    pub(crate) fn take(&mut self) -> Option<Vec<Event>> {
        self.events.take()
    }
}
