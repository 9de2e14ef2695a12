//! A local OTLP/HTTP sink in a process of its own: it answers 200 and counts spans.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

static SPANS: AtomicU64 = AtomicU64::new(0);

/// The sink's process, from the outside.
pub(crate) struct Sink {
    process: Child,
    port: u16,
}

impl Sink {
    /// Starts a sink on a free port.
    pub(crate) fn start() -> std::io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().ok_or_else(|| std::io::Error::other("no stdout"))?;
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().parse().map_err(std::io::Error::other)?;
        Ok(Self { process, port })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Spans that have arrived.
    pub(crate) fn spans(&self) -> std::io::Result<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /spans HTTP/1.1\r\nhost: sink\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        body.trim().parse().map_err(std::io::Error::other)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The sink's own process: serves until it is killed or its standard input closes.
pub(crate) fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let mut out = std::io::stdout();
    writeln!(out, "{port}")?;
    out.flush()?;
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        std::io::stdin().read_to_end(&mut rest).ok();
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || connection(stream).ok());
    }
    Ok(())
}

fn connection(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(1 << 18, stream);
    let mut body = Vec::new();
    loop {
        let (mut length, mut line, mut first) = (0, String::new(), String::new());
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            if header.is_empty() {
                break;
            }
        }
        body.resize(length, 0);
        input.read_exact(&mut body)?;
        let is_query = first.starts_with("GET");
        let answer = if is_query {
            SPANS.load(Ordering::SeqCst).to_string()
        } else {
            SPANS.fetch_add(count_spans(&body).unwrap_or(0), Ordering::SeqCst);
            String::new()
        };
        write!(
            output,
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
        if is_query {
            return Ok(());
        }
    }
}

/// Counts `resource_spans.scope_spans.spans`: field 1, in it field 2, in it field 2. A scan is
/// enough, so that the sink takes little of the machine that is measured.
fn count_spans(request: &[u8]) -> Option<u64> {
    let mut spans = 0;
    for resource_spans in fields(request, 1) {
        for scope_spans in fields(resource_spans?, 2) {
            for span in fields(scope_spans?, 2) {
                span?;
                spans += 1;
            }
        }
    }
    Some(spans)
}

/// The length-delimited fields with a number; `None` as the last one where the bytes are broken.
fn fields(mut bytes: &[u8], wanted: u64) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let broken = Some(None);
            let Some(tag) = varint(&mut bytes) else { return broken };
            if tag & 7 == 2 {
                let Some(length) = varint(&mut bytes) else { return broken };
                let Some((field, rest)) = bytes.split_at_checked(length as usize) else {
                    bytes = &[];
                    return broken;
                };
                bytes = rest;
                if tag >> 3 == wanted {
                    return Some(Some(field));
                }
                continue;
            }
            let fixed = match tag & 7 {
                0 => varint(&mut bytes).map(|_| 0),
                1 => Some(8),
                5 => Some(4),
                _ => None,
            };
            match fixed.and_then(|skip| bytes.get(skip..)) {
                Some(rest) => bytes = rest,
                None => {
                    bytes = &[];
                    return broken;
                }
            }
        }
        None
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
