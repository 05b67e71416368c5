//! The egress guard: an address is resolved once, checked, and connected to as checked, so that no second answer of the name
//! server can lead elsewhere (DNS rebinding).

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Turns names into addresses, so that tests can answer for the name server.
pub trait Resolve: Debug + Send + Sync {
    /// The addresses of `host`.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The machine's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Every address of the name is one that calls may not go to.
    #[error("the address of `{0}` is not one that calls may go to")]
    Forbidden(String),
    /// The machine could not connect.
    #[error("cannot connect")]
    Io(#[from] io::Error),
}

/// Whether calls may go to `ip`. With `allow_private`, loopback and private networks are open; link-local addresses, where
/// cloud metadata lives, never are.
pub(crate) fn allowed(ip: IpAddr, allow_private: bool) -> bool {
    !never(ip) && (allow_private || !is_private(ip))
}

fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let last = || Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
    match [a, b, c, d, e, f] {
        // v4-mapped, v4-compatible, NAT64 (RFC 6052)
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0, 0] if g != 0 => Some(last()),
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(last()),
        // 6to4
        [0x2002, ..] => Some(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        _ => None,
    }
}

fn never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || (a, b, c) == (192, 0, 0)
                || (a == 198 && (b & 0xfe) == 18)
        }
        IpAddr::V6(v6) => {
            let [a, b, .., h] = v6.segments();
            v6.is_unspecified()
                || v6.is_multicast()
                || (a & 0xffc0) == 0xfe80
                || (a == 0x2001 && b == 0xdb8)
                || (a == 0xfd00 && b == 0xec2 && h == 0x254)
                || embedded(v6).is_some_and(|v4| never(v4.into()))
        }
    }
}

/// Whether `ip` lies on this machine or in a private network.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || (a == 100 && (b & 0xc0) == 64)
        }
        IpAddr::V6(v6) => {
            let [a, ..] = v6.segments();
            v6.is_loopback()
                || (a & 0xfe00) == 0xfc00
                || (a & 0xffc0) == 0xfec0
                || embedded(v6).is_some_and(|v4| is_private(v4.into()))
        }
    }
}

/// Connects under guard, with TLS where the address says `https`.
#[derive(Clone, Debug)]
pub struct Connector {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) allow_private: bool,
}

/// A connection, plain or under TLS.
#[derive(Debug)]
pub enum Stream {
    /// Plain.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// The addresses of `host` that calls may go to, at least one.
    pub(crate) async fn checked(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => self.resolver.resolve(host.to_owned(), port).await?,
        };
        // One forbidden answer among several is passed over; only checked addresses are connected to.
        let checked: Vec<_> = addresses.into_iter().filter(|a| allowed(a.ip(), self.allow_private)).collect();
        if checked.is_empty() { Err(ConnectError::Forbidden(host.to_owned())) } else { Ok(checked) }
    }

    /// A connection to `host`, under TLS where it is to be `secure`.
    pub(crate) async fn open(self, host: String, port: u16, secure: bool) -> Result<Stream, ConnectError> {
        let checked = self.checked(&host, port).await?;
        let stream = TcpStream::connect(checked.as_slice()).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(host).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let stream = TlsConnector::from(self.tls).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn connect(self, uri: Uri) -> Result<Stream, ConnectError> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the address has no host");
        let host = uri.host().ok_or_else(invalid)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        self.open(host, port, secure).await
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            Ok(TokioIo::new(tokio::time::timeout(CONNECT_PATIENCE, connector.connect(uri)).await??))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let http2 = match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        if http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_refused_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "fec0::1",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert!(!allowed(ip, false), "{text}");
            assert!(allowed(ip, true), "{text} with allow_private");
        }
        for text in [
            "169.254.169.254",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.2.1",
            "240.0.0.1",
            "198.18.0.1",
            "fe80::1",
            "ff02::1",
            "::",
            "2001:db8::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(!allowed(text.parse().unwrap(), true), "{text}");
        }
        for text in ["93.184.216.34", "2606:2800:220:1::1", "8.8.8.8"] {
            assert!(allowed(text.parse().unwrap(), false), "{text}");
        }
    }
}
