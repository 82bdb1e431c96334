//! Members that come and go while everything else goes wrong.
//!
//! What was asked may come about at once, much later, or never; who belongs to the cluster is what the newest root says that anybody has applied. Until then both
//! are reckoned with: nobody else is taken away that a majority might need, whatever becomes of it.

use std::time::Duration;

use plinth_base::MemberId;
use plinth_env::{Env, TaskQueue};
use plinth_kv::{Electorate, MemberRecord};
use plinth_rpc::etcdserverpb as pb;
use plinth_sim_env::{Limit, url_of};

use super::{LOOK_INTERVAL, Run, machine::Standing};
use crate::scenario::Violation;

/// Who the members are is read in this time, or later.
const LIST_MAX: Duration = Duration::from_secs(2);

impl Run {
    /// An operator asks somebody to change the members.
    pub(in crate::scenarios) fn change_members(&mut self) {
        let up: Vec<usize> = (0..self.members.len()).filter(|host| self.members[*host].is_up()).collect();
        if up.is_empty() || self.spares == 0 {
            return;
        }
        let via = up[self.prng.index(up.len())];
        match self.prng.below(6) {
            0 | 1 => self.ask_to_add(via),
            2 | 3 => self.ask_to_promote(via),
            _ => self.ask_to_remove(via),
        }
    }

    pub(in crate::scenarios) fn draw(&mut self, fits: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.members.len()).filter(|host| fits(self, *host)).collect();
        (!fitting.is_empty()).then(|| fitting[self.prng.index(fitting.len())])
    }

    fn ask_to_add(&mut self, via: usize) {
        let Some(host) = self.draw(|run, host| run.members[host].standing == Standing::Spare) else { return };
        let is_learner = self.prng.chance(1, 2);
        self.ask_to_add_as(via, host, is_learner);
    }

    pub(in crate::scenarios) fn ask_to_add_as(&mut self, via: usize, host: usize, is_learner: bool) {
        self.observed.note("member added");
        self.members[host].comes |= !is_learner;
        let request = pb::MemberAddRequest { peer_ur_ls: vec![url_of(host)], is_learner };
        let api = self.node_of(via).apis[0].clone();
        self.env_of(via).spawn(TaskQueue::Serve, async move { drop(api.member_add(request).await) });
    }

    fn ask_to_promote(&mut self, via: usize) {
        let is_learner = |run: &Self, host: usize| {
            let member = &run.members[host];
            // One whose disk is rotten would be a voter that nobody can count on.
            let is_learner = !member.is_voter && !member.comes;
            member.standing == Standing::Present && is_learner && member.rotten.is_none()
        };
        let Some(host) = self.draw(is_learner) else { return };
        self.observed.note("learner promoted");
        self.members[host].comes = true;
        let request = pb::MemberPromoteRequest { id: self.members[host].id.0 };
        let api = self.node_of(via).apis[0].clone();
        self.env_of(via).spawn(TaskQueue::Serve, async move { drop(api.member_promote(request).await) });
    }

    fn ask_to_remove(&mut self, via: usize) {
        let is_spare =
            |run: &Self, host: usize| run.members[host].standing == Standing::Present && run.can_do_without(host);
        let Some(host) = self.draw(is_spare) else { return };
        self.observed.note("member removed");
        self.members[host].leaves = true;
        let request = pb::MemberRemoveRequest { id: self.members[host].id.0 };
        let api = self.node_of(via).apis[0].clone();
        self.env_of(via).spawn(TaskQueue::Serve, async move { drop(api.member_remove(request).await) });
    }

    /// Whether the others are enough to go on, come what may: those whose disks are sound, whose logs surely hold what they held, and who don't leave.
    pub(in crate::scenarios) fn can_do_without(&self, host: usize) -> bool {
        let is_certain = |member: &&super::Member| {
            member.is_voter && !member.leaves && member.rotten.is_none() && !member.is_doubtful && member.host != host
        };
        let voters = self.members.iter().filter(|member| member.is_voter || member.comes).count();
        self.members.iter().filter(is_certain).count() > voters / 2
    }

    /// What has become of it, as far as anybody who is up has applied it.
    pub(in crate::scenarios) fn note_members(&mut self) -> Result<(), Violation> {
        let roots = (0..self.members.len()).filter(|host| self.members[*host].is_up());
        let roots = roots.map(|host| (self.node_of(host).handle.groups[0].root().state.applied.0, host));
        let Some((applied, host)) = roots.max().filter(|(applied, _)| *applied > self.members_at) else {
            return Ok(());
        };
        let electorate = self.node_of(host).handle.groups[0].root().state.electorate.clone();
        if ids(&electorate).any(|id| self.members.iter().all(|member| member.id != id)) && !self.identify(host)? {
            return Ok(());
        }
        self.members_at = applied;
        for member in &mut self.members {
            let is_voter = electorate.voters.contains(&member.id) || electorate.outgoing.contains(&member.id);
            let is_there = ids(&electorate).any(|id| id == member.id);
            if member.standing == Standing::Present && !is_there {
                member.standing = Standing::Removed;
                (member.leaves, member.comes) = (false, false);
            }
            member.is_voter = is_voter;
            member.comes &= !is_voter;
            member.comes |= electorate.awaited.contains(&member.id);
        }
        Ok(())
    }

    /// Who is at which machine; false if it can't be read now.
    fn identify(&mut self, host: usize) -> Result<bool, Violation> {
        let api = self.node_of(host).apis[0].clone();
        let request = pb::MemberListRequest { linearizable: false };
        let listed = self.sim.block_on_within(api.member_list(request), Limit::Time(LIST_MAX));
        let Ok(Ok(listed)) = listed else { return Ok(false) };
        let record = |member: &pb::Member| MemberRecord {
            id: MemberId(member.id),
            peer_urls: member.peer_ur_ls.clone(),
            ..MemberRecord::default()
        };
        let records: Vec<MemberRecord> = listed.members.iter().map(record).collect();
        for member in self.members.iter_mut().filter(|member| member.standing == Standing::Spare) {
            let url = url_of(member.host);
            if let Some(own) = records.iter().find(|record| record.peer_urls.contains(&url)) {
                member.join(own.id, records.clone());
            }
        }
        Ok(true)
    }

    /// When nothing goes wrong any more, whoever was added is there, votes, and whoever was removed has gone.
    pub(in crate::scenarios) fn complete_members(&mut self) -> Result<(), Violation> {
        // What was asked is done by then, or never.
        self.go_on(self.settings.settled_after())?;
        let end = self.sim.elapsed() + self.settings.progress_max();
        loop {
            self.note_members()?;
            for host in 0..self.members.len() {
                if self.members[host].standing == Standing::Removed && !self.members[host].is_lost {
                    self.members[host].lose(&self.sim);
                }
                if self.members[host].standing == Standing::Present && !self.members[host].is_up() {
                    self.start(host)?;
                }
            }
            let waiting = self.draw(|run, host| {
                let member = &run.members[host];
                member.standing == Standing::Present && !member.is_voter && !member.is_lost
            });
            let Some(host) = waiting else { return Ok(()) };
            if self.sim.elapsed() > end {
                return Err(Violation(format!("m{host} never votes: {}", self.describe())));
            }
            let request = pb::MemberPromoteRequest { id: self.members[host].id.0 };
            if let Some(via) = self.draw(|run, host| run.members[host].is_up() && run.members[host].is_voter) {
                let api = self.node_of(via).apis[0].clone();
                drop(
                    self.sim.block_on_within(api.member_promote(request), Limit::Time(self.settings.request_timeout())),
                );
            }
            self.go_on(LOOK_INTERVAL)?;
        }
    }
}

fn ids(electorate: &Electorate) -> impl Iterator<Item = MemberId> + '_ {
    electorate.voters.iter().chain(&electorate.outgoing).chain(&electorate.learners).copied()
}
