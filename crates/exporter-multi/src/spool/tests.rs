//! The spool against a model, on a file system that can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use spanweave_core::ledger::{BackendLedger, Ledger};

use super::fs::Held;
use super::*;
use crate::lane::Form;

/// The real file system, with a disk that is full when it is told to be.
#[derive(Debug, Default)]
struct FaultyFs {
    full: Arc<AtomicBool>,
    /// Appends that write half of the bytes before they fail.
    torn: Arc<AtomicBool>,
    creates: AtomicUsize,
}

struct FaultyFile {
    inner: Box<dyn File>,
    full: Arc<AtomicBool>,
    torn: Arc<AtomicBool>,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFs.list(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::Error::other("fsync"))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.creates.fetch_add(1, Ordering::Relaxed);
        self.wrap(RealFs.create(path)?)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(RealFs.open(path)?)
    }
    fn try_lock(&self, path: &Path, create: bool) -> io::Result<Option<Box<dyn Held>>> {
        RealFs.try_lock(path, create)
    }
}

impl FaultyFs {
    fn wrap(&self, inner: Box<dyn File>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(FaultyFile { inner, full: self.full.clone(), torn: self.torn.clone() }))
    }
}

impl File for FaultyFile {
    fn len(&mut self) -> io::Result<u64> {
        self.inner.len()
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.full.load(Ordering::Relaxed) {
            return self.inner.append(bytes);
        }
        if self.torn.load(Ordering::Relaxed) {
            self.inner.append(&bytes[..bytes.len() / 2])?;
        }
        Err(full())
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        // The worst case: what was half written stays.
        if self.torn.load(Ordering::Relaxed) { Err(full()) } else { self.inner.truncate(len) }
    }
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, bytes)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }
}

const MEMBERS: usize = 2;

/// A spool, and what its lanes would do.
struct Bench {
    spool: Spool,
    accounts: Vec<Arc<BackendLedger>>,
    open: Vec<VecDeque<(u64, Ticket)>>,
}

impl Bench {
    fn open(fs: &Arc<FaultyFs>, root: &Path, options: Options) -> Self {
        let ledger = Ledger::new();
        let accounts: Vec<_> = (0..MEMBERS).map(|n| ledger.open(format!("b{n}"), "test")).collect();
        let members = accounts.iter().map(|account| Member {
            name: account.name().to_owned(),
            stream: 1,
            account: account.clone(),
        });
        let members = members.collect();
        let spool = Spool::open_in(fs.clone(), root.to_owned(), options, members);
        Self { spool, accounts, open: vec![VecDeque::new(); MEMBERS] }
    }

    fn write(&self, id: u64, bytes: usize) -> bool {
        let mut payload = id.to_be_bytes().to_vec();
        payload.resize(bytes.max(8), b'x');
        let request = Arc::new(Request::new(Form::Protobuf, payload, 1));
        let written = self.spool.append(1, &request).is_ok();
        if written {
            self.accounts.iter().for_each(|account| account.accept(1));
        }
        written
    }

    fn read(&mut self, member: usize) -> Option<u64> {
        let taken = self.spool.take(member, false)?;
        let (_, payload) = taken.request.content();
        let id = u64::from_be_bytes(payload[..8].try_into().unwrap());
        self.open[member].push_back((id, taken.ticket));
        Some(id)
    }

    /// Settles the open request with this number; the identity of what was settled.
    fn settle(&mut self, member: usize, number: usize) -> Option<u64> {
        let (id, ticket) = self.open[member].remove(number)?;
        self.accounts[member].deliver(1);
        self.spool.settle(member, ticket);
        Some(id)
    }

    /// Writes the cursors and looks for dead instances, as time would do.
    fn sync(&self) {
        let mut state = lock(&self.spool.state);
        let now = clock::instant();
        (state.cursors_at, state.scan_at) = (now, now);
        self.spool.maintain(&mut state, now);
    }

    /// The end of the process, as SIGKILL does it.
    fn crash(self) {
        let mut state = lock(&self.spool.state);
        state.closed = true;
        state.own = None;
        state.leftovers.clear();
    }

    /// Reads and settles everything; what was read.
    fn drain(&mut self, member: usize) -> Vec<u64> {
        while self.settle(member, 0).is_some() {}
        let mut all = Vec::new();
        loop {
            self.sync();
            let Some(id) = self.read(member) else { return all };
            all.push(id);
            self.settle(member, 0);
        }
    }
}

fn options(max_bytes: u64) -> Options {
    Options { max_bytes, leftover_rate: u64::MAX / 4, ..Options::default() }
}

fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for instance in std::fs::read_dir(root).unwrap().flatten() {
        for file in std::fs::read_dir(instance.path()).unwrap().flatten() {
            if file.path().to_string_lossy().ends_with(ending) {
                found.push(file.path());
            }
        }
    }
    found.sort();
    found
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Read(usize),
    Settle(usize, usize),
    Sync,
    DiskFull(bool),
    Crash,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (8usize..900).prop_map(Step::Write),
        4 => (0..MEMBERS).prop_map(Step::Read),
        4 => (0..MEMBERS, 0usize..3).prop_map(|(member, number)| Step::Settle(member, number)),
        2 => Just(Step::Sync),
        1 => any::<bool>().prop_map(Step::DiskFull),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_was_written_is_lost_whatever_happens(
        steps in proptest::collection::vec(step(), 1..80),
        torn in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let fs = Arc::new(FaultyFs::default());
        fs.torn.store(torn, Ordering::Relaxed);
        // Small segments, and a limit that is never reached.
        let sizes = options(64 * 1024);
        let mut bench = Bench::open(&fs, folder.path(), sizes);
        let mut written = BTreeSet::new();
        let mut seen = vec![BTreeMap::<u64, u32>::new(); MEMBERS];
        let mut next = 0;
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    next += 1;
                    if bench.write(next, bytes) {
                        written.insert(next);
                    }
                }
                Step::Read(member) => {
                    if let Some(id) = bench.read(member) {
                        *seen[member].entry(id).or_default() += 1;
                        prop_assert!(written.contains(&id), "{id} was never written");
                    }
                }
                Step::Settle(member, number) => {
                    bench.settle(member, number);
                }
                Step::Sync => bench.sync(),
                Step::DiskFull(on) => fs.full.store(on, Ordering::Relaxed),
                Step::Crash => {
                    bench.crash();
                    bench = Bench::open(&fs, folder.path(), sizes);
                }
                Step::Close => {
                    drop(bench);
                    bench = Bench::open(&fs, folder.path(), sizes);
                }
            }
        }
        fs.full.store(false, Ordering::Relaxed);
        for (member, seen) in seen.iter_mut().enumerate() {
            for id in bench.drain(member) {
                *seen.entry(id).or_default() += 1;
            }
            let read: BTreeSet<u64> = seen.keys().copied().collect();
            prop_assert_eq!(&read, &written, "member {}", member);
            prop_assert_eq!(bench.accounts[member].dropped().total(), 0);
            prop_assert_eq!(bench.accounts[member].pending(), 0);
        }
        // Everybody has everything: nothing stays on disk.
        drop(bench);
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_costs_the_records_touched_and_never_a_start(
        records in proptest::collection::vec(8usize..900, 1..40),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8..), 1..4),
        cursors in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let fs = Arc::new(FaultyFs::default());
        let mut bench = Bench::open(&fs, folder.path(), options(64 * 1024));
        for (id, bytes) in records.iter().enumerate() {
            prop_assert!(bench.write(id as u64, *bytes));
        }
        for _ in 0..records.len() / 2 {
            bench.read(0);
            bench.settle(0, 0);
        }
        bench.sync();
        bench.crash();
        let targets = files(folder.path(), if cursors { ".cursor" } else { ".seg" });
        for (file, position, mask) in &damage {
            let path = file.get(&targets);
            let mut bytes = std::fs::read(path).unwrap();
            let at = position.index(bytes.len());
            bytes[at] ^= mask;
            std::fs::write(path, bytes).unwrap();
        }
        let mut bench = Bench::open(&fs, folder.path(), options(64 * 1024));
        for member in 0..MEMBERS {
            let read: BTreeSet<u64> = bench.drain(member).into_iter().collect();
            let (account, total) = (&bench.accounts[member], records.len());
            let expected = if member == 0 { total - total / 2 } else { total };
            let touched = if cursors { 0 } else { damage.len() };
            prop_assert!(read.len() + touched >= expected, "{} of {}", read.len(), expected);
            prop_assert_eq!(account.pending(), 0);
            prop_assert_eq!(account.recovered(), account.delivered() + account.dropped().total());
        }
    }

    #[test]
    fn files_of_any_content_never_prevent_a_start(
        segment in proptest::collection::vec(any::<u8>(), 0..200),
        cursor in proptest::collection::vec(any::<u8>(), 0..1200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let instance = folder.path().join("0000000000000001-1");
        std::fs::create_dir(&instance).unwrap();
        std::fs::write(instance.join("lock"), "").unwrap();
        std::fs::write(instance.join("0000000000000001.seg"), &segment).unwrap();
        std::fs::write(instance.join("b0-00000000.cursor"), &cursor).unwrap();
        let mut bench = Bench::open(&Arc::default(), folder.path(), options(64 * 1024));
        prop_assert!(bench.write(7, 8));
        prop_assert!(bench.drain(1).contains(&7));
        prop_assert_eq!(bench.accounts[1].pending(), 0);
    }
}

#[test]
fn what_was_delivered_before_a_clean_end_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let fs = Arc::default();
    let mut bench = Bench::open(&fs, folder.path(), Options::default());
    (0..10).for_each(|id| assert!(bench.write(id, 100)));
    for _ in 0..4 {
        bench.read(0);
        bench.settle(0, 0);
    }
    drop(bench);
    let mut bench = Bench::open(&fs, folder.path(), Options::default());
    assert_eq!(bench.accounts[0].recovered(), 6);
    assert_eq!(bench.drain(0), [4, 5, 6, 7, 8, 9]);
    assert_eq!(bench.drain(1), (0..10).collect::<Vec<_>>());
}

#[test]
fn at_the_size_limit_only_the_backend_that_lags_loses() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(&Arc::default(), folder.path(), options(64 * 1024));
    for id in 0..1000 {
        assert!(bench.write(id, 1000));
        assert_eq!(bench.read(0), Some(id));
        bench.settle(0, 0);
    }
    let bytes: u64 =
        files(folder.path(), ".seg").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 64 * 1024, "{bytes}");
    let read = bench.drain(1);
    let (quick, lagging) = (&bench.accounts[0], &bench.accounts[1]);
    assert_eq!((quick.delivered(), quick.dropped().total()), (1000, 0));
    assert!(read.len() > 20 && read.last() == Some(&999), "{}", read.len());
    assert_eq!(lagging.dropped().get(DropReason::SpoolFull), 1000 - read.len() as u64);
    assert_eq!(lagging.pending(), 0);
}

#[test]
fn at_the_age_limit_what_is_too_old_is_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let aged = Options { max_age: Duration::from_millis(30), ..Options::default() };
    let mut bench = Bench::open(&Arc::default(), folder.path(), aged);
    (0..10).for_each(|id| assert!(bench.write(id, 100)));
    std::thread::sleep(Duration::from_millis(60));
    bench.sync();
    assert_eq!(bench.read(0), None);
    assert_eq!(bench.accounts[0].dropped().get(DropReason::SpoolExpired), 10);
    assert!(bench.write(10, 100), "and it goes on");
    assert_eq!((bench.read(0), bench.read(1)), (Some(10), Some(10)));
}

#[test]
fn a_jump_of_the_wall_clock_makes_nothing_old() {
    let (now, hour) = (clock::instant(), Duration::from_secs(3600));
    let recovered = |age| Segment { newest: 7, aged: Some((now, age)), ..Segment::default() };
    assert!(!recovered(Duration::ZERO).is_older(hour, now));
    assert!(recovered(Duration::ZERO).is_older(hour, now + hour * 2));
    assert!(recovered(hour * 2).is_older(hour, now), "it was old when it was taken over");
    // A segment without a record has no age.
    assert!(!Segment::default().is_older(Duration::ZERO, now + hour));
}

#[test]
fn what_a_process_leaves_that_ends_while_it_starts_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, locked) in [(".0000000000000001-7", true), (".0000000000000002-7", false)] {
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        if locked {
            std::fs::write(dir.join("lock"), "").unwrap();
        }
    }
    std::fs::create_dir(folder.path().join(".mine")).unwrap();
    drop(Bench::open(&Arc::default(), folder.path(), Options::default()));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".mine"]);
}

#[test]
fn a_forked_child_begins_an_instance_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let fs = Arc::default();
    let mut bench = Bench::open(&fs, folder.path(), Options::default());
    assert!(bench.write(1, 100));
    // As it looks in a child: another process owns what is here.
    bench.spool.process = bench.spool.process.wrapping_add(1);
    assert!(!bench.spool.is_own());
    assert!(bench.write(2, 100));
    assert_eq!(bench.read(0), None, "the lanes stayed with the parent");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    drop(bench);
    let mut next = Bench::open(&fs, folder.path(), Options::default());
    assert_eq!(next.drain(0), [1, 2]);
}

#[test]
fn a_full_disk_is_refused_at_once_and_space_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let fs = Arc::new(FaultyFs::default());
    let mut bench = Bench::open(&fs, folder.path(), Options::default());
    assert!(bench.write(1, 100));
    fs.full.store(true, Ordering::Relaxed);
    assert!(!bench.write(2, 100));
    let creates = fs.creates.load(Ordering::Relaxed);
    assert!(!bench.write(3, 100));
    assert_eq!(fs.creates.load(Ordering::Relaxed), creates, "not tried before its time");
    assert_eq!(bench.read(0), Some(1), "and reading goes on");
    bench.settle(0, 0);
    fs.full.store(false, Ordering::Relaxed);
    std::thread::sleep(RETRY_INTERVAL);
    assert!(bench.write(4, 100));
    assert_eq!(bench.drain(0), [4]);
    assert_eq!(bench.drain(1), [1, 4]);
}

#[test]
fn two_processes_share_a_directory_and_the_living_takes_over_from_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let fs = Arc::default();
    // Locks belong to open files, so two spools of one process stand for two processes.
    let first = Bench::open(&fs, folder.path(), Options::default());
    let mut second = Bench::open(&fs, folder.path(), Options::default());
    assert!(first.write(1, 100) && second.write(2, 100));
    assert_eq!(second.drain(0), [2], "the first one lives");
    first.crash();
    assert_eq!(second.drain(0), [1]);
    let mut all = second.drain(1);
    all.sort_unstable();
    assert_eq!(all, [1, 2]);
    second.sync();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the dead");
}

#[test]
fn what_is_left_is_sent_no_faster_than_its_rate_and_new_spans_pass_it() {
    let folder = tempfile::tempdir().unwrap();
    let fs = Arc::default();
    let first = Bench::open(&fs, folder.path(), Options::default());
    (0..10).for_each(|id| assert!(first.write(id, 1000)));
    first.crash();
    let slow = Options { leftover_rate: 1500, ..Options::default() };
    let mut second = Bench::open(&fs, folder.path(), slow);
    assert!(second.write(100, 1000));
    let read: Vec<u64> = std::iter::from_fn(|| second.read(0)).collect();
    assert_eq!(read, [0, 1, 100]);
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("spool");
    let mut bench = Bench::open(&Arc::default(), &root, options(64 * 1024));
    assert!(bench.write(1, 100));
    std::fs::remove_dir_all(&root).unwrap();
    let mut written = 0;
    for id in 2..200 {
        written += u64::from(bench.write(id, 1000));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(files(&root, ".seg").len() > 1, "it is back");
    let read = bench.drain(0).len() as u64;
    let account = &bench.accounts[0];
    assert_eq!(account.pending(), 0);
    // What was in the directory is lost; the limit took some of the rest.
    assert_eq!(read + account.dropped().total(), written + 1);
    assert!(read > 20, "{read} of {written}");
}
