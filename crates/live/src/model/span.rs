use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::ids::{SpanId, TraceId};
use super::value::{Value, attributes_bytes, attributes_to_map};

/// A span as it was received.
///
/// Times are nanoseconds since the Unix epoch, as OTLP sends them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredSpan {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The parent's span id; `None` for the root of the trace.
    pub parent: Option<SpanId>,
    /// The operation.
    pub name: String,
    /// Its role.
    pub kind: SpanKind,
    /// `service.name` of the resource, `unknown_service` where there is none.
    pub service: String,
    /// When it started.
    pub start_ns: u64,
    /// When it ended; a sender's clock may put it before the start.
    pub end_ns: u64,
    /// The status.
    pub status: StatusCode,
    /// The status description; empty where there is none.
    pub status_message: String,
    /// In the order received.
    #[serde(serialize_with = "attributes")]
    pub attributes: Vec<(String, Value)>,
    /// In the order received.
    pub events: Vec<Event>,
    /// In the order received.
    pub links: Vec<Link>,
    /// OTLP span flags: bits 0 to 7 are the W3C trace flags, bit 8 says that bit 9 is known, bit 9 that
    /// the parent is remote.
    pub flags: u32,
    /// W3C `tracestate`.
    pub trace_state: String,
    /// Attributes that the sender cut off.
    pub dropped_attributes: u32,
    /// Events that the sender cut off.
    pub dropped_events: u32,
    /// Links that the sender cut off.
    pub dropped_links: u32,
    /// Who made the span; shared by the spans of one message.
    pub scope: Arc<Scope>,
    /// The process that it comes from; shared by the spans of one message.
    pub resource: Arc<Resource>,
    /// How it came in.
    pub via: Transport,
}

impl StoredSpan {
    /// End minus start in nanoseconds, 0 where the clock went backwards.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// End minus start, zero where the clock went backwards.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.duration_ns())
    }

    /// Whether the status is Error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status == StatusCode::Error
    }

    /// The attribute of this key; the last, where it was sent twice.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// The attribute of this key, where it is text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.attribute(key)?.as_str()
    }

    /// The resource's attribute of this key.
    #[must_use]
    pub fn resource_attribute(&self, key: &str) -> Option<&Value> {
        find(&self.resource.attributes, key)
    }

    /// The first event of this name.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.name == name)
    }

    /// `error.type`, else `exception.type` of the last exception event.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.text("error.type").or_else(|| {
            self.events
                .iter()
                .rev()
                .filter(|event| event.name == "exception")
                .find_map(|event| event.attribute("exception.type")?.as_str())
        })
    }

    /// The status description, else `exception.message` of the last exception event.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        if !self.status_message.is_empty() {
            return Some(&self.status_message);
        }
        self.events
            .iter()
            .rev()
            .filter(|event| event.name == "exception")
            .find_map(|event| event.attribute("exception.message")?.as_str())
    }

    /// Whether the sender says that the parent is in another process.
    #[must_use]
    pub fn has_remote_parent(&self) -> bool {
        self.flags & 0x300 == 0x300
    }

    /// Bytes in memory, roughly, without what is shared; what [`StoreLimits`](crate::StoreLimits) counts.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let events: usize = self
            .events
            .iter()
            .map(|event| {
                size_of::<Event>() + event.name.len() + attributes_bytes(&event.attributes)
            })
            .sum();
        let links: usize = self
            .links
            .iter()
            .map(|link| {
                size_of::<Link>() + link.trace_state.len() + attributes_bytes(&link.attributes)
            })
            .sum();
        size_of::<Self>()
            + self.name.len()
            + self.service.len()
            + self.status_message.len()
            + self.trace_state.len()
            + attributes_bytes(&self.attributes)
            + events
            + links
    }
}

/// An event of a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// When, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// In the order received.
    #[serde(serialize_with = "attributes")]
    pub attributes: Vec<(String, Value)>,
}

impl Event {
    /// The attribute of this key; the last, where it was sent twice.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }
}

/// A link to another span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// The other span's `tracestate`.
    pub trace_state: String,
    /// As [`StoredSpan::flags`].
    pub flags: u32,
    /// In the order received.
    #[serde(serialize_with = "attributes")]
    pub attributes: Vec<(String, Value)>,
}

/// An instrumentation scope.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Scope {
    /// The library's or module's name.
    pub name: String,
    /// Its version; empty where there is none.
    pub version: String,
    /// In the order received.
    #[serde(serialize_with = "attributes")]
    pub attributes: Vec<(String, Value)>,
}

/// What a span's process says about itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Resource {
    /// In the order received.
    #[serde(serialize_with = "attributes")]
    pub attributes: Vec<(String, Value)>,
    /// The version of the conventions that it follows; empty where there is none.
    pub schema_url: String,
}

/// The role of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// Not sent.
    #[default]
    Unspecified,
    /// Work inside a process.
    Internal,
    /// A request received.
    Server,
    /// A request sent.
    Client,
    /// A message sent.
    Producer,
    /// A message received.
    Consumer,
}

impl fmt::Display for SpanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        })
    }
}

/// The outcome of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusCode {
    /// Nothing was said; the usual value.
    #[default]
    Unset,
    /// Success, said explicitly.
    Ok,
    /// Failure.
    Error,
}

/// The protocol that brought a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf.
    HttpProtobuf,
    /// OTLP/HTTP with JSON.
    HttpJson,
}

fn find<'a>(attributes: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    attributes.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
}

// `serialize_with` passes the field by reference.
#[allow(clippy::ptr_arg)]
fn attributes<S: serde::Serializer>(
    attributes: &Vec<(String, Value)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    attributes_to_map(attributes, serializer)
}
