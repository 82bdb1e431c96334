//! Ports for servers.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    process,
    time::SystemTime,
};

use plinth_base::Prng;

/// The first and the last port that the kernel gives to those who ask for none.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports below are for root, or for services with a number of their own.
const LASTING_MIN: u16 = 10_000;
/// Fewer than these between [`LASTING_MIN`] and what the kernel gives are no choice.
const LASTING_COUNT_MIN: u16 = 1000;
const ATTEMPTS_MAX: usize = 10_000;

/// Ports that nobody listens on at the moment, all different, to be listened on at once.
pub fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    take(|| 0, 1)
}

/// The same for servers that stop and come back: none that the kernel could give to a connection meanwhile, as it gives hundreds to a load's.
pub fn lasting_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    let first_ephemeral = fs::read_to_string(EPHEMERAL).ok().and_then(|range| parse_first(&range)).unwrap_or(0);
    let count = first_ephemeral.saturating_sub(LASTING_MIN);
    if count < LASTING_COUNT_MIN {
        return free_ports();
    }
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    let mut prng = Prng::new(now ^ u64::from(process::id()));
    let mut choose = || LASTING_MIN + u16::try_from(prng.index(usize::from(count))).expect("below a port");
    take(&mut choose, ATTEMPTS_MAX)
}

/// Listens on what `choose` says until there are enough. All are held until the last one is there, so that none comes twice.
fn take<const COUNT: usize>(mut choose: impl FnMut() -> u16, attempts_max: usize) -> io::Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut held = Vec::with_capacity(COUNT);
    for port in &mut ports {
        let mut attempt = || TcpListener::bind((Ipv4Addr::LOCALHOST, choose()));
        let mut listener = attempt();
        for _ in 1..attempts_max {
            if listener.is_ok() {
                break;
            }
            listener = attempt();
        }
        let listener = listener?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn parse_first(range: &str) -> Option<u16> {
    range.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_last_are_different_and_none_that_a_connection_gets() {
        let ports: [u16; 9] = lasting_ports().expect("some are free");
        let mut apart = ports.to_vec();
        apart.sort_unstable();
        apart.dedup();
        assert_eq!(apart.len(), ports.len());
        assert_eq!(parse_first("32768\t60999\n"), Some(32768));
        let first = fs::read_to_string(EPHEMERAL).ok().and_then(|range| parse_first(&range));
        // Where the kernel gives nearly all of them there are no others.
        if let Some(first) = first.filter(|first| *first >= LASTING_MIN + LASTING_COUNT_MIN) {
            assert!(ports.iter().all(|port| (LASTING_MIN..first).contains(port)), "{ports:?}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("one is free");
        let taken = taken.local_addr().expect("it is bound").port();
        let mut choices = [taken, taken, 0].into_iter();
        let [port] = take(|| choices.next().expect("three are enough"), 3).expect("the third is free");
        assert_ne!(port, taken);
        assert!(take::<1>(|| taken, 3).is_err());
    }
}
