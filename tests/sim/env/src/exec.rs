//! The executor: tasks, timers, operations of the disk, and the order in which they go on.
//!
//! Invariants: whatever runs next is drawn from the seed or follows from virtual time; an operation that was submitted ends even
//! if nobody waits for it, unless the run crashes first; no borrow of the executor's state is held while foreign code runs.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    panic::Location,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use plinth_base::{Instant, Prng};
use plinth_env::TaskQueue;

use crate::{
    clock::HostClock,
    disk::Disk,
    net::Net,
    options::{SimOptions, as_ns},
    trace::Trace,
};

/// The future that the driver itself polls.
const MAIN: u64 = 0;

/// Virtual time at the start: not zero, so that "an hour ago" can be said.
const START_NS: u64 = 3600 * 1_000_000_000;

/// Locks what only one thread ever uses; a panic elsewhere doesn't make it unusable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tasks that were woken.
type ReadyList = Arc<Mutex<Vec<u64>>>;

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: ReadyList,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.ready).push(self.id);
        }
    }
}

struct Task {
    host: HostId,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Arc<TaskWaker>,
    queue: TaskQueue,
    spawned_at: &'static Location<'static>,
}

/// How an operation of the disk ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// In its time.
    Done,
    /// The power went while the device was at it: what it did may be there, and nobody learns of it.
    Interrupted,
}

type Action = Box<dyn FnOnce(&Rc<World>, Fate)>;
type NetAction = Box<dyn FnOnce(&Rc<World>)>;

enum Event {
    Timer(Waker),
    Op(Action),
    /// Something comes from the network.
    Net(NetAction),
    /// The host's tasks go on.
    Resume,
}

/// One of the machines of a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct HostId(pub(crate) usize);

/// A machine: its disk, and the process that runs on it.
struct Host {
    /// Goes up with each crash; what was made before it is stale.
    epoch: Cell<u64>,
    disk: Arc<Mutex<Disk>>,
    /// Its tasks stand still: those that were woken meanwhile.
    paused: RefCell<Option<Vec<u64>>>,
    clock: Cell<HostClock>,
}

/// Name of an event: when it is due, and its number among all events.
pub(crate) type EventKey = (u64, u64);

/// Why the driver came back before the future was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// Nothing can run and no timer is set. Says when, and which tasks wait.
    Deadlock(String),
    /// The tasks run in circles: more polls than [`SimOptions::polls_max`].
    Livelock(String),
    /// The limit that the caller set was reached.
    Limit,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadlock(what) => write!(f, "deadlock: {what}"),
            Self::Livelock(what) => write!(f, "livelock: {what}"),
            Self::Limit => f.write_str("the limit of the run was reached"),
        }
    }
}

impl std::error::Error for Stopped {}

/// How far the driver may go, as absolute counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) until_ns: u64,
    pub(crate) disk_events: u64,
    /// Until the frame that the network waits for.
    pub(crate) frame: bool,
}

impl Bounds {
    pub(crate) const NONE: Self = Self { until_ns: u64::MAX, disk_events: u64::MAX, frame: false };
}

/// The simulated machines: what a `Sim` and its environments share.
pub(crate) struct World {
    clock_ns: Cell<u64>,
    poll_cost_ns: u64,
    polls_max: u64,
    ready: ReadyList,
    tasks: RefCell<BTreeMap<u64, Task>>,
    events: RefCell<BTreeMap<EventKey, (HostId, Event)>>,
    next_task: Cell<u64>,
    next_event: Cell<u64>,
    /// Counts submissions and completions of the disk: the points between which a crash can fall.
    disk_events: Cell<u64>,
    /// The number of the poll under way, for what holds "until the task yields".
    poll_serial: Arc<AtomicU64>,
    picks: RefCell<Prng>,
    random: RefCell<Prng>,
    trace: Cell<Trace>,
    hosts: Vec<Host>,
    pub(crate) net: RefCell<Net>,
}

impl World {
    pub(crate) fn new(seed: u64, options: &SimOptions, hosts: usize) -> Rc<Self> {
        let mut prng = Prng::new(seed);
        let (picks, random) = (prng.fork(), prng.fork());
        let mut host = || Host {
            epoch: Cell::new(0),
            disk: Arc::new(Mutex::new(Disk::new(options, prng.fork()))),
            paused: RefCell::default(),
            clock: Cell::new(HostClock::new(START_NS)),
        };
        let hosts: Vec<Host> = (0..hosts).map(|_| host()).collect();
        let net = RefCell::new(Net::new(hosts.len(), prng.fork()));
        Rc::new(Self {
            clock_ns: Cell::new(START_NS),
            poll_cost_ns: as_ns(options.poll_cost).max(1),
            polls_max: options.polls_max,
            ready: ReadyList::default(),
            tasks: RefCell::default(),
            events: RefCell::default(),
            next_task: Cell::new(MAIN + 1),
            next_event: Cell::new(0),
            disk_events: Cell::new(0),
            poll_serial: Arc::default(),
            picks: RefCell::new(picks),
            random: RefCell::new(random),
            trace: Cell::default(),
            hosts,
            net,
        })
    }

    pub(crate) fn now(&self) -> Instant {
        Instant(self.clock_ns.get())
    }

    /// What the clock of a host shows.
    pub(crate) fn now_at(&self, host: HostId) -> Instant {
        Instant(self.hosts[host.0].clock.get().shown(self.clock_ns.get()))
    }

    /// From now on a host's clock is so fast. Sleeps under way end no earlier than it shows their time.
    pub(crate) fn set_clock_rate(&self, host: HostId, rate_millionths: u64) {
        let clock = &self.hosts[host.0].clock;
        let mut changed = clock.get();
        changed.set_rate(self.clock_ns.get(), rate_millionths);
        clock.set(changed);
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.clock_ns.get() - START_NS
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn epoch(&self, host: HostId) -> u64 {
        self.hosts[host.0].epoch.get()
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    pub(crate) fn poll_serial(&self) -> &Arc<AtomicU64> {
        &self.poll_serial
    }

    pub(crate) fn shared_disk(&self, host: HostId) -> &Arc<Mutex<Disk>> {
        &self.hosts[host.0].disk
    }

    pub(crate) fn disk(&self, host: HostId) -> MutexGuard<'_, Disk> {
        lock(&self.hosts[host.0].disk)
    }

    pub(crate) fn disk_events(&self) -> u64 {
        self.disk_events.get()
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        let mut trace = self.trace.get();
        for host in &self.hosts {
            trace.note([lock(&host.disk).trace.hash(), self.clock_ns.get(), self.disk_events.get()]);
        }
        trace.hash()
    }

    fn note(&self, tag: u64, what: u64) {
        let mut trace = self.trace.get();
        trace.note([tag, what, self.clock_ns.get()]);
        self.trace.set(trace);
    }

    fn waker(&self, id: u64) -> Arc<TaskWaker> {
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        waker.wake_by_ref();
        waker
    }

    #[track_caller]
    pub(crate) fn spawn(&self, host: HostId, queue: TaskQueue, future: Pin<Box<dyn Future<Output = ()>>>) {
        let id = self.next_task.get();
        self.next_task.set(id + 1);
        let task = Task { host, future, waker: self.waker(id), queue, spawned_at: Location::caller() };
        self.tasks.borrow_mut().insert(id, task);
    }

    /// Wakes `waker` when the host's clock shows `at`, if that stays as fast as it is; the key is good for [`World::reset_timer`] until then.
    pub(crate) fn set_timer(&self, host: HostId, at: Instant, waker: Waker) -> EventKey {
        self.add_event(host, self.hosts[host.0].clock.get().when(at.0), Event::Timer(waker))
    }

    /// Replaces the waker of a timer; false if that has fired.
    pub(crate) fn reset_timer(&self, key: EventKey, waker: &Waker) -> bool {
        let mut events = self.events.borrow_mut();
        let Some((_, Event::Timer(old))) = events.get_mut(&key) else { return false };
        old.clone_from(waker);
        true
    }

    /// Forgets a timer, if it hasn't fired.
    pub(crate) fn cancel_timer(&self, key: EventKey) {
        self.events.borrow_mut().remove(&key);
    }

    fn add_event(&self, host: HostId, at_ns: u64, event: Event) -> EventKey {
        let key = (at_ns, self.next_event.get());
        self.next_event.set(key.1 + 1);
        self.events.borrow_mut().insert(key, (host, event));
        key
    }

    /// Runs `action` on `host` after `delay_ns`, unless it goes down before.
    pub(crate) fn schedule(&self, host: HostId, delay_ns: u64, action: NetAction) {
        self.add_event(host, self.clock_ns.get().saturating_add(delay_ns), Event::Net(action));
    }

    /// Starts an operation of the disk that takes `delay_ns`; `action` is run at its end, or by a crash, or never.
    pub(crate) fn submit(&self, host: HostId, delay_ns: u64, action: Action) {
        self.disk_events.set(self.disk_events.get() + 1);
        self.add_event(host, self.clock_ns.get().saturating_add(delay_ns), Event::Op(action));
    }

    /// Polls tasks, and `main` if there is one, until `main` is done. Without `main` it goes on to the bounds, idle time included.
    pub(crate) fn drive(
        self: &Rc<Self>,
        mut main: Option<Pin<&mut dyn Future<Output = ()>>>,
        bounds: Bounds,
    ) -> Result<(), Stopped> {
        let main_waker = self.waker(MAIN);
        for _ in 0..self.polls_max {
            self.fire_due(bounds);
            let is_over = self.clock_ns.get() >= bounds.until_ns || self.disk_events.get() >= bounds.disk_events;
            if is_over || self.has_frame_come(bounds) {
                return Err(Stopped::Limit);
            }
            match self.pick() {
                Some(MAIN) => {
                    let Some(main) = main.as_mut() else { continue };
                    if self.poll(MAIN, main.as_mut(), &main_waker) {
                        return Ok(());
                    }
                }
                Some(id) => self.poll_task(id),
                None => {
                    if !self.jump(bounds.until_ns) {
                        if main.is_some() || bounds.until_ns == u64::MAX {
                            return Err(Stopped::Deadlock(self.describe_waiting()));
                        }
                        self.clock_ns.set(bounds.until_ns);
                    }
                }
            }
        }
        Err(Stopped::Livelock(self.describe_waiting()))
    }

    fn has_frame_come(&self, bounds: Bounds) -> bool {
        bounds.frame && self.net.borrow().has_awaited_come()
    }

    /// Runs the events that are due.
    fn fire_due(self: &Rc<Self>, bounds: Bounds) {
        while self.disk_events.get() < bounds.disk_events && !self.has_frame_come(bounds) {
            let event = {
                let mut events = self.events.borrow_mut();
                match events.first_entry() {
                    Some(first) if first.key().0 <= self.clock_ns.get() => first.remove_entry(),
                    _ => break,
                }
            };
            let (key, (host, event)) = event;
            self.note(1, key.1);
            match event {
                Event::Timer(waker) => waker.wake(),
                Event::Net(action) => action(self),
                Event::Resume => self.resume(host),
                Event::Op(action) => {
                    self.disk_events.set(self.disk_events.get() + 1);
                    action(self, Fate::Done);
                }
            }
        }
    }

    /// Draws one of the tasks that can run.
    fn pick(&self) -> Option<u64> {
        let mut ready = lock(&self.ready);
        if ready.is_empty() {
            return None;
        }
        let index = self.picks.borrow_mut().index(ready.len());
        Some(ready.swap_remove(index))
    }

    fn poll_task(&self, id: u64) {
        // The task is out of the map while it runs: it may spawn others. A wake of one that is done finds nothing.
        let Some(mut task) = self.tasks.borrow_mut().remove(&id) else { return };
        if let Some(woken) = &mut *self.hosts[task.host.0].paused.borrow_mut() {
            woken.push(id);
            self.tasks.borrow_mut().insert(id, task);
            return;
        }
        let waker = Arc::clone(&task.waker);
        if !self.poll(id, task.future.as_mut(), &waker) {
            self.tasks.borrow_mut().insert(id, task);
        }
    }

    /// True when the future is done.
    fn poll(&self, id: u64, future: Pin<&mut (impl Future<Output = ()> + ?Sized)>, waker: &Arc<TaskWaker>) -> bool {
        self.note(2, id);
        self.poll_serial.fetch_add(1, Ordering::Relaxed);
        waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(waker));
        let done = future.poll(&mut Context::from_waker(&waker)).is_ready();
        self.clock_ns.set(self.clock_ns.get() + self.poll_cost_ns);
        done
    }

    /// Moves the clock to the next event; false if there is none before `until_ns`.
    fn jump(&self, until_ns: u64) -> bool {
        let Some(at_ns) = self.events.borrow().first_key_value().map(|(key, _)| key.0) else { return false };
        self.clock_ns.set(self.clock_ns.get().max(at_ns.min(until_ns)));
        true
    }

    fn describe_waiting(&self) -> String {
        let tasks = self.tasks.borrow();
        let listed: Vec<_> = tasks
            .iter()
            .take(20)
            .map(|(id, t)| format!("task {id} ({:?}) spawned at {}", t.queue, t.spawned_at))
            .collect();
        let at = std::time::Duration::from_nanos(self.elapsed_ns());
        format!("after {at:?} of virtual time, {} tasks wait: {}", tasks.len(), listed.join(", "))
    }

    /// A host's tasks stand still for `duration_ns`, as in a process that is stopped: what they were woken for waits.
    pub(crate) fn pause(&self, host: HostId, duration_ns: u64) {
        let mut paused = self.hosts[host.0].paused.borrow_mut();
        if paused.is_none() {
            *paused = Some(Vec::new());
            self.add_event(host, self.clock_ns.get().saturating_add(duration_ns), Event::Resume);
        }
    }

    pub(crate) fn resume(&self, host: HostId) {
        let woken = self.hosts[host.0].paused.take();
        lock(&self.ready).extend(woken.into_iter().flatten());
    }

    /// Ends what runs on a host: drops its tasks, timers and what is under way on its disk, and makes handles stale. With `power_cut`, an
    /// operation under way may have reached the device in part.
    pub(crate) fn stop(self: &Rc<Self>, host: HostId, power_cut: bool) {
        let epoch = &self.hosts[host.0].epoch;
        epoch.set(epoch.get() + 1);
        self.hosts[host.0].paused.take();
        // Before the tasks go: their drops cancel timers and may wake each other.
        for event in self.take_events(host) {
            let Event::Op(action) = event else { continue };
            // A dead process' operations are the kernel's, which finishes what it had begun.
            let reached = self.picks.borrow_mut().chance(1, 2);
            if reached {
                action(self, if power_cut { Fate::Interrupted } else { Fate::Done });
            }
        }
        self.clear_host(host);
        self.close_endpoint(host, power_cut);
        self.note(3, u64::from(power_cut));
    }

    fn take_events(&self, host: HostId) -> Vec<Event> {
        let mut events = self.events.borrow_mut();
        let keys: Vec<EventKey> = events.iter().filter(|(_, (of, _))| *of == host).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| events.remove(&key)).map(|(_, event)| event).collect()
    }

    fn take_tasks(&self, host: HostId) -> Vec<Task> {
        let mut tasks = self.tasks.borrow_mut();
        let ids: Vec<u64> = tasks.iter().filter(|(_, task)| task.host == host).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| tasks.remove(&id)).collect()
    }

    fn clear_host(&self, host: HostId) {
        // Taken out first: what is dropped may look at the maps, or spawn.
        loop {
            let (tasks, events) = (self.take_tasks(host), self.take_events(host));
            if tasks.is_empty() && events.is_empty() {
                break;
            }
            drop((tasks, events));
        }
        // The driver goes on beside the other hosts; with one there is nothing left to go on.
        let tasks = self.tasks.borrow();
        lock(&self.ready).retain(|id| tasks.contains_key(id) || (*id == MAIN && self.hosts.len() > 1));
    }

    /// Drops all tasks and events.
    pub(crate) fn clear(&self) {
        (0..self.hosts.len()).for_each(|host| self.clear_host(HostId(host)));
    }
}

/// Completes when the host's clock reaches `at`.
pub(crate) struct Sleep {
    pub(crate) world: Rc<World>,
    pub(crate) host: HostId,
    pub(crate) at: Instant,
    pub(crate) timer: Option<EventKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.world.now_at(self.host) >= self.at {
            return Poll::Ready(());
        }
        // One that has fired too early was set when the clock was faster.
        if !self.timer.is_some_and(|key| self.world.reset_timer(key, cx.waker())) {
            self.timer = Some(self.world.set_timer(self.host, self.at, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            self.world.cancel_timer(key);
        }
    }
}

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Where an operation leaves its result.
pub(crate) struct Completer<T>(Rc<RefCell<Slot<T>>>);

/// Waits for an operation's result. One of a run that crashed never completes.
pub(crate) struct Completion<T>(Rc<RefCell<Slot<T>>>);

/// The two ends of an operation.
pub(crate) fn completion<T>() -> (Completer<T>, Completion<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, waker: None }));
    (Completer(Rc::clone(&slot)), Completion(slot))
}

impl<T> Completer<T> {
    pub(crate) fn complete(self, value: T) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Completion<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.borrow_mut();
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
