//! Who may use the machine at the same time, and how long something took.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

static MACHINE: RwLock<()> = RwLock::new(());

/// For a test whose times must not be another test's: the others that say [`shared`] wait.
#[must_use = "the machine is held while the guard lives"]
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    // A test that failed leaves nothing behind that this lock guards.
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that keeps the machine busy.
#[must_use = "the machine is held while the guard lives"]
pub fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and says how long it took.
#[allow(clippy::disallowed_methods, reason = "real time is what is tested")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
