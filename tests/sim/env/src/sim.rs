//! The driver: what a test holds to run, crash and inspect a simulated machine.

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use plinth_base::Instant;
use plinth_env::PeerLane;

use crate::{
    clock::SimClock,
    disk::Effect,
    env::SimEnv,
    exec::{Bounds, HostId, Stopped, World},
    net::{Awaited, NetOptions},
    options::{Faults, Latency, OpKind, SimOptions, as_ns},
};

/// How far a run may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Until its future is done.
    None,
    /// At most so much virtual time.
    Time(Duration),
    /// At most so many submissions and completions of operations of the disk: a crash can fall between any two of them.
    DiskEvents(u64),
}

/// Simulated machines, usually one. They are driven from outside: a test runs futures on them, crashes them, and runs others on what is left.
///
/// What a `Sim` says of a machine it says of the first one; [`Sim::host`] names another.
pub struct Sim {
    seed: u64,
    world: Rc<World>,
    /// Of each machine.
    unix_starts: Vec<Rc<Cell<Duration>>>,
}

/// One of the machines of a [`Sim`].
#[derive(Clone, Copy)]
pub struct SimHost<'a> {
    sim: &'a Sim,
    id: HostId,
}

impl Sim {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64, options: SimOptions) -> Self {
        Self::with_hosts(seed, options, 1)
    }

    /// So many machines, each with an empty disk of its own. They have the executor in common, so their tasks go on in any order.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "options are built for the call")]
    pub fn with_hosts(seed: u64, options: SimOptions, hosts: usize) -> Self {
        assert!(hosts > 0, "something has to run somewhere");
        let unix_starts = (0..hosts).map(|_| Rc::new(Cell::new(options.unix_start))).collect();
        Self { seed, world: World::new(seed, &options, hosts), unix_starts }
    }

    /// Machine number `host`, from 0 on.
    #[must_use]
    pub fn host(&self, host: usize) -> SimHost<'_> {
        assert!(host < self.world.hosts(), "there are {} machines", self.world.hosts());
        SimHost { sim: self, id: HostId(host) }
    }

    fn first(&self) -> SimHost<'_> {
        self.host(0)
    }

    /// The seed it was made with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Runs until `main` is done; spawned tasks run beside it and stay when it ends.
    ///
    /// # Panics
    ///
    /// When `main` can never be done, with a description of what waits.
    pub fn block_on<T>(&self, main: impl Future<Output = T>) -> T {
        self.block_on_within(main, Limit::None).unwrap_or_else(|stopped| panic!("seed {}: {stopped}", self.seed))
    }

    /// Runs until `main` is done; an error if it never can be.
    pub fn try_block_on<T>(&self, main: impl Future<Output = T>) -> Result<T, Stopped> {
        self.block_on_within(main, Limit::None)
    }

    /// Runs until `main` is done or `limit` is reached. `main` is dropped then, spawned tasks stay, and operations under way
    /// are still under way: a crash now hits them.
    pub fn block_on_within<T>(&self, main: impl Future<Output = T>, limit: Limit) -> Result<T, Stopped> {
        let mut result = None;
        let driven = {
            let main = pin!(async { result = Some(main.await) });
            self.world.drive(Some(main), self.bounds(limit))
        };
        driven.map(|()| result.expect("a future that is done has left its result"))
    }

    /// Runs spawned tasks for `duration` of virtual time, idle time included.
    ///
    /// # Panics
    ///
    /// When the tasks run in circles.
    pub fn run_for(&self, duration: Duration) {
        match self.world.drive(None, self.bounds(Limit::Time(duration))) {
            Ok(()) | Err(Stopped::Limit) => {}
            Err(stopped) => panic!("seed {}: {stopped}", self.seed),
        }
    }

    /// Runs spawned tasks until `done` says so, looking every `step` of virtual time; false if that takes longer than `max`.
    pub fn run_until(&self, step: Duration, max: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.elapsed() + max;
        while !done() {
            if self.elapsed() >= end {
                return false;
            }
            self.run_for(step);
        }
        true
    }

    fn bounds(&self, limit: Limit) -> Bounds {
        match limit {
            Limit::None => Bounds::NONE,
            Limit::Time(duration) => {
                Bounds { until_ns: self.world.now().0.saturating_add(as_ns(duration)), ..Bounds::NONE }
            }
            Limit::DiskEvents(count) => {
                Bounds { disk_events: self.world.disk_events().saturating_add(count), ..Bounds::NONE }
            }
        }
    }

    /// [`SimHost::env`] of the first machine.
    #[must_use]
    pub fn env(&self) -> SimEnv {
        self.first().env()
    }

    /// [`SimHost::crash`] of the first machine.
    pub fn crash(&self) {
        self.first().crash();
    }

    /// [`SimHost::kill`] of the first machine.
    pub fn kill(&self) {
        self.first().kill();
    }

    /// [`SimHost::change_faults`] of the first machine.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        self.first().change_faults(change);
    }

    /// [`SimHost::fail_op`] of the first machine.
    pub fn fail_op(&self, kind: OpKind, path_part: &str, skip: u64) {
        self.first().fail_op(kind, path_part, skip);
    }

    /// [`SimHost::delay_op`] of the first machine.
    pub fn delay_op(&self, kind: OpKind, path_part: &str, skip: u64, delay: Duration) {
        self.first().delay_op(kind, path_part, skip, delay);
    }

    /// [`SimHost::set_capacity`] of the first machine.
    pub fn set_capacity(&self, bytes: u64) {
        self.first().set_capacity(bytes);
    }

    /// [`SimHost::set_unix_time`] of the first machine.
    pub fn set_unix_time(&self, unix: Duration) {
        self.first().set_unix_time(unix);
    }

    /// [`SimHost::drop_caches`] of the first machine.
    pub fn drop_caches(&self) {
        self.first().drop_caches();
    }

    /// [`SimHost::flip_bit`] of the first machine.
    #[must_use]
    pub fn flip_bit(&self, path: &Path, offset: u64) -> bool {
        self.first().flip_bit(path, offset)
    }

    /// [`SimHost::read_file`] of the first machine.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        self.first().read_file(path)
    }

    /// [`SimHost::read_durable`] of the first machine.
    #[must_use]
    pub fn read_durable(&self, path: &Path) -> Option<Vec<u8>> {
        self.first().read_durable(path)
    }

    /// [`SimHost::write_file`] of the first machine.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.first().write_file(path, bytes)
    }

    /// [`SimHost::files`] of the first machine.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.first().files()
    }

    /// Changes how the network behaves from now on.
    pub fn change_net(&self, change: impl FnOnce(&mut NetOptions)) {
        change(&mut self.world.net.borrow_mut().options);
    }

    /// From now on nothing that host `from` sends comes to host `to`; what is sent waits.
    pub fn cut(&self, from: usize, to: usize) {
        self.world.cut(HostId(from), HostId(to));
    }

    /// What host `from` sends comes to host `to` again.
    pub fn heal(&self, from: usize, to: usize) {
        self.world.heal(HostId(from), HostId(to));
    }

    /// The network carries everything again.
    pub fn heal_all(&self) {
        self.world.heal_all();
    }

    /// What host `from` sends to host `to` on a lane from now on is not there before `duration` has passed.
    pub fn stall_lane(&self, from: usize, to: usize, lane: PeerLane, duration: Duration) {
        self.world.stall_lane(HostId(from), HostId(to), lane, as_ns(duration));
    }

    /// A lane between two hosts breaks.
    pub fn reset_lane(&self, a: usize, b: usize, lane: PeerLane) {
        self.world.reset_lane(HostId(a), HostId(b), lane);
    }

    /// Runs spawned tasks until a frame that is meant has come from host `from` to host `to` on a lane, and not a poll longer; false if none comes within `max`.
    ///
    /// # Panics
    ///
    /// When the tasks run in circles.
    #[must_use]
    pub fn run_until_frame(
        &self,
        (from, to, lane): (usize, usize, PeerLane),
        is_meant: fn(&[u8]) -> bool,
        max: Duration,
    ) -> bool {
        let awaited = Awaited { way: (HostId(from), HostId(to), lane), is_meant, has_come: false };
        self.world.net.borrow_mut().await_frame(awaited);
        let bounds = Bounds { frame: true, ..self.bounds(Limit::Time(max)) };
        if let Err(stopped @ (Stopped::Deadlock(_) | Stopped::Livelock(_))) = self.world.drive(None, bounds) {
            panic!("seed {}: {stopped}", self.seed);
        }
        self.world.net.borrow().has_awaited_come()
    }

    /// How often each kind of fault struck so far on any machine, sorted by name.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        let mut sums = BTreeMap::new();
        for host in 0..self.world.hosts() {
            for (name, count) in self.world.disk(HostId(host)).counters.list() {
                *sums.entry(name).or_default() += count;
            }
        }
        for (name, count) in self.world.net.borrow().counts() {
            *sums.entry(name).or_default() += count;
        }
        sums.into_iter().collect()
    }

    /// Virtual time, whatever the machines' clocks show.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        SimClock(Rc::clone(&self.world))
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.elapsed_ns())
    }

    /// Submissions and completions of operations of the disk so far.
    #[must_use]
    pub fn disk_events(&self) -> u64 {
        self.world.disk_events()
    }

    /// Polls of tasks so far.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.world.poll_serial().load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A hash of everything that happened so far: polls, timers, operations with their bytes, crashes, and the times of all these.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }
}

impl SimHost<'_> {
    /// An environment of the present run; after a crash a new one is needed.
    #[must_use]
    pub fn env(self) -> SimEnv {
        let world = &self.sim.world;
        SimEnv {
            world: Rc::clone(world),
            host: self.id,
            epoch: world.epoch(self.id),
            unix_start: Rc::clone(&self.sim.unix_starts[self.id.0]),
        }
    }

    /// Its tasks stand still for so long, as in a process that is stopped. Its disk goes on.
    pub fn pause(self, duration: Duration) {
        self.sim.world.pause(self.id, as_ns(duration));
    }

    /// Ends a pause.
    pub fn resume(self) {
        self.sim.world.resume(self.id);
    }

    /// What was planned for operations to come is planned no more.
    pub fn cancel_plans(self) {
        self.sim.world.disk(self.id).cancel_plans();
    }

    /// Cuts the power: all tasks are dropped, handles become stale, and of what was not flushed each write is kept, lost or torn.
    pub fn crash(self) {
        self.sim.world.stop(self.id, true);
        self.sim.world.disk(self.id).crash();
    }

    /// Kills the process, not the machine: tasks are dropped and handles become stale, but what was written is there.
    pub fn kill(self) {
        self.sim.world.stop(self.id, false);
        self.sim.world.disk(self.id).kill();
    }

    /// Changes what goes wrong from now on.
    pub fn change_faults(self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.sim.world.disk(self.id).faults);
    }

    /// Lets one operation fail as the device would: the one after `skip` others of its kind on paths that contain `path_part`.
    /// A crash cancels it.
    pub fn fail_op(self, kind: OpKind, path_part: &str, skip: u64) {
        self.sim.world.disk(self.id).plan(kind, path_part, skip, Effect::Fail);
    }

    /// Lets one operation take `delay` longer; which one, as with [`Sim::fail_op`].
    pub fn delay_op(self, kind: OpKind, path_part: &str, skip: u64, delay: Duration) {
        self.sim.world.disk(self.id).plan(kind, path_part, skip, Effect::Delay(delay));
    }

    /// Flushes of paths that contain `path_part` are stuck: those that begin from now on end when `duration` has passed, or later. Crashes change nothing of that.
    pub fn stick_flushes(self, path_part: &str, duration: Duration) {
        let until_ns = self.sim.world.now().0.saturating_add(as_ns(duration));
        self.sim.world.disk(self.id).flushes.stick(path_part, until_ns);
    }

    /// Flushes of paths that contain `path_part` take so much longer from now on.
    pub fn slow_flushes(self, path_part: &str, latency: Latency) {
        self.sim.world.disk(self.id).flushes.slow(path_part, latency);
    }

    /// Flushes that begin from now on are neither stuck nor slow.
    pub fn free_flushes(self) {
        self.sim.world.disk(self.id).flushes.free();
    }

    /// When the first durable write began that was stuck, if flushes haven't been freed since.
    #[must_use]
    pub fn stuck_since(self) -> Option<Instant> {
        self.sim.world.disk(self.id).flushes.stuck_since_ns().map(Instant)
    }

    /// Makes the disk larger or smaller; what is on it stays.
    pub fn set_capacity(self, bytes: u64) {
        self.sim.world.disk(self.id).set_capacity(bytes);
    }

    /// Sets the wall clock to `unix` now; the monotonic clock goes on.
    pub fn set_unix_time(self, unix: Duration) {
        self.sim.unix_starts[self.id.0].set(unix.saturating_sub(self.sim.elapsed()));
    }

    /// From now on its monotonic clock is so fast, in millionths of virtual time.
    pub fn set_clock_rate(self, millionths: u64) {
        self.sim.world.set_clock_rate(self.id, millionths);
    }

    /// Drops the page cache of all files: no page of any file is in memory afterwards.
    pub fn drop_caches(self) {
        self.sim.world.disk(self.id).drop_caches();
    }

    /// Flips the lowest bit of the byte at `offset`, in the cache and on the device; false where the file has no byte.
    #[must_use]
    pub fn flip_bit(self, path: &Path, offset: u64) -> bool {
        self.sim.world.disk(self.id).flip_bit(path, offset)
    }

    /// A file's bytes as reads see them.
    #[must_use]
    pub fn read_file(self, path: &Path) -> Option<Vec<u8>> {
        self.sim.world.disk(self.id).content(path, false)
    }

    /// A file's bytes as they certainly are on the device. Its name may still be lost.
    #[must_use]
    pub fn read_durable(self, path: &Path) -> Option<Vec<u8>> {
        self.sim.world.disk(self.id).content(path, true)
    }

    /// Puts a file on the disk, durable with its name and its directories, in place of one that was there.
    pub fn write_file(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.sim.world.disk(self.id).plant(path, bytes)
    }

    /// All files with their lengths in bytes, sorted by path.
    #[must_use]
    pub fn files(self) -> Vec<(PathBuf, u64)> {
        self.sim.world.disk(self.id).files()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("simulation failed with seed {} after {:?} of virtual time", self.seed, self.elapsed());
        }
        // Tasks hold the world that holds them.
        self.world.clear();
    }
}
