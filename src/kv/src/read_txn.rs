//! A transaction that only reads: carried out at one published root, without the log.

use plinth_tree::{Missing, PageSource, View};

use crate::{
    Budget, KeyValue, Op, State, Txn,
    apply::{Path, PathStep},
    outcome::{OpOutcome, Outcome, TxnOutcome},
    query::{Progress, QueryRun},
};

/// The transaction under way. Its operations are reads, none of them nested.
#[derive(Debug)]
pub struct ReadTxn {
    txn: Txn,
    path: Path,
    steps: Option<Vec<PathStep>>,
    next: usize,
    run: Option<(Box<QueryRun>, Vec<KeyValue>)>,
    outcome: TxnOutcome,
}

impl ReadTxn {
    /// Takes a transaction whose operations are all reads.
    #[must_use]
    pub fn new(txn: Txn) -> Self {
        Self { txn, path: Path::new(), steps: None, next: 0, run: None, outcome: TxnOutcome::default() }
    }

    /// Does one slice at the root that `view` and `state` show, always the same one. `None` when the budget ran out.
    pub fn step<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        state: &State,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, Missing> {
        if self.steps.is_none() {
            match self.path.step(&self.txn, view, state, budget)? {
                Err(error) => return Ok(Some(Outcome { revision: state.revision, result: Err(error) })),
                Ok(None) => return Ok(None),
                Ok(steps) => self.steps = steps,
            }
        }
        let steps = self.steps.as_ref().expect("found above");
        while let Some(step) = steps.get(self.next) {
            match (*step, self.txn.op(*step)) {
                (PathStep::Enter { succeeded }, _) => self.outcome.succeeded = succeeded,
                (PathStep::Op { .. }, Some(Op::Range(query))) => {
                    let (run, kvs) = self.run.get_or_insert_with(|| {
                        let run = QueryRun::new(query.clone(), state.revision, state.compacted);
                        (Box::new(run.expect("revisions were checked before")), Vec::new())
                    });
                    if run.run(view, state.revision, budget, kvs)? != Progress::Done {
                        return Ok(None);
                    }
                    let outcome = OpOutcome::Range { kvs: std::mem::take(kvs), result: run.result() };
                    self.outcome.responses.push((state.revision, outcome));
                    self.run = None;
                }
                (PathStep::Leave, _) => {}
                (PathStep::Op { .. }, _) => unreachable!("all operations are reads"),
            }
            self.next += 1;
        }
        let outcome = OpOutcome::Txn(std::mem::take(&mut self.outcome));
        Ok(Some(Outcome { revision: state.revision, result: Ok(outcome) }))
    }
}
