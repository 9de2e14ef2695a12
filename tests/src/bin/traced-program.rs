//! A small traced program, configured by the environment alone, for tests that need a process.
//!
//! usage: traced-program work COUNT | serve COUNT | leave COUNT
//!
//! Each makes COUNT traces of two spans. `work` shuts down and prints its report; `serve` prints
//! where it serves and what it injects, and ends as `work` does once its standard input closes;
//! `leave` returns from an async `main` with the handle in scope.
#![allow(clippy::print_stdout, reason = "this is how it answers")]

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use spanweave::{ShutdownReport, Telemetry, propagation};

const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, count] = arguments.as_slice() else {
        eprintln!("usage: traced-program work|serve|leave COUNT");
        return ExitCode::FAILURE;
    };
    let Ok(count) = count.parse() else {
        eprintln!("{count} is not a number");
        return ExitCode::FAILURE;
    };
    let done = match action.as_str() {
        "work" => work(count),
        "serve" => serve(count),
        "leave" => leave(count),
        other => {
            eprintln!("no such action: {other}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(count: u64) -> Result<(), spanweave::Error> {
    let telemetry = spanweave::init()?;
    traces(count);
    println!("{}", report(&telemetry.shutdown(DEADLINE)));
    Ok(())
}

fn serve(count: u64) -> Result<(), spanweave::Error> {
    let telemetry = spanweave::init()?;
    traces(count);
    println!("{}", json!({ "metrics": address(&telemetry), "headers": injected() }));
    // A closed input is the sign to end, however it was closed.
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    println!("{}", report(&telemetry.shutdown(DEADLINE)));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn leave(count: u64) -> Result<(), spanweave::Error> {
    let _telemetry = spanweave::init()?;
    traces(count);
    tokio::task::yield_now().await;
    Ok(())
}

fn traces(count: u64) {
    for number in 0..count {
        let request =
            tracing::info_span!("request", otel.kind = "server", number, first = 1, second = 2);
        request.in_scope(|| {
            tracing::info_span!("step").in_scope(|| tracing::info!("inside"));
        });
    }
}

fn injected() -> Value {
    let mut headers = http::HeaderMap::new();
    tracing::info_span!("outgoing").in_scope(|| propagation::inject(&mut headers));
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap_or_default())))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

fn address(telemetry: &Telemetry) -> Option<String> {
    telemetry.metrics_address().map(|address| address.to_string())
}

fn report(report: &ShutdownReport) -> Value {
    let backends: Vec<Value> = report
        .backends
        .iter()
        .map(|backend| {
            json!({
                "name": backend.name,
                "ended": backend.ended,
                "delivered": backend.delivered,
                "dropped": backend.dropped_total(),
                "sampled_out": backend.sampled_out,
                "pending": backend.pending,
                "balanced": backend.is_balanced(),
            })
        })
        .collect();
    json!({ "backends": backends, "timed_out": report.timed_out })
}
