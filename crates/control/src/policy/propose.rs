//! From a proposal to policy in force: who may, what holds it up, and the one place where it is signed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use bartizan_base::{Digest, json};
use bartizan_decide::{Bundle, CompiledBundle};
use bartizan_identify::Caller;
use bartizan_keys::{AuthorSignature, Authored, Base, Candidate, Statement};
use bartizan_model::{Action, PrincipalId, Problem, ReasonCode, Tenant};
use bartizan_store::{BundleRow, CandidateRow, Change};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bundled, Version, blocking, check_detectors, guard};
use crate::{Control, Done, Stopped, View};

/// A bundle to be put in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyBundle {
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// The version in force as the author knew it; 0 for none.
    pub expect: u64,
    /// The plan that it was seen as: refused if it is not that any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Signatures of authors, from `bartizan policy sign`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

/// A return to an earlier version.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The version whose bundle comes into force again, under a new version.
    pub to: u64,
    /// The version in force as it is known; absent for whichever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
}

/// A change of policy that is about to be made.
#[derive(Clone, Debug, Serialize)]
pub struct Proposal {
    /// Whose policy.
    pub tenant: Tenant,
    /// What is in force.
    pub base: Option<Base>,
    /// The bundle that shall be.
    pub bundle: Digest,
    /// What shall be tried beside it.
    pub candidate: Option<Candidate>,
    /// The earlier version that it returns to.
    pub restores: Option<u64>,
    /// Who proposes it; absent for recovery.
    #[serde(skip)]
    pub author: Option<PrincipalId>,
}

impl Proposal {
    /// What it is approved by and what a plan is known by: the same for the same change of the same policy, and for no other.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // A proposal always has a canonical form.
        Digest::of(&json::canonical(self).unwrap_or_default())
    }
}

/// A proposal that may be carried out. Policy is signed for nothing else.
#[derive(Debug)]
pub struct Approved(Proposal);

impl Approved {
    /// Whoever has the right to put policy in force needs nobody's approval.
    #[must_use]
    pub const fn by_right(proposal: Proposal) -> Self {
        Self(proposal)
    }
}

/// Says whether a proposal may be carried out: the port of the approval of changes.
pub trait Approvals: Debug + Send + Sync {
    /// The approved proposal, or what it still waits for.
    fn judge(&self, proposal: Proposal) -> BoxFuture<'_, Result<Approved, Problem>>;
}

/// The right to apply policy is all that is needed.
#[derive(Clone, Copy, Debug)]
pub struct ByRight;

impl Approvals for ByRight {
    fn judge(&self, proposal: Proposal) -> BoxFuture<'_, Result<Approved, Problem>> {
        ready(Ok(Approved::by_right(proposal))).boxed()
    }
}

/// What a version of policy consists of, beside what is said about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) bundle: Bundle,
    pub(crate) candidate: Option<Bundle>,
    pub(crate) authored: Option<Authored>,
}

impl Control {
    /// Puts a bundle in force. Refused are bundles that do not compile, fail their own tests, were made against another
    /// version, lack the signature of a trusted author where one is demanded, and those under which nobody could put another
    /// in force.
    ///
    /// # Errors
    /// When policy says no, or as above.
    pub async fn apply_bundle(
        &self,
        caller: &Caller,
        request: &ApplyBundle,
    ) -> Result<Done<Bundled>, Stopped> {
        self.change_with(caller, Action::PolicyApply, request, async |view, tenant| {
            expected(view, Some(request.expect))?;
            let bundle = Bundle { files: request.files.clone() };
            let proposal = self.proposal(view, tenant, bundle.digest(), caller);
            if request.plan.is_some_and(|plan| plan != proposal.digest()) {
                let detail =
                    "the plan was made of another bundle, or on another version than is in force; plan again";
                return Err(Problem::with_detail(ReasonCode::Conflict, detail));
            }
            let authored = self.authored(view, tenant, bundle.digest(), &request.signatures)?;
            self.sound(view, tenant, &bundle).await?;
            let approved = self.approvals.judge(proposal).await?;
            self.version(approved, Contents { bundle, candidate: None, authored }, view)
        })
        .await
    }

    /// Puts the bundle of an earlier version in force again, as a new version, in one step.
    ///
    /// # Errors
    /// When policy says no, there is no such version, it is not what the house signed, or nobody could put another bundle in
    /// force under it.
    pub async fn roll_back(&self, caller: &Caller, request: &RollBack) -> Result<Done<Bundled>, Stopped> {
        self.change_with(caller, Action::PolicyApply, request, async |view, tenant| {
            expected(view, request.expect)?;
            let earlier = self.earlier_version(tenant, request.to).await?;
            let bundle = Bundle { files: earlier.row.files.clone() };
            let authored =
                self.still_authored(tenant, bundle.digest(), earlier.statement.authored.as_ref())?;
            let compiled = self.compile(tenant, &bundle).await?;
            self.leaves_somebody(view, tenant, compiled).await?;
            let restores = Some(request.to);
            let proposal = Proposal { restores, ..self.proposal(view, tenant, bundle.digest(), caller) };
            let approved = self.approvals.judge(proposal).await?;
            self.version(approved, Contents { bundle, candidate: None, authored }, view)
        })
        .await
    }

    /// A version that was in force, if the house has signed it.
    pub(crate) async fn earlier_version(&self, tenant: &Tenant, version: u64) -> Result<Version, Problem> {
        let row = self.store.bundle(tenant, version).await.map_err(|e| Stopped::from(e).problem)?;
        let absent = || {
            let detail = format!("bundle version {version} was never in force");
            Problem::with_detail(ReasonCode::NotFound, detail)
        };
        let row = Arc::new(row.ok_or_else(absent)?);
        let statement = self.house.signed(&row).map_err(|reason| {
            tracing::error!(%tenant, version, %reason, "an earlier version of policy is not what the house has signed");
            Problem::new(reason)
        })?;
        Ok(Version { row, statement })
    }

    pub(crate) fn proposal(&self, view: &View, tenant: &Tenant, bundle: Digest, caller: &Caller) -> Proposal {
        let author = Some(caller.subject().principal.id).filter(|_| !caller.is_anonymous());
        let (tenant, base) = (tenant.clone(), view.base());
        Proposal { tenant, base, bundle, candidate: None, restores: None, author }
    }

    /// That a bundle compiles, passes its own tests, and locks nobody out.
    pub(crate) async fn sound(
        &self,
        view: &View,
        tenant: &Tenant,
        bundle: &Bundle,
    ) -> Result<Arc<CompiledBundle>, Problem> {
        let compiled = self.compile(tenant, bundle).await?;
        let (again, bundle, now) = (compiled.clone(), bundle.clone(), self.clock.now());
        blocking(move || passes_its_tests(&bundle, &again, now)).await?;
        self.leaves_somebody(view, tenant, compiled.clone()).await?;
        Ok(compiled)
    }

    pub(crate) async fn leaves_somebody(
        &self,
        view: &View,
        tenant: &Tenant,
        compiled: Arc<CompiledBundle>,
    ) -> Result<(), Problem> {
        let (view, tenant, now) = (view.clone(), tenant.clone(), self.clock.now());
        blocking(move || {
            check_detectors(&view, &tenant, &compiled)?;
            guard(&view, &tenant, compiled.clone(), now)?;
            crate::federated::check_bundle(&view, &tenant, &compiled, now)
        })
        .await
    }

    /// The signatures of trusted authors on a bundle that shall follow the version in force.
    pub(crate) fn authored(
        &self,
        view: &View,
        tenant: &Tenant,
        bundle: Digest,
        signatures: &[String],
    ) -> Result<Option<Authored>, Problem> {
        let base = view.base().map_or(0, |base| base.version);
        let read = signatures.iter().map(|text| AuthorSignature::try_from(text.clone()));
        let signatures = read.collect::<Result<Vec<_>, _>>();
        let signatures = signatures.map_err(|_| {
            Problem::with_detail(
                ReasonCode::BodyMalformed,
                "an author's signature is `ed25519:KEY.SIGNATURE`",
            )
        })?;
        self.still_authored(tenant, bundle, Some(&Authored { base, signatures }))
    }

    /// What of an earlier signing still holds, with the authors who are trusted now.
    pub(crate) fn still_authored(
        &self,
        tenant: &Tenant,
        bundle: Digest,
        authored: Option<&Authored>,
    ) -> Result<Option<Authored>, Problem> {
        if self.authors.is_empty() {
            return Ok(authored.filter(|a| !a.signatures.is_empty()).cloned());
        }
        let mut held = authored.cloned().unwrap_or(Authored { base: 0, signatures: Vec::new() });
        let base = held.base;
        held.signatures.retain(|signature| signature.holds(&self.authors, tenant, base, bundle));
        if held.signatures.is_empty() {
            return Err(Problem::new(ReasonCode::PolicyAuthorMissing));
        }
        Ok(Some(held))
    }

    /// Signs an approved proposal: the one place where that is done. Its version is above every one that was seen.
    pub(crate) fn version(
        &self,
        approved: Approved,
        contents: Contents,
        view: &View,
    ) -> Result<(Vec<Change>, Bundled), Problem> {
        let Approved(Proposal { tenant, base, bundle, candidate, restores, author }) = approved;
        let Contents { bundle: content, candidate: tried, authored } = contents;
        let there = view.state.bundles.iter().find(|b| b.tenant == tenant).map_or(0, |b| b.version);
        let version = there.max(base.map_or(0, |base| base.version)).saturating_add(1);
        let statement = Statement {
            tenant: tenant.clone(),
            name: content.name(),
            version,
            base,
            bundle,
            candidate,
            restores,
            created: self.clock.now(),
            author,
            authored,
        };
        let signed = self.policy_signer.sign(&statement).map_err(|error| {
            tracing::error!(%error, "policy could not be signed");
            Problem::new(ReasonCode::Internal)
        })?;
        let row = BundleRow {
            tenant,
            version,
            base: there,
            digest: bundle,
            files: content.files,
            candidate: tried.map(|tried| CandidateRow { digest: tried.digest(), files: tried.files }),
            signed,
        };
        let value = Bundled::from(&Version { row: Arc::new(row.clone()), statement });
        Ok((vec![Change::PutBundle { bundle: row }], value))
    }
}

/// Whoever has seen another version than the one in force has not seen what they are about to replace.
pub(crate) fn expected(view: &View, expect: Option<u64>) -> Result<(), Problem> {
    let present = view.base().map_or(0, |base| base.version);
    if expect.is_none_or(|expect| expect == present) {
        return Ok(());
    }
    let detail = format!("version {present} is in force, not version {}", expect.unwrap_or_default());
    Err(Problem::with_detail(ReasonCode::Conflict, detail))
}

/// A bundle that fails its own tests does not say what its author meant.
pub(super) fn failing_tests(
    bundle: &Bundle,
    compiled: &Arc<CompiledBundle>,
    now: bartizan_base::Timestamp,
) -> (usize, Vec<String>) {
    let tested = compiled.test(bundle, now);
    let failed = tested.iter().filter(|t| !t.differences.is_empty());
    let failed = failed.map(|t| format!("{}: {}: {}", t.file, t.name, t.differences.join("; "))).collect();
    (tested.len(), failed)
}

fn passes_its_tests(
    bundle: &Bundle,
    compiled: &Arc<CompiledBundle>,
    now: bartizan_base::Timestamp,
) -> Result<(), Problem> {
    let (all, failed) = failing_tests(bundle, compiled, now);
    if failed.is_empty() {
        return Ok(());
    }
    let told = format!("{} of {all} tests fail\n{}", failed.len(), failed.join("\n"));
    Err(Problem::with_detail(ReasonCode::Invalid, told))
}
