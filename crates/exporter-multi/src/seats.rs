//! Which backends use which spools, and how their lanes see those.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lane::{Backlog, Request};
use crate::spool::{Member, Options, Position, Spool, Ticket};

/// Which backends share which spool.
#[derive(Default)]
pub(crate) struct SpoolPlans(Vec<(PathBuf, Options, Vec<Member>)>);

impl SpoolPlans {
    /// Notes that a backend uses a spool.
    pub(crate) fn add(&mut self, directory: PathBuf, options: Options) {
        match self.0.iter_mut().find(|(known, ..)| *known == directory) {
            Some((_, known, _)) => *known = known.larger(options),
            None => self.0.push((directory, options, Vec::new())),
        }
    }

    /// The number of the spool, and of the member in it.
    pub(crate) fn join(&mut self, directory: &Path, member: Member) -> Seat {
        let mut seat = Seat { spool: 0, member: 0, stream: member.stream };
        for (number, (known, _, members)) in self.0.iter_mut().enumerate() {
            if known == directory {
                (seat.spool, seat.member) = (number, members.len());
                members.push(member);
                break;
            }
        }
        seat
    }

    pub(crate) fn open(self) -> Vec<Arc<Spool>> {
        let open =
            |(directory, options, members)| Arc::new(Spool::open(directory, options, members));
        self.0.into_iter().map(open).collect()
    }
}

/// A backend's place in a spool.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) spool: usize,
    pub(crate) member: usize,
    pub(crate) stream: u32,
}

/// A spool, as a backend's lane sees it.
pub(crate) struct SpoolBacklog {
    pub(crate) spool: Arc<Spool>,
    pub(crate) member: usize,
}

impl Backlog<Arc<Request>> for SpoolBacklog {
    fn take(&self, own_only: bool) -> Option<(Arc<Request>, u64, Ticket)> {
        let taken = self.spool.take(self.member, own_only)?;
        let spans = taken.request.spans;
        Some((taken.request, spans, taken.ticket))
    }

    fn settle(&self, ticket: Ticket) {
        self.spool.settle(self.member, ticket);
    }

    fn end(&self) -> Position {
        self.spool.end()
    }

    fn has_settled(&self, position: Position) -> bool {
        self.spool.has_settled(self.member, position)
    }

    fn tick(&self) {
        self.spool.tick();
    }
}
