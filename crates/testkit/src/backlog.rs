use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio::net::TcpSocket;

/// A port whose connects hang: see [`full_backlog_listener`].
#[derive(Debug)]
pub struct FullBacklog {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullBacklog {
    /// Where connects hang.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an endpoint, `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Listens on 127.0.0.1, never accepts, and fills the queue of waiting connections, so that a further
/// connect gets neither an answer nor a refusal: what a host behind a dropping firewall looks like.
#[must_use]
#[track_caller]
pub fn full_backlog_listener() -> FullBacklog {
    /// A connect on loopback that takes longer than this is not going to succeed.
    const HANGS_AFTER: Duration = Duration::from_millis(250);
    /// The kernel takes a few more than the backlog asked for, but not that many.
    const MOST: usize = 64;

    let listener = match listen_without_backlog() {
        Ok(listener) => listener,
        Err(error) => panic!("cannot listen: {error}"),
    };
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => panic!("no address: {error}"),
    };
    let mut waiting = Vec::new();
    while waiting.len() < MOST {
        match TcpStream::connect_timeout(&address, HANGS_AFTER) {
            Ok(stream) => waiting.push(stream),
            Err(_) => {
                return FullBacklog { address, _listener: listener, _waiting: waiting };
            }
        }
    }
    panic!("{MOST} connections do not fill the backlog");
}

fn listen_without_backlog() -> std::io::Result<TcpListener> {
    // std's listener has a fixed backlog; tokio's socket does not. The runtime only serves to register it,
    // on a thread of its own because the caller may be inside another one.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        socket.listen(1)?.into_std()
    })
    .join()
    .unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_gets_neither_an_answer_nor_a_refusal() {
        let full = full_backlog_listener();
        for _ in 0..2 {
            let error = TcpStream::connect_timeout(&full.address(), Duration::from_millis(150))
                .unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        }
    }
}
