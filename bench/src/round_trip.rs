//! What a round trip between two members takes at best: messages as long as theirs over TCP on loopback, between two threads that block.
//! No server is in between, and nobody else is woken.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{failure::Failure, histogram::Latencies, load::pin_to};

/// A put of 32 and 256 bytes as an entry for a follower, with all that is around it.
const MESSAGE_BYTES: usize = 384;
/// That it is there.
const ANSWER_BYTES: usize = 64;
/// An answer that doesn't come within this never does.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Asks and answers for `duration`, both on any of `cores`, as members and their clients are.
pub fn measure(cores: &[usize], duration: Duration) -> Result<Latencies, Failure> {
    let trouble = |error: io::Error| Failure::Trouble(format!("sending messages over loopback: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(trouble)?;
    let asking = TcpStream::connect(listener.local_addr().map_err(trouble)?).map_err(trouble)?;
    let (answering, _) = listener.accept().map_err(trouble)?;
    for stream in [&asking, &answering] {
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(ANSWER_WAIT_MAX))).map_err(trouble)?;
    }
    thread::scope(|scope| {
        let answers = scope.spawn(|| {
            pin_to(cores)?;
            answer(answering).map_err(trouble)
        });
        let asks = scope.spawn(|| {
            pin_to(cores)?;
            ask(asking, duration).map_err(trouble)
        });
        let latencies = asks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        answers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(latencies)
    })
}

/// Hangs up when the time is over.
fn ask(mut stream: TcpStream, duration: Duration) -> io::Result<Latencies> {
    let (message, mut answer) = ([1; MESSAGE_BYTES], [0; ANSWER_BYTES]);
    let (mut latencies, start) = (Latencies::new(), Instant::now());
    while start.elapsed() < duration {
        let asked = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        latencies.record(asked.elapsed());
    }
    Ok(latencies)
}

/// Until the other side hangs up.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let (mut message, answer) = ([0; MESSAGE_BYTES], [2; ANSWER_BYTES]);
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&answer)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_there_and_back_until_the_time_is_over() {
        let latencies = measure(&[0], Duration::from_millis(50)).expect("loopback is there");
        assert!(latencies.count() > 0 && latencies.mean_us() > 0.0);
        assert!(measure(&[1 << 20], Duration::ZERO).is_err(), "there is no such core");
    }
}
