//! Questions of applications that enforce policy themselves: about subjects, actions and resources of their own, declared
//! in the bundle's schema.
//!
//! The answer is advice, not a permit: nothing of the house is unlocked by it. The house's own actions cannot be asked
//! about here, since the facts that they rest on (who is asking, how surely) are made by the house alone.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, EnforcementPointSpec, Obligations, ReasonCode, Remedy};
use cedar_policy::{Entity, EntityTypeName, EntityUid};
use serde_json::{Map, Value, json};

mod remembered;

use crate::bundle::Rule;
use crate::declared::Members;
use crate::engine::Snapshot;
use crate::evaluate::{Evaluation, Evaluator, Triple};
use crate::remedy::facts;
use crate::servers::TOOLS;
use crate::sponsor;
use crate::verdict::Evidence;
use remembered::Remembered;

/// The longest id of a subject or resource, in bytes.
const ID_MAX: usize = 1_024;
/// Evaluations of one search before it stops for a breath; the rest comes with the next page.
const BREATH: usize = 10_000;
/// What the house alone says in a context.
const OURS: [&str; 4] = ["action", "approvals", "now", "obligations"];

/// A subject or resource as an application names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedEntity {
    /// Its type, in the application's words.
    pub kind: String,
    /// Its id within the type.
    pub id: String,
    /// What the application says of it.
    pub properties: Map<String, Value>,
}

/// A question of an application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedOf {
    /// Who would act.
    pub subject: AskedEntity,
    /// What they would do.
    pub action: String,
    /// What the application says of that.
    pub action_properties: Map<String, Value>,
    /// To what.
    pub resource: AskedEntity,
    /// The circumstances that the application tells.
    pub context: Map<String, Value>,
}

/// What policy says to a question.
#[derive(Clone, Debug)]
pub struct Advice {
    /// What is decided.
    pub verdict: VerdictKind,
    /// Why not, strongest first.
    pub reasons: Vec<ReasonCode>,
    /// What is wrong with the question, where something is.
    pub detail: Option<String>,
    /// What the application must do for a permit to stand.
    pub obligations: Obligations,
    /// The rules.
    pub evidence: Evidence,
    /// Digest of the bundle.
    pub policy: Digest,
    /// Digest of the entities in reach.
    pub slice: Digest,
    /// Digest of the circumstances.
    pub context: Digest,
}

/// What a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Subjects of the type named.
    Subjects,
    /// Actions.
    Actions,
    /// Resources of the type named.
    Resources,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Ids, or names of actions, in their order.
    pub results: Vec<String>,
    /// After what to go on; none at the end. It may name something that was not found, so it is not for the asker's eyes.
    pub more_after: Option<String>,
}

impl Advice {
    /// Whether it may happen.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.verdict == VerdictKind::Permit
    }

    fn denied(policy: Digest, reason: ReasonCode) -> Self {
        let none = Digest::EMPTY;
        Self {
            verdict: VerdictKind::Deny,
            reasons: vec![reason],
            detail: None,
            obligations: Obligations::none(),
            evidence: Evidence::default(),
            policy,
            slice: none,
            context: none,
        }
    }
}

impl Snapshot {
    /// What policy says to a question of the application at `point`.
    #[must_use]
    pub fn advise(&self, asked: &AskedOf, point: &EnforcementPointSpec, now: Timestamp) -> Advice {
        self.advising(point, now).advise(asked)
    }

    /// Policy, to be asked several questions of the application at `point` at one moment. What they have in common is read
    /// once.
    #[must_use]
    pub fn advising<'a>(&'a self, point: &'a EnforcementPointSpec, now: Timestamp) -> Advising<'a> {
        let evaluator = self.evaluator().filter(|evaluator| !evaluator.bundle.is_empty());
        let remembered = Remembered::default();
        Advising { question: evaluator.map(|evaluator| Question { evaluator, point, now, remembered }) }
    }

    /// Who may do it, what may be done, or to what: everything declared that the question, with it filled in, is answered
    /// with yes, up to `limit` results, going on after `after`. Permits under obligations count only where `point` applies
    /// them.
    #[must_use]
    pub fn search(
        &self,
        seek: Seek,
        asked: &AskedOf,
        point: &EnforcementPointSpec,
        now: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Hits {
        let candidates = self.candidates(seek, asked, point, after);
        let mut results = Vec::new();
        let advising = self.advising(point, now);
        for (at, candidate) in candidates.iter().enumerate() {
            if results.len() >= limit || at >= BREATH {
                let last = at.checked_sub(1).and_then(|before| candidates.get(before)).cloned();
                return Hits { results, more_after: last };
            }
            let mut filled = asked.clone();
            match seek {
                Seek::Subjects => {
                    filled.subject =
                        AskedEntity { id: candidate.clone(), properties: Map::new(), ..filled.subject };
                }
                Seek::Resources => {
                    filled.resource =
                        AskedEntity { id: candidate.clone(), properties: Map::new(), ..filled.resource };
                }
                Seek::Actions => {
                    filled.action.clone_from(candidate);
                    filled.action_properties = Map::new();
                }
            }
            if advising.advise(&filled).permits() {
                results.push(candidate.clone());
            }
        }
        Hits { results, more_after: None }
    }

    fn candidates(
        &self,
        seek: Seek,
        asked: &AskedOf,
        point: &EnforcementPointSpec,
        after: Option<&str>,
    ) -> Vec<String> {
        let of_type = |kind: &str| {
            let kind: Option<EntityTypeName> = type_name(kind, point).parse().ok();
            let declared = kind.map(|kind| self.entities().of_type(&kind, after)).unwrap_or_default();
            declared.iter().map(|id| id.id().unescaped().to_owned()).collect()
        };
        match seek {
            Seek::Subjects => of_type(&asked.subject.kind),
            Seek::Resources => of_type(&asked.resource.kind),
            Seek::Actions => {
                let Some(bundle) = self.bundle() else { return Vec::new() };
                let actions = bundle.declared.actions(point.namespace.as_deref().unwrap_or_default());
                actions.filter(|name| after.is_none_or(|a| *name > a)).map(str::to_owned).collect()
            }
        }
    }
}

/// Policy, asked several questions of one application at one moment.
#[derive(Debug)]
pub struct Advising<'a> {
    /// None where there is no policy.
    question: Option<Question<'a>>,
}

impl Advising<'_> {
    /// What policy says to a question.
    #[must_use]
    pub fn advise(&self, asked: &AskedOf) -> Advice {
        let Some(question) = &self.question else {
            return Advice::denied(Digest::EMPTY, ReasonCode::PolicyMissing);
        };
        let denied = |reason| Advice::denied(question.evaluator.bundle.digest(), reason);
        match question.translate(asked) {
            Ok(translated) => question.judge(&translated),
            Err(Untranslated::Unknown) => denied(ReasonCode::NoMatchingPermit),
            Err(Untranslated::Wrong(detail)) => {
                Advice { detail: Some(detail), ..denied(ReasonCode::Invalid) }
            }
        }
    }
}

#[derive(Debug)]
struct Question<'a> {
    evaluator: &'a Evaluator,
    point: &'a EnforcementPointSpec,
    now: Timestamp,
    remembered: Remembered,
}

/// A question in the words of the schema.
struct Translated<'a> {
    triple: Triple,
    overlay: Vec<Entity>,
    /// What the application told, as far as it is believed.
    told: Map<String, Value>,
    declared: &'a Members,
}

enum Untranslated {
    /// It is about something that nobody declares, so no rule permits it.
    Unknown,
    /// What was told does not fit the schema.
    Wrong(String),
}

impl<'a> Question<'a> {
    fn translate(&self, asked: &AskedOf) -> Result<Translated<'a>, Untranslated> {
        let bundle = &self.evaluator.bundle;
        let namespace = self.point.namespace.as_deref().unwrap_or_default();
        // The facts of the house's own actions are made by the house, so nobody else may tell them.
        let is_tools = namespace.split("::").next() == Some(TOOLS);
        if is_tools || (namespace.is_empty() && asked.action.parse::<Action>().is_ok()) {
            return Err(Untranslated::Unknown);
        }
        let declared = bundle.declared.context(namespace, &asked.action).ok_or(Untranslated::Unknown)?;
        let action_type =
            if namespace.is_empty() { "Action".to_owned() } else { format!("{namespace}::Action") };
        let triple = Triple {
            principal: self.uid(&asked.subject)?,
            action: self.remembered.uid(&action_type, &asked.action)?,
            resource: self.uid(&asked.resource)?,
        };
        let subject = self.overlay(&triple.principal, &asked.subject, &self.point.subject_properties)?;
        let resource = self.overlay(&triple.resource, &asked.resource, &self.point.resource_properties)?;
        let mut told = believed(&asked.context, &self.point.context, declared);
        OURS.iter().for_each(|name| drop(told.remove(*name)));
        if let Some(members) = declared.get("action").and_then(|member| member.members.as_ref()) {
            let of_action = believed(&asked.action_properties, &self.point.action_properties, members);
            told.insert("action".to_owned(), Value::Object(of_action));
        }
        let overlay = [subject, resource].into_iter().flatten().collect();
        Ok(Translated { triple, overlay, told, declared })
    }

    fn uid(&self, asked: &AskedEntity) -> Result<EntityUid, Untranslated> {
        let kind = type_name(&asked.kind, self.point);
        self.evaluator.bundle.declared.attributes(&kind).ok_or(Untranslated::Unknown)?;
        if asked.id.len() > ID_MAX {
            return Err(Untranslated::Wrong(format!("an id is longer than {ID_MAX} bytes")));
        }
        self.remembered.uid(&kind, &asked.id)
    }

    /// The entity as the directory has it with what the application is believed; none where that adds nothing.
    fn overlay(
        &self,
        id: &EntityUid,
        asked: &AskedEntity,
        allowed: &BTreeSet<bartizan_base::Name>,
    ) -> Result<Option<Entity>, Untranslated> {
        let kind = id.type_name().to_string();
        let attributes = self.evaluator.bundle.declared.attributes(&kind).ok_or(Untranslated::Unknown)?;
        let told = believed(&asked.properties, allowed, attributes);
        if told.is_empty() && self.evaluator.entities().is_declared(id) {
            return Ok(None);
        }
        let declared = self.evaluator.entities().declared(id);
        let wrong = |error: &dyn std::error::Error| Untranslated::Wrong(chain(error));
        let mut entity = match declared {
            Some(entity) => entity.to_json_value().map_err(|e| wrong(&e))?,
            None => json!({"uid": {"type": kind, "id": asked.id}, "attrs": {}, "parents": []}),
        };
        if let Some(known) = entity.get_mut("attrs").and_then(Value::as_object_mut) {
            for (name, value) in told {
                if self.point.overrides || !known.contains_key(&name) {
                    known.insert(name, value);
                }
            }
        }
        // Without the schema an extension value or an entity would stay what it is in JSON; with it, a required attribute
        // that nobody knows makes the entity unusable, and the question is answered with no.
        let schema = Some(&self.evaluator.bundle.schema);
        Entity::from_json_value(entity, schema).map(Some).map_err(|e| wrong(&e))
    }

    /// The algorithm of DESIGN 4, for one member and without what only the house can ask for.
    fn judge(&self, translated: &Translated<'_>) -> Advice {
        let bundle = &self.evaluator.bundle;
        let mut advice = Advice::denied(bundle.digest(), ReasonCode::NoMatchingPermit);
        let first = match self.evaluate(translated, &BTreeSet::new()) {
            Ok(first) => {
                let asked = sponsor::Asked::outside(self.now.as_secs());
                sponsor::bounded(self.evaluator.entities(), &translated.triple, &asked, first)
            }
            Err(detail) => {
                advice.reasons = vec![ReasonCode::Invalid];
                advice.detail = Some(detail);
                return advice;
            }
        };
        let names = |places: &[usize]| {
            places.iter().filter_map(|at| bundle.rules.get(*at)).map(|rule| rule.id.clone()).collect()
        };
        advice.slice = first.slice;
        advice.context = first.context;
        advice.evidence = Evidence {
            permits: names(&first.permits),
            forbids: names(&first.forbids),
            near: if first.permits.is_empty() { names(&first.near) } else { Vec::new() },
            constitution: first.constitution.clone(),
            erred: first.erred.clone(),
            remedy_helps: None,
            stale: BTreeSet::new(),
        };
        if !first.erred.is_empty() {
            advice.reasons = vec![ReasonCode::PolicyError];
        } else if let Some(reason) = sponsor::reason(&first.constitution) {
            advice.reasons = vec![reason];
        } else if first.permitted {
            advice.verdict = VerdictKind::Permit;
            advice.reasons.clear();
        } else {
            let forbids: Vec<&Rule> =
                first.forbids.iter().filter_map(|at| Some(&**bundle.rules.get(*at)?)).collect();
            self.try_obligations(translated, &forbids, &mut advice);
        }
        advice
    }

    fn try_obligations(&self, translated: &Translated<'_>, forbids: &[&Rule], advice: &mut Advice) {
        let Some(first) = forbids.first() else { return };
        advice.reasons = forbids.iter().map(|rule| rule.reason.clone()).collect();
        advice.reasons.dedup();
        // A login, a purpose and an approval are facts of the house's own callers; here there is nobody to bring them about.
        let ours = |rule: &&&Rule| {
            rule.remedies.is_empty()
                || rule.remedies.iter().any(|remedy| !matches!(remedy, Remedy::Oblige(_)))
        };
        if let Some(rule) = forbids.iter().find(ours) {
            advice.reasons = vec![rule.reason.clone()];
            return;
        }
        let oblige = |remedy: &Remedy| match remedy {
            Remedy::Oblige(obligation) => Some(obligation.clone()),
            _ => None,
        };
        let obligations: Obligations =
            forbids.iter().flat_map(|rule| &rule.remedies).filter_map(oblige).collect();
        let obliged = obligations.iter().flat_map(facts).collect();
        let helps = self.evaluate(translated, &obliged).is_ok_and(|again| again.permitted);
        advice.evidence.remedy_helps = Some(helps);
        if !helps {
            advice.reasons = vec![first.reason.clone()];
        } else if obligations.contradict()
            || !obligations.iter().all(|o| self.point.applies.contains(&o.kind()))
        {
            advice.reasons = vec![ReasonCode::ObligationUnsupported];
        } else {
            advice.verdict = VerdictKind::Permit;
            advice.reasons.clear();
            advice.obligations = obligations;
        }
    }

    fn evaluate(
        &self,
        translated: &Translated<'_>,
        obliged: &BTreeSet<String>,
    ) -> Result<Evaluation, String> {
        let mut told = translated.told.clone();
        let mut ours = |name: &str, value: Value| {
            if translated.declared.contains_key(name) {
                told.insert(name.to_owned(), value);
            }
        };
        ours("obligations", json!(obliged));
        ours("approvals", json!([]));
        ours("now", json!({"__extn": {"fn": "datetime", "arg": self.now.to_string()}}));
        let (action, schema) = (&translated.triple.action, &self.evaluator.bundle.schema);
        let facts = self.remembered.circumstances(action, Value::Object(told), schema)?;
        let evaluated = self.evaluator.evaluate_with(&translated.triple, &facts, &translated.overlay);
        evaluated.ok_or_else(|| "what was told could not be made facts of".to_owned())
    }
}

/// What of `told` is both allowed to be told and declared.
fn believed(
    told: &Map<String, Value>,
    allowed: &BTreeSet<bartizan_base::Name>,
    declared: &Members,
) -> Map<String, Value> {
    let taken =
        told.iter().filter(|(name, _)| allowed.contains(name.as_str()) && declared.contains_key(*name));
    taken.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The type of the schema for a type of the application.
fn type_name(kind: &str, point: &EnforcementPointSpec) -> String {
    match (point.types.get(kind), &point.namespace) {
        (Some(mapped), _) => mapped.to_string(),
        (None, Some(namespace)) => format!("{namespace}::{kind}"),
        (None, None) => kind.to_owned(),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
