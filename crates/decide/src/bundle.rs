//! Policy bundles: a folder of Cedar files, and what becomes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bartizan_base::{Digest, Name, json};
use bartizan_model::{Detector, EntityRef, Obligation, ReasonCode, Remedy};
use cedar_policy::{EntityUid, Policy, PolicySet, Schema};

use crate::approval::ApprovalKey;
use crate::called::Tools;
use crate::compile::Compiler;
use crate::declared::Declared;
use crate::diagnostic::{BundleError, BundleErrors};
use crate::index::{Kept, Scope};
use crate::inner::Condition;
use crate::needs::Needs;
use crate::servers::ServerWords;
use crate::zone::Zone;

/// A bundle as it is written: files by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// `*.cedar`, `schema/*.cedarschema`, `bundle.toml`, `tests/*.toml`.
    pub files: BTreeMap<String, String>,
}

impl Bundle {
    /// The digest of its canonical form: every file, by path.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // A map of texts always has a canonical form.
        Digest::of(&json::canonical(&self.files).unwrap_or_default())
    }

    /// What it calls itself in `bundle.toml`; empty where it does not.
    #[must_use]
    pub fn name(&self) -> String {
        let manifest = self.files.get("bundle.toml").and_then(|text| text.parse::<toml::Table>().ok());
        manifest.and_then(|m| Some(m.get("name")?.as_str()?.to_owned())).unwrap_or_default()
    }
}

/// A rule of a compiled bundle.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: Name,
    /// As it is evaluated: approvals stand in it by their keys.
    pub(crate) policy: Policy,
    pub(crate) scope: Scope,
    pub(crate) condition: Condition,
    pub(crate) forbids: bool,
    pub(crate) reason: ReasonCode,
    pub(crate) remedies: Vec<Remedy>,
    /// The key of its approval, where it has such a remedy.
    pub(crate) approval: Option<ApprovalKey>,
    /// As it is written.
    pub(crate) text: String,
    pub(crate) needs: Needs,
    /// How its evaluation could err, if it could.
    pub(crate) can_err: Option<&'static str>,
}

/// A bundle that passed every check, ready to decide.
#[derive(Debug)]
pub struct CompiledBundle {
    pub(crate) digest: Digest,
    /// What its rules were checked against, besides the engine and the house: its words, and the reasons it declares.
    pub(crate) grounds: Option<Digest>,
    pub(crate) schema: Schema,
    /// Bundles that were compiled beside each other share the rules that stand in both.
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) constitution: Vec<Arc<Rule>>,
    /// Each action with the groups it is in, directly or not.
    pub(crate) action_groups: HashMap<EntityUid, Vec<EntityUid>>,
    pub(crate) declared: Declared,
    /// In which time zone its rules speak of hours and days.
    pub(crate) zone: Zone,
    pub(crate) disabled: Vec<(Name, String)>,
    /// The tools that have actions of their own.
    pub(crate) tools: Tools,
    pub(crate) warnings: Vec<BundleError>,
    pub(crate) kept: Kept,
}

/// A remedy that differs between two bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemedyChange {
    /// The rule.
    pub rule: Name,
    /// What lifted it before, in canonical form; nothing if only its condition did.
    pub before: Vec<String>,
    /// What lifts it now.
    pub now: Vec<String>,
    /// Whether the change may let through what was held back. True unless the new clauses are shown to be at least as strong.
    pub widens: bool,
}

impl CompiledBundle {
    /// Checks and compiles a bundle: syntax, schema, types (strict, warnings are errors), ids, reasons, remedies, lints.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn compile(bundle: &Bundle) -> Result<Self, BundleErrors> {
        Self::compile_with(bundle, &[])
    }

    /// The same, with the words of tool servers. A server whose words do not fit is disabled
    /// ([`Self::disabled_servers`]); the bundle is not refused for it.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle, at once.
    pub fn compile_with(bundle: &Bundle, servers: &[ServerWords]) -> Result<Self, BundleErrors> {
        Self::compile_beside(bundle, servers, &[])
    }

    /// The same, beside bundles that were compiled before. A rule that stands in one of them word for word was checked
    /// there, if that one has the same words and reasons: it is taken over. What comes out is the same as without them,
    /// at the cost of what differs.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle, at once.
    pub fn compile_beside(
        bundle: &Bundle,
        servers: &[ServerWords],
        beside: &[Arc<Self>],
    ) -> Result<Self, BundleErrors> {
        Compiler::new(beside).compile(bundle, servers)
    }

    /// A bundle that was put in force, as far as it can still be evaluated. What tool servers offer can have changed since: a
    /// tool that is gone, or whose definition does not fit the rules that speak of it, cannot be asked for, and rules that
    /// speak of nothing else are set aside. Nothing else is: where all of it fits, this is [`Self::compile_beside`].
    ///
    /// # Errors
    /// Everything else that is wrong with the bundle, at once.
    pub fn in_force(
        bundle: &Bundle,
        servers: &[ServerWords],
        beside: &[Arc<Self>],
    ) -> Result<Self, BundleErrors> {
        Self::compile_beside(bundle, servers, beside)
            .or_else(|errors| Compiler::as_far_as_it_goes(bundle, servers, beside).ok_or(errors))
    }

    /// The tool servers whose words do not fit, with the reason: their tools cannot be asked for.
    #[must_use]
    pub fn disabled_servers(&self) -> &[(Name, String)] {
        &self.disabled
    }

    /// The tools that rules speak of otherwise than they are by now, as actions: they cannot be asked for.
    #[must_use]
    pub fn unusable_tools(&self) -> Vec<String> {
        self.tools.dead().map(ToString::to_string).collect()
    }

    /// The digest of the bundle it was compiled from.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many rules it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rules: then everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule speaks of `what` by its name.
    #[must_use]
    pub fn names(&self, what: &EntityRef) -> bool {
        let named = crate::describe::uid(&what.kind, &what.name);
        named.is_some_and(|uid| self.rules.iter().any(|rule| rule.policy.entity_literals().contains(&uid)))
    }

    /// What is not wrong but worth a look: rules that others cover, forbids that could err.
    #[must_use]
    pub fn warnings(&self) -> &[BundleError] {
        &self.warnings
    }

    /// The rules as they are evaluated, by their ids: approvals stand in them by their keys ([`ApprovalKey`]), so a proof
    /// over this set tells a changed clause from the same one.
    #[must_use]
    pub fn policy_set(&self) -> PolicySet {
        let mut set = PolicySet::new();
        for rule in &self.rules {
            // Ids are unique in a compiled bundle.
            set.add(rule.policy.clone()).unwrap_or_default();
        }
        set
    }

    /// The schema that the rules were checked against: ours, and the bundle's own.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What would lift a rule; none if there is no such rule.
    #[must_use]
    pub fn remedies(&self, rule: &Name) -> Option<&[Remedy]> {
        self.rules.iter().find(|r| r.id == *rule).map(|r| &r.remedies[..])
    }

    /// The tenant's own detectors that its remedies name, each with a rule that does.
    pub fn custom_detectors(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.rules.iter().flat_map(|rule| {
            let detectors = rule.remedies.iter().flat_map(|remedy| match remedy {
                Remedy::Oblige(Obligation::Redact { detectors, .. }) => Some(detectors),
                _ => None,
            });
            detectors.flatten().filter_map(move |detector| match detector {
                Detector::Custom(name) => Some((name, &rule.id)),
                _ => None,
            })
        })
    }

    /// What an approval of a rule is given for; none if it is not lifted by approval.
    #[must_use]
    pub fn approval_key(&self, rule: &Name) -> Option<&ApprovalKey> {
        self.rules.iter().find(|r| r.id == *rule)?.approval.as_ref()
    }

    /// Remedies of rules of the same id that differ from `before`. This is part of every semantic difference: proofs see
    /// the Cedar condition alone, and a weaker clause under an equal condition is weaker policy.
    #[must_use]
    pub fn remedy_changes(&self, before: &Self) -> Vec<RemedyChange> {
        let then: HashMap<&Name, &Rule> = before.rules.iter().map(|r| (&r.id, &**r)).collect();
        let changed = self.rules.iter().filter_map(|now| {
            let then = *then.get(&now.id)?;
            let written = |rule: &Rule| rule.remedies.iter().map(ToString::to_string).collect::<Vec<_>>();
            (written(then) != written(now)).then(|| RemedyChange {
                rule: now.id.clone(),
                before: written(then),
                now: written(now),
                widens: widens(&then.remedies, &now.remedies),
            })
        });
        changed.collect()
    }
}

/// Remedies of a rule are all needed, so the new ones are as strong if each old one has one at least as strong. A forbid
/// that could not be lifted and now can is wider; one that can no longer be lifted is not.
fn widens(before: &[Remedy], now: &[Remedy]) -> bool {
    let kept = |old: &Remedy| now.iter().any(|new| new.is_at_least(old));
    !now.is_empty() && (before.is_empty() || !before.iter().all(kept))
}

#[cfg(test)]
impl CompiledBundle {
    /// A bundle of rules that a test has made, whatever the checks would say of them.
    pub(crate) fn of_rules(schema: Schema, rules: &[Policy], constitution: &[Policy]) -> Self {
        let rule = |policy: &Policy| {
            let forbids = policy.effect() == cedar_policy::Effect::Forbid;
            Arc::new(Rule { forbids, ..crate::compile::rule_of_constitution(policy).unwrap() })
        };
        Self {
            digest: Digest::of(b"test"),
            grounds: None,
            action_groups: crate::compile::action_groups(&schema).unwrap(),
            schema,
            rules: rules.iter().map(rule).collect(),
            constitution: constitution.iter().map(rule).collect(),
            declared: Declared::default(),
            zone: Zone::UTC,
            disabled: Vec::new(),
            tools: Tools::default(),
            warnings: Vec::new(),
            kept: Kept::default(),
        }
    }
}
