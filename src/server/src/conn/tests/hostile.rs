use std::time::Duration;

use http::HeaderValue;
use plinth_base::Prng;
use plinth_rpc::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    super::{ConnEnd, scan::PREFACE},
    client::{Client, frame, request, settle},
    rig::{Rig, run},
};

const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn greet(pipe: &mut DuplexStream) {
    pipe.write_all(PREFACE).await.expect("sent");
    pipe.write_all(&SETTINGS).await.expect("sent");
}

#[test]
fn a_ping_flood_is_sent_away_with_too_many_pings() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        greet(&mut pipe).await;
        for _ in 0..4 {
            pipe.write_all(&PING).await.expect("sent");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(ending.get().await, ConnEnd::TooManyPings);
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).await.expect("read");
        // The last frame: GOAWAY of 22 bytes, last stream 0, ENHANCE_YOUR_CALM (11), the reason.
        let mut want = vec![0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
        want.extend(b"too_many_pings");
        assert!(bytes.ends_with(&want), "{bytes:?}");
    });
}

#[test]
fn a_ping_flood_in_one_piece_is_sent_away_too() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        greet(&mut pipe).await;
        pipe.write_all(&PING.repeat(1000)).await.expect("sent");
        assert_eq!(ending.get().await, ConnEnd::TooManyPings);
    });
}

#[test]
fn three_pings_of_an_idle_client_are_tolerated() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        greet(&mut pipe).await;
        for _ in 0..3 {
            pipe.write_all(&PING).await.expect("sent");
            settle().await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!ending.is_over());
    });
}

/// A plausible or implausible frame.
fn random_frame(random: &mut Prng) -> Vec<u8> {
    let len = random.index(40);
    let claimed = if random.chance(1, 10) { random.index(1 << 24) } else { len };
    let mut frame = u32::try_from(claimed).expect("24 bits").to_be_bytes()[1..].to_vec();
    frame.push(u8::try_from(random.below(11)).expect("small"));
    frame.push(u8::try_from(random.below(256)).expect("a byte"));
    frame.extend(u32::try_from(random.below(8)).expect("small").to_be_bytes());
    let mut payload = vec![0; len];
    random.fill(&mut payload);
    frame.extend(payload);
    frame
}

#[test]
fn hostile_frames_end_the_connection_and_never_panic() {
    run(async || {
        let rig = Rig::new();
        let mut random = Prng::new(21);
        for round in 0..400 {
            let (mut pipe, ending) = rig.connect(64 << 10);
            if random.chance(9, 10) {
                greet(&mut pipe).await;
            }
            for _ in 0..random.index(20) {
                if pipe.write_all(&random_frame(&mut random)).await.is_err() {
                    break;
                }
                if random.chance(1, 4) {
                    settle().await;
                }
            }
            drop(pipe);
            let end = ending.get().await;
            assert_ne!(end, ConnEnd::KeepaliveTimeout, "round {round}");
        }
        settle().await;
        assert_eq!(rig.server.connection_count(), 0);
        rig.assert_quiet();
    });
}

#[test]
fn hostile_bytes_of_any_kind_never_panic() {
    run(async || {
        let rig = Rig::new();
        let mut random = Prng::new(22);
        for _ in 0..300 {
            let (mut pipe, ending) = rig.connect(64 << 10);
            let mut bytes = vec![0; random.index(200)];
            random.fill(&mut bytes);
            let start = random.index(PREFACE.len());
            pipe.write_all(&PREFACE[..start]).await.expect("sent");
            let _ = pipe.write_all(&bytes).await;
            drop(pipe);
            ending.get().await;
        }
        assert_eq!(rig.server.connection_count(), 0);
    });
}

#[test]
fn header_lists_over_the_limit_are_refused_and_the_connection_goes_on() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut request = request(Method::Range.path());
        let value = HeaderValue::from_bytes(&vec![b'a'; 300 << 10]).expect("a valid value");
        request.headers_mut().insert("token", value);
        let refused = client.raw(request, frame(b"")).await;
        assert!(refused.as_ref().map_or(true, |answer| answer.http_status == 431), "{refused:?}");
        assert_eq!(client.call(Method::Range, b"next").await.status().0, 0);
    });
}
