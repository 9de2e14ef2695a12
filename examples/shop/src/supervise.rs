//! The services' processes, seen from the parent.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Process};
use tokio::time::timeout;

use crate::protocol::{BackendLine, Command, Report, Service, ServiceConfig};

/// How long a service may take for its start, for a command and for its end. Each of them has
/// limits of its own below this one.
const PATIENCE: Duration = Duration::from_secs(20);

/// So much of a log is shown when its service has failed.
const LOG_LINES: usize = 5;

/// A service that does not do what it should.
#[derive(Debug)]
pub(crate) struct ServiceError {
    service: Service,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Io(io::Error),
    /// What it said itself.
    Said(String),
    Ended(Vec<String>),
    Silent,
    Talk(String),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: ", self.service.name())?;
        match &self.problem {
            Problem::Io(error) => error.fmt(f),
            Problem::Said(text) => f.write_str(text),
            Problem::Ended(log) if log.is_empty() => f.write_str("ended without a word"),
            Problem::Ended(log) => write!(f, "ended; its log says\n  {}", log.join("\n  ")),
            Problem::Silent => f.write_str("does not answer"),
            Problem::Talk(line) => write!(f, "said what nobody understands: {line}"),
        }
    }
}

impl std::error::Error for ServiceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A service that is ready. Dropping it kills its process.
#[derive(Debug)]
pub(crate) struct ServiceProcess {
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    talk: Talk,
    child: Child,
}

/// A service that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) service: Service,
    /// Its last word on its backends; none if it did not end by itself.
    pub(crate) ledger: Option<Vec<BackendLine>>,
    pub(crate) problem: Option<String>,
}

impl ServiceProcess {
    /// Starts a service and waits until it is ready.
    pub(crate) async fn start(
        service: Service,
        config: &ServiceConfig,
    ) -> Result<Self, ServiceError> {
        let failed = |error| ServiceError { service, problem: Problem::Io(error) };
        let log = config.out.join(format!("{}.log", service.name()));
        let mut child = spawn(service, &log).map_err(failed)?;
        let missing = || failed(io::Error::other("its pipes are missing"));
        let mut talk = Talk {
            service,
            log,
            input: Some(child.stdin.take().ok_or_else(missing)?),
            output: BufReader::new(child.stdout.take().ok_or_else(missing)?).lines(),
        };
        // A service that has ended already says why in what it has written.
        talk.send(config).await.ok();
        match talk.report().await? {
            Report::Ready { address, metrics } => {
                Ok(Self { service, address, metrics, talk, child })
            }
            other => Err(talk.unexpected(&other)),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has it take no more requests and finish those under way.
    pub(crate) async fn drain(&mut self) -> Result<(), ServiceError> {
        match self.talk.ask(Command::Drain).await? {
            Report::Drained => Ok(()),
            other => Err(self.talk.unexpected(&other)),
        }
    }

    /// Has it deliver all spans.
    pub(crate) async fn flush(&mut self) -> Result<Vec<BackendLine>, ServiceError> {
        match self.talk.ask(Command::Flush).await? {
            Report::Ledger(ledger) => Ok(ledger),
            other => Err(self.talk.unexpected(&other)),
        }
    }

    /// Has it deliver all spans and end.
    pub(crate) async fn stop(mut self) -> Ended {
        self.talk.input = None;
        let (ledger, mut problem) = match self.talk.report().await {
            Ok(Report::Ledger(ledger)) => (Some(ledger), None),
            Ok(other) => (None, Some(self.talk.unexpected(&other).to_string())),
            Err(error) => (None, Some(error.to_string())),
        };
        let status = timeout(PATIENCE, self.child.wait()).await;
        let end = match status {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(status.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("does not end and is killed".to_owned()),
        };
        if let Some(end) = end {
            problem = Some(format!("service {}: {end}", self.service.name()));
        }
        Ended { service: self.service, ledger, problem }
    }
}

/// Returns when one of the services has ended, which none should by itself.
pub(crate) async fn first_death(services: &mut [ServiceProcess]) -> (Service, String) {
    type Death<'a> = Pin<Box<dyn Future<Output = (Service, io::Result<ExitStatus>)> + 'a>>;
    let mut deaths: Vec<Death<'_>> = Vec::new();
    for process in services {
        let ServiceProcess { service, child, .. } = process;
        deaths.push(Box::pin(async { (*service, child.wait().await) }));
    }
    let (service, status) = poll_fn(|cx| {
        let ready = deaths.iter_mut().find_map(|death| match death.as_mut().poll(cx) {
            Poll::Ready(death) => Some(death),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    (service, status.map_or_else(|error| error.to_string(), |status| status.to_string()))
}

fn spawn(service: Service, log: &Path) -> io::Result<Child> {
    let mut process = Process::new(std::env::current_exe()?);
    process
        .args(["serve", service.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(log)?)
        .kill_on_drop(true);
    // Ctrl-C on a terminal goes to a whole group, and the parent has things to do first.
    #[cfg(unix)]
    process.process_group(0);
    process.spawn()
}

/// The lines to and from a service.
#[derive(Debug)]
struct Talk {
    service: Service,
    log: PathBuf,
    /// Closing it stops the service.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    async fn send(&mut self, message: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        match &mut self.input {
            Some(input) => input.write_all(&line).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn ask(&mut self, command: Command) -> Result<Report, ServiceError> {
        self.send(&command).await.map_err(|error| self.error(Problem::Io(error)))?;
        self.report().await
    }

    async fn report(&mut self) -> Result<Report, ServiceError> {
        let line = match timeout(PATIENCE, self.output.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(self.error(Problem::Ended(last_lines(&self.log)))),
            Ok(Err(error)) => return Err(self.error(Problem::Io(error))),
            Err(_) => return Err(self.error(Problem::Silent)),
        };
        match serde_json::from_str(&line) {
            Ok(Report::Failed { error }) => Err(self.error(Problem::Said(error))),
            Ok(report) => Ok(report),
            Err(_) => Err(self.error(Problem::Talk(line))),
        }
    }

    fn unexpected(&self, report: &Report) -> ServiceError {
        self.error(Problem::Talk(format!("{report:?}")))
    }

    fn error(&self, problem: Problem) -> ServiceError {
        ServiceError { service: self.service, problem }
    }
}

fn last_lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().rev().take(LOG_LINES).map(str::to_owned).collect();
    lines.reverse();
    lines
}
