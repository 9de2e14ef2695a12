//! The whole system: real processes, sockets and backends, and the architecture's own promises.

mod invariants;

mod environment;
mod independent_collector;
mod interop;
mod prometheus;
mod shop_run;

mod faults;
mod outliving;
