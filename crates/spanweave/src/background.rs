//! Blocking work behind a future, without any runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use spanweave_core::sync::lock;

/// Runs `work` on a thread of its own; the future is ready when it is done. Dropping the future
/// does not stop the work. Where no thread can be had, the work is done here and now.
pub(crate) fn run<T, F>(name: &str, work: F) -> impl Future<Output = T> + Send + use<T, F>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let shared = Arc::new(Mutex::new(Shared { result: None, waker: None }));
    let slot = Arc::new(Mutex::new(Some(work)));
    let act = {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
        move || {
            let Some(work) = lock(&slot).take() else { return };
            let result = work();
            let waker = {
                let mut shared = lock(&shared);
                shared.result = Some(result);
                shared.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    };
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(act.clone());
    if started.is_err() {
        act();
    }
    Done(shared)
}

struct Shared<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

struct Done<T>(Arc<Mutex<Shared<T>>>);

impl<T> Future for Done<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut shared = lock(&self.0);
        match shared.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::thread::{self, Thread};
    use std::time::Duration;

    use super::*;

    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    fn the_future_is_woken_when_the_work_is_done() {
        let here = thread::current().id();
        let mut future = std::pin::pin!(run("worker", move || {
            thread::sleep(Duration::from_millis(20));
            (thread::current().id() != here, thread::current().name().map(str::to_owned))
        }));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        assert!(future.as_mut().poll(&mut cx).is_pending());
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
                assert_eq!(result, (true, Some("worker".to_owned())));
                break;
            }
            thread::park();
        }
    }
}
