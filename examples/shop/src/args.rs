//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::protocol::Service;

/// Requests where none are asked for.
const REQUESTS: u64 = 200;

pub(crate) const HELP: &str = "\
A shop of three services (gateway, users, orders) in three processes, traced by spanweave.
Sends requests, then prints what the traces say.

Usage: shop [OPTIONS]

Options:
  --requests N   how many requests are sent (default 200)
  --out DIR      where span files, logs and databases go (default: a new folder in
                 target/shop, or in the temporary folder); those of an earlier run there
                 are replaced
  --otlp URL     also export to this OTLP backend; repeatable. http:// and https:// are
                 OTLP/HTTP base URLs (OTLP/gRPC if the port is 4317), grpc://HOST:PORT and
                 grpcs://HOST:PORT are OTLP/gRPC
  --jaeger URL   also export to this Jaeger; repeatable
  --json         print the summary once more, as one JSON object on the last line
  --hold         go on serving after the requests, until Ctrl-C
  --help         print this

Environment:
  DATABASE_URL   postgres://… to use PostgreSQL instead of SQLite files (the schemas
                 spanweave_shop_users and spanweave_shop_orders in it are replaced)
  RUST_LOG, SPANWEAVE_FILTER, OTEL_… as everywhere with spanweave; they reach the services

Exit status: 0 on success, 1 if a service failed or answered wrongly, 2 for a wrong command
line, 130 if Ctrl-C came before the requests were over.";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Run(RunArgs),
    /// Not for people: one service, driven by its parent over standard input.
    Serve(Service),
    Help,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunArgs {
    pub(crate) requests: u64,
    pub(crate) out: Option<PathBuf>,
    pub(crate) otlp: Vec<String>,
    pub(crate) jaeger: Vec<String>,
    pub(crate) json: bool,
    pub(crate) hold: bool,
}

impl Default for RunArgs {
    fn default() -> Self {
        Self {
            requests: REQUESTS,
            out: None,
            otlp: Vec::new(),
            jaeger: Vec::new(),
            json: false,
            hold: false,
        }
    }
}

/// Why the command line is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ArgsError {
    Unknown(String),
    MissingValue(&'static str),
    NoValueTaken(&'static str),
    NotText(&'static str),
    NotANumber(String),
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unknown argument '{argument}'"),
            Self::MissingValue(flag) => write!(f, "{flag} needs a value"),
            Self::NoValueTaken(flag) => write!(f, "{flag} takes no value"),
            Self::NotText(flag) => write!(f, "the value of {flag} is not valid UTF-8"),
            Self::NotANumber(value) => {
                write!(f, "--requests needs a whole number, not '{value}'")
            }
        }
    }
}

impl std::error::Error for ArgsError {}

/// Reads the arguments after the program's name. `--flag VALUE` and `--flag=VALUE` are the same.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, ArgsError> {
    let mut args = args.into_iter();
    let mut run = RunArgs::default();
    let mut first = true;
    while let Some(argument) = args.next() {
        let (flag, mut inline) = split(&argument);
        let is_first = std::mem::take(&mut first);
        let mut value = |name: &'static str| {
            inline.take().or_else(|| args.next()).ok_or(ArgsError::MissingValue(name))
        };
        match flag.as_str() {
            "--requests" => {
                let value = value("--requests")?;
                let number = value.to_str().and_then(|text| text.parse().ok());
                run.requests = number
                    .ok_or_else(|| ArgsError::NotANumber(value.to_string_lossy().into_owned()))?;
            }
            "--out" => run.out = Some(PathBuf::from(value("--out")?)),
            "--otlp" => run.otlp.push(text("--otlp", value("--otlp")?)?),
            "--jaeger" => run.jaeger.push(text("--jaeger", value("--jaeger")?)?),
            "--json" => run.json = true,
            "--hold" => run.hold = true,
            "--help" | "-h" => return Ok(Action::Help),
            "serve" if is_first => {
                let name = value("serve")?;
                let service = Service::ALL.into_iter().find(|service| name == service.name());
                return service
                    .map(Action::Serve)
                    .ok_or_else(|| ArgsError::Unknown(name.to_string_lossy().into_owned()));
            }
            _ => return Err(ArgsError::Unknown(argument.to_string_lossy().into_owned())),
        }
        if inline.is_some() {
            return Err(ArgsError::NoValueTaken(if flag == "--json" {
                "--json"
            } else {
                "--hold"
            }));
        }
    }
    Ok(Action::Run(run))
}

/// `--flag=value` in two.
fn split(argument: &OsString) -> (String, Option<OsString>) {
    let text = argument.to_str();
    match text.filter(|text| text.starts_with("--")).and_then(|text| text.split_once('=')) {
        Some((flag, value)) => (flag.to_owned(), Some(value.into())),
        None => (argument.to_string_lossy().into_owned(), None),
    }
}

fn text(flag: &'static str, value: OsString) -> Result<String, ArgsError> {
    value.into_string().map_err(|_| ArgsError::NotText(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Action, ArgsError> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn without_arguments_it_runs_and_ends() {
        let Ok(Action::Run(args)) = run(&[]) else { panic!() };
        assert_eq!((args.requests, args.hold, args.json), (200, false, false));
    }

    #[test]
    fn every_flag_is_read_and_backends_are_repeatable() {
        let args = [
            "--requests",
            "7",
            "--out=dir=1",
            "--otlp",
            "http://a:1",
            "--otlp=http://b:2",
            "--jaeger",
            "http://c:3",
            "--json",
            "--hold",
        ];
        let expected = RunArgs {
            requests: 7,
            out: Some("dir=1".into()),
            otlp: vec!["http://a:1".into(), "http://b:2".into()],
            jaeger: vec!["http://c:3".into()],
            json: true,
            hold: true,
        };
        assert_eq!(run(&args), Ok(Action::Run(expected)));
    }

    #[test]
    fn help_wins_over_what_stands_before_it() {
        assert_eq!(run(&["--json", "--help"]), Ok(Action::Help));
        for flag in ["--requests", "--out", "--otlp", "--jaeger", "--json", "--hold", "--help"] {
            assert!(HELP.contains(flag), "{flag}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table: [(&[&str], &str); 8] = [
            (&["--reqests", "7"], "unknown argument '--reqests'"),
            (&["more"], "unknown argument 'more'"),
            (&["--requests"], "--requests needs a value"),
            (&["--requests", "-1"], "--requests needs a whole number, not '-1'"),
            (&["--requests=x"], "--requests needs a whole number, not 'x'"),
            (&["--json=yes"], "--json takes no value"),
            (&["--json", "serve", "users"], "unknown argument 'serve'"),
            (&["serve", "cash-desk"], "unknown argument 'cash-desk'"),
        ];
        for (args, message) in table {
            assert_eq!(run(args).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_service_is_named_after_serve() {
        assert_eq!(run(&["serve", "users"]), Ok(Action::Serve(Service::Users)));
    }
}
