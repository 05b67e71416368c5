//! Evaluation: the algorithm of DESIGN 4, for chains, with remedies.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::detail::covering;
use bartizan_model::record::{VerdictKind, What};
use bartizan_model::{
    Action, Ask, AskFacts, Covering, CredentialKind, DecisionId, EntityRef, Member, ObligationKind, Offer,
    Operation, PrincipalKind, ReasonCode, Situation, Wanted,
};
use cedar_policy::EntityUid;
use serde::{Deserialize, Serialize};

use crate::approval::Standing;
use crate::bundle::CompiledBundle;
use crate::called::Called;
use crate::context::{Asking, Conditions};
use crate::describe::uid;
use crate::entities::Entities;
use crate::evaluate::{Evaluation, Evaluator, Noted, Triple};
use crate::explain::{Change, Explanation};
use crate::generic::Misfit;
use crate::judged::{Judged, broken};
use crate::lift::{Applied, Facts, try_remedies};
use crate::rows::Laid;
use crate::shadow::Shadow;
use crate::sponsor;
use crate::story::{MemberStory, Reader};
use crate::tell::tell_member;
use crate::verdict::{Decision, Permit, PermitParts, Refused, Verdict};

/// How long a permit may lie before it is used.
const PERMIT_LIFE: Duration = Duration::from_secs(30);

/// What an enforcement point can do: the kinds of obligations it can apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Door(BTreeSet<ObligationKind>);

impl Door {
    /// A door that can apply `kinds`.
    #[must_use]
    pub const fn new(kinds: BTreeSet<ObligationKind>) -> Self {
        Self(kinds)
    }

    /// The door of model calls: everything that can be done to a request and its answer.
    #[must_use]
    pub fn model_calls() -> Self {
        Self(
            [
                ObligationKind::Cap,
                ObligationKind::DoNotKeep,
                ObligationKind::Keep,
                ObligationKind::Redact,
                ObligationKind::StripTools,
                ObligationKind::StripLinks,
                ObligationKind::Watch,
            ]
            .into(),
        )
    }

    /// The door without one kind of obligation.
    #[must_use]
    pub fn without(mut self, kind: ObligationKind) -> Self {
        self.0.remove(&kind);
        self
    }

    /// Whether it can apply obligations of this kind.
    pub(crate) fn applies(&self, kind: ObligationKind) -> bool {
        self.0.contains(&kind)
    }

    /// A door that can apply nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }
}

/// Policy and entities of one tenant at one moment: immutable, shared, swapped whole.
#[derive(Debug)]
pub struct Snapshot {
    /// None without a bundle: everything is denied.
    evaluator: Option<Evaluator>,
    entities: Arc<Entities>,
}

impl Snapshot {
    /// A snapshot of `bundle` (none: everything is denied) over `entities`.
    #[must_use]
    pub fn new(bundle: Option<Arc<CompiledBundle>>, entities: Arc<Entities>) -> Self {
        Self { evaluator: bundle.map(|bundle| Evaluator::new(bundle, entities.clone())), entities }
    }

    /// The entities.
    #[must_use]
    pub const fn entities(&self) -> &Arc<Entities> {
        &self.entities
    }

    /// The bundle in force.
    #[must_use]
    pub fn bundle(&self) -> Option<&Arc<CompiledBundle>> {
        self.evaluator.as_ref().map(|evaluator| &evaluator.bundle)
    }

    /// What was left out of the entities, because it does not fit the schema in force.
    #[must_use]
    pub fn misfits(&self) -> &[Misfit] {
        self.entities.misfits()
    }

    /// What evaluates, if a bundle is in force.
    pub(crate) const fn evaluator(&self) -> Option<&Evaluator> {
        self.evaluator.as_ref()
    }

    /// Decides an ask: for every member of the caller's chain, with the strongest verdict of all.
    pub fn decide<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
    ) -> Decision<O> {
        self.decide_by(caller, ask, situation, door, (&Standing::default(), false, None))
    }

    /// Decides an ask of a chain of which approvals or holds are known. A fulfilled remedy is not a ticket: everything is
    /// decided afresh, with what was approved as one fact among others.
    pub fn decide_standing<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
        standing: &Standing,
    ) -> Decision<O> {
        self.decide_by(caller, ask, situation, door, (standing, false, None))
    }

    /// The same, evaluating every rule instead of those the index picks: the reference for tests.
    pub fn decide_reference<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
    ) -> Decision<O> {
        self.decide_by(caller, ask, situation, door, (&Standing::default(), true, None))
    }

    #[expect(clippy::needless_pass_by_value, reason = "an ask is answered once")]
    pub(crate) fn decide_by<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
        (standing, all, row): (&Standing, bool, Option<&Laid>),
    ) -> Decision<O> {
        let what = What {
            action: ask.action,
            resource: ask.resource.clone(),
            dialect: ask.facts.dialect.clone(),
            bytes: ask.facts.bytes,
            body: ask.body,
        };
        let (action, resource, facts) = (ask.action, &ask.resource, &ask.facts);
        let supposed = None;
        let case = Case { caller, action, resource, facts, situation, standing, all, row, supposed };
        let mut judged = self.judge(&case, door);
        self.sample(ask.id, &case);
        if caller.is_supposed() {
            // A supposed caller may be asked about, never act.
            judged.verdict = VerdictKind::Deny;
            judged.reasons = vec![ReasonCode::CredentialMissing];
            (judged.offers, judged.holds) = (Vec::new(), Vec::new());
        }
        let verdict = match judged.verdict {
            VerdictKind::Permit => {
                let mut parts = PermitParts {
                    id: ask.id,
                    tenant: caller.tenant().clone(),
                    who: caller.who(),
                    what,
                    grounds: judged.grounds,
                    obligations: judged.obligations,
                    expires: situation.now.saturating_add(PERMIT_LIFE).min(caller.expires()),
                    uses: Vec::new(),
                };
                judged.covering.into_iter().for_each(|covering| parts.cover(covering));
                return Decision {
                    verdict: Verdict::Permit(Permit { parts, operation: std::marker::PhantomData }),
                    evidence: judged.evidence,
                };
            }
            refused => refused,
        };
        // Whoever may not know of a thing is answered as if it did not exist: nothing is offered, nobody is asked to approve.
        // That is for policy to say: a token for something else hides nothing from whoever may know of it.
        let supposed = caller.details().map(|_| Covering::default());
        let discoverable = discovering(&ask.resource)
            .is_none_or(|action| self.permits(&Case { action, supposed, ..case }, door));
        let hidden = !discoverable && discovering(&ask.resource) != Some(ask.action);
        let verdict = if hidden { VerdictKind::Deny } else { verdict };
        if hidden {
            (judged.offers, judged.holds) = (Vec::new(), Vec::new());
        }
        let refused = Refused {
            id: ask.id,
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what: Some(what),
            verdict,
            reasons: judged.reasons,
            offers: judged.offers,
            holds: judged.holds,
            grounds: Some(judged.grounds),
            discoverable,
        };
        Decision {
            verdict: match verdict {
                VerdictKind::StepUp => Verdict::StepUp(refused),
                VerdictKind::Justify => Verdict::Justify(refused),
                VerdictKind::Hold => Verdict::Hold(refused),
                VerdictKind::Permit | VerdictKind::Deny => Verdict::Deny(refused),
            },
            evidence: judged.evidence,
        }
    }

    /// The same snapshot, with a sample of its evaluations put into `shadow` to be compared with the reference.
    #[must_use]
    pub fn watched(mut self, shadow: Arc<Shadow>) -> Self {
        if let Some(evaluator) = &mut self.evaluator {
            evaluator.shadow = Some(shadow);
        }
        self
    }

    /// Puts the evaluations of a sampled decision aside, before any remedy.
    fn sample(&self, id: DecisionId, case: &Case<'_>) {
        let Some(evaluator) = &self.evaluator else { return };
        // A row exists for this ask alone; the shadow knows the declared entities.
        if !case.all && case.row.is_none() && evaluator.shadow.as_ref().is_some_and(|shadow| shadow.takes(id))
        {
            let standing = Applied::standing(case.standing);
            // What cannot be asked for was not evaluated.
            let Ok(called) = evaluator.bundle.called(case.action, case.resource, case.facts) else { return };
            let called = called.as_ref();
            for (place, member) in case.caller.members().enumerate() {
                let conditions = conditions(evaluator, case, called, (place, member), &standing);
                let Some(triple) = triple(case, called, member) else { continue };
                if let Some(evaluation) = evaluator.evaluate(&triple, &conditions, false, Noted::Digests) {
                    evaluator.watch(&triple, &conditions, &evaluation);
                }
            }
        }
    }

    /// What would be decided, and why; also for supposed callers. The same evaluation as [`Snapshot::decide`], without a
    /// permit, told as far as the reader may see it.
    #[must_use]
    pub fn explain(&self, question: &Question<'_>, door: &Door, reader: Reader) -> Explanation {
        self.explain_standing(question, door, &Standing::default(), reader)
    }

    /// The same of a chain of which approvals or holds are known.
    #[must_use]
    pub fn explain_standing(
        &self,
        question: &Question<'_>,
        door: &Door,
        standing: &Standing,
        reader: Reader,
    ) -> Explanation {
        let Question { caller, action, resource, facts, situation } = *question;
        let case = Case {
            caller,
            action,
            resource,
            facts,
            situation,
            standing,
            all: false,
            row: None,
            supposed: None,
        };
        let judged = self.judge(&case, door);
        let evaluated = judged.evaluated;
        let bundle = self.bundle().filter(|_| reader.rules).map(|bundle| &**bundle);
        let mut out = Explanation::new(judged, bundle);
        if !reader.rules {
            // Which rules came close is about policy, not about the decision.
            out.evidence.near.clear();
        }
        if let Some(evaluator) = self.evaluator.as_ref().filter(|_| reader.rules && evaluated) {
            let (members, lacking, incomplete) = tell(evaluator, &case, reader);
            out.tell(members, lacking, incomplete);
        }
        out
    }

    /// Whether a case is permitted, of which nothing is recorded: most are not because no rule permits anything like it.
    fn permits(&self, case: &Case<'_>, door: &Door) -> bool {
        let may = |evaluator: &Evaluator| {
            let Ok(called) = evaluator.bundle.called(case.action, case.resource, case.facts) else {
                return false;
            };
            let may = |triple| evaluator.may_permit(&triple);
            case.caller.members().all(|member| triple(case, called.as_ref(), member).is_some_and(may))
        };
        let possible = case.all || case.row.is_some() || self.evaluator.as_ref().is_some_and(may);
        possible && self.judge(case, door).verdict == VerdictKind::Permit
    }

    pub(crate) fn judge(&self, case: &Case<'_>, door: &Door) -> Judged {
        let mut judged = self.judge_held(case, door);
        let lacks = judged.verdict == VerdictKind::Deny
            && judged.reasons.first() == Some(&ReasonCode::DetailsInsufficient);
        if lacks && case.supposed.is_none() {
            judged.offers.extend(self.wanted(case, door));
        }
        judged
    }

    /// A token for exactly what is asked, where it would help.
    fn wanted(&self, case: &Case<'_>, door: &Door) -> Option<Offer> {
        let wanted = Wanted::of((case.action, case.resource), case.facts).filter(|_| case.row.is_none())?;
        let supposed = Some(wanted.covering());
        let helped = self.judge_held(&Case { supposed, ..*case }, door);
        (helped.verdict != VerdictKind::Deny)
            .then(|| Offer::Authorize { authorization_details: vec![wanted] })
    }

    /// The decision by what is held, whatever else would help.
    fn judge_held(&self, case: &Case<'_>, door: &Door) -> Judged {
        let mut judged = Judged::denied(self.bundle().map(|b| b.digest()));
        if let Some(verdict) = claim_or_recovery(case) {
            judged.verdict = verdict;
            judged.reasons =
                if verdict == VerdictKind::Permit { Vec::new() } else { vec![ReasonCode::Constitution] };
            return judged;
        }
        if !case.caller.scopes().cover(case.action) {
            judged.reasons = vec![ReasonCode::ScopeInsufficient];
            return judged;
        }
        // As scopes do, details only shrink what policy grants.
        let Ok(covering) = case.covering() else {
            judged.reasons = vec![ReasonCode::DetailsInsufficient];
            return judged;
        };
        judged.covering = covering;
        let Some(evaluator) = self.evaluator.as_ref().filter(|e| !e.bundle.is_empty()) else {
            judged.reasons = vec![ReasonCode::PolicyMissing];
            return judged;
        };
        let called = match evaluator.bundle.called(case.action, case.resource, case.facts) {
            Ok(called) => called,
            Err(reason) => {
                judged.reasons = vec![reason];
                return judged;
            }
        };
        let called = called.as_ref();
        let base = Applied::standing(case.standing);
        let Some(first) = evaluate_chain(evaluator, case, called, &base, Noted::Digests) else {
            judged.reasons = vec![ReasonCode::NoMatchingPermit];
            return judged;
        };
        judged.note(&evaluator.bundle, &first);
        judged.evaluated = true;
        if let Some(reason) = broken(&first) {
            judged.reasons = vec![reason];
            return judged;
        }
        if first.iter().all(|e| e.permitted) {
            judged.verdict = VerdictKind::Permit;
            judged.reasons.clear();
            return judged;
        }
        let members: Vec<&Member> = case.caller.members().collect();
        let again = |applied: &Applied| evaluate_chain(evaluator, case, called, applied, Noted::Nothing);
        let facts = Facts { members: &members, situation: case.situation, standing: case.standing };
        try_remedies(&evaluator.bundle, &facts, door, &base, &first, &again, &mut judged);
        judged
    }

    /// Refuses a bundle under which nobody could put another in force: asked for every active person as if freshly logged
    /// in, surely.
    #[must_use]
    pub fn somebody_can_apply(&self, suppose: impl Fn(&Name) -> Caller, now: Timestamp) -> bool {
        let situation = Situation::at(now);
        let policy = EntityRef::of_the_house(Action::PolicyApply).unwrap_or_else(EntityRef::system);
        let facts = AskFacts { dialect: "control".to_owned(), ..AskFacts::default() };
        self.entities.users().any(|name| {
            let caller = suppose(&name);
            let case = Case {
                caller: &caller,
                action: Action::PolicyApply,
                resource: &policy,
                facts: &facts,
                situation: &situation,
                standing: &Standing::default(),
                all: false,
                row: None,
                supposed: None,
            };
            self.judge(&case, &Door::none()).verdict == VerdictKind::Permit
        })
    }
}

/// A question to be explained.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who would ask.
    pub caller: &'a Caller,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: &'a EntityRef,
    /// How.
    pub facts: &'a AskFacts,
    /// Under which conditions.
    pub situation: &'a Situation,
}

/// One question, apart from its id and operation.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) action: Action,
    pub(crate) resource: &'a EntityRef,
    pub(crate) facts: &'a AskFacts,
    pub(crate) situation: &'a Situation,
    pub(crate) standing: &'a Standing,
    pub(crate) all: bool,
    /// What is known of the resource for this ask alone, where it is a row of a store and not declared.
    pub(crate) row: Option<&'a Laid>,
    /// How the credential would cover it, instead of how it does: to see whether another one would help.
    pub(crate) supposed: Option<Covering>,
}

/// The exact things that a credential is for do not cover an ask.
pub(crate) struct NotCovered;

impl Case<'_> {
    /// How the exact things that the credential is for cover it; none where it is for nothing in particular. A row is covered
    /// as itself, or with the search of its collection.
    pub(crate) fn covering(&self) -> Result<Option<Covering>, NotCovered> {
        if self.supposed.is_some() {
            return Ok(self.supposed);
        }
        let Some(details) = self.caller.details() else { return Ok(None) };
        let covers = |action, resource: &EntityRef| {
            covering(details, (action, resource), self.facts, self.situation.now)
        };
        let searched = || {
            let container = self.row.and_then(|row| entity_of(&row.container))?;
            let search = covers(Action::CollectionRetrieve, &container)?;
            // The search itself was counted.
            Some(Covering { counts: None, ..search })
        };
        covers(self.action, self.resource).or_else(searched).map(Some).ok_or(NotCovered)
    }
}

/// An entity as asks name it.
fn entity_of(uid: &EntityUid) -> Option<EntityRef> {
    let name: Name = uid.id().unescaped().parse().ok()?;
    Some(EntityRef::new(uid.type_name().to_string().parse().ok()?, name))
}

/// The action that lets a caller know that a thing exists; none where everybody may know.
fn discovering(resource: &EntityRef) -> Option<Action> {
    match resource.kind.as_str() {
        "Model" => Some(Action::ModelList),
        "Tool" => Some(Action::ToolList),
        _ => None,
    }
}

/// The asks that no policy decides: whoever holds the claim may redeem it, whoever holds the recovery keys may recover, the
/// house does what it does on its own; and none of them may do anything else.
fn claim_or_recovery(case: &Case<'_>) -> Option<VerdictKind> {
    let credential = case.caller.credential();
    let fits = match case.action {
        Action::HouseClaim => credential == CredentialKind::Claim,
        Action::HouseRecover => credential == CredentialKind::Recovery,
        // To keep its own keys fresh; to keep a question of somebody who is not proven yet, which gives nothing.
        Action::IdentityChange | Action::TokenIssue if credential == CredentialKind::House => true,
        _ if matches!(
            credential,
            CredentialKind::Claim | CredentialKind::Recovery | CredentialKind::House
        ) =>
        {
            false
        }
        _ => return None,
    };
    Some(if fits { VerdictKind::Permit } else { VerdictKind::Deny })
}

/// Evaluates every member; none when a member or the resource does not exist.
fn evaluate_chain(
    evaluator: &Evaluator,
    case: &Case<'_>,
    called: Option<&Called>,
    applied: &Applied,
    noted: Noted,
) -> Option<Vec<Evaluation>> {
    let evaluate = |(place, member): (usize, &Member)| {
        let conditions = conditions(evaluator, case, called, (place, member), applied);
        let triple = triple(case, called, member)?;
        let found = match case.row {
            None => evaluator.evaluate(&triple, &conditions, case.all, noted)?,
            Some(row) => evaluator.evaluate_with(&triple, &conditions, &row.overlay)?,
        };
        Some(match member.principal.kind {
            PrincipalKind::Agent | PrincipalKind::Workload => {
                // Where it lies is what is declared of its collection, never what a store says.
                let placed = case.row.map(|row| Triple { resource: row.container.clone(), ..triple.clone() });
                let asked = sponsor::Asked::of(case, place);
                sponsor::bounded(evaluator.entities(), placed.as_ref().unwrap_or(&triple), &asked, found)
            }
            // Nobody answers for a person but themselves.
            PrincipalKind::User | PrincipalKind::Anonymous => found,
        })
    };
    case.caller.members().enumerate().map(evaluate).collect()
}

/// What one member's evaluation asks.
fn triple(case: &Case<'_>, called: Option<&Called>, member: &Member) -> Option<Triple> {
    Some(Triple {
        principal: uid(member.principal.kind.entity_type(), &member.principal.name)?,
        action: called.map_or_else(|| action_uid(case.action), |called| Some(called.uid.clone()))?,
        resource: uid(&case.resource.kind, &case.resource.name)?,
    })
}

/// An action of the house as an entity, made once.
fn action_uid(action: Action) -> Option<EntityUid> {
    static KNOWN: LazyLock<HashMap<Action, EntityUid>> = LazyLock::new(|| {
        Action::ALL.iter().filter_map(|action| Some((*action, uid("Action", action.name())?))).collect()
    });
    KNOWN.get(&action).cloned()
}

/// Under which conditions, as they would be with what is applied.
fn conditions<'a>(
    evaluator: &Evaluator,
    case: &Case<'a>,
    called: Option<&'a Called>,
    (place, member): (usize, &'a Member),
    applied: &'a Applied,
) -> Conditions<'a> {
    let asking = Asking {
        caller: case.caller,
        member,
        place,
        situation: case.situation,
        facts: case.facts,
        called,
        covering: case.covering().unwrap_or_default(),
        zone: evaluator.bundle.zone,
    };
    let mut conditions = Conditions::of(asking, &applied.obligations, &applied.approvals);
    // What one member would do counts for that member alone.
    let own = applied.own.get(&place).copied().unwrap_or_default();
    if let Some((stepped, max_age)) = own.step_up {
        let assurance = &mut conditions.assurance;
        assurance.level = assurance.level.max(stepped.into());
        assurance.age_s = max_age.map_or(assurance.age_s, |_| 0);
    }
    conditions.binding = own.bound.map_or(conditions.binding, |by| by.name());
    conditions.purpose = applied.purpose.as_deref().or(conditions.purpose);
    conditions
}

/// The tree of a decision, what would change it by membership, and whether not everything was looked at.
fn tell(evaluator: &Evaluator, case: &Case<'_>, reader: Reader) -> (Vec<MemberStory>, Vec<Change>, bool) {
    let base = Applied::standing(case.standing);
    let (mut members, mut lacking, mut incomplete) = (Vec::new(), Vec::new(), false);
    let Ok(called) = evaluator.bundle.called(case.action, case.resource, case.facts) else {
        return (members, lacking, incomplete);
    };
    let called = called.as_ref();
    for (place, member) in case.caller.members().enumerate() {
        let conditions = conditions(evaluator, case, called, (place, member), &base);
        let Some(triple) = triple(case, called, member) else { continue };
        let Some(found) = evaluator.evaluate(&triple, &conditions, false, Noted::Nothing) else { continue };
        let Some(scene) = evaluator.scene(&triple, &conditions) else { continue };
        let (story, more, cut) = tell_member(&evaluator.bundle, &triple, &found, &scene, reader);
        let role = if place == 0 { "subject" } else { "actor" }.to_owned();
        members.push(MemberStory { role, member: triple.principal.to_string(), rules: story });
        lacking.extend(more);
        incomplete |= cut;
    }
    (members, lacking, incomplete)
}
