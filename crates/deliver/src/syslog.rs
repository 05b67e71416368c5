//! Records as syslog messages (RFC 5424), one a record.

mod message;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bartizan_upstream::{DialPolicy, Stream, Upstreams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use crate::batch::{Batch, Cause, DeliverError, Sink};

pub use message::{Header, HeaderError};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Octet counting over TCP (RFC 6587, 3.4.1), in the clear.
    Tcp,
    /// Octet counting over TLS (RFC 5425), the receiver's certificate checked against its name.
    Tls,
    /// A datagram a message (RFC 5426). What gets lost is not noticed.
    Udp,
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct SyslogConfig {
    /// The receiver's name or address.
    pub host: String,
    /// Its port: 6514 for TLS and 514 otherwise, by custom.
    pub port: u16,
    /// How messages travel.
    pub transport: Transport,
    /// Whether the address may be private.
    pub allow_private: bool,
    /// What every message begins with.
    pub header: Header,
    /// The longest message that is sent whole, in bytes. Of a longer one the text is cut, with its true length in `cut`.
    /// Receivers must take 2,048 and should take 8,192 (RFC 5425, 4.3.1).
    pub message_max: usize,
}

/// Sends each record as a message.
///
/// Syslog does not acknowledge. Over TCP and TLS a batch has a connection of its own, which is closed on our side when everything
/// is written; the batch counts as delivered once the receiver has closed its side too, for then it has read all of it. What it
/// does with it is beyond us. Over UDP a batch counts as delivered when it was sent.
#[derive(Debug)]
pub struct SyslogSink {
    config: SyslogConfig,
    upstreams: Arc<Upstreams>,
}

/// How long the receiver has to close its side.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);
/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;
/// How much a receiver may say, which is nothing by the protocol.
const CHATTER_MAX: usize = 4 << 10;

impl SyslogSink {
    /// A sink that leaves by `upstreams`.
    #[must_use]
    pub const fn new(config: SyslogConfig, upstreams: Arc<Upstreams>) -> Self {
        Self { config, upstreams }
    }

    async fn stream(&self, messages: Vec<Vec<u8>>) -> Result<(), DeliverError> {
        let SyslogConfig { host, port, transport, allow_private, .. } = &self.config;
        let policy = DialPolicy { allow_private: *allow_private, tls: *transport == Transport::Tls };
        let stream = self.upstreams.dial(policy, host, *port).await;
        let mut stream = stream.map_err(|error| DeliverError::retry(Cause::chain(&error)))?;
        let mut framed = Vec::new();
        for message in messages {
            framed.extend_from_slice(format!("{} ", message.len()).as_bytes());
            framed.extend_from_slice(&message);
        }
        let broken = |error| DeliverError::retry(format_args!("the connection broke: {error}"));
        stream.write_all(&framed).await.map_err(broken)?;
        stream.shutdown().await.map_err(broken)?;
        let closed = tokio::time::timeout(CLOSE_PATIENCE, closed(&mut stream)).await;
        closed.map_err(|_| DeliverError::retry("the receiver did not close the connection"))?
    }

    async fn datagrams(&self, messages: Vec<Vec<u8>>) -> Result<(), DeliverError> {
        let SyslogConfig { host, port, allow_private, .. } = &self.config;
        let addresses = self.upstreams.checked(*allow_private, host, *port).await;
        let addresses = addresses.map_err(|error| DeliverError::retry(Cause::chain(&error)))?;
        let failed = |error| DeliverError::retry(format_args!("the datagram was not sent: {error}"));
        let Some(to) = addresses.first() else { return Err(DeliverError::retry("there is no address")) };
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from).await.map_err(failed)?;
        socket.connect(to).await.map_err(failed)?;
        for message in messages {
            socket.send(&message).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Waits until the receiver has closed its side.
async fn closed(stream: &mut Stream) -> Result<(), DeliverError> {
    let mut chatter = vec![0; CHATTER_MAX];
    let mut heard = 0;
    loop {
        match stream.read(&mut chatter).await {
            Ok(0) => return Ok(()),
            Ok(some) => heard += some,
            // Many receivers end TLS without its closing word. A reset, on the other hand, says that something was not read.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(DeliverError::retry(format_args!("the connection broke: {error}"))),
        }
        if heard >= CHATTER_MAX {
            return Err(DeliverError::retry("the receiver talks instead of listening"));
        }
    }
}

#[async_trait]
impl Sink for SyslogSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        if ![Batch::JSON_LINES, Batch::TEXT_LINES].contains(&&*batch.media_type) {
            return Err(DeliverError::refused("syslog takes lines of text or JSON alone"));
        }
        let (header, max) = (&self.config.header, self.config.message_max);
        match self.config.transport {
            Transport::Tcp | Transport::Tls => self.stream(header.messages(batch, max)?).await,
            Transport::Udp => self.datagrams(header.messages(batch, max.min(DATAGRAM_MAX))?).await,
        }
    }
}
