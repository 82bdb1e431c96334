//! Opening a shard's files, or making them at the first start.
//!
//! A new shard is made in an order that a crash can't spoil: the tree of each group with the first configuration, durable, under its temporary
//! name; its rename; then the log. A shard without a log whose trees hold nothing but the first configuration is one whose making was
//! interrupted: the log is made then, and groups that it doesn't know are started in it. Anything else that is missing is an error that names it.
//!
//! A marker file says that the last stop was clean: then no page has to be verified before the log behind a checkpoint may go.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use plinth_base::{GroupId, LogIndex, Mark, MemberId, bug};
use plinth_env::{DirEntry, Env, PageError, Peers};
use plinth_kv::{Machine, MemberRecord, Standing, State, trees};
use plinth_raft::{Options, Position, Raft, Start};
use plinth_tree::{Store, StoreOptions, TreeError};
use plinth_wal::{TailCut, Wal, WalError, WalOptions};

use crate::{
    group::{Group, configuration},
    options::{Identity, ShardOptions},
    shard::{BackgroundWork, Members, Shard, ShardPorts, alone},
};

/// Present while a shard is stopped cleanly.
const CLEAN_MARKER: &str = "clean";

/// What the trees of a group that has seen no entry yet have applied: its first configuration. Where a member joins, not even that.
const BOOTSTRAP_INDEX: LogIndex = LogIndex(1);

/// Why a shard can't start, or can't go on.
#[derive(Debug)]
pub enum NodeError {
    /// The log.
    Wal(WalError),
    /// A tree.
    Tree(TreeError),
    /// Pages of a tree.
    Page(PageError),
    /// A directory or marker file.
    Io {
        /// Which.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// A file that should be there isn't.
    MissingFile {
        /// Which.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// An entry of the log can't be read.
    Entry {
        /// Whose log.
        group: GroupId,
        /// Which entry.
        index: LogIndex,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A state record can't be read.
    State {
        /// The tree file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The cluster has removed this member, and its id never comes back.
    Removed {
        /// This member.
        member: MemberId,
    },
    /// The files belong to another cluster.
    OtherCluster {
        /// The tree file.
        path: PathBuf,
        /// The cluster that it names.
        found: u64,
        /// The cluster that was expected.
        expected: u64,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => error.fmt(f),
            Self::Tree(error) => error.fmt(f),
            Self::Page(error) => error.fmt(f),
            Self::Io { path, what, error } => write!(f, "{what} {} failed: {error}", path.display()),
            Self::MissingFile { path, advice } => write!(f, "{} is missing: {advice}", path.display()),
            Self::Entry { group, index, what } => {
                write!(f, "entry {index} of group {group} can't be read ({what}): it was written by another version")
            }
            Self::State { path, what } => write!(f, "the state record of {} can't be read: {what}", path.display()),
            Self::Removed { member } => write!(
                f,
                "member {:x} has been permanently removed from the cluster: to come back as a new one, add it there and start with an empty --data-dir",
                member.0
            ),
            Self::OtherCluster { path, found, expected } => write!(
                f,
                "{} belongs to cluster {found:x}, not to {expected:x}: use its own --initial-* flags or another --data-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for NodeError {}

macro_rules! from {
    ($($error:ty => $variant:ident,)*) => {
        $(impl From<$error> for NodeError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! { WalError => Wal, TreeError => Tree, PageError => Page, }

/// Opens the shard in the directories that `options` name, or makes it.
///
/// # Errors
/// Whatever is wrong with the files; they are left as they are.
pub async fn open_shard<E: Env>(
    env: &E,
    options: ShardOptions,
    identity: &Identity,
    ports: ShardPorts,
    peers: Box<dyn Peers>,
) -> Result<Shard<E>, NodeError> {
    create_dir(env, &options.data_dir).await?;
    create_dir(env, &options.wal_dir).await?;
    let files = Files { env, options: &options, identity };
    let was_clean = files.take_clean_marker().await?;
    let mut stores = Vec::new();
    for &group in &options.groups {
        stores.push((group, files.open_or_create_tree(group, !was_clean).await?));
    }
    // The log counts on the trees' names from here on, also on those that an earlier start gave before it was cut off.
    sync_dir(env, &options.data_dir).await?;
    let (wal, cut) = files.open_or_create_wal(&stores).await?;
    if let Some(cut) = cut {
        // With one batch in flight a torn batch was never acknowledged; only one that rotted later could have been, and nobody can tell.
        let what = if cut.may_hold_acknowledged { "a torn or rotten batch" } else { "a torn start of a segment" };
        plinth_base::log_warn!(
            "the end of the log was cut: its last batch is not whole, as a crash in the middle of a write leaves it",
            "what" => what,
            "file" => plinth_base::log::Value::display(&cut.file.display()),
            "offset" => cut.offset
        );
    }
    let member = identity.member_id();
    let origin = env.random_u64().max(1);
    let (mut groups, mut members) = (Vec::new(), Vec::new());
    for (id, store) in stores {
        let records = files.members(&store).await?;
        if records.iter().any(|record| record.id == member && record.standing == Standing::Removed) {
            return Err(NodeError::Removed { member });
        }
        members.push(Members::new(records));
        groups.push(files.group(id, store, &wal, was_clean, origin)?);
    }
    Ok(Shard::new(env, options, (identity.cluster_id, member.0), wal, groups, ports, (origin, peers, members)))
}

fn tree_path(options: &ShardOptions, group: GroupId) -> PathBuf {
    options.data_dir.join(format!("group-{group}.tree"))
}

/// Where a snapshot is built.
pub(crate) fn snapshot_path(options: &ShardOptions, group: GroupId) -> PathBuf {
    options.data_dir.join(format!("group-{group}.snapshot"))
}

pub(crate) fn tree_options(options: &ShardOptions, path: PathBuf) -> StoreOptions {
    StoreOptions { path, trees: trees::TREES, file_bytes_max: options.tree_bytes_max, grow_bytes: options.grow_bytes }
}

/// Puts a snapshot that was built in the place of the group's tree, durably.
pub(crate) async fn place_snapshot<E: Env>(
    env: &E,
    options: &ShardOptions,
    group: GroupId,
) -> Result<Store<E>, NodeError> {
    let path = tree_path(options, group);
    env.rename(&snapshot_path(options, group), &path).await.map_err(io_error(&path, "renaming to"))?;
    if !bug!(InstallRecordEarly) {
        sync_dir(env, &options.data_dir).await?;
    }
    Ok(Store::open(env.clone(), tree_options(options, path), false).await?)
}

struct Files<'a, E: Env> {
    env: &'a E,
    options: &'a ShardOptions,
    identity: &'a Identity,
}

impl<E: Env> Files<'_, E> {
    fn tree_path(&self, group: GroupId) -> PathBuf {
        tree_path(self.options, group)
    }

    fn store_options(&self, path: PathBuf) -> StoreOptions {
        tree_options(self.options, path)
    }

    async fn entries(&self) -> Result<Vec<DirEntry>, NodeError> {
        let dir = &self.options.data_dir;
        self.env.list_dir(dir).await.map_err(io_error(dir, "listing"))
    }

    /// Removes the marker of a clean stop; whether it was there.
    async fn take_clean_marker(&self) -> Result<bool, NodeError> {
        if !self.entries().await?.iter().any(|entry| entry.name == CLEAN_MARKER) {
            return Ok(false);
        }
        let path = self.options.data_dir.join(CLEAN_MARKER);
        self.env.remove_file(&path).await.map_err(io_error(&path, "removing"))?;
        sync_dir(self.env, &self.options.data_dir).await?;
        Ok(true)
    }

    async fn open_or_create_tree(&self, group: GroupId, after_crash: bool) -> Result<Store<E>, NodeError> {
        let path = self.tree_path(group);
        let name = path.file_name().expect("a tree has a name").to_string_lossy().into_owned();
        let entries = self.entries().await?;
        if entries.iter().any(|entry| entry.name == name) {
            let store = Store::open(self.env.clone(), self.store_options(path.clone()), after_crash).await?;
            if self.options.verify_all {
                self.prove_tree(&path).await?;
            }
            return Ok(store);
        }
        let unfinished = path.with_extension("new");
        if entries.iter().any(|entry| unfinished.ends_with(&entry.name)) {
            self.env.remove_file(&unfinished).await.map_err(io_error(&unfinished, "removing"))?;
        }
        self.create_tree(unfinished, path).await
    }

    /// Reads the whole file, which nobody writes to yet. After a crash the cache was dropped, so it comes from the device.
    async fn prove_tree(&self, path: &Path) -> Result<(), NodeError> {
        let began = self.env.now();
        let report = plinth_tree::check(self.env, path, trees::TREES).await?;
        plinth_base::log_info!(
            "every page of the tree is sound",
            "file" => plinth_base::log::Value::display(&path.display()),
            "pages" => report.file_pages,
            "took" => self.env.now().since(began)
        );
        Ok(())
    }

    /// The first checkpoint of a new tree is durable before the tree has its name.
    async fn create_tree(&self, unfinished: PathBuf, path: PathBuf) -> Result<Store<E>, NodeError> {
        let mut store = Store::create(self.env.clone(), self.store_options(unfinished.clone())).await?;
        let Identity { cluster_id, initial_members, joins, .. } = self.identity;
        let begun = if *joins {
            plinth_kv::bootstrap_joining(&mut store, *cluster_id, initial_members, self.identity.member_id())
        } else {
            plinth_kv::bootstrap(&mut store, *cluster_id, initial_members)
        };
        begun.expect("a new store has all its pages in memory");
        store.publish();
        let checkpoint = store.begin_checkpoint().expect("something was published");
        let done = checkpoint.run(async |_| {}).await;
        store.finish_checkpoint(done)?;
        drop(store);
        self.env.rename(&unfinished, &path).await.map_err(io_error(&path, "renaming to"))?;
        Ok(Store::open(self.env.clone(), self.store_options(path), false).await?)
    }

    async fn open_or_create_wal(&self, stores: &[(GroupId, Store<E>)]) -> Result<(Wal<E>, Option<TailCut>), NodeError> {
        let mut options = WalOptions::new(self.options.wal_dir.clone());
        options.segment_bytes = self.options.segment_bytes;
        options.sync_method = self.options.sync_method;
        let (mut wal, cut) = match Wal::open(self.env, options.clone()).await {
            Ok((wal, recovered)) => (wal, recovered.cut),
            Err(WalError::NoLog { dir }) => {
                for (group, store) in stores {
                    if self.state(*group, store)?.applied > BOOTSTRAP_INDEX {
                        let advice = "the trees need it; restore it, or restore the whole member from a backup";
                        return Err(NodeError::MissingFile { path: dir, advice });
                    }
                }
                (Wal::create(self.env, options).await?, None)
            }
            Err(error) => return Err(error.into()),
        };
        self.start_groups(&mut wal, stores).await?;
        Ok((wal, cut))
    }

    /// Starts the groups that the log doesn't know: those of a new shard, also one whose making a crash broke off between the log and this.
    async fn start_groups(&self, wal: &mut Wal<E>, stores: &[(GroupId, Store<E>)]) -> Result<(), NodeError> {
        for (group, store) in stores {
            let state = self.state(*group, store)?;
            // A snapshot was put in place, and its log not begun. The log may even be longer, with entries that others have replaced.
            let is_short = wal.group_tail(*group).is_some_and(|tail| tail.last.index < state.applied);
            let is_other = wal.term_of(*group, state.applied).is_some_and(|term| term != state.applied_term);
            if is_short || is_other || wal.group_tail(*group).is_none() && state.applied <= BOOTSTRAP_INDEX {
                wal.start_group(*group, state.applied, state.applied_term);
            }
        }
        while let Some(flush) = wal.begin_flush() {
            wal.finish_flush(flush.run().await)?;
        }
        Ok(())
    }

    fn state(&self, group: GroupId, store: &Store<E>) -> Result<State, NodeError> {
        State::decode(store.state()).map_err(|what| NodeError::State { path: self.tree_path(group), what: what.0 })
    }

    /// All members there ever were, as the newest checkpoint has them.
    async fn members(&self, store: &Store<E>) -> Result<Vec<MemberRecord>, NodeError> {
        loop {
            match plinth_kv::all_members(store.view()) {
                Ok(members) => return Ok(members),
                Err(missing) => self.env.load_pages(store.pages(), missing.wants).await?,
            }
        }
    }

    fn group(
        &self,
        id: GroupId,
        store: Store<E>,
        wal: &Wal<E>,
        was_clean: bool,
        origin: u64,
    ) -> Result<Group<E>, NodeError> {
        let state = self.state(id, &store)?;
        let path = self.tree_path(id);
        if state.cluster_id != self.identity.cluster_id {
            return Err(NodeError::OtherCluster { path, found: state.cluster_id, expected: self.identity.cluster_id });
        }
        let log = wal.group_tail(id).ok_or_else(|| NodeError::MissingFile {
            path: self.options.wal_dir.clone(),
            advice: "the log doesn't know the group of this tree; tree and log belong to different members",
        })?;
        if state.applied < log.start.index {
            // The log behind the older checkpoint is gone, so both must have been lost.
            return Err(NodeError::MissingFile {
                path,
                advice: "the tree is older than the log begins; restore the member from a backup",
            });
        }
        if log.last.index > state.applied {
            plinth_base::log_info!("entries of the log are replayed", "from" => state.applied.0 + 1, "to" => log.last.index.0);
        } else {
            Mark::CleanStart.hit();
        }
        let member = self.identity.member_id();
        let start = Start {
            hard_state: crate::shard::from_wal(log.hard_state),
            runs: wal.term_runs(id).map(|run| Position { index: run.index, term: run.term }).collect(),
            changes: wal.changes(id).filter(|change| *change > state.applied).collect(),
            last: log.last.index,
            applied: Position { index: state.applied, term: state.applied_term },
            configuration: if self.options.force_new_cluster {
                alone(member)
            } else {
                configuration(&state.electorate)
            },
        };
        let options = Options {
            election_timeout: self.options.election_timeout,
            heartbeat_interval: self.options.heartbeat_interval,
            append_bytes_max: self.options.append_bytes_max,
            window_bytes: self.options.window_bytes,
            ..Options::new(member, self.env.random_u64())
        };
        let raft = Raft::new(options, start, self.env.now());
        if state.swept.sub > 0 {
            Mark::SweepResumed.hit();
        }
        let work = BackgroundWork::new(raft.hard_state(), log.last.index, self.env.now(), was_clean);
        Ok(Group::new(id, raft, Machine::new(state), store, work, self.options.lease_grace, origin))
    }
}

/// Says that everything is in the trees and the log is sealed.
pub(crate) async fn write_clean_marker<E: Env>(env: &E, options: &ShardOptions) -> Result<(), NodeError> {
    let path = options.data_dir.join(CLEAN_MARKER);
    let open = plinth_env::OpenOptions::cached(plinth_env::OpenMode::CreateNew);
    env.open(&path, open).await.map_err(io_error(&path, "creating"))?;
    sync_dir(env, &options.data_dir).await
}

/// Makes a directory with its parents, and the names of all of them durable: an earlier start may have been cut off before it got to that.
async fn create_dir<E: Env>(env: &E, path: &Path) -> Result<(), NodeError> {
    env.create_dir(path).await.map_err(io_error(path, "creating"))?;
    for parent in path.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match env.sync_dir(parent).await {
            // Directories that are made here can be read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced.map_err(io_error(parent, "syncing"))?,
        }
    }
    Ok(())
}

async fn sync_dir<E: Env>(env: &E, path: &Path) -> Result<(), NodeError> {
    env.sync_dir(path).await.map_err(io_error(path, "syncing"))
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |error| NodeError::Io { path: path.to_path_buf(), what, error }
}
