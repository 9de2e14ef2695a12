//! Panics inside spans.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::clock::MonotonicNanos;
use crate::span::{Attributes, ErrorSource, SpanLimits, SpanRecord, Stored, Text};

/// Messages of panics are cut to this length, in bytes.
const MAX_MESSAGE: usize = 4 * 1024;

thread_local! {
    /// What the panic that unwinds this thread said, where the hook is installed.
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Chains a panic hook in front of the present one that remembers the message of a panic, so
/// that the spans it unwinds carry it. Spans are marked without it as well, but then nothing is
/// known of the message. Calling it again does nothing.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            remember(info);
            next(info);
        }));
    });
}

fn remember(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("a value that is no text");
    let message = super::visit::cut(message, MAX_MESSAGE);
    // A thread that is ending, or a panic while the message is read, loses only the message.
    MESSAGE
        .try_with(|slot| {
            if let Ok(mut slot) = slot.try_borrow_mut() {
                slot.clear();
                slot.push_str(message);
            }
        })
        .ok();
}

/// Marks a span that is left by unwinding.
pub(super) fn mark(record: &mut SpanRecord, now: MonotonicNanos, limits: &SpanLimits) {
    let message = MESSAGE
        .try_with(|slot| slot.try_borrow().map(|slot| slot.clone()).unwrap_or_default())
        .unwrap_or_default();
    record.error_type.offer(ErrorSource::RecordedType, "panic");
    record.set_error(if message.is_empty() { "panicked" } else { &message });
    if !record.head.recording {
        return;
    }
    let mut attributes = Attributes::default();
    attributes.push(Text::Static("exception.type"), Stored::Text(Text::Static("panic")));
    if !message.is_empty() {
        let message = attributes.append(&message);
        attributes.push(Text::Static("exception.message"), Stored::Text(message));
    }
    attributes.push(Text::Static("exception.escaped"), Stored::Bool(true));
    record.add_event(Text::Static("exception"), now, &attributes, limits.events);
}
