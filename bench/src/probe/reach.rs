//! Connecting to an endpoint. What is no etcd is told in one line, with what it seems to be.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use plinth_client::{Call, Client, Code, Status};
use plinth_rpc::etcdserverpb::{StatusRequest, StatusResponse};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::failure::Failure;

const CONNECT_MAX: Duration = Duration::from_secs(2);
const STATUS_MAX: Duration = Duration::from_secs(3);
/// For one answer to plain HTTP, of a server that did not answer gRPC.
const LOOK_MAX: Duration = Duration::from_millis(1500);
const LOOK_BYTES: usize = 1024;
/// How a record of TLS begins that refuses what was said.
const TLS_ALERT: u8 = 0x15;
/// A record with a greeting that no server of TLS takes: it answers with an alert.
const BROKEN_TLS_HELLO: &[u8] = &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0];
/// What Go's servers with TLS answer to plain HTTP.
const GO_WITH_TLS: &str = "HTTP request to an HTTPS server";
const WITHOUT_TLS: &str =
    "speaks TLS, which the probe does not: give it an endpoint without TLS (--listen-client-urls http://...)";

/// The address of `HOST:PORT`, with or without `http://`.
pub fn resolve(endpoint: &str) -> Result<SocketAddr, Failure> {
    if endpoint.starts_with("https://") {
        return Err(Failure::Trouble(format!("{endpoint} {WITHOUT_TLS}")));
    }
    let bare = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let found = bare.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| Failure::Usage(format!("--endpoint is HOST:PORT, and {endpoint:?} leads nowhere")))
}

/// A connection to an etcd, and what it says of itself.
pub async fn connect(address: SocketAddr) -> Result<(Client, StatusResponse), Failure> {
    let trouble = |why: String| Failure::Trouble(format!("{address} {why}"));
    let client = match timeout(CONNECT_MAX, Client::connect(address)).await {
        Ok(Ok(client)) => client,
        Ok(Err(status)) => {
            return Err(trouble(format!("can't be reached ({}): is a server running there?", status.message)));
        }
        Err(_) => return Err(trouble(format!("can't be reached within {} s", CONNECT_MAX.as_secs()))),
    };
    // Not by the call's own deadline alone: a server that is none may never take it.
    let call = client.call("/etcdserverpb.Maintenance/Status", Call::message(&StatusRequest::default()));
    match timeout(STATUS_MAX, call).await {
        Ok(Ok(answer)) => match StatusResponse::decode(answer) {
            Ok(status) if !status.version.is_empty() => Ok((client, status)),
            _ => Err(trouble("speaks gRPC and is no etcd: its Status makes no sense".to_owned())),
        },
        Ok(Err(status)) if is_told_by_server(&status) => Err(trouble(format!("speaks gRPC and is no etcd: {status}"))),
        Ok(Err(_)) | Err(_) => Err(trouble(what_is_there(address).await)),
    }
}

/// Whether this came over gRPC, and was not made on this side of a connection that broke.
fn is_told_by_server(status: &Status) -> bool {
    ![Code::UNAVAILABLE, Code::UNKNOWN, Code::INTERNAL].contains(&status.code)
}

/// Asks in plain HTTP; and who closes without a word, in TLS.
async fn what_is_there(address: SocketAddr) -> String {
    let get = format!("GET /version HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (answer, is_over) = ask(address, get.as_bytes()).await;
    if answer.is_empty() && is_over && ask(address, BROKEN_TLS_HELLO).await.0.first() == Some(&TLS_ALERT) {
        return WITHOUT_TLS.to_owned();
    }
    name(&answer, is_over)
}

/// What comes back for some bytes, and whether the connection was closed then.
async fn ask(address: SocketAddr, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        while answer.len() < LOOK_BYTES {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    let is_over = timeout(LOOK_MAX, exchange).await.is_ok();
    (answer, is_over)
}

/// What answers so to plain HTTP; `is_over`: it has closed the connection.
fn name(answer: &[u8], is_over: bool) -> String {
    let text = String::from_utf8_lossy(answer);
    if answer.first() == Some(&TLS_ALERT) || text.contains(GO_WITH_TLS) {
        return WITHOUT_TLS.to_owned();
    }
    if text.contains("\"etcdserver\"") {
        return format!(
            "is an etcd that does not answer Status within {} s: it is stopped or far too busy",
            STATUS_MAX.as_secs()
        );
    }
    match (text.strip_prefix("HTTP/"), answer.is_empty(), is_over) {
        (Some(_), ..) => format!("is an HTTP server and no etcd: {:?}", text.lines().next().unwrap_or_default()),
        (None, true, false) => "accepts connections and says nothing: it is no etcd, or it is stopped".to_owned(),
        (None, true, true) => "closes connections without a word: it is no etcd, or wants TLS".to_owned(),
        (None, false, _) => "speaks neither gRPC nor HTTP: it is no etcd".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_etcd_is_named() {
        assert_eq!(name(&[TLS_ALERT, 3, 1, 0, 2, 2, 70], true), WITHOUT_TLS);
        let go = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(name(go, true), WITHOUT_TLS);
        let web = name(b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n", true);
        assert_eq!(web, "is an HTTP server and no etcd: \"HTTP/1.1 404 Not Found\"");
        assert!(name(b"", false).starts_with("accepts connections and says nothing"));
        assert!(name(b"", true).starts_with("closes connections without a word"));
        assert!(name(b"SSH-2.0-OpenSSH_9.2\r\n", false).starts_with("speaks neither gRPC nor HTTP"));
        let busy = b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"3.5.1\",\"etcdcluster\":\"3.5.0\"}";
        assert!(name(busy, true).starts_with("is an etcd that does not answer Status"));
    }

    #[test]
    fn an_endpoint_is_host_and_port() {
        assert_eq!(resolve("http://127.0.0.1:7").expect("an address").port(), 7);
        assert_eq!(resolve("127.0.0.1").expect_err("no port").exit_code(), 2);
        assert!(resolve("https://127.0.0.1:7").expect_err("TLS").to_string().contains("speaks TLS"));
    }
}
