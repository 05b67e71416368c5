//! What is asked, and under which conditions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::{Digest, Name, Text, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, Activity, Confidentiality, DecisionId, EntityRef, Integrity, Label, Operation, RequestExtra,
};

/// One operation on one resource, with the facts of the request. `O` says what a permit for it unlocks.
#[derive(Debug)]
pub struct Ask<O: Operation> {
    /// The id of the ask and of the decision that answers it.
    pub id: DecisionId,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: EntityRef,
    /// How.
    pub facts: AskFacts,
    /// SHA-256 of the body as it came in.
    pub body: Digest,
    operation: PhantomData<fn() -> O>,
}

impl<O: Operation> Ask<O> {
    /// An ask for `action` on `resource`.
    #[must_use]
    pub const fn new(
        id: DecisionId,
        action: Action,
        resource: EntityRef,
        facts: AskFacts,
        body: Digest,
    ) -> Self {
        Self { id, action, resource, facts, body, operation: PhantomData }
    }
}

/// Facts of a request that policies may use under `context.request`. They are what the caller claims or sends, so
/// they never overwrite anything about who the caller is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AskFacts {
    /// The arguments of a call to a tool, as they were sent. Policies see those that the tool's schema types, and only in the
    /// tool's own action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// The body's size in bytes.
    pub bytes: u64,
    /// Code that is to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeFacts>,
    /// The dialect spoken: `openai.chat`, `openai.responses`, `openai.embeddings`, `anthropic.messages`, `control` …
    pub dialect: String,
    /// What it reaches for beside the text it carries.
    pub extras: BTreeSet<RequestExtra>,
    /// What is kept at the gateway and handed on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles: Option<HandleFacts>,
    /// How many messages or inputs it holds.
    pub messages: u64,
    /// Which of the things that can be done with the resource, where it has several: the operation of an external API, as it is
    /// declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The output tokens asked for, if said.
    pub output_tokens_max: Option<u64>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// How many tools it defines.
    pub tools: u64,
}

/// What an ask that runs code holds, as far as it can be told without understanding it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeFacts {
    /// Bytes of the program.
    pub bytes: u64,
    /// SHA-256 of the program.
    pub digest: Digest,
    /// How many files are beside it.
    pub files: u64,
    /// Bytes of these files together.
    pub files_bytes: u64,
    /// Bytes of its standard input.
    pub stdin_bytes: u64,
}

/// What an ask hands on that its asker has not seen: contents that were kept at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandleFacts {
    /// Bytes of the contents together.
    pub bytes: u64,
    /// Their categories.
    pub categories: BTreeSet<Name>,
    /// The highest confidentiality among them.
    pub confidentiality: Confidentiality,
    /// How many there are.
    pub count: u64,
    /// The lowest integrity among them.
    pub integrity: Integrity,
    /// What they came from, as `tool/mail/read`.
    pub sources: BTreeSet<String>,
    /// The integrity of the session without them: of what has steered the ask.
    pub steered_by: Integrity,
}

/// The conditions of an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// What was done lately, read once; none where it is not counted.
    pub activity: Option<Arc<Activity>>,
    /// When.
    pub now: Timestamp,
    /// From which address the connection came.
    pub network: Option<IpAddr>,
    /// The purpose the caller stated.
    pub purpose: Option<Text<500>>,
    /// The join of what entered the session.
    pub session: Label,
    /// How long ago the first of that did, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_age_s: Option<u64>,
    /// How many asks of the session were permitted within the last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_depth: Option<u64>,
}

impl Situation {
    /// At `now`, from nowhere in particular, for no stated purpose, in a session that nothing has entered yet.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self {
            activity: None,
            now,
            network: None,
            purpose: None,
            session: Label::bottom(),
            session_age_s: None,
            session_depth: None,
        }
    }
}

/// Where a permitted effect goes. Part of what an intent is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "target")]
pub enum Target {
    /// A request over HTTP: to a provider, a tool server, a store of documents, an external API.
    Upstream {
        /// The method; `POST` where a record says none.
        #[serde(default = "post", skip_serializing_if = "is_post")]
        method: Cow<'static, str>,
        /// The upstream's name.
        upstream: Name,
        /// The path asked of it.
        path: String,
        /// SHA-256 of the body as it leaves, obligations applied.
        body: Digest,
    },
    /// What is reached otherwise than over HTTP: a database, a tool server that runs as a child, a sandbox.
    Direct {
        /// Its name.
        name: Name,
        /// SHA-256 of what it is given, obligations applied.
        body: Digest,
    },
    /// Our own state or ledger.
    House,
    /// An answer that a model gave before, given again: nothing leaves the house.
    Cached {
        /// The decision by which it was fetched.
        of: DecisionId,
        /// SHA-256 of the answer as it leaves.
        body: Digest,
    },
    /// An answer about what policy says of others: to whoever enforces it, which is the asker.
    Answer {
        /// How many evaluations it tells of.
        asked: u64,
        /// How many of them it permits.
        permitted: u64,
        /// SHA-256 of the answer as it leaves.
        body: Digest,
        /// The policy bundle that it was decided by.
        policy: Digest,
    },
}

impl Target {
    /// A `POST` of something with this digest.
    #[must_use]
    pub const fn post(upstream: Name, path: String, body: Digest) -> Self {
        Self::Upstream { method: POST, upstream, path, body }
    }
}

const POST: Cow<'static, str> = Cow::Borrowed("POST");

const fn post() -> Cow<'static, str> {
    POST
}

fn is_post(method: &str) -> bool {
    method == POST
}
