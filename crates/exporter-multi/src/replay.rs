//! Sending what was recorded: a spool directory, a segment of one, or a file of OTLP JSON lines.
//!
//! Nothing of the source is changed, and nothing is taken from a process that still uses it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use spanweave_core::BackendReport;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::{DropReason, Ledger};

use crate::backend::{Backend, Plan};
use crate::encode::count_json_spans;
use crate::error::Error;
use crate::lane::Control;
use crate::lane::{Form, Lane, OtlpLane, Queue, Request};
use crate::spool::dump;
use crate::transport::Client;

/// How far ahead of the backend the source is read.
const READ_AHEAD_SPANS: u64 = 20_000;
const STEP: Duration = Duration::from_millis(50);

/// How far a replay is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Spans read.
    pub read: u64,
    /// Records or lines that cannot be read.
    pub damaged: u64,
    /// Spans that the backend has.
    pub delivered: u64,
    /// Spans that it refused.
    pub dropped: u64,
    /// Spans on their way.
    pub pending: u64,
    /// What the last failed request said.
    pub last_error: Option<String>,
}

impl Progress {
    /// Whether everything was read and delivered.
    pub fn is_complete(&self) -> bool {
        self.damaged == 0 && self.dropped == 0 && self.pending == 0 && self.delivered == self.read
    }
}

/// A replay could not be done.
#[derive(Debug)]
pub struct ReplayError(Kind);

#[derive(Debug)]
enum Kind {
    Source(PathBuf, io::Error),
    Empty(PathBuf),
    NotOtlp,
    Backend(Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Source(path, _) => write!(f, "cannot read `{}`", path.display()),
            Kind::Empty(path) => {
                write!(f, "`{}` holds no segments of a spool", path.display())
            }
            Kind::NotOtlp => f.write_str("only an OTLP backend can be replayed to"),
            Kind::Backend(error) => error.fmt(f),
        }
    }
}

impl error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Kind::Source(_, error) => Some(error),
            Kind::Backend(error) => error.source(),
            Kind::Empty(_) | Kind::NotOtlp => None,
        }
    }
}

/// Sends everything below `source` to `backend`, and waits up to `patience` for the last spans.
/// `progress` is called now and then. Blocks; not for the inside of a runtime.
///
/// # Errors
/// A source that cannot be read or holds nothing, a backend that is malformed or is not OTLP.
/// That spans could not be delivered is no error; the result says so.
pub fn replay(
    source: &Path,
    backend: Backend,
    patience: Duration,
    mut progress: impl FnMut(&Progress),
) -> Result<Progress, ReplayError> {
    let files = files(source)?;
    let ledger = Ledger::new();
    let lane = start(backend, &ledger)?;
    let account = lane.account().clone();
    let mut total =
        Progress { read: 0, damaged: 0, delivered: 0, dropped: 0, pending: 0, last_error: None };
    let update = |total: &mut Progress| {
        let report: BackendReport = ledger.report(&account);
        total.delivered = report.delivered;
        // What the end cuts off was not refused.
        let cut = account.dropped().get(DropReason::Shutdown);
        total.dropped = report.dropped_total() - cut;
        total.pending = report.pending + cut;
        total.last_error = report.last_error;
    };
    for path in files {
        each_request(&path, |request| match request {
            None => total.damaged += 1,
            Some(request) => {
                while account.pending() > READ_AHEAD_SPANS {
                    std::thread::sleep(STEP);
                    update(&mut total);
                    progress(&total);
                }
                total.read += request.spans;
                let len = request.len();
                lane.queue().push(Arc::new(request.clone()), request.spans, len);
            }
        })
        .map_err(|error| ReplayError(Kind::Source(path.clone(), error)))?;
        update(&mut total);
        progress(&total);
    }
    let deadline = Deadline::after(patience);
    let mark = lane.stop(deadline);
    while !lane.wait(mark, Deadline::after(STEP * 10).earlier(deadline)) && !deadline.has_passed() {
        update(&mut total);
        progress(&total);
    }
    lane.abandon();
    lane.join(Deadline::after(STEP * 2));
    update(&mut total);
    Ok(total)
}

fn start(backend: Backend, ledger: &Ledger) -> Result<Lane<Arc<Request>>, ReplayError> {
    let failed = |error| ReplayError(Kind::Backend(error));
    let name = backend.base_name().to_owned();
    let (retry, compression) = (backend.retry_policy(), backend.compression);
    let plan = backend.plan(&name).map_err(failed)?;
    let account = ledger.open(&name, plan.kind());
    let Plan::Otlp(config) = plan else { return Err(ReplayError(Kind::NotOtlp)) };
    let timeout = config.timeout;
    let error = |kind| failed(Error::new(&name, kind));
    let client =
        Client::new(*config).map_err(|source| error(crate::error::ErrorKind::Tls(source)))?;
    let thread = |source| error(crate::error::ErrorKind::Thread(source));
    let mut work = OtlpLane::new(&name, client, retry, timeout, compression).map_err(thread)?;
    let queue = Arc::new(Queue::new(account, usize::MAX));
    Lane::start(queue, move |queue| work.run(queue)).map_err(thread)
}

fn files(source: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let failed = |error| ReplayError(Kind::Source(source.to_owned(), error));
    if !std::fs::metadata(source).map_err(failed)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let segments = dump::segments(source).map_err(failed)?;
    if segments.is_empty() {
        return Err(ReplayError(Kind::Empty(source.to_owned())));
    }
    Ok(segments)
}

/// All requests in a file; `None` for one that cannot be read.
fn each_request(path: &Path, mut take: impl FnMut(Option<&Request>)) -> io::Result<()> {
    if path.extension().is_some_and(|ending| ending == "seg") {
        let (requests, damaged) = dump::requests(path)?;
        requests.iter().for_each(|request| take(Some(request)));
        (0..damaged).for_each(|_| take(None));
        return Ok(());
    }
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok();
        let spans = if whole { count_json_spans(&line) } else { 0 };
        if spans == 0 {
            take(None);
        } else {
            take(Some(&Request::new(Form::Json, line, spans)));
        }
    }
    Ok(())
}
