use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    pin::Pin,
};

use super::*;
use crate::Runtime;

fn any_port() -> ListenAddr {
    ListenAddr::Tcp("127.0.0.1:0".parse().expect("an address"))
}

fn tcp_addr(listeners: &Listeners) -> std::net::SocketAddr {
    match listeners.local_addr() {
        ListenAddr::Tcp(addr) => *addr,
        ListenAddr::Unix(_) => panic!("a TCP address was asked for"),
    }
}

#[test]
fn a_port_that_another_socket_holds_is_refused_whatever_its_options() {
    let plain = TcpListener::bind("127.0.0.1:0").expect("bound");
    let sharing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    sharing.set_reuse_port(true).expect("set");
    sharing.set_reuse_address(true).expect("set");
    sharing.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("bound");
    sharing.listen(1).expect("listens");
    let sharing_addr = sharing.local_addr().expect("bound").as_socket().expect("TCP");
    for held in [plain.local_addr().expect("bound"), sharing_addr] {
        for executors in [1, 2] {
            let error = Listeners::bind(&ListenAddr::Tcp(held), executors).err().expect("refused");
            let text = error.to_string();
            assert!(text.contains(&held.to_string()) && text.contains("another program holds the port"), "{text}");
        }
    }
}

#[test]
fn a_port_that_is_let_go_of_in_a_moment_is_waited_for() {
    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = ListenAddr::Tcp(held.local_addr().expect("bound"));
    let holder = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    Listeners::bind(&addr, 1).expect("free in time");
    holder.join().expect("it ended");
}

#[test]
fn two_servers_never_share_a_port() {
    for executors in [1, 2] {
        let first = Listeners::bind(&any_port(), executors).expect("bound");
        let second = Listeners::bind(first.local_addr(), executors).err().expect("refused");
        assert_eq!(second.error.kind(), std::io::ErrorKind::AddrInUse);
        drop(first);
        Listeners::bind(&second.addr, executors).expect("free again");
    }
}

#[test]
fn connections_are_spread_over_the_sockets_of_all_executors() {
    let listeners = Listeners::bind(&any_port(), 2).expect("bound");
    let sockets = [listeners.take(0).expect("there"), listeners.take(1).expect("there")];
    assert!(listeners.take(1).is_none(), "only once");
    let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(tcp_addr(&listeners)).expect("connected")).collect();
    let accepted = sockets.map(|socket| {
        socket.set_nonblocking(true).expect("set");
        std::iter::from_fn(|| socket.accept().ok()).count()
    });
    assert_eq!(accepted[0] + accepted[1], clients.len());
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
}

#[test]
fn a_path_left_by_a_dead_process_is_taken_over_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sock");
    let addr = ListenAddr::Unix(path.clone());
    let living = UnixListener::bind(&path).expect("bound");
    let error = Listeners::bind(&addr, 1).err().expect("refused");
    assert!(error.to_string().contains("another program listens"), "{error}");
    drop(living);
    drop(Listeners::bind(&addr, 2).expect("taken over"));
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, b"not a socket").expect("written");
    assert!(Listeners::bind(&addr, 1).is_err());
    assert!(path.exists(), "a file of somebody else is left alone");
}

/// One executor that sends back what each of two connections sends.
fn echo_once(runtime: Runtime, listeners: std::sync::Arc<Listeners>) -> std::thread::JoinHandle<()> {
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    let core = crate::cores::Available::of_this_process().expect("affinity").affinity[0];
    std::thread::spawn(move || {
        crate::run_on(runtime, &[core], move |context| {
            let listener = Listener::take(&listeners, context.index, &context.env).expect("not taken yet");
            async move {
                let mut connection = listener.accept().await;
                let mut space = vec![0; 1 << 16];
                loop {
                    let mut buf = ReadBuf::new(&mut space);
                    std::future::poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut buf)).await.expect("read");
                    let mut rest = buf.filled();
                    if rest.is_empty() {
                        break;
                    }
                    while !rest.is_empty() {
                        let (a, b) = rest.split_at(rest.len() / 2);
                        let slices = [std::io::IoSlice::new(a), std::io::IoSlice::new(b)];
                        let put =
                            std::future::poll_fn(|cx| Pin::new(&mut connection).poll_write_vectored(cx, &slices)).await;
                        rest = &rest[put.expect("written")..];
                    }
                }
                std::future::poll_fn(|cx| Pin::new(&mut connection).poll_shutdown(cx)).await.expect("closed");
            }
        })
        .expect("the runtime starts");
    })
}

/// Sends more than the socket buffers hold, so that both directions must wait for room.
fn check_echo(mut stream: impl Read + Write + Send + 'static, mut reader: impl Read, finish: impl FnOnce()) {
    let sent: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 3) as u8).collect();
    let to_send = sent.clone();
    let writer = std::thread::spawn(move || stream.write_all(&to_send).expect("sent"));
    let mut got = vec![0; sent.len()];
    reader.read_exact(&mut got).expect("received");
    assert!(got == sent);
    writer.join().expect("sent");
    finish();
    assert_eq!(reader.read(&mut [0]).expect("closed"), 0);
}

#[test]
fn streams_carry_megabytes_both_ways_over_tcp_and_paths() {
    for runtime in [Runtime::Own, Runtime::Glommio] {
        let listeners = std::sync::Arc::new(Listeners::bind(&any_port(), 1).expect("bound"));
        let server = echo_once(runtime, std::sync::Arc::clone(&listeners));
        let client = TcpStream::connect(tcp_addr(&listeners)).expect("connected");
        let clone = || client.try_clone().expect("cloned");
        check_echo(clone(), clone(), || client.shutdown(std::net::Shutdown::Write).expect("shut down"));
        server.join().expect("stopped");

        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sock");
        let listeners = std::sync::Arc::new(Listeners::bind(&ListenAddr::Unix(path.clone()), 1).expect("bound"));
        let server = echo_once(runtime, listeners);
        let client = UnixStream::connect(path).expect("connected");
        let clone = || client.try_clone().expect("cloned");
        check_echo(clone(), clone(), || client.shutdown(std::net::Shutdown::Write).expect("shut down"));
        server.join().expect("stopped");
    }
}
