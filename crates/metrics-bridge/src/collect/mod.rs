//! From counts to families: our own names, alias sets, the ledger.

mod compose;
mod ledger;
mod spans;

pub(crate) use compose::{claimed_names, compose};
pub(crate) use ledger::{LedgerState, ledger_families};
pub(crate) use spans::{SpanFamilies, resource_info};
