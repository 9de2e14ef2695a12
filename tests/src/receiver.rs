//! The independent OTLP receiver, `scripts/otlp_receiver.py`.

use std::time::Duration;

use serde_json::Value;
use spanweave_testkit::{PATIENCE, http};

use crate::{Running, script};

/// An OTLP receiver that shares no code with this project. It stops when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    _process: Running,
    grpc: u64,
    http: u64,
}

impl Receiver {
    /// Starts it on free ports of 127.0.0.1.
    ///
    /// # Panics
    /// Where Python or one of its packages is missing.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let mut command = script("otlp_receiver.py");
        command.arg("--until-stdin-closes");
        let mut process = Running::start(command);
        let ports = process.json(PATIENCE);
        let port = |name: &str| match ports[name].as_u64() {
            Some(port) => port,
            None => panic!("no port for {name} in {ports}"),
        };
        let (grpc, http) = (port("grpc"), port("http"));
        Self { _process: process, grpc, http }
    }

    /// The endpoint for OTLP/gRPC.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// The base URL for OTLP/HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// All spans once there are `count`, as `scripts/otlp.py` writes them.
    ///
    /// # Panics
    /// Where there are fewer in the end.
    #[must_use]
    #[track_caller]
    pub fn wait_for_spans(&self, count: usize) -> Vec<Value> {
        // The client gives up at the same time as it gets the answer; the server is to be earlier.
        let wait = PATIENCE.saturating_sub(Duration::from_secs(2)).as_secs();
        let spans = self.get(&format!("/spans?min={count}&wait={wait}"));
        let spans = spans.as_array().cloned().unwrap_or_default();
        assert!(spans.len() >= count, "{} spans instead of {count}", spans.len());
        spans
    }

    /// What it found wrong with what it was sent.
    #[must_use]
    #[track_caller]
    pub fn problems(&self) -> Vec<String> {
        let stats = self.get("/stats");
        let problems = stats["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = http::get(&format!("{}{path}", self.http_endpoint()));
        match serde_json::from_slice(&answer.body) {
            Ok(value) => value,
            Err(error) => panic!("{path}: {error}: {}", answer.text()),
        }
    }
}
