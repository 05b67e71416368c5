//! Rows beside the state: what identity keeps of sessions, grants and authenticators.
//!
//! There are too many of them, and they change too often, to be part of what every gateway holds in memory. They are found by
//! kind and id, or by whom they belong to, and change in the same sets of changes as everything else. Their bodies are the
//! JSON of whoever keeps them; no secret lies in one but as a digest or under envelope encryption.

use bartizan_base::Timestamp;
use bartizan_model::Tenant;
use futures_util::future::BoxFuture;

use crate::StoreError;

/// The longest id or owner of a row, in bytes.
pub const ROW_NAME_MAX: usize = 256;

/// The longest body of a row, in bytes.
pub const ROW_BODY_MAX: usize = 64 * 1024;

macro_rules! row_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal $loaded:literal,)+) => {
        /// What a row is. The list is closed; a name is never used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RowKind { $($(#[doc = $doc])+ $kind,)+ }

        impl RowKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The name in the database.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Whether rows of the kind are part of [`crate::State`] as it is loaded: every node holds them in memory, and a
            /// change of one moves the revision.
            #[must_use]
            pub const fn is_loaded(self) -> bool {
                match self { $(Self::$kind => $loaded,)+ }
            }
        }
    };
}

row_kinds! {
    /// A key that the authority signs with: its public half and plan, the private half sealed.
    SigningKey "signing_key" true,
    /// How risky a session or principal was last found, where it is not low.
    Standing "standing" true,
    /// Somebody's login in a browser or on a command line.
    Session "session" false,
    /// What somebody allowed a client or agent to do in their name.
    Grant "grant" false,
    /// A refresh token, by the digest of its text.
    Refresh "refresh" false,
    /// An authorization code, by the digest of its text.
    Code "code" false,
    /// A pushed or pending authorization request.
    Request "request" false,
    /// A device code and the state of its answer.
    DeviceCode "device_code" false,
    /// A login in progress: challenges and what was proven so far.
    Login "login" false,
    /// A password, as its hash.
    Password "password" false,
    /// The secret of a time-based one-time password, sealed.
    Totp "totp" false,
    /// A passkey's public key and counters.
    Passkey "passkey" false,
    /// Recovery codes, as digests.
    Recovery "recovery" false,
    /// Failed attempts against an account or from a network.
    Throttle "throttle" false,
    /// Something that may be used once: a `jti`, a proof, a nonce.
    Used "used" false,
    /// A client that registered itself, or whose metadata document was fetched.
    Client "client" false,
    /// An external account that somebody connected; its tokens sealed.
    Connection "connection" false,
    /// A certificate that the house issued.
    Certificate "certificate" false,
    /// An authority of the house that issues certificates; its key sealed.
    CertificateAuthority "certificate_authority" false,
    /// A connection of an external account in progress, by the digest of its state.
    Connecting "connecting" false,
    /// A stream of security events, and what waits to be sent.
    Stream "stream" false,
    /// An event that waits to be sent.
    Event "event" false,
    /// What is known of a person or group beside its document, sealed: names, addresses, what another system calls it.
    Profile "profile" false,
    /// A one-time link by which somebody enrols their first authenticator, by the digest of its text.
    Invitation "invitation" false,
    /// From where somebody logs in as a rule.
    Habit "habit" false,
    /// Who somebody is at another provider, by the digest of issuer and subject.
    Link "link" false,
    /// What has entered a session of the data plane: the join of its labels.
    SessionLabel "session_label" false,
    /// A certificate of the house that was taken back before its end, by its thumbprint.
    WithdrawnCertificate "withdrawn_certificate" true,
    /// A lock: somebody or something that may not, for a while.
    Lock "lock" true,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose house.
    pub tenant: Tenant,
    /// What it is.
    pub kind: RowKind,
    /// Which: unique within its kind, across tenants. At most [`ROW_NAME_MAX`] bytes.
    pub id: String,
    /// To whom or what it belongs, for lists: at most [`ROW_NAME_MAX`] bytes; empty for nobody.
    pub owner: String,
    /// From when on it counts as absent, and may be swept.
    pub expires: Option<Timestamp>,
    /// Grows by one with every change of the row; 1 for a new one. A store sets it.
    pub version: u64,
    /// JSON of at most [`ROW_BODY_MAX`] bytes.
    pub body: String,
}

/// Reading rows, and sweeping those that are over. Writing goes through [`crate::Store::apply`].
///
/// Contract: reads see everything that was acknowledged before; rows that have expired may still be given and are the
/// reader's to pass over.
pub trait Rows: std::fmt::Debug + Send + Sync {
    /// The row of a kind and id.
    fn row<'a>(&'a self, kind: RowKind, id: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>>;

    /// Rows of `tenant` that belong to `owner`, by id, at most `limit`, those after the id `after`.
    fn rows_of<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        owner: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// Rows of `tenant`, by id, at most `limit`, those after the id `after`.
    fn rows<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// Removes at most `limit` rows that expired before `now`, of kinds that are not loaded, and says how many it removed.
    /// Advisory: does not move the revision.
    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;
}
