//! Policy bundles: checked, put in force, explained.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{
    Bundle, CompiledBundle, Door, Entities, Explanation, Found, Level, Named, Page, Question, Reader, Search,
    Snapshot, Supposed,
};
use bartizan_identify::Caller;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, AssuranceLevel, EntityRef, PrincipalKind, Problem, ReasonCode, Situation, Tenant,
};
use bartizan_store::{BundleRow, Change};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::{Control, Done, Stopped, View};

/// A bundle to be put in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyBundle {
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// The version in force as the author knew it; 0 for none.
    pub expect: u64,
}

/// A bundle in force.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Bundled {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its files.
    pub files: BTreeMap<String, String>,
}

/// A search for what policy permits.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// What is searched for.
    pub what: Sought,
    /// The ask; the part that is searched for is passed over.
    pub ask: Supposed,
    /// Which part of the answer.
    #[serde(default)]
    pub page: Page,
}

/// The part of an ask that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    /// Who can do it.
    Subjects,
    /// On what it can be done.
    Resources,
    /// What can be done.
    Actions,
}

impl Control {
    /// The bundle in force.
    ///
    /// # Errors
    /// When policy says no or there is none.
    pub async fn policy(&self, caller: &Caller) -> Result<Done<Bundled>, Stopped> {
        self.read(caller, Action::PolicyRead, &(), |view, tenant| {
            let row = view.state.bundles.iter().find(|b| b.tenant == *tenant);
            row.map(|b| Bundled { version: b.version, digest: b.digest, files: b.files.clone() })
                .ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, "no bundle is in force"))
        })
        .await
    }

    /// Puts a bundle in force. Refused are bundles that do not compile, that were made against another version, and those
    /// under which nobody could put another in force.
    ///
    /// # Errors
    /// When policy says no, or as above.
    pub async fn apply_bundle(
        &self,
        caller: &Caller,
        request: &ApplyBundle,
    ) -> Result<Done<Bundled>, Stopped> {
        let now = self.clock.now();
        self.change(caller, Action::PolicyApply, request, |view, tenant| {
            let bundle = Bundle { files: request.files.clone() };
            let compiled = CompiledBundle::compile(&bundle)
                .map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
            let compiled = Arc::new(compiled);
            passes_its_tests(&bundle, &compiled, now)?;
            guard(view, tenant, compiled, now)?;
            let row = BundleRow {
                tenant: tenant.clone(),
                // A version that cannot be followed is not the one in force; the store says so.
                version: request.expect.saturating_add(1),
                digest: bundle.digest(),
                files: bundle.files.clone(),
            };
            let value = Bundled { version: row.version, digest: row.digest, files: bundle.files };
            Ok((vec![Change::PutBundle { bundle: row }], value))
        })
        .await
    }

    /// Who can reach a resource, or what a caller can reach: page by page.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn reach(&self, caller: &Caller, request: &Reach) -> Result<Done<Found>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::PolicyTest, request, |view, tenant| {
            let ask = &request.ask;
            let search = Search { ask, tenant, now, door: self.house.door(ask.action) };
            Ok(match request.what {
                Sought::Subjects => view.policy.search_subjects(search, &request.page),
                Sought::Resources => view.policy.search_resources(search, &request.page),
                Sought::Actions => view.policy.search_actions(search, &request.page),
            })
        })
        .await
    }

    /// Says what would be decided and why, rule texts included.
    ///
    /// # Errors
    /// When policy says no or the principal is unknown.
    pub async fn explain(&self, caller: &Caller, request: &Supposed) -> Result<Done<Explanation>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::PolicyTest, request, |view, tenant| {
            let reader = Reader { rules: true, personal: may_read_content(view, caller, now) };
            Ok(view.policy.explain_supposed(request, tenant, now, self.house.door(request.action), reader))
        })
        .await
    }
}

/// Whether the caller may see personal values: whoever may read what was kept of people may.
fn may_read_content(view: &View, caller: &Caller, now: Timestamp) -> bool {
    let (resource, facts, situation) = (EntityRef::system(), AskFacts::default(), Situation::at(now));
    let action = Action::ContentRead;
    let question = Question { caller, action, resource: &resource, facts: &facts, situation: &situation };
    view.policy.explain(&question, &Door::none(), Reader::CALLER).verdict == VerdictKind::Permit
}

/// Nobody may lock everybody out: under the new bundle somebody must be able to apply another.
pub(crate) fn guard(
    view: &View,
    tenant: &Tenant,
    compiled: Arc<CompiledBundle>,
    now: Timestamp,
) -> Result<(), Problem> {
    // As surely as anybody can be.
    let level = AssuranceLevel::Aal2PhishingResistant;
    if can_apply(view, tenant, compiled, |_| Some(level), now)? {
        return Ok(());
    }
    Err(Problem::with_detail(ReasonCode::Constitution, "under this bundle nobody could apply another"))
}

/// Whether one of the people in `view`, supposed to be as sure as `level` says, could put a bundle in force under
/// `compiled`. Those without a level are passed over.
pub(crate) fn can_apply(
    view: &View,
    tenant: &Tenant,
    compiled: Arc<CompiledBundle>,
    level: impl Fn(&Name) -> Option<AssuranceLevel>,
    now: Timestamp,
) -> Result<bool, Problem> {
    let documents: Vec<_> =
        view.state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d.clone()).collect();
    let entities = Entities::build_for(&documents, Some(&compiled))
        .map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
    let snapshot = Snapshot::new(Some(compiled), Arc::new(entities));
    let suppose = |name: &Name| match level(name) {
        None => Caller::anonymous(tenant.clone()),
        Some(level) => {
            let named = Named { kind: PrincipalKind::User, name: name.clone() };
            let supposed = Supposed::new(named, Action::PolicyApply, name.clone());
            Supposed { assurance: Level(level), ..supposed }.caller(tenant.clone(), now)
        }
    };
    Ok(snapshot.somebody_can_apply(suppose, now))
}

/// A bundle that fails its own tests does not say what its author meant.
fn passes_its_tests(bundle: &Bundle, compiled: &Arc<CompiledBundle>, now: Timestamp) -> Result<(), Problem> {
    let tested = compiled.test(bundle, now);
    let failed: Vec<String> = tested
        .iter()
        .filter(|t| !t.differences.is_empty())
        .map(|t| format!("{}: {}: {}", t.file, t.name, t.differences.join("; ")))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let all = format!("{} of {} tests fail\n{}", failed.len(), tested.len(), failed.join("\n"));
    Err(Problem::with_detail(ReasonCode::Invalid, all))
}
