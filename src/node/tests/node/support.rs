//! A member on the simulated machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use plinth_base::{MemberId, limits::MAILBOX_MESSAGES_MAX, mailbox::mailbox};
use plinth_env::{Alone, Env, TaskQueue};
use plinth_node::{
    Executor, Identity, MemberRecord, NodeError, ShardHandle, ShardOptions, ShardPorts, WatchLimits,
    api::{Api, ApiOptions, REPLY_BUFFER_BYTES, request_timeout},
    open_shard,
};
use plinth_rpc::{Status, etcdserverpb as pb};
use plinth_sim_env::SimEnv;

const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

pub const TREE: &str = "/data/tree/group-0.tree";
pub const WAL_DIR: &str = "/data/wal";

pub struct Node {
    pub api: Api<SimEnv>,
    pub handle: ShardHandle<SimEnv>,
}

pub fn options() -> ShardOptions {
    ShardOptions {
        segment_bytes: 512 << 10,
        tree_bytes_max: 1 << 30,
        request_timeout: request_timeout(ELECTION_TIMEOUT),
        ..ShardOptions::new(PathBuf::from("/data/tree"), PathBuf::from(WAL_DIR))
    }
}

/// Starts the only member of a cluster and waits until it leads.
pub async fn start(env: &SimEnv, options: ShardOptions) -> Result<Node, NodeError> {
    let (inbox, receiver) = mailbox(MAILBOX_MESSAGES_MAX);
    let (answers, port) = mailbox(MAILBOX_MESSAGES_MAX);
    let member = MemberRecord {
        id: MemberId(1),
        name: "default".to_owned(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        ..MemberRecord::default()
    };
    let identity = Identity { cluster_id: 7, initial_members: vec![member.clone()], member, joins: false };
    let ports = ShardPorts { inbox: receiver, replies: vec![answers] };
    let shard = open_shard(env, options, &identity, ports, Box::new(Alone)).await?;
    let handle = shard.handle(inbox);
    let executor = Executor::start(env, 0, port, request_timeout(ELECTION_TIMEOUT));
    env.spawn(TaskQueue::Consensus, async move {
        shard.run().await.expect("no fault is planned that ends a shard");
    });
    let options = ApiOptions {
        lease_ttl_min: 2,
        cluster_id: 7,
        member_id: 1,
        version: "3.6.0",
        request_bytes_max: 1 << 20,
        txn_ops_max: 128,
        strict_reconfig_check: true,
        quota_bytes: None,
        watch_limits: WatchLimits::default(),
        watch_progress_interval: Duration::from_secs(600),
        leader_loss_timeout: 3 * ELECTION_TIMEOUT,
        reply_buffer_bytes: REPLY_BUFFER_BYTES,
    };
    let api = Api::new(executor, handle.clone(), Arc::new(options));
    while !api.has_leader() {
        env.sleep(Duration::from_millis(1)).await;
    }
    Ok(Node { api, handle })
}

pub async fn put(api: &Api<SimEnv>, key: &str) -> Result<(), Status> {
    api.put(pb::PutRequest { key: key.to_owned().into(), ..Default::default() }).await.map(drop)
}

/// How many keys there are.
pub async fn keys(api: &Api<SimEnv>) -> i64 {
    let all =
        pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
    api.range(all).await.expect("nothing keeps a read from its answer").count
}
