//! Traces of model calls, after OpenTelemetry's conventions for HTTP servers and for generative AI. Never a prompt, an
//! answer, a name of a person or an address of a caller.

use std::sync::Arc;

use bartizan_model::directory::Dialect;
use bartizan_model::record::End;
use bartizan_model::{DecisionId, Problem, ReasonCode};
use http::HeaderMap;
use opentelemetry::global::BoxedTracer;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;

/// Where traces go.
pub struct Traces {
    /// Makes spans.
    pub tracer: BoxedTracer,
    /// Reads the caller's own trace from the headers.
    pub propagator: Box<dyn TextMapPropagator + Send + Sync>,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traces")
    }
}

/// The trace of one call; nothing where traces go nowhere.
#[derive(Debug)]
pub(crate) struct CallTrace(Option<Box<Open>>);

/// A span that ends when it is dropped, so that no path can leave one open.
#[derive(Debug)]
struct Open {
    traces: Arc<Traces>,
    /// The request as the caller sees it.
    server: Context,
    /// What is being done at the moment: a step of the path, or the call to the model.
    step: Option<Context>,
}

impl CallTrace {
    /// Begins the trace of a request in `dialect`, within the caller's own trace where the headers tell of one.
    pub(crate) fn begin(traces: Option<&Arc<Traces>>, dialect: Dialect, headers: &HeaderMap) -> Self {
        Self(traces.map(|traces| {
            let parent = traces.propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
            let builder = traces
                .tracer
                .span_builder(format!("POST {}", dialect.path()))
                .with_kind(SpanKind::Server)
                .with_attributes([
                    KeyValue::new("http.request.method", "POST"),
                    KeyValue::new("http.route", dialect.path()),
                ]);
            let span = traces.tracer.build_with_context(builder, &parent);
            let server = Context::new().with_span(span);
            Box::new(Open { traces: traces.clone(), server, step: None })
        }))
    }

    /// The trace, to go on with elsewhere.
    pub(crate) const fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Ends the step before and begins the next: `identify`, `receive`, `decide`, `keep`, `record`.
    pub(crate) fn step(&mut self, name: &'static str) {
        if let Some(open) = &mut self.0 {
            let span =
                open.traces.tracer.build_with_context(open.traces.tracer.span_builder(name), &open.server);
            open.enter(span);
        }
    }

    /// Begins the call to the model.
    pub(crate) fn call(&mut self, dialect: Dialect, model: &str, upstream: &str, decision: DecisionId) {
        let Some(open) = &mut self.0 else { return };
        let (provider, operation) = dialect.conventions();
        let builder = open
            .traces
            .tracer
            .span_builder(format!("{operation} {model}"))
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("gen_ai.operation.name", operation),
                KeyValue::new("gen_ai.provider.name", provider),
                KeyValue::new("gen_ai.request.model", model.to_owned()),
                KeyValue::new("bartizan.upstream", upstream.to_owned()),
            ]);
        let span = open.traces.tracer.build_with_context(builder, &open.server);
        open.server.span().set_attribute(KeyValue::new("bartizan.decision", decision.to_string()));
        open.enter(span);
    }

    /// The call came back: with this status, having used these tokens.
    pub(crate) fn ended(&mut self, end: &End, status: Option<u16>, tokens: (Option<u64>, Option<u64>)) {
        let Some(open) = &mut self.0 else { return };
        let call = open.step.take().unwrap_or_else(|| open.server.clone());
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, count) in
            [("gen_ai.usage.input_tokens", tokens.0), ("gen_ai.usage.output_tokens", tokens.1)]
        {
            if let Some(count) = count {
                call.span().set_attribute(KeyValue::new(name, number(count)));
            }
        }
        let failure = match end {
            End::Failed { reason } => Some(reason.clone()),
            End::Done | End::Abandoned | End::Unknown => None,
        };
        for context in [&call, &open.server] {
            tell(context, failure.as_ref().map_or(status, |reason| Some(reason.status())), failure.as_ref());
        }
        call.span().end();
    }

    /// The request was refused.
    pub(crate) fn refused(&mut self, problem: &Problem) {
        let Some(open) = &mut self.0 else { return };
        drop(open.step.take());
        if let Some(decision) = problem.decision {
            open.server.span().set_attribute(KeyValue::new("bartizan.decision", decision.to_string()));
        }
        tell(&open.server, Some(problem.reason.status()), Some(&problem.reason));
    }
}

impl Open {
    fn enter(&mut self, span: opentelemetry::global::BoxedSpan) {
        // The span before ends here, with its context.
        self.step = Some(Context::new().with_span(span));
    }
}

fn tell(context: &Context, status: Option<u16>, reason: Option<&ReasonCode>) {
    let span = context.span();
    if let Some(status) = status {
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    if let Some(reason) = reason {
        span.set_attribute(KeyValue::new("error.type", reason.code().into_owned()));
        // A refusal is what the house is for; an error is only what went wrong on our side or behind us.
        if reason.status() >= 500 {
            span.set_status(Status::error(reason.code().into_owned()));
        }
    }
}
