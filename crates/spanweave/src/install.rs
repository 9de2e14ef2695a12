//! The one place that sets globals.

use std::sync::atomic::{AtomicBool, Ordering};

use spanweave_core::propagation;
use tracing_core::Dispatch;
use tracing_log::{AsLog, LogTracer};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::builder::{Builder, Global};
use crate::error::Error;
use crate::filter::UnionFilter;
use crate::log;
use crate::telemetry::Telemetry;

/// Whether [`install`] has succeeded or is under way.
static INSTALLED: AtomicBool = AtomicBool::new(false);

pub(crate) fn install(builder: Builder) -> Result<Telemetry, Error> {
    // Asked before anything starts: a second start would find ports and files taken.
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Err(Error::already_installed());
    }
    let installed = install_first(builder);
    if installed.is_err() {
        INSTALLED.store(false, Ordering::SeqCst);
    }
    installed
}

fn install_first(builder: Builder) -> Result<Telemetry, Error> {
    let (layer, telemetry, global) = builder.start()?;
    let Global { log, log_format, masker, spans, active, disabled } = global;

    let filter = UnionFilter::new(log.clone(), spans);
    let max_level = filter.max_level();
    let lines = log.and_then(|directives| log::layer(log_format, directives, masker));
    let subscriber = Registry::default().with(layer).with(lines).with(filter);
    // A drop of `telemetry` stops what was started.
    tracing::dispatcher::set_global_default(Dispatch::new(subscriber))
        .map_err(|_| Error::already_installed())?;

    if !disabled {
        spanweave_core::install_panic_hook();
    }

    // An application with a logger of its own keeps it.
    let bridged = LogTracer::builder().with_max_level(max_level.as_log()).init().is_ok();

    // The API logs each of these at info; nobody asked.
    tracing::dispatcher::with_default(&Dispatch::none(), || {
        opentelemetry::global::set_text_map_propagator(active.propagators().clone());
        if !disabled {
            opentelemetry::global::set_tracer_provider(telemetry.tracer_provider());
            #[cfg(feature = "metrics")]
            opentelemetry::global::set_meter_provider(telemetry.meter_provider());
        }
    });
    propagation::set_active(active);

    for warning in telemetry.warnings() {
        tracing::warn!(target: "spanweave", "{warning}");
    }
    if !bridged {
        tracing::debug!(target: "spanweave", "another logger is installed: log records stay there");
    }
    Ok(telemetry)
}
