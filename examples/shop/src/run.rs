//! The parent: collector, services, requests, summary.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use spanweave_live::{Collector, CollectorConfig, StoreLimits};
use tokio::time::Instant;

use crate::args::RunArgs;
use crate::exposition::{self, Scrape};
use crate::interrupt::{self, Interrupt};
use crate::load::Load;
use crate::protocol::{BackendLine, Service, ServiceConfig};
use crate::summary::{Findings, sum_backends};
use crate::supervise::{Ended, ServiceProcess, first_death};
use crate::{print, progress};

/// Enough for tens of thousands of requests.
const LIMITS: StoreLimits = StoreLimits { spans: 1_000_000, bytes: 1 << 30 };

/// A span ends a moment after its request has been answered.
const SETTLE_TIME: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_millis(20);

/// How long answers are waited for when the run is cut short.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

const PROGRESS: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;

pub(crate) fn main(args: RunArgs) -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BoxError::from)
        .and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(code) => code,
        Err(error) => {
            progress(&format!("shop: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: RunArgs) -> Result<ExitCode, BoxError> {
    let mut interrupt = Interrupt::watch()?;
    let out = prepare(args.out.as_deref()).map_err(|error| match &args.out {
        Some(out) => format!("{} cannot be used for files: {error}", out.display()),
        None => format!("no folder for files: {error}; name one with --out"),
    })?;
    let collector = Collector::start(CollectorConfig::default().limits(LIMITS))?;
    progress(&format!("files in {}", out.display()));
    progress(&format!("collector with a live page at {}/", collector.http_endpoint()));

    let config = config(&args, &out, &collector)?;
    let services = tokio::select! {
        services = start(config) => services?,
        // What has been started is killed when it is dropped.
        () = interrupt.come() => return Ok(ExitCode::from(interrupt::EXIT_STATUS)),
    };
    let mut run = Run { args, out, collector, services, trouble: false };
    let outcome = run.requests(&mut interrupt).await?;
    let scrapes = run.settle().await;

    // Others may send requests during a hold, so what must hold is looked at before it.
    let holds = |findings: &Findings| findings.checks().iter().all(|(holds, _)| *holds);
    let mut before_hold = None;
    if run.args.hold && !run.trouble && !interrupt.has_come() {
        let ledgers = run.flush().await;
        let findings = run.findings(&outcome, &scrapes, ledgers);
        print(&findings.text());
        before_hold = Some(holds(&findings));
        run.hold(&mut interrupt).await;
    }
    let held = before_hold.is_some();
    let scrapes = if held { run.settle().await } else { scrapes };
    let metrics = run.metrics();
    let ledgers = run.stop().await;
    let mut findings = run.findings(&outcome, &scrapes, ledgers);
    findings.metrics = metrics;
    if !held {
        print(&findings.text());
    }
    if run.args.json {
        print(&findings.json());
    }
    let failed = run.trouble || !before_hold.unwrap_or_else(|| holds(&findings));
    Ok(if interrupt.has_come() && !held {
        ExitCode::from(interrupt::EXIT_STATUS)
    } else if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether the environment, which the services inherit, keeps spans from the collector.
fn is_thinned() -> bool {
    ["OTEL_TRACES_SAMPLER", "SPANWEAVE_FILTER", "OTEL_SDK_DISABLED"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The folder, made and without the files of an earlier run.
fn prepare(out: Option<&Path>) -> io::Result<PathBuf> {
    let out = match out {
        Some(out) => {
            std::fs::create_dir_all(out)?;
            out.to_owned()
        }
        None => new_folder()?,
    };
    for service in Service::ALL {
        for file in span_files(&out, service) {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    out.canonicalize()
}

/// The first `run-N` that is free, in `target/shop` where there is a `target`.
fn new_folder() -> io::Result<PathBuf> {
    let target = Path::new("target");
    let base = if target.is_dir() {
        target.join("shop")
    } else {
        std::env::temp_dir().join("spanweave-shop")
    };
    std::fs::create_dir_all(&base)?;
    let mut number = 1u32;
    loop {
        let folder = base.join(format!("run-{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn span_files(out: &Path, service: Service) -> [PathBuf; 2] {
    ["jsonl", "spans.jsonl"].map(|end| out.join(format!("{}.{end}", service.name())))
}

fn config(args: &RunArgs, out: &Path, collector: &Collector) -> Result<ServiceConfig, BoxError> {
    let database_url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if let Some(url) = &database_url
        && !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
    {
        return Err("DATABASE_URL must begin with postgres://; unset it to use SQLite".into());
    }
    Ok(ServiceConfig {
        out: out.to_owned(),
        collector_grpc: collector.grpc_endpoint(),
        collector_http: collector.http_endpoint(),
        otlp: args.otlp.clone(),
        jaeger: args.jaeger.clone(),
        database_url,
        users: None,
        orders: None,
    })
}

/// One after the other, since each needs the addresses of those that it calls.
async fn start(mut config: ServiceConfig) -> Result<Vec<ServiceProcess>, BoxError> {
    let mut services = Vec::new();
    for service in Service::ALL {
        let process = ServiceProcess::start(service, &config).await?;
        progress(&format!(
            "{:7} at {}, metrics at {}",
            service.name(),
            process.url(),
            exposition::url(process.metrics)
        ));
        match service {
            Service::Users => config.users = Some(process.url()),
            Service::Orders => config.orders = Some(process.url()),
            Service::Gateway => {}
        }
        services.push(process);
    }
    Ok(services)
}

struct Run {
    args: RunArgs,
    out: PathBuf,
    collector: Collector,
    services: Vec<ServiceProcess>,
    /// Whether something went wrong with a service.
    trouble: bool,
}

/// The requests, once they are over.
struct Outcome {
    load: Load,
    seconds: f64,
}

impl Run {
    async fn requests(&mut self, interrupt: &mut Interrupt) -> Result<Outcome, BoxError> {
        let gateway = self.services.iter().find(|process| process.service == Service::Gateway);
        let gateway = gateway.ok_or("there is no gateway")?.url();
        let requests = self.args.requests;
        let load = Load::new(gateway, requests)?;
        progress(&format!("sending {requests} requests"));
        let start = Instant::now();
        let cut_short = {
            let all = load.run();
            let shown = load.watch(PROGRESS, |done| progress(&format!("{done} of {requests}")));
            tokio::pin!(all);
            let cut_short = tokio::select! {
                () = &mut all => None,
                (service, status) = first_death(&mut self.services) => {
                    Some(format!("service {} ended in the middle: {status}", service.name()))
                }
                () = interrupt.come() => Some("stopping".to_owned()),
                _ = shown => None,
            };
            if let Some(why) = &cut_short {
                progress(why);
                load.stop();
                // The answers of a service that is gone do not come.
                if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
                    progress("not all requests were answered");
                }
            }
            cut_short.is_some()
        };
        self.trouble |= cut_short && !interrupt.has_come();
        Ok(Outcome { load, seconds: start.elapsed().as_secs_f64() })
    }

    /// Reads the services' metrics until no span is open any more; one for each service, in their
    /// order.
    async fn settle(&self) -> Vec<Option<Scrape>> {
        let Ok(client) = reqwest::Client::builder().no_proxy().timeout(SETTLE_TIME).build() else {
            return vec![None; self.services.len()];
        };
        let start = Instant::now();
        loop {
            let mut scrapes = Vec::new();
            for process in &self.services {
                scrapes.push(exposition::scrape(&client, process.metrics).await.ok());
            }
            if scrapes.iter().flatten().all(|scrape| scrape.live == 0)
                || start.elapsed() > SETTLE_TIME
            {
                return scrapes;
            }
            tokio::time::sleep(SETTLE_STEP).await;
        }
    }

    /// Has all services deliver what they have; their ledgers.
    async fn flush(&mut self) -> Vec<Vec<BackendLine>> {
        let mut ledgers = Vec::new();
        for process in &mut self.services {
            match process.flush().await {
                Ok(ledger) => ledgers.push(ledger),
                Err(error) => {
                    progress(&error.to_string());
                    self.trouble = true;
                }
            }
        }
        ledgers
    }

    /// Serves until Ctrl-C, or until a service ends.
    async fn hold(&mut self, interrupt: &mut Interrupt) {
        if let Some(gateway) = self.services.last() {
            progress(&format!(
                "\nServing until Ctrl-C. Try: curl {}/users/1/dashboard",
                gateway.url()
            ));
        }
        progress(&format!("then look at {}/", self.collector.http_endpoint()));
        tokio::select! {
            (service, status) = first_death(&mut self.services) => {
                self.report(&format!("service {} ended: {status}", service.name()));
            }
            () = interrupt.come() => progress("stopping"),
        }
    }

    fn report(&mut self, trouble: &str) {
        progress(trouble);
        self.trouble = true;
    }

    fn metrics(&self) -> BTreeMap<String, String> {
        let urls = self
            .services
            .iter()
            .map(|process| (process.service.name().to_owned(), exposition::url(process.metrics)));
        urls.collect()
    }

    /// Ends the services: first none takes requests any more, callers before those that they call,
    /// then all deliver what they have at the same time. Their ledgers.
    async fn stop(&mut self) -> Vec<Vec<BackendLine>> {
        for process in self.services.iter_mut().rev() {
            // One that cannot be drained tells why when it is stopped.
            process.drain().await.ok();
        }
        let mut stopping = tokio::task::JoinSet::new();
        for process in self.services.drain(..) {
            stopping.spawn(process.stop());
        }
        let mut ended: Vec<Ended> = stopping.join_all().await;
        ended.sort_by_key(|ended| ended.service);
        for problem in ended.iter_mut().filter_map(|ended| ended.problem.take()) {
            self.report(&problem);
        }
        ended.into_iter().filter_map(|ended| ended.ledger).collect()
    }

    fn findings(
        &self,
        outcome: &Outcome,
        scrapes: &[Option<Scrape>],
        ledgers: Vec<Vec<BackendLine>>,
    ) -> Findings {
        let files = Service::ALL.into_iter().flat_map(|service| span_files(&self.out, service));
        Findings {
            tally: outcome.load.tally(),
            seconds: outcome.seconds,
            traces: self.collector.store().traces(),
            backends: sum_backends(ledgers),
            files: files.map(|path| path.display().to_string()).collect(),
            out: self.out.display().to_string(),
            metrics: self.metrics(),
            thinned: is_thinned(),
            counted: scrapes.iter().map(|scrape| scrape.map(|scrape| scrape.spans)).sum(),
        }
    }
}
