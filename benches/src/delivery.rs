//! What delivering spans costs the whole process: CPU time and spans a second, from the first
//! span to the last acknowledgement.

use std::process::{Command, Stdio};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::peers::{Peer, Running};
use crate::report::{Figure, Row, Table};
use crate::sink::Sink;
use crate::workload;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Requests of a run: a million spans.
const REQUESTS: u64 = 200_000;

/// What one run found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// CPU seconds of the whole process for a million spans.
    cpu: f64,
    /// Spans delivered in a second.
    rate: f64,
    lost: u64,
}

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The child: makes a million spans, waits until they are delivered, and prints what it took.
pub(crate) fn child(arguments: &[String]) -> Result<(), Failure> {
    let [peer, sink] = arguments else { return Err("child: peer, sink".into()) };
    let peer = Peer::from_name(peer).ok_or("no such peer")?;
    let running = Running::start(peer, sink)?;
    let cpu = seconds(clock_gettime(ClockId::ProcessCPUTime));
    let wall = seconds(clock_gettime(ClockId::Monotonic));
    for number in 0..REQUESTS {
        workload::request(number);
    }
    let lost = running.finish()?;
    let spans = (REQUESTS * workload::SPANS) as f64;
    let outcome = Outcome {
        cpu: (seconds(clock_gettime(ClockId::ProcessCPUTime)) - cpu) / spans * 1e6,
        rate: spans / (seconds(clock_gettime(ClockId::Monotonic)) - wall),
        lost,
    };
    #[allow(clippy::print_stdout)]
    {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

fn run(peer: Peer, backends: u64) -> Result<Outcome, Failure> {
    let sink = Sink::start()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["child", "delivery", peer.name(), &sink.url()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", peer.name(), output.status).into());
    }
    let mut outcome: Outcome = serde_json::from_str(String::from_utf8(output.stdout)?.trim())?;
    let arrived = sink.spans()?;
    outcome.lost += (REQUESTS * workload::SPANS * backends).saturating_sub(arrived);
    if outcome.lost > 0 {
        return Err(format!("{}: {} spans lost", peer.name(), outcome.lost).into());
    }
    Ok(outcome)
}

/// A comparison of peers, the last of which is the base of the ratios.
fn compare(title: &str, peers: &[(Peer, u64)], rounds: usize) -> Result<Vec<Table>, Failure> {
    let mut outcomes = vec![Vec::new(); peers.len()];
    for _ in 0..rounds {
        for ((peer, backends), outcomes) in peers.iter().zip(&mut outcomes) {
            outcomes.push(run(*peer, *backends)?);
        }
    }
    let table = |unit: &'static str, pick: fn(&Outcome) -> f64| {
        let figures: Vec<_> = outcomes.iter().map(|one| Figure::of(one.iter().map(pick))).collect();
        let base = figures.last().map(|figure| figure.median);
        let rows = peers.iter().zip(&figures).map(|((peer, _), figure)| Row {
            name: peer.name().to_owned(),
            unit,
            figure: *figure,
            ratio: base.map(|base| figure.median / base),
            note: String::new(),
        });
        Table { title: format!("{title}: {unit}"), rows: rows.collect() }
    };
    Ok(vec![
        table("CPU s a million", |outcome| outcome.cpu),
        table("spans a second", |outcome| outcome.rate),
    ])
}

/// Delivery over OTLP/HTTP to one backend.
pub(crate) fn delivery(rounds: usize) -> Result<Vec<Table>, Failure> {
    let peers = [(Peer::Spanweave, 1), (Peer::TracingOpenTelemetry, 1)];
    compare("a million spans delivered over OTLP/HTTP", &peers, rounds)
}

/// Three backends against one.
pub(crate) fn fanout(rounds: usize) -> Result<Vec<Table>, Failure> {
    let peers = [(Peer::SpanweaveThree, 3), (Peer::Spanweave, 1)];
    compare("three backends against one", &peers, rounds)
}
