//! What delivery must survive, each fault injected for real, against backends that count unique
//! spans. `SPANWEAVE_LONG=1` makes them long.

mod support;

mod disk;
mod load;
mod network;
mod processes;
mod relay;
mod replies;
