//! Files that never were segments. Segments with mutated bytes are `tests/fuzz`'s target `log`.

use plinth_base::Prng;
use plinth_sim_env::{Sim, SimOptions};
use plinth_wal::Wal;

use crate::shard::{options, segment};

#[test]
fn wal_files_of_noise_are_refused() {
    let mut prng = Prng::new(5);
    for round in 0..100 {
        let sim = Sim::new(round, SimOptions::default());
        let mut bytes = vec![0; prng.index(200_000)];
        prng.fill(&mut bytes);
        sim.write_file(&segment(1 + prng.below(3)), &bytes).expect("the disk has room");
        assert!(sim.block_on(Wal::open(&sim.env(), options())).is_err());
    }
}
