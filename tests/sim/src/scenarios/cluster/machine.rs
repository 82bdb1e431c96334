//! A member on its machine.

use std::{path::PathBuf, time::Duration};

use plinth_base::{MemberId, Prng};
use plinth_kv::MemberRecord;
use plinth_node::{Identity, ShardOptions};
use plinth_sim_env::{Sim, SimEnv, Stopped, url_of};

use super::{GROUP, settings::Settings};
use crate::{
    scenario::Violation,
    scenarios::{
        clients::watching::Recordings,
        node::{checks, machine as node},
    },
};

const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;

/// A start that waits for nobody but its own disk ends within this.
const START_MAX: Duration = Duration::from_secs(60);

/// What a machine is to the cluster, as far as the newest root says that anybody was seen to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scenarios) enum Standing {
    /// A machine without data, which belongs to nothing yet.
    Spare,
    /// A member.
    Present,
    /// It was one.
    Removed,
}

/// A member, up or down.
pub(in crate::scenarios) struct Member {
    pub(in crate::scenarios) host: usize,
    pub(in crate::scenarios) id: MemberId,
    pub(in crate::scenarios) standing: Standing,
    pub(in crate::scenarios) is_voter: bool,
    /// Somebody asked that it becomes a voter, and it isn't yet.
    pub(in crate::scenarios) comes: bool,
    /// Somebody asked that it is removed, and it isn't yet.
    pub(in crate::scenarios) leaves: bool,
    options: ShardOptions,
    identity: Identity,
    pub(in crate::scenarios) node: Option<node::Node<SimEnv>>,
    quota_bytes: Option<u64>,
    /// Its disk was told to fail: that it ends is right.
    pub(in crate::scenarios) may_end: bool,
    /// Something on its disk was to fail at some time, so clients may have been told of pages that couldn't be read.
    may_be_unreadable: bool,
    /// Something on its disk doesn't come back.
    pub(in crate::scenarios) is_stuck: bool,
    /// Its disk has little room left, or none.
    pub(in crate::scenarios) is_full: bool,
    /// A bit of this file is wrong: it may end, or refuse to start, but has to name the file.
    pub(in crate::scenarios) rotten: Option<PathBuf>,
    /// Its log may lack what it once held: until it has caught up, its vote counts only where all vote.
    pub(in crate::scenarios) is_doubtful: bool,
    /// Gone for good. With an empty disk it would not be the same member.
    pub(in crate::scenarios) is_lost: bool,
    /// What watchers of the process that runs, or ran last, were sent.
    pub(in crate::scenarios) watched: Vec<Recordings>,
}

fn is_about_room(error: &str) -> bool {
    ["room", "space", "full"].iter().any(|word| error.contains(word))
}

fn record(host: usize) -> MemberRecord {
    MemberRecord {
        // In no order that means anything.
        id: MemberId(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(host as u64 + 1)),
        name: format!("m{host}"),
        peer_urls: vec![url_of(host)],
        ..MemberRecord::default()
    }
}

impl Member {
    /// The first `size` machines make a cluster, the others are spare.
    pub(in crate::scenarios) fn new(host: usize, size: usize, settings: &Settings, prng: &mut Prng) -> Self {
        let is_first = host < size;
        let initial_members = (0..size).map(record).collect();
        let member = record(host);
        let options = ShardOptions {
            groups: vec![GROUP],
            election_timeout: settings.election_timeout,
            heartbeat_interval: settings.heartbeat_interval,
            lease_grace: settings.election_timeout,
            stall_soft: settings.election_timeout / 2,
            stall_hard: settings.election_timeout * 3 / 4,
            request_timeout: settings.request_timeout(),
            // Often so little that whoever was away for a while needs a snapshot.
            catch_up_log_bytes: [64 << 10, 1 << 20, 64 << 20][prng.index(3)],
            pin_age_max: Duration::from_millis([100, 2_000, 60_000][prng.index(3)]),
            pin_bytes_max: [1 << 10, 256 << 20][prng.index(2)],
            snapshot_part_bytes: [1 << 10, 20 << 10, 256 << 10][prng.index(3)],
            snapshot_save_bytes: [1 << 10, 100 << 10, 64 << 20][prng.index(3)],
            // Else it is as one that has another format of pages.
            reads_pages: prng.chance(3, 4),
            append_bytes_max: [1, 4_000, 512 << 10][prng.index(3)],
            window_bytes: [1, 20_000, 4 << 20][prng.index(3)],
            tail_bytes_max: [20_000, 64 << 20][prng.index(2)],
            ..node::options(prng)
        };
        let identity = Identity { cluster_id: CLUSTER, member: member.clone(), initial_members, joins: false };
        Self {
            host,
            id: member.id,
            standing: if is_first { Standing::Present } else { Standing::Spare },
            is_voter: is_first,
            comes: false,
            leaves: false,
            options,
            identity,
            node: None,
            quota_bytes: settings.quota_bytes,
            may_end: false,
            may_be_unreadable: false,
            is_stuck: false,
            is_full: false,
            rotten: None,
            is_doubtful: false,
            is_lost: !is_first,
            watched: Vec::new(),
        }
    }

    /// How it works from its next start on.
    pub(in crate::scenarios) fn options_mut(&mut self) -> &mut ShardOptions {
        &mut self.options
    }

    /// It was added to the cluster of `members`, as the one with this id.
    pub(in crate::scenarios) fn join(&mut self, id: MemberId, members: Vec<MemberRecord>) {
        self.id = id;
        self.identity.member.id = id;
        (self.identity.initial_members, self.identity.joins) = (members, true);
        (self.standing, self.is_lost) = (Standing::Present, false);
    }

    /// Its disk will fail. That it ends is right, that it can't read a page, and that the end of its log is torn.
    pub(in crate::scenarios) fn tell_to_fail(&mut self) {
        (self.may_end, self.may_be_unreadable, self.is_doubtful) = (true, true, true);
    }

    /// Whether it may say that a page can't be read.
    pub(in crate::scenarios) fn may_be_unreadable(&self) -> bool {
        self.may_be_unreadable || self.rotten.is_some()
    }

    /// The quota is no more; whether there was one. From the next start on.
    pub(in crate::scenarios) fn lift_quota(&mut self) -> bool {
        self.quota_bytes.take().is_some()
    }

    /// It goes away for good.
    pub(in crate::scenarios) fn lose(&mut self, sim: &Sim) {
        self.crash(sim, true);
        self.is_lost = true;
    }

    /// Whether an end with this error is right.
    fn explains(&self, error: &str) -> bool {
        let may_leave = self.leaves || self.standing == Standing::Removed;
        may_leave && error.contains("permanently removed")
            || self.may_end
            || self.rotten.as_ref().is_some_and(|path| checks::names(error, path))
    }

    pub(in crate::scenarios) fn is_up(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.end.borrow().is_none())
    }

    /// As far as it says; 0 if it is down or has just begun.
    pub(in crate::scenarios) fn term(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.handle.groups[0].status.term())
    }

    /// Whether it says that it leads.
    pub(in crate::scenarios) fn leads(&self) -> bool {
        self.is_up() && self.node().handle.groups[0].status.leader() == self.id.0
    }

    pub(in crate::scenarios) fn node(&self) -> &node::Node<SimEnv> {
        self.node.as_ref().expect("it was started")
    }

    /// False if its disk failed, as it was told to, or has forgotten something.
    pub(in crate::scenarios) fn start(&mut self, sim: &Sim) -> Result<bool, Violation> {
        // It has ended, and nobody has looked since.
        self.check_end(sim)?;
        if self.is_lost {
            return Ok(false);
        }
        let env = sim.host(self.host).env();
        let peers = Box::new(env.peers(self.id));
        let begin = node::start_member(env, self.options.clone(), &self.identity, self.quota_bytes, peers);
        match sim.block_on_within(begin, plinth_sim_env::Limit::Time(START_MAX)) {
            Ok(Ok(node)) => {
                self.node = Some(node);
                Ok(true)
            }
            Ok(Err(error)) if self.explains(&error.to_string()) => {
                self.is_lost = self.rotten.as_ref().is_some_and(|path| checks::names(&error.to_string(), path));
                self.crash(sim, false);
                Ok(false)
            }
            // It comes when there is room again.
            Ok(Err(error)) if self.is_full && is_about_room(&error.to_string()) => {
                self.crash(sim, false);
                Ok(false)
            }
            Ok(Err(error)) => Err(Violation(format!("member {} doesn't start: {error}", self.host))),
            Err(Stopped::Limit) => Err(Violation(format!(
                "member {} doesn't come up within {START_MAX:?}: {}",
                self.host,
                self.describe()
            ))),
            Err(stopped) => Err(Violation(format!("the start of member {} never ends: {stopped}", self.host))),
        }
    }

    /// The machine goes down, or the process alone.
    pub(in crate::scenarios) fn crash(&mut self, sim: &Sim, power_cut: bool) {
        let host = sim.host(self.host);
        if power_cut {
            host.crash();
        } else {
            host.kill();
        }
        self.node = None;
        (self.may_end, self.is_stuck) = (false, false);
        self.is_doubtful |= power_cut;
        // Nobody hears what they would have been sent.
        for recordings in &self.watched {
            crate::scenarios::clients::watching::cut(recordings);
        }
    }

    /// A member ends when its disk fails, and only then.
    pub(in crate::scenarios) fn check_end(&mut self, sim: &Sim) -> Result<(), Violation> {
        let Some(node) = &self.node else { return Ok(()) };
        let end = match &*node.end.borrow() {
            None => return Ok(()),
            Some(Ok(())) => "it stopped unasked".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        if !self.explains(&end) {
            return Err(Violation(format!("member {} ended: {end}", self.host)));
        }
        self.crash(sim, false);
        Ok(())
    }

    /// What it says of its log.
    pub(in crate::scenarios) fn note_doubt(&mut self) {
        let Some(node) = self.node.as_ref().filter(|_| self.is_up()) else { return };
        let status = &node.handle.groups[0].status;
        // One that has just started says nothing yet.
        if status.term() != 0 {
            self.is_doubtful = status.is_doubtful() || self.may_end;
        }
    }

    pub(in crate::scenarios) fn describe(&self) -> String {
        let Some(node) = &self.node else {
            let (rotten, is_lost) = (&self.rotten, self.is_lost);
            return format!("m{} is down (room: {}, rotten: {rotten:?}, lost: {is_lost})", self.host, !self.is_full);
        };
        let status = &node.handle.groups[0].status;
        let doubt = if status.is_doubtful() { ", in doubt" } else { "" };
        format!(
            "m{} {:x}: term {}, leader {:x}, commit {}, applied {}{doubt}",
            self.host,
            self.id.0,
            status.term(),
            status.leader(),
            status.commit(),
            status.applied()
        )
    }
}
