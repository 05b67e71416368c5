//! What can be asked.

use std::collections::BTreeSet;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator};
use serde_json::Value;

/// The vocabulary that rules are written in.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    pub(crate) schema: Schema,
    pub(crate) fragments: Vec<Value>,
}

/// What cannot be asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The schema's parts do not fit together.
    #[error("vocabulary: {0}")]
    Vocabulary(String),
    /// A file cannot be read as Cedar.
    #[error("{0}: {1}")]
    Syntax(String, String),
    /// A rule or invariant does not pass strict validation.
    #[error("`{0}`: {1}")]
    Rule(String, String),
    /// An invariant is not written as one.
    #[error("{0}: an invariant {1}")]
    Invariant(String, &'static str),
}

/// A question.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Question {
    /// Does `new` permit nothing that `old` did not?
    NothingNew {
        /// The set compared with.
        old: PolicySet,
        /// The set asked about.
        new: PolicySet,
    },
    /// Do both permit the same?
    Equivalent {
        /// The set compared with.
        old: PolicySet,
        /// The set asked about.
        new: PolicySet,
    },
    /// Is no ask that an invariant matches ever permitted? One finding for each invariant.
    NeverPermits {
        /// The set asked about.
        rules: PolicySet,
        /// The invariants ([`Vocabulary::invariants`](crate::Vocabulary::invariants)).
        invariants: PolicySet,
    },
    /// Can no rule end in an error? One finding for each rule.
    NeverErrs {
        /// The set asked about.
        rules: PolicySet,
    },
}

impl Vocabulary {
    /// Links the parts of a schema.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn new(fragments: &[SchemaFragment]) -> Result<Self, Invalid> {
        let wrong = |e: &dyn std::fmt::Display| Invalid::Vocabulary(e.to_string());
        let schema = Schema::from_schema_fragments(fragments.to_vec()).map_err(|e| wrong(&e))?;
        let json = fragments.iter().map(|f| f.clone().to_json_value().map_err(|e| wrong(&e)));
        Ok(Self { schema, fragments: json.collect::<Result<_, _>>()? })
    }

    /// Reads invariants from the files of a bundle below `invariants/`: forbids, each with `@id` and `@because`. An
    /// invariant is no rule and forbids nothing by itself; it says what no rules may ever permit.
    ///
    /// ```text
    /// @id("no-agent-changes-the-house")
    /// @because("Agents can be talked into anything.")
    /// forbid (principal is Agent, action in Action::"house:change", resource);
    /// ```
    ///
    /// # Errors
    /// When one cannot be read, is not a forbid, lacks an annotation, or does not pass strict validation.
    pub fn invariants<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<PolicySet, Invalid> {
        let mut out = PolicySet::new();
        for (file, text) in files {
            let set: PolicySet = text
                .parse()
                .map_err(|e: cedar_policy::ParseErrors| Invalid::Syntax(file.to_owned(), e.to_string()))?;
            let wrong = |what| Invalid::Invariant(file.to_owned(), what);
            if set.templates().next().is_some() {
                return Err(wrong("is not a template"));
            }
            for policy in set.policies() {
                let id = policy.annotation("id").filter(|id| !id.is_empty());
                let id = id.ok_or_else(|| wrong("has an `@id(\"…\")`"))?;
                if policy.effect() != Effect::Forbid {
                    return Err(wrong("is written as a forbid"));
                }
                if policy.annotation("because").is_none_or(str::is_empty) {
                    return Err(wrong("says why: `@because(\"…\")`"));
                }
                if policy.annotations().any(|(name, _)| !matches!(name, "id" | "because")) {
                    return Err(wrong("has no annotations but `@id` and `@because`"));
                }
                out.add(policy.new_id(PolicyId::new(id)))
                    .map_err(|_| wrong("has an id of its own; one stands twice"))?;
            }
        }
        self.check(&out)?;
        Ok(out)
    }

    /// Strict validation, warnings included: a rule that can never match makes a claim about nothing.
    pub(crate) fn check(&self, rules: &PolicySet) -> Result<(), Invalid> {
        let result = Validator::new(self.schema.clone()).validate(rules, ValidationMode::Strict);
        let rule = |id: &PolicyId, what: String| Invalid::Rule(id.to_string(), what);
        let error = result.validation_errors().next().map(|e| rule(e.policy_id(), e.to_string()));
        let warning = result.validation_warnings().next().map(|w| rule(w.policy_id(), w.to_string()));
        error.or(warning).map_or(Ok(()), Err)
    }
}

impl Question {
    /// Its name, as in answers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NothingNew { .. } => "nothing_new",
            Self::Equivalent { .. } => "equivalent",
            Self::NeverPermits { .. } => "never_permits",
            Self::NeverErrs { .. } => "never_errs",
        }
    }

    /// The set asked about.
    pub(crate) const fn asked(&self) -> &PolicySet {
        match self {
            Self::NothingNew { new, .. } | Self::Equivalent { new, .. } => new,
            Self::NeverPermits { rules, .. } | Self::NeverErrs { rules } => rules,
        }
    }

    /// The set compared with.
    pub(crate) const fn compared(&self) -> Option<&PolicySet> {
        match self {
            Self::NothingNew { old, .. } | Self::Equivalent { old, .. } => Some(old),
            Self::NeverPermits { .. } | Self::NeverErrs { .. } => None,
        }
    }

    /// What there is a finding about, in order.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let ids = |set: &PolicySet| {
            set.policies().map(|p| p.id().to_string()).collect::<BTreeSet<_>>().into_iter().collect()
        };
        match self {
            Self::NothingNew { .. } | Self::Equivalent { .. } => vec![String::new()],
            Self::NeverPermits { invariants, .. } => ids(invariants),
            Self::NeverErrs { rules } => ids(rules),
        }
    }
}

/// The same scope and conditions with the effect of a permit: it matches what `policy` matches.
pub(crate) fn as_permit(policy: &Policy) -> Option<Policy> {
    let mut est = policy.to_json().ok()?;
    est.as_object_mut()?.insert("effect".to_owned(), Value::from("permit"));
    Policy::from_json(Some(policy.id().clone()), est).ok()
}
