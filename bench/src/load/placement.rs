//! Connections to a certain one of plinth's executors.
//!
//! The kernel spreads connections over the executors' listening sockets, by a hash that nobody outside knows. So a connection is opened, a few calls
//! are made on it, and /metrics says which executor served them; one that went elsewhere is closed again.

use std::net::SocketAddr;

use plinth_client::http_request;

use super::{
    Op, Shape,
    connection::{Connection, call, connect},
    request::Requests,
};
use crate::{failure::Failure, metrics::Metrics};

/// Enough to stand out beside the scrapes themselves.
const PROBES: usize = 16;
/// With two executors it takes two on average; this many in vain mean something else.
const ATTEMPTS_MAX: usize = 64;
const SHAPE: Shape = Shape { keys: 1, key_bytes: 32, value_bytes: 0 };

/// Opens connections until one is served by `executor`.
pub async fn connect_to(endpoint: SocketAddr, executor: usize) -> Result<Connection, Failure> {
    let requests = Requests::new(Op::Empty, SHAPE, 0, &endpoint.to_string());
    for _ in 0..ATTEMPTS_MAX {
        let mut connection = connect(endpoint).await.map_err(Failure::Trouble)?;
        let before = scrape(endpoint).await?;
        for _ in 0..PROBES {
            let called = call(&mut connection.send, &requests, 0).await;
            called.map_err(|error| Failure::Trouble(format!("{endpoint}: {error}")))?;
        }
        let served = scrape(endpoint).await?.by_executor_since(&before, "requests");
        match served.get(executor) {
            None => return Err(Failure::Trouble(format!("{endpoint} has no executor {executor} in its metrics"))),
            Some(served) if *served >= PROBES as f64 => return Ok(connection),
            Some(_) => {}
        }
    }
    Err(Failure::Trouble(format!("{endpoint}: {ATTEMPTS_MAX} connections, and none came to executor {executor}")))
}

async fn scrape(endpoint: SocketAddr) -> Result<Metrics, Failure> {
    let answer = http_request(endpoint, "GET", "/metrics", b"").await;
    Ok(Metrics(answer.map_err(|error| Failure::Trouble(format!("{endpoint}/metrics: {error}")))?.text()))
}
