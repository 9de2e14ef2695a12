//! Tests in a process of their own: this binary again, with one test and the variables of the
//! case.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

const CHILD: &str = "SPANWEAVE_TEST_CHILD";
/// What nothing here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Whether this is the process that does it.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// What the child process did.
pub(crate) struct Ran {
    pub(crate) output: Output,
    folder: tempfile::TempDir,
}

/// Runs the test `name` in a process of its own, with `variables` and a file for spans.
#[track_caller]
pub(crate) fn run(name: &str, variables: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("OTEL_")
            || text.starts_with("SPANWEAVE_")
            || text.starts_with("RUST_LOG")
        {
            command.env_remove(variable);
        }
    }
    command
        .env(CHILD, "1")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("SPANWEAVE_FILE", folder.path().join("spans.jsonl"))
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let ran = Ran { output, folder };
    assert!(ran.output.status.success(), "{}\n{}", ran.text(&ran.output.stdout), ran.stderr());
    ran
}

impl Ran {
    pub(crate) fn text(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        self.text(&self.output.stderr)
    }

    /// The log lines with this text.
    pub(crate) fn lines(&self, with: &str) -> Vec<String> {
        self.stderr().lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("spans.jsonl")
    }

    pub(crate) fn spans(&self) -> Vec<Value> {
        spans(&self.file())
    }
}

/// The spans in a file of OTLP JSON lines.
pub(crate) fn spans(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .flat_map(|line| list(&line, "resourceSpans"))
        .flat_map(|resource| list(&resource, "scopeSpans"))
        .flat_map(|scope| list(&scope, "spans"))
        .collect()
}

/// The names of spans.
pub(crate) fn names(spans: &[Value]) -> Vec<&str> {
    spans.iter().map(|span| span["name"].as_str().unwrap()).collect()
}
