//! Disks that are full or fail, and files that others move.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use spanweave::Backend;
use spanweave_tests::{Running, command};

use crate::support::{T, collector, line, make, telemetry, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_spooling-program");

/// A shell in namespaces of its own, where it may mount.
fn shell(script: &str) -> Command {
    let mut shell = command("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
    shell
}

#[test]
fn a_full_disk_means_memory_at_once_and_the_disk_again_when_there_is_space() {
    let (folder, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = collector();
    // The disk is filled before the program starts, and emptied in the middle; what lies on it is
    // noted before and after.
    let script = format!(
        "mount -t tmpfs -o size=64k none {disk}
         dd if=/dev/zero of={disk}/filler bs=1k count=60 2>/dev/null
         note() {{ cat {disk}/spool/*/*.seg > {notes}/$1 2>/dev/null || true; }}
         (sleep 0.7; note full; rm {disk}/filler; sleep 1.2; note free) &
         {PROGRAM} burst {disk}/spool {endpoint} 0",
        disk = folder.path().display(),
        notes = notes.path().display(),
        endpoint = server.http_endpoint(),
    );
    let finished = Running::start(shell(&script)).finish(Duration::from_secs(60)).successful();
    let report = finished.json();
    let get = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((get("dropped"), get("pending")), (0, 0), "{report}\n{}", finished.stderr);
    assert_eq!(server.unique_spans(), 10_000, "{report}");
    let noted = |name: &str| std::fs::read(notes.path().join(name)).unwrap_or_default().len();
    assert!(noted("full") < 4096, "{} bytes were written", noted("full"));
    assert!(noted("free") > 4096, "{} bytes were written", noted("free"));
}

#[test]
fn a_disk_that_stays_full_loses_nothing_while_the_backend_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let script = format!(
        "mount -t tmpfs -o size=8k none {disk}
         exec {PROGRAM} burst {disk}/spool {endpoint} 0",
        disk = folder.path().display(),
        endpoint = server.http_endpoint(),
    );
    let finished = Running::start(shell(&script)).finish(Duration::from_secs(60)).successful();
    assert_eq!(finished.json()["dropped"], 0, "{}", finished.stderr);
    assert_eq!(server.unique_spans(), 10_000);
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let mut limited = command("sh");
    // 16 blocks of 512 bytes; the signal that comes with the error is ignored.
    let script = format!(
        "trap '' XFSZ; ulimit -f 16; exec {PROGRAM} burst {} {} 0",
        folder.path().display(),
        server.http_endpoint()
    );
    limited.args(["-ec", &script]);
    let finished = Running::start(limited).finish(Duration::from_secs(60)).successful();
    assert_eq!(finished.json()["dropped"], 0, "{}", finished.stderr);
    assert_eq!(server.unique_spans(), 10_000);
}

/// The ids in files of OTLP JSON lines; every line has to be whole.
#[track_caller]
pub(crate) fn ids(paths: &[&Path]) -> HashSet<String> {
    let mut ids = HashSet::new();
    for path in paths {
        for text in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(text).expect("a torn line");
            for scope in line["resourceSpans"][0]["scopeSpans"].as_array().unwrap() {
                for span in scope["spans"].as_array().unwrap() {
                    ids.insert(span["spanId"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    ids
}

#[test]
fn a_file_that_others_rename_remove_and_truncate_is_written_to_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("spans.jsonl"), folder.path().join("moved.jsonl"));
    let (telemetry, dispatch) = telemetry([Backend::file(&path).named("file")]);
    make(&dispatch, 1000);
    telemetry.flush(T);
    std::fs::rename(&path, &moved).unwrap();
    make(&dispatch, 1000);
    telemetry.flush(T);
    std::thread::sleep(Duration::from_millis(1050));
    make(&dispatch, 1000);
    telemetry.flush(T);
    assert!(path.exists(), "opened anew within a second");
    assert_eq!(ids(&[&path, &moved]).len(), 3000, "nothing is lost by a rename");
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1050));
    make(&dispatch, 1000);
    telemetry.flush(T);
    assert_eq!(ids(&[&path]).len(), 1000);
    std::fs::File::create(&path).unwrap();
    make(&dispatch, 1000);
    let report = telemetry.shutdown(T);
    wait("the file is there", T, || path.exists());
    assert_eq!(ids(&[&path]).len(), 1000);
    assert_eq!(line(&report, "file").delivered, 5000);
}
