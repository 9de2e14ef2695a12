//! From counts to families: our own names, alias sets, the ledger, the process.

mod group;

mod conventions;
mod edges;
mod spans;

mod ledger;
mod process;

mod compose;

pub(crate) use compose::{add_missing, claimed_names, compose};
pub(crate) use ledger::{LedgerState, ledger_families};
pub(crate) use process::process_families;
pub(crate) use spans::{SpanFamilies, resource_info, resource_labels};
