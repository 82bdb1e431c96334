//! The connections to other members on the real machine.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use plinth_base::{Instant, Url};
use plinth_env::{Env, TaskQueue};
use plinth_uring::{
    UringEnv,
    net::{Connection, Listener, Listeners},
};

use super::{Boot, bind};
use crate::{
    conn::Runtime,
    peers::{Dial, Me, Network},
};

/// A machine that has been gone for so long is forgotten: its connections would stay for ever.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Between two attempts to listen.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Tasks of the peers' connections go to the queue of the shard: their latency is that of every write.
#[derive(Clone)]
pub(super) struct PeerRuntime(UringEnv);

impl Runtime for PeerRuntime {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.0.sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(TaskQueue::Consensus, task);
    }
}

/// TCP.
#[derive(Clone)]
pub(super) struct TcpDial {
    env: UringEnv,
    /// A peer that acknowledges nothing for so long is gone.
    silence_max: Duration,
}

impl Dial for TcpDial {
    type Socket = Connection;

    async fn dial(&self, url: String) -> io::Result<Connection> {
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidInput, error);
        let url = Url::parse(&url).map_err(invalid)?;
        let (host, port) = url.host_port().ok_or_else(|| invalid(format!("{url} has no host and port")))?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in self.addresses(host.to_owned(), port).await? {
            match Connection::connect(address, self.silence_max, &self.env).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl TcpDial {
    /// Names are looked up on a helper: that can take seconds.
    async fn addresses(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        self.env.on_helper(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
    }
}

/// The network of this member, which nobody can call yet.
pub(super) fn open(env: &UringEnv, boot: &Arc<Boot>) -> Network<PeerRuntime, TcpDial> {
    let me = Me {
        cluster: boot.identity.cluster_id,
        member: boot.identity.member_id(),
        incarnation: env.random_u64(),
        page_format: u16::try_from(plinth_node::PAGE_FORMAT).expect("a small number"),
        patience: boot.config.election_timeout,
        heartbeat_interval: boot.config.heartbeat_interval,
    };
    let dial = TcpDial { env: env.clone(), silence_max: 2 * boot.config.election_timeout };
    Network::new(me, boot.peers.clone(), PeerRuntime(env.clone()), dial)
}

/// Lets the others in. Where nobody asked for that, it begins when the first other member is added.
pub(super) fn listen(env: &UringEnv, boot: &Arc<Boot>, network: &Network<PeerRuntime, TcpDial>) {
    if !boot.peer_listeners.is_empty() {
        return open_doors(env, &boot.peer_listeners, network);
    }
    let (env, boot, network) = (env.clone(), Arc::clone(boot), network.clone());
    env.clone().spawn(TaskQueue::Serve, async move {
        network.has_peers().await;
        let mut is_told = false;
        loop {
            let shared = Arc::clone(&boot);
            // It may have to wait until whoever had the port is gone.
            match env.on_helper(move || bind(shared.config.listen_peer_urls.iter(), 1)).await {
                Ok(listeners) => return open_doors(&env, &listeners, &network),
                Err(error) if !std::mem::replace(&mut is_told, true) => plinth_base::log_error!(
                    "other members can't connect to this one: free the address, or restart with another --listen-peer-urls",
                    "error" => plinth_base::log::Value::display(&error)
                ),
                Err(_) => {}
            }
            env.sleep(BIND_PAUSE).await;
        }
    });
}

fn open_doors(env: &UringEnv, all: &[Listeners], network: &Network<PeerRuntime, TcpDial>) {
    for listeners in all {
        let Some(listener) = Listener::take(listeners, 0, env) else { continue };
        env.spawn(TaskQueue::Consensus, accept(env.clone(), listener, network.clone()));
    }
}

async fn accept(env: UringEnv, listener: Listener, network: Network<PeerRuntime, TcpDial>) {
    loop {
        let connection = listener.accept().await;
        // One that can't be probed stays until the peer connects again.
        let _ = connection.probe_when_silent(SILENCE_MAX);
        let network = network.clone();
        env.spawn(TaskQueue::Consensus, async move { network.serve(connection).await });
    }
}
