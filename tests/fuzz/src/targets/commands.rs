//! Entries of the log, and the state record in a tree's root: what is read is what would be written.

use bytes::Bytes;
use plinth_base::{MemberId, Prng};
use plinth_kv::{
    AlarmAction, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, Envelope, KeyRange,
    MemberRecord, Op, ProposalId, Put, Query, State, Txn, TxnNode,
};

use crate::target::Target;

/// The first byte of an input says which decoder takes the rest.
const ENTRY: u8 = 0;
const STATE: u8 = 1;

/// The target.
pub(super) struct Commands;

fn samples() -> Vec<Command> {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let range = |key, end| KeyRange { key: bytes(key), end: bytes(end) };
    let put = Put { key: bytes("key"), value: bytes("value"), lease: -3, prev_kv: true, ..Put::default() };
    let delete = DeleteRange { range: range("a", "z"), prev_kv: true };
    let query = Query { range: range("q", "\0"), limit: 9, min_create: i64::MAX, keys_only: true, ..Query::default() };
    let compare = |target| Compare { range: range("c", "d"), result: CompareResult::NotEqual, target };
    let leaf = TxnNode { success: vec![Op::Put(put.clone())], ..TxnNode::default() };
    let middle = TxnNode { failure: vec![Op::Txn(2)], ..TxnNode::default() };
    let outer = TxnNode {
        compares: [CompareTarget::Value(bytes("v")), CompareTarget::Lease(7), CompareTarget::Mod(1)]
            .map(compare)
            .into(),
        success: vec![Op::Range(query), Op::Txn(1), Op::Txn(3)],
        failure: vec![Op::DeleteRange(delete.clone())],
    };
    let member = MemberRecord {
        id: MemberId(1),
        name: "default".to_owned(),
        client_urls: vec!["http://localhost:2379".to_owned()],
        ..MemberRecord::default()
    };
    vec![
        Command::Put(put),
        Command::DeleteRange(delete),
        Command::Txn(Txn { nodes: vec![outer, middle, leaf.clone(), leaf] }),
        Command::Alarm { action: AlarmAction::Activate, member: 4, alarm: AlarmKind::NoSpace },
        Command::PublishMember(member),
    ]
}

impl Target for Commands {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let entry = |command| [&[ENTRY][..], &Envelope { proposal: ProposalId::default(), command }.encode()].concat();
        let mut corpus: Vec<Vec<u8>> = samples().into_iter().map(entry).collect();
        let mut state = State::bootstrap(7, vec![MemberId(1), MemberId(2)]);
        state.alarms = vec![(1, AlarmKind::NoSpace), (2, AlarmKind::Corrupt)];
        corpus.push([&[STATE][..], &state.encode()].concat());
        corpus
    }

    fn repair(&self, input: &mut [u8], prng: &mut Prng) {
        // Not a checksum, but what most mutations of the head end at.
        if let [which, format, ..] = input {
            (*which, *format) = (u8::from(prng.chance(1, 5)), 1);
        }
    }

    fn run(&mut self, input: &[u8]) -> bool {
        match input.split_first() {
            Some((&ENTRY, entry)) => run_entry(&Bytes::copy_from_slice(entry)),
            Some((&STATE, state)) => run_state(state),
            _ => false,
        }
    }
}

fn run_entry(bytes: &Bytes) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    assert_eq!(Envelope::decode(&envelope.encode()).as_ref(), Ok(&envelope));
    if let Command::Txn(txn) = &envelope.command {
        // Walks the whole of it; either verdict is fine.
        txn.validate_writes().ok();
    }
    true
}

fn run_state(bytes: &[u8]) -> bool {
    let Ok(state) = State::decode(bytes) else { return false };
    assert_eq!(State::decode(&state.encode()), Ok(state));
    true
}
