//! What is noted of a decision while it is made.

use std::sync::LazyLock;

use bartizan_base::{Digest, Name};
use bartizan_model::record::{Grounds, VerdictKind};
use bartizan_model::{Covering, Obligations, Offer, ReasonCode};

use crate::approval::Hold;
use crate::bundle::CompiledBundle;
use crate::evaluate::Evaluation;
use crate::sponsor;
use crate::verdict::Evidence;

/// The engine's name in records.
pub(crate) const ENGINE: &str = "cedar-4.14.1";

/// The same, made once.
fn engine() -> Name {
    static NAME: LazyLock<Name> = LazyLock::new(|| Name::literal(ENGINE));
    NAME.clone()
}

/// A decision before it is put into types.
pub(crate) struct Judged {
    pub(crate) verdict: VerdictKind,
    pub(crate) reasons: Vec<ReasonCode>,
    pub(crate) offers: Vec<Offer>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) obligations: Obligations,
    pub(crate) grounds: Grounds,
    pub(crate) evidence: Evidence,
    /// Whether policy was asked.
    pub(crate) evaluated: bool,
    /// How what the credential is for in particular covers it; none where it is for nothing in particular.
    pub(crate) covering: Option<Covering>,
}

impl Judged {
    pub(crate) fn denied(policy: Option<Digest>) -> Self {
        let grounds = Grounds {
            rules: Vec::new(),
            policy: policy.unwrap_or(Digest::EMPTY),
            slice: Digest::EMPTY,
            context: Digest::EMPTY,
            engine: engine(),
        };
        Self {
            verdict: VerdictKind::Deny,
            reasons: Vec::new(),
            offers: Vec::new(),
            holds: Vec::new(),
            obligations: Obligations::none(),
            grounds,
            evidence: Evidence::default(),
            evaluated: false,
            covering: None,
        }
    }

    /// Notes what the members' evaluations found.
    pub(crate) fn note(&mut self, bundle: &CompiledBundle, evaluations: &[Evaluation]) {
        let names = |places: &mut dyn Iterator<Item = &usize>| {
            let mut all: Vec<Name> =
                places.filter_map(|at| bundle.rules.get(*at)).map(|r| r.id.clone()).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let evidence = &mut self.evidence;
        evidence.forbids = names(&mut evaluations.iter().flat_map(|e| &e.forbids));
        evidence.permits = names(&mut evaluations.iter().flat_map(|e| &e.permits));
        evidence.near = names(
            &mut evaluations
                .iter()
                .filter(|e| e.permits.is_empty() && e.forbids.is_empty())
                .flat_map(|e| &e.near),
        );
        evidence.constitution = evaluations.iter().flat_map(|e| e.constitution.clone()).collect();
        evidence.erred = evaluations.iter().flat_map(|e| e.erred.clone()).collect();
        evidence.stale = evaluations.iter().flat_map(|e| &e.stale).map(|name| Name::literal(name)).collect();
        let deciding = if !evidence.constitution.is_empty() {
            &evidence.constitution
        } else if evidence.forbids.is_empty() {
            &evidence.permits
        } else {
            &evidence.forbids
        };
        self.grounds.rules = deciding.clone();
        // One member's digests stand for themselves; those of a chain are hashed together, in its order.
        let join = |of: fn(&Evaluation) -> Digest| match evaluations {
            [one] => of(one),
            many => Digest::of(&many.iter().flat_map(|e| *of(e).as_bytes()).collect::<Vec<u8>>()),
        };
        self.grounds.slice = join(|e| e.slice);
        self.grounds.context = join(|e| e.context);
    }
}

/// What makes remedies pointless: an error denies, and the constitution is not lifted.
pub(crate) fn broken(evaluations: &[Evaluation]) -> Option<ReasonCode> {
    if evaluations.iter().any(|e| !e.erred.is_empty()) {
        return Some(ReasonCode::PolicyError);
    }
    let rules: Vec<Name> = evaluations.iter().flat_map(|e| e.constitution.clone()).collect();
    sponsor::reason(&rules)
}
