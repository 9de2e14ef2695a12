//! File backends.

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use spanweave_core::SpanSink;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::DropReason;
use spanweave_exporter::{Backend, FileFormat, Fsync, MultiExporter, Rotation};
use support::batch;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn span_ids(path: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path).unwrap();
    let data = text.lines().map(|line| serde_json::from_str::<TracesData>(line).unwrap());
    data.flat_map(|data| data.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.span_id)
        .collect()
}

#[test]
fn two_forms_of_the_same_spans_are_written_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let (otlp, plain) = (folder.path().join("a/b/otlp.jsonl"), folder.path().join("spans.jsonl"));
    let exporter = MultiExporter::builder()
        .export_to(Backend::file(&otlp))
        .export_to(Backend::file(&plain).format(FileFormat::Spans))
        .build()
        .unwrap();
    exporter.accept(batch(0..3));
    exporter.accept(batch(3..5));
    let reports = exporter.shutdown(soon());
    assert_eq!(reports.iter().map(|report| report.delivered).collect::<Vec<_>>(), [5, 5]);
    assert_eq!((reports[0].name.as_str(), reports[1].name.as_str()), ("file", "file-2"));
    assert_eq!(span_ids(&otlp).len(), 5);
    let plain = std::fs::read_to_string(plain).unwrap();
    assert_eq!(plain.lines().count(), 5);
    assert!(plain.lines().all(|line| line.starts_with("{\"traceID\":\"")));
}

#[test]
fn jaeger_json_is_one_document_of_whole_traces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.json");
    let backend = Backend::file(&path).format(FileFormat::JaegerJson).fsync(Fsync::EachBatch);
    let exporter = MultiExporter::builder().export_to(backend).build().unwrap();
    exporter.accept(batch(0..3));
    exporter.flush(soon());
    exporter.accept(batch(3..5));
    assert_eq!(exporter.shutdown(soon())[0].delivered, 5);
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let traces = document["data"].as_array().unwrap();
    assert_eq!(traces.len(), 5);
    assert!(traces.iter().all(|trace| trace["processes"]["p1"]["serviceName"] == "test"));
}

#[test]
fn a_file_is_rotated_and_no_span_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans.jsonl");
    let backend = Backend::file(&path).rotation(Rotation::new().max_bytes(20_000));
    let exporter = MultiExporter::builder().export_to(backend).build().unwrap();
    for number in 0..40 {
        exporter.accept(batch(number * 50..(number + 1) * 50));
    }
    assert_eq!(exporter.shutdown(soon())[0].delivered, 2000);
    let mut ids = HashSet::new();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        files += 1;
        ids.extend(span_ids(&entry.unwrap().path()));
    }
    assert!(files > 5 && ids.len() == 2000, "{} spans in {files} files", ids.len());
}

#[test]
fn lines_are_never_torn_by_several_appenders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans.jsonl");
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let path = path.clone();
            thread::spawn(move || {
                let exporter =
                    MultiExporter::builder().export_to(Backend::file(path)).build().unwrap();
                for number in 0..40 {
                    let first = writer * 10_000 + number * 50;
                    exporter.accept(batch(first..first + 50));
                }
                exporter.shutdown(soon()).remove(0).delivered
            })
        })
        .collect();
    let delivered: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert_eq!(delivered, 8000);
    let ids = span_ids(&path);
    assert_eq!((ids.len(), ids.into_iter().collect::<HashSet<_>>().len()), (8000, 8000));
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_at_the_start_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        MultiExporter::builder().export_to(Backend::file(folder.path())).build().unwrap_err();
    assert!(error.is_file());
    let text = error.to_string();
    assert!(text.contains("backend `file`") && text.contains("choose a path"), "{text}");
    assert!(std::error::Error::source(&error).is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_spans_that_are_counted() {
    let exporter = MultiExporter::builder().export_to(Backend::file("/dev/full")).build().unwrap();
    exporter.accept(batch(0..3));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.dropped, report.pending), (vec![(DropReason::Io, 3)], 0));
}
