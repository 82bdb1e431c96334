//! The ring of an executor: log, tree and snapshot I/O, on the same path on every device, and waiting for sockets.
//!
//! Operations are queued at once and submitted together. Our own executor does that at the end of each pass, and waits in the ring when it has
//! nothing to do. On glommio a task of the consensus queue submits, and a registered eventfd, which another task reads through glommio's ring,
//! says that completions are there.
//!
//! Invariants: a slot owns buffer and descriptor until the kernel has answered every entry that names them, also when
//! the future is gone; at most `ENTRIES` entries of storage are out. Waits for sockets are as many as there are; should they fill the
//! completion queue, the kernel keeps the rest until there is room.
//! Dropping the ring waits for what is in the kernel, and cancels what would wait for ever.

mod request;
mod slab;

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use io_uring::{IoUring, opcode, squeue, types};
use plinth_base::AlignedBuf;
use rustix::event::{EventfdFlags, eventfd};

pub(crate) use self::request::{Kind, Request, os_error};
use self::slab::{Slab, Taken};
use crate::{
    counters::ExecutorCounters,
    probe::{Feature, Features},
};

/// Size of the submission queue.
const ENTRIES: u32 = 256;

/// Size of the completion queue.
const COMPLETIONS: u32 = 2048;

/// Flag of io_uring_enter: take what has completed.
const ENTER_GETEVENTS: u32 = 1;

/// What names the end of a cancellation, which nobody waits for.
const CANCEL: u64 = u64::MAX;

/// Kernel worker threads behind the ring, each for bounded (files) and unbounded work.
const WORKERS_MAX: u32 = 4;

/// How often completions are looked for if the eventfd can't be read.
const FALLBACK_POLL: Duration = Duration::from_millis(1);

/// What an operation ends with: its result, and its buffer back.
pub(crate) type Outcome = (io::Result<()>, AlignedBuf);

/// A handle to the ring.
#[derive(Clone)]
pub(crate) struct Ring(Rc<Shared>);

struct Shared {
    state: RefCell<State>,
    counters: Arc<ExecutorCounters>,
}

struct State {
    uring: IoUring,
    slots: Slab,
    /// Slots of storage whose next round waits for submission.
    pending: VecDeque<u32>,
    /// Slots of waits that are to be submitted.
    waits: VecDeque<u32>,
    /// Slots whose waits are to be cancelled.
    cancels: VecDeque<u32>,
    /// Entries of storage in the submission queue or in the kernel.
    in_kernel: u32,
    /// Waits that are in the kernel.
    waits_out: u32,
    submitter: Option<Waker>,
    event: OwnedFd,
}

impl Ring {
    /// Sets up the ring of the calling thread, whose kernel workers may run on `cores`.
    pub(crate) fn new(features: &Features, cores: &[usize], counters: Arc<ExecutorCounters>) -> io::Result<Self> {
        let uring = build(features)?;
        // Blocking on purpose: a read through a ring waits then, where a non-blocking one would fail.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        limit_workers(&uring, features, cores);
        let state = State {
            uring,
            slots: Slab::default(),
            pending: VecDeque::new(),
            waits: VecDeque::new(),
            cancels: VecDeque::new(),
            in_kernel: 0,
            waits_out: 0,
            submitter: None,
            event,
        };
        Ok(Self(Rc::new(Shared { state: RefCell::new(state), counters })))
    }

    /// Queues an operation. It goes to its end even if the future is dropped.
    pub(crate) fn start(&self, request: Request) -> Completion {
        let mut state = self.0.state.borrow_mut();
        let is_patient = request.is_patient();
        let slot = state.slots.insert(request);
        if is_patient {
            state.waits.push_back(slot);
        } else {
            state.pending.push_back(slot);
        }
        let submitter = state.submitter.take();
        drop(state);
        submitter.inspect(Waker::wake_by_ref);
        Completion { shared: Rc::clone(&self.0), slot: Some(slot) }
    }

    /// Completes when the descriptor is ready for `events`, or broken.
    pub(crate) fn poll_fd(&self, fd: Arc<OwnedFd>, events: u32) -> Completion {
        self.start(Request::new(Kind::Poll(events), fd, false, 0, AlignedBuf::zeroed(0)))
    }

    /// Completes when the eventfd was written to, and resets it.
    pub(crate) async fn read_event(&self, fd: Arc<OwnedFd>) -> io::Result<()> {
        self.start(Request::new(Kind::Event, fd, false, 0, AlignedBuf::zeroed(size_of::<u64>()))).await.0
    }

    /// Submits what was queued and takes what has completed, without waiting: the end of a pass of our own executor.
    pub(crate) fn turn(&self) {
        let state = &self.0.state;
        if state.borrow().has_work() {
            self.0.submit();
        } else {
            state.borrow_mut().run_completions();
            self.0.reap();
        }
    }

    /// Submits what was queued and sleeps until something has completed, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        self.0.wait(timeout);
    }

    /// The task that submits what was queued, once per pass of the executor.
    pub(crate) fn submitter(&self) -> impl Future<Output = ()> + 'static {
        let shared = Rc::downgrade(&self.0);
        async move {
            while poll_fn(|cx| poll_work(&shared, cx)).await {
                let Some(shared) = shared.upgrade() else { return };
                shared.submit();
            }
        }
    }

    /// The task that waits for completions.
    pub(crate) fn reaper(&self) -> io::Result<impl Future<Output = ()> + 'static> {
        let event = self.0.state.borrow().event.try_clone()?;
        let shared = Rc::downgrade(&self.0);
        Ok(async move {
            let event = eventfd_file(event);
            loop {
                if event.read_at(0, size_of::<u64>()).await.is_err() {
                    crate::scheduler::sleep(FALLBACK_POLL).await;
                }
                let Some(shared) = shared.upgrade() else { return };
                shared.counters.ring_wakeups.add(1);
                shared.reap();
            }
        })
    }

    /// Takes what has completed without waiting: called by the permanent timer, should a wake ever get lost.
    pub(crate) fn reap(&self) {
        self.0.reap();
    }

    /// Operations that have not completed, waits apart.
    pub(crate) fn busy(&self) -> usize {
        let state = self.0.state.borrow();
        state.slots.len() - state.waits.len() - state.waits_out as usize
    }
}

/// glommio's view of the eventfd, which only its ring ever reads.
#[allow(unsafe_code)]
fn eventfd_file(event: OwnedFd) -> glommio::io::BufferedFile {
    // SAFETY: the descriptor was just duplicated and is given away; the file closes it.
    unsafe { glommio::io::BufferedFile::from_raw_fd(event.into_raw_fd()) }
}

/// Ready with true when something waits for submission, with false when the ring is gone.
fn poll_work(shared: &Weak<Shared>, cx: &Context<'_>) -> Poll<bool> {
    let Some(shared) = shared.upgrade() else { return Poll::Ready(false) };
    let mut state = shared.state.borrow_mut();
    if state.has_work() {
        return Poll::Ready(true);
    }
    state.submitter = Some(cx.waker().clone());
    Poll::Pending
}

impl State {
    fn may_submit(&self) -> bool {
        self.pending.front().is_some_and(|slot| self.in_kernel + self.slots.request(*slot).entries() <= ENTRIES)
    }

    /// Whether a submission would bring something to the kernel.
    fn has_work(&self) -> bool {
        self.may_submit() || !self.waits.is_empty() || !self.cancels.is_empty()
    }

    /// Whether the submission queue has places for `entries`.
    fn has_room(&mut self, entries: usize) -> bool {
        let queue = self.uring.submission();
        queue.len() + entries <= queue.capacity()
    }

    /// Moves rounds into the submission queue as long as there is room.
    fn fill(&mut self) -> u32 {
        let mut filled = 0;
        while self.has_room(1)
            && let Some(slot) = self.cancels.pop_front()
        {
            self.push(&opcode::AsyncCancel::new(u64::from(slot) << 1).build().user_data(CANCEL));
            filled += 1;
        }
        while self.has_room(2) && self.may_submit() {
            let slot = self.pending.pop_front().expect("may_submit saw it");
            let entries = self.push_round(slot);
            self.in_kernel += entries;
            filled += entries;
        }
        while self.has_room(1)
            && let Some(slot) = self.waits.pop_front()
        {
            if !self.slots.free_if_abandoned(slot) {
                filled += self.push_round(slot);
                self.waits_out += 1;
            }
        }
        filled
    }

    fn push_round(&mut self, slot: u32) -> u32 {
        let (first, second) = self.slots.request_mut(slot).start_round(u64::from(slot) << 1);
        self.push(&first);
        second.inspect(|entry| self.push(entry)).map_or(1, |_| 2)
    }

    /// With cooperative task running, what has completed in the kernel becomes visible at a system call only.
    #[allow(unsafe_code)]
    fn run_completions(&mut self) {
        let queue = self.uring.submission();
        let is_due = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if is_due {
            // SAFETY: nothing is submitted and no argument is given.
            let _ = unsafe { self.uring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) };
        }
    }

    #[allow(unsafe_code)]
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: buffer and descriptor that the entry names are owned by its slot, which gives neither back before all entries
        // of the round have completed (Request::into_buf asserts it), and State::drop waits for them.
        let pushed = unsafe { self.uring.submission().push(entry) };
        pushed.expect("the queue has ENTRIES places, and no more entries are out");
    }

    /// Takes all completions; gives the wakers of the operations that are over.
    fn take_completions(&mut self, wakers: &mut Vec<Waker>) -> u32 {
        let mut taken = 0;
        while let Some(cqe) = self.uring.completion().next() {
            if cqe.user_data() == CANCEL {
                continue;
            }
            let (slot, part) = ((cqe.user_data() >> 1) as u32, (cqe.user_data() & 1) as usize);
            taken += 1;
            let is_patient = self.slots.request(slot).is_patient();
            if is_patient {
                self.waits_out -= 1;
                // A cancellation that is still to be submitted would hit whoever has the slot next.
                self.cancels.retain(|cancelled| *cancelled != slot);
            } else {
                self.in_kernel -= 1;
            }
            match self.slots.complete(slot, part, cqe.result()) {
                Taken::Waiting => {}
                Taken::Again if is_patient => self.waits.push_back(slot),
                Taken::Again => self.pending.push_back(slot),
                Taken::Done(waker) => wakers.extend(waker),
            }
        }
        taken
    }
}

impl Shared {
    /// Submits all that there is room for.
    fn submit(&self) {
        while self.submit_once() {
            self.reap();
        }
        self.reap();
    }

    /// One enter; true if something is left: it was interrupted, or the queue couldn't hold all.
    fn submit_once(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let filled = state.fill();
        self.counters.ring_sqes.add(u64::from(filled));
        self.counters.ring_enters.add(1);
        match state.uring.submit() {
            Ok(_) => {}
            Err(e) if is_transient(&e) => {}
            Err(e) => panic!("the storage ring no longer takes operations: {e}"),
        }
        state.has_work() || !state.uring.submission().is_empty()
    }

    /// One enter that submits and sleeps.
    fn wait(&self, timeout: Duration) {
        let mut state = self.state.borrow_mut();
        let filled = state.fill();
        self.counters.ring_sqes.add(u64::from(filled));
        if state.has_work() {
            // More than the queue holds at once: what is left must not sleep with the thread.
            drop(state);
            return self.submit();
        }
        self.counters.ring_enters.add(1);
        let timeout = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&timeout);
        match state.uring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(e) if is_transient(&e) || e.raw_os_error() == Some(libc::ETIME) => {}
            Err(e) => panic!("the ring no longer takes operations: {e}"),
        }
        drop(state);
        self.reap();
    }

    fn reap(&self) {
        let mut wakers = Vec::new();
        let mut state = self.state.borrow_mut();
        let taken = state.take_completions(&mut wakers);
        if state.may_submit() {
            wakers.extend(state.submitter.take());
        }
        drop(state);
        self.counters.ring_cqes.add(u64::from(taken));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The kernel may still read and write the buffers: they are freed only when it has answered.
        self.cancels = self.slots.patient().collect();
        self.fill();
        while self.in_kernel > 0 || self.waits_out > 0 {
            match self.uring.submit_and_wait(1) {
                Ok(_) => {}
                Err(e) if is_transient(&e) => {}
                // Nothing can be known about the buffers any more.
                Err(_) => std::process::abort(),
            }
            self.take_completions(&mut Vec::new());
            self.fill();
        }
    }
}

/// The end of an operation.
pub(crate) struct Completion {
    shared: Rc<Shared>,
    slot: Option<u32>,
}

impl Future for Completion {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let slot = self.slot.expect("not polled after its end");
        let outcome = self.shared.state.borrow_mut().slots.poll(slot, cx.waker());
        match outcome {
            None => Poll::Pending,
            Some(outcome) => {
                self.slot = None;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let mut state = self.shared.state.borrow_mut();
        if state.slots.abandon(slot) {
            state.cancels.push_back(slot);
            let submitter = state.submitter.take();
            drop(state);
            submitter.inspect(Waker::wake_by_ref);
        }
    }
}

/// Errors of io_uring_enter after which the same call works.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// A ring as storage uses it.
pub(crate) fn build(features: &Features) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS);
    // Completions wait for the next system call of this thread instead of interrupting it.
    if features.has(Feature::CoopTaskrun) {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    if features.has(Feature::SingleIssuer) {
        builder.setup_single_issuer();
    }
    builder.build(ENTRIES)
}

/// Direct writes that change inode times run on kernel workers: they stay on the server's cores and are few.
#[allow(unsafe_code)]
fn limit_workers(uring: &IoUring, features: &Features, cores: &[usize]) {
    if features.has(Feature::IowqMaxWorkers) {
        let _ = uring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, WORKERS_MAX]);
    }
    if features.has(Feature::IowqAffinity) && !cores.is_empty() {
        // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for core in cores {
            // SAFETY: CPU_SET checks the number against the size of the set.
            unsafe { libc::CPU_SET(*core, &mut set) };
        }
        let _ = uring.submitter().register_iowq_aff(&set);
    }
}
