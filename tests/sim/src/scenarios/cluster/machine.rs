//! A member on its machine.

use std::time::Duration;

use plinth_base::{GroupId, MemberId, Prng};
use plinth_kv::MemberRecord;
use plinth_node::{Identity, ShardOptions};
use plinth_sim_env::{Sim, SimEnv, Stopped};

use crate::{
    scenario::Violation,
    scenarios::{clients::watching::Recordings, node::machine as node},
};

pub(super) const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;

/// A start that waits for nobody but its own disk ends within this.
const START_MAX: Duration = Duration::from_secs(60);

/// A member, up or down.
pub(super) struct Member {
    pub(super) host: usize,
    pub(super) id: MemberId,
    options: ShardOptions,
    identity: Identity,
    pub(super) node: Option<node::Node<SimEnv>>,
    /// Its disk was told to fail: that it ends is right.
    pub(super) may_end: bool,
    /// What watchers of the process that runs, or ran last, were sent.
    pub(super) watched: Vec<Recordings>,
}

fn record(host: usize) -> MemberRecord {
    MemberRecord {
        // In no order that means anything.
        id: MemberId(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(host as u64 + 1)),
        name: format!("m{host}"),
        peer_urls: vec![format!("sim://{host}")],
        ..MemberRecord::default()
    }
}

impl Member {
    pub(super) fn new(host: usize, size: usize, prng: &mut Prng) -> Self {
        let initial_members = (0..size).map(record).collect();
        let member = record(host);
        let options = ShardOptions {
            groups: vec![GroupId(0)],
            election_timeout: ELECTION_TIMEOUT,
            lease_grace: ELECTION_TIMEOUT,
            stall_hard: ELECTION_TIMEOUT,
            // Often so little that whoever was away for a while needs a snapshot.
            catch_up_log_bytes: [64 << 10, 1 << 20, 64 << 20][prng.index(3)],
            append_bytes_max: [1, 4_000, 512 << 10][prng.index(3)],
            window_bytes: [1, 20_000, 4 << 20][prng.index(3)],
            tail_bytes_max: [20_000, 64 << 20][prng.index(2)],
            ..node::options(prng)
        };
        let identity = Identity { cluster_id: CLUSTER, member: member.clone(), initial_members, joins: false };
        Self { host, id: member.id, options, identity, node: None, may_end: false, watched: Vec::new() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.end.borrow().is_none())
    }

    pub(super) fn node(&self) -> &node::Node<SimEnv> {
        self.node.as_ref().expect("it was started")
    }

    /// False if its disk failed, as it was told to.
    pub(super) fn start(&mut self, sim: &Sim) -> Result<bool, Violation> {
        if self.node.is_some() {
            // It has ended, and nobody has looked since.
            self.check_end(sim)?;
        }
        let env = sim.host(self.host).env();
        let peers = Box::new(env.peers(self.id));
        let begin = node::start_member(env, self.options.clone(), &self.identity, peers);
        match sim.block_on_within(begin, plinth_sim_env::Limit::Time(START_MAX)) {
            Ok(Ok(node)) => {
                self.node = Some(node);
                Ok(true)
            }
            Ok(Err(_)) if self.may_end => {
                self.crash(sim, false);
                Ok(false)
            }
            Ok(Err(error)) => Err(Violation(format!("member {} doesn't start: {error}", self.host))),
            Err(Stopped::Limit) => Err(Violation(format!("member {} doesn't come up within {START_MAX:?}", self.host))),
            Err(stopped) => Err(Violation(format!("the start of member {} never ends: {stopped}", self.host))),
        }
    }

    /// The machine goes down, or the process alone.
    pub(super) fn crash(&mut self, sim: &Sim, power_cut: bool) {
        let host = sim.host(self.host);
        if power_cut {
            host.crash();
        } else {
            host.kill();
        }
        self.node = None;
        self.may_end = false;
        // Nobody hears what they would have been sent.
        for recordings in &self.watched {
            crate::scenarios::clients::watching::cut(recordings);
        }
    }

    /// A member ends when its disk fails, and only then.
    pub(super) fn check_end(&mut self, sim: &Sim) -> Result<(), Violation> {
        let end = match &*self.node().end.borrow() {
            None => return Ok(()),
            Some(Ok(())) => "it stopped unasked".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        if !self.may_end {
            return Err(Violation(format!("member {} ended: {end}", self.host)));
        }
        self.crash(sim, false);
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let Some(node) = &self.node else { return format!("m{} is down", self.host) };
        let status = &node.handle.groups[0].status;
        format!(
            "m{} {:x}: term {}, leader {:x}, commit {}, applied {}",
            self.host,
            self.id.0,
            status.term(),
            status.leader(),
            status.commit(),
            status.applied()
        )
    }
}
