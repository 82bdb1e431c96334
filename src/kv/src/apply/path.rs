//! The way through a transaction: all conditions first, nested ones included, against the store as it was before; then what the operations on it need.

use plinth_tree::{Missing, PageSource, View};

use super::{compare::CompareRun, put::check_put};
use crate::{Budget, KvError, Op, State, Txn, TxnNode};

/// A step on the path that the conditions chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathStep {
    /// A node begins; whether its conditions held.
    Enter { succeeded: bool },
    /// An operation: node, branch, place in it.
    Op { node: usize, succeeded: bool, at: usize },
    /// The innermost node ends.
    Leave,
}

/// The search for the path, over as many slices as it takes.
#[derive(Debug)]
pub(crate) struct Path {
    steps: Vec<PathStep>,
    /// Nodes not finished, innermost last: node, branch, next operation.
    open: Vec<(usize, bool, usize)>,
    /// The node whose conditions are being looked at, and the next of them.
    comparing: Option<(usize, usize)>,
    compare: CompareRun,
    /// Steps whose operation was checked.
    checked: usize,
}

impl TxnNode {
    fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.success } else { &self.failure }
    }
}

impl Txn {
    pub(crate) fn op(&self, step: PathStep) -> Option<&Op> {
        match step {
            PathStep::Op { node, succeeded, at } => Some(&self.nodes[node].branch(succeeded)[at]),
            PathStep::Enter { .. } | PathStep::Leave => None,
        }
    }
}

/// The complete path, or `None` when the budget ran out, or why the transaction fails.
type Found = Result<Option<Vec<PathStep>>, KvError>;

impl Path {
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            open: Vec::new(),
            comparing: Some((0, 0)),
            compare: CompareRun::default(),
            checked: 0,
        }
    }

    /// Does one slice. `state` is that of the store as `view` shows it.
    pub(crate) fn step<P: PageSource>(
        &mut self,
        txn: &Txn,
        view: View<'_, P>,
        state: &State,
        budget: &mut Budget,
    ) -> Result<Found, Missing> {
        if !self.find(txn, view, budget)? {
            return Ok(Ok(None));
        }
        while let Some(step) = self.steps.get(self.checked) {
            if let Some(op) = txn.op(*step)
                && let Err(error) = check_op(view, state, op)?
            {
                return Ok(Err(error));
            }
            self.checked += 1;
        }
        Ok(Ok(Some(std::mem::take(&mut self.steps))))
    }

    /// Whether all conditions are decided; false when the budget ran out.
    fn find<P: PageSource>(&mut self, txn: &Txn, view: View<'_, P>, budget: &mut Budget) -> Result<bool, Missing> {
        loop {
            if let Some((node, at)) = self.comparing {
                let Some(succeeded) = self.compare(txn, node, at, view, budget)? else { return Ok(false) };
                self.comparing = None;
                self.steps.push(PathStep::Enter { succeeded });
                self.open.push((node, succeeded, 0));
            }
            let Some((node, succeeded, next)) = self.open.last_mut() else { return Ok(true) };
            let at = *next;
            *next += 1;
            match txn.nodes[*node].branch(*succeeded).get(at) {
                None => {
                    self.open.pop();
                    self.steps.push(PathStep::Leave);
                }
                Some(Op::Txn(nested)) => self.comparing = Some((*nested as usize, 0)),
                Some(_) => self.steps.push(PathStep::Op { node: *node, succeeded: *succeeded, at }),
            }
        }
    }

    /// Whether all conditions of a node hold, from the one at `first` on.
    fn compare<P: PageSource>(
        &mut self,
        txn: &Txn,
        node: usize,
        first: usize,
        view: View<'_, P>,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Missing> {
        for (at, compare) in txn.nodes[node].compares.iter().enumerate().skip(first) {
            self.comparing = Some((node, at));
            let Some(holds) = self.compare.step(view, compare, budget)? else { return Ok(None) };
            self.compare = CompareRun::default();
            if !holds {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

/// Revisions of reads, leases and keys of puts: one that fails fails the whole transaction before anything is written.
fn check_op<P: PageSource>(view: View<'_, P>, state: &State, op: &Op) -> Result<Result<(), KvError>, Missing> {
    match op {
        Op::Range(query) if query.revision > state.revision => Ok(Err(KvError::FutureRevision)),
        // Unlike in the plain request, a negative revision isn't simply "latest" here.
        Op::Range(query) if query.revision != 0 && query.revision < state.compacted => Ok(Err(KvError::Compacted)),
        Op::Put(put) => check_put(view, put),
        Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(Ok(())),
    }
}
