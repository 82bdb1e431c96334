//! What it costs a cluster, and those who put meanwhile, that a member without data catches up with a large database.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Figures, Part,
    aim::Aim,
    beside::{CLIENTS, P99, add_pair, plan_of_cluster},
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Outcome, Pace, Plan},
    memory::{SmallPages, growth_during},
    metrics::{Metrics, quantile},
    procfs::{Disturbance, memory_bytes},
    server::{Cluster, Home, Kind, MEMBERS, Program, Server},
};

const P99_MAX: f64 = 1.5;
/// What the leader may take for a snapshot.
const GROWTH_MIB_MAX: f64 = 4.0;
const LATENESS_MS_MAX: f64 = 20.0;
/// One that hasn't caught up by then doesn't.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);
/// So long a leader's memory is looked at before: a checkpoint comes within 5 s of a change.
const QUIET: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// A member has caught up when it is no further behind than what is put in this time.
const BEHIND_MAX: Duration = Duration::from_millis(100);
const LATENESS: &str = "plinth_heartbeat_lateness_seconds";
const LATE_HEARTBEATS: &str = "etcd_server_heartbeat_send_failures_total";
/// Puts that the leader let wait for its log's device, or for memory.
const HELD: &str = "plinth_proposals_held_total";
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let (lab, etcd) = (&figures.lab, figures.lab.etcd()?);
    let fill = |program: &Program| {
        eprintln!("filling {MEMBERS} members of {} with {} keys", program.kind.name(), figures.large.keys);
        let dir = lab.path(&format!("{}-members", program.kind.name()))?;
        lab.fill_members(dir, program, MEMBERS, &[], (figures.large, 1))
    };
    let (plinth_home, etcd_home) = (fill(&lab.plinth)?, fill(&etcd)?);
    eprintln!("catch-up: nobody puts");
    let plinth_at_rest = AtRest::take(lab, &lab.plinth, &plinth_home)?;
    eprintln!("plinth {plinth_at_rest}");
    let etcd_at_rest = AtRest::take(lab, &etcd, &etcd_home)?;
    eprintln!("etcd {etcd_at_rest}");
    let mut lateness = Vec::new();
    let table = in_turns(lab, "catch-up", |program| {
        let home = if program.kind == Kind::Plinth { &plinth_home } else { &etcd_home };
        let turn = lab.undisturbed(Turn::disturbance, || Turn::take(lab, program, home))?;
        if program.kind == Kind::Plinth {
            add_buckets(&mut lateness, &turn.beside.lateness);
        }
        Ok(turn.to_sheet())
    })?;
    let live = figures.large.keys as f64 * (figures.large.key_bytes + figures.large.value_bytes) as f64 / MIB;
    let text = format!(
        "Three members with {} keys of {} bytes ({live:.0} MiB), which share all cores with the load. A follower is replaced by a new member without data. Puts {CLIENTS} to the leader, in an open loop at half of the rate \
         at which every member applied what a closed one put just before, counted from the start of the new member until it is no further behind than what is put in {} ms; and before, without it. Lateness is from when a heartbeat was due until it \
         was written, by the bounds of a histogram; of all turns together: {}.\n\n\
         Nobody puts, once each, and no huge pages, of which each would count as a whole: plinth {plinth_at_rest}; etcd {etcd_at_rest}.\n\n{}",
        figures.large.keys,
        figures.large.value_bytes,
        BEHIND_MAX.as_millis(),
        lateness_text(&lateness),
        table.to_text()
    );
    let growth_mib = plinth_at_rest.beside_mib - plinth_at_rest.without_mib;
    let aims = vec![
        Aim::at_most(
            "heartbeat lateness p99.9 while a member catches up, ms",
            LATENESS_MS_MAX,
            at_most_ms(&lateness, 0.999),
        ),
        Aim::at_most(
            "put p99 while a member catches up, in parts of that without",
            P99_MAX,
            table.median(Kind::Plinth, P99),
        ),
        Aim::at_most("leader's memory for a snapshot, nobody puts, MiB", GROWTH_MIB_MAX, growth_mib),
    ];
    let json = json!({
        "turns": table.to_json(),
        "at_rest": { "plinth": plinth_at_rest.to_json(), "etcd": etcd_at_rest.to_json() }
    });
    Ok(Part { text, json, aims })
}

/// A member catches up while nobody puts: what the leader takes then is for the snapshot.
struct AtRest {
    caught_up: Option<Duration>,
    /// The most before, while a checkpoint of the members' change is written.
    without_mib: f64,
    /// The most until it has caught up; another checkpoint is in it.
    beside_mib: f64,
}

impl AtRest {
    fn take(lab: &Lab, program: &Program, filled: &Home) -> Result<Self, Failure> {
        let home = lab.copy_of(filled)?;
        let _small = SmallPages::begin()?;
        let mut cluster = Cluster::start(program, &home, &lab.cores_of(&home), &[])?;
        cluster.wait_until_ready()?;
        cluster.lead_by_first()?;
        cluster.replace_last()?;
        let leader = &cluster.members()[0];
        let quiet = || {
            thread::sleep(QUIET);
            Ok(())
        };
        let (without_mib, ()) = most_during(leader, quiet)?;
        let (beside_mib, (member, caught_up)) = most_during(leader, || catch_up(&cluster, leader, 0))?;
        cluster.admit(member);
        cluster.stop()?;
        Ok(Self { caught_up, without_mib, beside_mib })
    }

    fn to_json(&self) -> Value {
        let caught_up = self.caught_up.map(|after| after.as_secs_f64());
        json!({ "caught_up_s": caught_up, "without_mib": self.without_mib, "beside_mib": self.beside_mib })
    }
}

impl fmt::Display for AtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.caught_up {
            Some(after) => write!(f, "caught up after {:.1} s", after.as_secs_f64())?,
            None => f.write_str("didn't catch up")?,
        }
        write!(
            f,
            ", its leader had at most {:.1} MiB before and {:.1} MiB meanwhile",
            self.without_mib, self.beside_mib
        )
    }
}

/// The most that a server's memory comes to.
fn most_during<T>(server: &Server, work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let before = memory_mib(server)?;
    let (given, growth_mib) = growth_during(server.pid(), work)?;
    Ok((before + growth_mib, given))
}

fn memory_mib(server: &Server) -> Result<f64, Failure> {
    let pid = server.pid();
    let bytes = memory_bytes(pid)
        .map_err(|error| Failure::Trouble(format!("looking at the memory of process {pid}: {error}")))?;
    Ok(bytes as f64 / MIB)
}

/// Upper bounds in seconds, and how many heartbeats were late by that.
type Buckets = Vec<(f64, f64)>;

/// What a turn of one server gave.
struct Turn {
    reached: Reached,
    without: Window,
    beside: Window,
    caught_up: Option<Duration>,
    has_led_on: bool,
}

/// Puts, and the leader meanwhile.
struct Window {
    puts: Outcome,
    lateness: Buckets,
    late: f64,
    held: f64,
    /// Before the window.
    memory_mib: f64,
    growth_mib: f64,
}

/// What a closed loop came to, per second.
struct Reached {
    /// Answered: a quorum has them.
    puts: f64,
    /// Applied by the slowest member. A loop that waits for a quorum drives a third member away; what not all keep up with is no load for which one could
    /// catch up.
    kept_up: f64,
}

impl Reached {
    fn measure(lab: &Lab, cluster: &Cluster) -> Result<Self, Failure> {
        let look_on = || {
            let (before, began) = (applied_by_all(cluster)?, Instant::now());
            thread::sleep(lab.method.measured);
            let (after, elapsed) = (applied_by_all(cluster)?, began.elapsed());
            let slowest = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).min();
            Ok(slowest.unwrap_or(0) as f64 / elapsed.as_secs_f64())
        };
        let (puts, slowest) = load::run_during(&plan_of_cluster(lab, cluster, Pace::Closed), look_on)?;
        let puts = puts.per_second();
        Ok(Self { puts, kept_up: slowest.min(puts) })
    }
}

fn applied_by_all(cluster: &Cluster) -> Result<Vec<u64>, Failure> {
    cluster.members().iter().map(Server::applied_index).collect()
}

/// Nobody puts until every member has applied everything.
fn wait_until_level(cluster: &Cluster) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let applied = applied_by_all(cluster)?;
        if applied.iter().max() == applied.iter().min() {
            return Ok(());
        }
        if began.elapsed() >= CATCH_UP_MAX {
            return Err(Failure::Trouble(format!(
                "a member was still behind {} s after the last put: applied {applied:?}",
                CATCH_UP_MAX.as_secs()
            )));
        }
        thread::sleep(POLL);
    }
}

impl Turn {
    fn take(lab: &Lab, program: &Program, filled: &Home) -> Result<Self, Failure> {
        let home = lab.copy_of(filled)?;
        let mut cluster = Cluster::start(program, &home, &lab.cores_of(&home), &[])?;
        cluster.wait_until_ready()?;
        let lead = cluster.lead_by_first()?;
        let reached = Reached::measure(lab, &cluster)?;
        wait_until_level(&cluster)?;
        let rate = reached.kept_up / 2.0;
        let pace = Pace::Open { rate };
        let look_on = || {
            thread::sleep(lab.method.measured);
            Ok(())
        };
        let (without, ()) = Window::measure(&plan_of_cluster(lab, &cluster, pace), &cluster.members()[0], look_on)?;
        cluster.replace_last()?;
        let behind_max = (rate * BEHIND_MAX.as_secs_f64()) as u64;
        let leader = &cluster.members()[0];
        let (beside, (member, caught_up)) =
            Window::measure(&plan_of_cluster(lab, &cluster, pace), leader, || catch_up(&cluster, leader, behind_max))?;
        cluster.admit(member);
        let has_led_on = cluster.await_lead()? == lead;
        cluster.stop()?;
        Ok(Self { reached, without, beside, caught_up, has_led_on })
    }

    /// That of the run that was disturbed more.
    fn disturbance(&self) -> Disturbance {
        let (without, beside) = (self.without.puts.disturbance, self.beside.puts.disturbance);
        if without.is_too_much() { without } else { beside }
    }

    fn to_sheet(&self) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.add("puts per second, closed loop", 0, self.reached.puts);
        sheet.add("of them applied by every member", 0, self.reached.kept_up);
        add_pair(&mut sheet, &self.without.puts, &self.beside.puts);
        sheet.add("caught up after, s", 2, self.caught_up.map_or(f64::NAN, |after| after.as_secs_f64()));
        for (how, window) in [(", without", &self.without), (", beside it", &self.beside)] {
            sheet.add(format!("heartbeats{how}"), 0, count(&window.lateness));
            for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)] {
                let name = format!("heartbeat lateness {name}{how}, at most ms");
                sheet.add(name, 2, at_most_ms(&window.lateness, part));
            }
            sheet.add(format!("heartbeats late by an interval{how}"), 0, window.late);
            sheet.add(format!("puts that the leader held{how}"), 0, window.held);
            sheet.add(format!("leader's memory before{how}, MiB"), 1, window.memory_mib);
            sheet.add(format!("leader's memory at most{how}, MiB"), 1, window.memory_mib + window.growth_mib);
        }
        sheet.add("leader changed", 0, f64::from(u8::from(!self.has_led_on)));
        sheet
    }
}

impl Window {
    /// Puts for as long as `work` takes.
    fn measure<T: Send>(
        plan: &Plan,
        leader: &Server,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<(Self, T), Failure> {
        let (puts, (given, before, after, memory_mib, growth_mib)) = load::run_during(plan, || {
            let (before, memory_mib) = (Metrics(leader.metrics()?), memory_mib(leader)?);
            let (given, growth_mib) = growth_during(leader.pid(), work)?;
            Ok((given, before, Metrics(leader.metrics()?), memory_mib, growth_mib))
        })?;
        let window = Self {
            puts,
            lateness: after.buckets_since(&before, LATENESS),
            late: after.since(&before, LATE_HEARTBEATS),
            held: if after.has(HELD) { after.since(&before, HELD) } else { f64::NAN },
            memory_mib,
            growth_mib,
        };
        Ok((window, given))
    }
}

/// Starts the new member, and waits until it has applied what the leader has, but for `behind_max` entries; says how long that took, if it happened.
fn catch_up(cluster: &Cluster, leader: &Server, behind_max: u64) -> Result<(Server, Option<Duration>), Failure> {
    let (began, member) = (Instant::now(), cluster.start_new()?);
    while began.elapsed() < CATCH_UP_MAX {
        // A member that has nothing yet may not answer.
        if let Ok(applied) = member.applied_index()
            && applied + behind_max >= leader.applied_index()?
        {
            return Ok((member, Some(began.elapsed())));
        }
        thread::sleep(POLL);
    }
    Ok((member, None))
}

/// No number of none: a server without the metric has sent heartbeats all the same.
fn count(buckets: &Buckets) -> f64 {
    if buckets.is_empty() { f64::NAN } else { buckets.iter().map(|(_, count)| count).sum() }
}

/// The upper bound of where a part of all heartbeats lies; no number if there were none.
fn at_most_ms(buckets: &Buckets, part: f64) -> f64 {
    let within = quantile(buckets, part).filter(|_| count(buckets) > 0.0);
    within.map_or(f64::NAN, |within| within.high_us.unwrap_or(f64::INFINITY) / 1000.0)
}

fn add_buckets(sum: &mut Buckets, more: &Buckets) {
    if sum.is_empty() {
        sum.clone_from(more);
        return;
    }
    assert!(sum.len() == more.len(), "all histograms have the same bounds");
    sum.iter_mut().zip(more).for_each(|((_, count), (_, more))| *count += more);
}

fn lateness_text(buckets: &Buckets) -> String {
    let parts = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)];
    let parts = parts.map(|(name, part)| format!("{name} {} ms", at_most_ms(buckets, part)));
    format!("{} heartbeats, {}", count(buckets), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_by_the_bound_below_which_it_lies() {
        let mut buckets = vec![(0.01, 998.0), (0.02, 2.0), (f64::INFINITY, 0.0)];
        assert_eq!(
            (at_most_ms(&buckets, 0.5), at_most_ms(&buckets, 0.999), at_most_ms(&buckets, 1.0)),
            (10.0, 20.0, 20.0)
        );
        assert!(at_most_ms(&Vec::new(), 0.5).is_nan());
        let more = vec![(0.01, 0.0), (0.02, 0.0), (f64::INFINITY, 1000.0)];
        add_buckets(&mut buckets, &more);
        assert_eq!(at_most_ms(&buckets, 0.999), f64::INFINITY);
    }
}
