//! The lane of a file of Jaeger JSON: one document, whole at any time.
//!
//! The document is written beside the file and put in its place, so a reader never sees half of
//! it. What came while it was written goes into the next writing. An earlier file is put aside
//! at the start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use spanweave_core::clock;
use spanweave_core::ledger::DropReason;

use super::file::{Keeping, remove_expired};
use super::queue::{Fate, Queue};
use super::rotation::{Fsync, rotated};
use crate::encode::{JaegerBatch, JaegerTraces};

/// A document that is longer is slow to write again and again, and to load: a new one begins.
const LONGEST: u64 = 16 * 1024 * 1024;
/// How much is added before the document is written again, at most.
const MOST_AT_ONCE: usize = 256;

/// What the thread of such a lane owns.
pub(crate) struct JaegerFileLane {
    path: PathBuf,
    keeping: Keeping,
    traces: JaegerTraces,
    begun: Instant,
}

impl JaegerFileLane {
    /// Puts an earlier file aside and checks that the path can be written.
    pub(crate) fn open(path: &Path, mut keeping: Keeping, now: Instant) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        let limit = keeping.rotation.max_bytes.unwrap_or(LONGEST).min(LONGEST);
        keeping.rotation.max_bytes = Some(limit);
        let lane =
            Self { path: path.to_owned(), keeping, traces: JaegerTraces::default(), begun: now };
        match fs::metadata(path) {
            Ok(there) if !there.is_file() => {
                return Err(io::Error::other("it is no ordinary file"));
            }
            Ok(there) if there.len() > 0 => lane.put_aside()?,
            _ => {}
        }
        lane.write()?;
        Ok(lane)
    }

    pub(crate) fn run(&mut self, queue: &Arc<Queue<Arc<JaegerBatch>>>) {
        while let Some(first) = queue.front_blocking() {
            let mut taken = Vec::new();
            let mut next = Some(first);
            while let Some(front) = next {
                let now = clock::instant();
                let (len, age) = (self.traces.len() as u64, now - self.begun);
                if self.keeping.rotation.is_due(len, front.item.len(), age) {
                    self.finish_document(queue, &mut taken, now);
                }
                self.traces.add(&front.item);
                taken.push(front.number);
                next = if taken.len() < MOST_AT_ONCE { queue.front_now() } else { None };
            }
            self.settle(queue, &mut taken);
        }
    }

    fn finish_document(
        &mut self,
        queue: &Queue<Arc<JaegerBatch>>,
        taken: &mut Vec<u64>,
        now: Instant,
    ) {
        self.settle(queue, taken);
        // Where that fails the next document replaces it: what it held was delivered.
        if let Err(error) = self.put_aside() {
            queue.warn(&error.to_string());
        }
        self.traces = JaegerTraces::default();
        self.begun = now;
    }

    fn settle(&self, queue: &Queue<Arc<JaegerBatch>>, taken: &mut Vec<u64>) {
        if taken.is_empty() {
            return;
        }
        let fate = match self.write() {
            Ok(()) => Fate::Delivered,
            Err(error) => {
                queue.account().fail(&error);
                queue.warn(&error.to_string());
                Fate::Dropped(DropReason::Io)
            }
        };
        for number in taken.drain(..) {
            queue.settle(number, fate, u64::MAX);
        }
        if fate == Fate::Delivered {
            queue.recovered();
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file: File = options.open(&beside)?;
        file.write_all(&self.traces.document())?;
        if self.keeping.fsync != Fsync::Never {
            file.sync_data()?;
        }
        fs::rename(&beside, &self.path)
    }

    fn put_aside(&self) -> io::Result<()> {
        let time = clock::unix_nanos();
        fs::rename(&self.path, rotated(&self.path, time))?;
        remove_expired(&self.path, self.keeping.rotation, time);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{batch, span_data};
    use spanweave_core::clock::Deadline;
    use spanweave_core::ledger::Ledger;
    use std::time::Duration;

    #[test]
    fn the_file_is_a_whole_document_and_an_earlier_one_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.json");
        fs::write(&path, "mine").unwrap();
        let mut lane = JaegerFileLane::open(&path, Keeping::default(), clock::instant()).unwrap();
        let queue = Arc::new(Queue::new(Ledger::new().open("file", "file"), 1 << 20));
        for span in 1..=3 {
            let batch = batch(vec![span_data(5, span, None, "work")]);
            queue.push(Arc::new(JaegerBatch::of(&batch)), 1, 100);
        }
        queue.stop(Deadline::after(Duration::from_secs(5)));
        lane.run(&queue);
        assert_eq!(queue.account().delivered(), 3);
        let document: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["data"][0]["spans"].as_array().unwrap().len(), 3);
        let others: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|other| *other != path)
            .collect();
        assert_eq!(others.len(), 1);
        assert_eq!(fs::read_to_string(&others[0]).unwrap(), "mine");
    }
}
