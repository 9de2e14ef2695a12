//! When the log is told that a lane fails, or works again.

use std::time::{Duration, Instant};

/// At most one line in this time, whatever happens.
const INTERVAL: Duration = Duration::from_secs(60);

/// Decides which changes are worth a line. A lane that goes up and down several times a minute
/// has one line a minute.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    last: Option<Instant>,
    told_failing: bool,
}

impl Notice {
    /// The lane fails. Whether to say so.
    pub(crate) fn failing(&mut self, now: Instant) -> bool {
        let due = self.due(now);
        if due {
            self.told_failing = true;
        }
        due
    }

    /// The lane works. Whether to say so.
    pub(crate) fn working(&mut self, now: Instant) -> bool {
        let due = self.told_failing && self.due(now);
        if due {
            self.told_failing = false;
        }
        due
    }

    fn due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_at_most_one_line_a_minute() {
        let start = spanweave_core::clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut notice = Notice::default();
        assert!(!notice.working(at(0)), "nothing was ever wrong");
        assert!(notice.failing(at(0)));
        assert!(!notice.failing(at(1)) && !notice.working(at(2)) && !notice.failing(at(59)));
        assert!(notice.failing(at(60)));
        assert!(notice.working(at(125)));
        assert!(!notice.working(at(300)), "said once");
    }
}
