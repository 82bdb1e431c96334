//! Networks that are bad.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    cluster::{members::Wiring, proxy::Weather, trial},
    node::Bench,
    outcome::Ended,
};

/// Well below a heartbeat's interval of 100 ms.
const SLOW: Weather = Weather {
    delay: Duration::from_millis(5),
    jitter: Duration::from_millis(25),
    lost_one_in: 0,
    again_after: Duration::from_millis(200),
    cut_one_in: 0,
};
/// What TCP makes of a packet in a hundred that is lost.
const LOSSY: Weather = Weather { lost_one_in: 100, ..SLOW };
const BREAKING: Weather = Weather { lost_one_in: 30, cut_one_in: 60, ..SLOW };
/// Puts in each weather.
const PUTS: usize = 50;
/// Connections that are cut.
const CUTS_MIN: u64 = 5;

pub(super) fn a_slow_network_that_loses_packets_and_connections_is_survived(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Proxied, |trial| {
        let since = Instant::now();
        for weather in [SLOW, LOSSY, BREAKING] {
            trial.cluster.proxy()?.change(weather);
            trial.load.await_writes(PUTS)?;
        }
        let counts = trial.cluster.proxy()?.counts();
        while counts.cut.load(Ordering::Relaxed) < CUTS_MIN {
            trial.load.await_writes(1)?;
        }
        let longest = trial.recording.longest_pause(since);
        let [chunks, lost, cut] =
            [&counts.chunks, &counts.lost, &counts.cut].map(|count| count.load(Ordering::Relaxed));
        Ok(format!(
            "of {chunks} chunks {lost} were lost, {cut} cut their connection; the longest pause was {longest:.1?}"
        ))
    })
}
