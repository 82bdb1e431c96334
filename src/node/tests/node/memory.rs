//! The memory for changed pages on a member that applies much at once.

use std::time::Duration;

use plinth_env::Env;
use plinth_node::ShardOptions;
use plinth_rpc::etcdserverpb as pb;
use plinth_sim_env::{Sim, SimOptions};

use crate::support::{Node, options, start};

const KEYS: u32 = 4000;
/// Coprime to the number of keys: neighbours are not written one after the other.
const STRIDE: u32 = 1231;

/// Nothing of the tree is in memory yet, so nearly every command waits for a page when it is half done.
#[test]
fn a_log_that_changes_more_than_there_is_memory_for_is_applied_in_parts_also_if_every_page_has_to_be_loaded() {
    let sim = Sim::new(8, SimOptions::default());
    let env = sim.env();
    let write_all = async |node: &Node, value: u8| {
        for key in 0..KEYS {
            let key = format!("{:06}", u64::from(key) * u64::from(STRIDE) % u64::from(KEYS));
            let put = pb::PutRequest { key: key.into(), value: vec![value; 1000].into(), ..Default::default() };
            node.api.put(put).await.expect("the device is well");
        }
    };
    sim.block_on(async {
        let node = start(&env, options()).await.expect("an empty disk takes a member");
        write_all(&node, 1).await;
        node.api.stop().await;
    });
    sim.kill();
    let env = sim.env();
    sim.block_on(async {
        let node = start(&env, options()).await.expect("what was stopped starts");
        write_all(&node, 2).await;
        let changed_bytes = node.handle.metrics.changed_page_bytes.get();
        assert!(changed_bytes > 8 << 20, "no checkpoint has made it less: {changed_bytes}");
    });
    sim.kill();
    let env = sim.env();
    sim.block_on(async {
        let options = ShardOptions { dirty_bytes_max: 1 << 20, checkpoint_dirty_bytes: 256 << 10, ..options() };
        let node = start(&env, options).await.expect("what was killed starts");
        let (mut most, last) = (0, i64::from(2 * KEYS) + 1);
        while node.api.published().root().state.revision < last {
            most = most.max(node.handle.metrics.changed_page_bytes.get());
            env.sleep(Duration::from_millis(1)).await;
        }
        assert!((512 << 10..2 << 20).contains(&most), "{most} bytes of changed pages were in memory");
    });
}
