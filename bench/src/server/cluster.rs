//! The processes that are one server to its clients: one, or several members on loopback, each with a data directory of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Kind, Program, Server, Standing, Start, ports::lasting_ports};
use crate::failure::Failure;

/// How many members a cluster of several has.
pub const MEMBERS: usize = 3;
/// How long a cluster whose members all answer may take to agree on who leads it.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(30);
const LEADER_POLL: Duration = Duration::from_millis(10);
/// How long it may refuse a new member.
const MEMBER_WAIT_MAX: Duration = Duration::from_secs(30);
const MEMBER_PAUSE: Duration = Duration::from_millis(200);

/// Where a cluster's data lies, and where its members talk to each other: both go together, because members remember the addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    dir: PathBuf,
    /// Empty for a server that is alone.
    peers: Vec<SocketAddr>,
}

/// Who leads a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lead {
    /// By its place among the members.
    pub member: usize,
    /// Raft's. Whoever led without a pause does so in the same one.
    pub term: u64,
}

/// Running members; killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Server>,
    program: Program,
    home: Home,
    cores: Vec<usize>,
    flags: Vec<String>,
}

impl Home {
    /// Of a server that is alone: `dir` is its data directory.
    #[must_use]
    pub fn alone(dir: PathBuf) -> Self {
        Self { dir, peers: Vec::new() }
    }

    /// A new one in `dir`, which is made if several members share it. There are 1 and 3 members.
    pub fn new(dir: PathBuf, members: usize) -> Result<Self, Failure> {
        if members == 1 {
            return Ok(Self::alone(dir));
        }
        if members != MEMBERS {
            return Err(Failure::Usage(format!("a cluster has 1 or {MEMBERS} members here, not {members}")));
        }
        std::fs::create_dir_all(&dir).map_err(Failure::file(&dir, "making"))?;
        let ports: [u16; MEMBERS] = lasting_ports().map_err(Failure::file(&dir, "looking for ports for"))?;
        Ok(Self { dir, peers: ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).to_vec() })
    }

    /// The same members in another place.
    #[must_use]
    pub fn moved_to(&self, dir: PathBuf) -> Self {
        Self { dir, peers: self.peers.clone() }
    }

    /// All of it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it has one member.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    fn member_dirs(&self) -> Vec<PathBuf> {
        match self.peers.len() {
            0 => vec![self.dir.clone()],
            count => (0..count).map(|number| self.dir.join(format!("m{number}"))).collect(),
        }
    }
}

impl Cluster {
    /// Starts every member on `cores`, which they share. A plinth, whose threads stay where they are, leaves the first core to the first member: else the shards of all
    /// would be there, and the other cores idle. On machines of their own they would have a core each.
    pub fn start(program: &Program, home: &Home, cores: &[usize], flags: &[String]) -> Result<Self, Failure> {
        let cluster = Self::start_each(program, home, cores, |_| flags.to_vec())?;
        Ok(Self { flags: flags.to_vec(), ..cluster })
    }

    /// The same, each with flags of its own.
    pub fn start_each(
        program: &Program,
        home: &Home,
        cores: &[usize],
        flags: impl Fn(usize) -> Vec<String>,
    ) -> Result<Self, Failure> {
        let (program, home) = (program.clone(), home.clone());
        let mut cluster = Self { members: Vec::new(), program, home, cores: cores.to_vec(), flags: Vec::new() };
        for member in 0..cluster.home.member_dirs().len() {
            let server = cluster.start_member(member, &flags(member))?;
            cluster.members.push(server);
        }
        Ok(cluster)
    }

    fn start_member(&self, member: usize, flags: &[String]) -> Result<Server, Failure> {
        let is_beside = member > 0 && self.program.kind == Kind::Plinth && self.cores.len() > 1;
        let cores = if is_beside { &self.cores[1..] } else { &self.cores };
        let data_dir = &self.home.member_dirs()[member];
        self.program.start_as(Start { data_dir, cores, peers: &self.home.peers, member, flags })
    }

    /// Stops the last member, which doesn't lead, and throws its data away; the cluster has a new member without data in its place, which doesn't run.
    pub fn replace_last(&mut self) -> Result<(), Failure> {
        let last = self.members.pop().expect("a cluster has members");
        let id = last.standing()?.id;
        last.stop()?;
        let (number, leader) = (self.members.len(), self.leader()?);
        leader.remove_member(id)?;
        let dir = &self.home.member_dirs()[number];
        std::fs::remove_dir_all(dir).map_err(Failure::file(dir, "removing"))?;
        let deadline = Instant::now() + MEMBER_WAIT_MAX;
        loop {
            match leader.add_member(self.home.peers[number]) {
                Ok(()) => return Ok(()),
                Err(failure) if Instant::now() > deadline => return Err(failure),
                // A cluster whose members changed just now may refuse for a while.
                Err(_) => thread::sleep(MEMBER_PAUSE),
            }
        }
    }

    /// Starts the member that was added last. It isn't one of [`Self::members`] until it is handed over.
    pub fn start_new(&self) -> Result<Server, Failure> {
        let mut flags = self.flags.clone();
        flags.extend(["--initial-cluster-state", "existing"].map(str::to_owned));
        self.start_member(self.members.len(), &flags)
    }

    /// Takes the member in that was started so.
    pub fn admit(&mut self, member: Server) {
        self.members.push(member);
    }

    /// Waits until every member answers a linearizable range; gives how long that took from the first one's start on.
    pub fn wait_until_ready(&mut self) -> Result<Duration, Failure> {
        for member in &mut self.members {
            member.wait_until_ready()?;
        }
        Ok(self.members[0].spawned.elapsed())
    }

    /// Waits until all members say the same of who leads them.
    pub fn await_lead(&self) -> Result<Lead, Failure> {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        loop {
            let standings: Result<Vec<Standing>, Failure> = self.members.iter().map(Server::standing).collect();
            match lead_of(&standings?) {
                Some(lead) => return Ok(lead),
                None if Instant::now() > deadline => {
                    let waited = LEADER_WAIT_MAX.as_secs();
                    return Err(self.members[0].trouble(&format!("its cluster agrees on no leader within {waited} s")));
                }
                None => thread::sleep(LEADER_POLL),
            }
        }
    }

    /// Has the first member lead, and waits until all say that it does.
    pub fn lead_by_first(&self) -> Result<Lead, Failure> {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        let first = self.members[0].standing()?.id;
        loop {
            let lead = self.await_lead()?;
            if lead.member == 0 {
                return Ok(lead);
            }
            let moved = self.members[lead.member].move_leader(first);
            if Instant::now() > deadline {
                let waited = LEADER_WAIT_MAX.as_secs();
                return moved.and(Err(self.members[0].trouble(&format!("it does not come to lead within {waited} s"))));
            }
            thread::sleep(LEADER_POLL);
        }
    }

    /// The member that leads, once all agree that it does.
    pub fn leader(&self) -> Result<&Server, Failure> {
        Ok(&self.members[self.await_lead()?.member])
    }

    /// All of them.
    #[must_use]
    pub fn members(&self) -> &[Server] {
        &self.members
    }

    /// Where clients find each member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Server::endpoint).collect()
    }

    /// Bytes of the largest member's database.
    pub fn db_bytes(&self) -> Result<u64, Failure> {
        let sizes: Result<Vec<u64>, Failure> = self.members.iter().map(|server| Ok(server.status()?.db_size)).collect();
        Ok(sizes?.into_iter().max().unwrap_or(0))
    }

    /// SIGTERM to all at once, so that none waits for another to take over, and waits for the ends.
    pub fn stop(mut self) -> Result<(), Failure> {
        for member in &self.members {
            member.signal(Signal::TERM)?;
        }
        self.members.iter_mut().try_for_each(Server::wait_until_stopped)
    }
}

/// What members say together of who leads them; nothing while they differ, or while it is none of them.
fn lead_of(standings: &[Standing]) -> Option<Lead> {
    let Standing { leader, term, .. } = *standings.first()?;
    let is_agreed = standings.iter().all(|standing| (standing.leader, standing.term) == (leader, term));
    let member = standings.iter().position(|standing| standing.id == leader)?;
    is_agreed.then_some(Lead { member, term })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_whom_all_members_name_in_the_same_term() {
        let standing = |(id, leader, term)| Standing { id, leader, term };
        let lead = |all: [(u64, u64, u64); 3]| lead_of(&all.map(standing));
        assert_eq!(lead([(7, 8, 3), (8, 8, 3), (9, 8, 3)]), Some(Lead { member: 1, term: 3 }));
        assert_eq!(lead([(7, 8, 3), (8, 8, 3), (9, 8, 2)]), None, "the third has not heard of the term");
        assert_eq!(lead([(7, 8, 3), (8, 8, 3), (9, 9, 3)]), None);
        assert_eq!(lead([(7, 0, 3), (8, 0, 3), (9, 0, 3)]), None, "there is none");
        assert_eq!(lead_of(&[]), None);
        assert_eq!(lead_of(&[standing((5, 5, 2))]), Some(Lead { member: 0, term: 2 }), "one alone leads itself");
    }

    #[test]
    fn members_have_directories_and_ports_of_their_own_that_move_together() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let alone = Home::new(folder.path().join("one"), 1).expect("nothing is made");
        assert_eq!((alone.member_dirs(), alone.peers.len()), (vec![folder.path().join("one")], 0));
        let three = Home::new(folder.path().join("three"), 3).expect("a place is made");
        let moved = three.moved_to(PathBuf::from("/elsewhere"));
        assert_eq!(moved.peers, three.peers);
        assert_eq!(moved.member_dirs()[2], Path::new("/elsewhere/m2"));
        let mut ports: Vec<u16> = three.peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 3);
        let refused = Home::new(folder.path().join("two"), 2).expect_err("two").to_string();
        assert_eq!(refused, "a cluster has 1 or 3 members here, not 2");
    }
}
