//! The command line: sends what was recorded to a backend.
#![allow(clippy::print_stdout, reason = "this is how it answers")]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use spanweave_exporter::replay::{self, Progress};
use spanweave_exporter::{Backend, Compression};

const HELP: &str = "\
usage: spanweave replay DIR_OR_FILE --to URL [options]

Sends a spool directory, a segment of one (.seg), or a file of OTLP JSON lines to a backend.
Nothing of the source is changed.

  --to URL              OTLP/HTTP: http://host:4318 (v1/traces is appended), unix:/path
  --grpc                the URL is one of OTLP/gRPC (spools only)
  --header NAME=VALUE   sent with each request; may be repeated
  --compression NAME    gzip or zstd
  --certificate FILE    PEM that the server's certificate is checked against
  --wait SECONDS        for the last spans; 60 by default

The exit status is 0 if every span was delivered.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spanweave: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::from(2)
        }
    }
}

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, PartialEq)]
struct Options {
    source: PathBuf,
    to: String,
    grpc: bool,
    headers: Vec<(String, String)>,
    compression: Compression,
    certificate: Option<PathBuf>,
    wait: Duration,
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut words = arguments.iter();
    match words.next().map(String::as_str) {
        Some("replay") => {}
        Some(other) => return Err(format!("no such command: {other}\n{HELP}")),
        None => return Err(HELP.to_owned()),
    }
    let (mut source, mut to, mut grpc) = (None, None, false);
    let (mut headers, mut compression, mut certificate) = (Vec::new(), Compression::None, None);
    let mut wait = Duration::from_secs(60);
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} takes a value"));
        match word.as_str() {
            "--to" => to = Some(value()?),
            "--grpc" => grpc = true,
            "--header" => {
                let text = value()?;
                let (name, value) = text.split_once('=').ok_or("--header takes NAME=VALUE")?;
                headers.push((name.to_owned(), value.to_owned()));
            }
            "--compression" => {
                compression = match value()?.as_str() {
                    "gzip" => Compression::Gzip,
                    "zstd" => Compression::Zstd,
                    "none" => Compression::None,
                    _ => return Err("--compression takes gzip or zstd".to_owned()),
                }
            }
            "--certificate" => certificate = Some(PathBuf::from(value()?)),
            "--wait" => {
                let seconds = value()?.parse().map_err(|_| "--wait takes seconds")?;
                wait = Duration::from_secs(seconds);
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            path if source.is_none() => source = Some(PathBuf::from(path)),
            _ => return Err("one source at a time".to_owned()),
        }
    }
    let source = source.ok_or(format!("what is to be replayed?\n{HELP}"))?;
    let to = to.ok_or(format!("--to is missing\n{HELP}"))?;
    Ok(Options { source, to, grpc, headers, compression, certificate, wait })
}

fn run(arguments: &[String]) -> Result<bool, Failure> {
    let options = parse(arguments)?;
    let mut backend = match options.grpc {
        true => Backend::otlp_grpc(options.to),
        false => Backend::otlp_http(options.to),
    };
    backend = backend.named("replay").compression(options.compression);
    for (name, value) in options.headers {
        backend = backend.header(name, value);
    }
    if let Some(certificate) = options.certificate {
        backend = backend.certificate(certificate);
    }
    let mut show = Shown::new();
    let done = replay::replay(&options.source, backend, options.wait, |now| show.update(now))?;
    show.end();
    println!(
        "{} spans read, {} delivered, {} refused, {} not sent; {} records damaged",
        done.read, done.delivered, done.dropped, done.pending, done.damaged
    );
    if let Some(error) = done.last_error.as_ref().filter(|_| !done.is_complete()) {
        println!("the backend said: {error}");
    }
    Ok(done.is_complete())
}

/// Progress on a terminal, in place; nothing elsewhere.
struct Shown {
    terminal: bool,
    any: bool,
}

impl Shown {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), any: false }
    }

    fn update(&mut self, now: &Progress) {
        if self.terminal {
            self.any = true;
            let mut out = std::io::stderr();
            // A terminal that went away is no reason to stop.
            write!(
                out,
                "\r{} read, {} delivered, {} pending ",
                now.read, now.delivered, now.pending
            )
            .and_then(|()| out.flush())
            .ok();
        }
    }

    fn end(&self) {
        if self.any {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_of_words_becomes_options() {
        let options =
            parsed("replay dir --to http://h:1 --header a=b=c --compression zstd --wait 5");
        let options = options.unwrap();
        assert_eq!((options.source, options.to.as_str()), ("dir".into(), "http://h:1"));
        assert_eq!(options.headers, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(options.compression, Compression::Zstd);
        assert_eq!(options.wait, Duration::from_secs(5));
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (line, said) in [
            ("replay dir", "--to is missing"),
            ("replay --to http://h", "what is to be replayed"),
            ("replay dir --to", "takes a value"),
            ("replay dir --to u --quick", "unknown option --quick"),
            ("play", "no such command"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
