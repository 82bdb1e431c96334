//! The client against a server of a few lines on the same crate.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use plinth_client::{Call, Client, Code, Status, frame};
use tokio::net::{TcpListener, TcpStream};

/// Runs a test on the runtime that the client is meant for.
fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(test);
}

/// Starts the server and connects to it.
async fn connect() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the client comes");
        serve(stream).await;
    });
    Client::connect(addr).await.expect("the server is there")
}

async fn serve(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.expect("the client speaks HTTP/2");
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let body = read(request.into_body()).await;
    let response = Response::builder().header("content-type", "application/grpc");
    match path.as_str() {
        "/test/Echo" => {
            let response = response.body(()).expect("the head is right");
            let mut stream = respond.send_response(response, false).expect("the client is there");
            stream.send_data(body, false).expect("the client is there");
            let ok = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
            stream.send_trailers(ok).expect("the client is there");
        }
        "/test/Refuse" => {
            let response = response.header("grpc-status", "11").header("grpc-message", "100%25 too%20late").body(());
            respond.send_response(response.expect("the head is right"), true).expect("the client is there");
        }
        "/test/Cut" => {
            let response = response.body(()).expect("the head is right");
            let mut stream = respond.send_response(response, false).expect("the client is there");
            stream.send_data(Bytes::from_static(b"\0\0\0\0\x09abc"), true).expect("the client is there");
        }
        _ => tokio::time::sleep(Duration::from_secs(60)).await,
    }
}

async fn read(mut body: RecvStream) -> Bytes {
    let mut all = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).expect("it was received");
        all.extend_from_slice(&chunk);
    }
    all.into()
}

#[test]
fn calls_of_one_connection_run_side_by_side() {
    block_on(async {
        let client = connect().await;
        let calls: Vec<_> = (0..200_u32)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let message = vec![7; number as usize * 1000];
                    let answer = client.call("/test/Echo", Call::raw(&message)).await;
                    assert_eq!(answer.as_deref(), Ok(&message[..]));
                })
            })
            .collect();
        for call in calls {
            call.await.expect("the call is answered");
        }
    });
}

#[test]
fn statuses_come_as_they_were_sent() {
    block_on(async {
        let client = connect().await;
        let refused = client.call("/test/Refuse", Call::raw(b"")).await;
        assert_eq!(refused, Err(Status::new(Code(11), "100% too late")));
        let cut = client.call("/test/Cut", Call::raw(b"")).await;
        assert_eq!(cut.map_err(|status| status.code), Err(Code::UNKNOWN));
    });
}

#[test]
fn bodies_are_sent_as_they_are() {
    block_on(async {
        let client = connect().await;
        let framed = client.call("/test/Echo", Call::body(frame(b"abc"))).await;
        assert_eq!(framed.as_deref(), Ok(&b"abc"[..]));
        // The server gives back a frame that is none.
        let broken = client.call("/test/Echo", Call::body(Bytes::from_static(b"\x01\0"))).await;
        assert_eq!(broken.map_err(|status| status.code), Err(Code::INTERNAL));
    });
}

#[test]
fn deadlines_and_lost_connections_are_statuses() {
    block_on(async {
        let client = connect().await;
        let late = client.call("/test/Sleep", Call::raw(b"").with_deadline(Duration::from_millis(20))).await;
        assert_eq!(late.map_err(|status| status.code), Err(Code::DEADLINE_EXCEEDED));
        let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let refused = Client::connect(nobody).await;
        assert_eq!(refused.map(|_| ()).map_err(|status| status.code), Err(Code::UNAVAILABLE));
    });
}
