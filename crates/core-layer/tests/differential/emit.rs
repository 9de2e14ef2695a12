//! The callsites of programs. A callsite is static, so each has all fields that may be set and
//! leaves out those that are not.

use tracing::field::Empty;
use tracing::{Span, Value, event, span};

use crate::program::{Datum, EventFields, Failure, Fields, Level};

/// Where a span or event hangs.
pub(crate) enum Parent<'a> {
    Contextual,
    Root,
    Under(&'a Span),
}

fn datum(datum: &Option<Datum>) -> Option<Box<dyn Value + '_>> {
    datum.as_ref().map(Datum::value)
}

macro_rules! by_parent {
    ($parent:expr, $make:ident, $($rest:tt)*) => {
        match $parent {
            Parent::Contextual => $make!($($rest)*),
            Parent::Root => $make!(parent: None, $($rest)*),
            Parent::Under(span) => $make!(parent: span, $($rest)*),
        }
    };
}

/// A new span. `n` tells it apart from all others of the program.
pub(crate) fn open(parent: &Parent<'_>, level: Level, n: i64, fields: &Fields) -> Span {
    macro_rules! open {
        ($level:ident) => {
            by_parent!(
                *parent,
                span,
                tracing::Level::$level,
                "work",
                n,
                a = datum(&fields.a),
                b = datum(&fields.b),
                late = Empty,
                password = fields.password,
                failure = fields.failure.as_ref().map(Failure::value),
                otel.name = fields.name,
                otel.kind = fields.kind.map(tracing::field::display),
                otel.status_code = fields.status_code,
                otel.status_description = fields.status_description,
            )
        };
    }
    match level {
        Level::Error => open!(ERROR),
        Level::Warn => open!(WARN),
        Level::Debug => open!(DEBUG),
    }
}

/// An event of number `n`.
pub(crate) fn emit(parent: &Parent<'_>, level: Level, n: i64, fields: &EventFields) {
    macro_rules! emit {
        ($level:ident) => {
            by_parent!(
                *parent,
                event,
                tracing::Level::$level,
                message = datum(&fields.message),
                n,
                error = datum(&fields.error),
                a = datum(&fields.a),
                b = datum(&fields.b),
            )
        };
    }
    match level {
        Level::Error => emit!(ERROR),
        Level::Warn => emit!(WARN),
        Level::Debug => emit!(DEBUG),
    }
}
