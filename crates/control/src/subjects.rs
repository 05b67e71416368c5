//! Personal data of one subject: erased, or kept by a legal hold.

use std::fmt::{self, Display};
use std::str::FromStr;

use bartizan_base::{Name, Text, Timestamp};
use bartizan_decide::Named;
use bartizan_identify::Caller;
use bartizan_model::action::{ChangeState, ReadState};
use bartizan_model::record::{ErasedClass, ErasureBasis, System};
use bartizan_model::{Action, DecisionId, Operation, PrincipalId, Problem, ReasonCode, Target, Tenant};
use bartizan_store::State;
use bartizan_vault::{Erased, Erasure, Expired, Hold, HoldSpec, Retention, Vault, VaultError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::blocking;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

/// Whose data: somebody of the directory (`user/alice`), or whoever has a pseudonym (`prn_…`), in the directory or not
/// any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum SubjectRef {
    /// By name.
    Named(Named),
    /// By the pseudonym that records have.
    Pseudonym(PrincipalId),
}

/// What an erasure destroyed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ErasedView {
    /// Which erasure. Asked for again with nothing put since, it is the same.
    pub erasure: String,
    /// When it was made.
    pub time: String,
    /// How many values of fields went.
    pub items: u64,
    /// How many prompts and outputs went.
    pub payloads: u64,
    /// When the oldest of it was put.
    pub first: Option<String>,
    /// When the newest of it was put.
    pub last: Option<String>,
    /// What opens the digest of this request in the ledger, for whoever has to prove whose data it was. Nobody else keeps
    /// it: SHA-256 of the canonical JSON of `basis`, `opening` and `subject`.
    pub opening: String,
}

/// A legal hold to be placed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldToPlace {
    /// On what ground. No personal data: it stays when the subject is erased.
    pub basis: Text<256>,
}

/// A legal hold that stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HoldView {
    /// The case.
    pub name: String,
    /// On what ground.
    pub basis: String,
    /// When it was placed first.
    pub placed: String,
}

/// What the ledger commits to of an erasure: random words in it, since names of people can be guessed.
#[derive(Serialize)]
struct ErasureRequest<'a> {
    basis: ErasureBasis,
    opening: &'a str,
    subject: &'a SubjectRef,
}

#[derive(Serialize)]
struct HoldRequest<'a> {
    subject: &'a SubjectRef,
    hold: Option<&'a Name>,
    basis: Option<&'a str>,
}

impl Control {
    /// Erases what the vault holds of a subject: destroys its key, removes what it sealed, records that it was done without
    /// saying whose it was. Asked again, it completes what failed after the key was destroyed.
    ///
    /// # Errors
    /// When policy says no, there is no such subject, or `legal_hold`; nothing is erased then.
    pub async fn erase_subject(
        &self,
        caller: &Caller,
        subject: &SubjectRef,
        basis: ErasureBasis,
    ) -> Result<Done<ErasedView>, Stopped> {
        let opening = self.opening();
        let request = ErasureRequest { basis, opening: &opening, subject };
        let turn = self.ask::<ChangeState>(caller, Action::SubjectErase, &request, Target::House).await?;
        let (tenant, now, of) = (caller.tenant().clone(), self.clock.now(), turn.intent.decision());
        let erased = match found(&turn, &tenant, subject) {
            Ok(id) => {
                let tenant = tenant.clone();
                let (slices, whose) = (self.slices.clone(), tenant.clone());
                let erased = self.with_vault(move |vault| vault.erase_subject(&tenant, id, now)).await;
                if let Some(slices) = slices.filter(|_| erased.is_ok()) {
                    // What is kept of them from now on lies under a new key.
                    blocking(move || {
                        slices.forget(&whose, id);
                        Ok(())
                    })
                    .await?;
                }
                erased
            }
            Err(problem) => Err(problem),
        };
        let erased = match erased {
            Ok(erased) => self.forget(&turn, &tenant, subject).await.map(|()| erased),
            Err(problem) => Err(problem),
        };
        let told = match erased {
            Ok(erased) => {
                let record = record(&erased, of, basis);
                let told = self.recorder.system_of(&tenant, record).await;
                told.map(|_| seen(&erased, opening)).map_err(|error| Problem::new(error.reason()))
            }
            Err(problem) => Err(problem),
        };
        let receipt = turn.intent.receipt().clone();
        finish(turn.intent.begin(), told, receipt, of)
    }

    /// Removes what the directory knows of a subject beside their document.
    async fn forget(
        &self,
        turn: &Turn<ChangeState>,
        tenant: &Tenant,
        subject: &SubjectRef,
    ) -> Result<(), Problem> {
        let failed = |error| Stopped::from(error).problem;
        let changes = self.bonds.forget(found(turn, tenant, subject)?).await.map_err(failed)?;
        if !changes.is_empty() {
            self.store.apply(&turn.intent, changes).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Every erasure, for a list that backups must not be restored without. It names nobody.
    ///
    /// # Errors
    /// When policy says no or the vault cannot be read.
    pub async fn list_erasures(&self, caller: &Caller) -> Result<Done<Vec<Erasure>>, Stopped> {
        let turn = self.ask::<ReadState>(caller, Action::SubjectErase, &(), Target::House).await?;
        let tenant = caller.tenant().clone();
        let listed = self.with_vault(move |vault| vault.erasures(&tenant)).await;
        let (receipt, decision) = (turn.intent.receipt().clone(), turn.intent.decision());
        finish(turn.intent.begin(), listed, receipt, decision)
    }

    /// Does erasures again after a restore, on a stopped node; records how many were new.
    ///
    /// # Errors
    /// When the vault or the ledger cannot be written.
    pub async fn reapply_erasures(&self, erasures: Vec<Erasure>) -> Result<u64, Problem> {
        let new = self.with_vault(move |vault| vault.reapply(&erasures)).await?;
        let told = self.recorder.system(System::Reapplied { erasures: new }).await;
        told.map(|_| new).map_err(|error| Problem::new(error.reason()))
    }

    /// Lets go what a tenant keeps longer than `retention`, and records how much that was.
    ///
    /// # Errors
    /// When the vault or the ledger cannot be written. What went before that stays gone.
    pub async fn expire_content(&self, tenant: &Tenant, retention: &Retention) -> Result<(), Problem> {
        let (now, of, retention) = (self.clock.now(), tenant.clone(), retention.clone());
        let expired = self.with_vault(move |vault| vault.expire(&of, now, &retention)).await?;
        let Expired { items, payloads } = expired;
        if expired == Expired::default() {
            return Ok(());
        }
        let told = self.recorder.system_of(tenant, System::Expired { items, payloads }).await;
        told.map(drop).map_err(|error| Problem::new(error.reason()))
    }

    /// Places a legal hold on a subject; one of the same name gets the new basis.
    ///
    /// # Errors
    /// When policy says no, there is no such subject, or the vault cannot be written.
    pub async fn hold_subject(
        &self,
        caller: &Caller,
        subject: &SubjectRef,
        name: &Name,
        hold: &HoldToPlace,
    ) -> Result<Done<()>, Stopped> {
        let request = HoldRequest { subject, hold: Some(name), basis: Some(hold.basis.as_str()) };
        let spec = HoldSpec { name: name.clone(), basis: hold.basis.clone() };
        let now = self.clock.now();
        self.on_hold::<ChangeState, _>(caller, subject, &request, move |vault, tenant, id| {
            vault.hold(tenant, id, &spec, now)
        })
        .await
    }

    /// Releases a legal hold.
    ///
    /// # Errors
    /// When policy says no, there is no such subject or hold, or the vault cannot be written.
    pub async fn release_hold(
        &self,
        caller: &Caller,
        subject: &SubjectRef,
        name: &Name,
    ) -> Result<Done<()>, Stopped> {
        let request = HoldRequest { subject, hold: Some(name), basis: None };
        let hold = name.clone();
        self.on_hold::<ChangeState, _>(caller, subject, &request, move |vault, tenant, id| {
            if vault.release_hold(tenant, id, &hold)? { Ok(()) } else { Err(VaultError::Absent) }
        })
        .await
    }

    /// The legal holds on a subject, by name.
    ///
    /// # Errors
    /// When policy says no, there is no such subject, or the vault cannot be read.
    pub async fn list_holds(
        &self,
        caller: &Caller,
        subject: &SubjectRef,
    ) -> Result<Done<Vec<HoldView>>, Stopped> {
        let request = HoldRequest { subject, hold: None, basis: None };
        self.on_hold::<ReadState, _>(caller, subject, &request, move |vault, tenant, id| {
            Ok(vault.holds(tenant, id)?.into_iter().map(HoldView::from).collect())
        })
        .await
    }

    async fn on_hold<O: Operation, T: Send + 'static>(
        &self,
        caller: &Caller,
        subject: &SubjectRef,
        request: &HoldRequest<'_>,
        work: impl FnOnce(&Vault, &Tenant, PrincipalId) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<Done<T>, Stopped> {
        let turn = self.ask::<O>(caller, Action::SubjectHold, request, Target::House).await?;
        let tenant = caller.tenant().clone();
        let done = match found(&turn, &tenant, subject) {
            Ok(id) => self.with_vault(move |vault| work(vault, &tenant, id)).await,
            Err(problem) => Err(problem),
        };
        let (receipt, decision) = (turn.intent.receipt().clone(), turn.intent.decision());
        finish(turn.intent.begin(), done, receipt, decision)
    }

    /// Works with the vault where blocking is allowed.
    pub(crate) async fn with_vault<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(vault) = self.vault.clone() else {
            return Err(Problem::with_detail(ReasonCode::VaultUnavailable, "this node has no vault"));
        };
        match tokio::task::spawn_blocking(move || work(&vault)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(told(&error)),
            Err(_) => Err(Problem::new(ReasonCode::ShuttingDown)),
        }
    }

    /// 32 random bytes, in hexadecimal digits.
    fn opening(&self) -> String {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whom `subject` means today.
fn found<O: Operation>(
    turn: &Turn<O>,
    tenant: &Tenant,
    subject: &SubjectRef,
) -> Result<PrincipalId, Problem> {
    match subject {
        SubjectRef::Pseudonym(id) => Ok(*id),
        SubjectRef::Named(named) => in_directory(&turn.view.state, tenant, named).ok_or_else(|| {
            let detail = format!(
                "the directory does not know `{subject}`; who left is found by the pseudonym that records have"
            );
            Problem::with_detail(ReasonCode::NotFound, detail)
        }),
    }
}

fn in_directory(state: &State, tenant: &Tenant, named: &Named) -> Option<PrincipalId> {
    let documents = state.documents.iter().filter(|(of, ..)| of == tenant).map(|(_, document, _)| document);
    documents
        .filter(|d| d.spec.principal_kind() == Some(named.kind) && d.name == named.name)
        .find_map(|d| d.principal)
}

/// The house's own record of an erasure. No name, pseudonym or address of the subject has a place in it.
const fn record(erased: &Erased, of: DecisionId, basis: ErasureBasis) -> System {
    System::Erased {
        erasure: erased.erasure.id,
        of,
        class: ErasedClass::Subject,
        basis,
        items: erased.items,
        payloads: erased.payloads,
        first_us: erased.first_us,
        last_us: erased.last_us,
    }
}

fn seen(erased: &Erased, opening: String) -> ErasedView {
    let moment = |at: Option<Timestamp>| at.map(|at| at.to_string());
    ErasedView {
        erasure: erased.erasure.id.to_string(),
        time: erased.erasure.time_us.to_string(),
        items: erased.items,
        payloads: erased.payloads,
        first: moment(erased.first_us),
        last: moment(erased.last_us),
        opening,
    }
}

/// What the vault said, for the one who asked; the particulars are for the operators.
pub(crate) fn told(error: &VaultError) -> Problem {
    match error {
        VaultError::Held { .. } => Problem::with_detail(ReasonCode::LegalHold, error.to_string()),
        VaultError::Absent => {
            Problem::with_detail(ReasonCode::NotFound, "the vault holds nothing of that name")
        }
        _ => {
            tracing::error!(error = error as &dyn std::error::Error, "the vault failed");
            Problem::new(error.reason())
        }
    }
}

impl From<Hold> for HoldView {
    fn from(hold: Hold) -> Self {
        Self {
            name: hold.spec.name.to_string(),
            basis: hold.spec.basis.to_string(),
            placed: hold.placed.to_string(),
        }
    }
}

impl FromStr for SubjectRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a subject is written `user/NAME`, `agent/NAME`, `workload/NAME` or `prn_…`";
        text.parse()
            .map(Self::Pseudonym)
            .or_else(|_| Named::try_from(text.to_owned()).map(Self::Named))
            .map_err(|_| WRONG)
    }
}

impl Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(named) => f.write_str(&String::from(named.clone())),
            Self::Pseudonym(id) => id.fmt(f),
        }
    }
}

impl From<SubjectRef> for String {
    fn from(subject: SubjectRef) -> Self {
        subject.to_string()
    }
}
