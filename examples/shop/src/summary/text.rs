//! The summary as text.

use std::fmt::{self, Write};

use spanweave_live::{
    OperationStats, RepeatedCalls, Trace, critical_path, error_traces, format_duration, operations,
    render_trace, repeated_calls, service_edges, spans_by_service,
};

use super::Findings;

/// Columns of the picture of a trace.
const WIDTH: usize = 110;
const OPERATIONS: usize = 12;
const ERRORS: usize = 6;
const REPEATED: usize = 3;

pub(super) fn text(findings: &Findings) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    sections(findings, &mut text).unwrap_or_default();
    text
}

fn sections(findings: &Findings, out: &mut String) -> fmt::Result {
    overview(findings, out)?;
    if !findings.traces.is_empty() {
        slowest_operations(&findings.traces, out)?;
        slowest_trace(&findings.traces, out)?;
        calls_between_services(&findings.traces, out)?;
        errors(&findings.traces, out)?;
        repeated(&findings.traces, out)?;
    }
    backends(findings, out)?;
    places(findings, out)?;
    checks(findings, out)
}

fn overview(findings: &Findings, out: &mut String) -> fmt::Result {
    let tally = &findings.tally;
    writeln!(
        out,
        "{} requests in {:.1} s: {} ok, {} failed, {} invalid",
        tally.requests(),
        findings.seconds,
        tally.ok,
        tally.failed,
        tally.invalid
    )?;
    let services: Vec<String> = spans_by_service(&findings.traces)
        .iter()
        .map(|(service, spans)| format!("{service} {spans}"))
        .collect();
    let spans = findings.spans();
    write!(out, "{} traces, {spans} spans", findings.traces.len())?;
    if !services.is_empty() {
        write!(out, ": {}", services.join(", "))?;
    }
    writeln!(out)
}

fn slowest_operations(traces: &[Trace], out: &mut String) -> fmt::Result {
    let operations = operations(traces);
    writeln!(out, "\nOperations, by the time that they spend themselves")?;
    let rows = operations.iter().take(OPERATIONS).map(|operation| {
        let OperationStats { service, operation: name, kind, count, errors, .. } = operation;
        let durations = [operation.p50_ns, operation.p95_ns, operation.p99_ns, operation.self_ns];
        let durations = durations.map(format_duration);
        let left = [service.clone(), name.clone(), kind.to_string()];
        let right = [count.to_string(), errors.to_string()];
        left.into_iter().chain(right).chain(durations).collect()
    });
    let header = ["service", "operation", "kind", "count", "errors", "p50", "p95", "p99", "self"];
    table(&header, 3, rows.collect(), out)?;
    match operations.len().saturating_sub(OPERATIONS) {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more"),
    }
}

fn slowest_trace(traces: &[Trace], out: &mut String) -> fmt::Result {
    let Some(slowest) = traces.iter().max_by_key(|trace| trace.duration_ns()) else {
        return Ok(());
    };
    writeln!(out, "\nThe slowest trace and its critical path")?;
    for line in render_trace(slowest, WIDTH).lines() {
        writeln!(out, "  {line}")?;
    }
    let path = critical_path(slowest);
    if let Some(longest) = path.segments.iter().max_by_key(|segment| segment.duration_ns) {
        let percent = longest.duration_ns * 100 / path.duration_ns.max(1);
        writeln!(
            out,
            "  most of it: {} {}, {} ({percent} %)",
            longest.service,
            longest.operation,
            format_duration(longest.duration_ns)
        )?;
    }
    Ok(())
}

fn calls_between_services(traces: &[Trace], out: &mut String) -> fmt::Result {
    writeln!(out, "\nWho calls whom")?;
    let rows = service_edges(traces).into_iter().map(|edge| {
        let numbers = [edge.calls.to_string(), edge.errors.to_string()];
        let durations = [edge.p50_ns, edge.p95_ns].map(format_duration);
        [edge.caller, edge.callee].into_iter().chain(numbers).chain(durations).collect()
    });
    table(&["caller", "callee", "calls", "errors", "p50", "p95"], 2, rows.collect(), out)
}

/// One of each sort.
fn errors(traces: &[Trace], out: &mut String) -> fmt::Result {
    let errors = error_traces(traces);
    writeln!(out, "\n{} traces with errors", errors.len())?;
    let mut sorts: Vec<(String, usize, Vec<String>)> = Vec::new();
    for error in errors {
        let origin = format!("{} {}", error.origin_service, error.origin_operation);
        let error_type = error.error_type.unwrap_or_else(|| "-".to_owned());
        let sort = format!("{origin} {error_type}");
        match sorts.iter_mut().find(|(known, ..)| *known == sort) {
            Some((_, count, _)) => *count += 1,
            None => {
                let row = vec![origin, error_type, error.operation, error.trace_id.to_string()];
                sorts.push((sort, 1, row));
            }
        }
    }
    sorts.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    let more = sorts.len().saturating_sub(ERRORS);
    let rows = sorts.into_iter().take(ERRORS).map(|(_, count, mut row)| {
        row.push(count.to_string());
        row
    });
    let header = ["where it began", "error type", "request", "for example", "traces"];
    table(&header, 4, rows.collect(), out)?;
    if more > 0 {
        writeln!(out, "  … and {more} more sorts")?;
    }
    Ok(())
}

/// One of each sort, with the costliest example.
fn repeated(traces: &[Trace], out: &mut String) -> fmt::Result {
    let mut sorts: Vec<(RepeatedCalls, usize)> = Vec::new();
    for calls in repeated_calls(traces) {
        let same = |(known, _): &&mut (RepeatedCalls, usize)| {
            (&known.service, &known.operation, &known.call)
                == (&calls.service, &calls.operation, &calls.call)
        };
        match sorts.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => sorts.push((calls, 1)),
        }
    }
    if sorts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThe same call again and again (N+1)")?;
    for (calls, count) in sorts.iter().take(REPEATED) {
        let RepeatedCalls { service, operation, call, trace_id, .. } = calls;
        let (times, total) = (calls.count, format_duration(calls.total_ns));
        writeln!(out, "  {service} {operation}, {count} times: {times} × {call}")?;
        writeln!(out, "    for example {total} in trace {trace_id}")?;
    }
    Ok(())
}

fn backends(findings: &Findings, out: &mut String) -> fmt::Result {
    writeln!(out, "\nBackends, each of which got its own copy")?;
    let width = findings.backends.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    for line in &findings.backends {
        write!(
            out,
            "  {:width$}  {} delivered, {} dropped, {} pending",
            line.name, line.delivered, line.dropped, line.pending
        )?;
        match &line.last_error {
            Some(error) if line.dropped + line.pending > 0 => writeln!(out, "; {error}")?,
            _ => writeln!(out)?,
        }
    }
    Ok(())
}

fn places(findings: &Findings, out: &mut String) -> fmt::Result {
    writeln!(out, "\nFiles in {}", findings.out)?;
    writeln!(
        out,
        "  SERVICE.jsonl (OTLP JSON), SERVICE.spans.jsonl (one span a line), SERVICE.log, databases"
    )?;
    writeln!(out, "Metrics")?;
    for (service, url) in &findings.metrics {
        writeln!(out, "  {service:8} {url}")?;
    }
    Ok(())
}

fn checks(findings: &Findings, out: &mut String) -> fmt::Result {
    writeln!(out, "\nChecks")?;
    for (holds, text) in findings.checks() {
        writeln!(out, "  {} {text}", if holds { "ok   " } else { "WRONG" })?;
    }
    for surprise in &findings.tally.surprises {
        writeln!(out, "        {surprise}")?;
    }
    Ok(())
}

/// Columns as wide as they have to be; the first `texts` of them are flush left.
fn table(header: &[&str], texts: usize, rows: Vec<Vec<String>>, out: &mut String) -> fmt::Result {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column < texts {
                write!(line, "  {cell:<width$}")?;
            } else {
                write!(line, "  {cell:>width$}")?;
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
