//! A machine over a store on the simulated disk, worked in small slices, as a shard does it.

use std::{path::PathBuf, sync::Arc};

use plinth_base::{LogIndex, MemberId, Prng, Term};
use plinth_kv::{
    AnyKey, ApplyError, Audit, AuditError, Audited, Budget, Command, Envelope, Export, ExportSink, KeyValue, KvError,
    Machine, OpOutcome, Outcome, ProposalId, Query, QueryRun, ReadTxn, State, Txn, bootstrap, query::Progress, trees,
};
use plinth_sim_env::{SimEnv, SimPages};
use plinth_tree::{Env, Missing, Snapshot, Store, StoreOptions, put_pages_max};

const CLUSTER: u64 = 7;
/// Of every entry.
pub(crate) const TERM: Term = Term(1);
/// A budget of so many entries at most: even small commands take several slices.
const SLICE_ENTRIES_MAX: u64 = 5;
/// More than any command of these tests changes.
const ROOM_PAGES: u64 = 4000;
const ROOM_RUN_BYTES: usize = 64 << 10;

fn options() -> StoreOptions {
    StoreOptions { path: PathBuf::from("/kv"), trees: trees::TREES, file_bytes_max: 1 << 30, grow_bytes: 1 << 20 }
}

/// The machine, and how it was used.
pub(crate) struct Bed {
    pub(crate) env: SimEnv,
    pub(crate) store: Store<SimEnv>,
    pub(crate) machine: Machine,
    pub(crate) prng: Prng,
    /// Slices that ended for the budget, and for a page.
    pub(crate) ended_early: u64,
    pub(crate) missed: u64,
}

/// What readers see: a root with its state.
pub(crate) struct Root {
    pub(crate) snapshot: Snapshot<SimPages>,
    pub(crate) state: State,
}

impl Bed {
    /// An empty key space of a new cluster.
    pub(crate) async fn new(env: SimEnv, seed: u64) -> Self {
        let mut store = Store::create(env.clone(), options()).await.expect("the disk is empty");
        bootstrap(&mut store, CLUSTER, &[]).expect("a new store is in memory");
        let machine = Machine::new(State::bootstrap(CLUSTER, vec![MemberId(1)]));
        store.set_state(machine.state().encode());
        Self { env, store, machine, prng: Prng::new(seed), ended_early: 0, missed: 0 }
    }

    fn budget(&mut self) -> Budget {
        Budget::new(1 + u32::try_from(self.prng.below(SLICE_ENTRIES_MAX)).expect("a few"))
    }

    async fn load(&mut self, missing: Missing) {
        assert!(!missing.wants.is_empty(), "missing means that something is wanted");
        self.missed += 1;
        let pages = Arc::clone(self.store.pages());
        self.env.load_pages(&pages, missing.wants).await.expect("pages are sound");
    }

    async fn reserve(&mut self) {
        let pages = ROOM_PAGES + put_pages_max(ROOM_RUN_BYTES, ROOM_RUN_BYTES);
        while !self.store.room(ROOM_RUN_BYTES).admits_put(pages) {
            let grow = self.store.begin_grow(2 * pages, ROOM_RUN_BYTES).expect("the file may grow");
            let done = grow.run().await;
            self.store.finish_grow(done).expect("the disk has room");
        }
    }

    pub(crate) async fn grant_lease(&mut self, id: i64) {
        let granted = self.apply(Command::LeaseGrant { id, ttl: 10 }).await;
        assert_eq!(granted.result, Ok(OpOutcome::LeaseGranted { id, ttl: 10 }));
    }

    /// Of the next entry.
    fn names(&mut self) -> (LogIndex, ProposalId) {
        let proposal = ProposalId { origin: 1, number: self.prng.next_u64() };
        (self.machine.state().applied.next(), proposal)
    }

    /// Applies a command as the log's next entry.
    pub(crate) async fn apply(&mut self, command: Command) -> Outcome {
        self.reserve().await;
        let (index, proposal) = self.names();
        let payload = Envelope { proposal, command }.encode();
        let began_with = self.machine.state().clone();
        loop {
            let mut budget = self.budget();
            match self.machine.apply(&mut self.store, index, TERM, &payload, &mut budget) {
                Ok(Some((done, outcome))) => {
                    assert_eq!((done, self.machine.state().applied), (proposal, index));
                    return outcome;
                }
                Ok(None) => self.ended_early += 1,
                Err(ApplyError::Missing(missing)) => self.load(missing).await,
                Err(ApplyError::Malformed(what)) => panic!("the machine can't read what was encoded: {}", what.0),
            }
            assert_eq!(*self.machine.state(), began_with, "an entry that isn't done has not changed the state");
        }
    }

    /// Goes on with removing what is compacted; true when that is done.
    pub(crate) async fn sweep_slice(&mut self) -> bool {
        self.reserve().await;
        let mut budget = self.budget();
        match self.machine.sweep(&mut self.store, &mut budget) {
            Ok(done) => done,
            Err(missing) => {
                self.load(missing).await;
                false
            }
        }
    }

    /// What readers see now.
    pub(crate) fn root(&mut self) -> Root {
        Root { snapshot: self.machine.publish(&mut self.store), state: self.machine.state().clone() }
    }

    /// Does one slice of a read at the newest root; its result when it is done.
    pub(crate) async fn read_slice(&mut self, run: &mut QueryRun, kvs: &mut Vec<KeyValue>) -> bool {
        let root = self.root();
        let mut budget = self.budget();
        match run.run(root.snapshot.view(), root.state.revision, &mut budget, kvs) {
            Ok(Progress::Done) => return true,
            Ok(Progress::More | Progress::Full) => self.ended_early += 1,
            Err(missing) => self.load(missing).await,
        }
        false
    }

    /// Whether any key exists at a revision.
    pub(crate) async fn has_keys(&mut self, revision: i64) -> bool {
        let (mut any, root) = (AnyKey::at(revision), self.root());
        loop {
            let mut budget = self.budget();
            match any.run(root.snapshot.view(), root.state.revision, &mut budget) {
                Ok(Some(any)) => return any,
                Ok(None) => self.ended_early += 1,
                Err(missing) => self.load(missing).await,
            }
        }
    }

    /// Does one slice of an export at the newest root; true when it is done.
    pub(crate) async fn export_slice(&mut self, export: &mut Export, sink: &mut impl ExportSink) -> bool {
        let root = self.root();
        self.export_slice_at(&root, export, sink).await
    }

    /// The same at a root.
    pub(crate) async fn export_slice_at(
        &mut self,
        root: &Root,
        export: &mut Export,
        sink: &mut impl ExportSink,
    ) -> bool {
        let mut budget = self.budget();
        match export.run(root.snapshot.view(), &mut budget, sink) {
            Ok(Progress::Done) => return true,
            Ok(Progress::More | Progress::Full) => self.ended_early += 1,
            Err(missing) => self.load(missing).await,
        }
        false
    }

    /// Reads a range; the answer and the revision of its header.
    pub(crate) async fn range(&mut self, query: Query) -> Result<(i64, OpOutcome), KvError> {
        let state = self.machine.state();
        let (revision, compacted) = (state.revision, state.compacted);
        let mut run = QueryRun::new(query, revision, compacted)?;
        let mut kvs = Vec::new();
        while !self.read_slice(&mut run, &mut kvs).await {}
        Ok((revision, OpOutcome::Range { kvs, result: run.result() }))
    }

    /// Carries out a transaction that only reads, at one root.
    pub(crate) async fn read_txn(&mut self, txn: Txn) -> Outcome {
        let (mut run, root) = (ReadTxn::new(txn), self.root());
        loop {
            let mut budget = self.budget();
            match run.step(root.snapshot.view(), &root.state, &mut budget) {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => self.ended_early += 1,
                Err(missing) => self.load(missing).await,
            }
        }
    }

    /// Makes everything durable, and moves it from memory to pages.
    pub(crate) async fn checkpoint(&mut self) {
        drop(self.root());
        if let Some(checkpoint) = self.store.begin_checkpoint() {
            let done = checkpoint.run(async |_| {}).await;
            self.store.finish_checkpoint(done).expect("the disk works");
        }
        while !self.store.settle(100) {}
        drop(self.root());
    }

    /// The same after a clean stop and a start.
    pub(crate) async fn reopened(mut self) -> Self {
        self.checkpoint().await;
        let state = self.machine.state().clone();
        let Self { env, store, prng, ended_early, missed, .. } = self;
        drop(store);
        let store = Store::open(env.clone(), options(), false).await.expect("the file is sound");
        let found = State::decode(store.state()).expect("the record is the one that was written");
        assert_eq!(found, state);
        Self { machine: Machine::new(found), env, store, prng, ended_early, missed }
    }

    /// Proves that the trees agree with each other and with the state.
    pub(crate) async fn audit(&mut self) -> Audited {
        let (mut audit, root) = (Audit::default(), self.root());
        loop {
            let mut budget = self.budget();
            match audit.step(root.snapshot.view(), &root.state, &mut budget) {
                Ok(Some(audited)) => return audited,
                Ok(None) => {}
                Err(AuditError::Missing(missing)) => self.load(missing).await,
                Err(AuditError::Contradiction(what)) => panic!("{what}"),
            }
        }
    }
}
