//! Putting the parts of a pipeline together.

use std::sync::{Arc, Weak};

use crate::capture::{Capture, Layer, Mode};
use crate::error::Error;
use crate::pipeline::{Bridge, Core, Pipeline, PipelineConfig, Worker};
use crate::sdk;
use crate::span::Extras;

/// Starts a pipeline: its worker thread runs from now on.
///
/// Nothing global is set. The layer is composed with a registry by the caller; the handle flushes
/// and stops the pipeline.
///
/// # Errors
/// The worker thread could not be started.
pub fn start(config: PipelineConfig) -> Result<(Layer, Pipeline), Error> {
    let extras = Extras {
        location: config.location,
        threads: config.threads,
        busy_idle: config.busy_idle,
        attribute_limit: config.limits.attributes,
        ..Extras::none()
    };
    let (batch, bridge, limits) = (config.batch, config.bridge, config.limits);
    let core = Arc::new(Core::new(config.clone()));
    let source: Weak<Core> = Arc::downgrade(&core);
    core.ledger.set_source(Box::new(move || {
        source.upgrade().map(|core| core.counts()).unwrap_or_default()
    }));
    let capture = Capture::new(core.clone(), &config);
    let provider = sdk::provider(&capture, config.resource, limits);
    let worker = Worker::new(core.clone(), batch, extras);
    let worker = std::thread::Builder::new()
        .name("spanweave-worker".into())
        .spawn(move || worker.run())
        .map_err(Error::thread)?;
    let pipeline = Pipeline::new(core, capture.clone(), provider.clone(), worker);
    let mode = match bridge {
        Bridge::Native => Mode::Native(capture),
        #[cfg(feature = "bridge")]
        Bridge::TracingOpenTelemetry => {
            Mode::Bridge(crate::capture::BridgeLayer::new(capture, provider))
        }
    };
    Ok((Layer::new(mode), pipeline))
}
