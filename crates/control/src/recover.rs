//! Recovery: what enough holders of the offline keys can do when nobody else can do anything (DESIGN 5).

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp, json};
use bartizan_decide::{Bundle, CompiledBundle};
use bartizan_identify::{Caller, Identifier, QuorumError, RecoverySignature};
use bartizan_model::directory::{PrincipalSpec, Spec, Status};
use bartizan_model::record::System;
use bartizan_model::{
    Action, AssuranceLevel, Document, Principal, PrincipalId, PrincipalKind, Problem, ReasonCode, Tenant,
};
use bartizan_store::{Change, State};
use serde::{Deserialize, Serialize};

use crate::policy::{Approved, Contents, Proposal, Version, can_apply, guard};
use crate::resources::find;
use crate::{Control, CreatedKey, Done, Stopped, View};

/// How long a recovered administrator's key lives: long enough to set things right.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The role of administrators in the starter bundle.
const ROLE: &str = "administrator";

/// What the holders sign. It names the installation and its revision, so that it is good for this installation and once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryOrder {
    /// The installation, as the digest of its recovery keys.
    pub installation: Digest,
    /// The revision of the state that it is good for.
    pub revision: u64,
    /// Who becomes an administrator, with a fresh key.
    pub administrator: Option<Name>,
    /// Which earlier bundle comes into force again.
    pub bundle: Option<u64>,
}

impl RecoveryOrder {
    /// The bytes that are signed.
    ///
    /// # Errors
    /// Never for an order that was made here.
    pub fn message(&self) -> Result<Vec<u8>, Problem> {
        json::canonical(self).map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))
    }
}

/// What recovery brought.
#[derive(Debug)]
pub struct Recovered {
    /// Who is an administrator now, if one was asked for.
    pub administrator: Option<PrincipalId>,
    /// Their key.
    pub key: Option<CreatedKey>,
    /// The version under which the earlier bundle is in force again.
    pub version: Option<u64>,
}

fn installation(state: &State) -> Result<(Digest, u32, &[String]), Problem> {
    let (needed, publics) = state.recovery.as_ref().ok_or_else(|| {
        Problem::with_detail(ReasonCode::Invalid, "the installation was founded without recovery keys")
    })?;
    let canonical = json::canonical(&(needed, publics));
    let canonical = canonical.map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
    Ok((Digest::of(&canonical), *needed, publics))
}

impl Control {
    /// An order for the holders to sign. Changes nothing; what could not be carried out is refused before anybody is asked
    /// to sign it.
    ///
    /// # Errors
    /// When it orders nothing, the state cannot be read, or nobody could change policy after it.
    pub async fn order_recovery(
        &self,
        administrator: Option<Name>,
        bundle: Option<u64>,
    ) -> Result<RecoveryOrder, Problem> {
        if administrator.is_none() && bundle.is_none() {
            let detail = "name an administrator, an earlier version of the bundle, or both";
            return Err(Problem::with_detail(ReasonCode::Invalid, detail));
        }
        let tenant = Tenant::default_tenant();
        let view = self.house.view(&tenant).map_err(Problem::new)?;
        let (installation, ..) = installation(&view.state)?;
        let order = RecoveryOrder { installation, revision: view.state.revision, administrator, bundle };
        let earlier = self.earlier(&tenant, &order).await.map_err(|stopped| stopped.problem)?;
        self.work_out(&order, earlier.as_ref(), &view, &tenant)?;
        Ok(order)
    }

    /// Carries out a signed order: recorded like everything else, and before it has any effect.
    ///
    /// # Errors
    /// When too few holders have signed, the order is another installation's or out of date, or nobody could change policy
    /// after it.
    pub async fn recover(
        &self,
        order: &RecoveryOrder,
        signatures: &[RecoverySignature],
    ) -> Result<Done<Recovered>, Stopped> {
        let tenant = Tenant::default_tenant();
        let view = self.house.view(&tenant)?;
        let (installation, needed, publics) = installation(&view.state)?;
        let proven = Identifier::recoverer(tenant.clone(), &order.message()?, signatures, (needed, publics));
        let caller = match proven {
            Ok(caller) => caller,
            Err(error) => return Err(self.not_enough(tenant, &error).await),
        };
        let earlier = self.earlier(&tenant, order).await?;
        let done = self.change(&caller, Action::HouseRecover, order, |view, tenant| {
            if order.installation != installation {
                let detail = "the order is for another installation";
                return Err(Problem::with_detail(ReasonCode::Invalid, detail));
            }
            if order.revision != view.state.revision {
                let detail = "the state has changed since the order was made; make and sign a new one";
                return Err(Problem::with_detail(ReasonCode::Conflict, detail));
            }
            self.work_out(order, earlier.as_ref(), view, tenant)
        });
        let done = done.await?;
        self.tell(order, &done.value).await;
        Ok(done)
    }

    /// The version that the order returns to, if it was ever in force.
    async fn earlier(&self, tenant: &Tenant, order: &RecoveryOrder) -> Result<Option<Version>, Stopped> {
        match order.bundle {
            None => Ok(None),
            Some(version) => self.earlier_version(tenant, version).await.map(Some).map_err(Stopped::from),
        }
    }

    /// What an order comes to on the state as it is.
    fn work_out(
        &self,
        order: &RecoveryOrder,
        earlier: Option<&Version>,
        view: &View,
        tenant: &Tenant,
    ) -> Result<(Vec<Change>, Recovered), Problem> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut recovered = Recovered { administrator: None, key: None, version: None };
        let mut after = view.clone();
        if let Some(name) = &order.administrator {
            let (document, id) = self.administrator(view, tenant, name);
            let principal = Principal { kind: PrincipalKind::User, name: name.clone(), id };
            let label = "recovered administrator".to_owned();
            let (row, key) = self.new_key(tenant, principal, label, None, now, now.saturating_add(LIFE));
            let role = Name::literal(ROLE);
            let role = Document { name: role, principal: None, spec: Spec::Role(Default::default()) };
            if find(&view.state, tenant, "role", &role.name).is_none() {
                changes.push(Change::PutDocument { document: role, expect: None });
            }
            let expect = find(&view.state, tenant, "user", name).map(|(_, revision)| revision);
            changes.push(Change::PutDocument { document: document.clone(), expect });
            let mut state = (*view.state).clone();
            state.suppose(tenant, document);
            after.state = Arc::new(state);
            changes.push(Change::AddKey(row));
            recovered.administrator = Some(id);
            recovered.key = Some(key);
        }
        let compiled = match (order.bundle, earlier) {
            (None, _) => view.policy.bundle().cloned().ok_or_else(|| {
                let detail = "no bundle is in force that can be read; order an earlier version as well";
                Problem::with_detail(ReasonCode::Constitution, detail)
            })?,
            (Some(version), None) => {
                let detail = format!("bundle version {version} was never in force");
                return Err(Problem::with_detail(ReasonCode::NotFound, detail));
            }
            (Some(version), Some(earlier)) => {
                let bundle = Bundle { files: earlier.row.files.clone() };
                let compiled = CompiledBundle::in_force(&bundle, &[], &[])
                    .map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
                let proposal = Proposal {
                    tenant: tenant.clone(),
                    base: view.base(),
                    bundle: bundle.digest(),
                    candidate: None,
                    restores: Some(version),
                    author: None,
                };
                // Enough holders of the recovery keys need nobody's approval, nor an author's signature.
                let contents =
                    Contents { bundle, candidate: None, authored: earlier.statement.authored.clone() };
                let (put, bundled) = self.version(Approved::by_right(proposal), contents, view)?;
                changes.extend(put);
                recovered.version = Some(bundled.version);
                Arc::new(compiled)
            }
        };
        opens_the_house(order, &after, tenant, compiled, now)?;
        Ok((changes, recovered))
    }

    /// The person with the role, active, whether they were there or not.
    fn administrator(&self, view: &View, tenant: &Tenant, name: &Name) -> (Document, PrincipalId) {
        let found = find(&view.state, tenant, "user", name).map(|(document, _)| document);
        let mut spec = match found {
            Some(Document { spec: Spec::User(spec), .. }) => spec.clone(),
            _ => PrincipalSpec::default(),
        };
        spec.status = Status::Active;
        spec.suspended = false;
        spec.roles.insert(Name::literal(ROLE));
        let id = found.and_then(|d| d.principal);
        let id = id.unwrap_or_else(|| PrincipalId::new(self.clock.now(), &*self.random));
        (Document { name: name.clone(), principal: Some(id), spec: Spec::User(spec) }, id)
    }

    /// Says in the ledger, in words, what was done; by pseudonyms, like every record.
    async fn tell(&self, order: &RecoveryOrder, recovered: &Recovered) {
        let administrator = recovered.administrator.map(|id| format!("enrolled administrator {id}"));
        let bundle = order.bundle.zip(recovered.version);
        let bundle = bundle.map(|(from, to)| format!("returned to bundle version {from} as version {to}"));
        let what = administrator.into_iter().chain(bundle).collect::<Vec<_>>().join("; ");
        // The order's digest stands in the intent, which was durable before anything happened.
        if let Err(error) = self.recorder.system(System::Recovered { what }).await {
            tracing::error!(%error, "what recovery did could not be recorded in words");
        }
    }

    async fn not_enough(&self, tenant: Tenant, error: &QuorumError) -> Stopped {
        let stopped = self.refuse_caller(&Caller::anonymous(tenant), ReasonCode::CredentialUnknown).await;
        let problem = Problem::with_detail(stopped.problem.reason.clone(), error.to_string());
        let problem = match stopped.problem.decision {
            Some(decision) => problem.of(decision),
            None => problem,
        };
        Stopped { problem, ..stopped }
    }
}

/// A recovery after which the house were still locked is no recovery: whoever is enrolled must be able to change policy
/// with the key that they get; where nobody is enrolled, somebody who is there.
fn opens_the_house(
    order: &RecoveryOrder,
    after: &View,
    tenant: &Tenant,
    compiled: Arc<CompiledBundle>,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(name) = &order.administrator else { return guard(after, tenant, compiled, now) };
    let by_key = |who: &Name| (who == name).then_some(AssuranceLevel::Aal1);
    if can_apply(after, tenant, compiled, by_key, now)? {
        return Ok(());
    }
    let detail = if order.bundle.is_some() {
        "under that bundle the administrator could not apply another with an API key; order an earlier version"
    } else {
        "under the bundle in force the administrator could not apply another with an API key; order an earlier version as well"
    };
    Err(Problem::with_detail(ReasonCode::Constitution, detail))
}
