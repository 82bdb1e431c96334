//! One executor's server: everything its connections share.

use std::{cell::Cell, fmt, rc::Rc, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    ConnConfig, GrpcMetrics, Runtime, Service, grpc, http1,
    registry::Registry,
    send::Heads,
    sniff::{Spoken, sniff},
};

/// What the connections of one executor share. Clones are the same server.
pub struct Server<S, R>(Rc<Shared<S, R>>);

impl<S, R> Clone for Server<S, R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// The inside of a [`Server`], as its connections see it.
pub(super) struct Shared<S, R> {
    pub service: S,
    pub runtime: R,
    pub config: ConnConfig,
    pub metrics: Arc<GrpcMetrics>,
    pub heads: Heads,
    /// Bytes in the lanes of all connections.
    pub lanes_bytes: Rc<Cell<usize>>,
    registry: Rc<Registry>,
}

/// Why a connection is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnEnd {
    /// In order: the client closed it, or the server did after its last call.
    Closed,
    /// The client said nothing, or nothing new, for too long.
    Silent,
    /// No answer to a keepalive ping.
    KeepaliveTimeout,
    /// Pings came faster than `keepalive_min_time` allows.
    TooManyPings,
    /// The server stopped, and calls were still under way when `drain_timeout` was over.
    Cut,
    /// The socket failed, or the client broke the protocol.
    Failed(String),
}

impl fmt::Display for ConnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Silent => f.write_str("silent for too long"),
            Self::KeepaliveTimeout => f.write_str("no answer to a keepalive ping"),
            Self::TooManyPings => f.write_str("too many pings"),
            Self::Cut => f.write_str("cut off by the end of the server"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

impl<S: Service, R: Runtime> Server<S, R> {
    /// A server that answers through `service` and counts in `metrics`, which belongs to this executor alone.
    pub fn new(service: S, runtime: R, config: ConnConfig, metrics: Arc<GrpcMetrics>) -> Self {
        let (heads, lanes_bytes, registry) = (Heads::default(), Rc::default(), Rc::default());
        Self(Rc::new(Shared { service, runtime, config, metrics, heads, lanes_bytes, registry }))
    }

    /// Serves one connection to its end. `socket` is plaintext, or the inside of a TLS stream.
    pub async fn serve<T: AsyncRead + AsyncWrite + Unpin + 'static>(&self, mut socket: T) -> ConnEnd {
        let shared = &self.0;
        let entry = shared.registry.enter();
        match sniff(&mut socket, &shared.runtime, &entry, shared.config.sniff_timeout).await {
            Ok(Spoken::Http2(ahead)) => grpc::serve(shared, &entry, socket, ahead).await,
            Ok(Spoken::Http1(ahead)) => http1::serve(shared, &entry, socket, ahead).await,
            Ok(Spoken::Nothing) => ConnEnd::Silent,
            Err(error) => ConnEnd::Failed(error.to_string()),
        }
    }

    /// Open connections.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.0.registry.len()
    }

    /// Bytes of bulk data that h2 holds for all connections.
    #[cfg(test)]
    pub(super) fn lanes_bytes(&self) -> usize {
        self.0.lanes_bytes.get()
    }

    /// Stops: every connection takes no new calls, ends when its last call did, and is cut after `drain_timeout`. Returns when all
    /// are gone. Stop accepting first: a connection that comes later is turned away at once.
    pub async fn stop(&self) {
        self.0.registry.stop().await;
    }
}
