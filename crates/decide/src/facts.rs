//! The facts that policies see: one declared table. The schema, what is built for the engine and the reference page are held
//! against it by tests.

/// One fact: an attribute of the context or of an entity.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFact {
    /// The path below `context` or below the entity, such as `assurance.level`.
    pub name: &'static str,
    /// The type in the schema; `{…}` for a record, whose members follow as facts of their own.
    pub kind: &'static str,
    /// Whether it can be absent: then rules must guard with `has`, which strict validation demands.
    pub optional: bool,
    /// In what it is counted or written; empty where the type says it all.
    pub unit: &'static str,
    /// Who says so.
    pub source: Source,
    /// How old it may be in seconds; older, it is left absent.
    pub age_max_s: Option<u64>,
    /// Whether nothing supplies it yet, so that it is always absent.
    pub later: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The house itself, for this ask.
    House,
    /// The credential that was presented, verified.
    Credential,
    /// What people declared and applied.
    Declared,
    /// The connection that the ask came over.
    Connection,
    /// The clock of the node that decides.
    Clock,
    /// The caller: a claim, never who the caller is.
    Caller,
    /// The counters of the node that decides.
    Counters,
    /// Signals of other systems, as the control plane keeps them.
    Signals,
    /// Approvals and obligations that the house keeps.
    Governance,
}

impl Source {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::House => "the house",
            Self::Credential => "the credential",
            Self::Declared => "declared things",
            Self::Connection => "the connection",
            Self::Clock => "the clock",
            Self::Caller => "the caller (a claim)",
            Self::Counters => "this node's counters",
            Self::Signals => "signals",
            Self::Governance => "governance",
        }
    }
}

/// A type of entity.
#[derive(Clone, Copy, Debug)]
pub struct EntityType {
    /// The name in the schema.
    pub name: &'static str,
    /// The types that it can be in.
    pub within: &'static [&'static str],
    /// What it stands for.
    pub meaning: &'static str,
    /// Its attributes, in groups that types share.
    pub facts: &'static [&'static [PolicyFact]],
}

const fn fact(
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    source: Source,
    meaning: &'static str,
) -> PolicyFact {
    PolicyFact { name, kind, optional: false, unit, source, age_max_s: None, later: false, meaning }
}

impl PolicyFact {
    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    const fn age_max(self, seconds: u64) -> Self {
        Self { age_max_s: Some(seconds), ..self }
    }

    const fn later(self) -> Self {
        Self { later: true, ..self.optional() }
    }
}

use Source::{Caller, Clock, Connection, Counters, Credential, Declared, Governance, House, Signals};

/// How old a risk level may be: signals come at each login, refresh and event.
pub(crate) const RISK_AGE_MAX_S: u64 = 900;
/// How old what is known of a device may be.
pub(crate) const DEVICE_AGE_MAX_S: u64 = 86_400;

/// The attributes of the context, in the order of their names.
pub const CONTEXT: &[PolicyFact] = &[
    fact("activity", "{…}", "", Counters, "What was done lately, before this ask. Advisory: each node counts for itself, and forgets when it is restarted.").optional(),
    fact("activity.agent", "Windows", "", Counters, "By the agent that asks, where one does: the outermost of the chain.").optional(),
    fact("activity.caller", "Windows", "", Counters, "By the subject.").optional(),
    fact("activity.key", "Windows", "", Counters, "With the key that was presented.").optional(),
    fact("activity.session", "Windows", "", Counters, "In the session, or in the run of it that the client names (`x-bartizan-run`).").optional(),
    fact("approvals", "Set<String>", "ids of rules", Governance, "The rules whose approval this ask holds. Only in the `unless` of a forbid."),
    fact("assurance", "{…}", "", Credential, "How surely this member of the chain was authenticated. A person's login is never credited to an agent."),
    fact("assurance.age_s", "Long", "seconds", Credential, "How long ago that was. A moment in the future is not believed: it counts as the greatest age, 9,007,199,254,740,991."),
    fact("assurance.level", "Long", "0 to 4", Credential, "1 = AAL1, 2 = AAL2, 3 = phishing-resistant AAL2, 4 = AAL3 (NIST SP 800-63B-4); 0 = not at all."),
    fact("assurance.methods", "Set<String>", "RFC 8176", Credential, "By which methods; `key` for an API key."),
    fact("binding", "String", "none, dpop, mtls", Credential, "What proves that the presenter of this request holds the credential's key."),
    fact("delegation", "{…}", "", Credential, "Who acts for whom."),
    fact("delegation.autonomous", "Bool", "", Credential, "An agent acts, and no person stands behind this ask: it is not delegated."),
    fact("delegation.chain_length", "Long", "members", Credential, "Subject and actors together; 1 for a direct call."),
    fact("delegation.subject_kind", "String", "user, agent, workload, anonymous", Credential, "What the subject is."),
    fact("details", "{…}", "", Credential, "How what the credential is for in particular (`authorization_details`, RFC 9396) covers this ask. Absent where it is for nothing in particular; where it is and does not cover the ask, no rule is asked.").optional(),
    fact("details.exact", "Bool", "", Credential, "The arguments of the call were fixed when it was allowed."),
    fact("details.uses_max", "Long", "asks", Credential, "How often it may be done in all, where that is bounded.").optional(),
    fact("device", "{…}", "", Signals, "The enrolled device whose key bound this request. A device that is only named is absent.").optional().age_max(DEVICE_AGE_MAX_S),
    fact("device.age_s", "Long", "seconds", Signals, "How long ago it was last looked at."),
    fact("device.attested", "Bool", "", Signals, "Its key was attested when it was enrolled."),
    fact("device.compliant", "Bool", "", Signals, "It kept the organisation's rules when it was last looked at."),
    fact("device.id", "String", "", Signals, "Its name in the directory."),
    fact("device.managed", "Bool", "", Signals, "The organisation manages it."),
    fact("grant", "{…}", "", Credential, "The grant by which somebody acts for somebody.").later(),
    fact("grant.age_s", "Long", "seconds", Credential, "How long ago it was given."),
    fact("grant.id", "String", "", Credential, "Its id."),
    fact("grant.scopes", "Set<String>", "", Credential, "What it covers."),
    fact("network", "{…}", "", Connection, "Where the connection comes from.").optional(),
    fact("network.address", "ipaddr", "", Connection, "The peer's address; an IPv4 address mapped into IPv6 is told as IPv4."),
    fact("network.kind", "String", "loopback, link_local, private, public", Connection, "What kind of address that is."),
    fact("obligations", "Set<String>", "", House, "What enforcement will do to a permit. Only in the `unless` of a forbid."),
    fact("purpose", "String", "at most 500 bytes", Caller, "The purpose that the caller states for this ask (`x-bartizan-purpose`).").optional(),
    fact("request", "{…}", "", Caller, "What the request holds. Untrusted: it never says who the caller is."),
    fact("request.bytes", "Long", "bytes", Caller, "The length of its body."),
    fact("request.code", "{…}", "", Caller, "Code that is to be run.").optional(),
    fact("request.code.bytes", "Long", "bytes", Caller, "The length of the program."),
    fact("request.code.digest", "String", "64 hexadecimal digits", Caller, "SHA-256 of the program."),
    fact("request.code.files", "Long", "files", Caller, "How many files are beside it."),
    fact("request.code.files_bytes", "Long", "bytes", Caller, "The length of these files together."),
    fact("request.code.stdin_bytes", "Long", "bytes", Caller, "The length of its standard input."),
    fact("request.dialect", "String", "", Caller, "How it is written: `openai.chat`, `anthropic.messages`, `control` and others."),
    fact("request.extras", "Set<String>", "", Caller, "What it reaches for beside its text: `background`, `files`, `hosted_tools`, `remote_tools`, `storage`, `urls`."),
    fact("request.handles", "{…}", "", House, "What is kept at the gateway and handed on with it, unseen by whoever asks.").optional(),
    fact("request.handles.bytes", "Long", "bytes", House, "The length of these contents together."),
    fact("request.handles.categories", "Set<String>", "", House, "Their categories."),
    fact("request.handles.confidentiality", "String", "public, internal, confidential, restricted", House, "The highest confidentiality among them. `context.session` holds it too."),
    fact("request.handles.count", "Long", "handles", House, "How many there are."),
    fact("request.handles.integrity", "String", "trusted, untrusted", House, "The lowest integrity among them. `context.session` holds it too."),
    fact("request.handles.sources", "Set<String>", "", House, "What they came from, such as `tool/mail/read`."),
    fact("request.handles.steered_by", "String", "trusted, untrusted", House, "The integrity of the session without them: of what has steered the ask."),
    fact("request.messages", "Long", "messages", Caller, "How many messages or inputs it holds."),
    fact("request.operation", "String", "", Caller, "Which of the things that can be done with the resource, where it has several: the operation of an external API, as it is declared.").optional(),
    fact("request.output_tokens_max", "Long", "tokens", Caller, "How long an answer it asks for, if it says.").optional(),
    fact("request.stream", "Bool", "", Caller, "It wants the answer as a stream."),
    fact("request.tools", "Long", "tools", Caller, "How many tools it defines."),
    fact("risk", "{…}", "", Signals, "How risky this member looks. Absent when nobody assessed it: `has risk` is the guard, and who needs low risk is then denied.").optional().age_max(RISK_AGE_MAX_S),
    fact("risk.age_s", "Long", "seconds", Signals, "How long ago it was assessed."),
    fact("risk.level", "String", "low, medium, high", Signals, "In three steps."),
    fact("risk.score", "Long", "0 to 100", Signals, "In finer steps; more is riskier."),
    fact("role_in_chain", "String", "subject, actor", Credential, "Whether this member is the one it is done for, or acts for them."),
    fact("session", "{…}", "", House, "The session, which the house derives from caller, run and credential."),
    fact("session.age_s", "Long", "seconds", House, "How long ago something first entered it; absent while nothing has.").optional(),
    fact("session.categories", "Set<String>", "", House, "The categories of what has entered it, such as `health`."),
    fact("session.confidentiality", "String", "public, internal, confidential, restricted", House, "The highest confidentiality of what has entered it."),
    fact("session.depth", "Long", "asks", House, "How many of its asks were permitted within the last day. Advisory, as `activity`.").optional(),
    fact("session.integrity", "String", "trusted, untrusted", House, "The lowest integrity of what has entered it; a prompt of unknown origin is untrusted."),
    fact("session.purpose", "String", "", House, "The purpose it was opened for.").later(),
    fact("time", "{…}", "", Clock, "When the ask is decided, in the bundle's zone (`zone` in `bundle.toml`, UTC if not said)."),
    fact("time.at", "datetime", "", Clock, "The moment."),
    fact("time.date", "String", "YYYY-MM-DD", Clock, "The day in the zone."),
    fact("time.epoch_s", "Long", "seconds", Clock, "The moment since 1970-01-01T00:00:00Z."),
    fact("time.hour", "Long", "0 to 23", Clock, "The hour in the zone."),
    fact("time.minute", "Long", "0 to 59", Clock, "The minute in the zone."),
    fact("time.weekday", "Long", "1 to 7", Clock, "The day of the week in the zone; Monday is 1."),
    fact("time.zone", "String", "IANA name", Clock, "The zone."),
];

/// The types of records that facts of the context are made of, by name.
pub const RECORDS: &[(&str, &[PolicyFact])] = &[
    (
        "Windows",
        &[
            fact("day", "Counts", "", Counters, "Within the last 86,400 seconds."),
            fact("hour", "Counts", "", Counters, "Within the last 3,600 seconds."),
            fact("minute", "Counts", "", Counters, "Within the last 60 seconds."),
        ],
    ),
    (
        "Counts",
        &[
            fact(
                "cost_micro",
                "Long",
                "millionths of the currency",
                Counters,
                "What it cost; 0 where no price is known.",
            ),
            fact("denials", "Long", "asks", Counters, "Asks that were refused."),
            fact(
                "exports",
                "Long",
                "asks",
                Counters,
                "Asks for actions that take something out of the house.",
            ),
            fact("requests", "Long", "asks", Counters, "Asks that were permitted."),
            fact(
                "resources",
                "Long",
                "resources",
                Counters,
                "Different resources asked for: exact up to 128, then estimated with a standard error of about a tenth.",
            ),
            fact("tokens", "Long", "tokens", Counters, "Tokens in and out, as providers count them."),
        ],
    ),
];

const STATUS: &[PolicyFact] =
    &[fact("status", "String", "active, disabled", Declared, "Whether it is in use.")];
const SENSITIVITY: &[PolicyFact] =
    &[fact("sensitivity", "String", "low, medium, high", Declared, "How sensitive it is to use.")];
const ACTS: &[PolicyFact] = &[
    fact(
        "conditions",
        "String",
        "JSON",
        Declared,
        "What its owner demands of it. The house itself sees to it, whatever policy says; it stands here to be part of what a decision was made on.",
    )
    .optional(),
    fact("owner", "User", "", Declared, "The person who answers for it."),
    fact("purpose", "String", "at most 500 bytes", Declared, "What it is for."),
];
const ASSET: &[PolicyFact] = &[
    fact(
        "categories",
        "Set<String>",
        "",
        Declared,
        "The categories of what it holds or gives, such as `health`.",
    ),
    fact(
        "confidentiality",
        "String",
        "public, internal, confidential, restricted",
        Declared,
        "How confidential that is; restricted where nobody said.",
    ),
    fact(
        "digest",
        "String",
        "64 hexadecimal digits",
        Declared,
        "Its SHA-256, where it is fixed by its content.",
    )
    .optional(),
    fact("environment", "String", "", Declared, "The environment it belongs to.").optional(),
    fact(
        "integrity",
        "String",
        "trusted, untrusted",
        Declared,
        "How trustworthy that is; untrusted where nobody said.",
    ),
    fact("owner", "User", "", Declared, "The person who answers for it.").optional(),
];
const READERS: &[PolicyFact] = &[
    fact(
        "reader_groups",
        "Set<Group>",
        "at most 500",
        Declared,
        "The groups on its access list, where it has one; of documents in a store, as the source last told it.",
    )
    .optional(),
    fact(
        "readers",
        "Set<User>",
        "at most 500",
        Declared,
        "The people on its access list, where it has one; of documents in a store, as the source last told it.",
    )
    .optional(),
];
const IS_ASSET: &[&[PolicyFact]] = &[ASSET, SENSITIVITY, STATUS];

const fn kind(
    name: &'static str,
    within: &'static [&'static str],
    facts: &'static [&'static [PolicyFact]],
    meaning: &'static str,
) -> EntityType {
    EntityType { name, within, meaning, facts }
}

/// The types of entities, in the order of the schema.
pub const TYPES: &[EntityType] = &[
    kind("Organisation", &["Organisation"], &[], "An organisation or a part of one."),
    kind("Role", &["Role"], &[], "A role."),
    kind(
        "Group",
        &["Group", "Organisation", "Role"],
        &[],
        "A group of principals; its members hold its roles.",
    ),
    kind("User", &["Group", "Role"], &[STATUS], "A person."),
    kind("Agent", &["Group", "Role"], &[ACTS, STATUS], "A program that acts with a model."),
    kind("Workload", &["Group", "Role"], &[ACTS, STATUS], "A program without a will of its own."),
    kind("Anonymous", &[], &[], "Whoever proved nothing."),
    kind(
        "Device",
        &["Group"],
        &[
            STATUS,
            &[
                fact("managed", "Bool", "", Declared, "The organisation manages it."),
                fact("owner", "User", "", Declared, "Whose it is.").optional(),
            ],
        ],
        "A device that requests can be bound to.",
    ),
    kind("Provider", &["Provider"], &[], "Who runs models."),
    kind("Project", &["Organisation", "Project"], &[], "A project or a folder of projects."),
    kind("Environment", &["Environment"], &[], "Where things run: development, staging, production."),
    kind("ModelFamily", &["ModelFamily", "Provider"], &[SENSITIVITY], "A family of models."),
    kind(
        "Model",
        &["Environment", "ModelFamily", "Project", "Provider"],
        &[
            SENSITIVITY,
            STATUS,
            &[fact("environment", "String", "", Declared, "The environment it belongs to.")],
        ],
        "A model.",
    ),
    kind("ToolServer", &["Environment", "Project"], IS_ASSET, "A server of tools."),
    kind("Tool", &["Environment", "Project", "ToolServer"], IS_ASSET, "A tool."),
    kind("Corpus", &["Environment", "Project"], IS_ASSET, "A body of documents."),
    kind(
        "Collection",
        &["Corpus", "Environment", "Project"],
        IS_ASSET,
        "A part of a corpus that is searched as one.",
    ),
    kind(
        "Document",
        &["Collection", "Environment", "Project"],
        &[ASSET, READERS, SENSITIVITY, STATUS],
        "A document.",
    ),
    kind("Database", &["Environment", "Project"], IS_ASSET, "A database."),
    kind("Table", &["Database", "Environment", "Project"], IS_ASSET, "A table."),
    kind("Column", &["Environment", "Project", "Table"], IS_ASSET, "A column."),
    kind("Api", &["Environment", "Project"], IS_ASSET, "An external API."),
    kind("Deployment", &["Environment", "Project"], IS_ASSET, "Something deployed."),
    kind("Manifest", &["Environment", "Project"], IS_ASSET, "What is deployed, by digest."),
    kind(
        "Artifact",
        &["Environment", "Manifest", "Project"],
        IS_ASSET,
        "A part of what is deployed: an image, weights, an adapter.",
    ),
    kind(
        "System",
        &[],
        &[],
        "The house itself: what administrative actions apply to that concern no part of it.",
    ),
    kind("Policy", &["System"], &[], "The policy of the house: `Policy::\"bartizan\"`."),
    kind("Approval", &["System"], &[], "What waits for approval."),
    kind("Review", &["System"], &[], "A review of access."),
    kind("Incident", &["System"], &[], "An incident."),
    kind("Ledger", &["System"], &[], "The ledger: `Ledger::\"bartizan\"`."),
    kind("Configuration", &["System"], &[], "The configuration: `Configuration::\"bartizan\"`."),
    kind(
        "Key",
        &["Agent", "System", "User", "Workload"],
        &[],
        "An API key by its id, in whoever it stands for: `resource in principal` is a key of one's own.",
    ),
];

#[cfg(test)]
mod tests;
