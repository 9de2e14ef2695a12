//! The choice of formats, and several of them as one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;

use super::decision;
use super::egress::Egress;
use super::trace_context::{self, State};
use super::{b3, baggage, jaeger};

static MALFORMED: AtomicU64 = AtomicU64::new(0);

/// Headers of this process's whole life that were there but did not parse: each `traceparent`,
/// `tracestate`, `b3`, `X-B3-*` or `uber-trace-id` that was refused. A refused parent starts a new
/// trace; a refused `tracestate` is dropped alone.
pub fn malformed_headers() -> u64 {
    MALFORMED.load(Ordering::Relaxed)
}

fn count_malformed(headers: u64) {
    if headers > 0 {
        MALFORMED.fetch_add(headers, Ordering::Relaxed);
    }
}

/// One format in which a trace context travels.
///
/// ```
/// use std::collections::HashMap;
/// use opentelemetry::propagation::TextMapPropagator;
/// use opentelemetry::trace::TraceContextExt;
/// use spanweave_core::propagation::Propagator;
///
/// let headers = HashMap::from([(
///     "traceparent".to_owned(),
///     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
/// )]);
/// let cx = Propagator::trace_context().extract(&headers);
/// assert!(cx.span().span_context().is_sampled());
/// ```
#[derive(Clone)]
pub struct Propagator(Kind);

#[derive(Clone)]
enum Kind {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
    Jaeger,
    None,
    Custom(Arc<dyn TextMapPropagator + Send + Sync>),
}

impl Propagator {
    /// W3C Trace Context, level 2: `traceparent` and `tracestate`.
    pub fn trace_context() -> Self {
        Self(Kind::TraceContext)
    }

    /// W3C Baggage: `baggage`, at most 64 members and 8192 bytes.
    pub fn baggage() -> Self {
        Self(Kind::Baggage)
    }

    /// B3: reads `b3`, else `X-B3-*`; writes `b3`.
    pub fn b3() -> Self {
        Self(Kind::B3)
    }

    /// B3: reads `b3`, else `X-B3-*`; writes `X-B3-*`.
    pub fn b3_multi() -> Self {
        Self(Kind::B3Multi)
    }

    /// The format of Jaeger's retired clients: `uber-trace-id` and `uberctx-*`.
    pub fn jaeger() -> Self {
        Self(Kind::Jaeger)
    }

    /// Reads and writes nothing.
    pub fn none() -> Self {
        Self(Kind::None)
    }

    /// A format of the application's own. What it writes is not known here, so that it serves no
    /// host that gets the ids alone ([`Egress::TraceOnly`]).
    pub fn custom(propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(propagator)))
    }

    /// The propagator that goes by a name in `OTEL_PROPAGATORS`: `tracecontext`, `baggage`, `b3`,
    /// `b3multi`, `jaeger` or `none`. Any other name is `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "tracecontext" => Self::trace_context(),
            "baggage" => Self::baggage(),
            "b3" => Self::b3(),
            "b3multi" => Self::b3_multi(),
            "jaeger" => Self::jaeger(),
            "none" => Self::none(),
            _ => return None,
        })
    }

    fn write(
        &self,
        cx: &Context,
        egress: Egress,
        caller: Option<&str>,
        injector: &mut dyn Injector,
    ) {
        match (&self.0, egress) {
            (Kind::TraceContext, Egress::Full) => {
                trace_context::inject(cx, State::Sent { caller }, injector);
            }
            (Kind::TraceContext, Egress::TraceOnly) => {
                trace_context::inject(cx, State::Omitted, injector);
            }
            (Kind::Baggage, Egress::Full) => baggage::inject(cx, injector),
            (Kind::B3, _) => b3::inject_single(cx, injector),
            (Kind::B3Multi, _) => b3::inject_multi(cx, injector),
            (Kind::Jaeger, Egress::Full) => jaeger::inject(cx, injector),
            (Kind::Jaeger, Egress::TraceOnly) => jaeger::inject_ids(cx, injector),
            (Kind::Custom(custom), Egress::Full) => custom.inject_context(cx, injector),
            (Kind::None, _) | (Kind::Baggage | Kind::Custom(_), Egress::TraceOnly) => {}
        }
    }

    fn name(&self) -> &str {
        match self.0 {
            Kind::TraceContext => "tracecontext",
            Kind::Baggage => "baggage",
            Kind::B3 => "b3",
            Kind::B3Multi => "b3multi",
            Kind::Jaeger => "jaeger",
            Kind::None => "none",
            Kind::Custom(_) => "custom",
        }
    }
}

impl fmt::Debug for Propagator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Custom(custom) => f.debug_tuple("Custom").field(custom).finish(),
            _ => f.write_str(self.name()),
        }
    }
}

impl TextMapPropagator for Propagator {
    fn inject_context(&self, cx: &Context, injector: &mut dyn Injector) {
        self.write(&crate::capture::settled(cx), Egress::Full, None, injector);
    }

    fn extract_with_context(&self, cx: &Context, extractor: &dyn Extractor) -> Context {
        match &self.0 {
            Kind::TraceContext => {
                let extracted = trace_context::extract(extractor);
                count_malformed(extracted.malformed);
                match extracted.span_context {
                    Some(span_context) => cx.with_remote_span_context(span_context),
                    None => cx.clone(),
                }
            }
            Kind::Baggage => baggage::extract(cx, extractor),
            Kind::B3 | Kind::B3Multi => counted(b3::extract(cx, extractor)),
            Kind::Jaeger => counted(jaeger::extract(cx, extractor)),
            Kind::None => cx.clone(),
            Kind::Custom(custom) => {
                decision::with_foreign(&custom.extract_with_context(cx, extractor))
            }
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        match &self.0 {
            Kind::TraceContext => FieldIter::new(&*trace_context::FIELDS),
            Kind::Baggage => FieldIter::new(&*baggage::FIELDS),
            Kind::B3 => FieldIter::new(&*b3::SINGLE_FIELDS),
            Kind::B3Multi => FieldIter::new(&*b3::MULTI_FIELDS),
            Kind::Jaeger => FieldIter::new(&*jaeger::FIELDS),
            Kind::None => FieldIter::new(&[]),
            Kind::Custom(custom) => custom.fields(),
        }
    }
}

fn counted((cx, malformed): (Context, u64)) -> Context {
    count_malformed(malformed);
    cx
}

/// Several propagators as one, in the order given: all of them write, and each reads on top of
/// what the ones before it found. A parent that was found is not lost to a later propagator that
/// finds none. The default is W3C Trace Context and Baggage.
#[derive(Clone, Debug)]
pub struct Propagators {
    list: Arc<[Propagator]>,
    fields: Arc<[String]>,
    caller: Option<Arc<str>>,
}

impl Propagators {
    /// The propagators of a list; an empty list reads and writes nothing.
    pub fn new(list: impl IntoIterator<Item = Propagator>) -> Self {
        let list: Arc<[_]> = list.into_iter().collect();
        let mut fields: Vec<_> =
            list.iter().flat_map(TextMapPropagator::fields).map(str::to_owned).collect();
        fields.sort_unstable();
        fields.dedup();
        Self { list, fields: fields.into(), caller: None }
    }

    /// Names this service to the ones it calls, in the project's own member of `tracestate`
    /// (see [`super::service_member`]). An empty name names nobody.
    #[must_use]
    pub fn with_service_name(mut self, name: impl AsRef<str>) -> Self {
        self.caller = Some(name.as_ref()).filter(|name| !name.is_empty()).map(Arc::from);
        self
    }

    /// The name that goes out, if one is set.
    pub fn service_name(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    pub(super) fn write(&self, cx: &Context, egress: Egress, injector: &mut dyn Injector) {
        for propagator in &*self.list {
            propagator.write(cx, egress, self.service_name(), injector);
        }
    }
}

impl Default for Propagators {
    fn default() -> Self {
        Self::new([Propagator::trace_context(), Propagator::baggage()])
    }
}

impl FromIterator<Propagator> for Propagators {
    fn from_iter<I: IntoIterator<Item = Propagator>>(list: I) -> Self {
        Self::new(list)
    }
}

impl TextMapPropagator for Propagators {
    fn inject_context(&self, cx: &Context, injector: &mut dyn Injector) {
        self.write(&crate::capture::settled(cx), Egress::Full, injector);
    }

    fn extract_with_context(&self, cx: &Context, extractor: &dyn Extractor) -> Context {
        self.list.iter().fold(cx.clone(), |before, propagator| {
            let after = propagator.extract_with_context(&before, extractor);
            let before = before.span();
            let found = before.span_context();
            if found.is_valid() && !after.span().span_context().is_valid() {
                after.with_remote_span_context(found.clone())
            } else {
                after
            }
        })
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::trace::SpanContext;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn carrier(headers: &[(&str, &str)]) -> HashMap<String, String> {
        headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_name_of_the_environment_is_known() {
        for name in ["tracecontext", "baggage", "b3", "b3multi", "jaeger", "none"] {
            assert_eq!(Propagator::from_name(name).unwrap().name(), name);
        }
        assert!(Propagator::from_name("xray").is_none());
        assert!(Propagator::from_name("").is_none());
    }

    #[test]
    fn a_malformed_parent_is_counted_and_leaves_the_context_alone() {
        let before = malformed_headers();
        let headers = carrier(&[("traceparent", "00-1-2-3"), ("tracestate", "a=1")]);
        let cx = Propagator::trace_context().extract_with_context(&Context::new(), &headers);
        assert!(!cx.has_active_span());
        assert!(malformed_headers() > before);
    }

    #[test]
    fn a_found_parent_is_not_lost_to_a_later_propagator() {
        #[derive(Debug)]
        struct Loser;
        impl TextMapPropagator for Loser {
            fn inject_context(&self, _: &Context, _: &mut dyn Injector) {}
            fn extract_with_context(&self, cx: &Context, _: &dyn Extractor) -> Context {
                cx.with_remote_span_context(SpanContext::NONE)
            }
            fn fields(&self) -> FieldIter<'_> {
                FieldIter::new(&[])
            }
        }
        let all = Propagators::new([
            Propagator::trace_context(),
            Propagator::b3(),
            Propagator::jaeger(),
            Propagator::none(),
            Propagator::custom(Loser),
        ]);
        let cx = all.extract_with_context(&Context::new(), &carrier(&[("traceparent", PARENT)]));
        assert!(cx.span().span_context().is_valid());
        let cx = Propagators::new([]).extract(&carrier(&[("traceparent", PARENT)]));
        assert!(!cx.has_active_span());
    }

    #[test]
    fn all_formats_write_and_the_ids_alone_go_to_the_public() {
        let all = Propagators::new(
            ["tracecontext", "baggage", "b3", "b3multi", "jaeger"]
                .into_iter()
                .filter_map(Propagator::from_name),
        )
        .with_service_name("shop");
        let cx = all.extract_with_context(
            &Context::new(),
            &carrier(&[
                ("traceparent", PARENT),
                ("tracestate", "a=1,sw=caller"),
                ("baggage", "k=v"),
            ]),
        );
        let mut full = HashMap::new();
        all.write(&cx, Egress::Full, &mut full);
        assert_eq!(full["tracestate"], "sw=shop,a=1");
        assert_eq!(full["baggage"], "k=v");
        assert_eq!(full["uberctx-k"], "v");

        let mut ids = HashMap::new();
        all.write(&cx, Egress::TraceOnly, &mut ids);
        for (header, value) in &ids {
            assert_eq!(full.get(header), Some(value), "{header}");
        }
        let mut names: Vec<_> = ids.into_keys().collect();
        names.sort();
        assert_eq!(
            names,
            ["b3", "traceparent", "uber-trace-id", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]
        );
    }

    #[test]
    fn without_a_service_name_the_callers_is_not_passed_on() {
        let propagator = Propagator::trace_context();
        let headers = carrier(&[("traceparent", PARENT), ("tracestate", "sw=caller,a=1")]);
        let cx = propagator.extract_with_context(&Context::new(), &headers);
        let mut out = HashMap::new();
        propagator.inject_context(&cx, &mut out);
        assert_eq!(out["tracestate"], "a=1");
    }

    #[test]
    fn fields_are_listed_once() {
        let all = Propagators::new([Propagator::trace_context(), Propagator::trace_context()]);
        assert_eq!(all.fields().collect::<Vec<_>>(), ["traceparent", "tracestate"]);
    }
}
