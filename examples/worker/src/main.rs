//! A queue whose messages carry their trace in a map of text, as Kafka, SQS or a table of jobs do.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use opentelemetry::trace::TraceContextExt;
use spanweave::propagation::{extract_map, inject_map};
use spanweave::{Backend, JoinSetExt, SpanExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tracing::Instrument;

struct Message {
    headers: HashMap<String, String>,
    width: u32,
}

async fn publish(queue: &Sender<Message>, width: u32) {
    let span = tracing::info_span!(
        "send resize",
        otel.kind = "producer",
        messaging.system = "demo",
        messaging.operation.type = "send",
        messaging.destination.name = "resize",
    );
    async {
        let mut headers = HashMap::new();
        inject_map(&mut headers);
        if queue.send(Message { headers, width }).await.is_err() {
            tracing::error!("the queue is closed");
        }
    }
    .instrument(span)
    .await;
}

/// Takes messages in batches: one span for a batch, in a trace of its own, with a link to each
/// message's producer.
async fn work(mut queue: Receiver<Message>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, 3).await > 0 {
        let span = tracing::info_span!(
            parent: None,
            "process resize",
            otel.kind = "consumer",
            messaging.system = "demo",
            messaging.operation.type = "process",
            messaging.destination.name = "resize",
            messaging.batch.message_count = batch.len(),
        );
        for message in &batch {
            span.add_link(extract_map(&message.headers).span().span_context().clone());
        }
        let messages = std::mem::take(&mut batch);
        async {
            let mut parts = JoinSet::new();
            for message in messages {
                parts.spawn_carried(resize(message.width));
            }
            let mut done = parts.join_all().await;
            done.sort_unstable();
            eprintln!("resized to {done:?}");
        }
        .instrument(span)
        .await;
    }
}

#[tracing::instrument]
async fn resize(width: u32) -> u32 {
    width / 2
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry =
        spanweave::builder().service_name("worker").export_to(Backend::console()).install()?;

    let (sender, queue) = channel(8);
    async {
        for width in [640, 800, 1024] {
            publish(&sender, width).await;
        }
    }
    .instrument(tracing::info_span!("UploadPictures"))
    .await;
    drop(sender);
    tokio::spawn(work(queue)).await?;

    eprintln!("detached spans: {}", telemetry.detached_spans().len());
    let report = telemetry.shutdown_async(Duration::from_secs(5)).await;
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
