//! What security events mean to us: CAEP 1.0, RISC 1.0, and those of the stream itself (SSF 1.0).

use bartizan_model::RiskLevel;
use serde_json::{Map, Value};

/// The events of the Continuous Access Evaluation Profile begin with this.
pub const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
/// Those of Risk Incident Sharing and Coordination.
pub const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
/// Those of a stream itself.
pub const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// What happened at somebody else's, as far as it is something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// What was issued up to now is not to be relied on any more.
    Ended,
    /// They may not come in any more; a reason that policies see.
    Barred(&'static str),
    /// A bar of this reason is lifted; others stay.
    Lifted(&'static str),
    /// How risky they are found now.
    Risk(RiskLevel),
    /// Whether a device keeps the organisation's rules.
    Compliance(bool),
    /// Known, and nothing to do.
    Nothing,
}

/// An event that is known and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What an event says. None for one that we do not know: a receiver passes those over (RFC 8417, 3).
pub(super) fn read(uri: &str, event: &Map<String, Value>) -> Result<Option<Happened>, Malformed> {
    let text = |member: &str| event.get(member).and_then(Value::as_str).ok_or(Malformed);
    let caep = |name: &str| -> Result<Option<Happened>, Malformed> {
        Ok(Some(match name {
            "session-revoked" | "token-claims-change" => Happened::Ended,
            "credential-change" => match text("change_type")? {
                // One more way in takes none away.
                "create" => Happened::Nothing,
                "revoke" | "update" | "delete" => Happened::Ended,
                _ => return Err(Malformed),
            },
            "assurance-level-change" => match event.get("change_direction").map(Value::as_str) {
                Some(Some("increase")) => Happened::Nothing,
                Some(Some("decrease")) | None => Happened::Ended,
                Some(_) => return Err(Malformed),
            },
            "device-compliance-change" => match text("current_status")? {
                "compliant" => Happened::Compliance(true),
                "not-compliant" => Happened::Compliance(false),
                _ => return Err(Malformed),
            },
            "risk-level-change" => match text("current_level")? {
                "LOW" => Happened::Risk(RiskLevel::Low),
                "MEDIUM" => Happened::Risk(RiskLevel::Medium),
                "HIGH" => Happened::Risk(RiskLevel::High),
                _ => return Err(Malformed),
            },
            "session-established" | "session-presented" => Happened::Nothing,
            _ => return Ok(None),
        }))
    };
    if let Some(name) = uri.strip_prefix(CAEP) {
        caep(name)
    } else if let Some(name) = uri.strip_prefix(RISC) {
        Ok(match name {
            "account-disabled" => Some(Happened::Barred("account_disabled")),
            "account-purged" => Some(Happened::Barred("account_purged")),
            "credential-compromise" => Some(Happened::Barred("credential_compromised")),
            "account-credential-change-required" | "sessions-revoked" | "identifier-recycled" => {
                Some(Happened::Ended)
            }
            "account-enabled" => Some(Happened::Lifted("account_disabled")),
            "identifier-changed" | "recovery-activated" | "recovery-information-changed" => {
                Some(Happened::Nothing)
            }
            _ => None,
        })
    } else {
        let own = matches!(uri.strip_prefix(SSF), Some("verification" | "stream-updated"));
        Ok(own.then_some(Happened::Nothing))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(uri: &str, event: &Value) -> Result<Option<Happened>, Malformed> {
        read(uri, event.as_object().unwrap())
    }

    #[test]
    fn what_takes_something_away_is_told_from_what_does_not() {
        let caep = |name: &str, event| says(&format!("{CAEP}{name}"), &event);
        let risc = |name: &str| says(&format!("{RISC}{name}"), &json!({}));
        assert_eq!(caep("session-revoked", json!({"event_timestamp": 1})), Ok(Some(Happened::Ended)));
        for (change, happened) in
            [("create", Happened::Nothing), ("revoke", Happened::Ended), ("delete", Happened::Ended)]
        {
            assert_eq!(caep("credential-change", json!({"change_type": change})), Ok(Some(happened)));
        }
        for (change, happened) in [("increase", Happened::Nothing), ("decrease", Happened::Ended)] {
            let event = json!({"change_direction": change, "current_level": "nist-aal1"});
            assert_eq!(caep("assurance-level-change", event), Ok(Some(happened)));
        }
        for (status, keeps) in [("compliant", true), ("not-compliant", false)] {
            let event = json!({"current_status": status, "previous_status": "compliant"});
            assert_eq!(caep("device-compliance-change", event), Ok(Some(Happened::Compliance(keeps))));
        }
        assert_eq!(
            caep("risk-level-change", json!({"current_level": "HIGH"})),
            Ok(Some(Happened::Risk(RiskLevel::High)))
        );
        assert_eq!(risc("account-disabled"), Ok(Some(Happened::Barred("account_disabled"))));
        assert_eq!(risc("credential-compromise"), Ok(Some(Happened::Barred("credential_compromised"))));
        assert_eq!(risc("account-enabled"), Ok(Some(Happened::Lifted("account_disabled"))));
        assert_eq!(says(&format!("{SSF}verification"), &json!({"state": "x"})), Ok(Some(Happened::Nothing)));
    }

    #[test]
    fn an_unknown_event_is_passed_over_and_a_known_one_that_is_broken_is_not() {
        for uri in ["https://example.org/event", "", CAEP, RISC, SSF] {
            assert_eq!(says(uri, &json!({})), Ok(None), "{uri}");
        }
        for (name, event) in [
            ("credential-change", json!({})),
            ("credential-change", json!({"change_type": 1})),
            ("device-compliance-change", json!({"current_status": "who knows"})),
            ("risk-level-change", json!({"current_level": "low"})),
            ("assurance-level-change", json!({"change_direction": "sideways"})),
        ] {
            assert_eq!(says(&format!("{CAEP}{name}"), &event), Err(Malformed), "{name}");
        }
    }
}
