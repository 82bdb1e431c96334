//! Exports against a list of everything that ever happened, under random histories, at any progress of a sweep, with a window of a few versions.

use std::{collections::BTreeMap, sync::Arc};

use plinth_kv::{Export, ExportEntry, ExportSink, ExportSpan, trees};
use plinth_sim::model::{KeyValue, Model};
use plinth_sim_env::SimEnv;
use plinth_tree::{Env, Missing};

use crate::{
    bed::Bed,
    convert,
    random::{LEASES, TXN_OPS_MAX, compact, enrich, execute, simulate, some_lease_command, workload, write},
};

const SEEDS: u64 = 6;
const REQUESTS: u64 = 250;
/// One request in so many is followed by exports.
const EXPORT_ONE_IN: u64 = 12;

/// Stands for what is not known of a put that the same command replaced: value and lease.
const REPLACED: &[u8] = b"replaced by the same command";

/// A pair as etcd's backend has it.
type Pair = (Vec<u8>, Vec<u8>);

/// Revision and key of a change, and whether it was a put.
type NewChange = ((i64, u32), Vec<u8>, bool);

/// A change as it happened.
struct Happened {
    revision: (i64, u32),
    key: Vec<u8>,
    /// etcd's message for a put. Of one that the same command replaced, the model doesn't know what comes after the version.
    put: Option<Vec<u8>>,
    create: i64,
    version: i64,
}

/// All changes since the beginning.
#[derive(Default)]
struct Past(Vec<Happened>);

impl Past {
    /// Takes over what the last command did, as the tree `log` names it and the model has it.
    async fn record(&mut self, bed: &mut Bed, model: &Model) {
        let known = self.0.last().map_or(1, |last| last.revision.0);
        let changes = loop {
            match new_changes(bed, known) {
                Ok(changes) => break changes,
                Err(missing) => {
                    let pages = Arc::clone(bed.store.pages());
                    bed.env.load_pages(&pages, missing.wants).await.expect("pages are sound");
                }
            }
        };
        for (at, (revision, key, is_put)) in changes.iter().enumerate() {
            let state = model.state_at(revision.0).expect("nothing newer is compacted");
            let is_last = changes[at + 1..].iter().all(|(later, other, _)| later.0 != revision.0 || other != key);
            let before = self.0.iter().rev().find(|change| change.key == *key).filter(|change| change.put.is_some());
            let (create, version) = before.map_or((revision.0, 1), |before| (before.create, before.version + 1));
            let known = KeyValue {
                key: key.clone(),
                create_revision: create,
                mod_revision: revision.0,
                version,
                ..KeyValue::default()
            };
            let put = match (is_put, is_last) {
                (true, true) => Some(encode(&state[&**key])),
                (true, false) => Some([&encode(&known), REPLACED].concat()),
                (false, _) => None,
            };
            self.0.push(Happened { revision: *revision, key: key.clone(), put, create, version });
        }
    }

    /// The newest change of each key up to `at` that is a put.
    fn visible(&self, at: i64) -> BTreeMap<&[u8], (i64, u32)> {
        let mut visible = BTreeMap::new();
        for change in self.0.iter().filter(|change| change.revision.0 <= at) {
            match change.put {
                Some(_) => visible.insert(&*change.key, change.revision),
                None => visible.remove(&*change.key),
            };
        }
        visible
    }

    fn pairs(&self, want: impl Fn(&Happened) -> bool) -> Vec<Pair> {
        let pair = |change: &Happened| {
            let (main, sub) = change.revision;
            let mut key = [&main.to_be_bytes()[..], b"_", &u64::from(sub).to_be_bytes()].concat();
            match &change.put {
                Some(message) => (key, message.clone()),
                None => {
                    key.push(b't');
                    (key, encode(&KeyValue { key: change.key.clone(), ..KeyValue::default() }))
                }
            }
        };
        self.0.iter().filter(|change| want(change)).map(pair).collect()
    }

    /// What is in etcd's backend after a compaction to `compacted` is through: a deletion at that revision stays.
    fn is_stored(&self, change: &Happened, compacted: i64, at_compacted: &BTreeMap<&[u8], (i64, u32)>) -> bool {
        let main = change.revision.0;
        main > compacted
            || at_compacted.get(&*change.key) == Some(&change.revision)
            || main == compacted && change.put.is_none()
    }

    /// The pairs that HashKV covers, by its definition.
    fn hash_kv(&self, revision: i64, compacted: i64) -> Vec<Pair> {
        let (keep, at_compacted) = (self.visible(revision), self.visible(compacted));
        self.pairs(|change| {
            let main = change.revision.0;
            self.is_stored(change, compacted, &at_compacted)
                && main <= revision
                && (main > compacted || keep.is_empty() || keep.get(&*change.key) == Some(&change.revision))
                && (main != compacted || change.put.is_some())
        })
    }

    /// Everything that can be read.
    fn whole(&self, compacted: i64) -> Vec<Pair> {
        let at_compacted = self.visible(compacted);
        self.pairs(|change| {
            self.is_stored(change, compacted, &at_compacted) && (change.revision.0 > compacted || change.put.is_some())
        })
    }
}

/// Revision and key of the entries of `log` above a main revision, and whether they put it.
fn new_changes(bed: &Bed, known: i64) -> Result<Vec<NewChange>, Missing> {
    let mut log = bed.store.view().cursor(trees::LOG);
    let mut found = log.seek(&(known + 1).to_be_bytes())?;
    let mut changes = Vec::new();
    while found {
        let (main, sub) = log.key()?.split_first_chunk().expect("8 of 12 bytes");
        let sub = u32::from_be_bytes(sub.try_into().expect("4 of 12 bytes"));
        changes.push(((i64::from_be_bytes(*main), sub), log.value().body()?.to_vec(), log.value().head()[0] == 0));
        found = log.next()?;
    }
    Ok(changes)
}

/// etcd's message, written out by hand: fields in ascending order, none that is zero.
fn encode(kv: &KeyValue) -> Vec<u8> {
    fn varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    let mut out = Vec::new();
    let bytes = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        if !bytes.is_empty() {
            out.push(tag);
            varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    };
    let number = |out: &mut Vec<u8>, tag: u8, value: i64| {
        if value != 0 {
            out.push(tag);
            varint(out, value as u64);
        }
    };
    bytes(&mut out, 0x0a, &kv.key);
    number(&mut out, 0x10, kv.create_revision);
    number(&mut out, 0x18, kv.mod_revision);
    number(&mut out, 0x20, kv.version);
    bytes(&mut out, 0x2a, &kv.value);
    number(&mut out, 0x30, kv.lease);
    out
}

/// Takes pairs, a few per slice.
#[derive(Default)]
struct Pairs {
    pairs: Vec<Pair>,
    in_slice: usize,
}

impl ExportSink for Pairs {
    const WITH_VERSIONS: bool = true;

    fn is_full(&self) -> bool {
        self.in_slice == 3
    }

    fn push(&mut self, entry: &ExportEntry<'_>) {
        let mut value = Vec::new();
        entry.write_message(|part| value.extend_from_slice(part));
        assert_eq!(value.len(), entry.message_bytes, "the size is known before");
        self.pairs.push((entry.with_backend_key(<[u8]>::to_vec), value));
        self.in_slice += 1;
    }
}

/// Takes keys and sizes.
#[derive(Default)]
struct Sizes(Vec<(Vec<u8>, usize)>);

impl ExportSink for Sizes {
    const WITH_VERSIONS: bool = false;

    fn is_full(&self) -> bool {
        false
    }

    fn push(&mut self, entry: &ExportEntry<'_>) {
        assert!(entry.version.is_none());
        self.0.push((entry.with_backend_key(<[u8]>::to_vec), entry.message_bytes));
    }
}

fn is_same(got: &Pair, want: &Pair) -> bool {
    let known = want.1.strip_suffix(REPLACED);
    got.0 == want.0 && known.map_or(got.1 == want.1, |known| got.1.starts_with(known))
}

/// The first difference is enough: the lists are long.
fn assert_same(got: &[Pair], want: &[Pair], span: ExportSpan) {
    if let Some((got, want)) = got.iter().zip(want).find(|(got, want)| !is_same(got, want)) {
        panic!("{span:?}: want {want:x?}\ngot {got:x?}");
    }
    assert_eq!(got.len(), want.len(), "{span:?}");
}

fn some_window(bed: &mut Bed) -> usize {
    1 + bed.prng.index(40)
}

/// The whole store, twice at one root, as a snapshot takes it.
async fn whole_at_one_root(bed: &mut Bed, past: &Past) {
    let root = bed.root();
    let (span, want) = (ExportSpan::whole(&root.state), past.whole(root.state.compacted));
    let (mut sizes, mut pairs) = (Sizes::default(), Pairs::default());
    let mut export = Export::with_window(span, &root.state, some_window(bed));
    while !bed.export_slice_at(&root, &mut export, &mut sizes).await {}
    let mut export = Export::with_window(span, &root.state, some_window(bed));
    while !bed.export_slice_at(&root, &mut export, &mut pairs).await {
        pairs.in_slice = 0;
    }
    assert_same(&pairs.pairs, &want, span);
    let got: Vec<_> = pairs.pairs.into_iter().map(|(key, value)| (key, value.len())).collect();
    assert!(sizes.0 == got, "the sizes at {span:?}");
}

#[test]
fn an_export_holds_what_etcd_would_whatever_a_sweep_has_left() {
    for seed in 0..SEEDS {
        simulate(seed, random_history);
    }
}

async fn random_history(env: SimEnv, seed: u64) {
    let (mut bed, mut model, mut past) = (Bed::new(env, seed).await, Model::new(TXN_OPS_MAX), Past::default());
    for lease in 1..=LEASES {
        bed.grant_lease(lease).await;
        model.grant_lease(lease);
    }
    let workload = workload(&mut bed.prng);
    let writes = plinth_sim::workload::Workload { reads_percent: 0, ..workload.clone() };
    let mut written_beside = 0;
    for _ in 0..REQUESTS {
        let mut request = writes.request(&mut bed.prng, model.revision());
        enrich(&mut request, &mut bed.prng, model.revision(), false);
        let got = execute(&mut bed, &request).await.map(drop).map_err(convert::refused);
        assert_eq!(got, model.execute(&request).map(drop));
        past.record(&mut bed, &model).await;
        if bed.prng.chance(1, 10) {
            some_lease_command(&mut bed, &mut model).await;
            past.record(&mut bed, &model).await;
        }
        if bed.prng.chance(1, 30) {
            compact(&mut bed, &mut model).await;
        }
        for _ in 0..bed.prng.below(4) {
            bed.sweep_slice().await;
        }
        if bed.prng.chance(1, 40) {
            bed.checkpoint().await;
        }
        if !bed.prng.chance(1, EXPORT_ONE_IN) {
            continue;
        }
        whole_at_one_root(&mut bed, &past).await;
        // HashKV goes on at newer roots while writes and the sweep do.
        let state = bed.machine.state().clone();
        let back = bed.prng.below(30) as i64;
        let revision = (state.revision - back).max(state.compacted).max(1);
        let want = past.hash_kv(revision, state.compacted);
        let has_keys = bed.has_keys(revision).await;
        assert_eq!(has_keys, !past.visible(revision).is_empty());
        let span = ExportSpan::hash_kv(&state, revision, has_keys);
        let mut pairs = Pairs::default();
        let mut export = Export::with_window(span, &state, some_window(&mut bed));
        while !bed.export_slice(&mut export, &mut pairs).await {
            pairs.in_slice = 0;
            if bed.prng.chance(1, 4) {
                write(&mut bed, &mut model, &writes).await;
                past.record(&mut bed, &model).await;
                written_beside += 1;
            }
            if bed.prng.chance(1, 2) {
                bed.sweep_slice().await;
            }
        }
        assert_same(&pairs.pairs, &want, span);
    }
    bed.audit().await;
    assert!(written_beside > 20, "only {written_beside} writes came in between");
}

/// Without any key at the revision, etcd hashes what lay there at the compaction.
#[test]
fn a_hash_without_keys_covers_what_the_compaction_has_kept() {
    simulate(1, async |env, seed| {
        let (mut bed, mut model, mut past) = (Bed::new(env, seed).await, Model::new(TXN_OPS_MAX), Past::default());
        let put = |key: &[u8]| {
            plinth_sim::model::Request::Put(plinth_sim::model::Put { key: key.to_vec(), ..Default::default() })
        };
        let delete = |key: &[u8], end: &[u8]| {
            plinth_sim::model::Request::DeleteRange(plinth_sim::model::DeleteRange {
                key: key.to_vec(),
                range_end: end.to_vec(),
                ..Default::default()
            })
        };
        let requests = [put(b"a"), put(b"b"), delete(b"b", b""), put(b"a"), delete(b"a", b"")];
        for request in &requests {
            execute(&mut bed, request).await.expect("it is sound");
            model.execute(request).expect("it is sound");
            past.record(&mut bed, &model).await;
        }
        for compacted in 2..=6 {
            bed.apply(plinth_kv::Command::Compact { revision: compacted }).await.result.expect("not compacted yet");
            for revision in compacted..=6 {
                let state = bed.machine.state().clone();
                let has_keys = bed.has_keys(revision).await;
                assert_eq!(has_keys, !past.visible(revision).is_empty());
                let mut export = Export::new(ExportSpan::hash_kv(&state, revision, has_keys), &state);
                let mut pairs = Pairs::default();
                while !bed.export_slice(&mut export, &mut pairs).await {
                    pairs.in_slice = 0;
                    bed.sweep_slice().await;
                }
                assert_eq!(pairs.pairs, past.hash_kv(revision, compacted), "at {revision} compacted to {compacted}");
            }
        }
    });
}
