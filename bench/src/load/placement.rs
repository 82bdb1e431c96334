//! Connections to a certain one of plinth's executors.
//!
//! The kernel spreads connections over the executors' listening sockets, by a hash that nobody outside knows. So a connection is opened, a few calls
//! are made on it, and /metrics says which executor served them; one that went elsewhere is closed again.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use plinth_client::http_request;
use plinth_rpc::etcdserverpb::MemberListRequest;
use tokio::runtime::Builder;

use super::{
    client::framed,
    wire::{Events, Sockets, What},
    work::path,
};
use crate::{failure::Failure, metrics::Metrics};

/// Enough to stand out beside the scrapes themselves.
const PROBES: usize = 16;
const PROBES_WAIT_MAX: Duration = Duration::from_secs(5);
/// With two executors it takes two on average; this many in vain mean something else.
const ATTEMPTS_MAX: usize = 64;

/// Opens connections until one is served by `executor`.
pub fn connect_to(sockets: &mut Sockets, endpoint: SocketAddr, executor: usize) -> Result<(), Failure> {
    let number = sockets.count();
    for _ in 0..ATTEMPTS_MAX {
        sockets.connect(endpoint).map_err(Failure::Trouble)?;
        let before = scrape(endpoint)?;
        probe(sockets, number).map_err(|why| Failure::Trouble(format!("{endpoint}: {why}")))?;
        let served = scrape(endpoint)?.by_executor_since(&before, "requests");
        match served.get(executor) {
            None => return Err(Failure::Trouble(format!("{endpoint} has no executor {executor} in its metrics"))),
            Some(served) if *served >= PROBES as f64 => return Ok(()),
            Some(_) => sockets.close_last(),
        }
    }
    Err(Failure::Trouble(format!("{endpoint}: {ATTEMPTS_MAX} connections, and none came to executor {executor}")))
}

/// Makes a few calls on a connection.
fn probe(sockets: &mut Sockets, number: usize) -> Result<(), String> {
    let message = framed(&MemberListRequest { linearizable: false });
    for _ in 0..PROBES {
        let connection = sockets.connection(number);
        let stream = connection.open(0, path::MEMBER_LIST, false).ok_or("no streams are left")?;
        connection.send(stream, &message, true);
    }
    sockets.flush(number)?;
    let (deadline, mut readable, mut events) = (Instant::now() + PROBES_WAIT_MAX, Vec::new(), Events::default());
    let is_end = |event: &&super::wire::Event| matches!(event.what, What::Ended(..));
    while events.list().iter().filter(is_end).count() < PROBES {
        if Instant::now() > deadline {
            return Err("it accepts connections and answers nothing".to_owned());
        }
        sockets.wait(deadline, &mut readable)?;
        for readable in &readable {
            // The others have nothing to say yet.
            sockets.read(*readable, &mut events)?;
        }
    }
    Ok(())
}

fn scrape(endpoint: SocketAddr) -> Result<Metrics, Failure> {
    let trouble = |error: &dyn std::fmt::Display| Failure::Trouble(format!("{endpoint}/metrics: {error}"));
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| trouble(&error))?;
    let answer = runtime.block_on(http_request(endpoint, "GET", "/metrics", b""));
    Ok(Metrics(answer.map_err(|error| trouble(&error))?.text()))
}
