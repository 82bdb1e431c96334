//! The lessor over leases in the trees: none expires early, each does in time, whoever granted it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plinth_base::Instant;
use plinth_kv::{ByTtl, Command, Lessor, OpOutcome};
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimOptions};
use plinth_tree::Env;

use crate::bed::{Bed, TERM};

const GRACE: Duration = Duration::from_secs(1);
const BATCH: usize = 7;

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

fn simulate(seed: u64, main: impl AsyncFnOnce(SimEnv, u64)) {
    let faults = Faults { page_miss: Chance::one_in(6), ..Faults::default() };
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    sim.block_on(main(sim.env(), seed));
}

/// Everything that is due, loading what is missing, as the shard does over several ticks.
async fn due(bed: &mut Bed, lessor: &mut Lessor, now: Instant) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        let due = lessor.due(bed.store.view(), now, BATCH);
        assert!(due.ids.len() <= BATCH);
        ids.extend(due.ids);
        if let Some(missing) = due.missing {
            let pages = Arc::clone(bed.store.pages());
            bed.env.load_pages(&pages, missing.wants).await.expect("pages are sound");
        }
        if !due.has_more {
            return ids;
        }
    }
}

async fn grant(bed: &mut Bed, id: i64, ttl: i64) {
    let granted = bed.apply(Command::LeaseGrant { id, ttl }).await;
    assert_eq!(granted.result, Ok(OpOutcome::LeaseGranted { id, ttl }));
}

#[test]
fn leases_from_before_have_their_whole_ttl_and_the_grace() {
    simulate(1, async |env, seed| {
        let mut bed = Bed::new(env, seed).await;
        for id in 1..=60 {
            grant(&mut bed, id, 10 + id % 3).await;
        }
        bed = bed.reopened().await;
        let mut lessor = Lessor::new(at(100), GRACE);
        assert_eq!(due(&mut bed, &mut lessor, at(110)).await, []);
        assert_eq!(
            lessor.remaining(ByTtl { ttl: 10, id: 3 }, at(110)),
            Some(Duration::from_secs(1)),
            "10 s and the grace from 100 s on"
        );
        // One is renewed in time, one is revoked.
        assert!(lessor.renew(ByTtl { ttl: 10, id: 3 }, at(110)));
        bed.apply(Command::LeaseRevoke { id: 6 }).await;
        lessor.revoked(6);
        let mut expired = due(&mut bed, &mut lessor, at(111)).await;
        expired.sort_unstable();
        let want: Vec<i64> = (1..=60).filter(|id| id % 3 == 0 && ![3, 6].contains(id)).collect();
        assert_eq!(expired, want, "those of 10 s");
        assert_eq!(due(&mut bed, &mut lessor, at(111)).await, [], "each is given once");
        assert!(!lessor.renew(ByTtl { ttl: 10, id: 9 }, at(111)), "its time is over");
        assert_eq!(lessor.remaining(ByTtl { ttl: 10, id: 9 }, at(111)), None);
        // What was proposed and didn't happen is proposed again; what did, isn't.
        bed.apply(Command::LeasesExpire { ids: want[1..].to_vec(), term: TERM }).await;
        want[1..].iter().for_each(|id| lessor.revoked(*id));
        let mut again = due(&mut bed, &mut lessor, at(112)).await;
        again.retain(|id| id % 3 == 0);
        assert_eq!(again, want[..1]);
        assert!(due(&mut bed, &mut lessor, at(120)).await.contains(&3), "the renewed one");
    });
}

#[test]
fn a_lease_granted_again_under_its_id_has_nothing_of_the_first() {
    simulate(2, async |env, seed| {
        let mut bed = Bed::new(env, seed).await;
        let mut lessor = Lessor::new(at(0), GRACE);
        grant(&mut bed, 5, 2).await;
        lessor.granted(5, 2, at(0));
        bed.apply(Command::LeaseRevoke { id: 5 }).await;
        lessor.revoked(5);
        grant(&mut bed, 5, 600).await;
        lessor.granted(5, 600, at(1));
        assert_eq!(due(&mut bed, &mut lessor, at(600)).await, []);
        assert_eq!(due(&mut bed, &mut lessor, at(601)).await, [5]);
    });
}

/// Grants, renewals, revocations, changes of leadership and time, against deadlines in a map.
#[test]
fn no_lease_expires_early_and_every_one_in_time() {
    for seed in 10..20 {
        simulate(seed, async |env, seed| {
            let mut bed = Bed::new(env, seed).await;
            let (mut now, mut lessor) = (1_u64, Lessor::new(at(1), GRACE));
            let mut deadlines: BTreeMap<i64, (i64, u64)> = BTreeMap::new();
            for _ in 0..300 {
                let (id, ttl) = (1 + bed.prng.below(30) as i64, 2 + bed.prng.below(9) as i64);
                match (bed.prng.below(10), deadlines.get(&id).copied()) {
                    (0..4, None) => {
                        grant(&mut bed, id, ttl).await;
                        lessor.granted(id, ttl, at(now));
                        deadlines.insert(id, (ttl, now + ttl.unsigned_abs()));
                    }
                    (0..4, Some((ttl, deadline))) => {
                        let renewed = lessor.renew(ByTtl { ttl, id }, at(now));
                        assert_eq!(renewed, deadline > now);
                        if renewed {
                            deadlines.insert(id, (ttl, now + ttl.unsigned_abs()));
                        }
                    }
                    (4, Some(_)) => {
                        bed.apply(Command::LeaseRevoke { id }).await;
                        lessor.revoked(id);
                        deadlines.remove(&id);
                    }
                    (5, _) if bed.prng.chance(1, 5) => {
                        lessor = Lessor::new(at(now), GRACE);
                        for (ttl, deadline) in deadlines.values_mut() {
                            *deadline = now + ttl.unsigned_abs() + GRACE.as_secs();
                        }
                    }
                    _ => now += 1,
                }
                let mut expired = due(&mut bed, &mut lessor, at(now)).await;
                expired.sort_unstable();
                let want: Vec<i64> =
                    deadlines.iter().filter(|(_, (_, deadline))| *deadline <= now).map(|(id, _)| *id).collect();
                assert_eq!(expired, want, "at {now} s of seed {seed}");
                bed.apply(Command::LeasesExpire { ids: expired.clone(), term: TERM }).await;
                for id in expired {
                    lessor.revoked(id);
                    deadlines.remove(&id);
                }
            }
            bed.audit().await;
        });
    }
}
