//! Span metrics and where they are served.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use spanweave_core::sync::lock;
use spanweave_core::{Measurement, PipelineConfig, SpanEnd, SpanObserver, SpanStart};
use spanweave_metrics::{Metrics, MetricsServer, MetricsService, SpanMetrics};

use crate::env::{EnvConfig, MetricsServe};
use crate::error::{Error, Kind};
use crate::resource;

/// The metrics of one pipeline and, while it runs, their server.
pub(crate) struct Measuring {
    metrics: Arc<SpanMetrics>,
    address: Option<SocketAddr>,
    server: Mutex<Option<MetricsServer>>,
}

impl Measuring {
    /// Makes the metrics, has the pipeline feed them, and serves them where something says so.
    pub(crate) fn start(
        settings: Metrics,
        env: &EnvConfig,
        resource: &Resource,
        config: &mut PipelineConfig,
    ) -> Result<Self, Error> {
        let settings = with_address(settings, env.metrics.as_ref());
        let address = settings.address().cloned().filter(|_| !env.disabled);
        let metrics = SpanMetrics::new(
            settings,
            &resource::service_name(resource),
            Arc::clone(&config.masker),
            Arc::clone(&config.ledger),
        );
        metrics.set_resource(resource);
        if !env.disabled {
            config.observed_attributes.extend_from_slice(metrics.observed_attributes());
            config.observers.push(observer(&metrics, env.exemplars));
        }
        let server = match address {
            None => None,
            Some(address) => {
                let server = MetricsServer::start(address, Arc::clone(&metrics))
                    .map_err(|error| Error::of(Kind::Metrics, error))?;
                Some(server)
            }
        };
        let address = server.as_ref().map(MetricsServer::address);
        Ok(Self { metrics, address, server: Mutex::new(server) })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(crate) fn text(&self) -> String {
        self.metrics.render(None).1
    }

    pub(crate) fn registry(&self) -> prometheus::Registry {
        self.metrics.registry()
    }

    pub(crate) fn service(&self) -> MetricsService {
        self.metrics.service()
    }

    pub(crate) fn meter_provider(&self) -> SdkMeterProvider {
        self.metrics.meter_provider()
    }

    /// Serves the counts of spans that lost their parent.
    #[cfg(feature = "tokio")]
    pub(crate) fn observe_detached(&self, detached: &Arc<crate::DetachedSpans>) {
        use opentelemetry::KeyValue;
        use opentelemetry::metrics::MeterProvider;

        let detached = Arc::clone(detached);
        let meter = self.meter_provider().meter("spanweave");
        // The provider keeps it.
        meter
            .u64_observable_counter("spanweave.span.detached")
            .with_description("Spans that began a trace of their own on a task of tokio.")
            .with_callback(move |observer| {
                for place in detached.counts() {
                    let mut attributes = vec![KeyValue::new("span_name", place.name)];
                    if let (Some(file), Some(line)) = (place.file, place.line) {
                        attributes.push(KeyValue::new("code.file.path", file));
                        attributes.push(KeyValue::new("code.line.number", i64::from(line)));
                    }
                    observer.observe(place.count, &attributes);
                }
            })
            .build();
    }

    /// Closes the port. What was counted can still be read here.
    pub(crate) fn stop(&self) {
        let server = lock(&self.server).take();
        drop(server);
    }
}

fn observer(metrics: &Arc<SpanMetrics>, exemplars: bool) -> Arc<dyn SpanObserver> {
    let metrics = Arc::clone(metrics);
    if exemplars { metrics } else { Arc::new(WithoutExemplars(metrics)) }
}

/// Counts, and never says which traces were kept.
struct WithoutExemplars(Arc<SpanMetrics>);

impl SpanObserver for WithoutExemplars {
    fn started(&self, span: &SpanStart<'_>) {
        self.0.started(span);
    }

    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        self.0.ended(span)
    }
}

/// An address in code wins over the environment's.
fn with_address(settings: Metrics, env: Option<&MetricsServe>) -> Metrics {
    match env {
        Some(MetricsServe { host, port }) if settings.address().is_none() => {
            match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) => settings.serve(SocketAddr::new(ip, *port)),
                Err(_) => settings.serve(format!("{host}:{port}")),
            }
        }
        _ => settings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(settings: Metrics, host: &str) -> Option<String> {
        let env = MetricsServe { host: host.to_owned(), port: 9464 };
        let settings = with_address(settings, (!host.is_empty()).then_some(&env));
        settings.address().map(ToString::to_string)
    }

    #[test]
    fn an_address_in_code_beats_the_environments() {
        assert_eq!(address(Metrics::default(), ""), None);
        assert_eq!(address(Metrics::default(), "localhost").as_deref(), Some("localhost:9464"));
        assert_eq!(address(Metrics::default(), "::1").as_deref(), Some("[::1]:9464"));
        assert_eq!(address(Metrics::default(), "[::1]").as_deref(), Some("[::1]:9464"));
        let code = Metrics::default().serve("127.0.0.1:1");
        assert_eq!(address(code, "localhost").as_deref(), Some("127.0.0.1:1"));
    }
}
