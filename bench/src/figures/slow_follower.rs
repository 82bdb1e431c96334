//! What it costs those who put that one follower's disk is slow.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use plinth_fuse::{MountError, slowfs::SlowFs};

use super::{
    Figures, Part,
    aim::Aim,
    beside::{P99, add_pair, plan_of_cluster},
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Outcome, Pace},
    procfs::Disturbance,
    server::{Cluster, Home, Kind, MEMBERS, Program},
};

/// What each flush of the slow disk takes longer.
const SLOW: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_millis(200);
const P99_MAX: f64 = 1.2;
/// The last member: the first one leads.
const FOLLOWER: usize = MEMBERS - 1;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    // Not only when its turn comes.
    lab.etcd()?;
    let table = in_turns(lab, "slow-follower", |program| {
        Ok(lab.undisturbed(Turn::disturbance, || Turn::take(lab, program))?.to_sheet())
    })?;
    let text = format!(
        "Three members, which share all cores with the load. The log of one follower lies on a file system of the test's own, which adds nothing to a flush, and then {} ms to each. Puts to the leader, in an open loop at half of the \
         rate that a closed one reached just before, first without the delay, then with it.\n\n{}",
        SLOW.start().as_millis(),
        table.to_text()
    );
    let name = "put p99 beside a follower whose flushes take 200 ms, in parts of that without";
    let aims = vec![Aim::at_most(name, P99_MAX, table.median(Kind::Plinth, P99))];
    Ok(Part { text, json: table.to_json(), aims })
}

/// What a turn of one server gave.
struct Turn {
    without: Outcome,
    beside: Outcome,
    /// While it was slow.
    flushes: u64,
    has_led_on: bool,
}

impl Turn {
    fn take(lab: &Lab, program: &Program) -> Result<Self, Failure> {
        let disk = SlowDisk::mount(lab)?;
        let home = Home::new(lab.path("slow-follower")?, MEMBERS)?;
        let flags = |member: usize| if member == FOLLOWER { disk.flags() } else { Vec::new() };
        let mut cluster = Cluster::start_each(program, &home, &lab.cores_of(&home), flags)?;
        cluster.wait_until_ready()?;
        let lead = cluster.lead_by_first()?;
        let reached = load::run(&plan_of_cluster(lab, &cluster, Pace::Closed))?.per_second();
        let plan = plan_of_cluster(lab, &cluster, Pace::Open { rate: reached / 2.0 });
        let without = load::run(&plan)?;
        let before = disk.fs.stats().flushes;
        disk.fs.slow_down(SLOW);
        let beside = load::run(&plan)?;
        let flushes = disk.fs.stats().flushes - before;
        disk.fs.heal();
        let has_led_on = cluster.await_lead()? == lead;
        cluster.stop()?;
        Ok(Self { without, beside, flushes, has_led_on })
    }

    /// That of the run that was disturbed more.
    fn disturbance(&self) -> Disturbance {
        let without = self.without.disturbance;
        if without.is_too_much() { without } else { self.beside.disturbance }
    }

    fn to_sheet(&self) -> Sheet {
        let mut sheet = Sheet::default();
        add_pair(&mut sheet, &self.without, &self.beside);
        sheet.add("flushes of the slow disk", 0, self.flushes as f64);
        sheet.add("leader changed", 0, f64::from(u8::from(!self.has_led_on)));
        sheet
    }
}

/// A directory whose flushes can be made slow.
struct SlowDisk {
    fs: SlowFs,
}

impl SlowDisk {
    fn mount(lab: &Lab) -> Result<Self, Failure> {
        let dirs = lab.path("slow-disk")?;
        let [below, mounted] = ["below", "mounted"].map(|name| dirs.join(name));
        for dir in [&below, &mounted] {
            fs::create_dir_all(dir).map_err(Failure::file(dir, "making"))?;
        }
        Ok(Self { fs: mount(&below, &mounted)? })
    }

    /// The log of the server with these flags lies there.
    fn flags(&self) -> Vec<String> {
        let dir: PathBuf = self.fs.path().join("wal");
        vec!["--wal-dir".to_owned(), dir.display().to_string()]
    }
}

fn mount(below: &Path, at: &Path) -> Result<SlowFs, Failure> {
    SlowFs::mount(below, at).map_err(|error| match error {
        MountError::Unavailable(why) => Failure::Trouble(format!("there is no FUSE here: {why}")),
        MountError::Failed(error) => Failure::Trouble(format!("mounting a file system on {}: {error}", at.display())),
    })
}
