//! The nouns of the product, as DESIGN names them. Data only: who may make a `Caller`, a `Permit` or an
//! `IntentRecorded` is decided by the crates that own those types.

pub mod action;
pub mod activity;
pub mod api_route;
pub mod ask;
pub mod asset;
pub mod attestation;
mod cache;
pub mod caller;
pub mod client;
pub mod commit;
pub mod connection;
pub mod corpus_route;
pub mod database_route;
pub mod delivery;
pub mod detail;
pub mod detector;
pub mod detector_spec;
mod dialect;
pub mod directory;
mod extras;
pub mod fact;
pub mod federation;
pub mod identity_provider;
pub mod label;
pub mod limit;
pub mod lock;
pub mod mesh_route;
pub mod obligation;
pub mod pattern;
pub mod point;
pub mod problem;
pub mod quorum;
pub mod reason;
pub mod record;
mod references;
pub mod remedy;
pub mod resource;
pub mod signal;
pub mod sponsor;
pub mod tool_route;
mod tool_words;

pub use action::{Action, Operation};
pub use activity::{Activity, Counts, Windows};
pub use api_route::{ApiMethod, ApiOperation, ApiRouteSpec};
pub use ask::{Ask, AskFacts, CodeFacts, HandleFacts, Situation, Target};
pub use attestation::{Aaguid, AttestationSpec};
pub use cache::{CacheAmong, CacheSpec};
pub use caller::{
    Assurance, AssuranceLevel, Binding, CredentialKind, Device, Member, Principal, PrincipalKind, Risk,
    RiskLevel, Tenant,
};
pub use client::{COMMAND_LINE, ClientAuthentication, ClientSpec, GrantType, PrincipalRef};
pub use commit::{Commitment, PayloadRef};
pub use connection::{ConnectionProviderSpec, OutsideAuthentication, OutsideClient};
pub use corpus_route::{CorpusRouteSpec, CorpusStore, MetadataKind, Metric, PostgresServer};
pub use database_route::{DatabaseRouteSpec, SqlType};
pub use detail::{Arguments, Covering, Detail, DetailUse, Exactly, Wanted};
pub use detector::{Detector, Group, MaskBy};
pub use detector_spec::{DetectorSpec, OnCanary};
pub use directory::{Dialect, Document, Spec, Status, UpstreamAuth};
pub use extras::RequestExtra;
pub use fact::{Fact, Facts};
pub use federation::{FederatedSubject, FederatedToken, FederationSpec};
pub use identity_provider::{Creation, GroupMapping, IdentityProviderSpec, MappedGroup};
pub use label::{Confidentiality, Integrity, Label};
pub use limit::{Counted, LimitSpec, PriceSpec};
pub use lock::{Lock, Locked, RunName};
pub use mesh_route::MeshRouteSpec;
pub use obligation::{Obligation, ObligationKind, Obligations};
pub use pattern::{PatternError, SubjectPattern};
pub use point::EnforcementPointSpec;
pub use problem::Problem;
pub use quorum::{Quorum, QuorumError, Share};
pub use reason::ReasonCode;
pub use remedy::{Approval, BoundBy, Offer, Remedy};
pub use resource::{EntityName, EntityPath, EntityRef, TypeName};
pub use signal::{EventPoll, EventSource};
pub use sponsor::Conditions;
pub use tool_route::ToolRouteSpec;
pub use tool_words::ToolWordsSpec;

use bartizan_base::id::kinds;

/// Something that somebody proves who they are with.
pub type AuthenticatorId = bartizan_base::Id<kinds::Authenticator>;
/// A certificate that the house issued.
pub type CertificateId = bartizan_base::Id<kinds::Certificate>;
/// An external account that somebody connected.
pub type ConnectionId = bartizan_base::Id<kinds::Connection>;
/// A data key of the vault.
pub type DataKeyId = bartizan_base::Id<kinds::DataKey>;
/// One decision and the ask it answers.
pub type DecisionId = bartizan_base::Id<kinds::Decision>;
/// An exact thing that somebody allowed.
pub type DetailId = bartizan_base::Id<kinds::Detail>;
/// The erasure of a principal's personal data.
pub type ErasureId = bartizan_base::Id<kinds::Erasure>;
/// Id of a family of refresh tokens.
pub type FamilyId = bartizan_base::Id<kinds::Family>;
/// What somebody allowed a client or agent to do in their name.
pub type GrantId = bartizan_base::Id<kinds::Grant>;
/// An API key.
pub type KeyId = bartizan_base::Id<kinds::Key>;
/// A lock.
pub type LockId = bartizan_base::Id<kinds::Lock>;
/// A running process.
pub type NodeId = bartizan_base::Id<kinds::Node>;
/// The pseudonym of a principal in records.
pub type PrincipalId = bartizan_base::Id<kinds::Principal>;
/// A login.
pub type SessionId = bartizan_base::Id<kinds::Session>;
/// A stream of security events.
pub type StreamId = bartizan_base::Id<kinds::Stream>;
/// An access token.
pub type TokenId = bartizan_base::Id<kinds::Token>;
