//! The closed registry of reason codes.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $way:literal,)+) => {
        /// Why something was refused or went wrong. Stable: codes are never reused and never change meaning.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ReasonCode {
            $($(#[doc = $doc])+ $variant,)+
            /// `custom:NAME`: a code that the tenant's policy bundle declares.
            Custom(Name),
        }

        impl ReasonCode {
            /// Every code of the engine's own, in the order of the reference page.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as it stands in answers, records and metrics.
            #[must_use]
            pub fn code(&self) -> std::borrow::Cow<'static, str> {
                match self {
                    $(Self::$variant => $code.into(),)+
                    Self::Custom(name) => format!("custom:{name}").into(),
                }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(&self) -> u16 {
                match self { $(Self::$variant => $status,)+ Self::Custom(_) => 403 }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn meaning(&self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ Self::Custom(_) => "A rule of your organisation forbids it." }
            }

            /// What the reader can do about it.
            #[must_use]
            pub const fn way_forward(&self) -> &'static str {
                match self { $(Self::$variant => $way,)+ Self::Custom(_) => "Ask those who own the policy." }
            }
        }
    };
}

reasons! {
    // Who asks.
    /// No credential was presented.
    CredentialMissing "credential_missing" 401 "Send an API key or access token as `Authorization: Bearer …` (or `x-api-key`).",
    /// The credential is not well-formed.
    CredentialMalformed "credential_malformed" 401 "Check that the whole credential was copied.",
    /// More than one credential was presented, and they are not the same.
    CredentialAmbiguous "credential_ambiguous" 400 "Send one credential only.",
    /// Nobody knows this credential.
    CredentialUnknown "credential_unknown" 401 "Create a new key, or ask its owner.",
    /// The credential is past its end.
    CredentialExpired "credential_expired" 401 "Create a new key or get a fresh token.",
    /// The credential is not valid yet.
    CredentialNotYetValid "credential_not_yet_valid" 401 "Check the clock of the issuer.",
    /// The credential was revoked.
    CredentialRevoked "credential_revoked" 401 "Create a new key, or ask whoever revoked it.",
    /// The principal behind the credential is disabled or gone.
    PrincipalDisabled "principal_disabled" 401 "Ask an administrator.",
    /// No configured issuer has issued this token.
    TokenIssuerUnknown "token_issuer_unknown" 401 "Use a token of an issuer that this installation trusts.",
    /// The token is for somebody else.
    TokenAudienceMismatch "token_audience_mismatch" 401 "Ask the issuer for a token with this service as audience.",
    /// The token is of another kind than an access token.
    TokenTypeRefused "token_type_refused" 401 "Send the access token, not the ID token.",
    /// The token's algorithm does not fit its key, or is not accepted.
    TokenAlgorithmRefused "token_algorithm_refused" 401 "Sign with EdDSA, ES256 or RS256 and the key's own algorithm.",
    /// The token's signature does not hold.
    TokenSignatureInvalid "token_signature_invalid" 401 "Get a fresh token from the issuer.",
    /// The issuer's keys could not be had.
    IssuerKeysUnavailable "issuer_keys_unavailable" 503 "Try again shortly; operators: check the issuer's `jwks_url`.",
    /// The credential's scopes do not cover this.
    ScopeInsufficient "scope_insufficient" 403 "Use a credential with the scope named in the answer.",

    /// The login did not succeed. It is never said which part was wrong.
    LoginFailed "login_failed" 401 "Check what you typed and try again, or sign in another way.",
    /// Too many attempts have failed; more are not looked at for a while.
    LoginThrottled "login_throttled" 429 "Wait a while, use a passkey, or sign in with a browser that you have used before.",
    /// The page was open for too long, or was answered already.
    LoginStale "login_stale" 409 "Start again.",
    /// The request did not come from one of our own pages.
    RequestForged "request_forged" 403 "Open the page anew and try again; a browser that hides `Origin` cannot be used.",
    /// There is no login, or it has ended.
    SessionMissing "session_missing" 401 "Sign in.",
    /// For this a login is too long ago, or not strong enough.
    LoginTooOld "login_too_old" 401 "Prove once more that it is you; then go on.",
    /// The authenticator, or what it sent, is not acceptable.
    AuthenticatorRefused "authenticator_refused" 422 "Use another one; see the message.",
    /// The password is too short, too common or too easy to guess.
    PasswordRefused "password_refused" 422 "Choose a longer one that nobody would guess; a few random words are good.",
    /// The recovery was begun, but its waiting time is not over.
    RecoveryWaits "recovery_waits" 403 "Come back when it is over; sign in meanwhile if you can, to stop what you did not begin.",
    /// The invitation is not, or no longer, good.
    InvitationInvalid "invitation_invalid" 401 "Ask an administrator for a new one.",
    /// The other provider's answer cannot be accepted.
    ProviderRefused "provider_refused" 401 "Start again; if it stays so, ask an administrator.",
    /// The proof that came with the token is missing, stands twice, was used before, or does not hold for this request (DPoP, RFC 9449).
    ProofRefused "proof_refused" 401 "Sign a new proof for this very request: its method, its address, now, with the token's own key.",
    /// The proof needs a nonce of ours.
    ProofNonceNeeded "proof_nonce_needed" 401 "Sign a new proof with the nonce of the `DPoP-Nonce` header.",
    /// The token is bound otherwise than it was presented: to a key or certificate that was not shown, or to none.
    BindingMismatch "binding_mismatch" 401 "Present the token with the key or certificate it was issued for, under the scheme it was issued with.",
    /// The chain of those who act for others is not acceptable.
    ChainRefused "chain_refused" 401 "Get a token in which nobody acts twice, and only agents and workloads act for others.",
    /// The device behind the request is disabled.
    DeviceDisabled "device_disabled" 401 "Use another device, or ask an administrator.",

    // What policy says.
    /// No rule permits it.
    NoMatchingPermit "no_matching_permit" 403 "Ask those who own the policy for access.",
    /// A rule forbids it.
    Forbidden "forbidden" 403 "Ask those who own the policy.",
    /// A rule could not be evaluated, so the ask is denied.
    PolicyError "policy_error" 403 "Policy authors: run `bartizan policy check`.",
    /// No policy is in force, so everything is denied.
    PolicyMissing "policy_missing" 403 "Administrators: apply a policy bundle.",
    /// The rules that guard the house itself forbid it.
    Constitution "constitution" 403 "Only the offline recovery keys can change this.",
    /// A stronger or more recent login is needed.
    AssuranceTooLow "assurance_too_low" 401 "Log in again as the remedy says.",
    /// A stated purpose is needed.
    JustificationRequired "justification_required" 403 "State the purpose in `x-bartizan-purpose` and ask again.",
    /// Others have to approve.
    ApprovalRequired "approval_required" 403 "Wait for the approval named in the remedy, then ask again.",
    /// A credential bound to a key is needed.
    BindingRequired "binding_required" 401 "Present a credential bound to a key of yours, as the remedy says.",
    /// As many asks of this caller wait for approval as may.
    TooManyHolds "too_many_holds" 403 "Wait until those that are waiting are answered, then ask again.",
    /// Personal data may not be seen in clear.
    PersonalData "personal_data" 403 "Ask for access to personal data.",
    /// The request is larger than policy lets this caller send.
    TooMuch "too_much" 403 "Ask for less.",
    /// This door cannot apply what the permit demands.
    ObligationUnsupported "obligation_unsupported" 403 "Use a door that can, or ask those who own the policy.",
    /// Applying what the permit demands failed, so nothing was released.
    ObligationFailed "obligation_failed" 502 "Try again; operators: see the log.",
    /// What is known of the directory or policy is older than its bound.
    SnapshotStale "snapshot_stale" 503 "Try again shortly; operators: check the state database.",
    /// The external account that this needs is not connected for exactly this person, agent and client program, or is over.
    ConnectionNeeded "connection_needed" 403 "Connect the account, for the agent and the program that use it: `bartizan connection add`.",
    /// It is outside of what the sponsor of an agent in the chain has set for it.
    SponsorCondition "sponsor_condition" 403 "Ask whoever answers for the agent; the rule in the decision says which condition.",
    /// The arguments of the call are not of the types that the tool declares.
    ToolArgumentsInvalid "tool_arguments_invalid" 400 "Send the arguments as the tool's own schema says: see `tools/list`.",
    /// The tool cannot be asked for: policy speaks of it otherwise than it is defined.
    ToolUnusable "tool_unusable" 403 "Ask those who own the policy: `bartizan policy check` says which rules do not fit the tool.",
    /// A lock is on it, set by a person or a response; it ends by itself.
    Locked "locked" 403 "Ask whoever the message names.",
    /// The credential is for exact things, and this is none of them; or policy wants a credential for exactly this.
    DetailsInsufficient "authorization_details_insufficient" 403 "Ask for a token with the `authorization_details` of the remedy.",
    /// The exact thing that was allowed was done as often as it may be.
    DetailsUsedUp "authorization_details_used_up" 403 "Ask whoever allowed it to allow it again.",
    /// What was sent or answered holds a text that stands nowhere but where nobody has any business (a canary).
    CanaryFound "canary_found" 403 "Those who run the house have been told; ask them.",

    // What limits say.
    /// More than may be asked for in this time was asked for.
    RateLimited "rate_limited" 429 "Wait as `retry-after` says, then ask again.",
    /// What there was to spend is spent, or this ask would spend more than is left.
    BudgetExhausted "budget_exhausted" 402 "Wait for the next period, ask for less, or ask for a larger budget.",
    /// As many asks as may are going on at once.
    TooManyAtOnce "too_many_at_once" 429 "Wait until one of them has ended, then ask again.",
    /// The same was asked again and again, to the byte.
    LoopDetected "loop_detected" 429 "Agents: stop and do something else; the answer will not change.",
    /// The run has taken as many steps, as much time or as much depth as it may.
    RunExhausted "run_exhausted" 403 "End the run; begin another one if that is meant.",
    /// Whether it fits a hard limit cannot be told now, so it is refused.
    LimitUnavailable "limit_unavailable" 503 "Try again shortly; operators: check the state database or `limits.db`.",
    /// A budget counts what calls cost, and nobody has declared what this model costs.
    PriceMissing "price_missing" 403 "Administrators: declare a `price` for the model.",

    // What was sent.
    /// The body is longer than the limit.
    BodyTooLarge "body_too_large" 413 "Send less.",
    /// The body did not arrive in time.
    BodyTimeout "body_timeout" 408 "Send the whole body at once.",
    /// The body is not what this path takes.
    BodyMalformed "body_malformed" 400 "See the message for the place.",
    /// A member stands twice in one JSON object.
    JsonDuplicateKey "json_duplicate_key" 400 "Send each member once.",
    /// The JSON is nested too deeply or holds too many values.
    JsonTooComplex "json_too_complex" 400 "Send a simpler document.",
    /// The media type is not taken here.
    MediaTypeUnsupported "media_type_unsupported" 415 "Send `content-type: application/json` without content encoding.",
    /// A header is missing or not acceptable.
    HeaderInvalid "header_invalid" 400 "See the message for the header.",
    /// There is nothing at this path, or nothing that you may know of.
    NotFound "not_found" 404 "Check the path and the name.",
    /// The query takes too long.
    QueryTooSlow "query_too_slow" 400 "Narrow it, for example by `since:`, or ask for a more telling field.",
    /// The path takes another method.
    MethodNotAllowed "method_not_allowed" 405 "See the `allow` header.",
    /// No such model, or none that you may know of.
    ModelNotFound "model_not_found" 404 "List what you may use with `GET /v1/models`.",
    /// The model does not speak this dialect.
    DialectUnsupported "dialect_unsupported" 400 "Use the path of the model's own dialect.",
    /// The request reaches for something that this model does not accept.
    RequestExtraRefused "request_extra_refused" 403 "Leave it out, or ask an administrator to accept it for this model.",
    /// The request has a member that nobody here knows.
    RequestFieldUnknown "request_field_unknown" 400 "Leave it out, or ask an administrator to declare it inert for this upstream.",
    /// No such external API is reached from here, or not at the moment.
    ApiUnknown "api_unknown" 404 "Ask an administrator which APIs there are.",
    /// The external API has no such operation, as far as it may be called.
    OperationUnknown "operation_unknown" 404 "Use a method and path that are declared for it, or ask an administrator to declare it.",
    /// The arguments are not what the operation takes.
    ArgumentsInvalid "arguments_invalid" 400 "Correct the place named in the message.",
    /// What came back is larger, or of another kind, than may be passed on.
    AnswerRefused "answer_refused" 502 "Ask for less, or ask an administrator what may be passed on.",
    /// No such tool, prompt, resource or server of tools, or none that you may know of.
    ToolNotFound "tool_not_found" 404 "List what you may use with `tools/list`, `prompts/list` or `resources/list`.",
    /// Nobody has approved this tool yet.
    ToolUnapproved "tool_unapproved" 403 "Ask an administrator to look at its definition: `bartizan tool list`, `bartizan tool approve`.",
    /// The tool is defined otherwise than it was approved, so it is blocked.
    ToolChanged "tool_changed" 403 "Ask an administrator to look at what has changed: `bartizan tool list`, `bartizan tool approve`.",
    /// The revision of the protocol is none that is spoken here.
    ProtocolUnsupported "protocol_unsupported" 400 "Use a revision that the answer names.",
    /// The method is none that is spoken here.
    MethodUnknown "method_unknown" 404 "See docs/tools.md for the methods that are.",
    /// A parameter of the message is missing, unknown, or of the wrong kind.
    ParamsInvalid "params_invalid" 400 "See the message for the parameter.",
    /// Headers and body of the message say different things.
    HeaderMismatch "header_mismatch" 400 "Send `Mcp-Method`, `Mcp-Name`, `Mcp-Param-…` and `MCP-Protocol-Version` as the body says.",
    /// What is to be changed has changed since it was read.
    Conflict "conflict" 409 "Read it again and repeat the change on the new version.",
    /// A legal hold keeps the data, so it is not erased.
    LegalHold "legal_hold" 409 "Ask those who placed the hold named in the message; release it when the case is closed.",
    /// The period was archived and removed from this node; what is kept here is its last checkpoint.
    PeriodRemoved "period_removed" 410 "Ask whoever keeps the archives; `bartizan log verify` and `log show` read them offline.",
    /// What is declared is not valid.
    Invalid "invalid" 422 "See the message for the place.",
    /// The period is not removed: the witnesses of this house have not cosigned its last checkpoint yet.
    PeriodUnwitnessed "period_unwitnessed" 409 "Ask again in some minutes; operators: see which witnesses do not answer, and set `record.witness_policy` right.",
    /// The line or a header of the request is written in a way that others may read otherwise than we do.
    RequestLineRefused "request_line_refused" 400 "Write host and path plainly: no `..`, `//`, `;`, `\\`, no needless escapes, no header that overrides them.",
    /// No declared route covers this request, or several do and say different things.
    MeshRouteUnknown "mesh_route_unknown" 403 "Administrators: declare a `mesh_route` for it; see the message.",

    /// There is no such handle, or none of this session any more.
    HandleUnknown "handle_unknown" 404 "Ask for the content anew: a handle is good in the session that got it alone, and for a while.",
    /// What is asked of a kept content leaves room for words, or the content does not fit it.
    ExtractionRefused "extraction_refused" 422 "Ask for truth values, numbers, days, choices or short patterns alone: see docs/labels.md.",

    /// The statement is not one that is run here.
    StatementRefused "statement_refused" 422 "See the message for what is wrong and where, or use a template of the database.",

    /// The code is none that is run here: the wrong kind, files that cannot be laid, a module that is not approved or wants what is not given.
    CodeRefused "code_refused" 422 "See the message for what is wrong.",
    /// Nothing of this name runs code here.
    CodeRuntimeUnknown "code_runtime_unknown" 404 "Ask an administrator what runs code here: `[code.runtimes]` of the configuration.",
    /// Which rows of a table may be read cannot be asked of the database, so none are.
    RowsUndecidable "rows_undecidable" 403 "Administrators: the log names the rule; docs/filters.md says what can be asked of a database.",

    // Bundles that may not come into force.
    /// The bundle carries no signature of this house.
    PolicyUnsigned "policy_unsigned" 422 "Put bundles in force with `bartizan policy apply`, never beside it.",
    /// The signature of the bundle does not hold, or is by another key.
    PolicySignatureInvalid "policy_signature_invalid" 422 "Operators: give every node the same `keys/policy.ed25519`; otherwise somebody has changed the state database.",
    /// The bundle was signed for another tenant.
    PolicyTenantMismatch "policy_tenant_mismatch" 422 "Operators: somebody has moved a row of the state database.",
    /// The bundle is not the one that its signature is about.
    PolicyDigestMismatch "policy_digest_mismatch" 422 "Operators: somebody has changed the state database.",
    /// An older bundle was put back; only a new version may return to what an old one said.
    PolicyReplayed "policy_replayed" 422 "Apply or roll back by `bartizan policy`; operators: the state database was set back.",
    /// No signature of a trusted author is on the bundle.
    PolicyAuthorMissing "policy_author_missing" 403 "Have one of `policy.signers` sign it with `bartizan policy sign`, against the version in force.",

    /// What is declared needs a feature that this program was built without.
    FeatureAbsent "feature_absent" 422 "Use a program that was built with the feature that the message names.",

    // What the house can do.
    /// The record could not be made durable, so nothing was done.
    RecordUnavailable "record_unavailable" 503 "Try again; operators: check the disk of the data folder.",
    /// More is waiting to be recorded than the queue holds.
    RecordQueueFull "record_queue_full" 503 "Slow down and try again.",
    /// The state database does not answer.
    StateUnavailable "state_unavailable" 503 "Try again; operators: check the state database.",
    /// What is to be kept cannot be kept now, or what was kept cannot be read; nothing was sent or released without it.
    VaultUnavailable "vault_unavailable" 503 "Try again; operators: check `vault.db` and the folder `vault` of the data folder.",
    /// Too much is going on at once.
    Busy "busy" 503 "Try again shortly.",
    /// The process is ending.
    ShuttingDown "shutting_down" 503 "Try again; another node answers.",
    /// Something of ours is broken.
    Internal "internal" 500 "Report it with the decision id.",
    /// What has entered the session cannot be known or written down now, so nothing is sent.
    LabelUnavailable "label_unavailable" 503 "Try again; operators: check the state database.",
    /// Children cannot be isolated on this machine, so the tool server was not started.
    IsolationUnavailable "isolation_unavailable" 503 "Operators: `bartizan doctor` says what is missing.",
    /// The tool server is declared as a command that this node has not.
    CommandUnknown "command_unknown" 503 "Operators: add `[commands.NAME]` to the configuration of every node.",
    /// A corpus was searched too often within the last minute.
    SearchesTooMany "searches_too_many" 429 "Wait a minute and search less often.",

    // What the other side did.
    /// The receiver of a delivery did not take it.
    DeliveryRefused "delivery_refused" 502 "Set the receiver right and try again; the message says what it answered.",
    /// The upstream could not be reached.
    UpstreamUnreachable "upstream_unreachable" 502 "Try again; operators: `bartizan upstream test`.",
    /// The upstream did not answer in time.
    UpstreamTimeout "upstream_timeout" 504 "Try again.",
    /// The upstream's answer is not what the dialect says.
    UpstreamInvalid "upstream_invalid" 502 "Try again; operators: check the upstream's dialect.",
    /// The upstream answered with a redirect, which is never followed.
    UpstreamRedirect "upstream_redirect" 502 "Operators: configure the final address.",
    /// The upstream's address is not one that calls may go to.
    EgressForbidden "egress_forbidden" 502 "Operators: check `allow_private` and the upstream's address.",
    /// The upstream broke off in the middle of its answer.
    UpstreamTruncated "upstream_truncated" 502 "Try again.",
    /// The upstream said that it takes no more now, so the call went to another one.
    UpstreamBusy "upstream_busy" 503 "Nothing; the decision after it says how it went on.",
    /// The upstream does not take the credential that it was called with.
    UpstreamCredentialRefused "upstream_credential_refused" 502 "Operators: put its credential right; people: connect the account anew.",
    /// The server of tools asked something of its client that its route does not accept, so the call was ended.
    ToolServerAsks "tool_server_asks" 502 "Ask an administrator whether the route should accept it.",
    /// The server of tools has forgotten the session that it was called in.
    ToolSessionLost "tool_session_lost" 502 "Try again.",
    /// The answer is longer than may be held.
    AnswerTooLong "answer_too_long" 502 "Ask for less; operators: see `limits.answer_bytes_max`.",
    /// The database did not run the statement. What it said stands in the log alone.
    StatementFailed "statement_failed" 422 "Check types and values; operators: see the log of the decision.",
    /// The database, its role or its tables are not such that what is promised would hold.
    DatabaseUnfit "database_unfit" 502 "Operators: see the log for what is wrong with the role, a table or the file.",
    /// What the tool answered is not what its approved definition says that it answers.
    ToolOutputInvalid "tool_output_invalid" 502 "Tell whoever runs the server; operators: see the log for what does not fit.",
    /// The code took longer than it may. What it had written is in the answer.
    CodeTime "code_time" 422 "Do less at once; operators: see `bounds.time_ms` of the runtime.",
    /// The code executed more than it may. What it had written is in the answer.
    CodeFuel "code_fuel" 422 "Do less at once; operators: see `bounds.fuel` of the runtime.",
    /// The code needed more memory or larger tables than it may have. What it had written is in the answer.
    CodeMemory "code_memory" 422 "Hold less at once; operators: see `bounds.memory_bytes` of the runtime.",
    /// The code wrote more than it may. What it had written before is in the answer.
    CodeOutput "code_output" 422 "Write less, or write it into a file; operators: see `bounds.output_bytes` of the runtime.",
    /// The code did what no program may do, and was stopped. What it had written is in the answer.
    CodeTrap "code_trap" 422 "See the message for what it was.",
    /// The stream was ended because what permitted it was revoked or ran out.
    StreamEnded "stream_ended" 403 "Log in again or ask why the access was ended.",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.code())
    }
}

/// No reason has that code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason code; a bundle's own codes start with `custom:`")]
pub struct UnknownReason;

impl FromStr for ReasonCode {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        if let Some(name) = text.strip_prefix("custom:") {
            return name.parse().map(Self::Custom).map_err(|_| UnknownReason);
        }
        Self::ALL.iter().find(|r| r.code() == text).cloned().ok_or(UnknownReason)
    }
}

impl JsonSchema for ReasonCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReasonCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let codes: Vec<_> = Self::ALL.iter().map(Self::code).collect();
        json_schema!({"type": "string", "anyOf": [{"enum": codes}, {"pattern": "^custom:"}]})
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.code())
    }
}

impl<'de> Deserialize<'de> for ReasonCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_snake_case_and_round_trip() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in ReasonCode::ALL {
            let code = reason.code();
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
            assert!(seen.insert(code.clone()), "{code} stands twice");
            assert_eq!(code.parse(), Ok(reason.clone()));
            assert!((400..600).contains(&reason.status()));
            assert!(reason.way_forward().ends_with('.') && reason.meaning().trim().ends_with('.'));
        }
        assert_eq!("custom:red-zone".parse::<ReasonCode>().unwrap().code(), "custom:red-zone");
        assert!("red-zone".parse::<ReasonCode>().is_err());
    }
}
