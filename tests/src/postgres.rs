//! A PostgreSQL server for one test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A PostgreSQL server on a free port of 127.0.0.1, without a password. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    data: TempDir,
    port: u16,
}

impl Postgres {
    /// Starts it.
    ///
    /// # Panics
    /// Where it is not installed or does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let data = match tempfile::Builder::new().prefix("spanweave-postgres-").tempdir() {
            Ok(data) => data,
            Err(error) => panic!("no folder for PostgreSQL: {error}"),
        };
        let port = match TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()) {
            Ok(address) => address.port(),
            Err(error) => panic!("no port for PostgreSQL: {error}"),
        };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(data.path()));
        }
        let server = Self { data, port };
        run(server.command("initdb").args(["--auth=trust", "--username=postgres", "--no-sync"]));
        let log = server.path().join("log");
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -k {}",
            server.path().display()
        );
        run(server.command("pg_ctl").args(["start", "-w", "-o", &options, "-l"]).arg(log));
        server
    }

    /// Its URL, with the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn path(&self) -> &Path {
        self.data.path()
    }

    /// A program of PostgreSQL on this server's folder; it refuses to be run by root.
    #[track_caller]
    fn command(&self, program: &str) -> Command {
        let program = programs().join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("--pgdata").arg(self.path()).current_dir(self.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // One that did not start needs no stopping.
        self.command("pg_ctl").args(["stop", "-m", "immediate"]).output().ok();
    }
}

/// Where Debian has PostgreSQL's programs, of the newest version.
#[track_caller]
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin"));
    match found.filter(|folder| folder.join("initdb").is_file()).max() {
        Some(folder) => folder,
        None => panic!("PostgreSQL (Debian: postgresql) is missing: run ./scripts/test"),
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[track_caller]
fn run(command: &mut Command) {
    // Not `output`: the server that pg_ctl leaves behind keeps its pipes open.
    let log = match tempfile::NamedTempFile::new() {
        Ok(log) => log,
        Err(error) => panic!("no file for what {command:?} says: {error}"),
    };
    let done = log.reopen().and_then(|stdout| {
        command.stdin(std::process::Stdio::null()).stdout(stdout).stderr(log.reopen()?).status()
    });
    if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
        let said = fs::read_to_string(log.path()).unwrap_or_default();
        panic!("{command:?}: {done:?}\n{said}");
    }
}
