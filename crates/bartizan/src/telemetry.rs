//! Sending traces to a collector: OTLP as JSON over HTTP, in batches, on a thread of its own. What cannot be sent is
//! dropped and told: a trace is for operators, the ledger is for proof.

use std::sync::Arc;
use std::time::Duration;

use bartizan_enforce::Traces;
use bytes::Bytes;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use crate::config::TracesTo;

/// The way to the collector.
#[derive(Debug)]
pub(crate) struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Opens the way; nothing is sent yet.
    pub(crate) fn open(to: &TracesTo) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender(
                ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into(),
            ))
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}/v1/traces", to.endpoint))
            .build()?;
        let name = Resource::builder().with_service_name("bartizan");
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(name.with_attribute(version).build())
            // Ours to say: a caller's own trace is continued, but its flag decides nothing here.
            .with_sampler(Sampler::TraceIdRatioBased(f64::from(to.permille) / 1_000.0))
            .build();
        Ok(Self(provider))
    }

    /// What the request path makes spans with.
    pub(crate) fn traces(&self) -> Arc<Traces> {
        Arc::new(Traces {
            tracer: BoxedTracer::new(Box::new(self.0.tracer("bartizan"))),
            propagator: Box::new(TraceContextPropagator::new()),
        })
    }

    /// Sends what is left, for as long as that may take.
    pub(crate) async fn close(self) {
        let closed = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Sends on the exporter's own thread, so blocking is right.
#[derive(Debug)]
struct Sender(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let sent = self.0.run(http::Request::from_parts(head, body.to_vec()));
        let mut answer = sent.inspect_err(|error| tracing::warn!(%error, "traces could not be sent"))?;
        let bytes = answer.body_mut().read_to_vec()?;
        let mut out = http::Response::new(Bytes::from(bytes));
        *out.status_mut() = answer.status();
        Ok(out)
    }
}
