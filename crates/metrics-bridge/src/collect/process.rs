//! The process as families, under the names that all clients of Prometheus have for it.
//!
//! Read from `/proc`, so there are none on systems without it. What cannot be read is left out.

use std::fs;
use std::sync::OnceLock;

use crate::model::{Family, FamilyKind, Number, Point, Value};
use crate::names::{self, Described};

/// Clock ticks a second in `/proc` (`USER_HZ`), which Linux has fixed for user space on all
/// architectures that it still runs on (`proc(5)`, `time(7)`).
const TICKS: f64 = 100.0;

/// What is known of the process.
pub(crate) fn process_families() -> Vec<Family> {
    static BOOT_TIME: OnceLock<Option<u64>> = OnceLock::new();
    let read = |path| fs::read_to_string(path).ok();
    let mut families = Vec::new();
    let mut add = |described: Described, kind, number: Option<Number>| {
        let point = number.map(|number| Point::new(Vec::new(), Value::Single(number, None)));
        families.extend(point.map(|point| Family::new(described, kind, vec![point])));
    };
    let (gauge, integer) = (FamilyKind::Gauge, |number: Option<u64>| number.map(Number::Integer));
    if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
        let cpu = stat.cpu_ticks as f64 / TICKS;
        add(names::PROCESS_CPU, FamilyKind::Counter, Some(Number::Float(cpu)));
        add(names::PROCESS_VIRTUAL_MEMORY, gauge, integer(Some(stat.virtual_bytes)));
        add(names::PROCESS_THREADS, gauge, integer(Some(stat.threads)));
        let boot = BOOT_TIME.get_or_init(|| boot_time(&read("/proc/stat")?));
        let start = boot.map(|boot| boot as f64 + stat.start_ticks as f64 / TICKS);
        add(names::PROCESS_START_TIME, gauge, start.map(Number::Float));
    }
    let resident = read("/proc/self/status").as_deref().and_then(resident_bytes);
    add(names::PROCESS_MEMORY, gauge, integer(resident));
    add(names::PROCESS_OPEN_FDS, gauge, integer(open_fds()));
    let most = read("/proc/self/limits").as_deref().and_then(max_fds);
    add(names::PROCESS_MAX_FDS, gauge, integer(most));
    families
}

/// Of `/proc/[pid]/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses; it may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbers of fields as in proc(5), where the one after the name is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
        })
    }
}

/// When the machine started, of `/proc/stat`, in seconds since the Unix epoch.
fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Of `/proc/[pid]/status`, where it is in units of 1,024 bytes.
fn resident_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The soft limit, of `/proc/[pid]/limits`; none if it is `unlimited`.
fn max_fds(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // One of them is the directory itself.
    count.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 12345 8192 99 1";
        let expected =
            Stat { cpu_ticks: 200, threads: 9, start_ticks: 12_345, virtual_bytes: 8_192 };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
        assert_eq!(resident_bytes("VmPeak: 9 kB\nVmRSS:\t    12 kB\n"), Some(12_288));
        let limits = "Limit  Soft Limit  Hard Limit\nMax open files   1024   524288   files\n";
        assert_eq!(max_fds(limits), Some(1_024));
        assert_eq!(max_fds("Max open files unlimited unlimited files"), None);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for text in
            ["", ")", "1 (x", "1 (x) S 1 2", "1 (x) S a b c d e f g h i j k l m n o p q r s t"]
        {
            assert_eq!(Stat::parse(text), None, "{text}");
            assert_eq!((boot_time(text), resident_bytes(text), max_fds(text)), (None, None, None));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_described() {
        let families = process_families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name == name);
            let point = family.and_then(|family| family.points.first());
            match point.map(|point| &point.value) {
                Some(Value::Single(number, _)) => number.as_f64(),
                other => panic!("{name}: {other:?}"),
            }
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = spanweave_core::clock::unix_nanos() as f64 / 1e9;
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3_600.0).contains(&age), "{age} s old");
    }
}
