//! Declarative resources: what people write in files, plan and apply. The directory, the routes and the trusted
//! issuers are all documents of these kinds.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Name, Text, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::dialect::Dialect;

use crate::api_route::ApiRouteSpec;
use crate::asset::{AssetSpec, DeviceSpec, FamilySpec};
use crate::attestation::AttestationSpec;
use crate::cache::CacheSpec;
use crate::client::ClientSpec;
use crate::connection::ConnectionProviderSpec;
use crate::corpus_route::CorpusRouteSpec;
use crate::database_route::DatabaseRouteSpec;
use crate::delivery::{DeliverySpec, MirrorSpec};
use crate::detector_spec::DetectorSpec;
use crate::fact::Facts;
use crate::federation::FederationSpec;
use crate::identity_provider::IdentityProviderSpec;
use crate::limit::{LimitSpec, PriceSpec};
use crate::mesh_route::MeshRouteSpec;
use crate::point::EnforcementPointSpec;
use crate::resource::{EntityName, EntityPath, TypeName};
use crate::signal::EventSource;
use crate::sponsor::Conditions;
use crate::tool_route::ToolRouteSpec;
use crate::tool_words::ToolWordsSpec;
use crate::{AssuranceLevel, EntityRef, PrincipalId, PrincipalKind, RequestExtra};

/// One declared thing, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The name, unique within its kind and tenant.
    pub name: Name,
    /// The pseudonym in records; set for principals and groups, made when the document is first applied and never given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    /// What is declared.
    pub spec: Spec,
}

impl Document {
    /// The entity that policies see, where the kind has one.
    #[must_use]
    pub fn entity(&self) -> EntityRef {
        match &self.spec {
            Spec::Entity(spec) => EntityRef::new(spec.kind.as_name().clone(), spec.id.clone()),
            spec => EntityRef::new(Name::literal(spec.entity_type()), self.name.clone()),
        }
    }
}

/// Where something stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In use.
    #[default]
    Active,
    /// Not to be let in or used, effective at once.
    Disabled,
    /// Of people: gone for good. The name stays taken, so that nobody else comes to what was meant for them.
    Retired,
}

/// What is declared, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Spec {
    /// A person.
    User(PrincipalSpec),
    /// A program that acts with a model.
    Agent(AgentSpec),
    /// A program without a will of its own.
    Workload(AgentSpec),
    /// A group of principals.
    Group(NodeSpec),
    /// A role that principals and groups hold.
    Role(NodeSpec),
    /// A project or folder of projects.
    Project(NodeSpec),
    /// Where things run: development, staging, production.
    Environment(NodeSpec),
    /// Who runs models.
    Provider(NodeSpec),
    /// An address that model calls are sent to.
    Upstream(UpstreamSpec),
    /// A model that callers can ask for by name.
    Model(ModelSpec),
    /// An issuer of access tokens.
    Issuer(IssuerSpec),
    /// A question about the ledger, kept under a name.
    View(ViewSpec),
    /// Where records are sent.
    Delivery(DeliverySpec),
    /// Where tiles are copied to.
    Mirror(MirrorSpec),
    /// An application that asks for decisions and enforces them itself.
    EnforcementPoint(EnforcementPointSpec),
    /// A thing of a type that a bundle's own schema declares.
    Entity(EntitySpec),
    /// An organisation: what people, groups and projects belong to.
    Organisation(NodeSpec),
    /// A family of models: `gpt-4`, with all its versions and sizes.
    ModelFamily(FamilySpec),
    /// A device that requests can be bound to.
    Device(DeviceSpec),
    /// A program that asks the authority for tokens.
    Client(ClientSpec),
    /// Another provider of identity, at which people may log in.
    IdentityProvider(IdentityProviderSpec),
    /// A maker of authenticators whose word is taken for some of them.
    Attestation(AttestationSpec),
    /// Where people can connect external accounts.
    ConnectionProvider(ConnectionProviderSpec),
    /// A rule by which another issuer's word becomes a token of ours.
    Federation(FederationSpec),
    /// A server of tools.
    ToolServer(AssetSpec),
    /// A tool of a tool server.
    Tool(AssetSpec),
    /// A body of documents.
    Corpus(AssetSpec),
    /// A part of a corpus that is searched as one.
    Collection(AssetSpec),
    /// A document of a collection.
    Document(AssetSpec),
    /// A database.
    Database(AssetSpec),
    /// A table of a database.
    Table(AssetSpec),
    /// A column of a table.
    Column(AssetSpec),
    /// How a database is reached: the one of the same name.
    DatabaseRoute(DatabaseRouteSpec),
    /// An external API.
    Api(AssetSpec),
    /// How an external API is reached.
    ApiRoute(ApiRouteSpec),
    /// Something deployed: an application with its model, prompts, tools and sources.
    Deployment(AssetSpec),
    /// A part of what is deployed: an image, weights, an adapter.
    Artifact(AssetSpec),
    /// What is deployed, by digest.
    Manifest(AssetSpec),
    /// The definitions of a server's tools, as policies know them.
    ToolWords(ToolWordsSpec),
    /// How much of something there may be.
    Limit(LimitSpec),
    /// What a model costs.
    Price(PriceSpec),
    /// Words and patterns that policies can have masked.
    Detector(DetectorSpec),
    /// How a server of tools is reached.
    ToolRoute(ToolRouteSpec),
    /// How the corpus of the same name is reached.
    CorpusRoute(CorpusRouteSpec),
    /// Requests that a proxy asks about, in the words of policy.
    MeshRoute(MeshRouteSpec),
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrincipalSpec {
    /// Whether they may come in: what administrators say.
    pub status: Status,
    /// Whether provisioning (SCIM) says that they may not come in. Only provisioning lifts it, or `bartizan directory enable`:
    /// declaring the person anew does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Groups they belong to.
    pub groups: BTreeSet<Name>,
    /// Roles they hold.
    pub roles: BTreeSet<Name>,
    /// Groups they belong to by the word of other providers, by provider: as it was at the last login there. Declaring the person
    /// anew does not change it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub federated: BTreeMap<Name, BTreeSet<Name>>,
}

impl PrincipalSpec {
    /// The groups they belong to, whoever says so.
    pub fn memberships(&self) -> impl Iterator<Item = &Name> {
        self.groups.iter().chain(self.federated.values().flatten())
    }

    /// Whether they may come in, all taken together.
    #[must_use]
    pub const fn standing(&self) -> Status {
        match self.status {
            Status::Active if self.suspended => Status::Disabled,
            status => status,
        }
    }
}

/// An agent or workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Whether it may come in.
    #[serde(default)]
    pub status: Status,
    /// The person who answers for it, its sponsor.
    pub owner: Name,
    /// What it is for.
    pub purpose: Text<500>,
    /// When it ends; none for until further notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<Timestamp>,
    /// What the sponsor demands of it, whatever policy says.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// Groups it belongs to.
    #[serde(default)]
    pub groups: BTreeSet<Name>,
    /// Roles it holds.
    #[serde(default)]
    pub roles: BTreeSet<Name>,
}

/// Something that only has parents of its own kind: a group in groups, a project in projects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSpec {
    /// The parents, all of the same kind.
    pub parents: BTreeSet<Name>,
    /// For groups: the roles every member holds.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Name>,
    /// For groups: whether provisioning (SCIM) says who belongs to it. What is not so declared cannot be changed from there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisioned: bool,
    /// For groups and projects: the organisation they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Name>,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<500>>,
}

/// An address that model calls are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// Scheme, host, port and an optional path prefix, such as `https://api.openai.com`; the dialect's path follows.
    pub base_url: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Name>,
    /// Which sealed credential to present; none for an upstream that needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
    /// How the credential is presented.
    #[serde(default)]
    pub auth: UpstreamAuth,
    /// The region that requests are signed for, with `auth` `sig_v4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Whether its address may be private or loopback. Off by default: the egress guard refuses such addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Members of requests that only shape its answer, beside those of the dialect itself.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub inert_fields: BTreeSet<Name>,
    /// Milliseconds until the answer's head must be here.
    #[serde(default = "default_head_timeout_ms")]
    pub head_timeout_ms: u64,
    /// Milliseconds that may pass between two pieces of the answer.
    #[serde(default = "default_idle_timeout_ms")]
    pub idle_timeout_ms: u64,
}

const fn default_head_timeout_ms() -> u64 {
    120_000
}
const fn default_idle_timeout_ms() -> u64 {
    60_000
}

/// How a credential is presented to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamAuth {
    /// `authorization: Bearer …`.
    #[default]
    Bearer,
    /// `x-api-key: …` (Anthropic).
    XApiKey,
    /// `api-key: …` (Azure OpenAI).
    ApiKey,
    /// `x-goog-api-key: …` (Gemini).
    XGoogApiKey,
    /// Requests are signed with it (AWS Signature Version 4, for Bedrock in `region`): `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, and
    /// `:SESSION_TOKEN` where there is one.
    SigV4,
}

/// A model that callers can ask for by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// Where calls go.
    pub upstream: Name,
    /// What the upstream calls it; the same name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<Name>,
    /// Where calls go instead, each by its weight; `upstream` is one of them. None for `upstream` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSpec>,
    /// The most output tokens a call may ask for, and what it gets where it names no number and a limit counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u64>,
    /// Whether answers are given again to the same request. Never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// The dialects it speaks.
    pub dialects: BTreeSet<Dialect>,
    /// What requests may reach for beside the text they carry. Nothing unless declared.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepts: BTreeSet<RequestExtra>,
    /// The family it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Name>,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The environment it belongs to.
    pub environment: Name,
    /// How sensitive it is to use: `low`, `medium`, `high`.
    #[serde(default = "default_sensitivity")]
    pub sensitivity: Name,
}

/// One of several upstreams that a model is asked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Where calls go.
    pub upstream: Name,
    /// What that upstream calls the model; the same name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<Name>,
    /// Its share of the calls beside the others' weights; with 0 it is asked only when those fail.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

fn default_sensitivity() -> Name {
    Name::literal("medium")
}

/// An issuer of access tokens (RFC 9068) that is trusted for some audience.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerSpec {
    /// Whether its tokens are accepted.
    #[serde(default)]
    pub status: Status,
    /// The exact `iss`.
    pub issuer: String,
    /// The exact `aud` a token must name.
    pub audience: String,
    /// Where its keys are.
    pub jwks_url: String,
    /// Whether that address may be private or loopback.
    #[serde(default)]
    pub allow_private: bool,
    /// The claim that names the subject in our directory.
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// What kind of principal its subjects are.
    #[serde(default = "default_subject_kind")]
    pub subject_kind: PrincipalKind,
    /// What its `acr` values are worth, as levels 0 to 4. A value not listed is worth AAL1.
    #[serde(default)]
    pub acr: BTreeMap<String, u8>,
    /// The most its word is worth, 0 to 4.
    #[serde(default = "default_acr_cap")]
    pub assurance_cap: u8,
    /// The security events that it may send us about its subjects; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventSource>,
}

impl IssuerSpec {
    /// What `acr` is worth from this issuer.
    #[must_use]
    pub fn assurance(&self, acr: Option<&str>) -> AssuranceLevel {
        let claimed = acr.and_then(|a| self.acr.get(a)).copied().unwrap_or(1);
        AssuranceLevel::from_number(claimed.min(self.assurance_cap)).unwrap_or(AssuranceLevel::None)
    }
}

fn default_subject_claim() -> String {
    "sub".to_owned()
}
const fn default_subject_kind() -> PrincipalKind {
    PrincipalKind::User
}
const fn default_acr_cap() -> u8 {
    2
}

/// A thing of a type that a bundle's own schema declares. It must fit the schema in force: one that does not is left out
/// of what policies see, so that what needs it is denied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySpec {
    /// The entity type in the schema, such as `Todo` or `Shop::Order`; none of the house's own.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// What it is called within its type: any text of at most 1,024 bytes. The document's name is only for people.
    pub id: EntityName,
    /// Its attributes, as the schema declares them.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub attributes: Facts,
    /// What it is in: `Group::staff`, `Shop::"any text"`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parents: BTreeSet<EntityPath>,
}

/// A question about the ledger, kept under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    /// The question, in the query language of the ledger. Moments such as `since:24h` stay relative.
    pub query: Text<4096>,
}

impl Spec {
    /// The asset that it declares, if it declares one, with the entity type that it can be within.
    #[must_use]
    pub const fn asset(&self) -> Option<(&AssetSpec, Option<&'static str>)> {
        Some(match self {
            Self::ToolServer(spec)
            | Self::Corpus(spec)
            | Self::Database(spec)
            | Self::Api(spec)
            | Self::Deployment(spec)
            | Self::Manifest(spec) => (spec, None),
            Self::Tool(spec) => (spec, Some("ToolServer")),
            Self::Collection(spec) => (spec, Some("Corpus")),
            Self::Document(spec) => (spec, Some("Collection")),
            Self::Table(spec) => (spec, Some("Database")),
            Self::Column(spec) => (spec, Some("Table")),
            Self::Artifact(spec) => (spec, Some("Manifest")),
            _ => return None,
        })
    }

    /// The kind's name in files and paths.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Agent(_) => "agent",
            Self::Workload(_) => "workload",
            Self::Group(_) => "group",
            Self::Role(_) => "role",
            Self::Project(_) => "project",
            Self::Environment(_) => "environment",
            Self::Provider(_) => "provider",
            Self::Upstream(_) => "upstream",
            Self::Model(_) => "model",
            Self::Issuer(_) => "issuer",
            Self::View(_) => "view",
            Self::Delivery(_) => "delivery",
            Self::Mirror(_) => "mirror",
            Self::EnforcementPoint(_) => "enforcement_point",
            Self::Entity(_) => "entity",
            Self::Organisation(_) => "organisation",
            Self::ModelFamily(_) => "model_family",
            Self::Device(_) => "device",
            Self::Client(_) => "client",
            Self::IdentityProvider(_) => "identity_provider",
            Self::Attestation(_) => "attestation",
            Self::ConnectionProvider(_) => "connection_provider",
            Self::Federation(_) => "federation",
            Self::ToolServer(_) => "tool_server",
            Self::Tool(_) => "tool",
            Self::Corpus(_) => "corpus",
            Self::Collection(_) => "collection",
            Self::Document(_) => "document",
            Self::Database(_) => "database",
            Self::Table(_) => "table",
            Self::Column(_) => "column",
            Self::DatabaseRoute(_) => "database_route",
            Self::Api(_) => "api",
            Self::ApiRoute(_) => "api_route",
            Self::Deployment(_) => "deployment",
            Self::Artifact(_) => "artifact",
            Self::Manifest(_) => "manifest",
            Self::ToolWords(_) => "tool_words",
            Self::Limit(_) => "limit",
            Self::Price(_) => "price",
            Self::Detector(_) => "detector",
            Self::ToolRoute(_) => "tool_route",
            Self::CorpusRoute(_) => "corpus_route",
            Self::MeshRoute(_) => "mesh_route",
        }
    }

    /// The entity type in policies; of an `entity`, its own type says more ([`Document::entity`]).
    #[must_use]
    pub const fn entity_type(&self) -> &'static str {
        match self {
            Self::User(_) => "User",
            Self::Agent(_) => "Agent",
            Self::Workload(_) => "Workload",
            Self::Group(_) => "Group",
            Self::Role(_) => "Role",
            Self::Project(_) => "Project",
            Self::Environment(_) => "Environment",
            Self::Provider(_) => "Provider",
            Self::Upstream(_) => "Upstream",
            Self::Model(_) => "Model",
            Self::Issuer(_) => "Issuer",
            Self::View(_) => "View",
            Self::Delivery(_) => "Delivery",
            Self::Mirror(_) => "Mirror",
            Self::EnforcementPoint(_) => "EnforcementPoint",
            Self::Entity(_) => "Entity",
            Self::Organisation(_) => "Organisation",
            Self::ModelFamily(_) => "ModelFamily",
            Self::Device(_) => "Device",
            Self::Client(_) => "Client",
            Self::IdentityProvider(_) => "IdentityProvider",
            Self::Attestation(_) => "Attestation",
            Self::ConnectionProvider(_) => "ConnectionProvider",
            Self::Federation(_) => "Federation",
            Self::ToolServer(_) => "ToolServer",
            Self::Tool(_) => "Tool",
            Self::Corpus(_) => "Corpus",
            Self::Collection(_) => "Collection",
            Self::Document(_) => "Document",
            Self::Database(_) => "Database",
            Self::Table(_) => "Table",
            Self::Column(_) => "Column",
            Self::DatabaseRoute(_) => "DatabaseRoute",
            Self::Api(_) => "Api",
            Self::ApiRoute(_) => "ApiRoute",
            Self::Deployment(_) => "Deployment",
            Self::Artifact(_) => "Artifact",
            Self::Manifest(_) => "Manifest",
            Self::ToolWords(_) => "ToolWords",
            Self::Limit(_) => "Limit",
            Self::Price(_) => "Price",
            Self::Detector(_) => "Detector",
            Self::ToolRoute(_) => "ToolRoute",
            Self::CorpusRoute(_) => "CorpusRoute",
            Self::MeshRoute(_) => "MeshRoute",
        }
    }

    /// Whether records know it by a pseudonym: principals, and groups.
    #[must_use]
    pub const fn has_pseudonym(&self) -> bool {
        matches!(self, Self::User(_) | Self::Agent(_) | Self::Workload(_) | Self::Group(_))
    }

    /// Of somebody who can come in: whether they may.
    #[must_use]
    pub const fn standing(&self) -> Option<Status> {
        match self {
            Self::User(spec) => Some(spec.standing()),
            Self::Agent(spec) | Self::Workload(spec) => Some(spec.status),
            _ => None,
        }
    }

    /// The kind of principal it declares, if it declares one.
    #[must_use]
    pub const fn principal_kind(&self) -> Option<PrincipalKind> {
        match self {
            Self::User(_) => Some(PrincipalKind::User),
            Self::Agent(_) => Some(PrincipalKind::Agent),
            Self::Workload(_) => Some(PrincipalKind::Workload),
            _ => None,
        }
    }
}
