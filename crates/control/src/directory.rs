//! What a change of the directory brings with it. Whoever may not come in any more is dead everywhere with the same set of
//! changes that says so: their epoch moves, their sessions end, what they allowed is withdrawn.
//!
//! Declaring, removing, provisioning and importing all come through here, so that none of them forgets any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_decide::{Named, Supposed};
use bartizan_identify::Caller;
use bartizan_model::directory::{Spec, Status};
use bartizan_model::record::{Became, DirectoryChange, System, VerdictKind};
use bartizan_model::{
    Action, AskFacts, DecisionId, Document, EntityRef, Principal, PrincipalId, PrincipalKind, Problem,
    ReasonCode, Situation, Tenant,
};
use bartizan_store::{Change, EpochKind, EpochRow, State, StoreError};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::federated;
use crate::resources::{check_whole, find};
use crate::{Control, Done, Stopped, View};

/// The longest name of a principal, in bytes: epochs name it with its kind before it.
pub const PRINCIPAL_NAME_MAX: usize = 112;
/// Entries that one record tells of.
const TOLD_MAX: usize = 100;
/// How often a change is worked out again where somebody was quicker.
const ATTEMPTS: u32 = 4;
/// Above that many people in one change, whether they could change policy is not asked one by one.
const ASKED_MAX: usize = 8;

/// What is kept of somebody beside the state, and ends with them: sessions, grants, authenticators. `bartizan-authority`
/// knows what that is.
pub trait Bonds: Debug + Send + Sync {
    /// The changes that end what was given to `principal`, as far as `how` goes.
    fn sever<'a>(
        &'a self,
        tenant: &'a Tenant,
        principal: &'a Principal,
        how: Severing,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Change>, StoreError>>;

    /// The changes that remove what is known of somebody beside their document: names, addresses, from where they log in.
    fn forget<'a>(&'a self, whom: PrincipalId) -> BoxFuture<'a, Result<Vec<Change>, StoreError>>;
}

/// How far something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severing {
    /// Also what they prove themselves with and what is known of them: they leave for good.
    pub gone: bool,
    /// Also what changes with every use, such as sessions. Without, the epoch alone ends it.
    pub busy: bool,
}

/// How to change the directory.
#[derive(Clone, Debug, Default)]
pub struct Redeclare {
    /// What is declared, or declared anew. Pseudonyms are kept where there are some.
    pub put: Vec<Document>,
    /// What is removed, by kind and name.
    pub gone: Vec<(String, Name)>,
}

/// What is declared and removed, what else is changed with it, and what comes of it.
pub type Worked<'a, T> = BoxFuture<'a, Result<(Redeclare, Vec<Change>, T), Problem>>;

/// Says what is to become of the directory, on a view of it. Asked again where somebody was quicker.
pub trait Work: Sync {
    /// What comes of it beside.
    type Value: Send;

    /// What is declared and removed, what else is changed with it, and what comes of it.
    fn work<'a>(&'a self, view: &'a View, tenant: &'a Tenant) -> Worked<'a, Self::Value>;
}

/// What is worked out without waiting for anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plainly<F>(pub(crate) F);

impl<F: Fn(&View, &Tenant) -> Result<Redeclare, Problem> + Sync> Work for Plainly<F> {
    type Value = ();

    fn work<'a>(&'a self, view: &'a View, tenant: &'a Tenant) -> Worked<'a, ()> {
        let worked = (self.0)(view, tenant).map(|redeclare| (redeclare, Vec::new(), ()));
        std::future::ready(worked).boxed()
    }
}

/// What a change of the directory is, worked out.
#[derive(Clone, Debug, Default)]
pub struct Redeclared {
    /// The changes, to be applied together.
    pub changes: Vec<Change>,
    /// What to tell of them, once they are applied.
    pub told: Vec<DirectoryChange>,
}

/// Somebody who may not come in any more, or not under that name.
#[derive(Debug)]
struct Ended {
    principal: Principal,
    /// They leave for good.
    gone: bool,
    /// They are called otherwise now.
    renamed: bool,
}

impl Control {
    /// Works out what a change of the directory is: checks that it is whole afterwards, and ends what has to end with it.
    ///
    /// # Errors
    /// When a reference leads nowhere, names collide, there would be a circle, nobody could change policy afterwards, or the
    /// state database does not answer.
    pub async fn redeclare(
        &self,
        view: &View,
        tenant: &Tenant,
        request: Redeclare,
        busy: bool,
    ) -> Result<Redeclared, Problem> {
        let now = self.clock.now();
        let Redeclare { mut put, gone } = request;
        for document in &mut put {
            let present = find(&view.state, tenant, document.spec.kind(), &document.name);
            self.keep_ours(document, present.map(|(document, _)| document), now);
        }
        federated::trim(view, tenant, &mut put, &gone);
        check_whole(view, tenant, &put, &gone)?;
        check_names(view, tenant, &put, &gone)?;
        federated::check(view, tenant, &put, &gone, now)?;
        let mut out = Redeclared::default();
        for (kind, name) in &gone {
            let (document, expect) =
                find(&view.state, tenant, kind, name).ok_or_else(|| absent(kind, name))?;
            out.changes.push(Change::DeleteDocument { kind: kind.clone(), name: name.clone(), expect });
            let renamed = document.principal.is_some_and(|id| put.iter().any(|d| d.principal == Some(id)));
            if !renamed {
                out.tell(document, Became::Removed);
            }
        }
        for document in &put {
            let present = find(&view.state, tenant, document.spec.kind(), &document.name);
            out.tell(document, became(view, tenant, document));
            out.changes
                .push(Change::PutDocument { document: document.clone(), expect: present.map(|(_, r)| r) });
        }
        let ended = ended(view, tenant, &put, &gone);
        self.check_open(view, tenant, &put, &gone, &ended, now)?;
        out.changes.extend(things(view, tenant, &put, &gone, now));
        for one in &ended {
            out.changes.extend(epoch(&view.state, tenant, &one.principal, now));
            if one.gone || one.renamed {
                out.changes.extend(keys(view, tenant, one, now));
            }
            let how = Severing { gone: one.gone, busy };
            let severed = self.bonds.sever(tenant, &one.principal, how, now).await;
            out.changes.extend(severed.map_err(|error| Stopped::from(error).problem)?);
        }
        Ok(out)
    }

    /// Asks to change the directory, works out what that is, applies it, puts it in force and tells the ledger what became of
    /// whom. `work` says what is to be declared or removed, and what else is changed with it; it is asked again where somebody
    /// was quicker. Gives what was declared, with its revision, and what `work` gave.
    ///
    /// # Errors
    /// When policy says no, or `work` does, or the directory would not be whole.
    pub async fn change_directory<W: Work>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        work: &W,
    ) -> Result<Done<(Vec<(Document, u64)>, W::Value)>, Stopped> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut worked = false;
            let result = self
                .change_with(caller, action, request, async |view, tenant| {
                    let (redeclare, more, value) = work.work(view, tenant).await?;
                    // What is used all the time may never hold still: the last attempt leaves it to the epoch.
                    let busy = left > 0;
                    let Redeclared { mut changes, told } =
                        self.redeclare(view, tenant, redeclare, busy).await?;
                    changes.extend(more);
                    let revision = view.state.revision + 1;
                    let put = changes.iter().filter_map(|change| match change {
                        Change::PutDocument { document, .. } => Some((document.clone(), revision)),
                        _ => None,
                    });
                    let put = put.collect();
                    worked = true;
                    Ok((changes, (put, value, told)))
                })
                .await;
            match result {
                Ok(mut done) => {
                    let told = std::mem::take(&mut done.value.2);
                    self.tell_directory(caller.tenant(), done.decision, told).await?;
                    return Ok(done.map(|(put, value, _)| (put, value)));
                }
                // Somebody else changed a document, or a row that was to end.
                Err(stopped) if worked && left > 0 && stopped.problem.reason == ReasonCode::Conflict => {
                    self.house.reload().await?;
                }
                Err(stopped) => return Err(stopped),
            }
        }
    }

    /// Says whether somebody may come in: what an administrator says at once, of anybody. Enabling lifts what provisioning
    /// said as well.
    ///
    /// # Errors
    /// When policy says no, there is nobody of that name, or they are gone for good.
    pub async fn set_standing(
        &self,
        caller: &Caller,
        kind: &str,
        name: &Name,
        status: Status,
    ) -> Result<Done<()>, Stopped> {
        let work = |view: &View, tenant: &Tenant| {
            let (document, _) = find(&view.state, tenant, kind, name).ok_or_else(|| absent(kind, name))?;
            let mut document = document.clone();
            match &mut document.spec {
                Spec::User(spec) if spec.status == Status::Retired => {
                    return Err(Problem::with_detail(ReasonCode::Conflict, "they are gone for good"));
                }
                Spec::User(spec) => {
                    spec.status = status;
                    spec.suspended &= status != Status::Active;
                }
                Spec::Agent(spec) | Spec::Workload(spec) => spec.status = status,
                Spec::Device(spec) => spec.status = status,
                Spec::Client(spec) => spec.status = status,
                _ => return Err(absent("user, agent, workload, client or device", name)),
            }
            Ok(Redeclare { put: vec![document], ..Redeclare::default() })
        };
        let request = (kind, name, status);
        let done = self.change_directory(caller, Action::ResourceApply, &request, &Plainly(work)).await?;
        Ok(done.map(drop))
    }

    /// What is ours to say in a document: the pseudonym, for the life of what it names, and what provisioning said.
    fn keep_ours(&self, document: &mut Document, present: Option<&Document>, now: Timestamp) {
        if !document.spec.has_pseudonym() {
            document.principal = None;
            return;
        }
        let known = present.and_then(|present| present.principal);
        let held = known.or(document.principal);
        document.principal = Some(held.unwrap_or_else(|| PrincipalId::new(now, &*self.random)));
    }

    /// Tells the ledger what became of whom.
    ///
    /// # Errors
    /// When it cannot be written; the change stands.
    pub async fn tell_directory(
        &self,
        tenant: &Tenant,
        of: DecisionId,
        told: Vec<DirectoryChange>,
    ) -> Result<(), Stopped> {
        for changes in told.chunks(TOLD_MAX) {
            let record = System::DirectoryChanged { of, changes: changes.to_vec() };
            self.recorder.system_of(tenant, record).await?;
        }
        Ok(())
    }

    /// INV-RECOVER: nobody locks everybody out by taking away the last one who can change policy.
    fn check_open(
        &self,
        view: &View,
        tenant: &Tenant,
        put: &[Document],
        gone: &[(String, Name)],
        ended: &[Ended],
        now: Timestamp,
    ) -> Result<(), Problem> {
        let Some(bundle) = view.policy.bundle() else { return Ok(()) };
        let touched: BTreeSet<&Name> = put
            .iter()
            .filter(|document| {
                let present = find(&view.state, tenant, document.spec.kind(), &document.name);
                present.is_some_and(|(present, _)| present.spec != document.spec)
            })
            .filter(|document| matches!(document.spec, Spec::User(_)))
            .map(|document| &document.name)
            .chain(
                ended.iter().filter(|e| e.principal.kind == PrincipalKind::User).map(|e| &e.principal.name),
            )
            .collect();
        let could =
            touched.len() > ASKED_MAX || touched.iter().any(|name| could_apply(view, tenant, name, now));
        if !could {
            return Ok(());
        }
        let mut after = view.clone();
        let mut state = (*view.state).clone();
        gone.iter().for_each(|(kind, name)| state.suppose_gone(tenant, kind, name));
        put.iter().for_each(|document| state.suppose(tenant, document.clone()));
        after.state = std::sync::Arc::new(state);
        crate::policy::guard(&after, tenant, bundle.clone(), now).map_err(|problem| match problem.reason {
            ReasonCode::Constitution => Problem::with_detail(
                ReasonCode::Constitution,
                "after this nobody could change policy any more",
            ),
            _ => problem,
        })
    }
}

impl Redeclared {
    fn tell(&mut self, document: &Document, became: Became) {
        if let (Some(whom), Ok(kind)) = (document.principal, document.spec.kind().parse()) {
            self.told.push(DirectoryChange { kind, whom, became });
        }
    }
}

fn absent(kind: &str, name: &Name) -> Problem {
    Problem::with_detail(ReasonCode::NotFound, format!("no {kind} is called `{name}`"))
}

fn became(view: &View, tenant: &Tenant, document: &Document) -> Became {
    let Some((present, _)) = find(&view.state, tenant, document.spec.kind(), &document.name) else {
        let known = document.principal.and_then(|id| view.state.index.by_pseudonym(tenant, id));
        return if known.is_some() { Became::Renamed } else { Became::Declared };
    };
    match (present.spec.standing(), document.spec.standing()) {
        (Some(Status::Retired), Some(Status::Retired)) => Became::Changed,
        (_, Some(Status::Retired)) => Became::Retired,
        (Some(Status::Active), Some(Status::Disabled)) => Became::Disabled,
        (Some(Status::Disabled | Status::Retired), Some(Status::Active)) => Became::Enabled,
        _ => Became::Changed,
    }
}

/// Who may not come in any more after the change, or not under that name; with people also what they answer for.
fn ended(view: &View, tenant: &Tenant, put: &[Document], gone: &[(String, Name)]) -> Vec<Ended> {
    let mut out: BTreeMap<(PrincipalKind, Name), Ended> = BTreeMap::new();
    let present =
        |kind: &str, name: &Name| find(&view.state, tenant, kind, name).map(|(document, _)| document);
    let mut end = |document: &Document, gone: bool, renamed: bool| {
        if let (Some(kind), Some(id)) = (document.spec.principal_kind(), document.principal) {
            let principal = Principal { kind, name: document.name.clone(), id };
            out.insert((kind, document.name.clone()), Ended { principal, gone, renamed });
        }
    };
    let pseudonyms: BTreeSet<PrincipalId> = put.iter().filter_map(|p| p.principal).collect();
    let leaving: BTreeSet<(&str, &Name)> = gone.iter().map(|(kind, name)| (kind.as_str(), name)).collect();
    for document in leaving.iter().filter_map(|(kind, name)| present(kind, name)) {
        let renamed = document.principal.is_some_and(|id| pseudonyms.contains(&id));
        end(document, !renamed, renamed);
    }
    for after in put {
        let kind = after.spec.kind();
        let before = present(kind, &after.name).filter(|_| !leaving.contains(&(kind, &after.name)));
        let Some(document) = before else { continue };
        let retires = after.spec.standing() == Some(Status::Retired);
        let leaves = after.spec.standing() != Some(Status::Active);
        let was = document.spec.standing();
        if leaves && was == Some(Status::Active) || retires && was != Some(Status::Retired) {
            end(document, retires, false);
        }
    }
    let owners: BTreeSet<Name> = out
        .values()
        .filter(|ended| ended.principal.kind == PrincipalKind::User)
        .map(|ended| ended.principal.name.clone())
        .collect();
    let owned = owners.iter().flat_map(|owner| view.state.index.referrers(tenant, "user", owner));
    for document in owned.filter_map(|(kind, name)| present(kind, name)) {
        let (Spec::Agent(_) | Spec::Workload(_)) = &document.spec else { continue };
        let (Some(kind), Some(id)) = (document.spec.principal_kind(), document.principal) else { continue };
        let principal = Principal { kind, name: document.name.clone(), id };
        let with = Ended { principal, gone: false, renamed: false };
        out.entry((kind, document.name.clone())).or_insert(with);
    }
    out.into_values().collect()
}

/// What everything issued to a principal up to now is dead by.
fn epoch(state: &State, tenant: &Tenant, principal: &Principal, now: Timestamp) -> Option<Change> {
    let kind = principal.kind.entity_type().to_lowercase();
    let name = format!("{kind}/{}", principal.name).parse().ok()?;
    Some(mark(state, tenant, EpochKind::Principal, name, now))
}

/// The mark goes on even where this node's clock is behind the one that moved it last.
fn mark(state: &State, tenant: &Tenant, kind: EpochKind, name: Name, now: Timestamp) -> Change {
    let present = state.epoch(tenant, kind, &name);
    let not_before = present.map_or(now, |e| now.max(e.not_before.saturating_add(Duration::from_micros(1))));
    Change::AdvanceEpoch(EpochRow { tenant: tenant.clone(), kind, name, not_before, revision: 0 })
}

/// Keys of somebody who is gone, or is called otherwise now: none of them comes back with the name.
fn keys(view: &View, tenant: &Tenant, ended: &Ended, now: Timestamp) -> Vec<Change> {
    let own =
        view.state.keys.iter().filter(|key| key.tenant == *tenant && key.principal.id == ended.principal.id);
    own.filter(|key| key.revoked.is_none()).map(|key| Change::RevokeKey { id: key.id, at: now }).collect()
}

/// Devices that requests may not come from any more, and clients that may not act any more.
fn things(
    view: &View,
    tenant: &Tenant,
    put: &[Document],
    gone: &[(String, Name)],
    now: Timestamp,
) -> Vec<Change> {
    let active = |d: &Document| match &d.spec {
        Spec::Device(spec) => (spec.status == Status::Active).then_some(EpochKind::Device),
        Spec::Client(spec) => (spec.status == Status::Active).then_some(EpochKind::Client),
        _ => None,
    };
    let after: BTreeMap<(&str, &Name), &Document> =
        put.iter().map(|document| ((document.spec.kind(), &document.name), document)).collect();
    let leaving: BTreeSet<(&str, &Name)> = gone.iter().map(|(kind, name)| (kind.as_str(), name)).collect();
    let touched: BTreeSet<(&str, &Name)> = after.keys().chain(&leaving).copied().collect();
    let ends = |named: &(&str, &Name)| {
        leaving.contains(named) || after.get(named).is_some_and(|after| active(after).is_none())
    };
    let there = touched.into_iter().filter(ends);
    let there = there.filter_map(|(kind, name)| find(&view.state, tenant, kind, name));
    there
        .filter_map(|(document, _)| {
            let kind = active(document)?;
            Some(mark(&view.state, tenant, kind, document.name.clone(), now))
        })
        .collect()
}

/// Names that could be taken for each other, and names that no epoch could name.
fn check_names(
    view: &View,
    tenant: &Tenant,
    put: &[Document],
    gone: &[(String, Name)],
) -> Result<(), Problem> {
    let mut alike: BTreeMap<(&str, String), Vec<&Name>> = BTreeMap::new();
    for document in put {
        let folded = (document.spec.kind(), document.name.to_ascii_lowercase());
        alike.entry(folded).or_default().push(&document.name);
    }
    for document in put.iter().filter(|document| document.spec.principal_kind().is_some()) {
        let kind = document.spec.kind();
        if find(&view.state, tenant, kind, &document.name).is_some() {
            continue;
        }
        if document.name.len() > PRINCIPAL_NAME_MAX {
            let detail = format!("{kind} `{}`: a name has at most {PRINCIPAL_NAME_MAX} bytes", document.name);
            return Err(Problem::with_detail(ReasonCode::Invalid, detail));
        }
        let leaves = |name: &&Name| gone.iter().any(|(k, gone)| k == kind && gone == *name);
        let there = view.state.index.alike(tenant, kind, &document.name).filter(|name| !leaves(name));
        let given = alike.get(&(kind, document.name.to_ascii_lowercase()));
        let mut others = there.chain(given.into_iter().flatten().copied());
        if let Some(other) = others.find(|other| **other != document.name) {
            let detail = format!("{kind} `{}` could be taken for `{}`", document.name, other);
            return Err(Problem::with_detail(ReasonCode::Conflict, detail));
        }
    }
    Ok(())
}

/// Whether a person could put another bundle in force, as surely logged in as can be.
fn could_apply(view: &View, tenant: &Tenant, name: &Name, now: Timestamp) -> bool {
    let named = Named { kind: PrincipalKind::User, name: name.clone() };
    let assurance = bartizan_decide::Level(bartizan_model::AssuranceLevel::Aal2PhishingResistant);
    let supposed = Supposed { assurance, ..Supposed::new(named, Action::PolicyApply, name.clone()) };
    let caller: Caller = supposed.caller(tenant.clone(), now);
    let resource = EntityRef::of_the_house(Action::PolicyApply).unwrap_or_else(EntityRef::system);
    let situation = Situation::at(now);
    let facts = AskFacts { dialect: "control".to_owned(), ..AskFacts::default() };
    let question = bartizan_decide::Question {
        caller: &caller,
        action: Action::PolicyApply,
        resource: &resource,
        facts: &facts,
        situation: &situation,
    };
    let explained =
        view.policy.explain(&question, &bartizan_decide::Door::none(), bartizan_decide::Reader::CALLER);
    explained.verdict == VerdictKind::Permit
}

#[cfg(test)]
mod whole;

#[cfg(test)]
mod tests {
    use bartizan_model::record::ENCODED_MAX;

    use super::*;

    #[test]
    fn one_record_has_room_for_as_many_changes_as_it_tells_of() {
        let one = |n: u8| DirectoryChange {
            kind: Name::literal("organisation"),
            whom: PrincipalId::from_parts(Timestamp::from_secs(1_795_000_000), [n; 10]),
            became: Became::Declared,
        };
        let changes: Vec<_> = (0..TOLD_MAX).map(|n| one(u8::try_from(n).unwrap())).collect();
        let of = DecisionId::from_parts(Timestamp::from_secs(1_795_000_000), [1; 10]);
        let told = serde_json::to_vec(&System::DirectoryChanged { of, changes }).unwrap();
        assert!(told.len() + 1_024 < ENCODED_MAX, "{}", told.len());
    }
}
