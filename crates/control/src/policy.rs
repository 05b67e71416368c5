//! Policy bundles: checked, put in force, explained.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Explanation, Question, Snapshot};
use bartizan_identify::Caller;
use bartizan_model::{
    Action, AskFacts, Assurance, AssuranceLevel, Binding, EntityRef, Label, Member, ObligationKind,
    Principal, PrincipalId, PrincipalKind, Problem, ReasonCode, Risk, Situation, Tenant,
};
use bartizan_store::{BundleRow, Change};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::{Control, Done, Stopped, View};

/// A bundle to be put in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyBundle {
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// The version in force as the author knew it; 0 for none.
    pub expect: u64,
}

/// A bundle in force.
#[derive(Clone, Debug, Serialize)]
pub struct Bundled {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its files.
    pub files: BTreeMap<String, String>,
}

/// What checking a bundle showed.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Whether it can be put in force.
    pub ok: bool,
    /// What is wrong.
    pub errors: Vec<String>,
    /// How many rules it has.
    pub rules: usize,
}

/// A question: what would be decided, and why?
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskToExplain {
    /// What kind of principal.
    pub principal_kind: PrincipalKind,
    /// Who.
    pub principal: Name,
    /// What.
    pub action: Action,
    /// On what; our own house for administrative actions.
    pub resource: Name,
    /// The assurance level to suppose, fresh.
    #[serde(default = "one")]
    pub assurance: u8,
    /// The purpose to suppose.
    #[serde(default)]
    pub purpose: Option<bartizan_base::Text<500>>,
}

const fn one() -> u8 {
    1
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
            guard(view, tenant, compiled, now)?;
            let row = BundleRow {
                tenant: tenant.clone(),
                version: request.expect + 1,
                digest: bundle.digest(),
                files: bundle.files.clone(),
            };
            let value = Bundled { version: row.version, digest: row.digest, files: bundle.files };
            Ok((vec![Change::PutBundle { bundle: row }], value))
        })
        .await
    }

    /// Says what would be decided and why, rule texts included.
    ///
    /// # Errors
    /// When policy says no or the principal is unknown.
    pub async fn explain(
        &self,
        caller: &Caller,
        request: &AskToExplain,
    ) -> Result<Done<Explanation>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::PolicyTest, request, |view, tenant| {
            let level = AssuranceLevel::from_number(request.assurance).ok_or_else(|| {
                Problem::with_detail(ReasonCode::Invalid, "`assurance` is a number from 0 to 4")
            })?;
            let supposed = suppose(view, tenant, request.principal_kind, &request.principal, level, now);
            let resource = match request.action.resource_type() {
                "System" => EntityRef::system(),
                kind => EntityRef::new(Name::literal(kind), request.resource.clone()),
            };
            let situation =
                Situation { now, network: None, purpose: request.purpose.clone(), session: Label::bottom() };
            let facts = AskFacts { dialect: "supposed".to_owned(), ..AskFacts::default() };
            let question = Question {
                caller: &supposed,
                action: request.action,
                resource: &resource,
                facts: &facts,
                situation: &situation,
            };
            let door = Door::new(
                [
                    ObligationKind::Cap,
                    ObligationKind::DoNotKeep,
                    ObligationKind::Redact,
                    ObligationKind::StripTools,
                ]
                .into(),
            );
            Ok(view.policy.explain(&question, &door, true))
        })
        .await
    }
}

/// Nobody may lock everybody out: under the new bundle somebody must be able to apply another.
fn guard(view: &View, tenant: &Tenant, compiled: CompiledBundle, now: Timestamp) -> Result<(), Problem> {
    let documents: Vec<_> =
        view.state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d.clone()).collect();
    let entities =
        Entities::build(&documents).map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
    let snapshot = Snapshot::new(Some(Arc::new(compiled)), Arc::new(entities));
    let level = AssuranceLevel::Aal2PhishingResistant;
    if snapshot.somebody_can_apply(|name| suppose(view, tenant, PrincipalKind::User, name, level, now), now) {
        return Ok(());
    }
    Err(Problem::with_detail(ReasonCode::Constitution, "under this bundle nobody could apply another"))
}

fn suppose(
    view: &View,
    tenant: &Tenant,
    kind: PrincipalKind,
    name: &Name,
    level: AssuranceLevel,
    now: Timestamp,
) -> Caller {
    let known = view
        .state
        .documents
        .iter()
        .find(|(t, d, _)| t == tenant && d.spec.principal_kind() == Some(kind) && d.name == *name);
    let id = known.and_then(|(_, d, _)| d.principal).unwrap_or_else(|| PrincipalId::from_parts(now, [0; 10]));
    let member = Member {
        principal: Principal { kind, name: name.clone(), id },
        assurance: Assurance { level, methods: Vec::new(), at: now, via: None },
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
    };
    Caller::suppose(tenant.clone(), member, Vec::new())
}
