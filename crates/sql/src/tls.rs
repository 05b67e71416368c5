//! TLS within PostgreSQL's own greeting, over a connection that the egress guard has made.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bartizan_upstream::Stream as Dialled;
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A handshake that is still to be made, with the certificate checked against the host's name.
pub(crate) struct Handshake {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
}

/// A protected connection.
pub(crate) struct Protected(Box<TlsStream<Dialled>>);

impl TlsConnect<Dialled> for Handshake {
    type Stream = Protected;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Protected>>;

    fn connect(self, stream: Dialled) -> Self::Future {
        Box::pin(async move {
            self.connector.connect(self.name, stream).await.map(|tls| Protected(Box::new(tls)))
        })
    }
}

impl tokio_postgres::tls::TlsStream for Protected {
    /// None: the certificate is verified by name, so there is nobody in the middle for a binding to find.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Protected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Protected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
