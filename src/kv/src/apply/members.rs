//! Changes of the cluster's members. What is wrong with one is found before anything is written, and at every member alike.

use plinth_base::MemberId;
use plinth_tree::{Env, Missing, Store};

use super::{
    body_value,
    change::{Changes, discard},
};
use crate::{
    KvError, MemberRecord, MembersChange, OpOutcome, State,
    machine::{all_members, member},
    member::Standing,
    trees::MEMBER,
};

/// A change under way.
#[derive(Debug)]
pub(crate) struct MembersRun {
    change: MembersChange,
    /// The records to write, when it is known that nothing is wrong.
    records: Option<Vec<MemberRecord>>,
    written: usize,
}

impl MembersRun {
    pub(crate) fn new(change: MembersChange) -> Self {
        Self { change, records: None, written: 0 }
    }

    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        state: &mut State,
        changes: &mut Changes,
    ) -> Result<Result<OpOutcome, KvError>, Missing> {
        let records = match &mut self.records {
            Some(records) => records,
            None => match changed_records(&self.change, &all_members(store.view())?) {
                Ok(records) => self.records.insert(records),
                Err(error) => return Ok(Err(error)),
            },
        };
        for record in &records[self.written..] {
            put_member(store, record)?;
            self.written += 1;
            changes.begin();
        }
        state.electorate.clone_from(&self.change.electorate);
        Ok(Ok(OpOutcome::MembersChanged))
    }
}

/// What the records of all whom the change concerns are afterwards.
fn changed_records(change: &MembersChange, known: &[MemberRecord]) -> Result<Vec<MemberRecord>, KvError> {
    let present = |id: MemberId| {
        let record = known.iter().find(|record| record.id == id && record.standing != Standing::Removed);
        record.cloned().ok_or(KvError::MemberNotFound)
    };
    let mut records = Vec::new();
    for added in &change.added {
        if known.iter().any(|record| record.id == added.id) {
            return Err(KvError::MemberExists);
        }
        check_urls(added.id, &added.peer_urls, known)?;
        records.push(added.clone());
    }
    for id in &change.promoted {
        let record = present(*id)?;
        if record.standing != Standing::Learner {
            return Err(KvError::MemberNotLearner);
        }
        records.push(MemberRecord { standing: Standing::Voter, ..record });
    }
    for id in &change.removed {
        present(*id)?;
        records.push(removed(*id));
    }
    Ok(records)
}

/// No other member is found at one of `urls`.
fn check_urls(id: MemberId, urls: &[String], known: &[MemberRecord]) -> Result<(), KvError> {
    let others = known.iter().filter(|record| record.id != id).flat_map(|record| &record.peer_urls);
    let mut others = others.filter(|url| urls.contains(url));
    if others.next().is_some() { Err(KvError::PeerUrlExists) } else { Ok(()) }
}

fn put_member<E: Env>(store: &mut Store<E>, record: &MemberRecord) -> Result<(), Missing> {
    let old = store.put(MEMBER, &record.id.0.to_be_bytes(), body_value(&record.encode()))?;
    discard(store, old);
    Ok(())
}

/// Whoever is there and isn't `own` was removed, and `own` votes.
pub(crate) fn remove_others<E: Env>(store: &mut Store<E>, own: MemberId) -> Result<(), Missing> {
    for record in all_members(store.view())? {
        let (id, standing) = (record.id, record.standing);
        match standing {
            Standing::Learner if id == own => put_member(store, &MemberRecord { standing: Standing::Voter, ..record })?,
            Standing::Voter | Standing::Learner if id != own => put_member(store, &removed(id))?,
            _ => {}
        }
    }
    Ok(())
}

fn removed(id: MemberId) -> MemberRecord {
    MemberRecord { id, standing: Standing::Removed, ..MemberRecord::default() }
}

/// A member is found at other URLs from now on.
pub(crate) fn update_member<E: Env>(
    store: &mut Store<E>,
    id: MemberId,
    peer_urls: &[String],
) -> Result<Result<OpOutcome, KvError>, Missing> {
    let known = all_members(store.view())?;
    let Some(record) = known.iter().find(|record| record.id == id && record.standing != Standing::Removed) else {
        return Ok(Err(KvError::MemberNotFound));
    };
    if let Err(error) = check_urls(id, peer_urls, &known) {
        return Ok(Err(error));
    }
    put_member(store, &MemberRecord { peer_urls: peer_urls.to_vec(), ..record.clone() })?;
    Ok(Ok(OpOutcome::Nothing))
}

/// A member tells its name and where clients find it. Nothing, if it was removed meanwhile.
pub(crate) fn publish_member<E: Env>(store: &mut Store<E>, told: &MemberRecord) -> Result<OpOutcome, Missing> {
    if let Some(record) = member(store.view(), told.id)?
        && record.standing != Standing::Removed
    {
        let (name, client_urls) = (told.name.clone(), told.client_urls.clone());
        put_member(store, &MemberRecord { name, client_urls, ..record })?;
    }
    Ok(OpOutcome::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, standing: Standing) -> MemberRecord {
        let peer_urls = if standing == Standing::Removed { Vec::new() } else { vec![format!("http://h{id}:2380")] };
        MemberRecord { id: MemberId(id), standing, peer_urls, ..MemberRecord::default() }
    }

    #[test]
    fn a_change_that_makes_no_sense_changes_nothing() {
        let known = [record(1, Standing::Voter), record(2, Standing::Learner), record(3, Standing::Removed)];
        let changed = |change: MembersChange| changed_records(&change, &known);
        let added = |record| MembersChange { added: vec![record], ..MembersChange::default() };
        let promoted = |id| MembersChange { promoted: vec![MemberId(id)], ..MembersChange::default() };
        let removed = |id| MembersChange { removed: vec![MemberId(id)], ..MembersChange::default() };
        assert_eq!(changed(added(record(4, Standing::Voter))), Ok(vec![record(4, Standing::Voter)]));
        assert_eq!(changed(added(record(3, Standing::Voter))), Err(KvError::MemberExists), "not even a removed one");
        let same_url = MemberRecord { peer_urls: vec!["http://h1:2380".to_owned()], ..record(4, Standing::Voter) };
        assert_eq!(changed(added(same_url)), Err(KvError::PeerUrlExists));
        assert_eq!(changed(promoted(2)), Ok(vec![record(2, Standing::Voter)]));
        assert_eq!(changed(promoted(1)), Err(KvError::MemberNotLearner));
        assert_eq!(changed(promoted(3)), Err(KvError::MemberNotFound));
        assert_eq!(changed(removed(1)), Ok(vec![record(1, Standing::Removed)]));
        assert_eq!(changed(removed(3)), Err(KvError::MemberNotFound));
    }
}
