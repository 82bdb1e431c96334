//! Facts that once were not so, or easily might not be.

use plinth_kv::{Budget, Command, DeleteRange, KeyRange, KvError, Op, OpOutcome, Put, Query, QueryRun, Txn, TxnNode};
use plinth_sim_env::{Chance, Faults, Sim, SimOptions};

use crate::bed::Bed;

fn put_of(key: &[u8], value: &[u8]) -> Put {
    Put { key: key.to_vec().into(), value: value.to_vec().into(), ..Put::default() }
}

fn put(key: &[u8], value: &[u8]) -> Command {
    Command::Put(put_of(key, value))
}

fn all() -> KeyRange {
    KeyRange { key: vec![0].into(), end: vec![0].into() }
}

fn delete_all() -> Command {
    Command::DeleteRange(DeleteRange { range: all(), prev_kv: false })
}

async fn must_apply(bed: &mut Bed, command: Command) -> (i64, OpOutcome) {
    let outcome = bed.apply(command).await;
    (outcome.revision, outcome.result.expect("nothing speaks against it"))
}

/// Keys and values at a revision.
async fn content(bed: &mut Bed, revision: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let query = Query { range: all(), revision, ..Query::default() };
    match bed.range(query).await {
        Ok((_, OpOutcome::Range { kvs, .. })) => kvs.into_iter().map(|kv| (kv.key.into(), kv.value.into())).collect(),
        other => panic!("the revision can be read, and is not: {other:?}"),
    }
}

fn simulate(page_miss: Chance, main: impl AsyncFnOnce(Bed)) {
    let faults = Faults { page_miss, ..Faults::default() };
    let sim = Sim::new(1, SimOptions { faults, ..SimOptions::default() });
    sim.block_on(async {
        let bed = Bed::new(sim.env(), 1).await;
        main(bed).await;
    });
}

/// A read at an old revision looked for the next visible key in one go, from the start again after each missing page: over
/// enough keys that are younger it never came to an end.
#[test]
fn a_read_of_an_old_revision_gets_past_any_number_of_younger_keys() {
    const YOUNGER: usize = 3000;
    simulate(Chance::one_in(4), async |mut bed| {
        must_apply(&mut bed, put(b"a", b"old")).await;
        let (then, _) = must_apply(&mut bed, put(b"z", b"old")).await;
        for number in 0..YOUNGER {
            must_apply(&mut bed, put(format!("m/{number:04}").as_bytes(), &[7; 100])).await;
        }
        bed.checkpoint().await;
        let query = Query { range: all(), revision: then, ..Query::default() };
        let mut run = QueryRun::new(query, bed.machine.state().revision, -1).expect("the revision exists");
        let (mut kvs, mut slices) = (Vec::new(), 0);
        while !bed.read_slice(&mut run, &mut kvs).await {
            slices += 1;
            assert!(slices < 4 * YOUNGER, "{slices} slices, and no end");
        }
        assert_eq!(kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"a", b"z"]);
        assert!(slices > YOUNGER / 10, "a slice visits a few keys, so {slices} are too few for {YOUNGER}");
    });
}

/// Two CRCs with different seeds over the same bytes differ by a constant: such a hash had 32 bits, not 64.
#[test]
fn the_halves_of_the_content_hash_tell_different_things() {
    let mut differences = std::collections::BTreeSet::new();
    for value in 0..16 {
        simulate(Chance::NEVER, async |mut bed| {
            must_apply(&mut bed, put(b"key", &[value])).await;
            let hash = bed.machine.state().content_hash;
            differences.insert((hash >> 32) ^ (hash & 0xffff_ffff));
        });
    }
    assert!(differences.len() > 8, "{differences:?}");
}

/// etcd's check for keys written twice overlooks a delete "from this key on", so such a transaction arrives.
#[test]
fn a_value_kept_after_its_key_was_deleted_by_the_same_txn_is_empty() {
    simulate(Chance::NEVER, async |mut bed| {
        must_apply(&mut bed, put(b"k", b"value")).await;
        let delete = DeleteRange { range: KeyRange { key: b"k".to_vec().into(), end: vec![0].into() }, prev_kv: false };
        let keep = Put { ignore_value: true, ..put_of(b"k", b"") };
        let success = vec![Op::DeleteRange(delete), Op::Put(keep)];
        let txn = Txn { nodes: vec![TxnNode { success, ..TxnNode::default() }] };
        txn.validate_writes().expect("etcd overlooks it");
        let (revision, _) = must_apply(&mut bed, Command::Txn(txn)).await;
        assert_eq!(content(&mut bed, 0).await, [(b"k".to_vec(), Vec::new())]);
        assert_eq!(content(&mut bed, revision - 1).await, [(b"k".to_vec(), b"value".to_vec())]);
        bed.audit().await;
    });
}

#[test]
fn versions_of_a_key_are_never_taken_for_those_of_a_longer_one() {
    const KEYS: &[&[u8]] = &[b"a", b"a\0", b"a\0\0", b"a\0\x01", b"a\x01", b"a\xff", b"aa", b"\xff", b"\0"];
    simulate(Chance::one_in(20), async |mut bed| {
        let mut revisions = Vec::new();
        for round in 0..3_u8 {
            for key in KEYS {
                let (revision, _) = must_apply(&mut bed, put(key, &[round])).await;
                revisions.push((revision, *key, round));
            }
        }
        let (gone, _) = must_apply(&mut bed, delete_all()).await;
        bed = bed.reopened().await;
        for (revision, key, round) in revisions {
            let query = Query { range: KeyRange::one(key.to_vec().into()), revision, ..Query::default() };
            let Ok((_, OpOutcome::Range { kvs, .. })) = bed.range(query).await else { panic!("it can be read") };
            let [kv] = &kvs[..] else { panic!("{key:?} at {revision}: {kvs:?}") };
            assert_eq!((&kv.value[..], kv.meta.modified.main), (&[round][..], revision));
        }
        assert_eq!(content(&mut bed, gone).await, []);
        let mut sorted = KEYS.to_vec();
        sorted.sort_unstable();
        let keys: Vec<Vec<u8>> = content(&mut bed, gone - 1).await.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, sorted);
    });
}

#[test]
fn a_deletion_of_many_keys_takes_many_slices_and_one_revision() {
    simulate(Chance::one_in(20), async |mut bed| {
        const KEYS: usize = 500;
        for number in 0..KEYS {
            must_apply(&mut bed, put(format!("{number:03}").as_bytes(), b"")).await;
        }
        bed.checkpoint().await;
        let (before, slices) = (bed.machine.state().revision, bed.ended_early);
        let (revision, outcome) = must_apply(&mut bed, delete_all()).await;
        assert_eq!(outcome, OpOutcome::Deleted { count: 500, prev_kvs: Vec::new() });
        assert_eq!(revision, before + 1);
        assert!(bed.ended_early - slices > 50, "{} slices", bed.ended_early - slices);
        assert_eq!(content(&mut bed, before).await.len(), KEYS);
        assert_eq!(content(&mut bed, revision).await, []);
        bed.audit().await;
    });
}

#[test]
fn what_is_refused_changes_nothing_but_the_applied_index() {
    simulate(Chance::NEVER, async |mut bed| {
        must_apply(&mut bed, put(b"k", b"v")).await;
        let before = bed.machine.state().clone();
        let leased = Put { lease: 9, ..put_of(b"k", b"w") };
        let absent = Put { ignore_value: true, ..put_of(b"absent", b"") };
        let future = Op::Range(Query { range: all(), revision: before.revision + 1, ..Query::default() });
        let success = vec![Op::Put(put_of(b"k", b"w")), future];
        let txn = Txn { nodes: vec![TxnNode { success, ..TxnNode::default() }] };
        for (command, want) in [
            (Command::Put(leased), KvError::LeaseNotFound),
            (Command::Put(absent), KvError::KeyNotFound),
            (Command::Txn(txn), KvError::FutureRevision),
        ] {
            assert_eq!(bed.apply(command).await.result, Err(want));
        }
        let after = bed.machine.state().clone();
        assert_eq!(after.applied.0, before.applied.0 + 3);
        assert_eq!((after.revision, after.content_hash), (before.revision, before.content_hash));
        assert_eq!(content(&mut bed, 0).await, [(b"k".to_vec(), b"v".to_vec())]);
    });
}

/// A compaction that came while the sweep of the one before stood behind a deletion at the compacted revision left that deletion for ever, and a content
/// hash that no other member had.
#[test]
fn a_compaction_in_the_middle_of_a_sweep_leaves_no_deletion_behind() {
    simulate(Chance::NEVER, async |mut bed| {
        must_apply(&mut bed, put(b"a", b"")).await;
        must_apply(&mut bed, put(b"b", b"")).await;
        let (deleted, _) = must_apply(&mut bed, delete_all()).await;
        let (last, _) = must_apply(&mut bed, put(b"c", b"")).await;
        must_apply(&mut bed, Command::Compact { revision: deleted }).await;
        let stands_behind_the_first =
            |bed: &Bed| (bed.machine.state().swept.main, bed.machine.state().swept.sub) == (deleted, 1);
        while !stands_behind_the_first(&bed) {
            let swept = bed.machine.sweep(&mut bed.store, &mut Budget::new(1));
            assert_eq!(swept, Ok(false), "it stops there");
        }
        must_apply(&mut bed, Command::Compact { revision: last }).await;
        bed.audit().await;
        while !bed.sweep_slice().await {}
        let audited = bed.audit().await;
        assert_eq!((audited.changes, audited.versions), (1, 1), "only the put of c is left");
    });
}

/// A new compaction doesn't make what the one before has swept look as if it should still be there.
#[test]
fn the_audit_knows_what_an_earlier_compaction_swept() {
    simulate(Chance::NEVER, async |mut bed| {
        for value in [&b"1"[..], b"2", b"3"] {
            must_apply(&mut bed, put(b"a", value)).await;
        }
        must_apply(&mut bed, Command::Compact { revision: 3 }).await;
        while !bed.sweep_slice().await {}
        must_apply(&mut bed, Command::Compact { revision: 4 }).await;
        bed.audit().await;
        while !bed.sweep_slice().await {}
        assert_eq!(bed.audit().await.versions, 1);
    });
}
