//! What a solver proves about a change of policy: the port, and what a plan says of it.

use std::fmt::Debug;
use std::time::Duration;

use bartizan_decide::{Bundle, Difference, Proven};
use schemars::JsonSchema;
use serde::Serialize;

use crate::PlanPolicy;

/// How long a plan's proof may take if nothing else is said, and at the most: whoever asks waits for the answer.
const LIMIT: Duration = Duration::from_secs(20);
const LIMIT_MAX: Duration = Duration::from_secs(45);

/// Whoever can prove things about policy.
pub trait Prover: Debug + Send + Sync {
    /// Whether `after` permits anything that `before` did not. Takes up to `limit`, on the thread that calls. Whatever goes wrong
    /// is in the answer; it is never `Proven` by default.
    fn nothing_new(&self, before: &Bundle, after: &Bundle, limit: Duration) -> PolicyProof;
}

/// Nobody: this program was built without proofs.
#[derive(Clone, Copy, Debug)]
pub struct NoProver;

impl Prover for NoProver {
    fn nothing_new(&self, _: &Bundle, _: &Bundle, _: Duration) -> PolicyProof {
        PolicyProof::unavailable("this program was built without the feature `proofs`")
    }
}

/// Whether a change permits anything new, for every possible ask.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PolicyProof {
    /// What was found.
    pub outcome: Proved,
    /// Why it is not proven, or could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub detail: Option<String>,
    /// What is permitted now and was not, each confirmed by the engine: examples, one for each rule that brings any by itself.
    pub new_permits: Vec<NewPermit>,
    /// Rules for which no such example was looked for to the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub not_looked_at: Vec<String>,
    /// What a reader should know beside that.
    pub remarks: Vec<String>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// Who answered; absent where nobody could be asked.
    pub solver: Option<String>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proved {
    /// Nothing new is permitted.
    Proven,
    /// Something new is permitted.
    Refuted,
    /// Nobody knows.
    NotProven,
    /// Nobody could be asked.
    Unavailable,
}

/// Something that is permitted now and was not.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NewPermit {
    /// The rule whose change alone permits it; absent where it is the change as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub rule: Option<String>,
    /// In words.
    pub words: String,
    /// As a file for the bundle's `tests/`: it passes with the bundle before and fails with the planned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub test: Option<String>,
    /// Why it cannot be told as a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub untold: Option<String>,
}

impl PolicyProof {
    /// Nobody could be asked.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::without_findings(Proved::Unavailable, detail)
    }

    /// Nobody knows.
    #[must_use]
    pub fn not_proven(detail: impl Into<String>) -> Self {
        Self::without_findings(Proved::NotProven, detail)
    }

    fn without_findings(outcome: Proved, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: Some(detail.into()),
            new_permits: Vec::new(),
            not_looked_at: Vec::new(),
            remarks: Vec::new(),
            assumptions: Vec::new(),
            solver: None,
            took_us: 0,
        }
    }

    /// What this says about a difference of forms.
    #[must_use]
    pub const fn settles(&self) -> Option<Proven> {
        match self.outcome {
            Proved::Proven => Some(Proven::NothingNew),
            Proved::Refuted => Some(Proven::PermitsMore),
            Proved::NotProven | Proved::Unavailable => None,
        }
    }
}

impl PlanPolicy {
    /// How long a proof may take; none where none is wanted.
    fn proof_limit(&self) -> Option<Duration> {
        let limit = self.prove_s.map_or(LIMIT, Duration::from_secs).min(LIMIT_MAX);
        (!limit.is_zero()).then_some(limit)
    }

    /// The proof of a plan, where one is wanted and there is something to prove: rules that change, against a bundle in force.
    pub(super) fn proof(
        &self,
        prover: &dyn Prover,
        before: Option<&Bundle>,
        after: &Bundle,
        difference: &mut Difference,
    ) -> Option<PolicyProof> {
        let (limit, before) = (self.proof_limit()?, before?);
        if difference.rules.is_empty() && difference.schemas.is_empty() {
            return None;
        }
        let proof = prover.nothing_new(before, after, limit);
        proof.settles().into_iter().for_each(|found| difference.proven(found));
        Some(proof)
    }
}

#[cfg(test)]
mod tests {
    use bartizan_decide::{CompiledBundle, Widens, difference};

    use super::*;

    #[derive(Debug)]
    struct Says(Proved);

    impl Prover for Says {
        fn nothing_new(&self, _: &Bundle, _: &Bundle, limit: Duration) -> PolicyProof {
            assert!(limit <= LIMIT_MAX);
            PolicyProof { outcome: self.0, ..PolicyProof::unavailable("") }
        }
    }

    fn bundle(text: &str) -> (Bundle, CompiledBundle) {
        let bundle = Bundle { files: [("a.cedar".to_owned(), text.to_owned())].into() };
        let compiled = CompiledBundle::compile(&bundle).unwrap();
        (bundle, compiled)
    }

    fn planned(prover: &dyn Prover, prove_s: Option<u64>, after: &str) -> (Option<Proved>, Widens) {
        let before = bundle(r#"@id("p") permit (principal, action == Action::"model:invoke", resource);"#);
        let after = bundle(after);
        let mut found = difference((&before.0, Some(&before.1)), (&after.0, &after.1));
        let request = PlanPolicy { files: after.0.files.clone(), since_s: None, prove_s };
        let proof = request.proof(prover, Some(&before.0), &after.0, &mut found);
        (proof.map(|proof| proof.outcome), found.widens)
    }

    const SAME: &str = r#"@id("p") permit (principal, action == Action::"model:invoke", resource);"#;
    const OTHER: &str = r#"@id("p") permit (principal, action in [Action::"model:invoke"], resource);"#;

    #[test]
    fn without_a_prover_a_plan_says_unavailable_and_its_change_stays_unproven() {
        assert_eq!(planned(&NoProver, None, OTHER), (Some(Proved::Unavailable), Widens::Unproven));
        assert_eq!(
            planned(&Says(Proved::NotProven), None, OTHER),
            (Some(Proved::NotProven), Widens::Unproven)
        );
    }

    #[test]
    fn a_proof_settles_whether_a_plan_widens() {
        assert_eq!(planned(&Says(Proved::Proven), None, OTHER), (Some(Proved::Proven), Widens::No));
        assert_eq!(planned(&Says(Proved::Refuted), Some(9_999), OTHER), (Some(Proved::Refuted), Widens::Yes));
    }

    #[test]
    fn nothing_is_proven_where_nothing_changes_or_nobody_wants_it() {
        assert_eq!(planned(&Says(Proved::Refuted), None, SAME), (None, Widens::No));
        assert_eq!(planned(&Says(Proved::Refuted), Some(0), OTHER), (None, Widens::Unproven));
    }
}
