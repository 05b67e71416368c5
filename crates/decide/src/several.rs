//! One ask that touches several things: a statement with its tables and columns. Each is decided by itself, and all together as the
//! members of a chain are: the strongest verdict wins, obligations are united.

use bartizan_base::Digest;
use bartizan_identify::Caller;
use bartizan_model::record::{Grounds, VerdictKind, What};
use bartizan_model::{Action, Ask, EntityRef, Obligations, Offer, Operation, ReasonCode, Situation};

use crate::approval::Standing;
use crate::engine::{Case, Door, Snapshot};
use crate::judged::Judged;
use crate::verdict::{Decision, Refused, Verdict};

/// How the ask itself or one of the things that it touches was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartDecided {
    /// How.
    pub verdict: VerdictKind,
    /// Why not, the strongest first; empty for a permit.
    pub reasons: Vec<ReasonCode>,
    /// What a permit demands for this part alone.
    pub obligations: Obligations,
}

impl Snapshot {
    /// Decides `ask` together with everything that it touches beside its own resource. The decision is one: its permit unlocks the
    /// whole and demands what any part demands. How each was decided is told: the ask itself first, then `parts` in their order.
    pub fn decide_all<O: Operation>(
        &self,
        caller: &Caller,
        ask: Ask<O>,
        parts: &[(Action, EntityRef)],
        situation: &Situation,
        door: &Door,
    ) -> (Decision<O>, Vec<PartDecided>) {
        let (facts, whole) = (ask.facts.clone(), ask.body);
        let mut decision = self.decide(caller, ask, situation, door);
        let itself = PartDecided::of(&decision.verdict);
        let judge = |(action, resource): &(Action, EntityRef)| {
            let standing = &Standing::default();
            let case = Case {
                caller,
                action: *action,
                resource,
                facts: &facts,
                situation,
                standing,
                all: false,
                row: None,
                supposed: None,
            };
            self.judge(&case, door)
        };
        let judged: Vec<Judged> = parts.iter().map(judge).collect();
        let strongest = judged.iter().zip(parts).max_by_key(|(judged, _)| judged.verdict);
        let what = strongest.as_ref().map(|(_, (action, resource))| What {
            action: *action,
            resource: resource.clone(),
            dialect: facts.dialect.clone(),
            bytes: facts.bytes,
            body: whole,
        });
        let decided = strongest.map_or(VerdictKind::Permit, |(judged, _)| judged.verdict);
        decision.verdict = match decision.verdict {
            Verdict::Permit(mut permit) => {
                unite(&mut permit.parts.grounds, &judged);
                for covering in judged.iter().filter_map(|judged| judged.covering) {
                    permit.parts.cover(covering);
                }
                for obligation in judged.iter().flat_map(|judged| judged.obligations.iter()) {
                    permit.parts.obligations.add(obligation.clone());
                }
                let contradict = permit.parts.obligations.contradict();
                if decided == VerdictKind::Permit && !contradict {
                    Verdict::Permit(permit)
                } else {
                    let parts = permit.parts;
                    let mut refused = Refused {
                        id: parts.id,
                        tenant: parts.tenant,
                        who: parts.who,
                        what: Some(parts.what),
                        verdict: VerdictKind::Deny,
                        reasons: vec![ReasonCode::ObligationUnsupported],
                        offers: Vec::new(),
                        holds: Vec::new(),
                        grounds: Some(parts.grounds),
                        discoverable: true,
                    };
                    if decided > VerdictKind::Permit {
                        refused.verdict = decided;
                        refused.what = what;
                        refused.reasons.clear();
                        stronger(&mut refused, &judged);
                    }
                    verdict(refused)
                }
            }
            Verdict::StepUp(mut refused)
            | Verdict::Justify(mut refused)
            | Verdict::Hold(mut refused)
            | Verdict::Deny(mut refused) => {
                if let Some(grounds) = &mut refused.grounds {
                    unite(grounds, &judged);
                }
                if decided > refused.verdict {
                    refused.verdict = decided;
                    refused.what = what;
                    refused.reasons.clear();
                }
                stronger(&mut refused, &judged);
                verdict(refused)
            }
        };
        let told = judged.into_iter().map(|judged| PartDecided {
            verdict: judged.verdict,
            reasons: judged.reasons,
            // Only a permit has any.
            obligations: if judged.verdict == VerdictKind::Permit {
                judged.obligations
            } else {
                Obligations::none()
            },
        });
        (decision, [itself].into_iter().chain(told).collect())
    }
}

impl PartDecided {
    fn of<O: Operation>(verdict: &Verdict<O>) -> Self {
        match verdict {
            Verdict::Permit(permit) => Self {
                verdict: VerdictKind::Permit,
                reasons: Vec::new(),
                obligations: permit.obligations().clone(),
            },
            Verdict::StepUp(refused)
            | Verdict::Justify(refused)
            | Verdict::Hold(refused)
            | Verdict::Deny(refused) => Self {
                verdict: refused.verdict,
                reasons: refused.reasons.clone(),
                obligations: Obligations::none(),
            },
        }
    }
}

/// The rules of all, and one digest over what each was decided on.
fn unite(grounds: &mut Grounds, judged: &[Judged]) {
    if judged.is_empty() {
        return;
    }
    let join = |own: Digest, of: fn(&Grounds) -> Digest| {
        let all = judged.iter().map(|judged| of(&judged.grounds));
        Digest::of(&[own].into_iter().chain(all).flat_map(|digest| *digest.as_bytes()).collect::<Vec<u8>>())
    };
    grounds.slice = join(grounds.slice, |grounds| grounds.slice);
    grounds.context = join(grounds.context, |grounds| grounds.context);
    grounds.rules.extend(judged.iter().flat_map(|judged| judged.grounds.rules.iter().cloned()));
    grounds.rules.sort_unstable();
    grounds.rules.dedup();
}

/// Adds what the parts of the verdict's own strength say. A denial has no remedy, whatever another part would have offered.
fn stronger(refused: &mut Refused, judged: &[Judged]) {
    let mut reasons = std::mem::take(&mut refused.reasons);
    for judged in judged.iter().filter(|judged| judged.verdict != VerdictKind::Permit) {
        if judged.verdict == refused.verdict {
            reasons.extend(judged.reasons.iter().cloned());
        }
        refused.offers.extend(judged.offers.iter().cloned());
        refused.holds.extend(judged.holds.iter().cloned());
    }
    let mut seen = Vec::new();
    reasons.retain(|reason| {
        let new = !seen.contains(reason);
        seen.push(reason.clone());
        new
    });
    refused.reasons = if reasons.is_empty() { vec![ReasonCode::NoMatchingPermit] } else { reasons };
    refused.offers.dedup();
    refused.holds.dedup();
    if refused.verdict == VerdictKind::Deny {
        // A token for each of them helps where that is all that is missing.
        let missing = refused.reasons.iter().all(|reason| *reason == ReasonCode::DetailsInsufficient);
        refused.offers.retain(|offer| missing && matches!(offer, Offer::Authorize { .. }));
        refused.holds.clear();
    }
}

fn verdict<O: Operation>(refused: Refused) -> Verdict<O> {
    match refused.verdict {
        VerdictKind::StepUp => Verdict::StepUp(refused),
        VerdictKind::Justify => Verdict::Justify(refused),
        VerdictKind::Hold => Verdict::Hold(refused),
        VerdictKind::Permit | VerdictKind::Deny => Verdict::Deny(refused),
    }
}
