//! Through a collector that others have written: rotel takes the spans and passes them on.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spanweave::{Backend, Compression};
use spanweave_testkit::TestCollector;
use spanweave_tests::python;

use crate::disk::ids;
use crate::support::{T, collector, line, make, telemetry, wait};

struct Rotel {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Rotel {
    fn to(collector: &TestCollector) -> Self {
        let find =
            "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
        let found = Command::new(python()).args(["-c", find]).output().unwrap();
        let program = String::from_utf8(found.stdout).unwrap();
        assert!(Path::new(program.trim()).is_file(), "rotel is missing: run ./scripts/test");
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (grpc, http) = (free(), free());
        let process = Command::new(program.trim())
            .arg("start")
            .args(["--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--otlp-http-endpoint", &http.to_string()])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "grpc"])
            .args(["--otlp-exporter-endpoint", &collector.grpc_endpoint()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rotel = Self { process, grpc, http };
        wait("rotel listens", T * 4, || {
            [grpc, http].iter().all(|address| TcpStream::connect(address).is_ok())
        });
        rotel
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn rotel_gets_the_same_spans_as_a_file_and_a_collector_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans.jsonl");
    let (direct, behind) = (collector(), collector());
    let rotel = Rotel::to(&behind);
    for (number, backend) in [
        Backend::otlp_grpc(format!("http://{}", rotel.grpc)),
        Backend::otlp_grpc(format!("http://{}", rotel.grpc)).compression(Compression::Gzip),
        Backend::otlp_http(format!("http://{}", rotel.http)),
        Backend::otlp_http(format!("http://{}", rotel.http)).compression(Compression::Gzip),
    ]
    .into_iter()
    .enumerate()
    {
        let (telemetry, dispatch) = telemetry([
            backend.named("rotel"),
            Backend::otlp_http(direct.http_endpoint()).named("direct"),
            Backend::file(&path).named("file"),
        ]);
        make(&dispatch, 1000);
        let report = telemetry.shutdown(T);
        for name in ["rotel", "direct", "file"] {
            assert_eq!(line(&report, name).delivered, 1000, "{report:?}");
        }
        wait("rotel passes all on", Duration::from_secs(20), || {
            behind.unique_spans() >= (number + 1) * 1000
        });
    }
    let of = |collector: &TestCollector| -> HashSet<String> {
        collector.store().spans().iter().map(|span| span.span_id.to_string()).collect()
    };
    assert_eq!(of(&behind), of(&direct));
    assert_eq!(of(&behind), ids(&[&path]));
}
