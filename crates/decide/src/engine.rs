//! Evaluation: the algorithm of DESIGN 4, for chains, with remedies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::record::{Grounds, VerdictKind, What};
use bartizan_model::{
    Action, Ask, AskFacts, CredentialKind, DecisionId, EntityRef, Label, Member, ObligationKind, Obligations,
    Offer, Operation, PrincipalKind, ReasonCode, Situation,
};

use cedar_policy::Entity;

use crate::bundle::{CompiledBundle, Rule};
use crate::context::Conditions;
use crate::describe::uid;
use crate::entities::Entities;
use crate::evaluate::{Evaluation, Evaluator, Triple};
use crate::explain::Explanation;
use crate::lift::{Applied, apply, can, strength};
use crate::shadow::Shadow;
use crate::verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};

/// The engine's name in records.
const ENGINE: &str = "cedar-4.14.1";
/// How long a permit may lie before it is used.
const PERMIT_LIFE: Duration = Duration::from_secs(30);

/// What an enforcement point can do: the kinds of obligations it can apply.
#[derive(Clone, Debug, Default)]
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

    /// The bundle in force.
    #[must_use]
    pub fn bundle(&self) -> Option<&Arc<CompiledBundle>> {
        self.evaluator.as_ref().map(|evaluator| &evaluator.bundle)
    }

    /// The entities that it decides over.
    #[must_use]
    pub const fn entities(&self) -> &Arc<Entities> {
        &self.entities
    }

    /// Decides an ask: for every member of the caller's chain, with the strongest verdict of all.
    pub fn decide<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
    ) -> Decision<O> {
        self.decide_by(caller, ask, situation, door, false)
    }

    /// The same, evaluating every rule instead of those the index picks: the reference for tests.
    pub fn decide_reference<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
    ) -> Decision<O> {
        self.decide_by(caller, ask, situation, door, true)
    }

    #[expect(clippy::needless_pass_by_value, reason = "an ask is answered once")]
    fn decide_by<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
        all: bool,
    ) -> Decision<O> {
        let what = What {
            action: ask.action,
            resource: ask.resource.clone(),
            dialect: ask.facts.dialect.clone(),
            bytes: ask.facts.bytes,
            body: ask.body,
        };
        let case = Case {
            caller,
            action: ask.action,
            resource: &ask.resource,
            facts: &ask.facts,
            situation,
            all,
            overlay: &[],
        };
        let mut judged = self.judge(&case, door);
        self.sample(ask.id, &case);
        if caller.is_supposed() {
            // A supposed caller may be asked about, never act.
            judged.verdict = VerdictKind::Deny;
            judged.reasons = vec![ReasonCode::CredentialMissing];
        }
        let verdict = match judged.verdict {
            VerdictKind::Permit => {
                return Decision {
                    verdict: Verdict::Permit(Permit {
                        parts: PermitParts {
                            id: ask.id,
                            tenant: caller.tenant().clone(),
                            who: caller.who(),
                            what,
                            grounds: judged.grounds,
                            obligations: judged.obligations,
                            expires: situation.now.saturating_add(PERMIT_LIFE).min(caller.expires()),
                        },
                        operation: std::marker::PhantomData,
                    }),
                    evidence: judged.evidence,
                };
            }
            refused => refused,
        };
        // Whoever may not know of a thing is answered as if it did not exist.
        let discoverable = ask.resource.kind.as_str() != "Model"
            || self.judge(&Case { action: Action::ModelList, ..case }, door).verdict == VerdictKind::Permit;
        let refused = Refused {
            id: ask.id,
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what: Some(what),
            verdict,
            reasons: judged.reasons,
            offers: judged.offers,
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
        if !case.all && evaluator.shadow.as_ref().is_some_and(|shadow| shadow.takes(id)) {
            for (place, member) in case.caller.members().enumerate() {
                evaluate_and(evaluator, case, member, place, &Applied::default(), true);
            }
        }
    }

    /// What would be decided, and why; also for supposed callers. The same evaluation as [`Snapshot::decide`], without a
    /// permit. Rule texts only with the right to read policy (`with_texts`).
    #[must_use]
    pub fn explain(&self, question: &Question<'_>, door: &Door, with_texts: bool) -> Explanation {
        self.explain_with(question, door, with_texts, &[])
    }

    /// The same with entities, or attributes and parents of entities, that exist for this question alone. What `overlay` says of
    /// an entity is added to what is known of it, or stands in its place: the caller answers for what it lets in. An overlay that
    /// cannot be laid over the entities (a cycle, too many ancestors) denies as an error of policy.
    #[must_use]
    pub fn explain_with(
        &self,
        question: &Question<'_>,
        door: &Door,
        with_texts: bool,
        overlay: &[Entity],
    ) -> Explanation {
        let case = Case {
            caller: question.caller,
            action: question.action,
            resource: question.resource,
            facts: question.facts,
            situation: question.situation,
            all: false,
            overlay,
        };
        let judged = self.judge(&case, door);
        let bundle = self.bundle().filter(|_| with_texts).map(|bundle| &**bundle);
        Explanation::new(
            judged.verdict,
            judged.reasons,
            judged.offers,
            judged.obligations,
            judged.evidence,
            bundle,
        )
    }

    fn judge(&self, case: &Case<'_>, door: &Door) -> Judged {
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
        let Some(evaluator) = self.evaluator.as_ref().filter(|e| !e.bundle.is_empty()) else {
            judged.reasons = vec![ReasonCode::PolicyMissing];
            return judged;
        };
        let Some(first) = evaluate_chain(evaluator, case, &Applied::default()) else {
            judged.reasons = vec![ReasonCode::NoMatchingPermit];
            return judged;
        };
        judged.note(&evaluator.bundle, &first);
        if let Some(reason) = broken(&first) {
            judged.reasons = vec![reason];
            return judged;
        }
        if first.iter().all(|e| e.permitted) {
            judged.verdict = VerdictKind::Permit;
            judged.reasons.clear();
            return judged;
        }
        try_remedies(evaluator, case, door, &first, &mut judged);
        judged
    }

    /// Refuses a bundle under which nobody could put another in force: asked for every active person as if freshly logged
    /// in, surely.
    #[must_use]
    pub fn somebody_can_apply(&self, suppose: impl Fn(&Name) -> Caller, now: Timestamp) -> bool {
        let situation = Situation { now, network: None, purpose: None, session: Label::bottom() };
        let system = EntityRef::system();
        let facts = AskFacts { dialect: "control".to_owned(), ..AskFacts::default() };
        self.entities.users().any(|name| {
            let caller = suppose(&name);
            let case = Case {
                caller: &caller,
                action: Action::PolicyApply,
                resource: &system,
                facts: &facts,
                situation: &situation,
                all: false,
                overlay: &[],
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
struct Case<'a> {
    caller: &'a Caller,
    action: Action,
    resource: &'a EntityRef,
    facts: &'a AskFacts,
    situation: &'a Situation,
    all: bool,
    overlay: &'a [Entity],
}

struct Judged {
    verdict: VerdictKind,
    reasons: Vec<ReasonCode>,
    offers: Vec<Offer>,
    obligations: Obligations,
    grounds: Grounds,
    evidence: Evidence,
}

impl Judged {
    fn denied(policy: Option<Digest>) -> Self {
        let none = Digest::of(b"");
        let grounds = Grounds {
            rules: Vec::new(),
            policy: policy.unwrap_or(none),
            slice: none,
            context: none,
            engine: Name::literal(ENGINE),
        };
        Self {
            verdict: VerdictKind::Deny,
            reasons: Vec::new(),
            offers: Vec::new(),
            obligations: Obligations::none(),
            grounds,
            evidence: Evidence::default(),
        }
    }

    fn note(&mut self, bundle: &CompiledBundle, evaluations: &[Evaluation]) {
        let names = |places: &mut dyn Iterator<Item = &usize>| {
            let all: BTreeSet<Name> =
                places.filter_map(|at| bundle.rules.get(*at)).map(|r| r.id.clone()).collect();
            all.into_iter().collect::<Vec<_>>()
        };
        let evidence = &mut self.evidence;
        evidence.forbids = names(&mut evaluations.iter().flat_map(|e| &e.forbids));
        evidence.permits = names(&mut evaluations.iter().flat_map(|e| &e.permits));
        evidence.near = names(&mut evaluations.iter().filter(|e| e.permits.is_empty()).flat_map(|e| &e.near));
        evidence.constitution = evaluations.iter().flat_map(|e| e.constitution.clone()).collect();
        evidence.erred = evaluations.iter().flat_map(|e| e.erred.clone()).collect();
        let deciding = if !evidence.constitution.is_empty() {
            &evidence.constitution
        } else if evidence.forbids.is_empty() {
            &evidence.permits
        } else {
            &evidence.forbids
        };
        self.grounds.rules = deciding.clone();
        // One member's digests stand for themselves; those of a chain are hashed together, in its order.
        let join = |digests: Vec<Digest>| match digests.as_slice() {
            [one] => *one,
            many => Digest::of(&many.iter().flat_map(|d| *d.as_bytes()).collect::<Vec<u8>>()),
        };
        self.grounds.slice = join(evaluations.iter().map(|e| e.slice).collect());
        self.grounds.context = join(evaluations.iter().map(|e| e.context).collect());
    }
}

/// What makes remedies pointless: an error denies, and the constitution is not lifted.
fn broken(evaluations: &[Evaluation]) -> Option<ReasonCode> {
    if evaluations.iter().any(|e| !e.erred.is_empty()) {
        return Some(ReasonCode::PolicyError);
    }
    evaluations.iter().any(|e| !e.constitution.is_empty()).then_some(ReasonCode::Constitution)
}

/// The two asks that no policy decides: whoever holds the claim may redeem it, whoever holds the recovery keys may
/// recover; and neither may do anything else.
fn claim_or_recovery(case: &Case<'_>) -> Option<VerdictKind> {
    let credential = case.caller.credential();
    let fits = match case.action {
        Action::HouseClaim => credential == CredentialKind::Claim,
        Action::HouseRecover => credential == CredentialKind::Recovery,
        _ if matches!(credential, CredentialKind::Claim | CredentialKind::Recovery) => false,
        _ => return None,
    };
    Some(if fits { VerdictKind::Permit } else { VerdictKind::Deny })
}

/// Builds the context as it would be with every remedy applied, and offers them only if that permits.
fn try_remedies(
    evaluator: &Evaluator,
    case: &Case<'_>,
    door: &Door,
    first: &[Evaluation],
    judged: &mut Judged,
) {
    let bundle = &evaluator.bundle;
    let forbids: Vec<(&Rule, &Member)> = first
        .iter()
        .zip(case.caller.members())
        .flat_map(|(e, member)| e.forbids.iter().filter_map(move |at| Some((bundle.rules.get(*at)?, member))))
        .collect();
    let mut reasons: Vec<ReasonCode> = forbids.iter().map(|(rule, _)| rule.reason.clone()).collect();
    reasons.dedup();
    judged.reasons = if reasons.is_empty() { vec![ReasonCode::NoMatchingPermit] } else { reasons };
    // A member without any permit stays denied, whatever would be lifted; so does a forbid without remedy, and one whose
    // remedy its member cannot bring about.
    let liftable = |(rule, member): &(&Rule, &Member)| {
        !rule.remedies.is_empty() && rule.remedies.iter().all(|r| can(member, r))
    };
    if forbids.is_empty() || !forbids.iter().all(liftable) {
        if let Some((rule, _)) = forbids.iter().find(|f| !liftable(f)) {
            judged.reasons = vec![rule.reason.clone()];
        }
        return;
    }
    let mut applied = Applied::default();
    let mut obligations = Obligations::none();
    let mut offers = Vec::new();
    let mut strongest = VerdictKind::Permit;
    for remedy in forbids.iter().flat_map(|(rule, _)| rule.remedies.iter().map(move |r| (rule, r))) {
        let kind = apply(remedy.0, remedy.1, &mut applied, &mut obligations, &mut offers);
        strongest = strongest.max(kind);
    }
    let helps = evaluate_chain(evaluator, case, &applied)
        .is_some_and(|again| broken(&again).is_none() && again.iter().all(|e| e.permitted));
    judged.evidence.remedy_helps = Some(helps);
    if !helps {
        // Without the forbids there would still be no permit: what is missing is the right itself.
        judged.reasons = vec![ReasonCode::NoMatchingPermit];
        return;
    }
    if obligations.contradict() || !obligations.iter().all(|o| door.0.contains(&o.kind())) {
        judged.reasons = vec![ReasonCode::ObligationUnsupported];
        return;
    }
    // The strongest reason first: the one whose remedy names the verdict.
    let strength = |rule: &Rule| rule.remedies.iter().map(strength).max().unwrap_or(VerdictKind::Deny);
    let mut ordered: Vec<_> = forbids.iter().map(|(rule, _)| (strength(rule), rule.reason.clone())).collect();
    ordered.sort_by_key(|(strength, _)| std::cmp::Reverse(*strength));
    judged.verdict = strongest;
    judged.obligations = obligations;
    offers.dedup();
    judged.offers = offers;
    judged.reasons = ordered.into_iter().map(|(_, reason)| reason).collect();
    judged.reasons.dedup();
    if strongest == VerdictKind::Permit {
        judged.reasons.clear();
    }
}

/// Evaluates every member; none when a member or the resource does not exist.
fn evaluate_chain(evaluator: &Evaluator, case: &Case<'_>, applied: &Applied) -> Option<Vec<Evaluation>> {
    let members = case.caller.members().enumerate();
    members.map(|(place, member)| evaluate(evaluator, case, member, place, applied)).collect()
}

/// The evaluation of one member, who stands at `place` in the chain.
fn evaluate(
    evaluator: &Evaluator,
    case: &Case<'_>,
    member: &Member,
    place: usize,
    applied: &Applied,
) -> Option<Evaluation> {
    evaluate_and(evaluator, case, member, place, applied, false)
}

/// The same, and with `watched` hands it over to be compared with the reference.
fn evaluate_and(
    evaluator: &Evaluator,
    case: &Case<'_>,
    member: &Member,
    place: usize,
    applied: &Applied,
    watched: bool,
) -> Option<Evaluation> {
    let triple = Triple {
        principal: uid(member.principal.kind.entity_type(), &member.principal.name)?,
        action: uid("Action", case.action.name())?,
        resource: uid(&case.resource.kind, &case.resource.name)?,
    };
    let situation = case.situation;
    let mut level = member.assurance.level;
    let mut age_s = situation.now.saturating_since(member.assurance.at).as_secs();
    if let Some((stepped, max_age)) = applied.step_up
        && member.principal.kind == PrincipalKind::User
    {
        level = level.max(stepped);
        age_s = max_age.map_or(age_s, |_| 0);
    }
    let stated = situation.purpose.as_deref().or_else(|| applied.purpose.then_some("stated"));
    let conditions = Conditions {
        assurance: (level.into(), age_s),
        binding: member.binding.name(),
        risk: member.risk.level.name(),
        role_in_chain: if place == 0 { "subject" } else { "actor" },
        now_s: situation.now.as_secs(),
        network: situation.network,
        purpose: stated,
        session: &situation.session,
        request: case.facts,
        obligations: &applied.obligations,
        approvals: &applied.approvals,
    };
    let evaluation = if case.overlay.is_empty() {
        evaluator.evaluate(&triple, &conditions, case.all)?
    } else {
        evaluator.evaluate_with(&triple, &conditions, case.overlay)?
    };
    if watched {
        evaluator.watch(&triple, &conditions, &evaluation);
    }
    Some(evaluation)
}
