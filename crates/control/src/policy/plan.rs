//! What putting a bundle in force would change, before it is done.

use std::collections::BTreeMap;

use bartizan_base::Digest;
use bartizan_decide::{Bundle, Difference, difference};
use bartizan_identify::Caller;
use bartizan_model::{Action, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proof::PolicyProof;
use super::propose::{Proposal, failing_tests};
use super::{blocking, check_detectors, guard};
use crate::replay::{Preview, ReplayUnder};
use crate::{Control, Done, Stopped, View};

/// A bundle of which a plan is wanted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPolicy {
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// How far back recorded decisions are decided again under it, in seconds; absent for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// How long a proof that nothing new is permitted may take, in seconds: 20 if not said, 45 at the most, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove_s: Option<u64>,
}

/// What putting a bundle in force would change. Good for this bundle on this version and no other.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// What it is known by: `policy apply --plan`.
    pub plan: Digest,
    /// The version in force; 0 for none.
    pub base: u64,
    /// Its bundle.
    pub base_digest: Option<Digest>,
    /// The bundle that was planned.
    pub bundle: Digest,
    /// What it calls itself.
    pub name: String,
    /// What changes, and whether that widens what is permitted.
    pub difference: Difference,
    /// Whether it permits anything new, by the solver where there is one; absent where no rule changes, nothing is in force that it
    /// could be compared with, or it was not asked for.
    pub proof: Option<PolicyProof>,
    /// How its own tests went.
    pub tests: Tests,
    /// Why it would be refused all the same; empty where it would not.
    pub refused: Vec<String>,
    /// What becomes of recorded decisions; absent where that was not asked for or may not be seen.
    pub replay: Option<Preview>,
    /// Why that may not be seen, or could not be worked out.
    pub replay_absent: Option<String>,
}

/// How a bundle's own tests went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tests {
    /// How many there are.
    pub run: usize,
    /// Those that fail.
    pub failed: Vec<String>,
}

impl Control {
    /// Says what putting a bundle in force would change.
    ///
    /// # Errors
    /// When policy says no, or the bundle does not compile.
    pub async fn plan_policy(&self, caller: &Caller, request: &PlanPolicy) -> Result<Done<Plan>, Stopped> {
        let mut done = self
            .read_with(caller, Action::PolicyTest, request, async |view, tenant| {
                let bundle = Bundle { files: request.files.clone() };
                let proposal = self.proposal(view, tenant, bundle.digest(), caller);
                self.worked_out(view, bundle, proposal, request).await
            })
            .await?;
        if let Some(since_s) = request.since_s {
            // Recorded decisions are others' business: an ask of its own, which policy may refuse.
            let under = ReplayUnder { files: request.files.clone(), since_s, limit: None };
            match self.replay_under(caller, &under).await {
                Ok(preview) => done.value.replay = Some(preview.value),
                Err(stopped) => done.value.replay_absent = Some(stopped.problem.message()),
            }
        }
        Ok(done)
    }

    async fn worked_out(
        &self,
        view: &View,
        bundle: Bundle,
        proposal: Proposal,
        request: &PlanPolicy,
    ) -> Result<Plan, Problem> {
        let compiled = self.compile(&proposal.tenant, &bundle).await?;
        let (view, now) = (view.clone(), self.clock.now());
        let tenant = proposal.tenant.clone();
        let (prover, request) = (self.prover.clone(), request.clone());
        blocking(move || {
            let before = view.in_force.as_ref().map(|v| Bundle { files: v.row.files.clone() });
            let old = view.policy.bundle();
            let (run, failed) = failing_tests(&bundle, &compiled, now);
            let mut refused = Vec::new();
            if !failed.is_empty() {
                refused.push(format!("{} of its tests fail", failed.len()));
            }
            if let Err(problem) = check_detectors(&view, &tenant, &compiled) {
                refused.push(problem.message());
            }
            if let Err(problem) = guard(&view, &tenant, compiled.clone(), now) {
                refused.push(problem.message());
            }
            if let Err(problem) = crate::federated::check_bundle(&view, &tenant, &compiled, now) {
                refused.push(problem.message());
            }
            let nothing = Bundle::default();
            let was = before.as_ref().unwrap_or(&nothing);
            let mut difference = difference((was, old.map(|b| &**b)), (&bundle, &compiled));
            let proof = request.proof(&*prover, before.as_ref(), &bundle, &mut difference);
            Ok(Plan {
                plan: proposal.digest(),
                base: proposal.base.map_or(0, |base| base.version),
                base_digest: proposal.base.map(|base| base.bundle),
                bundle: proposal.bundle,
                name: bundle.name(),
                difference,
                proof,
                tests: Tests { run, failed },
                refused,
                replay: None,
                replay_absent: None,
            })
        })
        .await
    }
}
