//! Facts about who asks. A `Caller` made of them exists only as `identify` builds it.

use std::fmt;

use bartizan_base::{Digest, Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EntityRef, PrincipalId};

/// An organisation. Always taken from the credential, never from a header or body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tenant(pub Name);

impl Tenant {
    /// The first tenant of every installation.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self(Name::literal("default"))
    }

    /// Whose ledger holds the checkpoints of all other ledgers. Nobody lives in it: the name is reserved.
    #[must_use]
    pub fn operator() -> Self {
        Self(Name::literal("operator"))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of being a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// Nobody proven.
    Anonymous,
    /// A person.
    User,
    /// A program that acts with a model, for itself or for others.
    Agent,
    /// A program without a will of its own.
    Workload,
}

impl PrincipalKind {
    /// The entity type in policies.
    #[must_use]
    pub const fn entity_type(self) -> &'static str {
        match self {
            Self::Anonymous => "Anonymous",
            Self::User => "User",
            Self::Agent => "Agent",
            Self::Workload => "Workload",
        }
    }
}

/// A principal of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// Person, agent, workload, or nobody.
    pub kind: PrincipalKind,
    /// The name in policies and lists.
    pub name: Name,
    /// The random pseudonym used in records.
    pub id: PrincipalId,
}

impl Principal {
    /// The entity in policies.
    #[must_use]
    pub fn entity(&self) -> EntityRef {
        EntityRef::new(Name::literal(self.kind.entity_type()), self.name.clone())
    }
}

/// How surely the subject was authenticated (NIST SP 800-63B-4). Policies see the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum AssuranceLevel {
    /// Not authenticated.
    #[default]
    None,
    /// AAL1: one factor, or a bearer key.
    Aal1,
    /// AAL2: two factors.
    Aal2,
    /// AAL2 with a phishing-resistant authenticator.
    Aal2PhishingResistant,
    /// AAL3: phishing-resistant hardware.
    Aal3,
}

impl From<AssuranceLevel> for u8 {
    fn from(level: AssuranceLevel) -> Self {
        match level {
            AssuranceLevel::None => 0,
            AssuranceLevel::Aal1 => 1,
            AssuranceLevel::Aal2 => 2,
            AssuranceLevel::Aal2PhishingResistant => 3,
            AssuranceLevel::Aal3 => 4,
        }
    }
}

impl TryFrom<u8> for AssuranceLevel {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::from_number(number).ok_or("an assurance level is a number from 0 to 4")
    }
}

impl AssuranceLevel {
    /// The level of a policy's number 0 to 4.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Aal1,
            2 => Self::Aal2,
            3 => Self::Aal2PhishingResistant,
            4 => Self::Aal3,
            _ => return None,
        })
    }
}

/// The authentication event behind a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assurance {
    /// How sure.
    pub level: AssuranceLevel,
    /// The methods used (RFC 8176), sorted.
    pub methods: Vec<Name>,
    /// When the subject was authenticated; not when the token was made.
    pub at: Timestamp,
    /// Who says so; none for our own keys.
    pub via: Option<Name>,
}

/// What proves that the presenter of this request holds the credential's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing: a bearer credential.
    #[default]
    None,
    /// DPoP (RFC 9449), by thumbprint of the key.
    Dpop(Digest),
    /// Mutual TLS (RFC 8705), by thumbprint of the certificate.
    Mtls(Digest),
}

impl Binding {
    /// The name in policies: `none`, `dpop` or `mtls`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dpop(_) => "dpop",
            Self::Mtls(_) => "mtls",
        }
    }
}

/// An enrolled device, as a fact about this request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in the directory.
    pub name: Name,
    /// Whether this request's binding is by the key enrolled for the device.
    pub key_matches_binding: bool,
    /// Whether its key was attested at enrolment.
    pub attested: bool,
    /// Whether the organisation manages it.
    pub managed: bool,
    /// Whether it kept the organisation's rules when it was last looked at.
    pub compliant: bool,
    /// When it was last looked at.
    pub seen: Timestamp,
}

/// How risky the caller looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RiskLevel {
    /// Nothing unusual.
    Low,
    /// Something unusual.
    Medium,
    /// Much unusual.
    High,
    /// Not assessed; sensitive acts treat it as high.
    #[default]
    Unknown,
}

impl RiskLevel {
    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Unknown => "unknown",
        }
    }
}

/// A risk level with its reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// How much.
    pub level: RiskLevel,
    /// The same in finer steps, 0 to 100.
    pub score: u8,
    /// When it was assessed.
    pub at: Timestamp,
    /// Why, as stable codes.
    pub reasons: Vec<Name>,
}

/// One member of a chain: the subject or an actor. Facts are typed per member, so that a person's login is never
/// credited to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub principal: Principal,
    /// How surely.
    pub assurance: Assurance,
    /// Bound by what, in this request.
    pub binding: Binding,
    /// From which device.
    pub device: Option<Device>,
    /// How risky.
    pub risk: Risk,
}

/// What was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// Nothing.
    None,
    /// An API key of ours.
    ApiKey,
    /// A JWT access token (RFC 9068).
    AccessToken,
    /// The single-use claim of the first administrator.
    Claim,
    /// Enough of the offline recovery keys.
    Recovery,
    /// An authenticator, just now: a passkey, a password, a code, another provider's word.
    Login,
    /// A session of a browser, by its cookie.
    Session,
    /// A client program's own credential at the authority.
    Client,
    /// A certificate (mutual TLS) without a token.
    Certificate,
    /// A signed security event.
    Event,
    /// The house itself, for what it does on a schedule: nobody asked for it.
    House,
}
