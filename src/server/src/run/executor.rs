//! The life of one executor.

use std::{cell::Cell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use plinth_env::{Env, TaskQueue};
use plinth_node::{
    Command, Executor, NodeError, ShardHandle, ShardPorts,
    api::{self, Api},
    open_shard,
};
use plinth_uring::{ExecutorContext, UringEnv, net::Listener};

use super::{Boot, Control, FirstSeat, peers, service::NodeService};
use crate::{
    banner::{self, Ready},
    conn::{EnvRuntime, Server},
    start_error::StartError,
};

/// Runs executor `context.index` until the node has stopped.
pub(super) async fn run(context: ExecutorContext, boot: Arc<Boot>) {
    let mut seat = boot.take_seat(context.index);
    // All executors bring the same ones; the first to come sets them.
    let _ = boot.counters.set(Arc::clone(&context.counters));
    let env = context.env.clone();
    let timeout = api::request_timeout(boot.config.election_timeout);
    let index = u16::try_from(context.index).expect("fewer executors than 2^16");
    let executor = Executor::start(&env, index, seat.answers, timeout);
    if let Some(first) = seat.first.take() {
        env.spawn(TaskQueue::Serve, lead(executor.clone(), Arc::clone(&boot), first));
    }
    let mut server = None;
    loop {
        seat.control.ready().await;
        match seat.control.take() {
            Some(Control::Serve(shard)) => {
                let api = Api::new(executor.clone(), *shard, Arc::clone(&boot.api_options));
                server = Some(Serving::start(&env, &context, &boot, api));
            }
            Some(Control::Stop) => {
                if let Some(server) = server.take() {
                    server.stop().await;
                }
                assert!(boot.done.send(()).is_ok(), "each executor is done once");
            }
            Some(Control::End) => return,
            None => {}
        }
    }
}

/// Between two looks whether the member is published.
const PUBLISH_PAUSE: Duration = Duration::from_millis(1);

/// Clients are served after this, also if the cluster isn't ready.
const CLUSTER_READY_MAX: Duration = Duration::from_secs(5);

/// Executor 0's other job: brings the node up and down.
async fn lead(executor: Executor<UringEnv>, boot: Arc<Boot>, first: FirstSeat) {
    let FirstSeat { inbox, mut signals, mut done } = first;
    let env = executor.env().clone();
    let ports = ShardPorts { inbox, replies: boot.answers.clone() };
    let network = peers::open(&env, &boot);
    let shard =
        match open_shard(&env, boot.shard_options.clone(), &boot.identity, ports, Box::new(network.clone())).await {
            Ok(shard) => shard,
            Err(error) => {
                boot.fail(StartError::failed(error.to_string()));
                return boot.tell_all(|| Control::End);
            }
        };
    let handle = shard.handle(boot.inbox.clone());
    env.spawn(TaskQueue::Consensus, async move {
        if let Err(error) = shard.run().await {
            die(&error);
        }
    });
    peers::listen(&env, &boot, &network);
    let api = Api::new(executor, handle.clone(), Arc::clone(&boot.api_options));
    publish(&api, &boot).await;
    if let Some(retention) = boot.config.retention {
        env.spawn(TaskQueue::Background, plinth_node::compact_automatically(api.clone(), retention));
    }
    serve(&boot, &handle);
    signals.ready().await;
    if let Some(signal) = signals.take() {
        plinth_base::log_info!("received signal; shutting down", "signal" => format!("{signal:?}").as_str());
        boot.stopped_by(signal);
    }
    boot.tell_all(|| Control::Stop);
    for _ in 0..boot.control.len() {
        done.ready().await;
        done.take();
    }
    api.stop().await;
    boot.tell_all(|| Control::End);
}

/// Everything on this node's disk is in doubt now: it goes down at once, and what was acknowledged is what was durable before.
fn die(error: &NodeError) -> ! {
    let what = match error {
        NodeError::Removed { .. } => "this member was removed from the cluster: the node stops",
        _ => "storage failed: the node stops",
    };
    plinth_base::log_error!(what, "error" => plinth_base::log::Value::display(error));
    // From a thread of its own: `exit` first ends the thread that calls it, and the end of a living executor's aborts the process.
    let exit = std::thread::spawn(|| std::process::exit(1));
    drop(exit.join());
    unreachable!("exit doesn't return")
}

/// Tells the member's name and URLs through the log, as etcd does before it serves. Without a quorum that takes as long as it takes: clients are served all
/// the same after a while, and told so.
async fn publish(api: &Api<UringEnv>, boot: &Arc<Boot>) {
    let env = api.executor().env().clone();
    let is_published = Rc::new(Cell::new(false));
    let (publishing, published) = (api.clone(), Rc::clone(&is_published));
    let (member, shared) = (boot.identity.member.clone(), env.clone());
    env.spawn(TaskQueue::Serve, async move {
        while publishing.propose(Command::PublishMember(member.clone()), 0).await.is_err() {
            shared.sleep(PUBLISH_PAUSE).await;
        }
        published.set(true);
    });
    let begun = env.now();
    while !is_published.get() {
        env.sleep(PUBLISH_PAUSE).await;
        if env.now().since(begun) >= CLUSTER_READY_MAX {
            plinth_base::log_warn!(
                "the cluster is not ready yet: clients are served, and wait until a majority of the members is there",
                "waited" => CLUSTER_READY_MAX
            );
            return;
        }
    }
}

fn serve(boot: &Boot, shard: &ShardHandle<UringEnv>) {
    boot.tell_all(|| Control::Serve(Box::new(shard.clone())));
    let addresses: Vec<_> = boot.listeners.iter().map(|listeners| listeners.local_addr().to_string()).collect();
    let client_url = boot.config.advertise_client_urls.first().map(ToString::to_string).unwrap_or_default();
    banner::announce(boot.form, &Ready { addresses: &addresses, client_url: &client_url, data_dir: &boot.data_path });
}

/// An executor's connections.
struct Serving {
    server: Server<NodeService, EnvRuntime<UringEnv>>,
    is_stopping: Rc<Stopping>,
}

/// Tells the accept loops to end.
#[derive(Default)]
struct Stopping {
    is_set: Cell<bool>,
    wakers: std::cell::RefCell<Vec<std::task::Waker>>,
}

impl Serving {
    fn start(env: &UringEnv, context: &ExecutorContext, boot: &Arc<Boot>, api: Api<UringEnv>) -> Self {
        let service = NodeService::new(env.clone(), api, Arc::clone(boot));
        let metrics = Arc::clone(&boot.grpc[context.index]);
        let server = Server::new(service, EnvRuntime(env.clone()), boot.config.connections(), metrics);
        let is_stopping = Rc::<Stopping>::default();
        for listeners in &boot.listeners {
            let Some(listener) = Listener::take(listeners, context.index, env) else { continue };
            env.spawn(TaskQueue::Serve, accept(env.clone(), listener, server.clone(), Rc::clone(&is_stopping)));
        }
        Self { server, is_stopping }
    }

    async fn stop(self) {
        self.is_stopping.set();
        self.server.stop().await;
    }
}

impl Stopping {
    fn set(&self) {
        self.is_set.set(true);
        for waker in self.wakers.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

async fn accept(
    env: UringEnv,
    listener: Listener,
    server: Server<NodeService, EnvRuntime<UringEnv>>,
    stopping: Rc<Stopping>,
) {
    loop {
        let mut next = std::pin::pin!(listener.accept());
        let accepted = poll_fn(|cx| {
            if stopping.is_set.get() {
                return Poll::Ready(None);
            }
            let polled = next.as_mut().poll(cx);
            if polled.is_pending() {
                stopping.wakers.borrow_mut().push(cx.waker().clone());
            }
            polled.map(Some)
        });
        let Some(connection) = accepted.await else { return };
        let server = server.clone();
        env.spawn(TaskQueue::Serve, async move {
            let end = server.serve(connection).await;
            plinth_base::log_debug!("a connection ended", "how" => plinth_base::log::Value::display(&end));
        });
    }
}
