//! An allocator that counts what the calling thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Counts allocations and bytes of each thread.
pub(crate) struct Counting;

fn count(bytes: usize) {
    // A thread that is ending has no counter any more; what it allocates is nobody's.
    COUNT
        .try_with(|count| {
            let (allocations, total) = count.get();
            count.set((allocations + 1, total + bytes as u64));
        })
        .ok();
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate
// (the thread-local is constant-initialised and has no destructor).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations and bytes of the calling thread up to now.
pub(crate) fn thread_total() -> (u64, u64) {
    COUNT.with(Cell::get)
}
