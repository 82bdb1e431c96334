//! Opening a log: what is on disk is read whole, checked, and its torn tail, if there is one, told from corruption.
//!
//! A bad batch is a torn tail only if no later batch of this chain exists: with one batch in flight, a later one proves that the bad one
//! was durable. Each segment names its own nonce, the next one's, and where the one before it ended, so that a tail cut once
//! is never taken for corruption later, and a rotten start of a segment never for a segment that hasn't begun.
//!
//! Invariants: nothing on disk changes before the whole log was found sound; a log that was cut goes on in a fresh segment. What
//! was read is durable before it is reported. Of every batch but the last one that is known: the next was begun only when it was.
//! The last one can be in the file and not on the device, where no flush takes it any more if its own has failed. So it is
//! written once more where it lies, with the same bytes: a tear changes nothing.
//!
//! A crash in the middle leaves the log as it was, perhaps without some leftovers.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use plinth_base::{AlignedBuf, GroupId, Mark, bug, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions};

use crate::{
    batch::Start,
    error::WalError,
    format::{BLOCK, BatchHeader, FLAG_START, FORMAT_VERSION, HEADER_BYTES, MAGIC, START_BYTES_MAX, batch_checksum},
    group::{GroupState, Place},
    log::{NextSegment, Wal},
    replay::Replay,
    segment::{self, Expect, Named, Probe, Segment, Window},
    types::{Lsn, WalOptions},
};

/// What a log held when it was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Every group that was started: hard state, where its readable log begins, and its last entry.
    pub groups: BTreeMap<GroupId, GroupState>,
    /// A torn tail was cut.
    pub cut: Option<TailCut>,
    /// The last batch was a seal, or began a segment: nothing acknowledged can be missing behind it.
    pub sealed: bool,
    /// The last batch.
    pub lsn: Lsn,
    /// Bytes of log that were read and checked.
    pub log_bytes: u64,
}

/// Where a torn batch was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailCut {
    /// The segment.
    pub file: PathBuf,
    /// Where the torn batch begins.
    pub offset: u64,
    /// The sequence it would have had.
    pub lsn: Lsn,
    /// Why it is not a batch.
    pub why: &'static str,
    /// Whether it held something acknowledged if it rotted instead of being torn, which nobody can tell. A segment's torn start never
    /// did: what follows it is acknowledged only once the start is durable.
    pub may_hold_acknowledged: bool,
}

/// What the directory holds.
struct Survey {
    /// Sequence, path and length, oldest first, without a gap.
    segments: Vec<(u64, PathBuf, u64)>,
    spares: Vec<(PathBuf, u64)>,
    temporary: Option<PathBuf>,
}

/// A log that was found sound, and what there is to do before it can be written to.
pub(crate) struct Sound<E: Env> {
    pub(crate) wal: Wal<E>,
    pub(crate) recovered: Recovered,
    /// Where the last batch lies in the last segment.
    last_batch: Range<u64>,
    survey: Survey,
    unbegun: Option<Candidate<E::File>>,
}

/// A segment with its start batch.
struct Begun {
    header: BatchHeader,
    start: Start,
}

/// A segment file being recovered.
struct Candidate<F> {
    sequence: u64,
    path: PathBuf,
    bytes: u64,
    file: F,
    begun: Option<Begun>,
}

/// Where a segment's batches end.
struct End {
    /// Where the last one begins.
    last: u64,
    offset: u64,
    sequence: u64,
    cut: Option<TailCut>,
}

impl<E: Env> Wal<E> {
    /// Opens the log in `options.dir`. Every error leaves the disk as it was, but for I/O errors of the clean-up behind a sound log.
    pub async fn open(env: &E, options: WalOptions) -> Result<(Self, Recovered), WalError> {
        let Sound { mut wal, recovered, last_batch, survey, unbegun } =
            Self::prove(env, options, OpenMode::Write).await?;
        if recovered.cut.is_some() {
            Mark::TornTailCut.hit();
        }
        wal.confirm(last_batch).await?;
        wal.tidy(survey, unbegun).await?;
        Ok((wal, recovered))
    }

    /// Reads the whole log and finds it sound, or not. Changes nothing on disk.
    pub(crate) async fn prove(env: &E, options: WalOptions, mode: OpenMode) -> Result<Sound<E>, WalError> {
        let survey = survey(env, &options).await?;
        let mut candidates = Vec::new();
        for (sequence, path, bytes) in &survey.segments {
            candidates.push(Candidate::open(env, &options, mode, *sequence, path, *bytes).await?);
        }
        check_chain(&candidates)?;
        let mut wal = Self::assemble(env.clone(), options);
        let unbegun = candidates.pop_if(|last| last.begun.is_none());
        let torn_start = match &unbegun {
            Some(unbegun) => check_unbegun(unbegun, candidates.last()).await?,
            None => None,
        };
        let (mut recovered, last_batch) = wal.replay(candidates).await?;
        recovered.cut = recovered.cut.or_else(|| {
            let why = torn_start?;
            let (file, lsn) = (unbegun.as_ref()?.path.clone(), Lsn(recovered.lsn.0.saturating_add(1)));
            Some(TailCut { file, offset: 0, lsn, why, may_hold_acknowledged: false })
        });
        Ok(Sound { wal, recovered, last_batch, survey, unbegun })
    }

    /// Reads all batches of the segments that have begun. Returns what they held, and where the last one lies in the last segment.
    async fn replay(&mut self, candidates: Vec<Candidate<E::File>>) -> Result<(Recovered, Range<u64>), WalError> {
        let oldest = candidates.first().and_then(|first| first.begun.as_ref()).expect("checked: the first has begun");
        let malformed =
            |path: &Path, bad: plinth_base::codec::Malformed| WalError::corrupt(path, 0, "a sound start batch", bad.0);
        let mut replay = Replay::new(&oldest.start).map_err(|bad| malformed(&candidates[0].path, bad))?;
        let (mut log_bytes, mut last_batch) = (0, 0..0);
        let mut cut: Option<TailCut> = None;
        for (at, candidate) in candidates.iter().enumerate() {
            let begun = candidate.begun.as_ref().expect("checked: only the last may not have begun");
            if at > 0 {
                replay.next_segment(&begun.start).map_err(|bad| malformed(&candidate.path, bad))?;
            }
            let successor = candidates.get(at + 1);
            let end = scan(candidate, begun, successor, &mut replay).await?;
            log_bytes += end.offset;
            last_batch = end.last..end.offset;
            (self.submitted, self.durable, cut) = (end.sequence, end.sequence, end.cut);
            self.segments.push_back(Rc::new(Segment {
                sequence: candidate.sequence,
                nonce: begun.header.nonce.get(),
                next_nonce: begun.start.chain.next_nonce.get(),
                bytes: candidate.bytes,
                path: candidate.path.clone(),
                file: candidate.file.clone(),
                first_batch: begun.header.sequence.get(),
                end: Cell::new(if bug!(TailCutTooFar) { end.last } else { end.offset }),
            }));
        }
        if cut.as_ref().is_some_and(|cut| cut.may_hold_acknowledged) {
            // Written with the fresh segment's start, which makes the cut final.
            replay.doubt();
        }
        self.must_rotate = cut.is_some() || replay.has_open_split();
        self.is_sealed = replay.is_sealed && !self.must_rotate;
        let (groups, sealed, lsn) = (replay.states(), self.is_sealed, Lsn(self.durable));
        self.groups = replay.groups;
        Ok((Recovered { groups, cut, sealed, lsn, log_bytes }, last_batch))
    }

    /// Makes the last batch durable, as it is.
    async fn confirm(&self, last_batch: Range<u64>) -> Result<(), WalError> {
        let active = self.active();
        let bytes = usize::try_from(last_batch.end - last_batch.start).expect("a batch is at most IO_BYTES_MAX");
        let (result, batch) = active.file.read_at(last_batch.start, AlignedBuf::zeroed(bytes)).await;
        result.map_err(WalError::io(&active.path, "reading"))?;
        let (result, _) = active.file.write_durable(last_batch.start, batch).await;
        result.map_err(WalError::io(&active.path, "confirming the last batch"))
    }

    /// Takes over what can be used and removes what can't.
    async fn tidy(&mut self, survey: Survey, unbegun: Option<Candidate<E::File>>) -> Result<(), WalError> {
        let mut useless: Vec<PathBuf> = survey.temporary.into_iter().collect();
        if let Some(Candidate { path, bytes, file, .. }) = unbegun {
            if bytes == self.options.segment_bytes {
                self.next = Some(NextSegment { file, bytes });
            } else {
                useless.push(path);
            }
        }
        for (path, bytes) in survey.spares {
            if bytes == self.options.segment_bytes && self.spares.len() < self.options.spares_max {
                self.spares.push(path);
            } else {
                useless.push(path);
            }
        }
        for path in &useless {
            self.env.remove_file(path).await.map_err(WalError::io(path, "removing"))?;
        }
        let dir = &self.options.dir;
        self.env.sync_dir(dir).await.map_err(WalError::io(dir, "syncing"))
    }
}

async fn survey<E: Env>(env: &E, options: &WalOptions) -> Result<Survey, WalError> {
    let dir = &options.dir;
    let mut survey = Survey { segments: Vec::new(), spares: Vec::new(), temporary: None };
    for entry in env.list_dir(dir).await.map_err(WalError::io(dir, "listing"))? {
        let path = dir.join(&entry.name);
        match segment::parse_name(&entry.name) {
            Named::Segment(sequence) => survey.segments.push((sequence, path, entry.bytes)),
            Named::Spare => survey.spares.push((path, entry.bytes)),
            Named::Temporary => survey.temporary = Some(path),
            Named::Other => {}
        }
    }
    // Names of equal length in hexadecimal: their order is that of the sequences, but the order of a listing is not ours to trust.
    survey.segments.sort();
    let first = survey.segments.first().ok_or_else(|| WalError::NoLog { dir: dir.clone() })?.0;
    for (&(sequence, ..), want) in survey.segments.iter().zip(first..) {
        if sequence != want {
            return Err(WalError::MissingSegment { file: segment::segment_path(dir, want) });
        }
    }
    Ok(survey)
}

impl<F: File> Candidate<F> {
    async fn open<E: Env<File = F>>(
        env: &E,
        options: &WalOptions,
        mode: OpenMode,
        sequence: u64,
        path: &Path,
        bytes: u64,
    ) -> Result<Self, WalError> {
        let open = OpenOptions { sync_method: options.sync_method, ..OpenOptions::direct(mode) };
        let file = env.open(path, open).await.map_err(WalError::io(path, "opening"))?;
        let mut candidate = Self { sequence, path: path.to_path_buf(), bytes, file, begun: None };
        candidate.begun = candidate.read_start().await?;
        Ok(candidate)
    }

    fn window(&self, chunk_bytes: usize) -> Window<F> {
        Window::new(self.file.clone(), self.path.clone(), self.bytes, chunk_bytes)
    }

    /// The start batch, if there is a sound one of this use of the file.
    async fn read_start(&self) -> Result<Option<Begun>, WalError> {
        let mut window = self.window(START_BYTES_MAX);
        let bytes = window.load(0, START_BYTES_MAX).await?;
        let Some(header) = BatchHeader::peek(bytes) else { return Ok(None) };
        if header.magic != MAGIC || header.segment.get() != self.sequence {
            return Ok(None);
        }
        if header.version.get() != FORMAT_VERSION {
            return Err(WalError::UnknownVersion { file: self.path.clone(), found: header.version.get() });
        }
        let used = HEADER_BYTES + header.payload_bytes.get() as usize;
        let is_whole = header.nonce.get() != 0
            && header.flags.get() == FLAG_START
            && header.lengths_fit(bytes.len() as u64)
            && batch_checksum(header.nonce.get(), &bytes[..used]) == header.checksum.get();
        if !is_whole {
            return Ok(None);
        }
        let start = Start::decode(&header, &bytes[HEADER_BYTES..used])
            .map_err(|bad| WalError::corrupt(&self.path, 0, "a sound start batch", bad.0))?;
        let want = start.chain.segment_bytes.get();
        if want != self.bytes || !want.is_multiple_of(BLOCK) {
            let got = format!("a length of {} bytes", self.bytes);
            return Err(WalError::corrupt(&self.path, self.bytes, format!("a file of {want} bytes"), got));
        }
        if start.chain.previous_sequence.get().checked_add(1) != Some(header.sequence.get()) {
            return Err(WalError::corrupt(&self.path, 0, "a start batch next in sequence", "a gap"));
        }
        Ok(Some(Begun { header, start }))
    }
}

/// Every segment but the last has begun, and each is the one that the one before it promised.
fn check_chain<F>(candidates: &[Candidate<F>]) -> Result<(), WalError> {
    let mut before: Option<&Begun> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let Some(begun) = &candidate.begun else {
            if at > 0 && at + 1 == candidates.len() {
                return Ok(());
            }
            return Err(WalError::corrupt(&candidate.path, 0, "a segment's start batch", "none that is whole"));
        };
        if let Some(before) = before {
            let (chain, nonce) = (&begun.start.chain, begun.header.nonce);
            let is_next = nonce == before.start.chain.next_nonce
                && chain.previous_nonce == before.header.nonce
                && chain.previous_segment == before.header.segment;
            if !is_next {
                let want = format!("the segment with nonce {:016x}", before.start.chain.next_nonce.get());
                let got = format!("one with nonce {:016x}", nonce.get());
                return Err(WalError::corrupt(&candidate.path, 0, want, got));
            }
        }
        before = Some(begun);
    }
    Ok(())
}

/// A last segment without a sound start: it must not hold anything of the life that was promised to it. If its start
/// was torn, why it isn't one.
async fn check_unbegun<F: File>(
    unbegun: &Candidate<F>,
    before: Option<&Candidate<F>>,
) -> Result<Option<&'static str>, WalError> {
    let promised = before.and_then(|before| before.begun.as_ref()).expect("checked: all before the last have begun");
    let expect = Expect { segment: unbegun.sequence, nonce: promised.start.chain.next_nonce.get(), sequence: 0 };
    let mut window = unbegun.window(IO_BYTES_MAX);
    if let Some(later) = window.find_later(BLOCK, &expect).await? {
        let got = format!("none that is whole, with a batch behind it at {later}");
        return Err(WalError::corrupt(&unbegun.path, 0, "a segment's start batch", got));
    }
    match window.probe(0, &expect).await? {
        Probe::Bad(why) => Ok(Some(why)),
        Probe::Foreign | Probe::Valid(_) => Ok(None),
    }
}

/// Reads the batches of one segment.
async fn scan<F: File>(
    candidate: &Candidate<F>,
    begun: &Begun,
    successor: Option<&Candidate<F>>,
    replay: &mut Replay,
) -> Result<End, WalError> {
    let mut window = candidate.window(IO_BYTES_MAX);
    let known_end = successor.and_then(|next| next.begun.as_ref()).map(|next| &next.start.chain);
    let (mut last, mut offset) = (0, begun.header.batch_bytes());
    let mut expect = Expect {
        segment: candidate.sequence,
        nonce: begun.header.nonce.get(),
        sequence: begun.header.sequence.get().saturating_add(1),
    };
    loop {
        if known_end.is_some_and(|chain| chain.previous_end.get() == offset) || offset >= window.file_bytes() {
            break;
        }
        match window.probe(offset, &expect).await? {
            Probe::Valid(header) => {
                let block = u32::try_from(offset / BLOCK).unwrap_or(u32::MAX);
                let place = Place { segment: candidate.sequence, block };
                let payload = window.payload(offset, &header).await?;
                replay.batch(&header, payload, place).map_err(|bad| {
                    WalError::corrupt(&candidate.path, offset, format!("batch {}", expect.sequence), bad.0)
                })?;
                last = offset;
                offset += header.batch_bytes();
                expect.sequence = expect.sequence.saturating_add(1);
            }
            probe if known_end.is_none() => {
                let cut = check_tail(&mut window, offset, &expect, &probe).await?;
                return Ok(End { last, offset, sequence: expect.sequence - 1, cut });
            }
            Probe::Bad(why) => return Err(lost(&window, offset, &expect, why)),
            Probe::Foreign => return Err(lost(&window, offset, &expect, "something else")),
        }
    }
    let sequence = expect.sequence - 1;
    if let Some(chain) = known_end
        && (chain.previous_end.get() != offset || chain.previous_sequence.get() != sequence)
    {
        let next = successor.map_or(&candidate.path, |next| &next.path);
        let want = format!("the segment before it to end at {offset} with batch {sequence}");
        let got = format!("{} and {}", chain.previous_end, chain.previous_sequence);
        return Err(WalError::corrupt(next, 0, want, got));
    }
    Ok(End { last, offset, sequence, cut: None })
}

fn lost<F: File>(window: &Window<F>, offset: u64, expect: &Expect, got: impl Into<String>) -> WalError {
    WalError::corrupt(window.path(), offset, format!("batch {}", expect.sequence), got)
}

/// There is no batch at `offset`, and the last segment ends there, unless a later batch says otherwise.
async fn check_tail<F: File>(
    window: &mut Window<F>,
    offset: u64,
    expect: &Expect,
    probe: &Probe,
) -> Result<Option<TailCut>, WalError> {
    let why = match probe {
        Probe::Bad(why) => Some(*why),
        Probe::Foreign | Probe::Valid(_) => None,
    };
    if let Some(later) = window.find_later(offset + BLOCK, expect).await? {
        let got = format!("{}, with a later batch at {later}", why.unwrap_or("something else"));
        return Err(lost(window, offset, expect, got));
    }
    Ok(why.map(|why| TailCut {
        file: window.path().to_path_buf(),
        offset,
        lsn: Lsn(expect.sequence),
        why,
        may_hold_acknowledged: true,
    }))
}
