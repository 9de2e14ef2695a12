//! The log of one process instance: a directory of segments, cursors and a lock.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spanweave_core::clock;
use spanweave_core::ledger::{BackendLedger, DropReason};

use super::cursor::{CursorFile, Position};
use super::fs::{File, Fs, Held};
use super::record::{self, HEADER, Header};
use super::segment::{self, HEAD, Recovered, Segment};
use crate::lane::{Form, Request};

/// The name of the file that a living instance holds a lock on.
pub(crate) const LOCK: &str = "lock";
const CURSOR: &str = ".cursor";

/// A log on disk, and where each backend stands in it.
pub(crate) struct Log {
    /// Tells the logs of this process apart.
    pub(crate) id: u64,
    pub(crate) dir: PathBuf,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) readers: Vec<Reader>,
    /// Nothing is added any more.
    pub(crate) sealed: bool,
    /// Cursors of backends that this process does not have: for them, all is kept until it is
    /// too old.
    others: bool,
    _lock: Box<dyn Held>,
}

/// A backend, as a log knows it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) stream: u32,
    pub(crate) account: Arc<BackendLedger>,
}

/// Where a backend stands in a log.
pub(crate) struct Reader {
    stream: u32,
    account: Arc<BackendLedger>,
    /// What is read next.
    next: Position,
    /// Spans of the stream that were read in the segment of `next`.
    seen: u64,
    /// Everything before it is settled.
    settled: Position,
    /// Read and not settled, in order: the ends of the records.
    open: VecDeque<(Position, bool)>,
    cursor: Option<CursorFile>,
    file: Option<(u64, Box<dyn File>)>,
    /// Reads in a row that the system refused.
    failures: u32,
}

/// Reads that the system refuses (too many open files, a failing disk) are tried this often, a
/// second or so apart, before what they are about counts as lost.
const READ_ATTEMPTS: u32 = 10;

/// A record that was read.
pub(crate) struct Read {
    /// Settles it.
    pub(crate) end: Position,
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

impl Log {
    /// A new, empty log in `dir`, which holds nothing but the lock.
    pub(crate) fn new(id: u64, dir: PathBuf, lock: Box<dyn Held>) -> Self {
        Self {
            id,
            dir,
            segments: BTreeMap::new(),
            readers: Vec::new(),
            sealed: false,
            others: false,
            _lock: lock,
        }
    }

    /// Takes over what an instance has left. Unreadable files are set aside.
    pub(crate) fn adopt(
        fs: &dyn Fs,
        id: u64,
        dir: PathBuf,
        lock: Box<dyn Held>,
        members: &[Member],
    ) -> io::Result<Self> {
        let names = fs.list(&dir)?;
        let numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
        let mut log = Self::new(id, dir, lock);
        log.sealed = true;
        let mut found = BTreeMap::new();
        for number in &numbers {
            let path = log.path(*number);
            let bytes = read_all(fs, &path).ok();
            let last = Some(number) == numbers.last();
            match bytes.and_then(|bytes| Recovered::read(&bytes, *number, last)) {
                Some(mut recovered) => {
                    let age = clock::unix_nanos().saturating_sub(recovered.segment.newest);
                    let age = Duration::from_nanos(age);
                    recovered.segment.aged = Some((clock::instant(), age));
                    log.segments.insert(*number, recovered.segment.clone());
                    found.insert(*number, recovered);
                }
                // Where even that fails it stays, and is met again by the next process.
                None => drop(fs.rename(&path, &path.with_extension("bad"))),
            }
        }
        let mut known = HashSet::new();
        for member in members {
            let name = cursor_name(&member.name);
            let mut reader = Reader::new(member);
            if let Ok(file) = fs.open(&log.dir.join(&name)) {
                reader.cursor = CursorFile::open(file).ok().flatten();
            }
            match reader.cursor.as_ref().map(CursorFile::last) {
                Some(last) => (reader.stream, reader.next) = (last.stream, last.position),
                // A lost cursor means that spans are sent again, also where the policy has changed.
                None => {
                    let mut streams: Vec<u32> =
                        log.segments.values().flat_map(|s| s.spans.keys().copied()).collect();
                    streams.sort_unstable();
                    streams.dedup();
                    if let [only] = streams.as_slice() {
                        reader.stream = *only;
                    }
                }
            }
            let at = reader.next;
            if let Some(segment) = found.get(&at.segment) {
                reader.seen = segment.spans_before(reader.stream, at.offset);
            }
            reader.settled = at;
            let left = log.segments.range(at.segment..).map(|(_, s)| s.spans_of(reader.stream));
            reader.account.recover(left.sum::<u64>().saturating_sub(reader.seen));
            log.readers.push(reader);
            known.insert(name);
        }
        log.others = names.iter().any(|name| name.ends_with(CURSOR) && !known.contains(name));
        Ok(log)
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(segment::name(number))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Adds a backend to an empty log.
    pub(crate) fn join(&mut self, member: &Member) {
        self.readers.push(Reader::new(member));
    }

    /// What a reader reads next.
    pub(crate) fn next(&self, reader: usize) -> Option<Position> {
        let next = self.readers.get(reader)?.next;
        Some(Position { offset: next.offset.max(HEAD), ..next })
    }

    /// The place behind the last record.
    pub(crate) fn end(&self) -> Position {
        self.segments.last_key_value().map_or(Position::default(), |(number, segment)| Position {
            segment: *number,
            offset: segment.len,
        })
    }

    /// The next record of a reader's stream. What is damaged is skipped, and counted at the end of
    /// its segment.
    pub(crate) fn read(&mut self, fs: &dyn Fs, reader: usize) -> Option<Read> {
        let path = |dir: &Path, number| dir.join(segment::name(number));
        let reader = self.readers.get_mut(reader)?;
        loop {
            let Some((&number, segment)) = self.segments.range(reader.next.segment..).next() else {
                reader.settle_idle();
                return None;
            };
            if number != reader.next.segment {
                reader.enter(number);
            }
            reader.next.offset = reader.next.offset.max(HEAD);
            if reader.next.offset >= segment.len {
                // All of it was read: what was not seen cannot be read.
                let lost = segment.spans_of(reader.stream).saturating_sub(reader.seen);
                reader.account.drop_spans(DropReason::SpoolCorrupt, lost);
                reader.seen += lost;
                let active =
                    !self.sealed && self.segments.last_key_value().map(|s| *s.0) == Some(number);
                if active {
                    reader.settle_idle();
                    return None;
                }
                reader.enter(number + 1);
                reader.settle_idle();
                continue;
            }
            let (header, payload) = match reader.record(fs, &path(&self.dir, number), segment.len) {
                Ok(Some(record)) => record,
                // No record begins here, or it is damaged: go on behind it.
                Ok(None) => continue,
                Err(error) => {
                    reader.file = None;
                    reader.failures += 1;
                    let gone = matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                    );
                    if !gone && reader.failures < READ_ATTEMPTS {
                        return None;
                    }
                    reader.next.offset = segment.len;
                    continue;
                }
            };
            reader.failures = 0;
            let end = reader.next;
            if header.stream != reader.stream {
                reader.settle_idle();
                continue;
            }
            reader.seen += u64::from(header.spans);
            reader.open.push_back((end, false));
            return Some(Read { end, header, payload });
        }
    }

    /// Takes the record at a reader's `next`, which is known from memory, as read.
    pub(crate) fn pass(&mut self, reader: usize, end: Position, spans: u64) {
        if let Some(reader) = self.readers.get_mut(reader) {
            reader.next = end;
            reader.seen += spans;
            reader.open.push_back((end, false));
        }
    }

    /// Settles the record that ends at `end`.
    pub(crate) fn settle(&mut self, reader: usize, end: Position) {
        let Some(reader) = self.readers.get_mut(reader) else { return };
        if let Some(open) = reader.open.iter_mut().find(|open| open.0 == end) {
            open.1 = true;
        }
        while let Some((end, true)) = reader.open.front().copied() {
            reader.settled = reader.settled.max(end);
            reader.open.pop_front();
        }
        reader.settle_idle();
    }

    /// Whether a reader has settled everything up to `position`.
    pub(crate) fn has_settled(&self, reader: usize, position: Position) -> bool {
        self.readers.get(reader).is_none_or(|reader| reader.settled >= position)
    }

    /// Whether a backend may still want something of it.
    pub(crate) fn is_finished(&self) -> bool {
        self.segments.is_empty()
            || !self.others
                && self.segments.last_key_value().is_some_and(|(last, _)| {
                    self.readers.iter().all(|reader| reader.settled.segment > *last)
                })
    }

    /// Whether backends that this process does not have stand in it.
    pub(crate) fn has_others(&self) -> bool {
        self.others
    }

    /// Writes the cursors that have moved.
    pub(crate) fn write_cursors(&mut self, fs: &dyn Fs) {
        for reader in &mut self.readers {
            let (stream, position) = (reader.stream, reader.settled);
            if let Some(cursor) = &mut reader.cursor
                && cursor.last().position == position
            {
                continue;
            }
            // A cursor that cannot be written means that spans are sent again.
            let written = match &mut reader.cursor {
                Some(cursor) => cursor.write(stream, position),
                None => {
                    let path = self.dir.join(cursor_name(reader.account.name()));
                    // One that could not be read.
                    drop(fs.remove(&path));
                    fs.create(&path).and_then(|file| {
                        let mut cursor = CursorFile::create(file, stream)?;
                        cursor.write(stream, position)?;
                        reader.cursor = Some(cursor);
                        Ok(())
                    })
                }
            };
            if written.is_err() {
                // The descriptor may be what is wrong.
                reader.cursor = None;
            }
        }
    }

    /// Removes the segments that nobody wants any more. The cursors are written first: a cursor
    /// may name a segment that is gone, never the other way round.
    pub(crate) fn remove_settled(&mut self, fs: &dyn Fs) {
        if self.others {
            return;
        }
        let wanted = self.readers.iter().map(|reader| reader.settled.segment).min();
        let Some(last) = self.segments.last_key_value().map(|(number, _)| *number) else { return };
        let wanted = wanted.unwrap_or(0);
        let gone: Vec<u64> = self
            .segments
            .range(..wanted)
            .map(|(number, _)| *number)
            .filter(|number| self.sealed || *number != last)
            .collect();
        if gone.is_empty() {
            return;
        }
        self.write_cursors(fs);
        for number in gone {
            self.segments.remove(&number);
            // It may be gone already.
            drop(fs.remove(&self.path(number)));
        }
        // Without it, a crash of the machine brings back what was delivered.
        drop(fs.sync_dir(&self.dir));
    }

    /// Removes the oldest segment although backends may want it; those count what they lose.
    pub(crate) fn sacrifice(&mut self, fs: &dyn Fs, number: u64, reason: DropReason) {
        let Some(segment) = self.segments.remove(&number) else { return };
        for reader in &mut self.readers {
            if reader.next.segment > number {
                continue;
            }
            let seen = if reader.next.segment == number { reader.seen } else { 0 };
            let lost = segment.spans_of(reader.stream).saturating_sub(seen);
            reader.account.drop_spans(reason, lost);
            reader.enter(number + 1);
            reader.settle_idle();
        }
        self.write_cursors(fs);
        drop(fs.remove(&self.path(number)));
        drop(fs.sync_dir(&self.dir));
    }

    /// Removes the whole log.
    pub(crate) fn remove(self, fs: &dyn Fs) {
        // Errors leave files that the next process meets and finishes.
        let names = fs.list(&self.dir).unwrap_or_default();
        let kept = names.iter().any(|name| name.ends_with(".bad"));
        for name in names.iter().filter(|name| *name != LOCK && !name.ends_with(".bad")) {
            drop(fs.remove(&self.dir.join(name)));
        }
        if !kept {
            drop(fs.remove(&self.dir.join(LOCK)));
            drop(fs.remove_dir(&self.dir));
        }
    }
}

impl Reader {
    fn new(member: &Member) -> Self {
        Self {
            stream: member.stream,
            account: member.account.clone(),
            next: Position::default(),
            seen: 0,
            settled: Position::default(),
            open: VecDeque::new(),
            cursor: None,
            file: None,
            failures: 0,
        }
    }

    fn enter(&mut self, number: u64) {
        self.next = Position { segment: number, offset: 0 };
        self.seen = 0;
        self.file = None;
    }

    /// With nothing open, everything that was read is settled.
    fn settle_idle(&mut self) {
        if self.open.is_empty() {
            self.settled = self.settled.max(self.next);
        }
    }

    /// Reads the record at `next` and moves behind it. `None`: there is none, and `next` stands
    /// where the next one may be.
    fn record(
        &mut self,
        fs: &dyn Fs,
        path: &Path,
        len: u64,
    ) -> io::Result<Option<(Header, Vec<u8>)>> {
        let number = self.next.segment;
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            self.file = Some((number, fs.open(path)?));
        }
        let Some((_, file)) = &mut self.file else { return Ok(None) };
        let offset = self.next.offset;
        let mut head = [0; HEADER];
        let header = if offset + HEADER as u64 <= len {
            file.read_at(offset, &mut head)?;
            Header::parse(&head)
        } else {
            None
        };
        let Some(header) = header.filter(|header| offset + header.record_len() <= len) else {
            let mut rest = vec![0; (len - offset) as usize];
            file.read_at(offset, &mut rest)?;
            let next = record::find(&rest, 1).map_or(rest.len(), |(at, _)| at);
            self.next.offset = offset + next as u64;
            return Ok(None);
        };
        if header.stream != self.stream {
            self.next.offset = offset + header.record_len();
            return Ok(Some((header, Vec::new())));
        }
        let mut payload = vec![0; header.len as usize];
        file.read_at(offset + HEADER as u64, &mut payload)?;
        self.next.offset = offset + header.record_len();
        Ok(header.fits(&payload).then_some((header, payload)))
    }
}

impl Read {
    pub(crate) fn into_request(self) -> Request {
        let form: Form = self.header.form;
        Request::new(form, self.payload, u64::from(self.header.spans))
    }
}

fn read_all(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs.open(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The name of a backend's cursor: safe for a file, and its own for each name.
fn cursor_name(backend: &str) -> String {
    let plain: String = backend
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(60)
        .collect();
    format!("{plain}-{:08x}{CURSOR}", crc32fast::hash(backend.as_bytes()))
}
