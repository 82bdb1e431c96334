//! What clients saw of a key space, held against the model after each restart.
//!
//! Every change has a revision of its own, so the order of acknowledged writes is in their answers. A revision that no answer names
//! must be the work of one request whose answer never came. Then every answer, reads included, must be what the model gives at the
//! answer's revision, and no answer may be older than what was acknowledged before its request began (linearizability).
//!
//! Limits: compactions and leases are not recorded; a lease that requests name must be granted in the model beforehand.

use crate::{
    model::{Model, Refused, Request, Response, State, agree},
    scenario::Violation,
};

/// Names a request in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId(usize);

#[derive(Debug)]
struct Op {
    id: OpId,
    request: Request,
    /// The highest revision that any client knew when it began.
    floor: i64,
    answer: Option<Result<Response, Refused>>,
}

/// Requests and answers since the last check, and the model of everything before.
#[derive(Debug)]
pub struct History {
    model: Model,
    ops: Vec<Op>,
    next_id: usize,
    known_revision: i64,
}

impl History {
    /// The history of a key space that is as `model` is.
    #[must_use]
    pub fn new(model: Model) -> Self {
        let known_revision = model.revision();
        Self { model, ops: Vec::new(), next_id: 0, known_revision }
    }

    /// The model as of the last check.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The highest revision that any client knows.
    #[must_use]
    pub fn known_revision(&self) -> i64 {
        self.known_revision
    }

    /// A client sends a request.
    pub fn begin(&mut self, request: Request) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        self.ops.push(Op { id, request, floor: self.known_revision, answer: None });
        id
    }

    /// A client gets an answer. One that says nothing of the outcome, as a timeout or a lost connection, is not given here.
    pub fn finish(&mut self, id: OpId, answer: Result<Response, Refused>) {
        if let Ok(response) = &answer {
            self.known_revision = self.known_revision.max(response.revision());
        }
        let op = self.ops.iter_mut().find(|op| op.id == id).expect("a request is answered once, before the next check");
        op.answer = Some(answer);
    }

    /// A client is told that its request was not carried out and never will be: it must have had no effect.
    pub fn forget(&mut self, id: OpId) {
        self.ops.retain(|op| op.id != id);
    }

    /// Checks everything since the last check against the restarted store, whose current revision is `current` and which holds
    /// `observe(revision)` at each. Requests without an answer must have been cut off: they can't take effect later.
    pub fn check(&mut self, current: i64, mut observe: impl FnMut(i64) -> State) -> Result<(), Violation> {
        if current < self.known_revision {
            let what = format!("revision {} was acknowledged, the store has {current}", self.known_revision);
            return Err(Violation(what));
        }
        let mut ops = std::mem::take(&mut self.ops);
        while self.model.revision() < current {
            let state = observe(self.model.revision() + 1);
            self.advance(&mut ops, &state)?;
        }
        self.known_revision = current;
        for op in &ops {
            match &op.answer {
                Some(Ok(response)) => self.check_read(op, response)?,
                Some(Err(refused)) => self.check_refused(op, *refused)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Finds the request that made the next revision and executes it on the model; it is taken from `ops`.
    fn advance(&mut self, ops: &mut Vec<Op>, state: &State) -> Result<(), Violation> {
        let revision = self.model.revision() + 1;
        let named = |op: &Op| matches!(&op.answer, Some(Ok(response)) if response.revision() == revision);
        let answered: Vec<usize> = (0..ops.len()).filter(|index| named(&ops[*index])).collect();
        let mut wrong = String::new();
        for index in answered {
            let mut next = self.model.clone();
            let expected = next.execute(&ops[index].request);
            // One that wouldn't have made this revision only read at it.
            if next.revision() == revision {
                if is_answer(&ops[index], &expected) {
                    return self.accept(next, &ops.remove(index), state);
                }
                wrong = format!("; {:?} should have been answered with {expected:?}", ops[index]);
            }
        }
        for index in 0..ops.len() {
            let op = &ops[index];
            let mut next = self.model.clone();
            let fits = op.answer.is_none()
                && op.floor < revision
                && next.execute(&op.request).is_ok()
                && next.revision() == revision
                && next.state() == state;
            if fits {
                return self.accept(next, &ops.remove(index), state);
            }
        }
        Err(Violation(format!("nobody asked for what the store has at revision {revision}{wrong}")))
    }

    fn accept(&mut self, next: Model, op: &Op, state: &State) -> Result<(), Violation> {
        let revision = next.revision();
        if op.floor >= revision {
            let what = format!("revision {revision} was made by a request that began after revision {}", op.floor);
            return Err(Violation(what));
        }
        if next.state() != state {
            let what = format!("the store at revision {revision} is not what {:?} makes of the one before", op.request);
            return Err(Violation(what));
        }
        self.model = next;
        Ok(())
    }

    /// An answer to a request that changed nothing.
    fn check_read(&self, op: &Op, response: &Response) -> Result<(), Violation> {
        let revision = response.revision();
        if revision < op.floor {
            let what = format!("{:?} was answered at revision {revision}, after {} was known", op.request, op.floor);
            return Err(Violation(what));
        }
        let wrong = |expected: &dyn std::fmt::Debug| {
            let what = format!("{:?} at revision {revision}: expected {expected:?}, got {response:?}", op.request);
            Err(Violation(what))
        };
        let Some(mut model) = self.model.rewound_to(revision) else { return wrong(&"no such revision") };
        match model.execute(&op.request) {
            Ok(expected) if model.revision() == revision && agree(&op.request, &expected, response) => Ok(()),
            expected => wrong(&expected),
        }
    }

    /// A refusal has no revision: it must be right at one of those that the request can have seen.
    fn check_refused(&self, op: &Op, refused: Refused) -> Result<(), Violation> {
        let refuses = |revision: i64| {
            let mut model = self.model.rewound_to(revision)?;
            Some(model.execute(&op.request) == Err(refused))
        };
        if (op.floor..=self.known_revision).any(|revision| refuses(revision) == Some(true)) {
            return Ok(());
        }
        Err(Violation(format!("{:?} was refused with {refused:?} for no reason", op.request)))
    }
}

/// Whether the answer of `op` is what the model gave.
fn is_answer(op: &Op, expected: &Result<Response, Refused>) -> bool {
    matches!((&op.answer, expected), (Some(Ok(got)), Ok(expected)) if agree(&op.request, expected, got))
}

#[cfg(test)]
mod tests;
