//! Connections, the streams on them, and the time in which they count.

use std::{
    io::Write,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};

use super::{
    Outcome, Plan,
    connection::{self, Connection},
    keys::Keys,
    look::Look,
    placement,
    request::Requests,
    tally::Tally,
};
use crate::failure::Failure;

/// The connections of a run, on the thread of the load.
pub struct Session {
    plan: Plan,
    connections: Vec<SendRequest<Bytes>>,
    /// What comes of the calls.
    pub tally: Rc<Tally>,
}

impl Session {
    /// Opens a plan's connections.
    pub async fn connect(plan: Plan) -> Result<Self, Failure> {
        let tally = Rc::new(Tally::new());
        let mut connections = Vec::with_capacity(plan.clients.connections);
        for _ in 0..plan.clients.connections {
            let Connection { send, end } = match plan.executor {
                None => connection::connect(plan.endpoint).await.map_err(Failure::Trouble)?,
                Some(executor) => placement::connect_to(plan.endpoint, executor).await?,
            };
            let (tally, endpoint) = (Rc::clone(&tally), plan.endpoint);
            spawn_local(async move {
                let why = end.await.unwrap_or_else(|error| error.to_string());
                tally.lost(format!("{endpoint} went away after {} answers: {why}", tally.answers()));
            });
            connections.push(send);
        }
        Ok(Self { plan, connections, tally })
    }

    /// A plan's requests, to be sent by [`Session::start`].
    pub fn requests(&self) -> Requests {
        Requests::new(self.plan.op, self.plan.shape, self.plan.seed, &self.plan.endpoint.to_string())
    }

    /// Starts a plan's streams, each with keys of its own.
    pub fn start<K: Keys + 'static>(&self, requests: Requests, mut keys: impl FnMut() -> K) -> Vec<JoinHandle<()>> {
        let requests = Rc::new(requests);
        let mut streams = Vec::with_capacity(self.plan.clients.streams * self.connections.len());
        // Stream by stream over all connections, so that all of them begin at once.
        for _ in 0..self.plan.clients.streams {
            for send in &self.connections {
                let (requests, tally) = (Rc::clone(&requests), Rc::clone(&self.tally));
                streams.push(spawn_local(connection::stream(send.clone(), requests, tally, keys())));
            }
        }
        streams
    }

    /// Tells how it goes from here on, if the plan wants it.
    pub fn tell_live(&self) {
        if self.plan.live {
            spawn_local(tell_live(Rc::clone(&self.tally)));
        }
    }

    /// Waits; fails as soon as a connection is lost.
    pub async fn wait(&self, duration: Duration) -> Result<(), Failure> {
        // Whether it is notified or not: what counts is what the tally says.
        timeout(duration, self.tally.changed.notified()).await.ok();
        self.expect_connections()
    }

    /// Everything counts while `window` is under way.
    pub async fn measure<T>(&self, window: impl Future<Output = Result<T, Failure>>) -> Result<(Outcome, T), Failure> {
        let plan = &self.plan;
        let before = Look::now(plan)?;
        self.tally.begin(Instant::now());
        let given = window.await?;
        let (latencies, series, elapsed) = self.tally.end(Instant::now());
        let after = Look::now(plan)?;
        if plan.live {
            eprint!("\r\x1b[K");
        }
        self.expect_connections()?;
        if self.tally.answers() == 0 {
            return Err(Failure::Trouble(format!("{} accepts connections and answers nothing", plan.endpoint)));
        }
        let outcome = Outcome {
            plan: plan.clone(),
            elapsed,
            latencies,
            series,
            errors: self.tally.errors(),
            answer_bytes: self.tally.answer_bytes(),
            own_cpu: after.own_cpu.saturating_sub(before.own_cpu),
            server: after.server_since(&before),
            disturbance: after.disturbance_since(&before, plan),
        };
        Ok((outcome, given))
    }

    fn expect_connections(&self) -> Result<(), Failure> {
        self.tally.why_lost().map_or(Ok(()), |why| Err(Failure::Trouble(why)))
    }
}

async fn tell_live(tally: Rc<Tally>) {
    let mut answers = tally.answers();
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = tally.answers();
        let (p50, p99) = tally.glance();
        let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
        let failed: u64 = tally.errors().iter().map(|errors| errors.count).sum();
        eprint!("\r\x1b[K{}/s, p50 {} µs, p99 {} µs, {failed} failed", now - answers, us(p50), us(p99));
        std::io::stderr().flush().ok();
        answers = now;
    }
}
