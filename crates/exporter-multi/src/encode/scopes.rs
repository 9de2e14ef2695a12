//! Grouping spans by their instrumentation scope.

use std::collections::HashMap;

use opentelemetry::InstrumentationScope;
use spanweave_core::MaskedSpan;

/// Numbers the scopes of a batch in the order of their first use. `None` is the scope of spans
/// made with `tracing`.
#[derive(Default)]
pub(crate) struct Scopes<'a> {
    known: Vec<Option<&'a InstrumentationScope>>,
    index: HashMap<Option<&'a InstrumentationScope>, usize>,
    last: usize,
}

impl<'a> Scopes<'a> {
    /// The number of the span's scope.
    pub(crate) fn number(&mut self, span: &'a MaskedSpan) -> usize {
        let scope = span.scope().map(|scope| &**scope);
        // Neighbours mostly share their scope, and comparing is cheaper than hashing.
        if let Some(last) = self.known.get(self.last)
            && same(*last, scope)
        {
            return self.last;
        }
        self.last = *self.index.entry(scope).or_insert_with(|| {
            self.known.push(scope);
            self.known.len() - 1
        });
        self.last
    }

    /// The scopes, by number.
    pub(crate) fn known(&self) -> &[Option<&'a InstrumentationScope>] {
        &self.known
    }
}

fn same(a: Option<&InstrumentationScope>, b: Option<&InstrumentationScope>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => std::ptr::eq(a, b) || a == b,
        _ => false,
    }
}

/// The spans of each scope, scopes and spans in order.
pub(crate) fn by_scope(
    spans: &[MaskedSpan],
) -> Vec<(Option<&InstrumentationScope>, Vec<&MaskedSpan>)> {
    let mut scopes = Scopes::default();
    let mut groups: Vec<(Option<&InstrumentationScope>, Vec<&MaskedSpan>)> = Vec::new();
    for span in spans {
        let number = scopes.number(span);
        if number == groups.len() {
            groups.push((scopes.known().get(number).copied().flatten(), Vec::new()));
        }
        if let Some((_, members)) = groups.get_mut(number) {
            members.push(span);
        }
    }
    groups
}
