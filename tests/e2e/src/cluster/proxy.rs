//! A bad network: everything that members say to each other goes through this proxy, which delays it, holds it up as if packets were lost, and cuts
//! connections.
//!
//! It is one thread in the switch. Each member has an address there, which is the one that the others know; what comes to it goes on to the member.
//! Bytes stay in order, as TCP promises; who waits keeps whatever is behind waiting.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::{join, select};
use plinth_base::Prng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Builder,
    time::{Instant, sleep, sleep_until},
};

use super::net::{Network, address};
use crate::outcome::Ended;

/// Where peers are served, at every address.
pub(crate) const PEER_PORT: u16 = 2380;
/// How often the end of the thread is looked for.
const POLL: Duration = Duration::from_millis(20);
/// What is on its way in one direction of a connection, in chunks.
const CHUNKS_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 << 10;

/// What the network does to what goes through it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Everything takes at least so long.
    pub(crate) delay: Duration,
    /// And up to so much longer.
    pub(crate) jitter: Duration,
    /// One chunk in so many is lost and has to be sent again; 0 for none.
    pub(crate) lost_one_in: u64,
    /// What a loss costs.
    pub(crate) again_after: Duration,
    /// One chunk in so many ends its connection; 0 for none.
    pub(crate) cut_one_in: u64,
}

/// What the proxy did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) chunks: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) cut: AtomicU64,
}

struct Shared {
    weather: Mutex<Weather>,
    counts: Counts,
    is_over: AtomicBool,
}

/// The proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where the others reach a member through the proxy.
pub(crate) fn proxied(member: usize) -> Ipv4Addr {
    let [a, b, c, d] = address(member).octets();
    Ipv4Addr::new(a, b, c, d + 100)
}

impl Proxy {
    /// Stands before so many members of `network`. The weather is fine.
    pub(crate) fn start(network: &Network, members: usize) -> Result<Self, Ended> {
        for member in 0..members {
            network.add_address(proxied(member))?;
        }
        let shared =
            Arc::new(Shared { weather: Mutex::default(), counts: Counts::default(), is_over: AtomicBool::new(false) });
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn({
            let (shared, switch) = (Arc::clone(&shared), network.switch());
            move || {
                let inside = switch.enter();
                let runtime = Builder::new_current_thread().enable_all().build();
                match (inside, runtime) {
                    (Ok(_inside), Ok(runtime)) => runtime.block_on(serve(&shared, members, &ready)),
                    (Err(error), _) | (_, Err(error)) => drop(ready.send(Err(error))),
                }
            }
        })?;
        let proxy = Self { shared, thread: Some(thread) };
        is_ready.recv().map_err(|_| Ended::Failed("the proxy's thread has ended".to_owned()))??;
        Ok(proxy)
    }

    /// From now on.
    pub(crate) fn change(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn serve(shared: &Arc<Shared>, members: usize, ready: &mpsc::Sender<std::io::Result<()>>) {
    for member in 0..members {
        match TcpListener::bind((proxied(member), PEER_PORT)).await {
            Ok(listener) => drop(tokio::spawn(accept(Arc::clone(shared), listener, member))),
            Err(error) => return drop(ready.send(Err(error))),
        }
    }
    drop(ready.send(Ok(())));
    // Connections end with the runtime.
    while !shared.is_over.load(Ordering::Relaxed) {
        sleep(POLL).await;
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, member: usize) {
    let mut seed = member as u64;
    while let Ok((from, _)) = listener.accept().await {
        seed += 1_000;
        tokio::spawn(carry(Arc::clone(&shared), from, SocketAddr::from((address(member), PEER_PORT)), seed));
    }
}

/// Carries a connection until one of its ends closes it, or it is cut.
async fn carry(shared: Arc<Shared>, from: TcpStream, to: SocketAddr, seed: u64) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    if from.set_nodelay(true).and(to.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let there = pump(&shared, from_read, to_write, Prng::new(seed));
    let back = pump(&shared, to_read, from_write, Prng::new(!seed));
    select(pin!(there), pin!(back)).await;
}

/// One direction of a connection.
async fn pump(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut prng: Prng) {
    let (send, mut due) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        let mut last = Instant::now();
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let Ok(bytes @ 1..) = from.read(&mut chunk).await else { return };
            chunk.truncate(bytes);
            let Some(delay) = delay(shared, &mut prng) else { return };
            // Nothing overtakes.
            last = last.max(Instant::now() + delay);
            if send.send((last, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    // What was read before an end still arrives.
    join(read, write).await;
}

/// How long the next chunk takes; none if it ends its connection.
fn delay(shared: &Shared, prng: &mut Prng) -> Option<Duration> {
    let weather = *shared.weather.lock().unwrap_or_else(PoisonError::into_inner);
    shared.counts.chunks.fetch_add(1, Ordering::Relaxed);
    if weather.cut_one_in > 0 && prng.chance(1, weather.cut_one_in) {
        shared.counts.cut.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let jitter_us = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX);
    let mut delay = weather.delay + Duration::from_micros(prng.below(jitter_us.saturating_add(1)));
    if weather.lost_one_in > 0 && prng.chance(1, weather.lost_one_in) {
        shared.counts.lost.fetch_add(1, Ordering::Relaxed);
        delay += weather.again_after;
    }
    Some(delay)
}
