//! A shop of three services in three processes, traced by spanweave; see README.md.
//!
//! The parent starts an embedded collector, runs this binary again for each service, sends a load
//! and sums up what the collector received.

mod args;

// What runs in a service's process.
mod database;
mod protocol;
mod services;

// What runs in the parent.
mod exposition;
mod interrupt;
mod load;
mod supervise;

mod summary;

mod run;

use std::io::Write;
use std::process::ExitCode;

use args::Action;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Action::Run(args)) => run::main(args),
        Ok(Action::Serve(service)) => services::main(service),
        Ok(Action::Help) => {
            print(args::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            progress(&format!("{error}\nTry 'shop --help'."));
            ExitCode::from(2)
        }
    }
}

/// To standard output: what the shop was started for.
fn print(text: &str) {
    // Whoever closed the other end does not want the rest.
    writeln!(std::io::stdout().lock(), "{}", text.trim_end()).ok();
}

/// To standard error: what is going on.
fn progress(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}
