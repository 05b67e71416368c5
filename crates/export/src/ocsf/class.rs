//! Classes and activities, with their captions.

use bartizan_model::record::{Body, VerdictKind};
use bartizan_model::{Action, ReasonCode};

use crate::{Kind, Said};

/// The event classes in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Anything.
    BaseEvent,
    /// Somebody proves, or fails to prove, who they are.
    Authentication,
    /// A managed thing is changed.
    EntityManagement,
    /// A program is installed, started, stopped.
    ApplicationLifecycle,
    /// Something is asked of an API.
    ApiActivity,
    /// A program failed.
    ApplicationError,
}

impl Class {
    /// Every class.
    pub const ALL: &[Self] = &[
        Self::BaseEvent,
        Self::Authentication,
        Self::EntityManagement,
        Self::ApplicationLifecycle,
        Self::ApiActivity,
        Self::ApplicationError,
    ];

    /// Its `class_uid`.
    #[must_use]
    pub const fn uid(self) -> u32 {
        match self {
            Self::BaseEvent => 0,
            Self::Authentication => 3_002,
            Self::EntityManagement => 3_004,
            Self::ApplicationLifecycle => 6_002,
            Self::ApiActivity => 6_003,
            Self::ApplicationError => 6_008,
        }
    }

    /// Its caption.
    #[must_use]
    pub const fn caption(self) -> &'static str {
        match self {
            Self::BaseEvent => "Base Event",
            Self::Authentication => "Authentication",
            Self::EntityManagement => "Entity Management",
            Self::ApplicationLifecycle => "Application Lifecycle",
            Self::ApiActivity => "API Activity",
            Self::ApplicationError => "Application Error",
        }
    }

    /// The `category_uid` and caption of its category.
    #[must_use]
    pub const fn category(self) -> (u32, &'static str) {
        match self {
            Self::BaseEvent => (0, "Uncategorized"),
            Self::Authentication | Self::EntityManagement => (3, "Identity & Access Management"),
            Self::ApplicationLifecycle | Self::ApiActivity | Self::ApplicationError => {
                (6, "Application Activity")
            }
        }
    }

    /// The caption of one of its activities; none for the ids that are not in use here, and for 99, whose name is free.
    #[must_use]
    pub const fn activity_caption(self, id: u8) -> Option<&'static str> {
        Some(match (self, id) {
            (Self::Authentication, 1) => "Logon",
            (Self::Authentication, 2) => "Logoff",
            (Self::EntityManagement | Self::ApiActivity, 1) => "Create",
            (Self::EntityManagement | Self::ApiActivity, 2) => "Read",
            (Self::EntityManagement | Self::ApiActivity, 3) => "Update",
            (Self::EntityManagement | Self::ApiActivity, 4) => "Delete",
            (Self::EntityManagement, 6) => "Enroll",
            (Self::ApplicationLifecycle, 1) => "Install",
            (Self::ApplicationLifecycle, 3) => "Start",
            (Self::ApplicationLifecycle, 4) => "Stop",
            (Self::ApplicationError, 1) => "General Error",
            _ => return None,
        })
    }
}

/// An activity of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The class.
    pub class: Class,
    /// Its `activity_id`; 99 for one that the class does not list.
    pub id: u8,
    /// Its name: the caption of the schema, or for 99 our own.
    pub name: &'static str,
}

impl Activity {
    const fn listed(class: Class, id: u8) -> Self {
        match class.activity_caption(id) {
            Some(name) => Self { class, id, name },
            None => Self::other(class, "Other"),
        }
    }

    const fn other(class: Class, name: &'static str) -> Self {
        Self { class, id: 99, name }
    }

    /// What an entry is in OCSF.
    #[must_use]
    pub(crate) fn of(said: &Said) -> Self {
        let Said::Record(record) = said else { return Self::other(Class::BaseEvent, "Other") };
        match &record.body {
            Body::Intent(intent) => activity_or_other(intent.what.action),
            Body::Refusal(refusal) => {
                let failed_login = refusal.verdict == VerdictKind::Deny
                    && refusal.reasons.first().is_some_and(is_about_the_credential);
                match &refusal.what {
                    Some(what) if !failed_login => activity_or_other(what.action),
                    None if !failed_login => Self::other(Class::ApiActivity, "Unknown request"),
                    _ => Self::listed(Class::Authentication, 1),
                }
            }
            body @ (Body::Outcome(_) | Body::System(_)) => {
                activity_of_kind(Kind::of(body)).unwrap_or(Self::other(Class::BaseEvent, "Other"))
            }
        }
    }
}

fn activity_or_other(action: Action) -> Activity {
    activity_of(action).unwrap_or(Activity::other(Class::ApiActivity, "Other"))
}

/// What asking for an action is in OCSF; none for an action that is missing here, which a test does not let pass.
#[must_use]
pub const fn activity_of(action: Action) -> Option<Activity> {
    Some(match action {
        Action::ModelInvoke => Activity::other(Class::ApiActivity, "Invoke"),
        Action::ModelEmbed => Activity::other(Class::ApiActivity, "Embed"),
        Action::ModelTrain => Activity::other(Class::ApiActivity, "Train"),
        Action::ModelEvaluate => Activity::other(Class::ApiActivity, "Evaluate"),
        Action::ModelDeploy | Action::DeploymentPromote => Activity::other(Class::ApiActivity, "Deploy"),
        Action::ModelExport => Activity::other(Class::ApiActivity, "Export"),
        Action::ToolCall | Action::ApiCall => Activity::other(Class::ApiActivity, "Call"),
        Action::CodeRun => Activity::other(Class::ApiActivity, "Run"),
        Action::AgentDelegate => Activity::other(Class::ApiActivity, "Delegate"),
        Action::ArtifactAdmit => Activity::other(Class::ApiActivity, "Admit"),
        Action::ApprovalDecide | Action::ReviewDecide => Activity::other(Class::ApiActivity, "Decide"),
        Action::IncidentHandle => Activity::other(Class::ApiActivity, "Handle"),
        Action::DocumentWrite | Action::TableWrite => Activity::listed(Class::ApiActivity, 3),
        Action::ConfigurationChange => Activity::listed(Class::EntityManagement, 3),
        Action::DeliveryRetry => Activity::other(Class::ApiActivity, "Send"),
        Action::UpstreamTest | Action::PolicyTest => Activity::other(Class::ApiActivity, "Test"),
        Action::ModelList
        | Action::ModelMonitor
        | Action::ToolList
        | Action::CollectionRetrieve
        | Action::DocumentRead
        | Action::DatabaseQuery
        | Action::TableRead
        | Action::ColumnRead
        | Action::ResourceRead
        | Action::KeyList
        | Action::PolicyRead
        | Action::DecisionRead
        | Action::LedgerRead
        | Action::LedgerExport
        | Action::AccessEvaluate
        | Action::AccessSearch
        | Action::HandleExtract
        | Action::ContentRead => Activity::listed(Class::ApiActivity, 2),
        Action::SessionAuthenticate => Activity::listed(Class::Authentication, 1),
        Action::SessionEnd => Activity::listed(Class::Authentication, 2),
        Action::TokenIssue => Activity::other(Class::Authentication, "Issue token"),
        Action::TokenRevoke => Activity::other(Class::Authentication, "Revoke token"),
        Action::TokenIntrospect | Action::SessionList | Action::GrantList | Action::IdentityRead => {
            Activity::listed(Class::ApiActivity, 2)
        }
        Action::GrantGive | Action::DeviceEnrol | Action::CertificateIssue | Action::ClientRegister => {
            Activity::listed(Class::EntityManagement, 1)
        }
        Action::AuthenticatorChange
        | Action::ConnectionChange
        | Action::IdentityChange
        | Action::SessionEndorse => Activity::listed(Class::EntityManagement, 3),
        Action::GrantWithdraw => Activity::listed(Class::EntityManagement, 4),
        Action::SignalSend => Activity::other(Class::ApiActivity, "Signal"),
        Action::KeyCreate => Activity::listed(Class::EntityManagement, 1),
        // Whether a thing is new or changed is not in the record.
        Action::ResourceApply
        | Action::KeyRotate
        | Action::PolicyApply
        | Action::EpochAdvance
        | Action::LockChange => Activity::listed(Class::EntityManagement, 3),
        Action::SubjectHold => Activity::listed(Class::EntityManagement, 3),
        Action::KeyRevoke | Action::SubjectErase | Action::LedgerRemove => {
            Activity::listed(Class::EntityManagement, 4)
        }
        Action::HouseClaim | Action::HouseRecover => Activity::listed(Class::EntityManagement, 6),
        _ => return None,
    })
}

/// What a record of a kind is in OCSF; none for those whose action decides it.
#[must_use]
pub const fn activity_of_kind(kind: Kind) -> Option<Activity> {
    Some(match kind {
        Kind::Intent | Kind::Refusal => return None,
        Kind::Outcome => Activity::other(Class::ApiActivity, "Complete"),
        Kind::Started => Activity::listed(Class::ApplicationLifecycle, 3),
        Kind::Stopped => Activity::listed(Class::ApplicationLifecycle, 4),
        Kind::Initialised => Activity::listed(Class::ApplicationLifecycle, 1),
        Kind::DirectoryChanged => Activity::listed(Class::EntityManagement, 3),
        Kind::Erased | Kind::Expired | Kind::Reapplied | Kind::Removed => {
            Activity::listed(Class::EntityManagement, 4)
        }
        Kind::Checkpoint => Activity::other(Class::ApplicationLifecycle, "Checkpoint"),
        Kind::Unwitnessed | Kind::TailCut | Kind::PolicyRejected | Kind::DecisionMismatch => {
            Activity::listed(Class::ApplicationError, 1)
        }
        Kind::PolicyCompared => Activity::other(Class::ApplicationLifecycle, "Compare"),
        Kind::ReplayChecked => Activity::other(Class::ApplicationLifecycle, "Check"),
        Kind::Recovered => Activity::listed(Class::EntityManagement, 3),
    })
}

/// Whether a reason says that somebody could not prove who they are. Having to log in more surely is not that: they could.
const fn is_about_the_credential(reason: &ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::CredentialMissing
            | ReasonCode::CredentialMalformed
            | ReasonCode::CredentialAmbiguous
            | ReasonCode::CredentialUnknown
            | ReasonCode::CredentialExpired
            | ReasonCode::CredentialNotYetValid
            | ReasonCode::CredentialRevoked
            | ReasonCode::PrincipalDisabled
            | ReasonCode::TokenIssuerUnknown
            | ReasonCode::TokenAudienceMismatch
            | ReasonCode::TokenTypeRefused
            | ReasonCode::TokenAlgorithmRefused
            | ReasonCode::TokenSignatureInvalid
            | ReasonCode::IssuerKeysUnavailable
            | ReasonCode::ProofRefused
            | ReasonCode::ProofNonceNeeded
            | ReasonCode::BindingMismatch
            | ReasonCode::ChainRefused
            | ReasonCode::DeviceDisabled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_and_every_kind_has_its_place() {
        for action in Action::ALL {
            let activity = activity_of(*action).unwrap_or_else(|| panic!("`{action}` is not mapped"));
            assert_ne!(activity.name, "Other", "{action}");
        }
        for kind in Kind::ALL {
            let decided_by_action = matches!(kind, Kind::Intent | Kind::Refusal);
            assert_eq!(activity_of_kind(*kind).is_none(), decided_by_action, "{kind:?}");
        }
    }

    #[test]
    fn every_reason_that_speaks_of_credentials_or_tokens_is_a_failed_login() {
        for reason in ReasonCode::ALL {
            let code = reason.code();
            let of = ["credential_", "token_", "principal_", "issuer_", "proof_", "chain_"];
            let named = of.iter().any(|prefix| code.starts_with(prefix))
                || ["binding_mismatch", "device_disabled"].contains(&&*code);
            assert_eq!(is_about_the_credential(reason), named, "{code}");
        }
    }
}
