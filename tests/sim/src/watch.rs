//! What one watcher was sent, held against the history of the key space: every event, once, in order, and nothing else.
//!
//! A pure function over a recording: whoever runs watchers notes what each was sent, and checks it when the history is known, after the next restart. The
//! rules:
//!
//! - Events are those of the watcher's range from its start on, by (main, sub), without a gap and without a double. All of one revision are in one reply, or in a
//!   sequence of fragments that nothing interrupts.
//! - A put shows the pair as it was written, a deletion the key and its revision. The previous pair is that of the revision before, if that can still be read.
//! - The header of a reply with events is at least their revision. A reply without events says that there is nothing more up to its revision.
//! - A watcher is cancelled for a compaction only if what it would be sent next lies below that, and otherwise only when it was asked for. Then
//!   nothing comes any more.

use std::{collections::VecDeque, rc::Rc};

use crate::model::{KeyValue, Model, Written, contains};

/// A watcher, as its client asked for it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Watch {
    /// First key.
    pub key: Vec<u8>,
    /// End of the range, by the conventions of [`Range`](crate::model::Range).
    pub range_end: Vec<u8>,
    /// The first revision of interest, 0 for the one after the newest.
    pub start_revision: i64,
    /// Puts are left out.
    pub no_put: bool,
    /// Deletions are left out.
    pub no_delete: bool,
    /// Events show the previous pair.
    pub prev_kv: bool,
}

/// A change, as a watcher is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Else it is a deletion.
    pub is_put: bool,
    /// The pair; of a deletion only key and mod revision.
    pub kv: KeyValue,
    /// The pair of the revision before.
    pub prev_kv: Option<KeyValue>,
}

/// A reply to this watcher, or one without events that is for all of its stream. `revision` is that of the header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub enum Reply {
    Created { revision: i64 },
    Events { revision: i64, fragment: bool, events: Vec<Event> },
    Progress { revision: i64 },
    Canceled { compact_revision: i64 },
}

/// What is known besides the replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// The store was compacted at least so far before the watcher was created; -1 before the first compaction.
    pub compacted_before: i64,
    /// And at most so far when its last reply came.
    pub compacted_after: i64,
    /// The client asked for its end.
    pub cancel_was_asked: bool,
    /// It had time for everything up to this revision, if it wasn't cancelled; 0 if nobody waited for it.
    pub all_until: i64,
}

/// Proves what a watcher was sent; the error says what is wrong. `model` is the history of the key space, never compacted.
pub fn check(watch: &Watch, replies: &[Reply], model: &Model, known: Circumstances) -> Result<(), String> {
    let Some((Reply::Created { revision: created }, replies)) = replies.split_first() else {
        return if replies.is_empty() { Ok(()) } else { Err("the first reply is not that it was created".to_owned()) };
    };
    let start = if watch.start_revision > 0 { watch.start_revision } else { created + 1 };
    let mut watcher = Watcher::new(watch, model, known, start);
    for (number, reply) in replies.iter().enumerate() {
        watcher.take(reply).map_err(|what| format!("reply {}: {what}; {watch:?}", number + 1))?;
    }
    watcher.end().map_err(|what| format!("{what}; {watch:?}"))
}

/// A check under way.
struct Watcher<'a> {
    watch: &'a Watch,
    model: &'a Model,
    known: Circumstances,
    /// Events still to come: main revision and what was written.
    expected: VecDeque<(i64, &'a Written)>,
    /// Everything before this revision has been sent.
    next: i64,
    is_in_fragments: bool,
    is_canceled: bool,
}

impl<'a> Watcher<'a> {
    fn new(watch: &'a Watch, model: &'a Model, known: Circumstances, start: i64) -> Self {
        let is_wanted = |main: i64, written: &Written| {
            let is_filtered = if written.kv.is_some() { watch.no_put } else { watch.no_delete };
            main >= start && !is_filtered && contains(&watch.key, &watch.range_end, &written.key)
        };
        let writes = model.writes().map(|(main, _, written)| (main, written));
        let expected = writes.filter(|(main, written)| is_wanted(*main, written)).collect();
        Self { watch, model, known, expected, next: start, is_in_fragments: false, is_canceled: false }
    }

    fn take(&mut self, reply: &Reply) -> Result<(), String> {
        if self.is_canceled {
            return Err(format!("it was cancelled, and then came {reply:?}"));
        }
        if self.is_in_fragments && !matches!(reply, Reply::Events { .. }) {
            return Err(format!("the rest of a reply is missing before {reply:?}"));
        }
        match reply {
            Reply::Created { .. } => Err("it is created twice".to_owned()),
            Reply::Events { revision, fragment, events } => self.take_events(*revision, *fragment, events),
            Reply::Progress { revision } => self.take_progress(*revision),
            Reply::Canceled { compact_revision } => self.take_end(*compact_revision),
        }
    }

    fn take_events(&mut self, revision: i64, fragment: bool, events: &[Event]) -> Result<(), String> {
        if events.is_empty() {
            return Err("there are no events in it".to_owned());
        }
        for event in events {
            self.leave_out_swept(|_, written| written.kv.as_deref() != Some(&event.kv));
            let Some((main, written)) = self.expected.pop_front() else {
                return Err(format!("nothing more happened, and there is {event:?}"));
            };
            self.check_event(main, written, event)?;
            if revision < main {
                return Err(format!("its header says {revision}, and it has an event of {main}"));
            }
            self.next = main + 1;
        }
        self.is_in_fragments = fragment;
        let next = self.next;
        self.leave_out_swept(|main, _| main < next);
        match self.expected.front() {
            Some((main, _)) if *main < self.next && !fragment => Err(format!("it has only a part of revision {main}")),
            _ => Ok(()),
        }
    }

    /// A put that ended in its own revision, through a gap in etcd's checks, is swept when that is compacted: who catches up then isn't told of it. Takes such
    /// puts from what is expected next, as long as they weren't shown.
    fn leave_out_swept(&mut self, is_missing: impl Fn(i64, &Written) -> bool) {
        let (model, compacted) = (self.model, self.known.compacted_after);
        let may_be_swept = |main: i64, written: &Written| {
            let kept = || model.state_at(main).and_then(|state| state.get(&written.key));
            main <= compacted && written.kv.is_some() && kept() != written.kv.as_ref()
        };
        while self
            .expected
            .pop_front_if(|(main, written)| may_be_swept(*main, written) && is_missing(*main, written))
            .is_some()
        {}
    }

    fn check_event(&self, main: i64, written: &Written, event: &Event) -> Result<(), String> {
        let kv = match &written.kv {
            Some(kv) => kv.as_ref().clone(),
            None => KeyValue { key: written.key.to_vec(), mod_revision: main, ..KeyValue::default() },
        };
        if event.is_put != written.kv.is_some() || event.kv != kv {
            return Err(format!("expected {kv:?} of revision {main}, got {event:?}"));
        }
        let before = self.model.state_at(main - 1).and_then(|state| state.get(&written.key)).map(Rc::as_ref);
        let is_new = event.is_put && kv.create_revision == kv.mod_revision;
        let previous = before.filter(|_| self.watch.prev_kv && !is_new && main > self.known.compacted_before);
        match (&event.prev_kv, previous) {
            (None, None) => Ok(()),
            (Some(got), Some(previous)) if got == previous => Ok(()),
            // It may have been compacted meanwhile.
            (None, Some(_)) if main <= self.known.compacted_after => Ok(()),
            (got, want) => Err(format!("the pair before {kv:?} was {want:?}, not {got:?}")),
        }
    }

    fn take_progress(&mut self, revision: i64) -> Result<(), String> {
        self.leave_out_swept(|main, _| main <= revision);
        if let Some((main, written)) = self.expected.front().filter(|(main, _)| *main <= revision) {
            return Err(format!("it says that all is sent up to {revision}, and {written:?} of {main} isn't"));
        }
        if revision > self.model.revision() {
            return Err(format!("it says {revision}, which never was"));
        }
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn take_end(&mut self, compact_revision: i64) -> Result<(), String> {
        self.is_canceled = true;
        if compact_revision == 0 {
            return if self.known.cancel_was_asked {
                Ok(())
            } else {
                Err("it is cancelled, and nobody asked".to_owned())
            };
        }
        if compact_revision > self.known.compacted_after {
            return Err(format!("it says that {compact_revision} is compacted, which isn't so"));
        }
        if compact_revision <= self.next {
            return Err(format!("the next it would see is {}, which compacting {compact_revision} leaves", self.next));
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        let all_until = self.known.all_until;
        self.leave_out_swept(|main, _| main <= all_until);
        match self.expected.front().filter(|(main, _)| *main <= self.known.all_until) {
            Some((main, written)) if !self.is_canceled => Err(format!("{written:?} of revision {main} never came")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
