//! The slots of operations that are not over, or whose result nobody has fetched yet.

use std::task::Waker;

use super::{
    Outcome,
    request::{Request, Step},
};

enum Slot {
    Free,
    Busy {
        request: Request,
        waker: Option<Waker>,
        /// The future is gone; the operation still runs to its end.
        abandoned: bool,
    },
    Done(Outcome),
}

/// Slots, named by their position.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// What a completion led to.
pub(super) enum Taken {
    /// Another entry of the operation is still out.
    Waiting,
    /// The operation needs another round.
    Again,
    /// It is over; wake who waits for it.
    Done(Option<Waker>),
}

impl Slab {
    pub(super) fn insert(&mut self, request: Request) -> u32 {
        let busy = Slot::Busy { request, waker: None, abandoned: false };
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = busy;
            return slot;
        }
        self.slots.push(busy);
        u32::try_from(self.slots.len() - 1).expect("fewer operations than 2^32")
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn request(&self, slot: u32) -> &Request {
        match &self.slots[slot as usize] {
            Slot::Busy { request, .. } => request,
            _ => panic!("slot {slot} has no operation"),
        }
    }

    pub(super) fn request_mut(&mut self, slot: u32) -> &mut Request {
        match &mut self.slots[slot as usize] {
            Slot::Busy { request, .. } => request,
            _ => panic!("slot {slot} has no operation"),
        }
    }

    pub(super) fn complete(&mut self, slot: u32, part: usize, result: i32) -> Taken {
        match self.request_mut(slot).complete(part, result) {
            Step::Wait => Taken::Waiting,
            Step::Again => Taken::Again,
            Step::Done(result) => Taken::Done(self.finish(slot, result)),
        }
    }

    fn finish(&mut self, slot: u32, result: std::io::Result<()>) -> Option<Waker> {
        let Slot::Busy { request, waker, abandoned } = std::mem::replace(&mut self.slots[slot as usize], Slot::Free)
        else {
            panic!("slot {slot} has no operation");
        };
        if abandoned {
            self.free.push(slot);
            return None;
        }
        self.slots[slot as usize] = Slot::Done((result, request.into_buf()));
        waker
    }

    /// The outcome if the operation is over, and the slot is free then; else `waker` is called at its end.
    pub(super) fn poll(&mut self, slot: u32, waker: &Waker) -> Option<Outcome> {
        let place = &mut self.slots[slot as usize];
        if let Slot::Busy { waker: waiting, .. } = place {
            waiting.clone_from(&Some(waker.clone()));
            return None;
        }
        self.free.push(slot);
        match std::mem::replace(place, Slot::Free) {
            Slot::Done(outcome) => Some(outcome),
            _ => panic!("slot {slot} has no operation"),
        }
    }

    /// The future is gone. True if the operation is in the kernel and would stay there for ever.
    pub(super) fn abandon(&mut self, slot: u32) -> bool {
        match &mut self.slots[slot as usize] {
            Slot::Busy { request, abandoned, waker } => {
                *abandoned = true;
                *waker = None;
                request.is_patient() && request.is_out()
            }
            place => {
                *place = Slot::Free;
                self.free.push(slot);
                false
            }
        }
    }

    /// Frees the slot of an operation that nobody wants any more, before its first entry is submitted.
    pub(super) fn free_if_abandoned(&mut self, slot: u32) -> bool {
        let is_abandoned = matches!(&self.slots[slot as usize], Slot::Busy { abandoned: true, .. });
        if is_abandoned {
            self.slots[slot as usize] = Slot::Free;
            self.free.push(slot);
        }
        is_abandoned
    }

    /// Operations in the kernel that may stay there for ever.
    pub(super) fn patient(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.slots).filter_map(|(at, slot)| match slot {
            Slot::Busy { request, .. } if request.is_patient() && request.is_out() => Some(at),
            _ => None,
        })
    }
}
