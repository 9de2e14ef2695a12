//! Comparisons of spanweave with its peers, in one run on one machine.
//!
//! `cargo run --release -p spanweave-benches -- overhead [--rounds N] [--json]`

mod alloc;
mod report;
mod sink;
mod workload;

mod peers;

mod overhead;

use std::process::ExitCode;

use report::Report;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const HELP: &str = "\
usage: spanweave-benches overhead [--rounds N] [--json]

overhead   what a span costs the application's thread: nanoseconds, allocations
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
        ["child", "overhead", ..] => overhead::child(&arguments[2..]),
        [command, options @ ..] if !command.starts_with('-') => {
            let options = Options::parse(options)?;
            let tables = match *command {
                "overhead" => overhead::compare(options.rounds)?,
                other => return Err(format!("no such comparison: {other}\n{HELP}").into()),
            };
            print(&Report::new(options.rounds, tables), options.json)
        }
        _ => Err(HELP.into()),
    }
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
