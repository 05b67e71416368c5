//! Envoy `ext_authz`, over gRPC (`envoy.service.auth.v3.Authorization`) and over HTTP.

use std::net::{IpAddr, SocketAddr};

use bartizan_enforce::{Asked, Content};
use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Limited};
use rustls_pki_types::CertificateDer;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use crate::answer::Answer;
use crate::proto::{
    APPEND, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue as Header, HeaderValueOption,
    Headers, HttpResponse, HttpStatus, OVERWRITE, OkHttpResponse, Status,
};
use crate::{Mesh, certificate};

/// The method over gRPC.
pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// What the path begins with over HTTP; then the original one. `/ext_authz:NAME` asks for the route `NAME`.
pub(crate) const PREFIX: &str = "/ext_authz";
/// The context extension of a route in Envoy that names the route here.
const ROUTE: &str = "bartizan_route";
/// Set where Envoy shows only the beginning of a body.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// `google.rpc.Code`
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;

/// Answers over gRPC.
pub(crate) async fn grpc<B>(mesh: Mesh, request: Request<B>, peer: IpAddr) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let message_max = mesh.message_max();
    let check = tower::service_fn(move |request: tonic::Request<CheckRequest>| {
        let mesh = mesh.clone();
        async move {
            let answer = match asked(request.into_inner(), mesh.believes(peer)) {
                Ok(asked) => mesh.decide(asked).await,
                Err(detail) => Answer::misconfigured(detail),
            };
            Ok::<_, tonic::Status>(tonic::Response::new(told(answer)))
        }
    });
    let codec = ProstCodec::<CheckResponse, CheckRequest>::default();
    tonic::server::Grpc::new(codec).max_decoding_message_size(message_max).unary(check, request).await
}

/// What a question over gRPC asks about.
fn asked(question: CheckRequest, believed: bool) -> Result<Asked, &'static str> {
    let attributes = question.attributes.ok_or("`attributes` are missing")?;
    let source = attributes.source.unwrap_or_default();
    let http = attributes.request.and_then(|request| request.http).ok_or("it is no request over HTTP")?;
    let headers = match &http.header_map {
        Some(map) => read_headers(map)?,
        None => {
            let listed = http.headers.iter();
            let headers = listed.map(|(key, value)| Header {
                key: key.clone(),
                value: value.clone(),
                raw_value: Vec::new(),
            });
            read_headers(&Headers { headers: headers.collect() })?
        }
    };
    let body = if http.raw_body.is_empty() { http.body.into_bytes() } else { http.raw_body };
    let network = source.address.and_then(|address| address.socket_address);
    let network = network.and_then(|address| address.address.parse::<IpAddr>().ok());
    let certificates = if believed { shown(&source.certificate, &headers)? } else { Vec::new() };
    Ok(Asked {
        method: http.method,
        scheme: Some(http.scheme).filter(|scheme| !scheme.is_empty()),
        authority: http.host,
        target: http.path,
        content: content(body.into(), &headers),
        headers,
        network: network.map(|address| address.to_canonical()),
        certificates,
        route: attributes.context_extensions.get(ROUTE).cloned(),
    })
}

/// The certificates of the client: as Envoy itself has seen them, else as its header tells.
fn shown(seen: &str, headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let read = if seen.is_empty() { certificate::told(headers) } else { certificate::of_pem(seen) };
    read.map_err(|_| "the certificate of the client cannot be read")
}

/// Headers without the pseudo-headers of the line, which stands elsewhere.
///
/// # Errors
/// Where one is no header.
pub(crate) fn read_headers(map: &Headers) -> Result<HeaderMap, &'static str> {
    let mut out = HeaderMap::new();
    for header in map.headers.iter().filter(|header| !header.key.starts_with(':')) {
        let name = HeaderName::try_from(&header.key).map_err(|_| "a header has no good name")?;
        let value = HeaderValue::from_bytes(header.bytes()).map_err(|_| "a header has no good value")?;
        out.append(name, value);
    }
    Ok(out)
}

/// What is seen of a body: a part of one is nothing to decide by, and without one there is nothing to see.
fn content(body: Bytes, headers: &HeaderMap) -> Content {
    let partial = headers.get(PARTIAL).is_some_and(|value| value.as_bytes() != b"false");
    if partial || body.is_empty() { Content::Unseen } else { Content::Whole(body) }
}

/// Headers as Envoy takes them: the first of a name in the place of what is there, others beside it.
pub(crate) fn set_headers<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    raw: bool,
) -> Vec<HeaderValueOption> {
    let mut out: Vec<HeaderValueOption> = Vec::new();
    for (name, value) in headers {
        let known = out.iter().any(|one| one.header.as_ref().is_some_and(|header| header.key == name));
        let (text, bytes) = if raw {
            (String::new(), value.to_vec())
        } else {
            (String::from_utf8_lossy(value).into_owned(), Vec::new())
        };
        out.push(HeaderValueOption {
            header: Some(Header { key: name.to_owned(), value: text, raw_value: bytes }),
            append_action: if known { APPEND } else { OVERWRITE },
        });
    }
    out
}

fn told(answer: Answer) -> CheckResponse {
    let (code, response) = match answer {
        Answer::Permitted { set, remove } => {
            let headers = set_headers(set.iter().map(|(name, value)| (*name, value.as_bytes())), false);
            (OK, HttpResponse::Ok(OkHttpResponse { headers, headers_to_remove: remove }))
        }
        Answer::Refused(refusal) => {
            let code = if refusal.status == 401 { UNAUTHENTICATED } else { PERMISSION_DENIED };
            let headers = refusal.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let denied = DeniedHttpResponse {
                status: Some(HttpStatus { code: i32::from(refusal.status) }),
                headers: set_headers(headers, false),
                body: String::from_utf8_lossy(&refusal.body).into_owned(),
            };
            (code, HttpResponse::Denied(denied))
        }
    };
    CheckResponse { status: Some(Status { code, message: String::new() }), http_response: Some(response) }
}

/// Answers over HTTP: the path is the original one behind [`PREFIX`], method and host are the original ones.
pub(crate) async fn http<B>(mesh: &Mesh, request: Request<B>, peer: SocketAddr) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let from = peer.ip().to_canonical();
    let (head, body) = request.into_parts();
    let whole = head.uri.path_and_query().map_or("", |path| path.as_str());
    let Some((route, target)) = whole.strip_prefix(PREFIX).and_then(split) else {
        return crate::answer::plain(404, "there is nothing at this path");
    };
    let Ok(body) = Limited::new(body, mesh.0.body_bytes_max).collect().await else {
        return crate::answer::plain(413, "the body is too long");
    };
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = || head.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let certificates = if mesh.believes(from) { certificate::told(&head.headers) } else { Ok(Vec::new()) };
    let Ok(certificates) = certificates else {
        return Answer::misconfigured("the certificate of the client cannot be read").http(|status| status);
    };
    let scheme = head.headers.get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok());
    let asked = Asked {
        method: head.method.as_str().to_owned(),
        scheme: scheme.map(str::to_owned),
        authority: authority.or_else(host).unwrap_or_default(),
        target: target.to_owned(),
        content: content(body.to_bytes(), &head.headers),
        network: Some(mesh.0.peers.asking.caller(peer, &head.headers).ip().to_canonical()),
        headers: head.headers,
        certificates,
        route: route.map(str::to_owned),
    };
    mesh.decide(asked).await.http(|status| status)
}

/// `:NAME/path` and `/path`.
fn split(rest: &str) -> Option<(Option<&str>, &str)> {
    match rest.strip_prefix(':') {
        None => rest.starts_with('/').then_some((None, rest)),
        Some(named) => {
            let (name, target) = named.split_at_checked(named.find('/')?)?;
            Some((Some(name), target))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_enforce::Refusal;
    use bartizan_model::ReasonCode;
    use prost::Message as _;

    use crate::proto::{Address, AttributeContext, HttpRequest, Peer, SocketAddress};

    fn question(http: HttpRequest, certificate: &str) -> CheckRequest {
        let address = SocketAddress { address: "::ffff:198.51.100.7".to_owned() };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer {
                    address: Some(Address { socket_address: Some(address) }),
                    certificate: certificate.to_owned(),
                }),
                request: Some(crate::proto::Request { http: Some(http) }),
                context_extensions: [(ROUTE.to_owned(), "orders".to_owned())].into(),
            }),
        }
    }

    fn http(headers: &[(&str, &str)], body: &str) -> HttpRequest {
        HttpRequest {
            method: "POST".to_owned(),
            path: "/orders?x=1".to_owned(),
            host: "shop.example".to_owned(),
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            body: body.to_owned(),
            ..HttpRequest::default()
        }
    }

    #[test]
    fn a_question_over_grpc_says_line_headers_body_source_and_route() {
        let headers = [(":path", "/other"), (":authority", "other.example"), ("authorization", "Bearer x")];
        let asked = asked(question(http(&headers, "{}"), ""), false).unwrap();
        assert_eq!((asked.authority.as_str(), asked.target.as_str()), ("shop.example", "/orders?x=1"));
        assert_eq!(asked.headers.len(), 1, "pseudo-headers are no headers");
        assert_eq!(asked.content, Content::Whole(Bytes::from_static(b"{}")));
        assert_eq!(asked.network.unwrap().to_string(), "198.51.100.7");
        assert_eq!(asked.route.as_deref(), Some("orders"));
    }

    #[test]
    fn part_of_a_body_is_nothing_to_decide_by() {
        let asked =
            |headers: &[(&str, &str)]| asked(question(http(headers, "{"), ""), false).unwrap().content;
        assert_eq!(asked(&[(PARTIAL, "true")]), Content::Unseen);
        assert_eq!(asked(&[(PARTIAL, "x")]), Content::Unseen);
        assert_eq!(asked(&[(PARTIAL, "false")]), Content::Whole(Bytes::from_static(b"{")));
    }

    #[test]
    fn lesson_ghsa_g53w_w6mj_hrpp_certificates_are_believed_of_configured_proxies_alone() {
        let pem = "-----BEGIN CERTIFICATE-----%0AAQID%0A-----END CERTIFICATE-----%0A";
        let header = format!("Cert=\"{pem}\"");
        let told = [(certificate::HEADER, header.as_str())];
        let count = |headers: &[(&str, &str)], seen: &str, believed| {
            asked(question(http(headers, ""), seen), believed).map(|asked| asked.certificates.len())
        };
        assert_eq!(count(&told, "", false), Ok(0));
        assert_eq!(count(&[], pem, false), Ok(0));
        assert_eq!(count(&told, "", true), Ok(1));
        assert_eq!(count(&[], pem, true), Ok(1));
        assert!(count(&[], "x", true).is_err());
    }

    #[test]
    fn what_is_no_request_over_http_is_refused() {
        assert!(asked(CheckRequest::default(), true).is_err());
        let raw = Headers { headers: vec![Header { key: "a b".to_owned(), ..Header::default() }] };
        assert!(asked(question(HttpRequest { header_map: Some(raw), ..http(&[], "") }, ""), true).is_err());
    }

    #[test]
    fn a_refusal_is_written_with_status_headers_and_body_and_never_as_ok() {
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", "Bearer".parse().unwrap());
        headers.append("www-authenticate", "DPoP".parse().unwrap());
        for (status, code) in [(401, UNAUTHENTICATED), (403, PERMISSION_DENIED), (503, PERMISSION_DENIED)] {
            let refusal = Refusal {
                reason: ReasonCode::Forbidden,
                status,
                headers: headers.clone(),
                body: Bytes::from_static(b"{}"),
            };
            let told = told(Answer::Refused(Box::new(refusal)));
            let told = CheckResponse::decode(told.encode_to_vec().as_slice()).unwrap();
            assert_eq!(told.status.unwrap().code, code);
            let Some(HttpResponse::Denied(denied)) = told.http_response else { panic!("not denied") };
            assert_eq!(denied.status.unwrap().code, i32::from(status));
            let actions: Vec<_> = denied.headers.iter().map(|h| h.append_action).collect();
            assert_eq!(actions, [OVERWRITE, APPEND]);
        }
    }

    #[test]
    fn over_http_the_original_path_follows_the_prefix() {
        assert_eq!(split("/orders?a=1"), Some((None, "/orders?a=1")));
        assert_eq!(split(":orders/orders/7"), Some((Some("orders"), "/orders/7")));
        for other in ["", "x/orders", ":orders", "http://x/"] {
            assert_eq!(split(other), None, "{other}");
        }
    }
}
