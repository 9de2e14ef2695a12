//! When a file is put aside, what it is called then, and how long it stays. Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::encode::rfc3339;

/// When a file backend begins a new file, and which old ones it keeps. The default never does.
///
/// The old file gets the time into its name: `spans.jsonl` becomes
/// `spans-20261125T231950.123456789Z.jsonl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    pub(crate) max_bytes: Option<u64>,
    pub(crate) every: Option<Duration>,
    pub(crate) keep_files: Option<usize>,
    pub(crate) keep_for: Option<Duration>,
}

impl Rotation {
    /// Never.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before the file grows over so many bytes. A batch that is larger stands alone.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self { max_bytes: Some(bytes), ..self }
    }

    /// When the file has been written to for so long.
    #[must_use]
    pub fn every(self, time: Duration) -> Self {
        Self { every: Some(time), ..self }
    }

    /// Keeps the newest so many old files.
    #[must_use]
    pub fn keep_files(self, count: usize) -> Self {
        Self { keep_files: Some(count), ..self }
    }

    /// Keeps old files for so long, looked at when one is put aside.
    #[must_use]
    pub fn keep_for(self, time: Duration) -> Self {
        Self { keep_for: Some(time), ..self }
    }

    /// Whether a file of `len` bytes, begun `age` ago, is put aside before `more` bytes.
    pub(crate) fn is_due(&self, len: u64, more: usize, age: Duration) -> bool {
        let full = self.max_bytes.is_some_and(|limit| len.saturating_add(more as u64) > limit);
        len > 0 && (full || self.every.is_some_and(|every| age >= every))
    }

    /// Which of the old files go, at `unix_nanos`. `names` may hold other files.
    pub(crate) fn expired<'a>(
        &self,
        path: &Path,
        names: &'a [String],
        unix_nanos: u64,
    ) -> Vec<&'a str> {
        let (stem, ending) = parts(path);
        let mut old: Vec<(&str, &str)> = names
            .iter()
            .filter_map(|name| {
                let stamp = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&ending)?;
                is_stamp(stamp).then_some((stamp, name.as_str()))
            })
            .collect();
        old.sort_unstable();
        let surplus = self.keep_files.map_or(0, |keep| old.len().saturating_sub(keep));
        let oldest = self.keep_for.map(|time| {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            stamp(unix_nanos.saturating_sub(nanos))
        });
        let gone = |number: usize, stamp: &str| {
            number < surplus || oldest.as_deref().is_some_and(|oldest| stamp < oldest)
        };
        let numbered = old.into_iter().enumerate();
        numbered.filter(|(number, (stamp, _))| gone(*number, stamp)).map(|(_, (_, n))| n).collect()
    }
}

/// The name of a file that is put aside.
pub(crate) fn rotated(path: &Path, unix_nanos: u64) -> PathBuf {
    let (stem, ending) = parts(path);
    path.with_file_name(format!("{stem}-{}{ending}", stamp(unix_nanos)))
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let ending = text(path.extension()).map_or_else(String::new, |ending| format!(".{ending}"));
    (text(path.file_stem()).unwrap_or_default(), ending)
}

fn stamp(unix_nanos: u64) -> String {
    rfc3339(unix_nanos).replace(['-', ':'], "")
}

fn is_stamp(text: &str) -> bool {
    text.len() == "20261125T231950.123456789Z".len()
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'T' | b'.' | b'Z'))
}

/// When what was written to a file is made to survive the machine, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// The system decides. The default.
    #[default]
    Never,
    /// After each batch, before it counts as delivered.
    EachBatch,
    /// Not more often than this.
    Every(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600 * 1_000_000_000;

    #[test]
    fn a_file_is_due_by_size_or_by_age() {
        let rotation = Rotation::new().max_bytes(100).every(Duration::from_secs(60));
        let age = Duration::from_secs(1);
        assert!(rotation.is_due(90, 11, age) && !rotation.is_due(90, 10, age));
        assert!(!rotation.is_due(0, 1000, age), "an empty file takes anything");
        assert!(rotation.is_due(1, 1, Duration::from_secs(60)));
        assert!(!Rotation::new().is_due(u64::MAX, 1, Duration::MAX));
    }

    #[test]
    fn old_files_go_by_count_and_by_age_and_others_stay() {
        let path = Path::new("/x/spans.jsonl");
        let name =
            |day: u64| rotated(path, day * DAY).file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = (10..15).map(name).collect();
        names.extend(["spans.jsonl", "spans-mine.jsonl", "other"].map(str::to_owned));
        let gone = |rotation: Rotation| {
            let gone = rotation.expired(path, &names, 15 * DAY);
            gone.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(gone(Rotation::new()), [] as [&str; 0]);
        assert_eq!(gone(Rotation::new().keep_files(3)), [name(10), name(11)]);
        let three_days = Duration::from_secs(3 * 24 * 3600);
        assert_eq!(gone(Rotation::new().keep_for(three_days)), [name(10), name(11)]);
        assert_eq!(gone(Rotation::new().keep_files(0)).len(), 5);
    }
}
