use plinth_base::Prng;

use super::*;
use crate::{Electorate, Standing};

fn samples() -> Vec<Command> {
    let key = |k: &'static str| Bytes::from_static(k.as_bytes());
    let put = Put { key: key("a"), value: key("value"), lease: -3, prev_kv: true, ..Put::default() };
    let delete = DeleteRange { range: KeyRange { key: key("a"), end: key("z") }, prev_kv: true };
    let query =
        Query { range: KeyRange::one(key("q")), limit: 9, min_create: i64::MAX, keys_only: true, ..Query::default() };
    let compare = |target| Compare { range: KeyRange::one(key("c")), result: CompareResult::NotEqual, target };
    let nested = TxnNode { success: vec![Op::Put(put.clone())], ..TxnNode::default() };
    let outer = TxnNode {
        compares: vec![compare(CompareTarget::Value(key("v"))), compare(CompareTarget::Lease(7))],
        success: vec![Op::Range(query), Op::Txn(1)],
        failure: vec![Op::DeleteRange(delete.clone())],
    };
    vec![
        Command::Put(put),
        Command::DeleteRange(delete),
        Command::Txn(Txn { nodes: vec![outer, nested] }),
        Command::Alarm { action: AlarmAction::Activate, member: 4, alarm: AlarmKind::NoSpace },
        Command::PublishMember(MemberRecord {
            id: MemberId(1),
            name: "default".to_owned(),
            client_urls: vec!["http://localhost:2379".to_owned()],
            ..MemberRecord::default()
        }),
        Command::ChangeMembers(MembersChange {
            added: vec![MemberRecord {
                id: MemberId(4),
                peer_urls: vec!["http://localhost:2380".to_owned()],
                standing: Standing::Learner,
                ..MemberRecord::default()
            }],
            promoted: vec![MemberId(3)],
            removed: vec![MemberId(1), MemberId(2)],
            electorate: Electorate {
                voters: vec![MemberId(3)],
                outgoing: vec![MemberId(1), MemberId(2)],
                learners: vec![MemberId(4)],
                awaited: Vec::new(),
            },
        }),
        Command::UpdateMember { id: MemberId(3), peer_urls: vec!["http://localhost:2381".to_owned()] },
    ]
}

#[test]
fn commands_survive_the_round_trip() {
    for (n, command) in samples().into_iter().enumerate() {
        let envelope = Envelope { proposal: ProposalId { origin: !0, number: n as u64 }, command };
        let payload = envelope.encode();
        let is_about_keys = !matches!(
            envelope.command,
            Command::Alarm { .. }
                | Command::PublishMember(_)
                | Command::ChangeMembers(_)
                | Command::UpdateMember { .. }
        );
        assert_eq!(Envelope::is_about_keys(&payload), is_about_keys);
        assert_eq!(Envelope::decode(&payload), Ok(envelope));
    }
}

#[test]
fn a_txn_that_is_nested_twice_or_in_itself_is_refused() {
    let holds =
        |nested: &[u32]| TxnNode { success: nested.iter().map(|at| Op::Txn(*at)).collect(), ..TxnNode::default() };
    let decode = |nodes| {
        Envelope::decode(&Envelope { proposal: ProposalId::default(), command: Command::Txn(Txn { nodes }) }.encode())
    };
    assert!(decode(vec![holds(&[1, 2]), holds(&[]), holds(&[])]).is_ok());
    // Twice at each of forty levels would be 2^40 steps.
    assert!(decode(vec![holds(&[1, 1]), holds(&[])]).is_err());
    assert!(decode(vec![holds(&[1, 2]), holds(&[2]), holds(&[])]).is_err());
    assert!(decode(vec![holds(&[0])]).is_err());
    assert!(decode(vec![holds(&[1])]).is_err());
}

#[test]
fn cut_and_mutated_commands_are_refused_or_read_never_a_panic() {
    let mut prng = Prng::new(1);
    for command in samples() {
        let bytes = Envelope { proposal: ProposalId::default(), command }.encode();
        for len in 0..bytes.len() {
            assert!(Envelope::decode(&bytes.slice(..len)).is_err());
        }
        for _ in 0..2000 {
            let mut mutated = bytes.to_vec();
            for _ in 0..=prng.below(3) {
                let at = prng.index(mutated.len());
                mutated[at] = prng.next_u64() as u8;
            }
            drop(Envelope::decode(&Bytes::from(mutated)));
        }
    }
}
