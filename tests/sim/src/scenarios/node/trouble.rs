//! What goes wrong in one life of the node, apart from its end.

use std::time::Duration;

use plinth_base::Prng;
use plinth_env::Env;
use plinth_rpc::etcdserverpb as pb;
use plinth_sim_env::{Limit, OpKind, Sim, SimEnv};

use super::{
    super::clients::{self, Sent},
    Run,
    machine::{DATA_DIR, GROUPS, Node, WAL_DIR},
};
use crate::{
    model::{DeleteRange, Put, Request},
    scenario::Violation,
};

/// More than any seed fills.
const ROOMY_BYTES: u64 = 16 << 30;

/// Within this, a node whose disk is full must get rid of something, and one whose disk is no longer full must write again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// An operation of the device fails while the node starts.
    ErrorInStart,
    /// One fails while the node works: it must end.
    ErrorInLife,
    /// Operations take long.
    Slow,
    /// The disk is full for a while.
    Full,
}

impl Trouble {
    pub(super) fn draw(prng: &mut Prng) -> Self {
        match prng.below(10) {
            0 => Self::ErrorInStart,
            1 | 2 => Self::ErrorInLife,
            3 | 4 => Self::Slow,
            5 => Self::Full,
            _ => Self::None,
        }
    }
}

/// How many operations have failed so far.
pub(super) fn errors(sim: &Sim) -> u64 {
    sim.faults().iter().filter(|(kind, _)| kind.ends_with(" error")).map(|(_, count)| count).sum()
}

/// Lets one of the next `within` operations of some kind fail.
pub(super) fn plan_error(sim: &Sim, prng: &mut Prng, within: u64) {
    let kinds = [OpKind::Write, OpKind::Write, OpKind::Sync, OpKind::Load, OpKind::Read, OpKind::Meta];
    let path = [WAL_DIR, DATA_DIR][prng.index(2)];
    sim.fail_op(kinds[prng.index(kinds.len())], path, prng.below(within));
}

impl<E: Env, W: Fn(SimEnv) -> E> Run<W> {
    /// Causes the trouble, and sees it through where it is over within the life.
    pub(super) fn cause(&mut self, node: &Node<E>, trouble: Trouble) -> Result<(), Violation> {
        match trouble {
            Trouble::None | Trouble::ErrorInStart => Ok(()),
            Trouble::ErrorInLife => self.fail(node),
            Trouble::Slow => {
                for _ in 0..4 {
                    let kind = [OpKind::Write, OpKind::Load, OpKind::Sync][self.prng.index(3)];
                    let delay = Duration::from_millis(self.prng.below(3_000));
                    self.sim.delay_op(kind, "/data", self.prng.below(30), delay);
                }
                Ok(())
            }
            Trouble::Full => self.fill(node),
        }
    }

    /// A write or sync fails: the node must end at once.
    fn fail(&mut self, node: &Node<E>) -> Result<(), Violation> {
        let before = errors(&self.sim);
        let kind = [OpKind::Write, OpKind::Write, OpKind::Sync][self.prng.index(3)];
        self.sim.fail_op(kind, [WAL_DIR, DATA_DIR][self.prng.index(2)], self.prng.below(10));
        let step = Duration::from_millis(1);
        if self.sim.run_until(step, Duration::from_secs(5), || errors(&self.sim) > before) {
            // The failure is counted when the operation begins; a slow device tells of it later.
            let has_ended = || matches!(&*node.end.borrow(), Some(Err(_)));
            if !self.sim.run_until(step, PATIENCE, has_ended) {
                return Err(Violation(format!("a {kind:?} failed, and the node goes on")));
            }
        }
        Ok(())
    }

    /// The disk is full: deletions still go through. It is no longer: everything does.
    fn fill(&mut self, node: &Node<E>) -> Result<(), Violation> {
        let used_bytes: u64 = self.sim.files().iter().map(|(_, bytes)| bytes).sum();
        self.sim.set_capacity(used_bytes + self.prng.below(1 << 20));
        self.sim.run_for(Duration::from_millis(self.prng.below(8_000)));
        for at in 0..GROUPS.len() {
            let all = DeleteRange { key: vec![0], range_end: vec![0], prev_kv: false };
            self.insist(node, at, &Request::DeleteRange(all), "a deletion on a full disk")?;
        }
        self.sim.set_capacity(ROOMY_BYTES);
        self.sim.run_for(Duration::from_secs(3));
        for at in 0..GROUPS.len() {
            // Raised by the node, or not; clearing it is no harm.
            let clear = pb::AlarmRequest { action: 2, member_id: node.apis[at].options().member_id, alarm: 1 };
            let cleared = self.sim.block_on_within(node.apis[at].alarm(clear), Limit::Time(PATIENCE));
            if !matches!(cleared, Ok(Ok(_))) {
                return Err(Violation(format!("the alarm can't be cleared: {cleared:?}")));
            }
            let key = self.clients[at].borrow().workload.key(1);
            let put = Put { key, value: b"room".to_vec(), ..Put::default() };
            self.insist(node, at, &Request::Put(put), "a put on a disk that has room again")?;
        }
        Ok(())
    }

    /// A request that must be answered, if not the first time.
    fn insist(&self, node: &Node<E>, at: usize, request: &Request, what: &str) -> Result<(), Violation> {
        let begun = self.sim.elapsed();
        while self.sim.elapsed() - begun < PATIENCE {
            let sent = clients::send(&node.apis[at], &self.clients[at], request.clone().into(), false);
            if self.sim.block_on_within(sent, Limit::Time(PATIENCE)) == Ok(Sent::Answered) {
                return Ok(());
            }
            self.sim.run_for(Duration::from_millis(500));
        }
        Err(Violation(format!("{what} found no answer within {PATIENCE:?}")))
    }
}
