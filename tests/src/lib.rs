//! What the whole-system tests share: the machine, the tools on it, and processes.
//!
//! Nothing here skips: a tool that is missing fails the test and says `run ./scripts/test`, which
//! installs it.

mod machine;
mod tools;

mod process;

mod postgres;
mod receiver;

pub use machine::{alone, shared, timed};
pub use postgres::Postgres;
pub use process::{Finished, Running, command};
pub use receiver::Receiver;
pub use tools::{promtool, python, script, shop, workspace};
