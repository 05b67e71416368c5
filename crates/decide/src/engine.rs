//! Evaluation: the algorithm of DESIGN 4, for chains, with remedies.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::record::{Grounds, VerdictKind, What};
use bartizan_model::{
    Action, Ask, AskFacts, AssuranceLevel, CredentialKind, EntityRef, Label, Member, ObligationKind,
    Obligations, Offer, Operation, PrincipalKind, ReasonCode, Remedy, Situation,
};
use cedar_policy::{Authorizer, Context, EntityUid, Policy, PolicyId, PolicySet, Request};

use crate::bundle::{CompiledBundle, Rule};
use crate::context::{Conditions, Needs};
use crate::entities::{Entities, uid};
use crate::explain::Explanation;
use crate::index::{Index, Probe};
use crate::remedy::facts;
use crate::verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};

/// The engine's name in records.
const ENGINE: &str = "cedar-4.14.1";
/// How long a permit may lie before it is used.
const PERMIT_LIFE: Duration = Duration::from_secs(30);
/// Prepared evaluations kept.
const PREPARED_MAX: usize = 20_000;

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
    bundle: Option<Arc<CompiledBundle>>,
    entities: Arc<Entities>,
    index: Arc<Index>,
    authorizer: Authorizer,
    prepared: Mutex<HashMap<Key, Arc<Prepared>>>,
}

type Key = (EntityUid, Action, EntityUid);

/// Everything about an evaluation that does not depend on its context.
#[derive(Debug)]
struct Prepared {
    /// What of the constitution can apply, if anything.
    constitution: Option<PolicySet>,
    /// What the candidates can see of the context.
    needs: Needs,
    policies: PolicySet,
    candidates: Vec<usize>,
    entities: cedar_policy::Entities,
    digest: Digest,
    action: EntityUid,
}

/// Facts that remedies would make, per evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Applied {
    obligations: BTreeSet<String>,
    approvals: BTreeSet<String>,
    step_up: Option<(AssuranceLevel, Option<Duration>)>,
    purpose: bool,
}

/// How one member fared.
struct Evaluation {
    permitted: bool,
    /// The rules that decided, as places in the bundle.
    permits: Vec<usize>,
    forbids: Vec<usize>,
    /// Rules of the constitution that forbid.
    constitution: Vec<Name>,
    erred: Vec<Name>,
    near: Vec<usize>,
    slice: Digest,
    context: Digest,
}

impl Snapshot {
    /// A snapshot of `bundle` (none: everything is denied) over `entities`.
    #[must_use]
    pub fn new(bundle: Option<Arc<CompiledBundle>>, entities: Arc<Entities>) -> Self {
        let index = Index::build(bundle.as_ref().map_or(&[], |b| &b.rules));
        Self { bundle, entities, index, authorizer: Authorizer::new(), prepared: Mutex::default() }
    }

    /// The bundle in force.
    #[must_use]
    pub const fn bundle(&self) -> Option<&Arc<CompiledBundle>> {
        self.bundle.as_ref()
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
        let case =
            Case { caller, action: ask.action, resource: &ask.resource, facts: &ask.facts, situation, all };
        let mut judged = self.judge(&case, door);
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

    /// What would be decided, and why; also for supposed callers. The same evaluation as [`Snapshot::decide`], without a
    /// permit. Rule texts only with the right to read policy (`with_texts`).
    #[must_use]
    pub fn explain(&self, question: &Question<'_>, door: &Door, with_texts: bool) -> Explanation {
        let case = Case {
            caller: question.caller,
            action: question.action,
            resource: question.resource,
            facts: question.facts,
            situation: question.situation,
            all: false,
        };
        let judged = self.judge(&case, door);
        let bundle = self.bundle.as_deref().filter(|_| with_texts);
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
        let mut judged = Judged::denied(self.bundle.as_ref().map(|b| b.digest()));
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
        let Some(bundle) = self.bundle.as_ref().filter(|b| !b.is_empty()) else {
            judged.reasons = vec![ReasonCode::PolicyMissing];
            return judged;
        };
        let Some(first) = self.evaluate_chain(bundle, case, &Applied::default()) else {
            judged.reasons = vec![ReasonCode::NoMatchingPermit];
            return judged;
        };
        judged.note(bundle, &first);
        if let Some(reason) = broken(&first) {
            judged.reasons = vec![reason];
            return judged;
        }
        if first.iter().all(|e| e.permitted) {
            judged.verdict = VerdictKind::Permit;
            judged.reasons.clear();
            return judged;
        }
        self.try_remedies(bundle, case, door, &first, &mut judged);
        judged
    }

    /// Builds the context as it would be with every remedy applied, and offers them only if that permits.
    fn try_remedies(
        &self,
        bundle: &CompiledBundle,
        case: &Case<'_>,
        door: &Door,
        first: &[Evaluation],
        judged: &mut Judged,
    ) {
        let forbids: Vec<(&Rule, &Member)> = first
            .iter()
            .zip(case.caller.members())
            .flat_map(|(e, member)| {
                e.forbids.iter().filter_map(move |at| Some((bundle.rules.get(*at)?, member)))
            })
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
        let helps = self
            .evaluate_chain(bundle, case, &applied)
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
        let mut ordered: Vec<_> =
            forbids.iter().map(|(rule, _)| (strength(rule), rule.reason.clone())).collect();
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
    fn evaluate_chain(
        &self,
        bundle: &CompiledBundle,
        case: &Case<'_>,
        applied: &Applied,
    ) -> Option<Vec<Evaluation>> {
        let members = case.caller.members().enumerate();
        members.map(|(place, member)| self.evaluate(bundle, case, member, place, applied)).collect()
    }

    fn evaluate(
        &self,
        bundle: &CompiledBundle,
        case: &Case<'_>,
        member: &Member,
        place: usize,
        applied: &Applied,
    ) -> Option<Evaluation> {
        let principal = uid(member.principal.kind.entity_type(), &member.principal.name)?;
        let resource = uid(&case.resource.kind, &case.resource.name)?;
        let prepared = self.prepare(bundle, &principal, case.action, &resource, case.all)?;
        let (context, digest) = context(case, member, place, applied, prepared.needs)?;
        // The reference checks the whole context against the schema; what is left out here no candidate can see.
        let schema = case.all.then_some(&bundle.schema);
        let request = Request::new(principal, prepared.action.clone(), resource, context, schema);
        let Ok(request) = request else {
            return Some(Evaluation::broken(Name::literal("request"), prepared.digest, digest));
        };
        let mut out = Evaluation::broken(Name::literal("none"), prepared.digest, digest);
        out.erred.clear();
        if let Some(constitution) = &prepared.constitution {
            let above = self.authorizer.is_authorized(&request, constitution, &prepared.entities);
            out.erred.extend(above.diagnostics().errors().filter_map(name_of));
            if above.decision() == cedar_policy::Decision::Deny {
                let forbids = above.diagnostics().reason();
                out.constitution = forbids.filter_map(|id| AsRef::<str>::as_ref(id).parse().ok()).collect();
                out.constitution.sort();
                return Some(out);
            }
        }
        let response = self.authorizer.is_authorized(&request, &prepared.policies, &prepared.entities);
        out.erred.extend(response.diagnostics().errors().filter_map(name_of));
        let satisfied: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        for at in &prepared.candidates {
            let Some(rule) = bundle.rules.get(*at) else { continue };
            match (satisfied.contains(rule.id.as_str()), rule.forbids) {
                (true, true) => out.forbids.push(*at),
                (true, false) => out.permits.push(*at),
                (false, false) => out.near.push(*at),
                (false, true) => {}
            }
        }
        out.permitted = response.decision() == cedar_policy::Decision::Allow && out.erred.is_empty();
        Some(out)
    }

    /// Candidates and entities for one principal, action and resource. They follow from the snapshot alone, so they are
    /// kept as long as it is.
    fn prepare(
        &self,
        bundle: &CompiledBundle,
        principal: &EntityUid,
        action: Action,
        resource: &EntityUid,
        all: bool,
    ) -> Option<Arc<Prepared>> {
        let key = (principal.clone(), action, resource.clone());
        if !all && let Some(found) = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(found.clone());
        }
        let slice = self.entities.slice([principal, resource])?;
        let probe = Probe {
            principal,
            principal_in: &self.entities.node(principal)?.within,
            actions: groups(action),
            resource,
            resource_in: &self.entities.node(resource)?.within,
        };
        let candidates = if all {
            (0..bundle.rules.len()).collect()
        } else {
            self.index.candidates(&bundle.rules, &probe)
        };
        let chosen: Vec<&Rule> = candidates.iter().filter_map(|at| bundle.rules.get(*at)).collect();
        let above: Vec<&Rule> =
            bundle.constitution.iter().filter(|rule| all || rule.scope.matches(&probe)).collect();
        let needs = chosen.iter().chain(&above).map(|rule| rule.needs).fold(Needs::default(), Needs::and);
        let policies = set_of(&chosen)?;
        let constitution = if above.is_empty() { None } else { Some(with_otherwise(set_of(&above)?)?) };
        let mut entities = slice.entities;
        entities = entities.add_entities(action_entities(action)?, None).ok()?;
        let action = uid("Action", action.name())?;
        let prepared = Arc::new(Prepared {
            constitution,
            needs: if all { Needs::ALL } else { needs },
            policies,
            candidates,
            entities,
            digest: slice.digest,
            action,
        });
        if !all {
            let mut kept = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= PREPARED_MAX {
                kept.clear();
            }
            kept.insert(key, prepared.clone());
        }
        Some(prepared)
    }

    /// Refuses a bundle under which nobody could put another in force: asked for every active person as if freshly logged
    /// in, surely.
    #[must_use]
    pub fn somebody_can_apply(&self, suppose: impl Fn(&Name) -> Caller, now: Timestamp) -> bool {
        let situation = Situation { now, network: None, purpose: None, session: Label::bottom() };
        let system = EntityRef::system();
        let facts = AskFacts { dialect: "control".to_owned(), ..AskFacts::default() };
        self.entities.users().iter().any(|name| {
            let caller = suppose(name);
            let case = Case {
                caller: &caller,
                action: Action::PolicyApply,
                resource: &system,
                facts: &facts,
                situation: &situation,
                all: false,
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

impl Evaluation {
    fn broken(rule: Name, slice: Digest, context: Digest) -> Self {
        Self {
            permitted: false,
            permits: Vec::new(),
            forbids: Vec::new(),
            constitution: Vec::new(),
            erred: vec![rule],
            near: Vec::new(),
            slice,
            context,
        }
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

/// Whether `member` can bring `remedy` about: only people log in again.
fn can(member: &Member, remedy: &Remedy) -> bool {
    !matches!(remedy, Remedy::StepUp { .. }) || member.principal.kind == PrincipalKind::User
}

const fn strength(remedy: &Remedy) -> VerdictKind {
    match remedy {
        Remedy::Oblige(_) => VerdictKind::Permit,
        Remedy::StepUp { .. } => VerdictKind::StepUp,
        Remedy::Justify => VerdictKind::Justify,
        Remedy::Approve { .. } => VerdictKind::Hold,
    }
}

/// Adds what `remedy` would make true and what it asks of whom.
fn apply(
    rule: &Rule,
    remedy: &Remedy,
    applied: &mut Applied,
    obligations: &mut Obligations,
    offers: &mut Vec<Offer>,
) -> VerdictKind {
    match remedy {
        Remedy::Oblige(obligation) => {
            obligations.add(obligation.clone());
            // From the united set, so that two partial redactions count as what they are together.
            applied.obligations.extend(obligations.iter().flat_map(facts));
        }
        Remedy::StepUp { level, max_age } => {
            let (level_before, age_before) = applied.step_up.unwrap_or((AssuranceLevel::None, None));
            let age = match (age_before, *max_age) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let both = (level_before.max(*level), age);
            applied.step_up = Some(both);
            offers.retain(|o| !matches!(o, Offer::StepUp { .. }));
            offers.push(Offer::StepUp { level: both.0.into(), max_age_s: both.1.map(|d| d.as_secs()) });
        }
        Remedy::Justify => {
            applied.purpose = true;
            offers.push(Offer::Justify);
        }
        Remedy::Approve { count, role, use_within } => {
            applied.approvals.insert(rule.id.to_string());
            offers.push(Offer::Approve {
                count: *count,
                role: role.clone(),
                use_within_s: use_within.as_secs(),
            });
        }
    }
    strength(remedy)
}

fn name_of(error: &cedar_policy::AuthorizationError) -> Option<Name> {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
    let id: &str = error.policy_id().as_ref();
    Some(Name::from_str(id).unwrap_or_else(|_| Name::literal("unnamed")))
}

/// The action and the groups it is in, as the schema says.
fn groups(action: Action) -> &'static [&'static str] {
    macro_rules! with {
        ($name:literal, $group:literal) => {
            &[$name, $group]
        };
    }
    match action {
        Action::ModelInvoke => with!("model:invoke", "model:use"),
        Action::ModelEmbed => with!("model:embed", "model:use"),
        Action::ModelList => &["model:list"],
        Action::SessionAuthenticate => &["session:authenticate"],
        Action::ResourceApply => with!("resource:apply", "house:change"),
        Action::KeyCreate => with!("key:create", "house:change"),
        Action::KeyRotate => with!("key:rotate", "house:change"),
        Action::KeyRevoke => with!("key:revoke", "house:change"),
        Action::HouseClaim => with!("house:claim", "house:change"),
        Action::HouseRecover => with!("house:recover", "house:change"),
        Action::EpochAdvance => with!("epoch:advance", "house:change"),
        Action::DeliveryRetry => with!("delivery:retry", "house:change"),
        Action::UpstreamTest => with!("upstream:test", "house:change"),
        Action::PolicyApply => with!("policy:apply", "house:change"),
        Action::ResourceRead => with!("resource:read", "house:read"),
        Action::KeyList => with!("key:list", "house:read"),
        Action::PolicyRead => with!("policy:read", "house:read"),
        Action::PolicyTest => with!("policy:test", "house:read"),
        Action::DecisionRead => with!("decision:read", "house:read"),
        Action::LedgerRead => with!("ledger:read", "house:read"),
        Action::LedgerExport => with!("ledger:export", "house:read"),
        Action::LedgerRemove => with!("ledger:remove", "house:change"),
        Action::SubjectErase => with!("subject:erase", "house:change"),
        Action::SubjectHold => with!("subject:hold", "house:change"),
        // Other people's words are read by whom a rule of its own names, not by whoever reads the house.
        Action::ContentRead => &["content:read"],
        // An action added to the model but not here matches no group, so nothing grants it by one.
        _ => &[],
    }
}

/// The rules as a set for the engine. Ids are unique in a compiled bundle.
fn set_of(rules: &[&Rule]) -> Option<PolicySet> {
    let mut set = PolicySet::new();
    for rule in rules {
        set.add(rule.policy.clone()).ok()?;
    }
    Some(set)
}

/// The constitution only forbids: whatever it does not forbid is left to the tenant's policy.
fn with_otherwise(mut set: PolicySet) -> Option<PolicySet> {
    static OTHERWISE: LazyLock<Option<Policy>> = LazyLock::new(|| {
        let id = PolicyId::new("constitution-otherwise");
        Policy::parse(Some(id), "permit (principal, action, resource);").ok()
    });
    set.add(OTHERWISE.clone()?).ok()?;
    Some(set)
}

fn action_entities(action: Action) -> Option<Vec<cedar_policy::Entity>> {
    let names = groups(action);
    let parents: std::collections::HashSet<EntityUid> =
        names.iter().skip(1).filter_map(|n| uid("Action", n)).collect();
    let mut out = vec![cedar_policy::Entity::new_no_attrs(uid("Action", action.name())?, parents)];
    out.extend(
        names
            .iter()
            .skip(1)
            .filter_map(|n| uid("Action", n))
            .map(|u| cedar_policy::Entity::new_no_attrs(u, [].into())),
    );
    Some(out)
}

/// The context of one member's evaluation with the attributes that are needed, and the digest of all of them.
fn context(
    case: &Case<'_>,
    member: &Member,
    place: usize,
    applied: &Applied,
    needs: Needs,
) -> Option<(Context, Digest)> {
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
    Some((conditions.context(needs)?, conditions.digest()?))
}
