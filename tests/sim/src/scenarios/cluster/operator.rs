//! What an operator does: makes room where there is none, and clears the alarm that says so.

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
            clear_alarm(&api).await;
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

/// As far as this member knows of it.
pub(super) async fn clear_alarm<E: Env>(api: &Api<E>) {
    let alarms = api.published().root().state.alarms.clone();
    for (member, _) in alarms.iter().filter(|(_, kind)| *kind == AlarmKind::NoSpace) {
        let _ = api.alarm(pb::AlarmRequest { action: 2, member_id: *member, alarm: AlarmKind::NoSpace as i32 }).await;
    }
}
