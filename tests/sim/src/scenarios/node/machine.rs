//! A node on the simulated machine: how it is set up, started and looked at.

use std::{cell::RefCell, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use plinth_base::{GroupId, MemberId, Prng, limits::MAILBOX_MESSAGES_MAX, mailbox::mailbox};
use plinth_env::{Alone, Env, Peers, SyncMethod, TaskQueue};
use plinth_kv::MemberRecord;
use plinth_node::{
    Executor, Identity, NodeError, ShardHandle, ShardOptions, ShardPorts, WatchLimits,
    api::{Api, ApiOptions, request_timeout},
    open_shard,
};

/// The groups on the shard.
pub(super) const GROUPS: [GroupId; 2] = [GroupId(0), GroupId(1)];

/// Where the trees are, and the log: apart, so that a fault can be aimed at one of them.
pub(in crate::scenarios) const DATA_DIR: &str = "/data/member";
pub(in crate::scenarios) const WAL_DIR: &str = "/data/wal";

/// A node that runs.
pub(in crate::scenarios) struct Node<E: Env> {
    /// One API for each group.
    pub(in crate::scenarios) apis: Vec<Api<E>>,
    pub(in crate::scenarios) handle: ShardHandle<E>,
    /// How the shard ended, once it has.
    pub(in crate::scenarios) end: Rc<RefCell<Option<Result<(), NodeError>>>>,
}

/// Sizes so small that checkpoints, rotations and slices come all the time.
pub(in crate::scenarios) fn options(prng: &mut Prng) -> ShardOptions {
    let sync_method = [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync][prng.index(3)];
    let mut any = |choices: &[u64]| choices[prng.index(choices.len())];
    let checkpoint_dirty_bytes = any(&[64 << 10, 256 << 10, 1 << 20]);
    ShardOptions {
        groups: GROUPS.to_vec(),
        sync_method,
        segment_bytes: any(&[64 << 10, 128 << 10, 512 << 10]),
        checkpoint_log_bytes: any(&[100 << 10, 300 << 10, 1 << 20]),
        checkpoint_dirty_bytes,
        checkpoint_age: Duration::from_millis(any(&[500, 2_000, 10_000])),
        dirty_bytes_max: checkpoint_dirty_bytes * any(&[2, 4, 16]),
        branch_bytes_max: any(&[8 << 10, 64 << 20]),
        seal_after: Duration::from_millis(any(&[100, 200, 1_000])),
        apply_budget: any(&[1, 2, 7, 64, 4096]) as u32,
        scrub_interval: Duration::from_millis(any(&[300, 1_500, 6_000])),
        tree_bytes_max: 1 << 30,
        grow_bytes: any(&[4 << 20, 12 << 20]),
        // The stores are small, so there is never much: the little is moved.
        tail_free_bytes_max: any(&[16 << 10, 64 << 10, 16 << 20]),
        tail_free_percent_max: 0,
        ..ShardOptions::new(PathBuf::from(DATA_DIR), PathBuf::from(WAL_DIR))
    }
}

/// The tree file of a group.
pub(in crate::scenarios) fn tree_path(group: GroupId) -> PathBuf {
    PathBuf::from(DATA_DIR).join(format!("group-{group}.tree"))
}

fn identity() -> Identity {
    let member = MemberRecord {
        id: MemberId(0x8e9e_05c5_2164_694d),
        name: "default".to_owned(),
        peer_urls: vec!["http://localhost:2380".to_owned()],
        client_urls: vec!["http://localhost:2379".to_owned()],
        ..MemberRecord::default()
    };
    Identity { cluster_id: 0xcdf8_1819_4e3a_8c32, initial_members: vec![member.clone()], member, joins: false }
}

/// Opens the shard of the only member and lets it run.
pub(super) async fn start<E: Env>(env: E, options: ShardOptions) -> Result<Node<E>, NodeError> {
    start_member(env, options, &identity(), None, Box::new(Alone)).await
}

/// The same for a member that has others.
pub(in crate::scenarios) async fn start_member<E: Env>(
    env: E,
    options: ShardOptions,
    identity: &Identity,
    quota_bytes: Option<u64>,
    peers: Box<dyn Peers>,
) -> Result<Node<E>, NodeError> {
    let (inbox, receiver) = mailbox(MAILBOX_MESSAGES_MAX);
    let (answers, port) = mailbox(MAILBOX_MESSAGES_MAX);
    let api_options = ApiOptions {
        lease_ttl_min: crate::history::leases::TTL_MIN,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id().0,
        version: "3.6.0",
        request_bytes_max: 3 << 19,
        txn_ops_max: crate::model::TXN_OPS_MAX,
        // What only five seconds of quiet allow would hardly ever be done here.
        strict_reconfig_check: false,
        quota_bytes,
        // Small, so that slow clients make watchers stall and outboxes spill.
        watch_limits: WatchLimits { outbox_bytes: 4_000, outboxes_bytes: 6_000 },
        watch_progress_interval: Duration::from_millis(700),
        leader_loss_timeout: 3 * options.election_timeout,
        // Small, so that many replies are made in chunks.
        reply_buffer_bytes: 2000,
    };
    let ports = ShardPorts { inbox: receiver, replies: vec![answers] };
    let (groups, election_timeout) = (options.groups.clone(), options.election_timeout);
    let shard = open_shard(&env, options, identity, ports, peers).await?;
    let handle = shard.handle(inbox);
    let executor = Executor::start(&env, 0, port, request_timeout(election_timeout));
    let end = Rc::new(RefCell::new(None));
    let ended = Rc::clone(&end);
    env.spawn(TaskQueue::Consensus, async move {
        let result = shard.run().await;
        *ended.borrow_mut() = Some(result);
    });
    let api = Api::new(executor, handle.clone(), Arc::new(api_options));
    let apis = groups.iter().map(|group| api.clone().with_group(*group)).collect();
    Ok(Node { apis, handle, end })
}

/// Waits until the node leads its groups, as the only member does when its vote is durable, or until it has ended.
pub(super) async fn lead<E: Env>(env: &E, node: &Node<E>) {
    while node.end.borrow().is_none() && node.handle.groups.iter().any(|group| group.status.leader() == 0) {
        env.sleep(Duration::from_millis(1)).await;
    }
}
