//! What remedies would make true, what they ask of whom, and whether they would help (DESIGN 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bartizan_base::Text;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    AssuranceLevel, BoundBy, Member, Obligations, Offer, PrincipalKind, ReasonCode, Remedy, Situation,
};

use crate::approval::{ApprovalKey, HOLDS_OF_ASK_MAX, HOLDS_OF_CHAIN_MAX, Hold, Standing};
use crate::bundle::{CompiledBundle, Rule};
use crate::context::age_s;
use crate::engine::Door;
use crate::evaluate::Evaluation;
use crate::judged::{Judged, broken};
use crate::remedy;

/// Facts that remedies make, for an evaluation of a whole chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) obligations: BTreeSet<String>,
    pub(crate) approvals: BTreeSet<String>,
    /// In place of what was stated.
    pub(crate) purpose: Option<String>,
    /// Of each member for itself, by its place in the chain: what one does is never credited to another.
    pub(crate) own: BTreeMap<usize, Own>,
}

/// What one member would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) step_up: Option<(AssuranceLevel, Option<Duration>)>,
    pub(crate) bound: Option<BoundBy>,
}

impl Applied {
    /// What is the case already: approvals that were given.
    pub(crate) fn standing(standing: &Standing) -> Self {
        let approvals = standing.approvals.iter().map(ApprovalKey::to_string).collect();
        Self { approvals, ..Self::default() }
    }
}

/// What would lift every rule that forbids, united over the members of the chain.
struct Joint {
    applied: Applied,
    obligations: Obligations,
    /// Purposes of which one must be stated; any if empty.
    purposes: Option<BTreeSet<Text<500>>>,
    /// By place in the chain.
    bindings: BTreeMap<usize, BTreeSet<BoundBy>>,
    holds: Vec<Hold>,
    verdict: VerdictKind,
}

/// Whether `member` can bring `remedy` about: only people log in again, and nobody unproven can do anything.
fn can(member: &Member, remedy: &Remedy) -> bool {
    match remedy {
        Remedy::StepUp { .. } => member.principal.kind == PrincipalKind::User,
        Remedy::BindDevice { .. } => member.principal.kind != PrincipalKind::Anonymous,
        Remedy::Oblige(_) | Remedy::Justify { .. } | Remedy::Approve(_) => true,
    }
}

/// Whether a remedy was brought about already, so that nobody is asked for it again. Obligations never are: each permit
/// carries its own.
fn is_done(facts: &Facts<'_>, place: usize, rule: &Rule, remedy: &Remedy) -> bool {
    let Some(member) = facts.members.get(place) else { return false };
    match remedy {
        Remedy::Oblige(_) => false,
        Remedy::StepUp { level, max_age } => {
            let age = age_s(facts.situation.now, member.assurance.at);
            member.assurance.level >= *level
                && max_age.is_none_or(|most| age.is_some_and(|age| age <= most.as_secs()))
        }
        Remedy::BindDevice { by } => by.iter().any(|by| by.name() == member.binding.name()),
        Remedy::Justify { purposes } => {
            let stated = facts.situation.purpose.as_ref();
            stated.is_some_and(|purpose| purposes.is_empty() || purposes.contains(purpose))
        }
        Remedy::Approve(_) => {
            rule.approval.as_ref().is_some_and(|key| facts.standing.approvals.contains(key))
        }
    }
}

/// What is known of an ask when remedies are tried.
pub(crate) struct Facts<'a> {
    pub(crate) members: &'a [&'a Member],
    pub(crate) situation: &'a Situation,
    pub(crate) standing: &'a Standing,
}

/// What a remedy makes of a verdict.
const fn strength(remedy: &Remedy) -> VerdictKind {
    match remedy {
        Remedy::Oblige(_) => VerdictKind::Permit,
        Remedy::StepUp { .. } | Remedy::BindDevice { .. } => VerdictKind::StepUp,
        Remedy::Justify { .. } => VerdictKind::Justify,
        Remedy::Approve(_) => VerdictKind::Hold,
    }
}

impl Joint {
    fn of(base: &Applied, facts: &Facts<'_>, forbids: &[(usize, &Rule)]) -> Self {
        let mut joint = Self {
            applied: base.clone(),
            obligations: Obligations::none(),
            purposes: None,
            bindings: BTreeMap::new(),
            holds: Vec::new(),
            verdict: VerdictKind::Permit,
        };
        for (place, rule) in forbids {
            for remedy in rule.remedies.iter().filter(|r| !is_done(facts, *place, rule, r)) {
                joint.add(*place, rule, remedy);
                joint.verdict = joint.verdict.max(strength(remedy));
            }
        }
        // From the united set, so that two partial redactions count as what they are together.
        joint.applied.obligations.extend(joint.obligations.iter().flat_map(remedy::facts));
        joint
    }

    fn add(&mut self, place: usize, rule: &Rule, remedy: &Remedy) {
        match remedy {
            Remedy::Oblige(obligation) => self.obligations.add(obligation.clone()),
            Remedy::StepUp { level, max_age } => {
                let own = self.applied.own.entry(place).or_default();
                let (level_before, age_before) = own.step_up.unwrap_or((AssuranceLevel::None, None));
                let age = match (age_before, *max_age) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                own.step_up = Some((level_before.max(*level), age));
            }
            Remedy::BindDevice { by } => {
                let both = match self.bindings.get(&place) {
                    Some(before) => before & by,
                    None => by.clone(),
                };
                self.bindings.insert(place, both);
            }
            Remedy::Justify { purposes } => {
                self.purposes = Some(match self.purposes.take() {
                    Some(before) if before.is_empty() => purposes.clone(),
                    Some(before) if !purposes.is_empty() => &before & purposes,
                    Some(before) => before,
                    None => purposes.clone(),
                });
            }
            Remedy::Approve(approval) => {
                let key = rule.approval.clone().unwrap_or_else(|| ApprovalKey::of(&rule.id, approval));
                self.applied.approvals.insert(key.to_string());
                let hold = Hold { key, approval: approval.clone() };
                if !self.holds.contains(&hold) {
                    self.holds.push(hold);
                }
            }
        }
    }

    /// Whether rules demand what cannot be brought about together.
    fn contradicts(&self, forbids: &[(usize, &Rule)]) -> bool {
        let listed = forbids.iter().flat_map(|(_, rule)| &rule.remedies);
        let lists =
            listed.filter(|r| matches!(r, Remedy::Justify { purposes } if !purposes.is_empty())).count();
        self.bindings.values().any(BTreeSet::is_empty)
            || (lists > 0 && self.purposes.as_ref().is_some_and(BTreeSet::is_empty))
    }

    /// The facts, for each way to fulfil the remedies. Members are evaluated apart from each other, so it is enough that
    /// each of them is bound once by whatever it may be bound by.
    fn ways(&self, purpose: Option<&str>) -> Vec<Applied> {
        let bindings: BTreeSet<BoundBy> = self.bindings.values().flatten().copied().collect();
        let ways = if bindings.is_empty() { vec![None] } else { bindings.into_iter().map(Some).collect() };
        let facts = |way: Option<BoundBy>| {
            let mut applied = self.applied.clone();
            applied.purpose = purpose.map(str::to_owned);
            for (place, allowed) in &self.bindings {
                let bound = way.filter(|by| allowed.contains(by)).or_else(|| allowed.first().copied());
                applied.own.entry(*place).or_default().bound = bound;
            }
            applied
        };
        ways.into_iter().map(facts).collect()
    }

    fn offers(&self, purposes: Option<BTreeSet<Text<500>>>) -> Vec<Offer> {
        let mut out: BTreeSet<Offer> = BTreeSet::new();
        let stepped = self.applied.own.values().filter_map(|own| own.step_up);
        out.extend(stepped.map(|(level, age)| Offer::StepUp {
            level: level.into(),
            max_age_s: age.map(|age| age.as_secs()),
        }));
        out.extend(self.bindings.values().map(|by| Offer::BindDevice { by: by.clone() }));
        out.extend(purposes.map(|purposes| Offer::Justify { purposes }));
        out.extend(self.holds.iter().map(|hold| Offer::Approve {
            any_of: hold.approval.quorum.clone(),
            use_within_s: hold.approval.use_within.as_secs(),
        }));
        out.into_iter().collect()
    }
}

/// Builds the context as it would be with every remedy applied, and offers them only if that permits.
pub(crate) fn try_remedies(
    bundle: &CompiledBundle,
    facts: &Facts<'_>,
    door: &Door,
    base: &Applied,
    first: &[Evaluation],
    evaluate: &dyn Fn(&Applied) -> Option<Vec<Evaluation>>,
    judged: &mut Judged,
) {
    let forbids: Vec<(usize, &Rule)> = first
        .iter()
        .enumerate()
        .flat_map(|(place, e)| {
            e.forbids.iter().filter_map(move |at| Some((place, &**bundle.rules.get(*at)?)))
        })
        .collect();
    judged.reasons = reasons_of(forbids.iter().map(|(_, rule)| *rule));
    // A forbid without remedy stays, and so does one whose remedy its member cannot bring about.
    let liftable = |(place, rule): &(usize, &Rule)| {
        let member = facts.members.get(*place);
        let can = |r: &Remedy| is_done(facts, *place, rule, r) || member.is_some_and(|m| can(m, r));
        !rule.remedies.is_empty() && rule.remedies.iter().all(can)
    };
    if forbids.is_empty() || !forbids.iter().all(liftable) {
        if let Some((_, rule)) = forbids.iter().find(|f| !liftable(f)) {
            judged.reasons = vec![rule.reason.clone()];
        }
        return;
    }
    let joint = Joint::of(base, facts, &forbids);
    let purposes = helping(&joint, &forbids, evaluate, judged);
    judged.evidence.remedy_helps = Some(purposes.is_some());
    let Some(purposes) = purposes else { return };
    if joint.obligations.contradict() || !joint.obligations.iter().all(|o| door.applies(o.kind())) {
        judged.reasons = vec![ReasonCode::ObligationUnsupported];
        return;
    }
    let holds = u32::try_from(joint.holds.len()).unwrap_or(u32::MAX);
    let over =
        joint.holds.len() > HOLDS_OF_ASK_MAX || facts.standing.holds.saturating_add(1) > HOLDS_OF_CHAIN_MAX;
    if holds > 0 && over {
        judged.reasons = vec![ReasonCode::TooManyHolds];
        return;
    }
    // The strongest reason first: the one whose remedy names the verdict.
    let strength = |rule: &Rule| rule.remedies.iter().map(strength).max().unwrap_or(VerdictKind::Deny);
    let mut ordered: Vec<&Rule> = forbids.iter().map(|(_, rule)| *rule).collect();
    ordered.sort_by_key(|rule| std::cmp::Reverse(strength(rule)));
    judged.verdict = joint.verdict;
    judged.offers = joint.offers(purposes);
    judged.reasons =
        if joint.verdict == VerdictKind::Permit { Vec::new() } else { reasons_of(ordered.into_iter()) };
    judged.obligations = joint.obligations;
    judged.holds = joint.holds;
}

/// The purposes with which the joint remedies permit every member, in whatever way they are fulfilled: within, none if no
/// purpose is asked for; none at all if nothing helps, with the reasons noted.
fn helping(
    joint: &Joint,
    forbids: &[(usize, &Rule)],
    evaluate: &dyn Fn(&Applied) -> Option<Vec<Evaluation>>,
    judged: &mut Judged,
) -> Option<Option<BTreeSet<Text<500>>>> {
    if joint.contradicts(forbids) {
        return None;
    }
    let mut permits = |purpose: Option<&str>| {
        joint.ways(purpose).iter().all(|applied| {
            let Some(again) = evaluate(applied) else { return false };
            if again.iter().any(|e| e.forbids.is_empty() && e.permits.is_empty()) {
                // Without the forbids there would still be no permit: what is missing is the right itself.
                judged.reasons = vec![ReasonCode::NoMatchingPermit];
            }
            broken(&again).is_none() && again.iter().all(|e| e.permitted)
        })
    };
    match &joint.purposes {
        None => permits(None).then_some(None),
        // Any purpose will do only if one that nobody can have meant does.
        Some(any) if any.is_empty() => permits(Some(ANY_PURPOSE)).then(|| Some(BTreeSet::new())),
        Some(listed) => {
            let helping: BTreeSet<_> = listed.iter().filter(|p| permits(Some(p.as_str()))).cloned().collect();
            (!helping.is_empty()).then_some(Some(helping))
        }
    }
}

/// Stands for any purpose. No text that a caller states holds a control character.
const ANY_PURPOSE: &str = "\u{0}";

fn reasons_of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<ReasonCode> {
    let mut out: Vec<ReasonCode> = Vec::new();
    for rule in rules {
        if !out.contains(&rule.reason) {
            out.push(rule.reason.clone());
        }
    }
    if out.is_empty() { vec![ReasonCode::NoMatchingPermit] } else { out }
}
