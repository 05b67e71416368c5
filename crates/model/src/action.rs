//! Actions (`noun:verb`) and the operations that a recorded permit unlocks.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $resource:literal,)+) => {
        /// What can be asked for. The list is closed; each action names the kind of resource it applies to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Action { $($(#[doc = $doc])+ $variant,)+ }

        impl Action {
            /// Every action, in the order of the reference page.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in policies, records and answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The entity type it applies to.
            #[must_use]
            pub const fn resource_type(self) -> &'static str {
                match self { $(Self::$variant => $resource,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

actions! {
    /// Generate text with a model: chat, messages, responses.
    ModelInvoke "model:invoke" "Model",
    /// Turn text into vectors with a model.
    ModelEmbed "model:embed" "Model",
    /// See that a model exists and what it is called.
    ModelList "model:list" "Model",
    /// Change a model's weights with data: training, fine-tuning, adapters.
    ModelTrain "model:train" "Model",
    /// Measure what a model does.
    ModelEvaluate "model:evaluate" "Model",
    /// Put a model into service, or take it out.
    ModelDeploy "model:deploy" "Model",
    /// See how a model in service behaves: metrics, samples, drift.
    ModelMonitor "model:monitor" "Model",
    /// Take a model's weights out.
    ModelExport "model:export" "Model",
    /// See that a tool exists and what it takes.
    ToolList "tool:list" "Tool",
    /// Call a tool.
    ToolCall "tool:call" "Tool",
    /// Search a collection for passages.
    CollectionRetrieve "collection:retrieve" "Collection",
    /// Read a document.
    DocumentRead "document:read" "Document",
    /// Add, change or remove a document.
    DocumentWrite "document:write" "Document",
    /// Run a statement on a database; its tables and columns are asked for one by one.
    DatabaseQuery "database:query" "Database",
    /// Read rows of a table.
    TableRead "table:read" "Table",
    /// Change rows of a table.
    TableWrite "table:write" "Table",
    /// Read the values of a column.
    ColumnRead "column:read" "Column",
    /// Call an external API.
    ApiCall "api:call" "Api",
    /// Run code that a model wrote.
    CodeRun "code:run" "Environment",
    /// Take single values out of what is kept at the gateway, under a schema that leaves no room for words, and endorse them.
    HandleExtract "handle:extract" "System",
    /// Let an agent act in one's name.
    AgentDelegate "agent:delegate" "Agent",
    /// Move a deployment into its environment.
    DeploymentPromote "deployment:promote" "Deployment",
    /// Let an artifact be part of what is deployed.
    ArtifactAdmit "artifact:admit" "Artifact",
    /// Vote on what waits for approval.
    ApprovalDecide "approval:decide" "Approval",
    /// Decide in a review of access.
    ReviewDecide "review:decide" "Review",
    /// Work on an incident: contain, restore, close.
    IncidentHandle "incident:handle" "Incident",
    /// Change the configuration.
    ConfigurationChange "configuration:change" "Configuration",
    /// Prove an identity: log in, or prove more for a step-up. Whoever only failed is recorded as refused.
    SessionAuthenticate "session:authenticate" "System",
    /// See one's own sessions.
    SessionList "session:list" "System",
    /// End a session of one's own, or all of them.
    SessionEnd "session:end" "System",
    /// Enrol, rename or remove a passkey, password or one-time password of one's own.
    AuthenticatorChange "authenticator:change" "System",
    /// Get a token of the authority: for oneself, or in the name of somebody who allowed it.
    TokenIssue "token:issue" "System",
    /// Ask whether a token is alive, as the service that it is for.
    TokenIntrospect "token:introspect" "System",
    /// End a token of one's own, and what came of it.
    TokenRevoke "token:revoke" "System",
    /// Lower the label of a session, as a person who has looked at what entered it.
    SessionEndorse "session:endorse" "System",
    /// Allow a client or agent to act in one's name.
    GrantGive "grant:give" "System",
    /// See what acts in one's name, and what it did.
    GrantList "grant:list" "System",
    /// Withdraw what one allowed.
    GrantWithdraw "grant:withdraw" "System",
    /// Bind a device of one's own to a key.
    DeviceEnrol "device:enrol" "System",
    /// Connect an external account of one's own, or end that.
    ConnectionChange "connection:change" "System",
    /// Get a certificate for oneself.
    CertificateIssue "certificate:issue" "System",
    /// Tell of a change at somebody else's: a security event (SSF), a device's compliance.
    SignalSend "signal:send" "System",
    /// Register a client program.
    ClientRegister "client:register" "System",
    /// See sessions, authenticators and grants of others, never their secrets.
    IdentityRead "identity:read" "System",
    /// End sessions and grants of others, reset their authenticators, rotate the authority's keys.
    IdentityChange "identity:change" "System",
    /// Create, declare or change an entry of the directory or a route.
    ResourceApply "resource:apply" "System",
    /// Read entries of the directory and routes.
    ResourceRead "resource:read" "System",
    /// Create an API key.
    KeyCreate "key:create" "System",
    /// See keys, never their secrets.
    KeyList "key:list" "System",
    /// Replace a key, the old one ending after an overlap.
    KeyRotate "key:rotate" "Key",
    /// End a key now.
    KeyRevoke "key:revoke" "Key",
    /// Redeem the claim of the first administrator. Only whoever holds the claim.
    HouseClaim "house:claim" "System",
    /// Enrol an administrator with the offline recovery keys. Only enough of their holders.
    HouseRecover "house:recover" "System",
    /// Declare that everything issued earlier to somebody is dead.
    EpochAdvance "epoch:advance" "System",
    /// Lock somebody or something for a while, or release a lock.
    LockChange "lock:change" "System",
    /// Send a dead letter of a delivery again.
    DeliveryRetry "delivery:retry" "System",
    /// Try an upstream with a harmless request.
    UpstreamTest "upstream:test" "System",
    /// Put a policy bundle in force.
    PolicyApply "policy:apply" "Policy",
    /// Read policies and the rules behind decisions.
    PolicyRead "policy:read" "Policy",
    /// Evaluate an ask without doing it.
    PolicyTest "policy:test" "Policy",
    /// Ask what policy says of others, as an application that enforces it.
    AccessEvaluate "access:evaluate" "System",
    /// Ask who may do what, as an application that shows it.
    AccessSearch "access:search" "System",
    /// Read recorded decisions.
    DecisionRead "decision:read" "Ledger",
    /// Read prompts, outputs and circumstances of a decision that were kept in the vault.
    ContentRead "content:read" "System",
    /// Erase what is kept of somebody, and list what was erased.
    SubjectErase "subject:erase" "System",
    /// Place, see and release legal holds.
    SubjectHold "subject:hold" "System",
    /// Read the ledger: checkpoints, tiles, entries, proofs.
    LedgerRead "ledger:read" "Ledger",
    /// Take entries of the ledger along, in a format of other systems.
    LedgerExport "ledger:export" "Ledger",
    /// Remove a log of a past period from the node, once it is archived and its retention is over.
    LedgerRemove "ledger:remove" "Ledger",
}

impl Action {
    /// The group that it is in, as policies and scopes name it; none for what every grant must name itself.
    #[must_use]
    pub const fn group(self) -> Option<&'static str> {
        Some(match self {
            Self::ModelInvoke | Self::ModelEmbed => "model:use",
            Self::ModelTrain | Self::ModelEvaluate => "model:develop",
            Self::ModelDeploy | Self::ModelMonitor => "model:operate",
            Self::ToolCall => "tool:use",
            Self::CollectionRetrieve
            | Self::DocumentRead
            | Self::DatabaseQuery
            | Self::TableRead
            | Self::ColumnRead => "data:read",
            Self::DocumentWrite | Self::TableWrite => "data:write",
            Self::SessionAuthenticate
            | Self::SessionList
            | Self::SessionEnd
            | Self::AuthenticatorChange
            | Self::TokenIssue
            | Self::TokenIntrospect
            | Self::TokenRevoke
            | Self::GrantGive
            | Self::GrantList
            | Self::GrantWithdraw
            | Self::DeviceEnrol
            | Self::ConnectionChange
            | Self::CertificateIssue => "self:use",
            Self::ResourceApply
            | Self::KeyCreate
            | Self::KeyRotate
            | Self::KeyRevoke
            | Self::EpochAdvance
            | Self::LockChange
            | Self::DeliveryRetry
            | Self::UpstreamTest
            | Self::PolicyApply
            | Self::HouseClaim
            | Self::HouseRecover
            | Self::SubjectErase
            | Self::SubjectHold
            | Self::LedgerRemove
            | Self::ClientRegister
            | Self::IdentityChange
            | Self::ApprovalDecide
            | Self::ReviewDecide
            | Self::IncidentHandle
            | Self::ConfigurationChange => "house:change",
            Self::ResourceRead
            | Self::KeyList
            | Self::PolicyRead
            | Self::PolicyTest
            | Self::DecisionRead
            | Self::LedgerRead
            | Self::LedgerExport
            | Self::IdentityRead => "house:read",
            Self::ModelList
            | Self::ModelExport
            | Self::ToolList
            | Self::ApiCall
            | Self::CodeRun
            | Self::AgentDelegate
            | Self::DeploymentPromote
            | Self::ArtifactAdmit
            | Self::SignalSend
            | Self::AccessEvaluate
            | Self::AccessSearch
            | Self::SessionEndorse
            | Self::HandleExtract
            | Self::ContentRead => return None,
        })
    }

    /// The actions that a word of a scope covers: itself, or those of a group. None for words that are none of ours.
    pub fn in_scope(word: &str) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |action| action.name() == word || action.group() == Some(word))
    }

    /// Whether it takes something out of the house that stays out: counted as an export.
    #[must_use]
    pub const fn is_export(self) -> bool {
        matches!(self, Self::ModelExport | Self::LedgerExport | Self::ContentRead)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No action has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown action")]
pub struct UnknownAction;

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.iter().copied().find(|a| a.name() == text).ok_or(UnknownAction)
    }
}

impl JsonSchema for Action {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::ALL.iter().map(|a| a.name()).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What kind of effect a recorded permit unlocks. A permit for one kind cannot be spent on another: the types differ.
pub trait Operation: fmt::Debug + Send + Sync + 'static {
    /// The kind's name in records.
    const NAME: &'static str;
}

/// A call that leaves the house towards a model provider.
#[derive(Debug)]
pub enum ModelCall {}
/// A message that leaves the house towards a tool server: a call, or reading a resource or prompt of it.
#[derive(Debug)]
pub enum ToolCall {}
/// A search that leaves the house towards a store of documents, or a change of one.
#[derive(Debug)]
pub enum Retrieval {}
/// A statement that leaves the house towards a database.
#[derive(Debug)]
pub enum DatabaseQuery {}
/// A call that leaves the house towards an external API.
#[derive(Debug)]
pub enum ApiCall {}
/// Code that is run in a sandbox.
#[derive(Debug)]
pub enum CodeRun {}
/// An answer from our own state to a caller of the data plane, such as the list of models.
#[derive(Debug)]
pub enum ReadState {}
/// A change of our own state.
#[derive(Debug)]
pub enum ChangeState {}
/// Reading the ledger.
#[derive(Debug)]
pub enum ReadLedger {}

impl Operation for ModelCall {
    const NAME: &'static str = "model_call";
}
impl Operation for ToolCall {
    const NAME: &'static str = "tool_call";
}
impl Operation for Retrieval {
    const NAME: &'static str = "retrieval";
}
impl Operation for DatabaseQuery {
    const NAME: &'static str = "database_query";
}
impl Operation for ApiCall {
    const NAME: &'static str = "api_call";
}
impl Operation for CodeRun {
    const NAME: &'static str = "code_run";
}
impl Operation for ReadState {
    const NAME: &'static str = "read_state";
}
impl Operation for ChangeState {
    const NAME: &'static str = "change_state";
}
impl Operation for ReadLedger {
    const NAME: &'static str = "read_ledger";
}

/// The operations that leave the house as an HTTP request to an upstream.
pub trait Outward: Operation {}

impl Outward for ModelCall {}
impl Outward for ToolCall {}
impl Outward for Retrieval {}
impl Outward for ApiCall {}
