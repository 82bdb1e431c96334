//! What a leader knows before an entry of its own term is committed.

use plinth_base::{LogIndex, MemberId};
use plinth_raft::{Configuration, Options};

use crate::cluster::Cluster;

#[test]
fn a_leader_leads_with_a_commit_only_when_an_entry_of_its_own_term_is_committed() {
    let mut cluster = Cluster::new(Configuration::of_voters([1, 2, 3].map(MemberId)), Options::new);
    for id in 1..=3 {
        cluster.add(id);
        cluster.start(id);
    }
    let leader = (0..1000).find_map(|_| {
        cluster.advance(20_000_000);
        cluster.deliver_all();
        let running: Vec<u64> = cluster.running().collect();
        running.into_iter().for_each(|id| cluster.flush(id));
        cluster.leader()
    });
    let leader = leader.expect("somebody is elected");
    assert_eq!(cluster.raft(leader).commit(), LogIndex(0), "its entry is on its way");
    assert!(!cluster.raft(leader).leads_with_commit());
    cluster.settle();
    assert_eq!(cluster.raft(leader).commit(), LogIndex(1));
    for id in 1..=3 {
        assert_eq!(cluster.raft(id).leads_with_commit(), id == leader, "member {id}");
    }
}
