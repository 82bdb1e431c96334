//! Wakes of executors that are about to sleep: by another executor's mailbox, and by a socket alone.
//!
//! glommio can park with runnable tasks (`docs/decisions/runtime.md`). The permanent timer must bound what that costs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use plinth_base::mailbox::{Receiver, Sender, mailbox};
use plinth_env::{Env, TaskQueue};
use plinth_uring::{
    ExecutorContext, Runtime,
    cores::Available,
    net::{Connection, ListenAddr, Listener, Listeners},
    run_on,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The gaps between a wake and the task that it woke.
#[derive(Default)]
pub struct Gaps {
    wakes: AtomicU64,
    worst_ns: AtomicU64,
    above_ms: AtomicU64,
}

impl Gaps {
    fn note(&self, gap_ns: u64) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.worst_ns.fetch_max(gap_ns, Ordering::Relaxed);
        self.above_ms.fetch_add(u64::from(gap_ns > 1_000_000), Ordering::Relaxed);
    }

    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    pub fn worst(&self) -> Duration {
        Duration::from_nanos(self.worst_ns.load(Ordering::Relaxed))
    }
}

impl std::fmt::Display for Gaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let above = self.above_ms.load(Ordering::Relaxed);
        write!(f, "{} wakes, worst gap {:?}, {above} above 1 ms", self.wakes(), self.worst())
    }
}

/// Wakes between two executors: each message is sent when the last one has been answered, so both sleep in between.
pub fn hammer_mailboxes(runtime: Runtime, wakes: u64) -> Arc<Gaps> {
    let gaps = Arc::new(Gaps::default());
    let cores = Available::of_this_process().expect("affinity").affinity;
    // On a machine with one core both executors share it.
    let cores = [cores[0], *cores.get(1).unwrap_or(&cores[0])];
    let (to_second, at_second) = mailbox::<u64>(16);
    let (to_first, at_first) = mailbox::<u64>(16);
    let ends = Arc::new(std::sync::Mutex::new(vec![Some((to_second, at_first)), Some((to_first, at_second))]));
    let (shared, rounds) = (Arc::clone(&gaps), wakes / 2);
    run_on(runtime, &cores, move |context: ExecutorContext| {
        let (to, at) = ends.lock().expect("no panic under it")[context.index].take().expect("one per executor");
        player(context, to, at, rounds, Arc::clone(&shared))
    })
    .expect("the runtime starts");
    gaps
}

/// Executor 0 serves, executor 1 answers, in the latency queue.
async fn player(context: ExecutorContext, to: Sender<u64>, mut at: Receiver<u64>, rounds: u64, gaps: Arc<Gaps>) {
    let (done, mut is_done) = mailbox(1);
    let env = context.env.clone();
    context.env.spawn(TaskQueue::Consensus, async move {
        for _ in 0..rounds {
            if context.index == 0 {
                to.send(env.now().0).expect("room: one message at a time");
            }
            at.ready().await;
            let sent = at.take().expect("ready says so");
            gaps.note(env.now().0 - sent);
            if context.index == 1 {
                to.send(env.now().0).expect("room: one message at a time");
            }
        }
        done.send(()).expect("room");
    });
    is_done.ready().await;
}

/// Wakes of an idle executor by a client's byte; the gap is the whole round trip.
pub fn hammer_socket(runtime: Runtime, wakes: u64) -> Arc<Gaps> {
    let gaps = Arc::new(Gaps::default());
    let core = Available::of_this_process().expect("affinity").affinity[0];
    let addr = ListenAddr::Tcp("127.0.0.1:0".parse().expect("an address"));
    let listeners = Arc::new(Listeners::bind(&addr, 1).expect("a free port"));
    let ListenAddr::Tcp(addr) = *listeners.local_addr() else { panic!("a TCP address was asked for") };
    let shared = Arc::clone(&gaps);
    let client = std::thread::spawn(move || client(addr, wakes, &shared));
    run_on(runtime, &[core], move |context: ExecutorContext| {
        let listener = Listener::take(&listeners, context.index, &context.env).expect("not taken yet");
        async move { echo(listener.accept().await).await }
    })
    .expect("the runtime starts");
    client.join().expect("all answers came");
    gaps
}

fn client(addr: SocketAddr, wakes: u64, gaps: &Gaps) {
    let mut stream = TcpStream::connect(addr).expect("connected");
    stream.set_nodelay(true).expect("set");
    for _ in 0..wakes {
        let start = Instant::now();
        stream.write_all(b"x").expect("sent");
        stream.read_exact(&mut [0]).expect("answered");
        gaps.note(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

async fn echo(mut connection: Connection) {
    let mut space = [0; 64];
    loop {
        let mut buf = ReadBuf::new(&mut space);
        std::future::poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut buf)).await.expect("read");
        if buf.filled().is_empty() {
            return;
        }
        let bytes = buf.filled();
        std::future::poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, bytes)).await.expect("written");
    }
}
