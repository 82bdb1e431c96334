//! Transactions: all conditions first, nested ones included; then checks; then the operations of the branches that were taken.

use plinth_tree::{Env, Missing, Store};

use super::{
    change::Changes,
    delete::DeleteRun,
    path::{Path, PathStep},
    put::PutRun,
};
use crate::{
    Budget, KvError, Op, State, Txn,
    outcome::{OpOutcome, TxnOutcome},
    query::{Progress, QueryRun},
};

/// A transaction under way.
#[derive(Debug)]
pub(crate) struct TxnRun {
    txn: Txn,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Which branch of which node is taken, and whether what its operations need is there.
    Path(Path),
    /// Doing them.
    Execute(Box<Execution>),
}

#[derive(Debug)]
struct Execution {
    steps: Vec<PathStep>,
    next: usize,
    /// The operation under way.
    op: Option<OpRun>,
    /// Results of the nodes not finished, innermost last.
    open: Vec<TxnOutcome>,
}

#[derive(Debug)]
enum OpRun {
    Range(Box<QueryRun>, Vec<crate::KeyValue>),
    Put(PutRun),
    Delete(DeleteRun),
}

impl TxnRun {
    pub(crate) fn new(txn: Txn) -> Self {
        Self { txn, stage: Stage::Path(Path::new()) }
    }

    /// `Ok(None)` inside when the budget ran out.
    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        state: &State,
        changes: &mut Changes,
        budget: &mut Budget,
    ) -> Result<Result<Option<OpOutcome>, KvError>, Missing> {
        loop {
            match &mut self.stage {
                Stage::Path(path) => match path.step(&self.txn, store.view(), state, budget)? {
                    Err(error) => return Ok(Err(error)),
                    Ok(None) => return Ok(Ok(None)),
                    Ok(Some(steps)) => {
                        self.stage = Stage::Execute(Box::new(Execution { steps, next: 0, op: None, open: Vec::new() }));
                    }
                },
                Stage::Execute(execution) => {
                    let outcome = execution.step(&self.txn, store, state, changes, budget)?;
                    return Ok(Ok(outcome.map(OpOutcome::Txn)));
                }
            }
        }
    }
}

impl Execution {
    fn step<E: Env>(
        &mut self,
        txn: &Txn,
        store: &mut Store<E>,
        state: &State,
        changes: &mut Changes,
        budget: &mut Budget,
    ) -> Result<Option<TxnOutcome>, Missing> {
        loop {
            match self.steps[self.next] {
                PathStep::Enter { succeeded } => {
                    self.open.push(TxnOutcome { succeeded, responses: Vec::new() });
                }
                PathStep::Leave => {
                    let done = self.open.pop().expect("a node is left after it was entered");
                    let Some(outer) = self.open.last_mut() else { return Ok(Some(done)) };
                    // The header of a nested answer is empty.
                    outer.responses.push((0, OpOutcome::Txn(done)));
                }
                step @ PathStep::Op { .. } => {
                    if self.op.is_none() {
                        if !budget.spend() {
                            return Ok(None);
                        }
                        self.op = Some(OpRun::new(txn.op(step).expect("this step has an operation"), state, changes));
                    }
                    let run = self.op.as_mut().expect("started above");
                    let Some(outcome) = run.step(store, state, changes, budget)? else { return Ok(None) };
                    self.op = None;
                    let open = self.open.last_mut().expect("an operation lies in a node");
                    open.responses.push((changes.revision_for_header(state), outcome));
                }
            }
            self.next += 1;
        }
    }
}

impl OpRun {
    fn new(op: &Op, state: &State, changes: &Changes) -> Self {
        match op {
            Op::Range(query) => {
                // The revision that this transaction is making is the latest one for its own reads.
                let current = changes.revision_for_header(state);
                let run =
                    QueryRun::new(query.clone(), current, state.compacted).expect("revisions were checked before");
                Self::Range(Box::new(run), Vec::new())
            }
            Op::Put(put) => Self::Put(PutRun::checked(put.clone())),
            Op::DeleteRange(delete) => Self::Delete(DeleteRun::new(delete.clone())),
            Op::Txn(_) => unreachable!("a nested transaction is entered, not run as an operation"),
        }
    }

    fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        state: &State,
        changes: &mut Changes,
        budget: &mut Budget,
    ) -> Result<Option<OpOutcome>, Missing> {
        match self {
            Self::Range(run, kvs) => {
                Ok(match run.run(store.view(), changes.revision_for_header(state), budget, kvs)? {
                    Progress::More | Progress::Full => None,
                    Progress::Done => Some(OpOutcome::Range { kvs: std::mem::take(kvs), result: run.result() }),
                })
            }
            Self::Put(run) => Ok(Some(run.step(store, changes)?.expect("a checked put can't fail"))),
            Self::Delete(run) => run.step(store, changes, budget),
        }
    }
}
