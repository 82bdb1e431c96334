//! What an operator does: makes room where there is none, gives up members whose disks rot, and clears the alarms that say so.

use plinth_env::{Env, TaskQueue};
use plinth_kv::AlarmKind;
use plinth_node::api::Api;
use plinth_rpc::etcdserverpb as pb;

use super::Run;
use crate::{
    call::Call,
    model::{DeleteRange, Request},
    scenarios::clients::{self, Shared},
};

/// More than any seed fills.
pub(super) const ROOMY_BYTES: u64 = 16 << 30;

impl Run {
    /// Full disks become larger, mostly; then the alarm is cleared, and what is stored is given up if there is a quota.
    pub(super) fn look_after_room(&mut self) {
        for host in 0..self.members.len() {
            if self.members[host].is_full && self.prng.chance(1, 2) {
                self.make_room(host);
            }
        }
        if self.members.iter().any(|member| member.is_full) || self.prng.chance(1, 2) {
            return;
        }
        let gives_up = self.settings.quota_bytes.is_some();
        let knows = |host: &usize| self.members[*host].is_up() && is_alarmed(&self.members[*host].node().apis[0]);
        let Some(host) = (0..self.members.len()).find(knows) else { return };
        self.observed.note("alarm cleared");
        let (api, clients) = (self.node_of(host).apis[0].clone(), std::rc::Rc::clone(&self.clients));
        self.env_of(host).spawn(TaskQueue::Serve, async move {
            if gives_up {
                give_up_everything(&api, &clients).await;
            }
            clear_alarms(&api).await;
        });
        for other in 0..self.members.len() {
            if gives_up && self.members[other].is_up() {
                let api = self.node_of(other).apis[0].clone();
                self.env_of(other).spawn(TaskQueue::Serve, async move {
                    let _ = api.defragment(pb::DefragmentRequest {}).await;
                });
            }
        }
    }

    /// Who is said to be rotten goes away for good, mostly soon; then the alarm is cleared.
    pub(super) fn look_after_rot(&mut self) {
        let alarmed =
            |host: &usize| self.members[*host].is_up() && corrupt(&self.members[*host].node().apis[0]).next().is_some();
        let Some(host) = (0..self.members.len()).find(alarmed).filter(|_| self.prng.chance(1, 2)) else { return };
        let rotten: Vec<u64> = corrupt(&self.members[host].node().apis[0]).collect();
        for member in self.members.iter_mut().filter(|member| rotten.contains(&member.id.0) && !member.is_lost) {
            self.observed.note("rotten member given up");
            member.lose(&self.sim);
        }
        let others = self.draw(|run, host| run.members[host].is_up());
        let Some(other) = others else { return };
        let api = self.node_of(other).apis[0].clone();
        self.env_of(other).spawn(TaskQueue::Serve, async move { clear_alarms(&api).await });
    }

    pub(super) fn make_room(&mut self, host: usize) {
        self.members[host].is_full = false;
        self.sim.host(host).set_capacity(ROOMY_BYTES);
    }
}

fn is_alarmed<E: Env>(api: &Api<E>) -> bool {
    api.published().root().state.alarms.iter().any(|(_, kind)| *kind == AlarmKind::NoSpace)
}

async fn give_up_everything<E: Env>(api: &Api<E>, clients: &Shared) {
    let all = DeleteRange { key: vec![0], range_end: vec![0], prev_kv: false };
    clients::send(api, clients, Request::DeleteRange(all).into(), false).await;
    let revision = clients.borrow().history.known_revision();
    clients::compact(api, clients, Call::Compact { revision, physical: true }).await;
}

/// The members that are said to be rotten.
fn corrupt<E: Env>(api: &Api<E>) -> impl Iterator<Item = u64> {
    let alarms = api.published().root().state.alarms.clone();
    alarms.into_iter().filter(|(_, kind)| *kind == AlarmKind::Corrupt).map(|(member, _)| member)
}

/// As far as this member knows of them.
pub(super) async fn clear_alarms<E: Env>(api: &Api<E>) {
    let alarms = api.published().root().state.alarms.clone();
    for (member_id, kind) in alarms {
        let _ = api.alarm(pb::AlarmRequest { action: 2, member_id, alarm: kind as i32 }).await;
    }
}
