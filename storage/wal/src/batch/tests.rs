use plinth_base::{Prng, limits};

use super::*;
use crate::format::{FLAG_SEAL, START_BYTES_MAX};

fn head(index: u64, total_bytes: u32) -> EntryHead {
    let at = Position { index: LogIndex(index), term: Term(3) };
    EntryHead { group: GroupId(7), at, previous_term: Term(2), is_change: index.is_multiple_of(2), total_bytes }
}

fn stamped(mut batch: Batch) -> (BatchHeader, Vec<u8>) {
    batch.stamp(Stamp { flags: FLAG_SEAL, nonce: 9, segment: 4, sequence: 17, durable: 16 });
    let used = batch.used_bytes();
    let buf = batch.into_buf();
    assert_eq!(buf.len(), used.next_multiple_of(BLOCK_BYTES));
    assert!(buf.as_slice()[used..].iter().all(|&byte| byte == 0), "padding is zero");
    let header = BatchHeader::peek(buf.as_slice()).expect("long enough");
    assert_eq!(header.checksum.get(), batch_checksum(9, &buf.as_slice()[..used]));
    assert!(header.lengths_fit(buf.len() as u64) && !header.lengths_fit(buf.len() as u64 - 1));
    (header, buf.as_slice()[HEADER_BYTES..used].to_vec())
}

#[test]
fn records_survive_the_round_trip() {
    let mut batch = Batch::new(AlignedBuf::zeroed(0));
    let state = HardState { term: Term(8), vote: Some(MemberId(0)), commit: LogIndex(5), is_doubtful: true };
    batch.put_entry(&head(4, 6000), Part::Whole, &[1; 6000]);
    batch.put_hard_state(GroupId(1), state);
    batch.put_group_start(GroupId(2), Position { index: LogIndex(6), term: Term(1) });
    batch.put_entry(&head(5, 9000), Part::First, &[2; 10]);
    let (header, payload) = stamped(batch);
    assert_eq!((header.records.get(), header.blocks.get()), (4, 2));
    let records: Vec<_> = Records::new(&header, &payload).collect::<Result<_, _>>().expect("sound");
    assert!(
        matches!(records[0], Record::Entry { head: h, part: Part::Whole, bytes } if h == head(4, 6000) && bytes == [1; 6000])
    );
    assert!(matches!(records[1], Record::HardState { group: GroupId(1), state: s } if s == state));
    assert!(matches!(records[2], Record::GroupStart { group: GroupId(2), start } if start.index == LogIndex(6)));
    assert!(matches!(records[3], Record::Entry { part: Part::First, bytes, .. } if bytes == [2; 10]));
}

#[test]
fn reused_buffer_carries_nothing_of_its_former_batch() {
    let mut first = Batch::new(AlignedBuf::zeroed(0));
    first.put_entry(&head(1, 20_000), Part::Whole, &[0xee; 20_000]);
    let mut second = Batch::new(first.into_buf());
    second.put_entry(&head(2, 5000), Part::Whole, &[0; 5000]);
    let (_, payload) = stamped(second);
    assert!(!payload.contains(&0xee));
}

#[test]
fn start_batch_carries_as_many_groups_as_a_shard_and_is_checked() {
    let chain = |groups: u32| ChainRecord {
        kind: KIND_CHAIN,
        split: 0,
        reserved: 0.into(),
        groups: groups.into(),
        segment_bytes: 65_536.into(),
        next_nonce: 1.into(),
        previous_segment: 0.into(),
        previous_nonce: 0.into(),
        previous_sequence: 16.into(),
        previous_end: 0.into(),
    };
    let state = |last: u64| GroupState {
        last: Position { index: LogIndex(last), term: Term(1) },
        start: Position { index: LogIndex(3), term: Term(1) },
        ..GroupState::default()
    };
    let start = |chain: ChainRecord, groups: &[u32], last: u64| {
        let mut batch = Batch::new(AlignedBuf::zeroed(0));
        batch.put_chain(&chain);
        groups.iter().for_each(|&group| batch.put_group_state(GroupId(group), &state(last)));
        assert!(batch.used_bytes() <= START_BYTES_MAX);
        let (mut header, payload) = stamped(batch);
        header.flags = FLAG_START.into();
        Start::decode(&header, &payload)
    };
    let all: Vec<u32> = (0..limits::GROUPS_PER_SHARD_MAX as u32).collect();
    let decoded = start(chain(64), &all, 5).expect("sound");
    assert_eq!((decoded.groups.len(), decoded.groups[63].1), (64, state(5)));
    assert!(start(chain(2), &[1], 5).is_err(), "a wrong number of groups");
    assert!(start(chain(2), &[2, 1], 5).is_err(), "groups out of order");
    assert!(start(chain(1), &[1], 2).is_err(), "a log that ends before it begins");
}

#[test]
fn hostile_payloads_give_errors() {
    let mut prng = Prng::new(3);
    let mut batch = Batch::new(AlignedBuf::zeroed(0));
    batch.put_entry(&head(4, 60), Part::Whole, &[1; 60]);
    batch.put_hard_state(GroupId(1), HardState::default());
    batch.put_group_start(GroupId(2), Position::default());
    let (header, sound) = stamped(batch);
    let mut errors = 0;
    for _ in 0..20_000 {
        let mut payload = sound.clone();
        for _ in 0..1 + prng.below(3) {
            let at = prng.index(payload.len());
            payload[at] = prng.next_u64() as u8;
        }
        payload.truncate(payload.len() - prng.index(3));
        let mut header = header;
        header.records = (header.records.get() + prng.below(2) as u32).into();
        errors += u32::from(Records::new(&header, &payload).any(|record| record.is_err()));
        header.flags = FLAG_START.into();
        assert!(Start::decode(&header, &payload).is_err(), "no start without a chain record");
    }
    assert!(errors > 10_000);
}
