//! TLS, proxies, Unix sockets, headers that rotate, compression.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use spanweave_core::SpanSink;
use spanweave_core::clock::{self, Deadline};
use spanweave_exporter::{Backend, Compression, MultiExporter};
use support::{Server, batch, ok, wait_until};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn exporter(backend: Backend) -> MultiExporter {
    MultiExporter::builder().export_to(backend).build().unwrap()
}

/// An authority, and what it has signed, as files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn sign(&self, host: &str, expired: bool) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self, host: &str, expired: bool, clients: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = self.sign(host, expired);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap().into()
    }
}

/// Answers 200 over TLS; counts requests.
fn tls_server(config: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, count) = (config.clone(), count.clone());
            thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                answer(StreamOwned::new(connection, stream), &count);
            });
        }
    });
    (address, requests)
}

/// Reads requests and answers each with 200.
fn answer(stream: impl Read + Write, count: &AtomicUsize) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut len = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        count.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

fn https(address: SocketAddr) -> Backend {
    Backend::otlp_http(format!("https://localhost:{}", address.port()))
        .timeout(Duration::from_secs(2))
}

#[test]
fn an_authority_of_ones_own_is_trusted_and_only_then() {
    let authority = Authority::new();
    let (address, requests) = tls_server(authority.server("localhost", false, false));
    let trusting = exporter(https(address).certificate(authority.ca()));
    trusting.accept(batch(0..3));
    assert_eq!(trusting.shutdown(soon())[0].delivered, 3);
    let public = exporter(https(address));
    public.accept(batch(0..3));
    let report = public.shutdown(Deadline::after(Duration::from_millis(300))).remove(0);
    assert_eq!((report.delivered, requests.load(Ordering::Relaxed)), (0, 1));
    assert!(report.last_error.is_some_and(|error| error.contains("certificate")));
}

#[test]
fn expired_certificates_and_other_names_get_no_spans() {
    let authority = Authority::new();
    for config in [
        authority.server("localhost", true, false),
        authority.server("elsewhere.example.com", false, false),
    ] {
        let (address, requests) = tls_server(config);
        let exporter = exporter(https(address).certificate(authority.ca()));
        exporter.accept(batch(0..3));
        let report = exporter.shutdown(Deadline::after(Duration::from_millis(300))).remove(0);
        assert_eq!((report.delivered, requests.load(Ordering::Relaxed)), (0, 0));
        assert!(report.last_error.is_some_and(|error| error.contains("certificate")));
    }
}

#[test]
fn a_client_shows_its_certificate_where_it_is_asked_for() {
    let authority = Authority::new();
    let (address, _) = tls_server(authority.server("localhost", false, true));
    let (certificate, key) = authority.sign("client", false);
    let certificate = authority.write("client.pem", &certificate.pem());
    let key = authority.write("client.key", &key.serialize_pem());
    let backend = https(address).certificate(authority.ca());
    let known = exporter(backend.client_certificate(&certificate).client_key(&key));
    known.accept(batch(0..3));
    assert_eq!(known.shutdown(soon())[0].delivered, 3);
    let unknown = exporter(https(address).certificate(authority.ca()));
    unknown.accept(batch(0..3));
    assert_eq!(unknown.shutdown(Deadline::after(Duration::from_millis(300)))[0].delivered, 0);

    let half = https(address).client_certificate(&certificate);
    let error = MultiExporter::builder().export_to(half).build().unwrap_err();
    assert!(error.is_tls() && error.to_string().contains("belong together"), "{error}");
    let missing = https(address).certificate("/does/not/exist.pem");
    let error = MultiExporter::builder().export_to(missing).build().unwrap_err();
    assert!(error.is_tls() && error.to_string().contains("/does/not/exist.pem"), "{error}");
}

#[test]
fn a_handshake_that_stalls_and_a_server_without_tls_end_in_time() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = Server::start(|_, _| ok());
    for address in [silent.local_addr().unwrap(), plain.address] {
        let timeout = Duration::from_millis(300);
        let exporter = exporter(https(address).certificate(authority.ca()).timeout(timeout));
        let start = clock::instant();
        exporter.accept(batch(0..3));
        wait_until("the attempt ends", || exporter.reports()[0].last_error.is_some());
        assert!(start.elapsed() < timeout * 2, "{:?}", start.elapsed());
        assert_eq!(exporter.shutdown(Deadline::after(Duration::ZERO))[0].delivered, 0);
    }
    assert_eq!(plain.received().len(), 0);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otel.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || answer(stream, &count));
        }
    });
    let exporter = exporter(Backend::otlp_http(format!("unix:{}", path.display())));
    exporter.accept(batch(0..3));
    assert_eq!(exporter.shutdown(soon())[0].delivered, 3);
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[test]
fn headers_of_a_callback_are_asked_for_before_each_attempt_and_never_shown() {
    let server = Server::start(|number, _| match number {
        0 => support::Answer::Reply(503, Vec::new(), b"token-1-canary is old".to_vec()),
        _ => ok(),
    });
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let backend = Backend::otlp_http(server.url()).headers_with(move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(vec![("authorization".to_owned(), format!("token-{number}-canary"))])
        }
    });
    assert!(!format!("{backend:?}").contains("canary"));
    let exporter = exporter(backend);
    exporter.accept(batch(0..3));
    let report = exporter.shutdown(soon()).remove(0);
    assert_eq!(report.delivered, 3);
    let tokens: Vec<_> =
        server.received().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["token-1-canary", "token-2-canary"]);
    assert!(!format!("{report:?}").contains("canary"), "{report:?}");
}

#[test]
fn a_callback_that_fails_or_hangs_is_an_attempt_that_failed() {
    let server = Server::start(|_, _| ok());
    let failing = Backend::otlp_http(server.url())
        .headers_with(|| async { Err("canary".into()) })
        .timeout(Duration::from_millis(200));
    let hanging = Backend::otlp_http(server.url())
        .headers_with(std::future::pending)
        .timeout(Duration::from_millis(200));
    for backend in [failing, hanging] {
        let exporter = exporter(backend);
        exporter.accept(batch(0..3));
        wait_until("the attempt fails", || exporter.reports()[0].last_error.is_some());
        let report = exporter.shutdown(Deadline::after(Duration::ZERO)).remove(0);
        assert!(report.delivered == 0 && !format!("{report:?}").contains("canary"), "{report:?}");
    }
    assert_eq!(server.received().len(), 0);
}

#[test]
fn zstd_is_understood_by_an_independent_decoder() {
    let server = Server::start(|_, _| ok());
    let exporter = exporter(Backend::otlp_http(server.url()).compression(Compression::Zstd));
    exporter.accept(batch(0..100));
    exporter.shutdown(soon());
    let received = server.received().remove(0);
    assert_eq!(received.header("content-encoding"), Some("zstd"));
    assert_eq!(received.spans().len(), 100);
}

/// Records the request lines of a proxy; answers `CONNECT` by connecting.
#[test]
fn plain_http_is_forwarded_by_a_proxy_and_tls_goes_through_a_tunnel() {
    let authority = Authority::new();
    let (tls, _) = tls_server(authority.server("localhost", false, false));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    thread::spawn(move || {
        for stream in proxy.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || serve_proxy(stream, &seen));
        }
    });
    // The variables are read when the exporter is built, so this needs a process of its own.
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new(program)
        .args(["--exact", "proxied_child", "--nocapture"])
        .env("http_proxy", format!("http://user:pass@{address}"))
        .env("https_proxy", format!("http://user:pass@{address}"))
        .env("SPANWEAVE_TEST_TLS", tls.port().to_string())
        .env("SPANWEAVE_TEST_CA", authority.ca())
        .status();
    assert!(status.unwrap().success());
    let lines = lines.lock().unwrap().clone();
    let has = |start: &str| lines.iter().any(|line: &String| line.starts_with(start));
    assert!(has("POST http://collector.invalid:4318/v1/traces"), "{lines:?}");
    assert!(has(&format!("CONNECT localhost:{}", tls.port())), "{lines:?}");
    let authorized =
        lines.iter().filter(|line| line.to_lowercase().starts_with("proxy-authorization: basic "));
    assert_eq!(authorized.count(), 2, "{lines:?}");
}

/// The process behind the test above; on its own it does nothing.
#[test]
fn proxied_child() {
    let Ok(port) = std::env::var("SPANWEAVE_TEST_TLS") else { return };
    let plain = exporter(Backend::otlp_http("http://collector.invalid:4318"));
    let tls = Backend::otlp_http(format!("https://localhost:{port}"))
        .certificate(std::env::var("SPANWEAVE_TEST_CA").unwrap());
    let tls = exporter(tls);
    plain.accept(batch(0..3));
    tls.accept(batch(0..3));
    assert_eq!((plain.shutdown(soon())[0].delivered, tls.shutdown(soon())[0].delivered), (3, 3));
}

fn serve_proxy(mut stream: TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    seen.lock().unwrap().extend(head.clone());
    if let Some(target) = head[0].strip_prefix("CONNECT ") {
        let upstream = TcpStream::connect(target.split(' ').next()?).ok()?;
        stream.write_all(b"HTTP/1.1 200 ok\r\n\r\n").ok()?;
        let (mut from, mut to) = (upstream.try_clone().ok()?, stream.try_clone().ok()?);
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut upstream = upstream;
        std::io::copy(&mut reader, &mut upstream).ok()?;
    } else {
        let len = head.iter().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned())
        });
        let mut body = vec![0; len?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
    Some(())
}
