//! What a span costs the application's thread.
//!
//! Each run is a process of its own, since a global subscriber and the caches of callsites are
//! per process. Peers are interleaved, so that they share the machine's moods.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::alloc;
use crate::peers::{Peer, Running};
use crate::report::{Figure, Row, Table};
use crate::sink::Sink;
use crate::workload;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One request every 50 µs; the median over the requests.
    Paced,
    /// One after the other, on so many threads; CPU time of the threads.
    FlatOut(usize),
}

impl Pace {
    fn argument(self) -> String {
        match self {
            Self::Paced => "paced".into(),
            Self::FlatOut(threads) => threads.to_string(),
        }
    }

    fn from_argument(argument: &str) -> Option<Self> {
        match argument {
            "paced" => Some(Self::Paced),
            threads => threads.parse().ok().map(Self::FlatOut),
        }
    }

    fn title(self) -> String {
        match self {
            Self::Paced => "paced: one request every 50 µs, median, wall time".into(),
            Self::FlatOut(threads) => format!("flat out, {threads} thread(s), CPU time"),
        }
    }
}

/// What one run found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Nanoseconds of the application's thread for a span.
    pub(crate) nanos: f64,
    /// The 99th percentile over requests, for a span, where requests are timed.
    pub(crate) p99: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
    pub(crate) spans: u64,
    pub(crate) lost: u64,
}

const PACED_REQUESTS: u64 = 30_000;
const FLAT_OUT_REQUESTS: u64 = 200_000;

/// Requests of a flat-out run: fewer where a profiler slows everything down.
fn flat_out_requests() -> u64 {
    std::env::var("SPANWEAVE_BENCH_REQUESTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(FLAT_OUT_REQUESTS)
}
const WARM_UP: u64 = 2_000;
const INTERVAL: Duration = Duration::from_micros(50);

/// The child: runs one peer once and prints what it found.
pub(crate) fn child(arguments: &[String]) -> Result<(), Failure> {
    let [peer, pace, sink] = arguments else { return Err("child: peer, pace, sink".into()) };
    let peer = Peer::from_name(peer).ok_or("no such peer")?;
    let pace = Pace::from_argument(pace).ok_or("no such pace")?;
    let running = Running::start(peer, sink)?;
    let request =
        if peer == Peer::Fastrace { workload::fastrace_request } else { workload::request };
    let mut outcome = match pace {
        Pace::Paced => paced(request),
        Pace::FlatOut(threads) => flat_out(threads, request),
    };
    outcome.lost = running.finish()?;
    #[allow(clippy::print_stdout)]
    {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

fn paced(request: fn(u64)) -> Outcome {
    let clock = quanta::Clock::new();
    for number in 0..WARM_UP {
        request(number);
    }
    let mut times = Vec::with_capacity(PACED_REQUESTS as usize);
    let before = alloc::thread_total();
    let mut next = clock.raw();
    let start = next;
    let interval = INTERVAL.as_nanos() as u64;
    for number in 0..PACED_REQUESTS {
        while clock.delta_as_nanos(start, clock.raw()) < number * interval {
            std::hint::spin_loop();
        }
        next = clock.raw();
        request(number);
        times.push(clock.delta_as_nanos(next, clock.raw()));
    }
    let after = alloc::thread_total();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize] as f64;
    outcome(at(0.5), at(0.99), before, after, PACED_REQUESTS, WARM_UP)
}

fn outcome(
    median: f64,
    p99: f64,
    before: (u64, u64),
    after: (u64, u64),
    requests: u64,
    warm_up: u64,
) -> Outcome {
    let per_span = |total: u64| total as f64 / (requests * workload::SPANS) as f64;
    Outcome {
        nanos: median / workload::SPANS as f64,
        p99: p99 / workload::SPANS as f64,
        allocations: per_span(after.0 - before.0),
        bytes: per_span(after.1 - before.1),
        spans: (requests + warm_up) * workload::SPANS,
        lost: 0,
    }
}

fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn flat_out(threads: usize, request: fn(u64)) -> Outcome {
    let each = flat_out_requests() / threads as u64;
    let run = move || {
        for number in 0..WARM_UP {
            request(number);
        }
        let (time, before) = (thread_nanos(), alloc::thread_total());
        for number in 0..each {
            request(number);
        }
        (thread_nanos() - time, before, alloc::thread_total())
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let nanos: u64 = results.iter().map(|(nanos, ..)| nanos).sum();
    let add = |sum: (u64, u64), next: (u64, u64)| (sum.0 + next.0, sum.1 + next.1);
    let before = results.iter().map(|(_, before, _)| *before).fold((0, 0), add);
    let after = results.iter().map(|(.., after)| *after).fold((0, 0), add);
    let requests = each * threads as u64;
    let per_request = nanos as f64 / requests as f64;
    outcome(per_request, 0.0, before, after, requests, WARM_UP * threads as u64)
}

/// Runs a peer once, in processes of its own.
pub(crate) fn run(peer: Peer, pace: Pace) -> Result<Outcome, Failure> {
    let sink = Sink::start()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["child", "overhead", peer.name(), &pace.argument(), &sink.url()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", peer.name(), output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut outcome: Outcome = serde_json::from_str(text.trim())?;
    if peer.delivers() {
        let backends = if peer == Peer::SpanweaveThree { 3 } else { 1 };
        let arrived = sink.spans()?;
        outcome.lost += (outcome.spans * backends).saturating_sub(arrived);
    }
    Ok(outcome)
}

/// The comparison: every peer at every pace, interleaved.
pub(crate) fn compare(rounds: usize) -> Result<Vec<Table>, Failure> {
    let peers = [
        Peer::Floor,
        Peer::Spanweave,
        Peer::SpanweaveInactive,
        Peer::SpanweaveSampled,
        Peer::Fastrace,
        Peer::TracingOpenTelemetry,
    ];
    let mut tables = Vec::new();
    for pace in [Pace::Paced, Pace::FlatOut(1), Pace::FlatOut(2)] {
        let mut outcomes = vec![Vec::new(); peers.len()];
        for _ in 0..rounds {
            for (peer, outcomes) in peers.iter().zip(&mut outcomes) {
                let outcome = run(*peer, pace)?;
                if outcome.lost > 0 {
                    return Err(format!("{}: {} spans lost", peer.name(), outcome.lost).into());
                }
                outcomes.push(outcome);
            }
        }
        tables.push(table(pace, &peers, &outcomes));
    }
    Ok(tables)
}

fn table(pace: Pace, peers: &[Peer], outcomes: &[Vec<Outcome>]) -> Table {
    let figure = |outcomes: &[Outcome]| Figure::of(outcomes.iter().map(|outcome| outcome.nanos));
    let base = peers
        .iter()
        .position(|peer| *peer == Peer::TracingOpenTelemetry)
        .and_then(|position| outcomes.get(position))
        .map(|outcomes| figure(outcomes).median);
    let rows = peers
        .iter()
        .zip(outcomes)
        .map(|(peer, outcomes)| {
            let nanos = figure(outcomes);
            let median = |pick: fn(&Outcome) -> f64| Figure::of(outcomes.iter().map(pick)).median;
            let mut note = format!(
                "{:.2} allocations, {:.0} bytes a span",
                median(|outcome| outcome.allocations),
                median(|outcome| outcome.bytes)
            );
            if pace == Pace::Paced {
                note += &format!(", p99 {:.0}", median(|outcome| outcome.p99));
            }
            Row {
                name: peer.name().to_owned(),
                unit: "ns a span",
                figure: nanos,
                ratio: base.map(|base| nanos.median / base),
                note,
            }
        })
        .collect();
    Table { title: pace.title(), rows }
}
