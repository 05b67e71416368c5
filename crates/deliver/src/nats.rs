//! Batches into a stream of NATS JetStream, a message each.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::context::{Context, PublishErrorKind};
use async_nats::{Client, ConnectOptions, HeaderMap};
use async_trait::async_trait;
use bartizan_secret::Secret;
use bartizan_upstream::Upstreams;
use tokio::sync::Mutex;

use crate::batch::{Batch, Cause, DeliverError, Sink};

/// Where messages go, and as whom.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port, 4222 by custom.
    pub port: u16,
    /// Whether TLS is demanded, with the server's certificate checked against its name.
    pub tls: bool,
    /// Whether the address may be private.
    pub allow_private: bool,
    /// The subject that messages carry, which some stream must take up.
    pub subject: String,
    /// As whom.
    pub login: NatsLogin,
}

/// As whom the server is spoken to.
#[derive(Clone, Debug)]
pub enum NatsLogin {
    /// As nobody.
    Anonymous,
    /// By a token.
    Token(Secret<String>),
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret<String>,
    },
}

/// The subject cannot be published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subject is made of words with full stops between them, without wildcards")]
pub struct SubjectError;

/// Publishes each batch as one message whose `Nats-Msg-Id` is the batch's id: within the stream's window of duplicates the server
/// drops one that comes again. A batch counts as delivered when a stream has acknowledged it.
///
/// The address passes the egress guard before each connection is made. Without TLS it is then connected to as checked; with TLS by
/// its name, where the certificate answers for it. Servers that a cluster recommends are not followed.
pub struct NatsSink {
    config: NatsConfig,
    upstreams: Arc<Upstreams>,
    kept: Mutex<Option<(Client, Context)>>,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl fmt::Debug for NatsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSink").field("config", &self.config).finish_non_exhaustive()
    }
}

impl NatsSink {
    /// A sink that connects when it is first needed.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn new(config: NatsConfig, upstreams: Arc<Upstreams>) -> Result<Self, SubjectError> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>')
        };
        if !config.subject.split('.').all(word) {
            return Err(SubjectError);
        }
        Ok(Self { config, upstreams, kept: Mutex::default() })
    }

    /// The connection, made anew if it is not standing.
    async fn context(&self) -> Result<Context, DeliverError> {
        let mut kept = self.kept.lock().await;
        if let Some((client, context)) = kept.as_ref()
            && client.connection_state() == State::Connected
        {
            return Ok(context.clone());
        }
        *kept = None;
        let client = self.connect().await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(PATIENCE);
        *kept = Some((client, context.clone()));
        Ok(context)
    }

    async fn connect(&self) -> Result<Client, DeliverError> {
        let NatsConfig { host, port, tls, allow_private, login, .. } = &self.config;
        let checked = self.upstreams.checked(*allow_private, host, *port).await;
        let checked = checked.map_err(|error| DeliverError::retry(Cause::chain(&error)))?;
        let Some(address) = checked.first() else { return Err(DeliverError::retry("there is no address")) };
        let server = match (tls, host.parse::<IpAddr>()) {
            (true, Err(_)) => format!("tls://{host}:{port}"),
            (true, Ok(_)) => format!("tls://{address}"),
            (false, _) => format!("nats://{address}"),
        };
        let options = ConnectOptions::new()
            .name("bartizan")
            .tls_client_config(self.upstreams.client_tls())
            .require_tls(*tls)
            .ignore_discovered_servers()
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .max_reconnects(1);
        let options = match login {
            NatsLogin::Anonymous => options,
            NatsLogin::Token(token) => options.token(token.expose().clone()),
            NatsLogin::Password { user, password } => {
                options.user_and_password(user.clone(), password.expose().clone())
            }
        };
        options.connect(server).await.map_err(|error| DeliverError::retry(Cause::chain(&error)))
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, batch.id().to_string());
        headers.insert("Content-Type", batch.media_type.as_ref());
        let stream = self.context().await?;
        let published = async {
            let subject = self.config.subject.clone();
            stream.publish_with_headers(subject, headers, batch.body.clone()).await?.await
        };
        match published.await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(DeliverError::refused("the batch is longer than the server takes"))
            }
            Err(error) => Err(DeliverError::retry(Cause::chain(&error))),
        }
    }
}
