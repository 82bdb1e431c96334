//! All members of a cluster, and what they say of who leads.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use plinth_client::Status;
use plinth_rpc::etcdserverpb as pb;

use super::{
    caller::Caller,
    log_disk::LogDisk,
    member::Member,
    net::{Network, address},
    proxy::{PEER_PORT, Proxy, Weather, proxied},
};
use crate::{
    node::{Bench, Refusal},
    outcome::{Ended, Outcome, ensure},
};

/// How long anything may take that clusters do by themselves: an election, catching up. Only a hang is found by it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// Some have not been connected for long enough.
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// A member that is well says in this time what it knows.
const STATUS_MAX: Duration = Duration::from_secs(5);

/// How members reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wiring {
    /// Over the switch.
    Direct,
    /// Through a proxy, which can be told to be a bad network.
    Proxied,
}

/// Where members keep their logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Logs {
    /// In their directories.
    Inside,
    /// On disks of their own, which can be told to be bad ones.
    Apart,
}

/// A cluster. Its processes are killed and its network is removed when it is dropped.
pub(crate) struct Cluster<'a> {
    bench: &'a Bench,
    // Dropped in this order: nobody runs in a namespace that is removed.
    members: Vec<Member>,
    proxy: Option<Proxy>,
    network: Network,
    /// Ids of members by their numbers; none for those that belong to the cluster no more, or not yet.
    ids: Vec<Option<u64>>,
    /// Who was said to lead in which term.
    leaders: RefCell<BTreeMap<u64, u64>>,
}

impl<'a> Cluster<'a> {
    /// Starts so many members and waits until they serve.
    pub(crate) fn start(bench: &'a Bench, size: usize, wiring: Wiring, logs: Logs) -> Result<Self, Ended> {
        let mut network = Network::new()?;
        let mut members: Vec<Member> = Vec::new();
        for _ in 0..size {
            let number = network.plug_in()?;
            let reached_at = if wiring == Wiring::Proxied { proxied(number) } else { address(number) };
            let url = format!("http://{reached_at}:{PEER_PORT}");
            let mut member = Member::new(number, network.of_member(number), url)?;
            if logs == Logs::Apart {
                member.set_disk(LogDisk::new()?);
            }
            members.push(member);
        }
        let proxy = (wiring == Wiring::Proxied).then(|| Proxy::start(&network, size)).transpose()?;
        let initial_cluster = members.iter().map(Member::entry).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.set_flags(&["--initial-cluster", &initial_cluster]);
        }
        let (ids, leaders) = (vec![None; size], RefCell::default());
        let mut cluster = Self { bench, members, proxy, network, ids, leaders };
        cluster.members.iter_mut().try_for_each(|member| member.spawn(bench))?;
        cluster.members.iter_mut().try_for_each(Member::await_ready)?;
        for member in 0..size {
            let id = cluster.status(member)?.header.map_or(0, |header| header.member_id);
            cluster.ids[member] = Some(id);
        }
        cluster.await_leader(&cluster.all())?;
        Ok(cluster)
    }

    /// The numbers of all members.
    pub(crate) fn all(&self) -> Vec<usize> {
        self.machines().filter(|member| self.ids[*member].is_some()).collect()
    }

    /// The numbers of all that were or may become members, too.
    pub(crate) fn machines(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    /// Plugs in one more machine, which belongs to nothing yet, and gives its number.
    pub(crate) fn plug_in(&mut self) -> Result<usize, Ended> {
        assert!(self.proxy.is_none(), "the proxy knows only those who were there first");
        let number = self.network.plug_in()?;
        let url = format!("http://{}:{PEER_PORT}", address(number));
        self.members.push(Member::new(number, self.network.of_member(number), url)?);
        self.ids.push(None);
        Ok(number)
    }

    /// Has a member add another one, whose process can be started then.
    pub(crate) fn add(&mut self, by: usize, member: usize, is_learner: bool) -> Outcome {
        let url = self.members[member].peer_url().to_owned();
        let id = self.change(|| Ok(self.connect(by)?.member_add(&url, is_learner)))?;
        self.ids[member] = Some(id);
        let all: Vec<String> = self.all().into_iter().map(|member| self.members[member].entry()).collect();
        self.members[member].set_flags(&["--initial-cluster", &all.join(","), "--initial-cluster-state", "existing"]);
        Ok(())
    }

    /// Has a member remove another one, or itself.
    pub(crate) fn remove(&mut self, by: usize, member: usize) -> Outcome {
        let id = self.id(member);
        self.change(|| Ok(self.connect(by)?.member_remove(id)))?;
        self.ids[member] = None;
        Ok(())
    }

    /// Asks until members have been connected for so long that the cluster counts as healthy.
    fn change<T>(&self, ask: impl Fn() -> Result<Result<T, Status>, Ended>) -> Result<T, Ended> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match ask()? {
                Err(status) if status.message == UNHEALTHY && Instant::now() < deadline => sleep(POLL),
                answer => return answer.map_err(|status| Ended::Failed(format!("a change of the members: {status}"))),
            }
        }
    }

    /// These members are gone for ever, and the cluster with them.
    pub(crate) fn bury(&mut self, members: &[usize]) {
        members.iter().for_each(|member| self.ids[*member] = None);
    }

    /// All members but these.
    pub(crate) fn all_but(&self, without: &[usize]) -> Vec<usize> {
        self.all().into_iter().filter(|member| !without.contains(member)).collect()
    }

    pub(crate) fn member(&self, member: usize) -> &Member {
        &self.members[member]
    }

    pub(crate) fn member_mut(&mut self, member: usize) -> &mut Member {
        &mut self.members[member]
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The proxy of a cluster that has one.
    pub(crate) fn proxy(&self) -> Result<&Proxy, Ended> {
        self.proxy.as_ref().ok_or_else(|| Ended::Failed("this cluster has no proxy".to_owned()))
    }

    /// The id of a member.
    pub(crate) fn id(&self, member: usize) -> u64 {
        self.ids[member].expect("it is a member")
    }

    /// Starts a member's process; it may take a while until it serves.
    pub(crate) fn spawn(&mut self, member: usize) -> Outcome {
        self.members[member].spawn(self.bench)
    }

    /// Starts a member that isn't there, and waits until it serves.
    pub(crate) fn restart(&mut self, member: usize) -> Outcome {
        self.spawn(member)?;
        self.members[member].await_ready()
    }

    /// Starts everybody who isn't there, and waits until they serve.
    pub(crate) fn start_missing(&mut self) -> Outcome {
        let missing: Vec<usize> = self.all().into_iter().filter(|member| !self.members[*member].is_up()).collect();
        for member in &missing {
            self.spawn(*member)?;
        }
        missing.into_iter().try_for_each(|member| self.members[member].await_ready())
    }

    /// What a member says when it is started that must refuse to.
    pub(crate) fn refusal(&self, member: usize) -> Result<Refusal, Ended> {
        self.members[member].refusal(self.bench)
    }

    /// Nothing is wrong any more: the network is whole, everybody runs.
    pub(crate) fn heal(&mut self) -> Outcome {
        self.network.heal()?;
        if let Some(proxy) = &self.proxy {
            proxy.change(Weather::default());
        }
        for member in &mut self.members {
            member.heal_disk();
            member.thaw()?;
            member.ensure_runs()?;
        }
        self.start_missing()
    }

    /// Stops everybody in order; the files that they leave must be sound.
    pub(crate) fn stop(&mut self) -> Outcome {
        let all = self.all();
        all.iter().try_for_each(|member| self.members[*member].terminate())?;
        all.iter().try_for_each(|member| self.members[*member].await_stop())?;
        all.iter().try_for_each(|member| self.members[*member].ensure_sound(self.bench))
    }

    /// A connection to a member for what it says of itself.
    pub(crate) fn connect(&self, member: usize) -> Result<Caller, Ended> {
        self.members[member].connect(STATUS_MAX)
    }

    fn status(&self, member: usize) -> Result<pb::StatusResponse, Ended> {
        let status = self.connect(member)?.status();
        status.map_err(|status| Ended::Failed(format!("status of m{member}: {status}")))
    }

    /// Waits until these members agree that one of them leads, and says which one.
    pub(crate) fn await_leader(&self, among: &[usize]) -> Result<usize, Ended> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let said = among.iter().map(|member| self.led_by(*member)).collect::<Result<Vec<_>, _>>()?;
            if let Some(leader) = said[0]
                && among.contains(&leader)
                && said.iter().all(|other| *other == Some(leader))
            {
                return Ok(leader);
            }
            ensure(Instant::now() < deadline, || format!("of {among:?} nobody leads: they name {said:?}"))?;
            sleep(POLL);
        }
    }

    /// Who leads, as far as a member knows.
    pub(crate) fn led_by(&self, member: usize) -> Result<Option<usize>, Ended> {
        self.leadership(member).map(|(_, leader)| leader)
    }

    /// The term that a member is in, and who leads in it, as far as the member knows.
    pub(crate) fn leadership(&self, member: usize) -> Result<(u64, Option<usize>), Ended> {
        let status = self.status(member)?;
        if status.leader == 0 {
            return Ok((status.raft_term, None));
        }
        let known = *self.leaders.borrow_mut().entry(status.raft_term).or_insert(status.leader);
        ensure(known == status.leader, || {
            format!("{known:x} led in term {}, and m{member} names {:x}", status.raft_term, status.leader)
        })?;
        Ok((status.raft_term, self.ids.iter().position(|id| *id == Some(status.leader))))
    }
}
