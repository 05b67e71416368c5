//! How much a record should worry its reader.

use bartizan_model::ReasonCode;
use bartizan_model::record::{Body, End, System};

/// How much a record should worry its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The house does its work.
    Informational,
    /// Somebody was refused or disappointed; that happens all day.
    Low,
    /// Somebody should look at it some time.
    Medium,
    /// Somebody should look at it now.
    High,
}

impl Severity {
    /// Every severity.
    pub const ALL: &[Self] = &[Self::Informational, Self::Low, Self::Medium, Self::High];

    /// How much a record should worry its reader.
    #[must_use]
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Intent(_) => Self::Informational,
            Body::Refusal(refusal) => refusal.reasons.iter().map(Self::of_reason).max().unwrap_or(Self::Low),
            Body::Outcome(outcome) => match &outcome.end {
                End::Done | End::Abandoned => Self::Informational,
                End::Failed { reason } => Self::of_reason(reason),
                End::Unknown => Self::Medium,
            },
            Body::System(event) => match event {
                System::Started { .. }
                | System::Stopped
                | System::Initialised
                | System::Expired { .. }
                | System::PolicyCompared { .. }
                | System::DirectoryChanged { .. }
                | System::ReplayChecked { differing: 0, .. }
                | System::Checkpoint { .. } => Self::Informational,
                System::Erased { .. } | System::Reapplied { .. } | System::Removed { .. } => Self::Low,
                System::TailCut { .. } => Self::Medium,
                System::Recovered { .. }
                | System::PolicyRejected { .. }
                | System::ReplayChecked { .. }
                | System::DecisionMismatch { .. }
                | System::Unwitnessed { .. } => Self::High,
            },
        }
    }

    /// How much a reason for refusing or failing should worry. The list of reasons is open: new ones are low unless they
    /// say that the house itself is in trouble.
    #[must_use]
    pub fn of_reason(reason: &ReasonCode) -> Self {
        match reason {
            // Somebody tries what was taken from them, forges, or reaches for the house itself.
            ReasonCode::CredentialRevoked
            | ReasonCode::PrincipalDisabled
            | ReasonCode::TokenAlgorithmRefused
            | ReasonCode::TokenSignatureInvalid
            | ReasonCode::Constitution
            | ReasonCode::EgressForbidden => Self::Medium,
            // The house cannot do its work, or not as its policy says.
            ReasonCode::Internal
            | ReasonCode::ObligationFailed
            | ReasonCode::PolicyError
            | ReasonCode::PolicyMissing
            | ReasonCode::RecordUnavailable
            | ReasonCode::SnapshotStale
            | ReasonCode::StateUnavailable => Self::High,
            _ => Self::Low,
        }
    }

    /// The number and caption of OCSF's `severity_id`.
    #[must_use]
    pub const fn ocsf(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }

    /// CEF's severity, 0 to 10: 0 to 3 is low, 4 to 6 medium, 7 and 8 high.
    #[must_use]
    pub const fn cef(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 3,
            Self::Medium => 5,
            Self::High => 8,
        }
    }

    /// OpenTelemetry's severity number and its short name.
    #[must_use]
    pub const fn otel(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (9, "INFO"),
            Self::Low => (10, "INFO2"),
            Self::Medium => (13, "WARN"),
            Self::High => (17, "ERROR"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_rises_with_the_severity() {
        assert!(Severity::ALL.is_sorted());
        assert!(Severity::ALL.is_sorted_by_key(|s| s.ocsf().0));
        assert!(Severity::ALL.is_sorted_by_key(|s| s.cef()));
        assert!(Severity::ALL.is_sorted_by_key(|s| s.otel().0));
    }

    #[test]
    fn the_strongest_of_several_reasons_counts() {
        assert_eq!(Severity::of_reason(&ReasonCode::Forbidden), Severity::Low);
        assert_eq!(Severity::of_reason(&ReasonCode::PolicyError), Severity::High);
        assert!(Severity::Low < Severity::High);
    }
}
