//! Comparisons of spanweave with its peers, in one run on one machine.
//!
//! `cargo run --release -p spanweave-benches -- overhead|metrics [--rounds N] [--json]`

mod alloc;
mod report;
mod sink;
mod workload;

mod peers;

mod delivery;
mod metrics;
mod overhead;

mod faults;
mod soak;

use std::process::ExitCode;

use report::Report;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const HELP: &str = "\
usage: spanweave-benches overhead|metrics [--rounds N] [--json]
       spanweave-benches faults | soak [--minutes N]

overhead   what a span costs the application's thread: nanoseconds, allocations
delivery   what delivering a million spans costs the process: CPU time, spans a second
fanout     three backends instead of one
metrics    what it costs to measure a span, and to scrape what was measured
faults     what is lost to each fault, here and with the stock SDK (a table in Markdown)
soak       minutes of load with backends that come and go; fails if memory grows or spans are lost
";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sink"] => Ok(sink::serve()?),
        ["child", "faults", ..] => faults::child(&arguments[2..]),
        ["faults"] => say(&faults::compare()?),
        ["soak"] => soak::run(10.0),
        ["soak", "--minutes", minutes] => {
            soak::run(minutes.parse().map_err(|_| "--minutes takes a number")?)
        }
        ["child", "overhead", ..] => overhead::child(&arguments[2..]),
        ["child", "delivery", ..] => delivery::child(&arguments[2..]),
        [command, options @ ..] if !command.starts_with('-') => {
            let options = Options::parse(options)?;
            let tables = match *command {
                "overhead" => overhead::compare(options.rounds)?,
                "delivery" => delivery::delivery(options.rounds)?,
                "fanout" => delivery::fanout(options.rounds)?,
                "metrics" => metrics::compare(options.rounds)?,
                other => return Err(format!("no such comparison: {other}\n{HELP}").into()),
            };
            print(&Report::new(options.rounds, tables), options.json)
        }
        _ => Err(HELP.into()),
    }
}

#[allow(clippy::print_stdout)]
fn say(text: &str) -> Result<(), Failure> {
    print!("{text}");
    Ok(())
}

struct Options {
    rounds: usize,
    json: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self { rounds: 9, json: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--json" => options.json = true,
                "--rounds" => {
                    let number = words.next().ok_or("--rounds takes a number")?;
                    options.rounds = number.parse().map_err(|_| "--rounds takes a number")?;
                }
                other => return Err(format!("unknown option {other}\n{HELP}").into()),
            }
        }
        Ok(options)
    }
}

#[allow(clippy::print_stdout)]
fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(())
}
