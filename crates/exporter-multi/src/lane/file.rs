//! The lane of a file: whole lines, one write a batch.
//!
//! The file is opened for appending and every batch is one `write`, so lines stay whole when
//! several processes append to one file. A file that was renamed or removed is opened anew
//! within a second; one that was truncated goes on at its new end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spanweave_core::clock;
use spanweave_core::ledger::DropReason;

use super::queue::{Fate, Queue};
use super::rotation::{Fsync, Rotation, rotated};

/// How often it is looked whether the path still leads to the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a batch is tried before it is dropped, and how long apart.
const ATTEMPTS: u32 = 3;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);

/// Lines for a file.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Complete lines.
    pub(crate) text: Bytes,
    pub(crate) spans: u64,
}

/// What the thread of a file lane owns.
pub(crate) struct FileLane {
    file: LogFile,
}

impl FileLane {
    pub(crate) fn new(file: LogFile) -> Self {
        Self { file }
    }

    pub(crate) fn run(&mut self, queue: &Arc<Queue<Lines>>) {
        while let Some(front) = queue.front_blocking() {
            let account = queue.account();
            let lines = front.item;
            account.begin_request(lines.spans);
            let mut attempt = 1;
            let written = loop {
                let written = self.file.append(&lines.text, clock::instant());
                if written.is_ok() || attempt == ATTEMPTS || queue.is_abandoned(front.number) {
                    break written;
                }
                attempt += 1;
                std::thread::sleep(ATTEMPT_INTERVAL);
            };
            account.end_request(lines.spans);
            match written {
                Ok(()) => {
                    queue.settle(front.number, Fate::Delivered, lines.spans);
                    queue.recovered();
                }
                Err(error) => {
                    account.fail(&error);
                    queue.warn(&error.to_string());
                    queue.settle(front.number, Fate::Dropped(DropReason::Io), lines.spans);
                }
            }
        }
    }
}

/// How a file is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) rotation: Rotation,
    pub(crate) fsync: Fsync,
}

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    keeping: Keeping,
    last_look: Instant,
    /// When this process began to write to it.
    begun: Instant,
    last_sync: Instant,
    /// The last write failed: the descriptor may be what is wrong.
    suspect: bool,
    /// The last write stopped inside a line.
    torn: bool,
}

impl LogFile {
    /// Opens the file, and makes it and the folders above it where they are missing. On Unix
    /// only this user may read it.
    pub(crate) fn open(path: &Path, keeping: Keeping, now: Instant) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            keeping,
            last_look: now,
            begun: now,
            last_sync: now,
            suspect: false,
            torn: false,
        })
    }

    /// Appends complete lines. A write that stops inside a line (a full disk) leaves that line
    /// cut; the next one begins on a line of its own. The cut piece is not taken back, because
    /// others may have appended behind it.
    pub(crate) fn append(&mut self, lines: &[u8], now: Instant) -> io::Result<()> {
        if self.suspect || now.saturating_duration_since(self.last_look) >= LOOK_INTERVAL {
            let in_place = self.is_in_place();
            if self.suspect || !in_place {
                self.reopen(now)?;
                self.torn &= in_place;
            }
            self.suspect = false;
            self.last_look = now;
        }
        self.rotate(lines.len(), now)?;
        let written = self.write(lines).and_then(|()| self.sync(now));
        self.suspect = written.is_err();
        written
    }

    fn reopen(&mut self, now: Instant) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.begun = now;
        Ok(())
    }

    fn rotate(&mut self, more: usize, now: Instant) -> io::Result<()> {
        let rotation = self.keeping.rotation;
        if rotation == Rotation::default() {
            return Ok(());
        }
        let age = now.saturating_duration_since(self.begun);
        if !rotation.is_due(self.file.metadata()?.len(), more, age) {
            return Ok(());
        }
        // Another process that writes to it may have put it aside already.
        if self.is_in_place() {
            let time = clock::unix_nanos();
            fs::rename(&self.path, rotated(&self.path, time))?;
            remove_expired(&self.path, rotation, time);
        }
        self.torn = false;
        self.reopen(now)
    }

    fn sync(&mut self, now: Instant) -> io::Result<()> {
        let due = match self.keeping.fsync {
            Fsync::Never => false,
            Fsync::EachBatch => true,
            Fsync::Every(time) => now.saturating_duration_since(self.last_sync) >= time,
        };
        if due {
            self.last_sync = now;
            // After an error the descriptor is not asked again: it might say that all is well.
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(here)) => there.dev() == here.dev() && there.ino() == here.ino(),
            _ => false,
        }
    }

    #[cfg(not(unix))]
    fn is_in_place(&self) -> bool {
        self.path.exists()
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes old files that are kept no longer. One that cannot be removed is met again.
pub(super) fn remove_expired(path: &Path, rotation: Rotation, unix_nanos: u64) {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) else { return };
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for name in rotation.expired(path, &names, unix_nanos) {
        drop(fs::remove_file(path.with_file_name(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_opened_anew_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("new/spans.jsonl"), folder.path().join("moved"));
        let start = clock::instant();
        let mut file = LogFile::open(&path, Keeping::default(), start).unwrap();
        file.append(b"1\n", start).unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(b"2\n", start).unwrap();
        file.append(b"3\n", start + LOOK_INTERVAL).unwrap();
        fs::remove_file(&path).unwrap();
        file.append(b"4\n", start + LOOK_INTERVAL * 2).unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("1\n2\n", "4\n"));
    }

    #[test]
    fn a_truncated_file_goes_on_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let now = clock::instant();
        let mut file = LogFile::open(&path, Keeping::default(), now).unwrap();
        file.append(b"1\n", now).unwrap();
        File::create(&path).unwrap();
        file.append(b"2\n", now).unwrap();
        assert_eq!(read(&path), "2\n");
    }

    #[cfg(unix)]
    #[test]
    fn only_this_user_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        LogFile::open(&path, Keeping::default(), clock::instant()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let now = clock::instant();
        let mut file = LogFile::open(Path::new("/dev/full"), Keeping::default(), now).unwrap();
        assert!(file.append(b"1\n", now).is_err());
    }

    #[test]
    fn a_write_that_stopped_inside_a_line_spoils_no_other_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let now = clock::instant();
        let mut file = LogFile::open(&path, Keeping::default(), now).unwrap();
        file.append(b"whole\ncu", now).unwrap();
        (file.torn, file.suspect) = (true, true);
        file.append(b"next\n", now).unwrap();
        assert_eq!(read(&path), "whole\ncu\nnext\n");
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/spans.jsonl");
        let start = clock::instant();
        let mut file = LogFile::open(&path, Keeping::default(), start).unwrap();
        fs::remove_dir_all(folder.path().join("sub")).unwrap();
        file.append(b"1\n", start + LOOK_INTERVAL).unwrap();
        assert_eq!(read(&path), "1\n");
    }

    #[test]
    fn a_file_is_put_aside_by_size_and_old_ones_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let rotation = Rotation::new().max_bytes(10).keep_files(2);
        let keeping = Keeping { rotation, fsync: Fsync::EachBatch };
        let now = clock::instant();
        let mut file = LogFile::open(&path, keeping, now).unwrap();
        for number in 0..10 {
            file.append(format!("line {number}\n").as_bytes(), now).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let texts: Vec<String> = names.iter().map(|n| read(&folder.path().join(n))).collect();
        assert_eq!(texts, ["line 7\n", "line 8\n", "line 9\n"], "{names:?}");
    }
}
