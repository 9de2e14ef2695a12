//! Child processes: what they say line by line, and that none stays behind.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// A command in an environment without settings of telemetry: the test gives them.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["OTEL_", "SPANWEAVE_", "RUST_LOG"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// A process that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    program: String,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its lines on standard output that had not been read.
    pub stdout: Vec<String>,
    /// All of its standard error.
    pub stderr: String,
}

impl Running {
    /// Starts the process; its standard input stays open until [`finish`](Self::finish).
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = format!("{command:?}");
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{program} does not start: {error}"),
        };
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stderr = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // What came before an error is still worth showing.
                stderr.read_to_end(&mut bytes).ok();
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, stderr, program }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on its standard output.
    ///
    /// # Panics
    /// Where there is none within `patience`.
    #[track_caller]
    pub fn line(&mut self, patience: Duration) -> String {
        match self.lines.recv_timeout(patience) {
            Ok(line) => line,
            Err(error) => {
                let stderr = self.kill();
                panic!("{} says nothing ({error}); on stderr:\n{stderr}", self.program)
            }
        }
    }

    /// The next line as JSON.
    ///
    /// # Panics
    /// Where there is none within `patience`, or where it is not JSON.
    #[track_caller]
    pub fn json(&mut self, patience: Duration) -> Value {
        let line = self.line(patience);
        match serde_json::from_str(&line) {
            Ok(value) => value,
            Err(error) => panic!("{} says {line:?}: {error}", self.program),
        }
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// Where it does not end within `patience`.
    #[track_caller]
    pub fn finish(mut self, patience: Duration) -> Finished {
        self.stdin = None;
        let mut stdout = Vec::new();
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) => stdout.push(line),
                // The process has closed its output: it has ended or is about to.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let stderr = self.kill();
                    panic!("{} does not end; on stderr:\n{stderr}", self.program)
                }
            }
        }
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => panic!("{} cannot be waited for: {error}", self.program),
        };
        Finished { status, stdout, stderr: self.stderr() }
    }

    fn kill(&mut self) -> String {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
        self.stderr()
    }

    fn stderr(&mut self) -> String {
        self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Finished {
    /// Itself, where the process ended well.
    ///
    /// # Panics
    /// Where it did not.
    #[track_caller]
    pub fn successful(self) -> Self {
        assert!(
            self.status.success(),
            "{}; on stdout:\n{}\non stderr:\n{}",
            self.status,
            self.stdout.join("\n"),
            self.stderr
        );
        self
    }

    /// The last line on standard output as JSON.
    ///
    /// # Panics
    /// Where there is none, or where it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        let line = self.stdout.last().map(String::as_str).unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => {
                panic!("the last line is {line:?}: {error}; on stderr:\n{}", self.stderr)
            }
        }
    }
}
