//! Locks whose poison is ignored.
//!
//! A panic in foreign code (a field's `Debug`, a hook) is caught before it can leave data in
//! pieces, so a poisoned lock carries no information here; telemetry goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, whether it is poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
