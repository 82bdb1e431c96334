//! What findings mean: what a put's time goes into, and what to worry about. A pure function.

use serde::Serialize;

use super::findings::Findings;

/// etcd's own rules for its disk (its hardware guide): the 99th percentile of a flush of the log, and of a commit of the database.
const FLUSH_P99_MAX_US: f64 = 10_000.0;
const COMMIT_P99_MAX_US: f64 = 25_000.0;
/// Beyond this part of the quota there is little time left before writes are refused.
const QUOTA_PART_MAX: f64 = 0.8;

/// What findings mean.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Diagnosis {
    /// What a put's mean time goes into, the largest part first; nothing if there were no puts.
    pub parts: Vec<(Part, f64)>,
    /// One line each.
    pub warnings: Vec<String>,
}

/// A part of a put.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// There and back, and what any call costs the server.
    Network,
    /// The members' word on who leads.
    Quorum,
    /// The log's flush.
    Flush,
    /// What is left.
    Rest,
}

impl Part {
    /// As it stands in a sum.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "the network and the server's part of any call",
            Self::Quorum => "the agreement of the members",
            Self::Flush => "the disk's flush",
            Self::Rest => "all else",
        }
    }

    /// Where to look if it is the largest.
    pub fn advice(self, is_flush_known: bool) -> &'static str {
        match self {
            Self::Network => {
                "look at the network between here and the server, and at the server's CPU; the disk is not what makes puts slow"
            }
            Self::Quorum => "look at the network between the members, and at the CPU of the leader",
            Self::Flush => {
                "look at the disk: `plinth-bench fsync --dir DIR` on the server, beside its log, tells what it can do"
            }
            Self::Rest if is_flush_known => {
                "look at the server's CPU, at what else it does (other clients, compactions, snapshots), and at the disks of the other members"
            }
            Self::Rest => {
                "the flush is in it, and this endpoint has no metrics to tell it apart: look at the disk first"
            }
        }
    }
}

/// What `findings` mean.
pub fn diagnose(findings: &Findings) -> Diagnosis {
    Diagnosis { parts: parts(findings), warnings: warnings(findings) }
}

/// Means are used, because they can be added and a histogram has its own exactly.
fn parts(findings: &Findings) -> Vec<(Part, f64)> {
    let calls = &findings.calls;
    let Some(put) = calls.put else { return Vec::new() };
    let quorum = calls.linearizable.map_or(0.0, |linearizable| linearizable.mean_us - calls.serializable.mean_us);
    let flush = findings.metered.as_ref().and_then(|metered| metered.flush);
    // A cut for each: no part is longer than what the ones before it have left of the put.
    let mut left = put.mean_us;
    let mut cut = |part: f64| {
        let part = part.clamp(0.0, left);
        left -= part;
        part
    };
    let mut parts = vec![(Part::Network, cut(calls.empty.mean_us))];
    // Unknown is not nothing: then it is in the rest.
    parts.extend(flush.map(|flush| (Part::Flush, cut(flush.mean_us))));
    parts.push((Part::Quorum, cut(quorum)));
    parts.push((Part::Rest, left));
    parts.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    parts
}

fn warnings(findings: &Findings) -> Vec<String> {
    let server = &findings.server;
    let mut warnings: Vec<String> = server.errors.iter().map(|error| format!("the server says: {error}")).collect();
    if let Some(why) = &findings.calls.refused {
        warnings.push(format!("it takes no writes: {why}"));
    }
    if server.is_learner {
        warnings.push("this member is a learner: it has no vote, and serves only some calls".to_owned());
    }
    if let Some(metered) = &findings.metered {
        for (spread, what, max_us) in [
            (metered.flush, "a flush of the log", FLUSH_P99_MAX_US),
            (metered.commit, "a commit of the database", COMMIT_P99_MAX_US),
        ] {
            let Some(p99) = spread.and_then(|spread| spread.p99).filter(|p99| p99.estimate_us > max_us) else {
                continue;
            };
            let (ms, max_ms) = (p99.estimate_us / 1e3, max_us / 1e3);
            warnings.push(format!("{what} takes about {ms:.0} ms at the 99th percentile; etcd's rule is {max_ms:.0} ms: the disk is too slow or too busy"));
        }
        match metered.leader_changes_meanwhile {
            0 => {}
            count => warnings
                .push(format!("the leader changed {count} times while this was measured: the cluster is not stable")),
        }
    }
    if let Some(quota) = findings.quota_bytes() {
        let part = server.db_bytes as f64 / quota as f64;
        if part > QUOTA_PART_MAX {
            warnings.push(format!(
                "the database has {:.0} % of its quota; at 100 % writes are refused: compact, defragment, or raise --quota-backend-bytes",
                100.0 * part
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::{Spread, Within},
        probe::findings::{CallFacts, Calls, Metered, Server},
    };

    fn call(mean_us: f64) -> CallFacts {
        CallFacts { calls: 1000, mean_us, p50_us: Some(mean_us), p99_us: None, max_us: mean_us }
    }

    fn spread(mean_us: f64, p99_us: f64) -> Option<Spread> {
        let within = |us| Within { low_us: us, high_us: Some(us), estimate_us: us };
        Some(Spread { count: 1000, mean_us, p50: within(mean_us), p99: Some(within(p99_us)) })
    }

    /// Mean times of an empty call, a serializable and a linearizable read, and a put.
    fn findings(empty: f64, serializable: f64, linearizable: f64, put: f64, flush: Option<Spread>) -> Findings {
        Findings {
            server: Server {
                name: "etcd".to_owned(),
                version: "3.5.1".to_owned(),
                endpoint: String::new(),
                member: 1,
                leader: 1,
                is_learner: false,
                members: 3,
                db_bytes: 10,
                db_in_use_bytes: 10,
                quota_bytes: None,
                errors: Vec::new(),
            },
            calls: Calls {
                empty: call(empty),
                serializable: call(serializable),
                linearizable: Some(call(linearizable)),
                put: Some(call(put)),
                event: None,
                refused: None,
            },
            metered: Some(Metered {
                is_plinth: false,
                flush,
                commit: None,
                quota_bytes: Some(100),
                leader_changes: 3,
                leader_changes_meanwhile: 0,
            }),
        }
    }

    fn largest(findings: &Findings) -> Part {
        diagnose(findings).parts[0].0
    }

    #[test]
    fn the_largest_part_of_a_put_is_found() {
        assert_eq!(largest(&findings(50.0, 60.0, 70.0, 5200.0, spread(5000.0, 9000.0))), Part::Flush);
        assert_eq!(largest(&findings(2000.0, 2100.0, 2100.0, 2900.0, spread(500.0, 900.0))), Part::Network);
        assert_eq!(largest(&findings(50.0, 60.0, 1100.0, 2000.0, spread(500.0, 900.0))), Part::Quorum);
        assert_eq!(largest(&findings(50.0, 60.0, 70.0, 9000.0, spread(500.0, 900.0))), Part::Rest);
    }

    #[test]
    fn parts_make_up_the_put_whatever_was_measured() {
        for (empty, serializable, linearizable, put, flush) in [
            (50.0, 60.0, 70.0, 200.0, 100.0),
            // A read that asks nobody took longer, and flushes of others were longer than the puts.
            (50.0, 90.0, 70.0, 200.0, 1000.0),
            (500.0, 600.0, 9000.0, 200.0, 100.0),
        ] {
            let parts = diagnose(&findings(empty, serializable, linearizable, put, spread(flush, flush))).parts;
            assert!(parts.iter().all(|(_, us)| *us >= 0.0), "{parts:?}");
            assert!((parts.iter().map(|(_, us)| us).sum::<f64>() - put).abs() < 1e-9, "{parts:?}");
            assert!(parts.is_sorted_by(|(_, one), (_, next)| one >= next));
        }
    }

    #[test]
    fn without_metrics_or_puts_it_says_what_it_can() {
        let mut unmetered = findings(50.0, 60.0, 70.0, 5200.0, None);
        unmetered.metered = None;
        assert_eq!(largest(&unmetered), Part::Rest);
        assert!(diagnose(&unmetered).parts.iter().all(|(part, _)| *part != Part::Flush), "unknown is not nothing");
        assert!(Part::Rest.advice(false).contains("no metrics"));
        let mut full = findings(50.0, 60.0, 70.0, 100.0, None);
        full.calls.put = None;
        full.calls.refused = Some("no space".to_owned());
        let Diagnosis { parts, warnings } = diagnose(&full);
        assert_eq!((parts, warnings), (Vec::new(), vec!["it takes no writes: no space".to_owned()]));
    }

    #[test]
    fn etcds_rules_are_told_when_they_are_broken() {
        let sound = findings(50.0, 60.0, 70.0, 200.0, spread(500.0, 9_000.0));
        assert!(diagnose(&sound).warnings.is_empty(), "{:?}", diagnose(&sound).warnings);
        let warned = |change: &dyn Fn(&mut Findings)| {
            let mut findings = sound.clone();
            change(&mut findings);
            let warnings = diagnose(&findings).warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            warnings[0].clone()
        };
        let metered =
            |change: &dyn Fn(&mut Metered)| warned(&|findings| change(findings.metered.as_mut().expect("it has")));
        assert!(
            metered(&|metered| metered.flush = spread(500.0, 12_000.0))
                .starts_with("a flush of the log takes about 12 ms")
        );
        assert!(metered(&|metered| metered.commit = spread(500.0, 30_000.0)).contains("etcd's rule is 25 ms"));
        assert!(metered(&|metered| metered.leader_changes_meanwhile = 2).starts_with("the leader changed 2 times"));
        assert!(warned(&|findings| findings.server.db_bytes = 81).starts_with("the database has 81 % of its quota"));
        assert!(
            warned(&|findings| findings.server.quota_bytes = Some(11)).starts_with("the database has 91 %"),
            "its own word counts"
        );
        assert!(warned(&|findings| findings.server.is_learner = true).contains("learner"));
        let alarm = |findings: &mut Findings| findings.server.errors.push("alarm:NOSPACE".to_owned());
        assert_eq!(warned(&alarm), "the server says: alarm:NOSPACE");
    }
}
