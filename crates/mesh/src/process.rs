//! Envoy `ext_proc` (`envoy.service.ext_proc.v3.ExternalProcessor`): decides with the whole body in sight.
//!
//! Headers are held until the body is there, which Envoy must be configured to buffer. One that would send it on meanwhile is
//! refused at the first message.

use std::net::IpAddr;

use bartizan_enforce::{Asked, Content};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use crate::answer::Answer;
use crate::authz::{read_headers, set_headers};
use crate::proto::{
    BUFFERED, CommonResponse, HeaderMutation, HttpHeaders, HttpStatus, ImmediateResponse, ProcessingRequest,
    ProcessingResponse, Step, StepResponse, TrailersResponse, Verdict,
};
use crate::{Mesh, certificate};

/// The method.
pub(crate) const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// Answers over gRPC: one stream is one request of a client.
pub(crate) async fn grpc<B>(mesh: Mesh, request: Request<B>, peer: IpAddr) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let message_max = mesh.message_max();
    let process = tower::service_fn(move |request: tonic::Request<tonic::Streaming<ProcessingRequest>>| {
        let begun = (request.into_inner(), Turn { mesh: mesh.clone(), peer, stage: Stage::Begins });
        let steps = stream::try_unfold(begun, |(mut steps, mut turn)| async move {
            if matches!(turn.stage, Stage::Over) {
                return Ok(None);
            }
            let Some(step) = steps.message().await? else { return Ok(None) };
            let told = turn.step(step).await?;
            Ok(Some((ProcessingResponse { response: Some(told) }, (steps, turn))))
        });
        async move { Ok::<_, tonic::Status>(tonic::Response::new(Box::pin(steps))) }
    });
    let codec = ProstCodec::<ProcessingResponse, ProcessingRequest>::default();
    tonic::server::Grpc::new(codec).max_decoding_message_size(message_max).streaming(process, request).await
}

/// How far a request is.
#[derive(Debug)]
enum Stage {
    /// Nothing is known.
    Begins,
    /// The headers are known, the body is awaited.
    Headers(Box<Asked>),
    /// It was permitted.
    Permitted,
    /// It was refused.
    Over,
}

struct Turn {
    mesh: Mesh,
    peer: IpAddr,
    stage: Stage,
}

impl Turn {
    /// One step of the request. What comes out of order is an error, which Envoy takes for a failure of ours.
    async fn step(&mut self, step: ProcessingRequest) -> Result<Verdict, tonic::Status> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let out_of_order = || tonic::Status::failed_precondition("a step out of order");
        match (stage, step.request.clone().ok_or_else(out_of_order)?) {
            (Stage::Begins, Step::RequestHeaders(headers)) => Ok(self.begin(&step, &headers).await),
            (Stage::Headers(asked), Step::RequestBody(body)) if body.end_of_stream => {
                let content = Content::Whole(body.body.into());
                Ok(self.decide(Asked { content, ..*asked }, Verdict::RequestBody).await)
            }
            (Stage::Permitted, step) => {
                self.stage = Stage::Permitted;
                Ok(pass(&step))
            }
            _ => Err(out_of_order()),
        }
    }

    async fn begin(&mut self, step: &ProcessingRequest, headers: &HttpHeaders) -> Verdict {
        if step.observability_mode {
            return self.told(
                Answer::misconfigured("`observability_mode` decides nothing"),
                Verdict::RequestHeaders,
            );
        }
        let mode = step.protocol_config.as_ref().map(|config| config.request_body_mode);
        if !headers.end_of_stream && mode != Some(BUFFERED) {
            let detail = "`request_body_mode: BUFFERED` is needed, and an Envoy that says so (1.34 or later)";
            return self.told(Answer::misconfigured(detail), Verdict::RequestHeaders);
        }
        match asked(headers, self.mesh.believes(self.peer)) {
            Err(detail) => self.told(Answer::misconfigured(detail), Verdict::RequestHeaders),
            Ok(asked) if headers.end_of_stream => self.decide(asked, Verdict::RequestHeaders).await,
            Ok(asked) => {
                // Envoy goes on to the body and holds both until that is answered.
                self.stage = Stage::Headers(Box::new(asked));
                Verdict::RequestHeaders(StepResponse::default())
            }
        }
    }

    async fn decide(&mut self, asked: Asked, at: fn(StepResponse) -> Verdict) -> Verdict {
        let answer = self.mesh.decide(asked).await;
        self.told(answer, at)
    }

    fn told(&mut self, answer: Answer, at: fn(StepResponse) -> Verdict) -> Verdict {
        match answer {
            Answer::Permitted { set, remove } => {
                self.stage = Stage::Permitted;
                let set = set_headers(set.iter().map(|(name, value)| (*name, value.as_bytes())), true);
                let mutation = HeaderMutation { set_headers: set, remove_headers: remove };
                at(StepResponse { response: Some(CommonResponse { header_mutation: Some(mutation) }) })
            }
            Answer::Refused(refusal) => {
                let headers = refusal.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                let set = set_headers(headers, true);
                Verdict::Immediate(ImmediateResponse {
                    status: Some(HttpStatus { code: i32::from(refusal.status) }),
                    headers: Some(HeaderMutation { set_headers: set, remove_headers: Vec::new() }),
                    body: refusal.body.to_vec(),
                    details: refusal.reason.code().into_owned(),
                })
            }
        }
    }
}

/// What comes after the permit passes as it is.
fn pass(step: &Step) -> Verdict {
    match step {
        Step::RequestHeaders(_) => Verdict::RequestHeaders(StepResponse::default()),
        Step::RequestBody(_) => Verdict::RequestBody(StepResponse::default()),
        Step::ResponseHeaders(_) => Verdict::ResponseHeaders(StepResponse::default()),
        Step::ResponseBody(_) => Verdict::ResponseBody(StepResponse::default()),
        Step::RequestTrailers(_) => Verdict::RequestTrailers(TrailersResponse::default()),
        Step::ResponseTrailers(_) => Verdict::ResponseTrailers(TrailersResponse::default()),
    }
}

/// What the headers ask for.
fn asked(headers: &HttpHeaders, believed: bool) -> Result<Asked, &'static str> {
    let map = headers.headers.as_ref().ok_or("the headers are missing")?;
    let pseudo = |name: &str| {
        let mut found = map.headers.iter().filter(|header| header.key == name);
        match (found.next(), found.next()) {
            (Some(one), None) => String::from_utf8(one.bytes().to_vec()).ok(),
            _ => None,
        }
    };
    let read = read_headers(map)?;
    let certificates = if believed { certificate::told(&read) } else { Ok(Vec::new()) };
    let forwarded = read.get_all("x-forwarded-for").iter().next_back();
    let network = forwarded.and_then(|line| line.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    Ok(Asked {
        method: pseudo(":method").ok_or("the method is missing")?,
        scheme: pseudo(":scheme"),
        authority: pseudo(":authority").ok_or("the host is missing")?,
        target: pseudo(":path").ok_or("the path is missing")?,
        headers: read,
        content: Content::Unseen,
        network: network.map(|address: IpAddr| address.to_canonical()),
        certificates: certificates.map_err(|_| "the certificate of the client cannot be read")?,
        route: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{HeaderValue, Headers};

    fn headers(all: &[(&str, &str)]) -> HttpHeaders {
        let header = |(key, value): &(&str, &str)| HeaderValue {
            key: (*key).to_owned(),
            value: String::new(),
            raw_value: value.as_bytes().to_vec(),
        };
        HttpHeaders {
            headers: Some(Headers { headers: all.iter().map(header).collect() }),
            end_of_stream: false,
        }
    }

    const LINE: [(&str, &str); 3] =
        [(":method", "GET"), (":authority", "shop.example"), (":path", "/orders")];

    #[test]
    fn the_line_is_read_from_the_pseudo_headers_and_each_must_stand_once() {
        let read = asked(
            &headers(&[&LINE[..], &[("x-forwarded-for", "203.0.113.9, 198.51.100.7")]].concat()),
            false,
        );
        let read = read.unwrap();
        assert_eq!((read.method.as_str(), read.authority.as_str()), ("GET", "shop.example"));
        assert_eq!(read.network.unwrap().to_string(), "198.51.100.7", "what the proxy itself has appended");
        for (name, value) in LINE {
            let without: Vec<_> = LINE.iter().copied().filter(|(other, _)| *other != name).collect();
            assert!(asked(&headers(&without), false).is_err(), "no {name}");
            let twice: Vec<_> = LINE.iter().copied().chain([(name, value)]).collect();
            assert!(asked(&headers(&twice), false).is_err(), "{name} twice");
        }
        assert!(asked(&HttpHeaders::default(), false).is_err());
    }
}
