//! A client that grants and revokes leases and compacts, and what must be so of both after a crash.
//!
//! Its leases live long: none expires in a run, so that every revision is some request's. After a start each that was acknowledged is there, with
//! its keys and its whole TTL; one whose revocation was acknowledged is gone; and what was compacted can't be read.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use plinth_base::Prng;
use plinth_client::{Client, Status};
use plinth_rpc::etcdserverpb as pb;

use crate::{
    model::{Op, State},
    workload::{Shared, fetch, perform},
};

/// TTLs in seconds: at least so many, and fewer than twice as many.
const TTL: u64 = 1000;
/// Leases that are there at the same time.
const LEASES_MAX: usize = 50;
/// Keys of one lease.
const KEYS_MAX: u64 = 4;
/// One lease in so many is followed by a compaction.
const COMPACT_ONE_IN: u64 = 10;
/// The status of a read of what is compacted.
const OUT_OF_RANGE: u32 = 11;

/// What is known of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Granted,
    Revoked,
    /// An answer was lost.
    InDoubt,
}

/// What the server was told to keep, and to give up.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    /// TTL in seconds and fate, by id.
    leases: BTreeMap<i64, (i64, Fate)>,
    /// The newest compaction that was acknowledged; 0 is none.
    compacted: i64,
}

/// What the server says of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Seconds left, -1 if there is no such lease.
    pub ttl: i64,
    /// Seconds when it was granted.
    pub granted_ttl: i64,
    /// Its keys in order.
    pub keys: Vec<Bytes>,
}

impl Ledger {
    /// Leases that aren't gone for certain.
    fn held(&self) -> impl Iterator<Item = i64> {
        self.leases.iter().filter(|(_, (_, fate))| *fate == Fate::Granted).map(|(id, _)| *id)
    }

    /// How many leases there were, and the newest revision that was compacted, 0 for none.
    #[must_use]
    pub fn summary(&self) -> (usize, i64) {
        (self.leases.len(), self.compacted)
    }

    fn set(&mut self, id: i64, fate: Fate) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.1 = fate;
        }
    }

    /// Holds what a server that started `up` ago says of a lease against what it was told and what the key space has.
    fn check(&self, id: i64, told: &Told, state: &State, up: Duration) -> Result<(), String> {
        let Some((ttl, fate)) = self.leases.get(&id) else { return Err(format!("nobody granted lease {id}")) };
        let keys: Vec<&Bytes> = state.0.iter().filter(|(_, record)| record.lease == id).map(|(key, _)| key).collect();
        if told.ttl == -1 && *fate == Fate::Granted {
            return Err(format!("lease {id} was granted for {ttl} s, and is gone"));
        }
        if told.ttl >= 0 && *fate == Fate::Revoked {
            return Err(format!("lease {id} was revoked, and has {} s left", told.ttl));
        }
        if told.ttl == -1 && !keys.is_empty() {
            return Err(format!("lease {id} is gone, and its keys are there: {keys:?}"));
        }
        if told.ttl == -1 {
            return Ok(());
        }
        if told.granted_ttl != *ttl || !told.keys.iter().eq(keys.iter().copied()) {
            return Err(format!("lease {id} of {ttl} s with {keys:?} is told as {told:?}"));
        }
        // The whole TTL from the start, less a second that has begun.
        let least = ttl - i64::try_from(up.as_secs()).unwrap_or(i64::MAX) - 1;
        if told.ttl < least {
            return Err(format!("lease {id} of {ttl} s has {} s left, {up:?} after a start", told.ttl));
        }
        Ok(())
    }
}

/// Grants, revokes and compacts on a connection of its own until something fails.
pub async fn keep_until_failure(addr: SocketAddr, seed: u64, shared: Rc<RefCell<Shared>>) {
    let status = match Client::connect(addr).await {
        Ok(client) => keep(&client, &mut Prng::new(seed), &shared).await.expect_err("it goes on until something fails"),
        Err(status) => status,
    };
    shared.borrow_mut().ended.push(status);
}

async fn keep(client: &Client, prng: &mut Prng, shared: &RefCell<Shared>) -> Result<(), Status> {
    loop {
        grant(client, prng, shared).await?;
        let held: Vec<i64> = shared.borrow().ledger.held().collect();
        if held.len() > LEASES_MAX || prng.chance(1, 3) {
            revoke(client, held[prng.index(held.len())], shared).await?;
        }
        if prng.chance(1, COMPACT_ONE_IN) {
            compact(client, prng, shared).await?;
        }
    }
}

/// Grants a lease and attaches keys to it.
async fn grant(client: &Client, prng: &mut Prng, shared: &RefCell<Shared>) -> Result<(), Status> {
    let ttl = (TTL + prng.below(TTL)) as i64;
    let id = {
        let ledger = &mut shared.borrow_mut().ledger;
        let id = 1 + ledger.leases.len() as i64;
        ledger.leases.insert(id, (ttl, Fate::InDoubt));
        id
    };
    let request = pb::LeaseGrantRequest { ttl, id };
    client.unary::<pb::LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &request).await?;
    shared.borrow_mut().ledger.set(id, Fate::Granted);
    for number in 0..prng.below(KEYS_MAX + 1) {
        let key = Bytes::from(format!("leased/{id}/{number}"));
        perform(client, Op::Leased { key, value: Bytes::from(format!("{id}")), lease: id }, shared).await?;
    }
    Ok(())
}

async fn revoke(client: &Client, lease: i64, shared: &RefCell<Shared>) -> Result<(), Status> {
    shared.borrow_mut().ledger.set(lease, Fate::InDoubt);
    perform(client, Op::Revoke { lease }, shared).await?;
    shared.borrow_mut().ledger.set(lease, Fate::Revoked);
    Ok(())
}

/// Compacts to a revision below which all is known: nobody can ask for it afterwards.
async fn compact(client: &Client, prng: &mut Prng, shared: &RefCell<Shared>) -> Result<(), Status> {
    let revision = shared.borrow().history.known_up_to();
    if revision <= shared.borrow().ledger.compacted {
        return Ok(());
    }
    shared.borrow_mut().history.compacting(revision);
    let request = pb::CompactionRequest { revision, physical: prng.chance(1, 2) };
    client.unary::<pb::CompactionResponse>("/etcdserverpb.KV/Compact", &request).await?;
    shared.borrow_mut().ledger.compacted = revision;
    Ok(())
}

/// Asks a server that started `up()` ago for all leases, and for what is compacted. `state` is the key space, which nobody changes.
pub async fn verify(
    client: &Client,
    ledger: &mut Ledger,
    state: &State,
    up: impl Fn() -> Duration,
) -> Result<Result<(), String>, Status> {
    for id in ledger.leases.keys().copied().collect::<Vec<_>>() {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let answer = client.unary::<pb::LeaseTimeToLiveResponse>(path, &request).await?;
        let mut told = Told { ttl: answer.ttl, granted_ttl: answer.granted_ttl, keys: answer.keys };
        told.keys.sort_unstable();
        if let Err(wrong) = ledger.check(id, &told, state, up()) {
            return Ok(Err(wrong));
        }
        ledger.set(id, if told.ttl == -1 { Fate::Revoked } else { Fate::Granted });
    }
    if ledger.compacted > 1 {
        let below = ledger.compacted - 1;
        match fetch(client, below).await {
            Err(status) if status.code.0 == OUT_OF_RANGE => {}
            Err(status) => return Err(status),
            Ok(_) => return Ok(Err(format!("{} was compacted, and {below} can be read", ledger.compacted))),
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    const UP: Duration = Duration::from_millis(2500);

    fn check(fate: Fate, ttl: i64, keys: &[&'static str]) -> Result<(), String> {
        let record = Record { value: Bytes::new(), created: 2, modified: 2, version: 1, lease: 1 };
        let state = State(BTreeMap::from([(Bytes::from_static(b"a"), record)]));
        let ledger = Ledger { leases: BTreeMap::from([(1, (100, fate))]), compacted: 0 };
        let keys = keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        ledger.check(1, &Told { ttl, granted_ttl: 100, keys }, &state, UP)
    }

    #[test]
    fn a_lease_has_its_whole_ttl_and_its_keys_after_a_start() {
        assert_eq!(check(Fate::Granted, 98, &["a"]), Ok(()));
        assert_eq!(check(Fate::Granted, 97, &["a"]), Ok(()));
        assert_eq!(check(Fate::InDoubt, 97, &["a"]), Ok(()));
    }

    #[test]
    fn a_lease_that_is_lost_shortened_or_half_there_is_found() {
        for (fate, ttl, keys, says) in [
            (Fate::Granted, -1, &[][..], "and is gone"),
            (Fate::Granted, 96, &["a"], "has 96 s left"),
            (Fate::Granted, 98, &[], "is told as"),
            (Fate::Granted, 98, &["a", "b"], "is told as"),
            (Fate::Revoked, 98, &["a"], "was revoked"),
            (Fate::Revoked, -1, &[], "its keys are there"),
            (Fate::InDoubt, -1, &[], "its keys are there"),
        ] {
            let error = check(fate, ttl, keys).expect_err("it is wrong");
            assert!(error.contains(says), "{error}");
        }
    }
}
