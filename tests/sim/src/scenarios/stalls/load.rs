//! Load that doesn't end: beside the clients of all kinds each member has one that writes, and writes.

use std::{rc::Rc, time::Duration};

use plinth_base::Prng;
use plinth_env::{Env, TaskQueue};
use plinth_node::api::Api;
use plinth_sim_env::Limit;

use super::Run;
use crate::{
    model::{Put, Request},
    scenario::Violation,
    scenarios::{
        clients::{self, Sent, Shared},
        cluster,
    },
};

/// Keys that are written to. Few, for whoever judges reads them all at every revision.
const KEYS: u64 = 2;

/// How long the store may take to become as large as it should be.
const FILLED_WITHIN: Duration = Duration::from_secs(60);

/// What the members' writers do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Of all of them together.
    pub(super) bytes_per_second: u64,
    pause: Duration,
    value_bytes: usize,
    /// What the store holds before anything goes wrong, in bytes.
    filled_bytes: usize,
}

impl Load {
    pub(super) fn draw(prng: &mut Prng, members: usize) -> Self {
        let bytes_per_second = [60_000, 120_000, 200_000][prng.index(3)];
        // Few that are large: whoever judges looks at each of them.
        let pause = Duration::from_millis([40, 80][prng.index(2)] * members as u64);
        let value_bytes = bytes_per_second / members as u64 * u64::try_from(pause.as_millis()).expect("small") / 1_000;
        let value_bytes = usize::try_from(value_bytes).expect("small");
        Self { bytes_per_second, pause, value_bytes, filled_bytes: [0, 512 << 10, 1 << 20, 2 << 20][prng.index(4)] }
    }

    /// On a member that has just started.
    pub(super) fn begin(self, cluster: &mut cluster::Run, host: usize) {
        let (api, env) = (cluster.node_of(host).apis[0].clone(), cluster.env_of(host));
        let (clients, prng) = (Rc::clone(&cluster.clients), cluster.prng.fork());
        env.spawn(TaskQueue::Serve, self.write(env.clone(), api, clients, prng));
    }

    async fn write<E: Env>(self, env: E, api: Api<E>, clients: Shared, mut prng: Prng) {
        while !clients.borrow().is_over {
            if send(&api, &clients, &mut prng, self.value_bytes).await == Sent::Stopped {
                return;
            }
            env.sleep(self.pause / 2 + self.pause * u32::try_from(prng.below(100)).expect("small") / 100).await;
        }
    }
}

/// One put of this length, or a little less.
async fn send<E: Env>(api: &Api<E>, clients: &Shared, prng: &mut Prng, bytes: usize) -> Sent {
    let mut value = vec![0; bytes - prng.index(9)];
    prng.fill(&mut value);
    let key = format!("load/{}", prng.below(KEYS)).into_bytes();
    let put = Request::Put(Put { key, value, ..Put::default() });
    clients::send(api, clients, put.into(), false).await
}

impl Run {
    /// Makes the store so large that it doesn't go in one part.
    pub(super) fn fill(&mut self) -> Result<(), Violation> {
        const BYTES: usize = 64 << 10;
        let end = self.cluster.sim.elapsed() + FILLED_WITHIN;
        for _ in 0..self.load.filled_bytes / BYTES {
            let leader = self.await_calm()?;
            let (api, clients) = (self.cluster.node_of(leader).apis[0].clone(), Rc::clone(&self.cluster.clients));
            let mut prng = self.cluster.prng.fork();
            let sent = send(&api, &clients, &mut prng, BYTES);
            let left = end.saturating_sub(self.cluster.sim.elapsed());
            if self.cluster.sim.block_on_within(sent, Limit::Time(left)).is_err() {
                return Err(Violation("the store isn't filled in time".to_owned()));
            }
            self.look()?;
        }
        Ok(())
    }
}
