//! One run: load, crash, sometimes crash again during recovery, then the verdict; once in a while all of it twice on the
//! same data.

use std::{cell::RefCell, path::Path, process::Command, rc::Rc, time::Duration};

use plinth_base::Prng;
use tokio::{
    task::{JoinHandle, LocalSet},
    time::{Instant, sleep, timeout},
};

use crate::{
    disk::Disk,
    history::{CheckError, History},
    options::{Mode, Options},
    powerfs::{CutReport, MountError},
    server::{Server, free_port},
    steward::{self, Ledger},
    witness::{self, Witness},
    workload::{self, CLIENTS, Shared},
};

/// How long the load may take to reach its writes and a checkpoint.
const LOAD_MAX: Duration = Duration::from_secs(180);
/// How long clients may take to notice that the server is gone.
const CLIENTS_END_MAX: Duration = Duration::from_secs(10);
/// The crash comes within so many changes of the disk, or so long, after the load has reached its goal.
const CUT_CHANGES_MAX: u64 = 400;
const CRASH_DELAY_MAX: Duration = Duration::from_millis(200);
/// A server without power lives on for at most so long: time to acknowledge what it must not.
const POWERLESS_MAX: Duration = Duration::from_millis(5);
/// Recovery is short: a crash within it comes within so many changes, or so long.
const RECOVERY_CHANGES_MAX: u64 = 60;
const RECOVERY_MAX: Duration = Duration::from_millis(60);
/// One recovery in so many is interrupted, and that again.
const RECOVERY_CRASH_ONE_IN: u64 = 3;
const RECOVERY_CRASHES_MAX: u32 = 4;
/// One run in so many goes on after its verdict, with more load and another crash.
const SECOND_ROUND_ONE_IN: u64 = 4;
const POLL: Duration = Duration::from_millis(2);

/// What a sound run did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Report {
    /// Changes that were acknowledged, all of which are there.
    pub acknowledged: usize,
    /// Requests without an answer.
    pub in_doubt: usize,
    /// Those of them that turned out to have been applied.
    pub in_doubt_applied: usize,
    /// Events that a watch was told of, all of them of changes that are there.
    pub events: usize,
    /// Leases that were granted, all of which are there or gone as they must be.
    pub leases: usize,
    /// The newest compaction that was acknowledged.
    pub compacted: i64,
    /// Checkpoints under load.
    pub checkpoints: u64,
    /// Crashes under load.
    pub crashes: u32,
    /// Crashes during recovery.
    pub recovery_crashes: u32,
    /// What the power cuts did.
    pub cut: CutReport,
}

/// Why a run failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// FUSE can't be used here.
    Unavailable(String),
    /// Something went wrong that is not about lost data: before the crash, or at the clean stop.
    Broken(String),
    /// After the crash the server didn't start on what was left.
    Refused(String),
    /// Acknowledged writes are missing, or there is what nobody wrote.
    Lost(String),
    /// The checker found the data directory unsound.
    Unsound(String),
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        match error {
            MountError::Unavailable(why) => Self::Unavailable(why),
            MountError::Failed(_) => Self::Broken(error.to_string()),
        }
    }
}

fn broken(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::Broken(format!("{what}: {error}"))
}

struct Run<'a> {
    options: &'a Options,
    prng: Prng,
    disk: Disk,
    port: u16,
    history: History,
    ledger: Ledger,
    witness: Witness,
    report: Report,
}

/// Does the run of `seed`; the data of a failed one goes to `keep`.
pub fn run(options: &Options, mode: Mode, seed: u64, keep: &Path) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken("tokio"))?;
    let mut prng = Prng::new(seed);
    let disk = Disk::new(mode, options.names)?;
    if prng.chance(1, 2) {
        disk.make_data_dir().map_err(broken("data directory"))?;
    }
    let mut run = Run {
        options,
        prng,
        disk,
        port: free_port().map_err(broken("port"))?,
        history: History::new(),
        ledger: Ledger::default(),
        witness: Witness::new(),
        report: Report::default(),
    };
    let result = runtime.block_on(LocalSet::new().run_until(run.rounds()));
    if result.is_err() {
        let kept = run.disk.keep(keep).and_then(|()| std::fs::copy(run.disk.log_path(), keep.join("server.log")));
        if let Err(error) = kept {
            eprintln!("the data of the failed run could not be kept in {}: {error}", keep.display());
        }
    }
    result.map(|()| run.report)
}

impl Run<'_> {
    async fn rounds(&mut self) -> Result<(), Failure> {
        self.round(self.options.writes).await?;
        if self.prng.chance(1, SECOND_ROUND_ONE_IN) {
            self.round(self.options.writes / 4).await?;
        }
        Ok(())
    }

    async fn round(&mut self, writes: usize) -> Result<(), Failure> {
        self.load_and_crash(writes).await?;
        self.disk.restore_power()?;
        for _ in 0..RECOVERY_CRASHES_MAX {
            if !self.prng.chance(1, RECOVERY_CRASH_ONE_IN) {
                break;
            }
            self.crash_recovery().await?;
            self.report.recovery_crashes += 1;
        }
        self.verify().await
    }

    fn start(&self) -> Result<Server, Failure> {
        let binary = self.options.binary.display();
        Server::start(self.options, &self.disk.data_dir(), self.port, &self.disk.log_path())
            .map_err(broken(&format!("starting {binary}")))
    }

    /// Writes until there are enough acknowledged writes and a checkpoint, and some random time longer; then crashes.
    async fn load_and_crash(&mut self, writes: usize) -> Result<(), Failure> {
        let mut server = self.start()?;
        server.ready().await.map_err(Failure::Broken)?;
        let history = std::mem::take(&mut self.history);
        let ledger = std::mem::take(&mut self.ledger);
        let witness = std::mem::take(&mut self.witness);
        let shared = Shared { history, ledger, witness, acknowledged: 0, ended: Vec::new() };
        let shared = Rc::new(RefCell::new(shared));
        let clients = self.spawn_clients(&server, &shared);
        self.load(&mut server, &shared, writes).await?;
        self.crash_soon(CUT_CHANGES_MAX, CRASH_DELAY_MAX).await;
        if !self.disk.has_power() {
            sleep(POWERLESS_MAX.mul_f64(self.prng.below(1000) as f64 / 1000.0)).await;
        }
        self.crash(server);
        for client in clients {
            let ended = timeout(CLIENTS_END_MAX, client).await;
            ended.map_err(|_| Failure::Broken("a client waits for a server that is gone".to_owned()))?.ok();
        }
        let mut shared = shared.borrow_mut();
        self.history = std::mem::take(&mut shared.history);
        self.ledger = std::mem::take(&mut shared.ledger);
        self.witness = std::mem::take(&mut shared.witness);
        self.report.crashes += 1;
        self.report.acknowledged += self.history.acknowledged_count();
        self.report.in_doubt += self.history.in_doubt_count();
        Ok(())
    }

    fn spawn_clients(&mut self, server: &Server, shared: &Rc<RefCell<Shared>>) -> Vec<JoinHandle<()>> {
        let spawn = |i| {
            let name = format!("c{}-{i}", self.report.crashes);
            let (seed, shared) = (self.prng.next_u64(), Rc::clone(shared));
            tokio::task::spawn_local(workload::write_until_failure(server.addr(), name, seed, shared))
        };
        let mut clients: Vec<JoinHandle<()>> = (0..CLIENTS).map(spawn).collect();
        let (seed, shared) = (self.prng.next_u64(), Rc::clone(shared));
        clients.push(tokio::task::spawn_local(witness::watch_until_failure(server.addr(), Rc::clone(&shared))));
        clients.push(tokio::task::spawn_local(steward::keep_until_failure(server.addr(), seed, shared)));
        clients
    }

    async fn load(&mut self, server: &mut Server, shared: &RefCell<Shared>, writes: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + LOAD_MAX;
        let checkpoints_before = self.checkpoints(server).await?;
        loop {
            sleep(POLL).await;
            if let Some(status) = shared.borrow().ended.first() {
                return Err(Failure::Broken(format!("a client failed under load: {status}\n{}", server.log_tail())));
            }
            let acknowledged = shared.borrow().acknowledged;
            if acknowledged >= writes {
                let checkpoints = self.checkpoints(server).await? - checkpoints_before;
                if checkpoints > 0 {
                    self.report.checkpoints += checkpoints;
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                let seconds = LOAD_MAX.as_secs();
                let what = format!("{acknowledged} of {writes} writes and no checkpoint after {seconds} s");
                return Err(Failure::Broken(format!("{what}\n{}", server.log_tail())));
            }
        }
    }

    async fn checkpoints(&self, server: &Server) -> Result<u64, Failure> {
        let name = &self.options.checkpoint_metric;
        match server.counter(name).await.map_err(broken("/metrics"))? {
            Some(count) => Ok(count as u64),
            None => Err(Failure::Broken(format!("/metrics has no {name}, by which checkpoints are counted"))),
        }
    }

    /// Waits until the power is gone, within some random number of changes, or for a random time.
    async fn crash_soon(&mut self, changes_max: u64, delay_max: Duration) {
        self.disk.cut_soon(&mut self.prng, changes_max);
        let deadline = Instant::now() + delay_max.mul_f64(self.prng.below(1000) as f64 / 1000.0);
        while self.disk.has_power() && Instant::now() < deadline {
            sleep(POLL.min(deadline - Instant::now())).await;
        }
    }

    fn crash(&mut self, server: Server) {
        self.disk.cut(self.prng.next_u64());
        server.kill();
    }

    async fn crash_recovery(&mut self) -> Result<(), Failure> {
        let server = self.start()?;
        self.crash_soon(RECOVERY_CHANGES_MAX, RECOVERY_MAX).await;
        self.crash(server);
        self.disk.restore_power()?;
        Ok(())
    }

    /// Starts the server on what is left and compares everything; then stops it cleanly and checks its files.
    async fn verify(&mut self) -> Result<(), Failure> {
        self.report.cut = self.disk.cut_report();
        let started = Instant::now();
        let mut server = self.start()?;
        let client = server.ready().await.map_err(Failure::Refused)?;
        let refused = |status: plinth_client::Status| Failure::Refused(status.to_string());
        let compacted = self.history.compaction_asked_for();
        // Before anything is written: what a crash has taken back it was told then, or never.
        let told = witness::catch_up(&client, &mut self.witness, compacted).await;
        let told = told.map_err(refused)?;
        let seed = self.prng.next_u64();
        let judge = |at, state: &_, touched: &_| self.witness.judge(at, state, touched);
        let verified = self.history.check(seed, async |at| workload::fetch(&client, at).await, judge).await;
        let verified = verified.map_err(|error| match error {
            CheckError::Violation(violation) => Failure::Lost(violation.to_string()),
            CheckError::Unreachable(status) => Failure::Refused(format!("{status}\n{}", server.log_tail())),
        })?;
        // Lost writes come first: a watch that waits for them is no other failure.
        told.and_then(|()| self.witness.conclude()).map_err(Failure::Lost)?;
        self.report.in_doubt_applied += verified.in_doubt_applied;
        self.report.events = self.witness.events();
        let kept = steward::verify(&client, &mut self.ledger, self.history.state(), || started.elapsed()).await;
        kept.map_err(refused)?.map_err(Failure::Lost)?;
        (self.report.leases, self.report.compacted) = self.ledger.summary();
        drop(client);
        server.stop().await.map_err(Failure::Broken)?;
        self.check_files()
    }

    fn check_files(&self) -> Result<(), Failure> {
        let Some((program, args)) = self.options.checker.split_first() else { return Ok(()) };
        let checked = Command::new(program).args(args).arg(self.disk.data_dir()).output();
        let checked = checked.map_err(broken(&format!("checker {program}")))?;
        if checked.status.success() {
            return Ok(());
        }
        let (out, err) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        Err(Failure::Unsound(format!("the checker ended with {}:\n{out}{err}", checked.status)))
    }
}
