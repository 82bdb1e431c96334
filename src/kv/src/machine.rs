//! The state machine of one group over its store.

use bytes::Bytes;
use plinth_base::{LogIndex, Mark, MemberId, Term, bug, codec::Malformed};
use plinth_tree::{Env, Missing, PageSource, Snapshot, Store, View};

use crate::{
    Budget, Command, Electorate, Envelope, MemberRecord, Outcome, ProposalId, Recorded, Standing, State, Step,
    apply::Applying, record::sound, sweep::sweep, trees::MEMBER,
};

/// Applies the entries of a group's log, in order.
///
/// Invariant: between two entries `state` belongs to the working root, which gets its record when it is published; inside one, it is what belonged
/// to the root before it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    current: Option<Current>,
    /// Somebody wants the events of the entries that begin from now on.
    is_watched: bool,
    recorded: Recorded,
}

/// The entry under way.
#[derive(Debug)]
struct Current {
    index: LogIndex,
    term: Term,
    proposal: ProposalId,
    applying: Applying,
    slices: u32,
}

impl Machine {
    /// A machine over a store that holds `state`.
    #[must_use]
    pub fn new(state: State) -> Self {
        let recorded = Recorded { after: state.revision, upto: state.revision, ..Recorded::default() };
        Self { state, current: None, is_watched: false, recorded }
    }

    /// Says whether anybody wants the events of the entries that begin from now on.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// The events of the entries that were done since the last time, as far as they were wanted.
    pub fn take_events(&mut self) -> Recorded {
        self.recorded.take()
    }

    /// What belongs to the working root: revision, applied index and so on.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether the working root holds whole entries only. An entry that has begun but changed nothing yet doesn't count.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.current.as_ref().is_none_or(|current| !current.applying.has_changed())
    }

    /// Publishes the working root, with the state that belongs to it.
    ///
    /// # Panics
    /// If an entry is half done.
    pub fn publish<E: Env>(&self, store: &mut Store<E>) -> Snapshot<E::Pages> {
        assert!(self.may_publish(), "a root is published between two entries");
        if bug!(AppliedNotInRoot) {
            let snapshot = store.publish();
            store.set_state(self.state.encode());
            return snapshot;
        }
        store.set_state(self.state.encode());
        store.publish()
    }

    /// Removes some of what a compaction made unreachable; true when nothing of that is left. Only between two entries: the root that is published next has it.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and call again.
    ///
    /// # Panics
    /// If an entry is under way.
    pub fn sweep<E: Env>(&mut self, store: &mut Store<E>, budget: &mut Budget) -> Result<bool, Missing> {
        assert!(!self.is_applying(), "a sweep goes on between two entries");
        sweep(store, &mut self.state, budget)
    }

    /// Makes `own` the only member, whoever else there was: their cluster is no more. Only between two entries: the root that is published next has it.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and call again.
    ///
    /// # Panics
    /// If an entry is under way.
    pub fn become_alone<E: Env>(&mut self, store: &mut Store<E>, own: MemberId) -> Result<(), Missing> {
        assert!(!self.is_applying(), "members change between two entries");
        crate::apply::remove_others(store, own)?;
        self.state.electorate = Electorate { voters: vec![own], ..Electorate::default() };
        Ok(())
    }

    /// Whether an entry has begun.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        self.current.is_some()
    }

    /// Applies the entry at `index`, or goes on with it. With the outcome comes the proposal's name.
    ///
    /// # Errors
    /// [`Missing`]: load the pages and call again with the same entry.
    pub fn apply<E: Env>(
        &mut self,
        store: &mut Store<E>,
        index: LogIndex,
        term: Term,
        payload: &Bytes,
        budget: &mut Budget,
    ) -> Result<Option<(ProposalId, Outcome)>, ApplyError> {
        if self.current.is_none() && !self.begin(index, term, payload)? {
            return Ok(Some((
                ProposalId::default(),
                Outcome { revision: self.state.revision, result: Ok(crate::OpOutcome::Nothing) },
            )));
        }
        let current = self.current.as_mut().expect("begun above");
        assert_eq!(current.index, index, "one entry after the other");
        let step = current.applying.step(store, &mut self.state, budget).inspect_err(|_| Mark::PageMissing.hit())?;
        match step {
            Step::More => {
                current.slices += 1;
                if current.slices == 1 {
                    Mark::ApplySliced.hit();
                }
                Ok(None)
            }
            Step::Done(outcome) => {
                let proposal = current.proposal;
                self.recorded.add(self.state.revision, current.applying.take_events());
                (self.state.applied, self.state.applied_term) = (index, current.term);
                self.current = None;
                Ok(Some((proposal, outcome)))
            }
        }
    }

    /// False if there is nothing to do but to take note of the entry.
    fn begin(&mut self, index: LogIndex, term: Term, payload: &Bytes) -> Result<bool, ApplyError> {
        assert_eq!(index, self.state.applied.next(), "entries are applied in order, each once");
        assert!(term >= self.state.applied_term, "terms never go back");
        if payload.is_empty() {
            (self.state.applied, self.state.applied_term) = (index, term);
            return Ok(false);
        }
        let Envelope { proposal, mut command } = Envelope::decode(payload).map_err(ApplyError::Malformed)?;
        if let Command::LeasesExpire { ids, term: judged_in } = &mut command
            && *judged_in != term
            && !bug!(DeposedLeaderRevokes)
        {
            // Whoever judged them leads no more, and the leader of this entry's term may have renewed them.
            ids.clear();
        }
        let applying = Applying::new(command, &self.state, self.is_watched);
        self.current = Some(Current { index, term, proposal, applying, slices: 0 });
        Ok(true)
    }
}

/// Why an entry isn't applied yet, or can't be.
#[derive(Debug)]
pub enum ApplyError {
    /// Load these pages and call again.
    Missing(Missing),
    /// The log holds an entry that this version can't read.
    Malformed(Malformed),
}

impl From<Missing> for ApplyError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// The members of the cluster, by ascending id.
pub fn members<P: PageSource>(view: View<'_, P>) -> Result<Vec<MemberRecord>, Missing> {
    let mut members = all_members(view)?;
    members.retain(|record| record.standing != Standing::Removed);
    Ok(members)
}

/// One member, also if it was removed.
pub fn member<P: PageSource>(view: View<'_, P>, id: MemberId) -> Result<Option<MemberRecord>, Missing> {
    let Some(value) = view.get(MEMBER, &id.0.to_be_bytes())? else { return Ok(None) };
    Ok(Some(sound(MemberRecord::decode(value.body()?))))
}

/// All members there ever were.
pub fn all_members<P: PageSource>(view: View<'_, P>) -> Result<Vec<MemberRecord>, Missing> {
    let mut cursor = view.cursor(MEMBER);
    let mut found = cursor.seek(&[])?;
    let mut members = Vec::new();
    while found {
        members.push(sound(MemberRecord::decode(cursor.value().body()?)));
        found = cursor.next()?;
    }
    Ok(members)
}

/// Writes the first configuration of a new cluster into an empty store.
pub fn bootstrap<E: Env>(store: &mut Store<E>, cluster_id: u64, members: &[MemberRecord]) -> Result<(), Missing> {
    put_members(store, members)?;
    let voters: Vec<MemberId> = members.iter().filter(|m| !m.is_learner()).map(|m| m.id).collect();
    store.set_state(State::bootstrap(cluster_id, voters).encode());
    Ok(())
}

/// The same for `joining`, who was added to a cluster that runs: it knows where the others are, has no say, and lies before everything that was ever logged, so
/// that it is sent a snapshot.
///
/// # Errors
/// As above.
pub fn bootstrap_joining<E: Env>(
    store: &mut Store<E>,
    cluster_id: u64,
    members: &[MemberRecord],
    joining: MemberId,
) -> Result<(), Missing> {
    put_members(store, members)?;
    let others: Vec<MemberId> = members.iter().map(|member| member.id).filter(|id| *id != joining).collect();
    let (applied, applied_term) = (LogIndex(0), Term(0));
    store.set_state(State { applied, applied_term, ..State::bootstrap(cluster_id, others) }.encode());
    Ok(())
}

fn put_members<E: Env>(store: &mut Store<E>, members: &[MemberRecord]) -> Result<(), Missing> {
    for member in members {
        let bytes = member.encode();
        let old = store.put(MEMBER, &member.id.0.to_be_bytes(), crate::apply::body_value(&bytes))?;
        assert!(old.is_none(), "a new store is empty");
    }
    Ok(())
}
