//! Where the ledger is sent: deliveries to other systems and mirrors of its tiles, as they are declared.

use bartizan_base::{Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::Status;

/// Records of this tenant's ledger, sent to another system: at least once, in order, by every node its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverySpec {
    /// Whether it is delivered. While disabled nothing is lost: it goes on where it stopped.
    #[serde(default)]
    pub status: Status,
    /// Where to.
    pub destination: Destination,
    /// What the records are written as.
    #[serde(default)]
    pub format: DeliveryFormat,
    /// Which records, in the language in which the ledger is asked; all of them without. A time that is relative counts
    /// back from the record's own. Records of a later version, which cannot be asked about, are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Text<4096>>,
    /// The sealed credential: for `http` the secret of signatures (at least 32 bytes), for `s3` the secret access key, for
    /// `nats` the password or token. Others need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
    /// Where a node begins when it serves this name for the first time.
    #[serde(default)]
    pub from: Begin,
}

/// Where a delivery begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// With the first record of the ledger.
    #[default]
    Beginning,
    /// With what is sealed from now on.
    Now,
}

/// What delivered records are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryFormat {
    /// One JSON object a line: the record and its place in the ledger.
    #[default]
    #[serde(rename = "jsonl")]
    JsonLines,
    /// One event of the Open Cybersecurity Schema Framework a line.
    #[serde(rename = "ocsf")]
    Ocsf,
    /// One event of the Common Event Format a line: for `http`, `syslog` and `nats`.
    #[serde(rename = "cef")]
    Cef,
    /// One `ExportLogsServiceRequest` of OpenTelemetry; over `http` as OTLP wants it. Not for `syslog`.
    #[serde(rename = "otlp-json")]
    OtlpJson,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Destination {
    /// Files on the node's own disk, below `deliver.folder`.
    File(FileTo),
    /// A receiver of signed requests.
    Http(HttpTo),
    /// A syslog receiver.
    Syslog(SyslogTo),
    /// An S3-compatible store, an object a batch. Needs the feature `s3`.
    S3(S3To),
    /// A stream of NATS JetStream, a message a batch. Needs the feature `nats`.
    Nats(NatsTo),
}

/// How files turn over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileTo {
    /// A file that is at least so long is followed by a new one, in bytes.
    pub bytes_max: u64,
    /// A file that is at least so old is followed by a new one, in seconds.
    pub age_max_s: u64,
}

impl Default for FileTo {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, age_max_s: 86_400 }
    }
}

/// A receiver of signed requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTo {
    /// Its address, without user and query.
    pub url: String,
    /// Whether the address may be private, and may then be `http`.
    #[serde(default)]
    pub allow_private: bool,
}

/// A syslog receiver (RFC 5424).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogTo {
    /// Its name or address.
    pub host: String,
    /// Its port; 6514 for TLS and 514 otherwise if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How messages travel.
    #[serde(default)]
    pub transport: SyslogTransport,
    /// Whether the address may be private.
    #[serde(default)]
    pub allow_private: bool,
    /// Which part of a system the messages say they are of.
    #[serde(default)]
    pub facility: SyslogFacility,
    /// The private enterprise number of whoever runs the house; the one for examples if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<u32>,
    /// The longest message that is sent whole, in bytes; of a longer one the text is cut.
    #[serde(default = "default_message_max")]
    pub message_max: u32,
}

const fn default_message_max() -> u32 {
    8_192
}

/// How syslog messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyslogTransport {
    /// Over TLS (RFC 5425).
    #[default]
    Tls,
    /// Over TCP in the clear (RFC 6587).
    Tcp,
    /// In datagrams (RFC 5426): what gets lost is not noticed.
    Udp,
}

/// The facilities of syslog that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of RFC 5424, 6.2.1, say it")]
pub enum SyslogFacility {
    Auth,
    AuthPriv,
    #[default]
    Audit,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// A bucket of an S3-compatible store that honours conditional writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3To {
    /// The store's address; AWS itself, by region, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which is there already.
    pub bucket: String,
    /// What the names of objects begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The public half of the credential.
    pub access_key_id: String,
    /// Whether the address may be private, and may then be `http`.
    #[serde(default)]
    pub allow_private: bool,
}

/// A stream of NATS JetStream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTo {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "default_nats_port")]
    pub port: u16,
    /// Whether TLS is demanded.
    #[serde(default = "default_true")]
    pub tls: bool,
    /// Whether the address may be private.
    #[serde(default)]
    pub allow_private: bool,
    /// The subject that messages carry, which some stream must take up.
    pub subject: String,
    /// As whom, with the credential for password; without, the credential is a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

const fn default_nats_port() -> u16 {
    4_222
}
const fn default_true() -> bool {
    true
}

/// A copy of this tenant's tiles and checkpoints in a bucket, for whoever is to verify them without us. Tiles are created and
/// never overwritten. Needs the feature `s3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSpec {
    /// Whether it is kept up.
    #[serde(default)]
    pub status: Status,
    /// Where to. Each log lies below its own name.
    pub store: S3To,
    /// The sealed credential: the secret access key.
    pub credential: Name,
    /// Seconds between two rounds.
    #[serde(default = "default_interval_s")]
    pub interval_s: u32,
}

const fn default_interval_s() -> u32 {
    10
}
