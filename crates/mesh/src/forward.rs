//! Forward authentication: nginx (`auth_request`), Traefik (`ForwardAuth`) and Caddy (`forward_auth`).
//!
//! Each proxy says what the client asks for in headers of its own, so each has a path of its own and only the headers that it
//! surely sets itself are read there. Two of one name are refused: one of them would be the client's.

use std::net::SocketAddr;

use bartizan_enforce::{Asked, Content};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;

use crate::answer::{Answer, plain, spoofed};
use crate::{Mesh, certificate};

/// What the paths begin with; `?route=NAME` asks for the route `NAME`.
pub(crate) const PREFIX: &str = "/forward-auth/";

/// The proxies, and where each says what is asked for.
struct Proxy {
    name: &'static str,
    method: &'static str,
    host: &'static str,
    target: &'static str,
    scheme: &'static str,
    /// Where it says by which host it routes, if it may route by another than the client's header names: with a whole address in
    /// the line of the request, nginx takes the host of that one.
    routed: Option<&'static str>,
    /// Whether it can tell its client nothing but 401 and 403.
    coarse: bool,
}

const PROXIES: [Proxy; 3] = [
    Proxy {
        name: "nginx",
        method: "x-original-method",
        host: "x-original-host",
        target: "x-original-uri",
        scheme: "x-original-proto",
        routed: Some("x-original-server"),
        coarse: true,
    },
    Proxy { name: "traefik", ..FORWARDED },
    Proxy { name: "caddy", ..FORWARDED },
];

const FORWARDED: Proxy = Proxy {
    name: "",
    method: "x-forwarded-method",
    host: "x-forwarded-host",
    target: "x-forwarded-uri",
    scheme: "x-forwarded-proto",
    routed: None,
    coarse: false,
};

/// Answers a proxy.
pub(crate) async fn http<B>(mesh: &Mesh, request: Request<B>, peer: SocketAddr) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
{
    let (head, _) = request.into_parts();
    let named = head.uri.path().strip_prefix(PREFIX);
    let Some(proxy) = PROXIES.iter().find(|proxy| Some(proxy.name) == named) else {
        return plain(404, "there is nothing at this path");
    };
    let from = peer.ip().to_canonical();
    let certificates = if mesh.believes(from) { certificate::told(&head.headers) } else { Ok(Vec::new()) };
    let network = mesh.0.peers.asking.caller(peer, &head.headers).ip().to_canonical();
    let route = head.uri.query().and_then(|query| query.strip_prefix("route=")).map(str::to_owned);
    let answer = match (asked(proxy, head.headers), certificates) {
        (Ok(asked), Ok(certificates)) => {
            mesh.decide(Asked { network: Some(network), certificates, route, ..asked }).await
        }
        (Err(detail), _) => Answer::misconfigured(detail),
        (_, Err(_)) => Answer::misconfigured("the certificate of the client cannot be read"),
    };
    answer.http(|status| match (proxy.coarse, status) {
        (false, _) | (true, 401) => status,
        (true, _) => 403,
    })
}

/// What a proxy says that its client asks for.
fn asked(proxy: &Proxy, mut headers: HeaderMap) -> Result<Asked, &'static str> {
    if let Some(name) = spoofed(&headers) {
        tracing::debug!(name, "a client sets a header that is ours");
        return Err("a header `x-bartizan-…` came from the client");
    }
    let mut take = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        let one = match (values.next(), values.next()) {
            (Some(one), None) => one.to_str().ok().map(str::to_owned),
            _ => None,
        };
        headers.remove(name);
        one
    };
    let method = take(proxy.method).ok_or("the proxy does not say the method, or twice")?;
    let authority = take(proxy.host).ok_or("the proxy does not say the host, or twice")?;
    let target = take(proxy.target).ok_or("the proxy does not say the path, or twice")?;
    let scheme = take(proxy.scheme);
    if let Some(name) = proxy.routed {
        let routed = take(name).ok_or("the proxy does not say by which host it routes, or twice")?;
        let named = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        if !named.eq_ignore_ascii_case(&routed) {
            return Err("the proxy routes by another host than the client names");
        }
    }
    // The host of the question is ours, not the service's.
    headers.remove(HOST);
    Ok(Asked {
        method,
        scheme,
        authority,
        target,
        headers,
        content: Content::Unseen,
        network: None,
        certificates: Vec::new(),
        route: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(proxy: &str, headers: &[(&str, &str)]) -> Result<Asked, &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        asked(PROXIES.iter().find(|known| known.name == proxy).unwrap(), map)
    }

    const NGINX: [(&str, &str); 5] = [
        ("x-original-method", "GET"),
        ("x-original-host", "shop.example"),
        ("x-original-uri", "/orders?a=1"),
        ("x-original-server", "shop.example"),
        ("host", "127.0.0.1:8083"),
    ];

    #[test]
    fn each_proxy_is_read_by_the_headers_that_it_sets_itself() {
        let asked = read("nginx", &NGINX).unwrap();
        assert_eq!((asked.method.as_str(), asked.authority.as_str()), ("GET", "shop.example"));
        assert_eq!(asked.target, "/orders?a=1");
        assert!(asked.headers.is_empty(), "what is read is no header of the client: {:?}", asked.headers);
        assert!(read("traefik", &NGINX).is_err());
        let forwarded = [
            ("x-forwarded-method", "PUT"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-uri", "/x"),
            ("x-forwarded-proto", "http"),
        ];
        for proxy in ["traefik", "caddy"] {
            assert_eq!(read(proxy, &forwarded).unwrap().scheme.as_deref(), Some("http"));
        }
        assert!(read("nginx", &forwarded).is_err());
    }

    #[test]
    fn a_header_that_could_be_the_clients_is_refused() {
        for (name, value) in NGINX.iter().take(4) {
            let mut twice = NGINX.to_vec();
            twice.push((name, value));
            assert!(read("nginx", &twice).is_err(), "{name} twice");
            let without: Vec<_> = NGINX.iter().copied().filter(|(other, _)| other != name).collect();
            assert!(read("nginx", &without).is_err(), "no {name}");
        }
        for name in ["x-bartizan-identity", "X-Bartizan-Subject", "x_bartizan_decision"] {
            let mut spoofed = NGINX.to_vec();
            spoofed.push((name, "root"));
            assert!(read("nginx", &spoofed).is_err(), "{name}");
        }
        let mut absolute = NGINX.to_vec();
        absolute.retain(|(name, _)| *name != "x-original-server");
        absolute.push(("x-original-server", "other.example"));
        assert!(read("nginx", &absolute).is_err(), "`GET http://other.example/orders` with another `host`");
        let mut stated = NGINX.to_vec();
        stated.push(("x-bartizan-purpose", "support"));
        assert!(read("nginx", &stated).is_ok());
    }
}
