//! What a program did to each of its spans, as far as the rules of `normalise` depend on it.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry::trace::{SpanKind, Status};

/// What happened in one run of a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// By the number of the span.
    pub(crate) spans: BTreeMap<i64, SpanFacts>,
    /// Numbers of events that were emitted while a span was entered again inside another one.
    pub(crate) displaced: BTreeSet<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpanFacts {
    /// Its ids are in use: `tracing-opentelemetry` has started its span.
    pub(crate) started: bool,
    /// It has no parent in this process.
    pub(crate) is_local_root: bool,
    /// The last `otel.name` that was recorded after the start.
    pub(crate) late_name: Option<&'static str>,
    /// The last `otel.kind` that was recorded after the start.
    pub(crate) late_kind: Option<SpanKind>,
    statuses: Vec<(By, Status)>,
    unclear: bool,
}

/// Who set a status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum By {
    Event,
    Other,
}

impl SpanFacts {
    pub(crate) fn set_status(&mut self, by: By, status: Status) {
        self.statuses.push((by, status));
    }

    /// What an `otel.*` field does, at the creation of the span or later.
    pub(crate) fn set_special(&mut self, field: &str, value: &'static str) {
        match field {
            "otel.name" => self.late_name = self.started.then_some(value),
            "otel.kind" => {
                if let (true, Some(kind)) = (self.started, kind(value)) {
                    self.late_kind = Some(kind);
                } else if kind(value).is_some() {
                    self.late_kind = None;
                }
            }
            "otel.status_code" => self.set_status(
                By::Other,
                match value.to_ascii_lowercase().as_str() {
                    "ok" => Status::Ok,
                    "error" => Status::error(""),
                    _ => Status::Unset,
                },
            ),
            _ => self.set_status(By::Other, Status::error(value)),
        }
    }

    /// An event that set a status went to this span or to another one.
    pub(crate) fn blur_status(&mut self) {
        self.unclear = true;
    }

    /// The status by the rules of the OpenTelemetry API, which ours follows: Ok is final, the
    /// last description that says something stands. `None` where the program is not clear.
    pub(crate) fn status(&self) -> Option<Status> {
        let mut status = Status::Unset;
        for (_, next) in &self.statuses {
            status = match (status, next) {
                (Status::Ok, _) | (_, Status::Ok) => Status::Ok,
                (status, Status::Unset) => status,
                (status @ Status::Error { .. }, Status::Error { description })
                    if description.is_empty() =>
                {
                    status
                }
                (_, next) => next.clone(),
            };
        }
        (!self.unclear).then_some(status)
    }

    /// Whether it depends on the order of precedence which status stands.
    pub(crate) fn is_status_disputed(&self) -> bool {
        let Some((_, first)) = self.statuses.first() else { return self.unclear };
        let all_equal = self.statuses.iter().all(|(_, status)| status == first);
        // Events that say nothing never replace what another one said.
        let mut told = self.statuses.iter().filter(|(_, status)| *status != Status::error(""));
        let all_by_events = self.statuses.iter().all(|(by, _)| *by == By::Event);
        let first_told = told.next();
        let one_told = told.all(|next| Some(next) == first_told);
        self.unclear || !(all_equal || all_by_events && one_told)
    }
}

fn kind(text: &str) -> Option<SpanKind> {
    Some(match text.to_ascii_lowercase().as_str() {
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        "internal" => SpanKind::Internal,
        _ => return None,
    })
}
