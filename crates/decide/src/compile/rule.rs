//! One rule: its annotations, its remedies, and what keeps them sound.

use std::sync::Arc;

use bartizan_base::Name;
use bartizan_model::{ReasonCode, Remedy};
use cedar_policy::{Effect, Policy, PolicyId};
use serde_json::Value;

use super::{Compiler, Place, Placed};
use crate::approval::ApprovalKey;
use crate::bundle::Rule;
use crate::index::Scope;
use crate::inner::Condition;
use crate::near::did_you_mean;
use crate::needs::Needs;
use crate::review::can_err;
use crate::{lint, remedy};

/// The annotations of a rule.
const ANNOTATIONS: [&str; 5] = ["id", "reason", "remedy", "description", "owner"];

impl Compiler<'_> {
    /// The rule that a statement is; none where it cannot be named or analysed, which is told.
    pub(super) fn rule<'a>(&mut self, place: Place<'a>, policy: &Policy) -> Option<Placed<'a>> {
        let Some(id) = policy.annotation("id").and_then(|id| id.parse::<Name>().ok()) else {
            let error = place.about("@id", "a rule needs a unique `@id(\"…\")`");
            self.errors.push(error.help("records and explanations name rules by it"));
            return None;
        };
        for (annotation, _) in policy.annotations() {
            if !ANNOTATIONS.contains(&annotation) {
                let help = did_you_mean(annotation, ANNOTATIONS)
                    .unwrap_or_else(|| "there are @id, @reason, @remedy, @description, @owner".to_owned());
                let message = format!("`{id}`: unknown annotation `@{annotation}`");
                self.errors.push(place.about(&format!("@{annotation}"), message).help(help));
            }
        }
        let forbids = policy.effect() == Effect::Forbid;
        let reason = self.reason(&place, &id, policy, forbids);
        let remedies = self.remedies(&place, &id, policy, forbids);
        // A scope alone says nothing that the lints look at.
        let written = match policy.has_non_scope_constraint() || !remedies.is_empty() {
            true => policy.to_json().ok(),
            false => Some(Value::Null),
        };
        let Some(written) = written else {
            self.errors.push(place.about("", format!("`{id}`: cannot be analysed")));
            return None;
        };
        let key = |remedy: &Remedy| match remedy {
            Remedy::Approve(approval) => Some(ApprovalKey::of(&id, approval)),
            _ => None,
        };
        let approval = remedies.iter().find_map(key);
        let mut keyed = written.clone();
        let is_keyed = approval.as_ref().is_some_and(|key| lint::put_keys(&mut keyed, &id, key));
        for (part, (message, help)) in lint::facts_stand_soundly(&written, forbids)
            .into_iter()
            .map(|finding| ("context.", finding))
            .chain(lint::facts_are_its_own(&written, &id, &remedies).into_iter().map(|f| ("context.", f)))
            .chain(lint::remedies_lift(&keyed, &remedies, &key).into_iter().map(|f| ("@remedy", f)))
        {
            self.errors.push(place.about(part, format!("`{id}`: {message}")).help(help));
        }
        let (needs, can_err) = (Needs::of(&written), can_err(&written));
        let written = policy.new_id(PolicyId::new(id.as_str()));
        let policy = if is_keyed {
            let Ok(policy) = Policy::from_json(Some(PolicyId::new(id.as_str())), keyed) else {
                self.errors.push(place.about("", format!("`{id}`: cannot be analysed")));
                return None;
            };
            policy
        } else {
            written.clone()
        };
        let (scope, condition) = (Scope::of(&policy), Condition::of(&policy));
        let text = place.words().to_owned();
        let rule =
            Rule { scope, condition, text, id, policy, forbids, reason, remedies, approval, needs, can_err };
        Some(Placed { place, rule: Arc::new(rule), written: Some(written) })
    }

    fn remedies(&mut self, place: &Place<'_>, id: &Name, policy: &Policy, forbids: bool) -> Vec<Remedy> {
        let Some(text) = policy.annotation("remedy") else { return Vec::new() };
        let parsed = match forbids {
            true => remedy::parse(text),
            false => Err("only a forbid can have a remedy".to_owned()),
        };
        parsed.unwrap_or_else(|message| {
            self.errors.push(place.about("@remedy", format!("`{id}`: {message}")));
            Vec::new()
        })
    }

    fn reason(&mut self, place: &Place<'_>, id: &Name, policy: &Policy, forbids: bool) -> ReasonCode {
        let Some(code) = policy.annotation("reason") else { return ReasonCode::Forbidden };
        if !forbids {
            self.errors.push(place.about("@reason", format!("`{id}`: only a forbid can have a reason")));
        }
        let error = match code.parse() {
            Ok(ReasonCode::Custom(_)) if !self.manifest.reasons.contains(code) => {
                let help = did_you_mean(code, self.manifest.reasons.iter().map(String::as_str));
                let help =
                    help.unwrap_or_else(|| format!("declare it in `bundle.toml`: reasons = [\"{code}\"]"));
                place.about(code, format!("`{id}`: reason `{code}` is not declared")).help(help)
            }
            Ok(reason) => return reason,
            Err(_) => {
                let codes: Vec<_> = ReasonCode::ALL.iter().map(ReasonCode::code).collect();
                let help = did_you_mean(code, codes.iter().map(AsRef::as_ref)).unwrap_or_else(|| {
                    "take a code of the registry, or declare `custom:NAME` in `bundle.toml`".to_owned()
                });
                place.about(code, format!("`{id}`: unknown reason `{code}`")).help(help)
            }
        };
        self.errors.push(error);
        ReasonCode::Forbidden
    }
}
