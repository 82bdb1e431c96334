//! Bulk data and small messages on one connection whose client reads slowly.

use bytes::Bytes;
use plinth_rpc::{Code, Method};

use super::{
    super::{lane::LANE_BYTES_MAX, stream_io::OUT_BYTES_MAX},
    client::{Allowance, Client, Messages, Open, Throttled, frame, request, settle},
    rig::{Rig, run},
};

/// What the pipe holds; it stands for the socket's buffer.
const PIPE_BYTES: usize = 32 << 10;

/// What the client reads at a time.
const STEP_BYTES: usize = 4 << 10;

/// A small message waits for what is in the pipe, gathered for it, and in the lane; frames have heads.
const BEFORE_BYTES_MAX: usize = PIPE_BYTES + OUT_BYTES_MAX + LANE_BYTES_MAX + (32 << 10);

/// Enough for every bulk answer to be under way.
const BEGIN_BYTES: usize = 4 << 20;

async fn open(client: &Client, method: Method, message: &'static [u8]) -> Open {
    let mut open = client.open(request(method.path())).await.expect("opened");
    open.body.send_data(frame(message), true).expect("sent");
    open
}

/// Answers of every kind, 100 MB each, all under way.
async fn open_bulk(client: &Client) -> Vec<Open> {
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(open(client, Method::HashKv, b"100000000").await);
        all.push(open(client, Method::Observe, b"10000").await);
        all.push(open(client, Method::Hash, b"1000000").await);
    }
    all
}

/// Lets the client read until `arrived` says that it has what it waits for; how many bytes that took.
async fn bytes_until(allowance: &Allowance, mut arrived: impl AsyncFnMut() -> bool) -> usize {
    let mut bytes = 0;
    while !arrived().await {
        allowance.add(STEP_BYTES);
        bytes += STEP_BYTES;
        for _ in 0..20 {
            settle().await;
        }
        assert!(bytes < 100 * BEFORE_BYTES_MAX, "it never comes");
    }
    bytes
}

#[test]
fn an_event_and_a_small_answer_overtake_bulk_data() {
    run(async || {
        let rig = Rig::new();
        let (pipe, allowance) = Throttled::new(rig.connect(PIPE_BYTES).0);
        allowance.add(1 << 20);
        let client = Client::with_window(pipe, 1 << 30).await;
        // A stream of events that is there before.
        let mut events = client.open(request(Method::LeaseKeepAlive.path())).await.expect("opened");
        events.body.send_data(frame(b"first"), false).expect("sent");
        let mut messages = Messages::of(events.answer).await.expect("answered");
        assert_eq!(messages.next().await.expect("sound"), Some(Bytes::from_static(b"first")));
        let bulk = open_bulk(&client).await;
        allowance.add(BEGIN_BYTES);
        for _ in 0..2000 {
            settle().await;
        }
        for round in 0..5 {
            events.body.send_data(frame(b"event"), false).expect("sent");
            let mut next = Box::pin(messages.next());
            let bytes = bytes_until(&allowance, async || futures_ready(&mut next).await).await;
            drop(next);
            assert!(bytes <= BEFORE_BYTES_MAX, "round {round}: the event came behind {bytes} bytes");
            let mut answer = Box::pin(client.call(Method::Range, b"small"));
            let bytes = bytes_until(&allowance, async || futures_ready(&mut answer).await).await;
            // Its call began only when the socket took everything.
            assert!(bytes <= 2 * BEFORE_BYTES_MAX, "round {round}: the answer came behind {bytes} bytes");
        }
        drop((bulk, client, messages, events.body));
        allowance.add(1 << 30);
        for _ in 0..100 {
            settle().await;
        }
        rig.assert_quiet();
    });
}

/// Whether a future is done; it must not be asked again then.
async fn futures_ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
}

#[test]
fn a_client_that_never_reads_costs_a_lane_however_much_it_asks_for() {
    run(async || {
        let rig = Rig::new();
        let (pipe, allowance) = Throttled::new(rig.connect(PIPE_BYTES).0);
        // Enough to begin with; nothing is read later, though all windows are open.
        allowance.add(200);
        let client = Client::with_window(pipe, 1 << 30).await;
        let mut all = Vec::new();
        for _ in 0..500 {
            all.push(open(&client, Method::HashKv, b"100000000").await);
        }
        for _ in 0..1000 {
            settle().await;
        }
        let made = rig.seen.chunks_made.get() * 10_000;
        assert!(made <= BEFORE_BYTES_MAX, "{made} bytes were made");
        assert!(rig.server.lanes_bytes() <= LANE_BYTES_MAX);
        drop((all, client));
        for _ in 0..1000 {
            allowance.add(1 << 20);
            settle().await;
        }
        rig.assert_quiet();
    });
}

#[test]
fn bulk_answers_share_a_connection_evenly() {
    run(async || {
        let rig = Rig::new();
        let client = Client::with_window(rig.connect(PIPE_BYTES).0, 1 << 30).await;
        let answers = [b"3000000"; 4].map(|len| Box::pin(client.call(Method::HashKv, len)));
        for answer in answers {
            let answer = answer.await;
            assert_eq!(
                (answer.message.map(|message| message.len()), answer.trailers.is_empty()),
                (Some(3_000_000), false)
            );
        }
        assert_eq!(rig.handled(Method::HashKv, Code::Ok), 4);
        settle().await;
        rig.assert_quiet();
    });
}

#[test]
fn resets_and_deadlines_in_the_middle_leave_the_lane_to_others() {
    run(async || {
        let rig = Rig::new();
        let (pipe, allowance) = Throttled::new(rig.connect(PIPE_BYTES).0);
        allowance.add(1 << 20);
        let client = Client::with_window(pipe, 1 << 30).await;
        for round in 0..20 {
            let mut bulk = open_bulk(&client).await;
            let mut late = request(Method::HashKv.path());
            late.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("1S"));
            let mut late = client.open(late).await.expect("opened");
            late.body.send_data(frame(b"100000000"), true).expect("sent");
            allowance.add(100_000 + round * 1000);
            settle().await;
            bulk.iter_mut().for_each(|open| open.body.send_reset(h2::Reason::CANCEL));
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            drop((bulk, late));
            allowance.add(10 << 20);
            for _ in 0..500 {
                settle().await;
            }
            rig.assert_quiet();
        }
        assert_eq!(client.call(Method::HashKv, b"100000").await.message.map(|message| message.len()), Some(100_000));
    });
}
