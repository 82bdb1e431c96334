//! A proof that the crash tests can fail: an environment that lets the meta page reach the disk before the pages it names
//! must be caught by them.

mod common;

use bytes::Bytes;
use common::{SPECS, options};
use plinth_env::Env;
use plinth_sim_env::{Limit, MetaFirst, Sim, SimEnv, SimOptions};
use plinth_tree::{NewBody, NewValue, Store, TreeId, check};

async fn change_and_checkpoint<E: Env>(store: &mut Store<E>, round: u32) {
    for i in 0..200u32 {
        let body = Bytes::from(vec![round as u8; 100]);
        let value = NewValue { head: b"", body: NewBody::Bytes(&body) };
        let old = store.put(TreeId(0), &i.to_be_bytes(), value).expect("everything is in memory");
        if let Some(old) = old {
            store.discard(old);
        }
    }
    let _ = store.publish();
    let done = store.begin_checkpoint().expect("there are changes").run(async |_| {}).await;
    store.finish_checkpoint(done).expect("the disk works");
}

/// Whether a crash `events` disk events into a checkpoint leaves a sound file; None if the checkpoint was done before.
fn survives<E: Env>(seed: u64, events: u64, wrap: impl Fn(SimEnv) -> E) -> Option<bool> {
    let sim = Sim::new(seed, SimOptions::default());
    let env = wrap(sim.env());
    let mut store = sim.block_on(async {
        let mut store = Store::create(env, options()).await.expect("the disk is empty");
        change_and_checkpoint(&mut store, 1).await;
        store
    });
    let finished = sim.block_on_within(change_and_checkpoint(&mut store, 2), Limit::DiskEvents(events)).is_ok();
    sim.crash();
    drop(store);
    let env = sim.env();
    (!finished).then(|| {
        sim.block_on(async {
            match Store::open(env.clone(), options(), true).await {
                Ok(store) => {
                    let verified = store.begin_verify().run(async |_| {}).await.is_ok();
                    let checked = check(&env, &options().path, SPECS).await.is_ok();
                    assert!(!verified || checked, "what verification passes must be sound");
                    checked
                }
                Err(_) => false,
            }
        })
    })
}

#[test]
fn a_tree_that_writes_its_meta_first_is_caught() {
    let (mut caught, mut cuts) = (0, 0);
    // What is lost is drawn: some cuts leave everything.
    while let Some(survived) = survives(cuts, cuts, MetaFirst::new) {
        caught += u64::from(!survived);
        caught +=
            (1..8).filter(|round| survives(100 * round + cuts, cuts, MetaFirst::new) == Some(false)).count() as u64;
        cuts += 1;
    }
    assert!(caught > 0, "no crash at any of {cuts} events showed that the meta was written first");
    let mut cuts = 0;
    while let Some(survived) = survives(cuts, cuts, |env| env) {
        assert!(survived, "in the right order every crash is survived");
        cuts += 1;
    }
}
