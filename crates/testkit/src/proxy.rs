use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// A TCP proxy in front of a server, to break the connection to it in several ways.
///
/// Faults apply to open connections and to new ones, in both directions, from the moment the call returns
/// (bytes on their way may still arrive). Bytes are never lost while the connection lives: what is held
/// back goes on when the fault ends.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    commands: mpsc::UnboundedSender<Command>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    delay: Duration,
    blackhole: bool,
    /// A connection lives while this is what it was when it came.
    cuts: u64,
}

/// Closes or opens the listener, and answers when that is done.
#[derive(Debug)]
struct Command {
    listen: bool,
    done: std::sync::mpsc::SyncSender<io::Result<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl TcpProxy {
    /// Starts on a free port of 127.0.0.1. The target is an endpoint (`http://127.0.0.1:4317`) or an
    /// address with port; nothing has to listen there yet.
    #[must_use]
    #[track_caller]
    pub fn to(target: &str) -> Self {
        let authority = target
            .split_once("://")
            .map_or(target, |(_, rest)| rest)
            .split('/')
            .next()
            .unwrap_or_default();
        let target: SocketAddr = match authority.parse() {
            Ok(target) => target,
            Err(error) => panic!("{target:?} has no address with port: {error}"),
        };
        match Self::start(target) {
            Ok(proxy) => proxy,
            Err(error) => panic!("the proxy does not start: {error}"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an endpoint, `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds every chunk back for so long; zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Connections are accepted and stay open, but nothing passes; `false` ends it.
    pub fn blackhole(&self, on: bool) {
        self.faults.send_modify(|faults| faults.blackhole = on);
    }

    /// Closes all connections that are open; new ones are served.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Closes all connections and refuses new ones until [`up`](Self::up).
    #[track_caller]
    pub fn down(&self) {
        self.listen(false);
        self.cut();
    }

    /// Ends [`down`](Self::down), on the same port.
    #[track_caller]
    pub fn up(&self) {
        self.listen(true);
    }

    /// Number of connections accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Bytes passed on to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.counts.to_server.load(Ordering::Relaxed)
    }

    /// Bytes passed on to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.counts.to_client.load(Ordering::Relaxed)
    }

    fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (faults, observed) = watch::channel(Faults::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let served = Arc::clone(&counts);
        let thread =
            std::thread::Builder::new().name("testkit-proxy".to_owned()).spawn(move || {
                runtime.block_on(serve(listener, address, target, observed, inbox, served));
            })?;
        Ok(Self { address, faults, commands, counts, thread: Some(thread) })
    }

    #[track_caller]
    fn listen(&self, listen: bool) {
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        let sent = self.commands.send(Command { listen, done });
        match sent.ok().and_then(|()| answer.recv().ok()) {
            Some(Ok(())) => {}
            Some(Err(error)) => panic!("cannot listen on {} again: {error}", self.address),
            None => panic!("the proxy's thread has ended"),
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        // The thread ends when its inbox is closed, and takes all connections with it.
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            // It can only have panicked by a bug here, which shows as broken connections.
            thread.join().ok();
        }
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    faults: watch::Receiver<Faults>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    counts: Arc<Counts>,
) {
    let mut listener = Some(listener);
    loop {
        tokio::select! {
            command = inbox.recv() => {
                let Some(Command { listen, done }) = command else { return };
                let result = match (listen, listener.is_some()) {
                    (true, false) => listen_again(address).map(|opened| listener = Some(opened)),
                    (true, true) => Ok(()),
                    (false, _) => {
                        listener = None;
                        Ok(())
                    }
                };
                // Who asked waits for the answer; a test that ended meanwhile does not need it.
                done.send(result).ok();
            }
            Some(client) = accept(listener.as_ref()) => {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(client, target, faults.clone(), Arc::clone(&counts)));
            }
        }
    }
}

/// Never returns while nothing is open.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn listen_again(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before are still in TIME_WAIT on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
) {
    let mut cut = faults.clone();
    let born = cut.borrow().cuts;
    let pass = async {
        let mut hold = faults.clone();
        while hold.borrow_and_update().blackhole {
            hold.changed().await.map_err(io::Error::other)?;
        }
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(
            pump(from_client, to_server, faults.clone(), &counts.to_server),
            pump(from_server, to_client, faults.clone(), &counts.to_client),
        )?;
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        // Either end broke: dropping both halves passes that on.
        _ = pass => {}
        _ = cut.wait_for(|faults| faults.cuts != born) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    passed: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let delay = faults.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        while faults.borrow_and_update().blackhole {
            faults.changed().await.map_err(io::Error::other)?;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        passed.fetch_add(read as u64, Ordering::Relaxed);
    }
}
