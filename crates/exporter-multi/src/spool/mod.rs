//! The spool: spans on disk until every backend has them.
//!
//! ```text
//! <directory>/<start of the process, 16 hex digits>-<process id>/
//!     lock                       locked while the process lives
//!     0000000000000001.seg …     segments: see `segment` and `record`
//!     <backend>-<hash>.cursor    where that backend stands: see `cursor`
//! ```
//!
//! A request is *accepted* when it has been written, with plain writes and no buffer of our own:
//! from then on it survives the end of the process, however that comes. (It does not survive the
//! machine losing power before the system has written its cache back.) A lane reads by its own
//! cursor, so one backend that lags holds up nobody.
//!
//! - **Limits.** At the size limit the oldest segment goes, and only backends that had not read
//!   it lose: counted as `spool_full`. Segments older than the age limit go: `spool_expired`.
//! - **A full or failing disk.** [`Spool::append`] refuses, the caller queues in memory, and
//!   writing is tried again every second.
//! - **Restart.** A living process takes over the directories of dead ones, oldest first, not
//!   faster than a rate, so that what is new is not held up. Damage costs the records touched,
//!   counted as `spool_corrupt`; unreadable files are set aside as `*.bad`.
//! - **Fork.** A child leaves its parent's instance alone and starts one of its own.

mod fs;

mod record;
mod segment;

mod cursor;
mod log;

pub(crate) mod dump;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use spanweave_core::clock;
use spanweave_core::ledger::DropReason;
use spanweave_core::sync::lock;

pub(crate) use cursor::Position;
use fs::{File, Fs, RealFs};
pub(crate) use log::Member;
use log::{LOCK, Log};
pub(crate) use record::LONGEST_PAYLOAD;
use record::{HEADER, Header};
use segment::Segment;

use crate::lane::{Notice, Request};

/// Cursors are written at most this often: what was delivered in between is sent again after a
/// SIGKILL.
const CURSOR_INTERVAL: Duration = Duration::from_millis(200);
/// How often limits are checked and dead instances are looked for.
const SCAN_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
/// A directory that has been under way to its name for longer belongs to nobody.
const UNBORN_AGE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });
/// How long after a failed write the next one is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });
/// Requests that were just written are kept for lanes that keep up, so that those share bytes
/// and need no disk.
const RECENT_BYTES: usize = 8 * 1024 * 1024;

/// The sizes of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) max_bytes: u64,
    pub(crate) max_age: Duration,
    /// Bytes a second that are read of what dead processes have left, for each backend.
    pub(crate) leftover_rate: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024 * 1024,
            max_age: Duration::from_secs(7 * 24 * 3600),
            leftover_rate: 16 * 1024 * 1024,
        }
    }
}

impl Options {
    /// What satisfies both.
    pub(crate) fn larger(self, other: Self) -> Self {
        Self {
            max_bytes: self.max_bytes.max(other.max_bytes),
            max_age: self.max_age.max(other.max_age),
            leftover_rate: self.leftover_rate.max(other.leftover_rate),
        }
    }

    /// At most 8 MiB, and small enough that the limit leaves several.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 8).clamp(4096, 8 * 1024 * 1024)
    }
}

/// A request was not written; it is to be kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotWritten;

/// A request to deliver, and what settles it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) request: Arc<Request>,
    pub(crate) ticket: Ticket,
}

/// Names a record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    log: u64,
    end: Position,
}

/// A spool in a directory, for all backends of one exporter that use it.
pub(crate) struct Spool {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    options: Options,
    members: Vec<Member>,
    /// The process that this instance belongs to.
    process: u32,
    state: Mutex<State>,
    /// The instance of a forked child.
    child: OnceLock<Box<Spool>>,
}

struct State {
    own: Option<Own>,
    leftovers: Vec<Log>,
    next_log: u64,
    /// The number of the next segment; positions only grow, also where a log is begun anew.
    next_segment: u64,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    retry_at: Option<Instant>,
    cursors_at: Instant,
    scan_at: Instant,
    allowance: Vec<Allowance>,
    notice: Notice,
    closed: bool,
}

struct Own {
    log: Log,
    /// The last segment, unless writing to it has failed.
    file: Option<Box<dyn File>>,
}

struct Recent {
    start: Position,
    end: Position,
    stream: u32,
    request: Arc<Request>,
}

/// What a backend may read of leftovers: a bucket that fills with time.
struct Allowance {
    bytes: f64,
    at: Instant,
}

impl Spool {
    /// Opens a spool. Never fails: a directory that cannot be used is a disk that is full.
    pub(crate) fn open(root: PathBuf, options: Options, members: Vec<Member>) -> Self {
        Self::open_in(Arc::new(RealFs), root, options, members)
    }

    fn open_in(fs: Arc<dyn Fs>, root: PathBuf, options: Options, members: Vec<Member>) -> Self {
        let now = clock::instant();
        let full = || Allowance { bytes: options.leftover_rate as f64, at: now };
        let state = State {
            own: None,
            leftovers: Vec::new(),
            next_log: 1,
            next_segment: 1,
            recent: VecDeque::new(),
            recent_bytes: 0,
            retry_at: None,
            cursors_at: now,
            scan_at: now,
            allowance: members.iter().map(|_| full()).collect(),
            notice: Notice::default(),
            closed: false,
        };
        let spool = Self {
            fs,
            root,
            options,
            members,
            process: std::process::id(),
            state: Mutex::new(state),
            child: OnceLock::new(),
        };
        let mut state = lock(&spool.state);
        if let Err(error) = spool.begin(&mut state) {
            spool.degrade(&mut state, now, &error);
        }
        spool.adopt(&mut state);
        drop(state);
        spool
    }

    /// The process that owns it still is the one that runs.
    pub(crate) fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    /// Writes a request.
    pub(crate) fn append(&self, stream: u32, request: &Arc<Request>) -> Result<(), NotWritten> {
        if !self.is_own() {
            return self.in_child().append(stream, request);
        }
        let mut state = lock(&self.state);
        let now = clock::instant();
        if state.closed || state.retry_at.is_some_and(|at| now < at) {
            return Err(NotWritten);
        }
        let (form, payload) = request.content();
        let time = clock::unix_nanos();
        let header = Header::of(form, payload, request.spans, stream, time).ok_or(NotWritten)?;
        match self.write(&mut state, header, request) {
            Ok(()) => {
                if state.retry_at.take().is_some() && state.notice.working(now) {
                    let directory = self.root.display();
                    tracing::info!(target: crate::LOG_TARGET, %directory, "the spool works again");
                }
                self.keep_limits(&mut state, None);
                Ok(())
            }
            Err(error) => {
                self.degrade(&mut state, now, &error);
                Err(NotWritten)
            }
        }
    }

    /// The next request for a backend: what dead processes have left first, within its rate,
    /// unless only its own are asked for.
    pub(crate) fn take(&self, member: usize, own_only: bool) -> Option<Taken> {
        let mut state = lock(&self.state);
        if state.closed || !self.is_own() {
            return None;
        }
        let now = clock::instant();
        self.maintain(&mut state, now);
        if !own_only && let Some(taken) = self.take_leftover(&mut state, member, now) {
            return Some(taken);
        }
        let state = &mut *state;
        let log = &mut state.own.as_mut()?.log;
        let next = log.next(member)?;
        let stream = self.members.get(member)?.stream;
        let known = state.recent.binary_search_by_key(&next, |recent| recent.start);
        let known = known.ok().and_then(|at| state.recent.get(at));
        if let Some(recent) = known.filter(|recent| recent.stream == stream) {
            log.pass(member, recent.end, recent.request.spans);
            let ticket = Ticket { log: log.id, end: recent.end };
            return Some(Taken { request: recent.request.clone(), ticket });
        }
        let read = log.read(&*self.fs, member)?;
        let ticket = Ticket { log: log.id, end: read.end };
        Some(Taken { request: Arc::new(read.into_request()), ticket })
    }

    fn take_leftover(&self, state: &mut State, member: usize, now: Instant) -> Option<Taken> {
        if state.leftovers.is_empty() {
            return None;
        }
        let rate = self.options.leftover_rate as f64;
        let allowance = state.allowance.get_mut(member)?;
        let passed = now.saturating_duration_since(allowance.at).as_secs_f64();
        allowance.bytes = (allowance.bytes + rate * passed).min(rate);
        allowance.at = now;
        if allowance.bytes <= 0.0 {
            return None;
        }
        for log in &mut state.leftovers {
            if let Some(read) = log.read(&*self.fs, member) {
                allowance.bytes -= read.payload.len() as f64;
                let ticket = Ticket { log: log.id, end: read.end };
                return Some(Taken { request: Arc::new(read.into_request()), ticket });
            }
        }
        None
    }

    /// A request is settled: delivered, or dropped and counted.
    pub(crate) fn settle(&self, member: usize, ticket: Ticket) {
        let mut state = lock(&self.state);
        let own = state.own.as_mut().map(|own| &mut own.log);
        let log = match own.filter(|log| log.id == ticket.log) {
            Some(log) => Some(log),
            None => state.leftovers.iter_mut().find(|log| log.id == ticket.log),
        };
        if let Some(log) = log {
            log.settle(member, ticket.end);
        }
        self.maintain(&mut state, clock::instant());
    }

    /// Does what time brings.
    pub(crate) fn tick(&self) {
        if self.is_own() {
            self.maintain(&mut lock(&self.state), clock::instant());
        }
    }

    /// The place behind everything that was written by now.
    pub(crate) fn end(&self) -> Position {
        lock(&self.state).own.as_ref().map_or(Position::default(), |own| own.log.end())
    }

    /// Whether a backend has everything that was written before `position`.
    pub(crate) fn has_settled(&self, member: usize, position: Position) -> bool {
        let mut state = lock(&self.state);
        let Some(own) = &mut state.own else { return true };
        own.log.has_settled(member, position)
    }

    /// Writes the cursors and lets go of the instance; what is not settled stays for the next
    /// process.
    pub(crate) fn close(&self) {
        if !self.is_own() {
            return;
        }
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.closed, true) {
            return;
        }
        state.recent.clear();
        let own = state.own.take().map(|own| own.log);
        for mut log in std::mem::take(&mut state.leftovers).into_iter().chain(own) {
            log.sealed = true;
            let done = (0..log.readers.len()).all(|reader| log.has_settled(reader, log.end()));
            if log.is_finished() || done && !log.has_others() {
                log.remove(&*self.fs);
            } else {
                log.remove_settled(&*self.fs);
                log.write_cursors(&*self.fs);
            }
        }
    }

    /// The instance of the forked child that runs.
    fn in_child(&self) -> &Spool {
        self.child.get_or_init(|| {
            // Closing a descriptor here leaves the parent's lock alone. Where another thread of
            // the parent held the state, it stays as it is.
            if let Ok(mut state) = self.state.try_lock() {
                state.own = None;
                state.leftovers.clear();
            }
            Box::new(Self::open_in(
                self.fs.clone(),
                self.root.clone(),
                self.options,
                self.members.clone(),
            ))
        })
    }

    // ----

    fn write(&self, state: &mut State, header: Header, request: &Arc<Request>) -> io::Result<()> {
        let (_, payload) = request.content();
        if state.own.is_none() {
            self.begin(state)?;
        }
        let limit = self.options.segment_bytes();
        let fits = |own: &Own| {
            own.file.is_some() && {
                let end = own.log.end();
                end.offset <= segment::HEAD || end.offset + header.record_len() <= limit
            }
        };
        if !state.own.as_ref().is_some_and(fits) {
            self.roll(state)?;
        }
        let Some(Own { log, file: slot }) = &mut state.own else { return Ok(()) };
        let Some(file) = slot else { return Ok(()) };
        let start = log.end();
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(payload);
        if let Err(error) = file.append(&bytes) {
            // What was written of it goes; where that fails, a reader skips it.
            drop(file.truncate(start.offset));
            // The descriptor may be what is wrong: the next write begins a new segment.
            *slot = None;
            return Err(error);
        }
        let end = Position { offset: start.offset + header.record_len(), ..start };
        if let Some(segment) = log.segments.get_mut(&start.segment) {
            segment.len = end.offset;
            segment.newest = header.time;
            segment.aged = Some((clock::instant(), Duration::ZERO));
            *segment.spans.entry(header.stream).or_default() += request.spans;
        }
        state.recent_bytes += payload.len();
        let request = request.clone();
        state.recent.push_back(Recent { start, end, stream: header.stream, request });
        while state.recent_bytes > RECENT_BYTES
            && let Some(oldest) = state.recent.pop_front()
        {
            state.recent_bytes -= oldest.request.len();
        }
        Ok(())
    }

    /// Makes the directory of this instance. It gets its name when it is locked, so nobody takes
    /// it for a dead one.
    fn begin(&self, state: &mut State) -> io::Result<()> {
        self.fs.create_dir(&self.root)?;
        let name = format!("{:016x}-{}", clock::unix_nanos(), self.process);
        let (hidden, dir) = (self.root.join(format!(".{name}")), self.root.join(&name));
        self.fs.create_dir(&hidden)?;
        let begun = self.fs.try_lock(&hidden.join(LOCK), true).and_then(|lock| {
            let lock = lock.ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))?;
            self.fs.rename(&hidden, &dir)?;
            Ok(lock)
        });
        let lock = match begun {
            Ok(lock) => lock,
            Err(error) => {
                drop(self.fs.remove(&hidden.join(LOCK)));
                drop(self.fs.remove_dir(&hidden));
                return Err(error);
            }
        };
        let mut log = Log::new(state.next_log, dir, lock);
        state.next_log += 1;
        self.members.iter().for_each(|member| log.join(member));
        // From now on, acknowledging needs no space.
        log.write_cursors(&*self.fs);
        state.own = Some(Own { log, file: None });
        Ok(())
    }

    /// Begins a segment.
    fn roll(&self, state: &mut State) -> io::Result<()> {
        let number = state.next_segment;
        let Some(own) = &mut state.own else { return Ok(()) };
        own.file = None;
        let path = own.log.path(number);
        let created = self.fs.create(&path).and_then(|mut file| {
            let written = file.append(&segment::head(number));
            if written.is_err() {
                drop(self.fs.remove(&path));
            }
            written.map(|()| file)
        });
        match created {
            Ok(file) => {
                own.file = Some(file);
                let len = segment::HEAD;
                own.log.segments.insert(number, Segment { len, ..Segment::default() });
                state.next_segment += 1;
                Ok(())
            }
            Err(error) => {
                // Somebody removed the directory: what was in it is read, and counted as lost, as
                // a leftover, and the next attempt makes another one.
                if error.kind() == io::ErrorKind::NotFound
                    && let Some(mut own) = state.own.take()
                {
                    own.log.sealed = true;
                    state.leftovers.push(own.log);
                }
                Err(error)
            }
        }
    }

    fn degrade(&self, state: &mut State, now: Instant, error: &io::Error) {
        state.retry_at = Some(now + RETRY_INTERVAL);
        if state.notice.failing(now) {
            let directory = self.root.display();
            tracing::warn!(
                target: crate::LOG_TARGET, %directory, %error,
                "the spool cannot be written; spans are kept in memory"
            );
        }
    }

    fn maintain(&self, state: &mut State, now: Instant) {
        if state.closed {
            return;
        }
        if now >= state.cursors_at {
            state.cursors_at = now + CURSOR_INTERVAL;
            for log in state.own.iter_mut().map(|own| &mut own.log).chain(&mut state.leftovers) {
                log.write_cursors(&*self.fs);
                log.remove_settled(&*self.fs);
            }
            let leftovers = std::mem::take(&mut state.leftovers);
            for log in leftovers {
                if log.is_finished() {
                    log.remove(&*self.fs);
                } else {
                    state.leftovers.push(log);
                }
            }
        }
        if now >= state.scan_at {
            state.scan_at = now + SCAN_INTERVAL;
            self.keep_limits(state, Some(now));
            self.adopt(state);
        }
    }

    /// Gives up the oldest segments while there are too many bytes, or, at `time`, what is too old.
    fn keep_limits(&self, state: &mut State, time: Option<Instant>) {
        let age = self.options.max_age;
        let own = state.own.iter().map(|own| own.log.bytes()).sum::<u64>();
        let mut bytes = own + state.leftovers.iter().map(Log::bytes).sum::<u64>();
        let logs = state.leftovers.iter_mut().chain(state.own.iter_mut().map(|own| &mut own.log));
        for log in logs {
            while let Some((&number, segment)) = log.segments.first_key_value() {
                let active = !log.sealed && log.segments.len() == 1;
                let expired = time.is_some_and(|now| segment.is_older(age, now));
                let reason = match bytes > self.options.max_bytes {
                    _ if expired => DropReason::SpoolExpired,
                    true if !active => DropReason::SpoolFull,
                    _ => break,
                };
                bytes -= segment.len;
                log.sacrifice(&*self.fs, number, reason);
            }
        }
        if let Some(own) = &mut state.own
            && own.log.segments.is_empty()
        {
            own.file = None;
        }
    }

    /// Removes what a process has left that ended while it made its directory. Nothing was
    /// accepted there.
    fn remove_unborn(&self, dir: &Path, name: &str) {
        // One without a lock may be about to be locked.
        let begun = name.split('-').next().and_then(|time| u64::from_str_radix(time, 16).ok());
        let age = begun.map_or(0, |begun| clock::unix_nanos().saturating_sub(begun));
        let is_dead = match self.fs.try_lock(&dir.join(LOCK), false) {
            Ok(lock) => lock.is_some(),
            Err(_) => true,
        };
        if is_dead && Duration::from_nanos(age) > UNBORN_AGE {
            drop(self.fs.remove(&dir.join(LOCK)));
            drop(self.fs.remove_dir(dir));
        }
    }

    /// Takes over the instances of dead processes.
    fn adopt(&self, state: &mut State) {
        // Where the directory cannot be read there is nothing to take over.
        for name in self.fs.list(&self.root).unwrap_or_default() {
            let dir = self.root.join(&name);
            let own = state.own.iter().map(|own| &own.log.dir);
            let known = own.chain(state.leftovers.iter().map(|log| &log.dir)).any(|d| *d == dir);
            if let Some(hidden) = name.strip_prefix('.').filter(|name| is_instance(name)) {
                self.remove_unborn(&dir, hidden);
                continue;
            }
            if known || !is_instance(&name) {
                continue;
            }
            let lock = match self.fs.try_lock(&dir.join(LOCK), false) {
                Ok(Some(lock)) => lock,
                // It lives.
                Ok(None) => continue,
                Err(_) => {
                    // Somebody is removing it, or ended over that: then it is empty.
                    drop(self.fs.remove_dir(&dir));
                    continue;
                }
            };
            let id = state.next_log;
            if let Ok(log) = Log::adopt(&*self.fs, id, dir, lock, &self.members) {
                state.next_log += 1;
                if log.is_finished() {
                    log.remove(&*self.fs);
                } else {
                    state.leftovers.push(log);
                }
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether a name is one that [`Spool::begin`] gives.
fn is_instance(name: &str) -> bool {
    name.split_once('-').is_some_and(|(time, process)| {
        time.len() == 16
            && time.bytes().all(|digit| digit.is_ascii_hexdigit())
            && process.bytes().all(|digit| digit.is_ascii_digit())
    })
}
