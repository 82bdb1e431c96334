use std::time::Duration;

use plinth_rpc::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    super::ConnEnd,
    client::Client,
    rig::{Rig, run},
};

#[test]
fn http1_and_grpc_are_served_on_the_same_port() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let (mut pipe, ending) = rig.connect(64 << 10);
        pipe.write_all(b"GET /health?serializable=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut text = String::new();
        pipe.read_to_string(&mut text).await.expect("read");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("content-type: text/plain\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nGET /health?serializable=true"), "{text}");
        assert_eq!(ending.get().await, ConnEnd::Closed);
        assert_eq!(client.call(Method::Range, b"still here").await.status().0, 0);
    });
}

#[test]
fn http1_connections_are_reused_and_slow_heads_are_read() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        for path in ["/health", "/nowhere"] {
            for byte in format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").bytes() {
                pipe.write_all(&[byte]).await.expect("sent");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut buf = vec![0; 4096];
            let len = pipe.read(&mut buf).await.expect("read");
            let text = String::from_utf8_lossy(&buf[..len]).into_owned();
            assert!(text.ends_with(&format!("GET {path}")), "{text}");
        }
        drop(pipe);
        assert_eq!(ending.get().await, ConnEnd::Closed);
    });
}

#[test]
fn idle_http1_connections_are_closed() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        pipe.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /slow").await.expect("sent");
        assert_eq!(ending.get().await, ConnEnd::Silent);
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    run(async || {
        let rig = Rig::new();
        for words in [&b""[..], b"PRI * HT"] {
            let (mut pipe, ending) = rig.connect(64 << 10);
            pipe.write_all(words).await.expect("sent");
            assert_eq!(ending.get().await, ConnEnd::Silent);
            assert_eq!(pipe.read(&mut [0; 10]).await.expect("read"), 0);
        }
    });
}

#[test]
fn http1_garbage_ends_the_connection_with_400() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(64 << 10);
        pipe.write_all(b"\x16\x03\x01 this is no http\r\n\r\n").await.expect("sent");
        let mut text = String::new();
        pipe.read_to_string(&mut text).await.expect("read");
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
        assert!(matches!(ending.get().await, ConnEnd::Failed(_)));
    });
}
