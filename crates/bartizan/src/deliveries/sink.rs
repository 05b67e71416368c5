//! From what is declared to what delivers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock, Name};
use bartizan_deliver::{
    Cause, FileConfig, FileSink, Header, HttpConfig, HttpSink, Sink, SyslogConfig, SyslogSink, Transport,
};
use bartizan_export::Format;
use bartizan_model::delivery::{DeliveryFormat, DeliverySpec, Destination, SyslogTo, SyslogTransport};
use bartizan_model::{NodeId, Spec};
use bartizan_secret::Secret;
use bartizan_upstream::Upstreams;

/// What sinks are made with.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: NodeId,
}

/// The feature that `spec` needs and this program lacks.
pub(super) const fn absent_feature(spec: &Spec) -> Option<&'static str> {
    match spec {
        Spec::Mirror(_) | Spec::Delivery(DeliverySpec { destination: Destination::S3(_), .. })
            if !cfg!(feature = "s3") =>
        {
            Some("s3")
        }
        Spec::Delivery(DeliverySpec { destination: Destination::Nats(_), .. }) if !cfg!(feature = "nats") => {
            Some("nats")
        }
        _ => None,
    }
}

pub(super) const fn format(format: DeliveryFormat) -> Format {
    match format {
        DeliveryFormat::JsonLines => Format::JsonLines,
        DeliveryFormat::Ocsf => Format::Ocsf,
        DeliveryFormat::Cef => Format::Cef,
        DeliveryFormat::OtlpJson => Format::OtlpJson,
    }
}

/// Opens the destination of `spec`; `files` is the folder of files for it.
#[cfg_attr(
    not(feature = "s3"),
    expect(clippy::unused_async, reason = "a store is asked whether it honours conditional writes")
)]
pub(super) async fn open(
    spec: &DeliverySpec,
    name: &Name,
    files: PathBuf,
    credential: Option<Secret<String>>,
    outside: &Outside,
) -> Result<Arc<dyn Sink>, Cause> {
    let (upstreams, clock) = (outside.upstreams.clone(), outside.clock.clone());
    let needed = || credential.clone().ok_or_else(|| Cause::new("no credential is named"));
    match &spec.destination {
        Destination::File(to) => {
            let config = FileConfig {
                folder: files,
                prefix: name.clone(),
                bytes_max: to.bytes_max,
                age_max: Duration::from_secs(to.age_max_s),
            };
            Ok(Arc::new(FileSink::open(config, clock).map_err(Cause::new)?))
        }
        Destination::Http(to) => {
            let config = HttpConfig {
                url: to.url.clone(),
                secret: Secret::new(needed()?.expose().clone().into_bytes()),
                allow_private: to.allow_private,
            };
            Ok(Arc::new(HttpSink::new(&config, upstreams, clock).map_err(Cause::new)?))
        }
        Destination::Syslog(to) => Ok(Arc::new(SyslogSink::new(syslog(to, outside)?, upstreams))),
        #[cfg(feature = "s3")]
        Destination::S3(to) => {
            let bucket = bucket(to, needed()?, upstreams)?;
            Ok(Arc::new(bartizan_deliver::S3Sink::open(bucket).await.map_err(Cause::new)?))
        }
        #[cfg(not(feature = "s3"))]
        Destination::S3(_) => Err(absent("s3")),
        #[cfg(feature = "nats")]
        Destination::Nats(to) => Ok(Arc::new(
            bartizan_deliver::NatsSink::new(nats(to, credential), upstreams).map_err(Cause::new)?,
        )),
        #[cfg(not(feature = "nats"))]
        Destination::Nats(_) => Err(absent("nats")),
    }
}

/// Declared on a node that has it, served by one that has not.
#[cfg(not(all(feature = "s3", feature = "nats")))]
pub(super) fn absent(feature: &str) -> Cause {
    Cause::new(format_args!("this node was built without the feature `{feature}`"))
}

fn syslog(to: &SyslogTo, outside: &Outside) -> Result<SyslogConfig, Cause> {
    let (transport, usual) = match to.transport {
        SyslogTransport::Tls => (Transport::Tls, 6_514),
        SyslogTransport::Tcp => (Transport::Tcp, 514),
        SyslogTransport::Udp => (Transport::Udp, 514),
    };
    Ok(SyslogConfig {
        host: to.host.clone(),
        port: to.port.unwrap_or(usual),
        transport,
        allow_private: to.allow_private,
        header: Header::new(to.facility, &outside.node.to_string(), to.enterprise).map_err(Cause::new)?,
        message_max: usize::try_from(to.message_max).unwrap_or(usize::MAX),
    })
}

#[cfg(feature = "s3")]
pub(super) fn bucket(
    to: &bartizan_model::delivery::S3To,
    credential: Secret<String>,
    upstreams: Arc<Upstreams>,
) -> Result<bartizan_deliver::Bucket, Cause> {
    let config = bartizan_deliver::S3Config {
        endpoint: to.endpoint.clone(),
        region: to.region.clone(),
        bucket: to.bucket.clone(),
        prefix: to.prefix.clone(),
        access_key_id: to.access_key_id.clone(),
        secret_access_key: credential,
        allow_private: to.allow_private,
    };
    bartizan_deliver::Bucket::new(&config, upstreams).map_err(Cause::new)
}

#[cfg(feature = "nats")]
fn nats(
    to: &bartizan_model::delivery::NatsTo,
    credential: Option<Secret<String>>,
) -> bartizan_deliver::NatsConfig {
    use bartizan_deliver::NatsLogin;
    let login = match (credential, &to.user) {
        (None, _) => NatsLogin::Anonymous,
        (Some(token), None) => NatsLogin::Token(token),
        (Some(password), Some(user)) => NatsLogin::Password { user: user.clone(), password },
    };
    bartizan_deliver::NatsConfig {
        host: to.host.clone(),
        port: to.port,
        tls: to.tls,
        allow_private: to.allow_private,
        subject: to.subject.clone(),
        login,
    }
}
