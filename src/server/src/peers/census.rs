//! Who is there: asked by whoever wants to join a cluster, before it has anything of its own, and by a cluster of the URLs of a new member.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use plinth_base::Url;
use plinth_env::{PeerAddress, Resident};
use plinth_node::peers::{FRAME_HEADER_BYTES, FrameHeader, HANDSHAKE_BYTES, Hello, Welcome, decode_census};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    lane::within,
    network::{Dial, Shared},
};
use crate::conn::Runtime;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A cluster as one of its members has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Census {
    /// The cluster's id.
    pub cluster_id: u64,
    /// All members.
    pub members: Vec<PeerAddress>,
}

/// Asks all of those at `urls` at once, and takes the first of them that answers. The error tells what each said.
///
/// # Errors
/// Nobody of a cluster is there.
pub fn census(urls: &[String]) -> Result<Census, String> {
    let answers: Vec<Result<Census, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> = urls.iter().map(|url| scope.spawn(|| ask(url))).collect();
        asked.into_iter().map(|thread| thread.join().expect("asking doesn't panic")).collect()
    });
    let mut failures = Vec::new();
    for (url, answer) in urls.iter().zip(answers) {
        match answer {
            Ok(census) => return Ok(census),
            Err(error) => failures.push(format!("{url}: {error}")),
        }
    }
    Err(failures.join("; "))
}

fn ask(url: &str) -> Result<Census, String> {
    let mut socket = connect(url)?;
    let says = |error: std::io::Error| error.to_string();
    socket.set_read_timeout(Some(PATIENCE)).map_err(says)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(says)?;
    socket.write_all(&Hello::census().encode()).map_err(says)?;
    let mut answer = [0; HANDSHAKE_BYTES];
    socket.read_exact(&mut answer).map_err(says)?;
    let welcome = Welcome::decode(&answer).map_err(|refused| refused.to_string())?;
    if let Some(refused) = welcome.refused {
        return Err(refused.to_string());
    }
    let mut head = [0; FRAME_HEADER_BYTES];
    socket.read_exact(&mut head).map_err(says)?;
    let header = FrameHeader::read(&head).map_err(|error| error.to_string())?;
    let mut payload = vec![0; header.payload_bytes()];
    socket.read_exact(&mut payload).map_err(says)?;
    let members = decode_census(&header, &payload.into()).map_err(|error| error.to_string())?;
    Ok(Census { cluster_id: welcome.cluster, members })
}

fn connect(url: &str) -> Result<TcpStream, String> {
    let url = Url::parse(url)?;
    let (host, port) = url.host_port().ok_or_else(|| format!("{url} has no host and port"))?;
    let mut failure = format!("{host} has no address");
    for address in (host, port).to_socket_addrs().map_err(|error| error.to_string())? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error.to_string(),
        }
    }
    Err(failure)
}

/// The member of any cluster that answers at `url`, if one does soon.
pub(super) async fn resident<R: Runtime, D: Dial>(shared: &Shared<R, D>, url: String) -> Option<Resident> {
    let asked = within(&shared.runtime, shared.me.patience, async {
        let mut socket = shared.dial.dial(url).await.ok()?;
        socket.write_all(&Hello::census().encode()).await.ok()?;
        let mut answer = [0; HANDSHAKE_BYTES];
        socket.read_exact(&mut answer).await.ok()?;
        let welcome = Welcome::decode(&answer).ok()?;
        Some(Resident { cluster: welcome.cluster, member: welcome.from })
    });
    asked.await.flatten()
}
