//! What people allowed: counted when it is used, seen and withdrawn by whoever gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_identify::Caller;
use bartizan_model::{
    Action, Detail, DetailId, FamilyId, GrantId, Principal, PrincipalKind, PrincipalRef, Problem, ReasonCode,
    Tenant,
};
use bartizan_store::{Change, CounterRow, EpochKind, RowKind, State, detail_key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authorize::details;
use crate::grant::principal_of;
use crate::issue::Root;
use crate::kept::{Grant, Held, Kept as _, find, find_of, keep, owner};
use crate::oauth::{IDENTITY, OauthError, is_known};
use crate::refresh::Family;
use crate::{Authority, marks};

/// The most grants, and families of refresh tokens, of one person that are looked at.
pub(crate) const OF_ONE_MAX: usize = 1_000;

/// What somebody lets an agent do in their name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveGrant {
    /// The agent.
    pub agent: Name,
    /// The client program that it has to run as; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What it may do: actions, or groups of them.
    pub scopes: BTreeSet<String>,
    /// Where.
    pub resources: BTreeSet<String>,
    /// For how many seconds.
    pub life_s: u64,
    /// How many tokens may come of it; absent for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_max: Option<u64>,
    /// What exactly, and nothing else: `authorization_details` as at the authority (RFC 9396); absent for all that `scopes` say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
}

/// Something that somebody allowed, as they see it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GrantView {
    /// Its id.
    pub id: GrantId,
    /// The client program it was given to.
    pub client: String,
    /// The agent that may act, such as `agent/helper`, where it is for one.
    pub agent: Option<String>,
    /// What may be done.
    pub scopes: BTreeSet<String>,
    /// Where.
    pub resources: BTreeSet<String>,
    /// What exactly, and nothing else; empty for all that `scopes` say.
    pub details: Vec<ExactView>,
    /// When it was given.
    pub given: String,
    /// When it ends.
    pub ends: String,
    /// How often it may be used.
    pub uses_max: Option<u64>,
    /// How often it was used; exact where there is a bound.
    pub uses: u64,
    /// When it was withdrawn.
    pub withdrawn: Option<String>,
    /// Logins of programs that are alive under it.
    pub logins: Vec<LoginView>,
    /// `active`, `used_up` or `withdrawn`.
    pub state: &'static str,
}

/// An exact thing that somebody allowed, as they see it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ExactView {
    /// As tokens hold it.
    pub detail: Value,
    /// The same in words.
    pub words: String,
    /// How often it was done; absent where that is not counted.
    pub used: Option<u64>,
}

/// A family of refresh tokens, as the person sees it in whose name it is used.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LoginView {
    /// Its id.
    pub id: FamilyId,
    /// When it began.
    pub began: String,
    /// When it was used last.
    pub used: String,
}

/// The changes that use each of the grants behind `rights` once more. Exact: a grant with a bound is replaced by its version.
///
/// # Errors
/// `invalid_grant` for one that was withdrawn, has ended, is used up, or is somebody else's.
pub(crate) async fn spend(
    authority: &Authority,
    rights: &Root,
    changes: &[Change],
    now: Timestamp,
) -> Result<Vec<Change>, OauthError> {
    let mut out = Vec::new();
    for id in rights.grants.iter().map(ToString::to_string) {
        // One that this very request gives or counts.
        let put = |change: &Change| matches!(change, Change::PutRow { row, .. } if row.kind == RowKind::Grant && row.id == id);
        if changes.iter().any(put) {
            continue;
        }
        let held = find::<Grant>(&*authority.rows, &id, now).await?;
        let held = held.filter(|held| {
            held.tenant == rights.tenant
                && held.value.principal.id == rights.subject.id
                && is_alive(&held.value)
        });
        let Some(held) = held else {
            return Err(OauthError::grant().because(ReasonCode::CredentialRevoked));
        };
        if held.value.uses_max.is_some() {
            let used = Grant { uses: held.value.uses.saturating_add(1), ..held.value.clone() };
            out.push(held.replace(&used)?);
        }
    }
    Ok(out)
}

/// Whether a grant can still be used, its end aside.
pub(crate) fn is_alive(grant: &Grant) -> bool {
    grant.withdrawn.is_none() && grant.uses_max.is_none_or(|max| grant.uses < max)
}

impl Authority {
    /// Lets an agent act in the caller's name, within bounds. It takes a token of theirs, and an exchange, to make use of it.
    ///
    /// # Errors
    /// When policy says no, the caller is nobody who can allow it, or the bounds are none.
    pub async fn give_grant(&self, caller: &Caller, give: &GiveGrant) -> Result<Done<GrantView>, Stopped> {
        let now = self.control.clock.now();
        let invalid = |why: &str| Problem::with_detail(ReasonCode::Invalid, why);
        let subject = caller.subject();
        self.control
            .change_with(caller, Action::GrantGive, give, async |view, tenant| {
                if subject.principal.kind != PrincipalKind::User || !caller.actors().is_empty() {
                    return Err(Problem::with_detail(
                        ReasonCode::Forbidden,
                        "only a person can allow it, for themselves",
                    ));
                }
                let known = |scope: &String| is_known(scope) && !IDENTITY.contains(&scope.as_str());
                if give.scopes.is_empty() || !give.scopes.iter().all(known) {
                    return Err(invalid("`scopes` names actions or groups of actions, at least one"));
                }
                if give.resources.is_empty() || !give.resources.is_subset(&self.settings.resources) {
                    return Err(invalid(
                        "`resources` names addresses that tokens are issued for, at least one",
                    ));
                }
                let life = Duration::from_secs(give.life_s);
                if life.is_zero() || life > self.settings.grant_life || give.uses_max == Some(0) {
                    return Err(invalid("`life_s` or `uses_max` is none, or too much"));
                }
                let agent = PrincipalRef { kind: PrincipalKind::Agent, name: give.agent.clone() };
                let agent = principal_of(&view.state, tenant, &agent)
                    .ok_or_else(|| invalid("there is no such agent"))?;
                let bounds = crate::grant::conditions_of(&view.state, &agent);
                if bounds.is_some_and(|bounds| !bounds.for_others) {
                    let why = "whoever answers for the agent has set that it acts for nobody else";
                    return Err(Problem::with_detail(ReasonCode::SponsorCondition, why));
                }
                let mut exact = Vec::new();
                if !give.details.is_empty() {
                    let asked = details::of_request(&give.details, &view.state, tenant, now);
                    let asked = asked.map_err(|error| invalid(&error.to_string()))?;
                    exact = details::allowed(&asked, now.saturating_add(life), now, &*self.control.random);
                }
                let grant = Grant {
                    id: GrantId::new(now, &*self.control.random),
                    principal: subject.principal.clone(),
                    client: give.client.clone().unwrap_or_default(),
                    agent: Some(agent),
                    scopes: give.scopes.clone(),
                    resources: give.resources.clone(),
                    details: exact,
                    session: None,
                    assurance: subject.assurance.clone(),
                    given: now,
                    ends: now.saturating_add(life),
                    uses_max: give.uses_max,
                    uses: 0,
                    withdrawn: None,
                };
                let change = keep(tenant, grant.id.to_string(), &grant).map_err(unread)?;
                Ok((vec![change], seen(&grant, &[], &Used::new())))
            })
            .await
    }

    /// What the caller allowed others, with what is alive of it.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_grants(&self, caller: &Caller) -> Result<Done<Vec<GrantView>>, Stopped> {
        let now = self.control.clock.now();
        self.control
            .read_with(caller, Action::GrantList, &"own", async |_, tenant| {
                let owner = owner(&caller.subject().principal);
                let grants =
                    find_of::<Grant>(&*self.rows, tenant, &owner, OF_ONE_MAX, now).await.map_err(unread)?;
                let families =
                    find_of::<Family>(&*self.rows, tenant, &owner, OF_ONE_MAX, now).await.map_err(unread)?;
                let used = self.used(tenant, grants.iter().map(|held| &held.value)).await.map_err(unread)?;
                Ok(grants.into_iter().map(|held| seen(&held.value, &families, &used)).collect())
            })
            .await
    }

    /// Withdraws what the caller allowed: no token comes of it any more, its refresh tokens and everything that was issued
    /// under it are dead.
    ///
    /// # Errors
    /// When policy says no, or the caller gave no such grant.
    pub async fn withdraw_grant(&self, caller: &Caller, id: GrantId) -> Result<Done<GrantView>, Stopped> {
        let now = self.control.clock.now();
        let own = owner(&caller.subject().principal);
        self.control
            .change_with(caller, Action::GrantWithdraw, &id, async |view, tenant| {
                let held = find::<Grant>(&*self.rows, &id.to_string(), now).await.map_err(unread)?;
                let held = held
                    .filter(|held| held.tenant == *tenant && held.value.owner() == own)
                    .ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
                let families =
                    find_of::<Family>(&*self.rows, tenant, &own, OF_ONE_MAX, now).await.map_err(unread)?;
                let mut changes = end_grant(&view.state, &held, now)?.to_vec();
                for family in families.iter().filter(|family| family.value.rights.get().grants.contains(&id))
                {
                    changes.extend(end_family(&view.state, family, now)?);
                }
                let used = self.used(tenant, [&held.value].into_iter()).await.map_err(unread)?;
                Ok((changes, seen(&held.value.ended(now), &[], &used)))
            })
            .await
    }
}

/// How often exact things were done, by their ids.
type Used = BTreeMap<DetailId, u64>;

impl Authority {
    /// How often the exact things of `grants` were done, where that is counted.
    async fn used(
        &self,
        tenant: &Tenant,
        grants: impl Iterator<Item = &Grant>,
    ) -> Result<Used, bartizan_store::StoreError> {
        let details = grants.flat_map(|grant| &grant.details).filter_map(Detail::read);
        let counted = details.filter(|detail| detail.uses.is_some()).filter_map(|detail| detail.id);
        let keys: BTreeMap<String, DetailId> = counted.map(|id| (detail_key(tenant, id), id)).collect();
        if keys.is_empty() {
            return Ok(Used::new());
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let asked = keys.keys().cloned().collect();
        let look = move |rows: &mut BTreeMap<String, CounterRow>| {
            let count = |(key, id): (&String, &DetailId)| {
                Some((*id, rows.get(key).map_or(Some(0), |row| row.body.parse().ok())?))
            };
            drop(tell.send(keys.iter().filter_map(count).collect()));
            false
        };
        self.counts.work(asked, Box::new(look)).await?;
        Ok(told.await.unwrap_or_default())
    }
}

/// The changes that end a grant and what was issued under it, families aside.
pub(crate) fn end_grant(state: &State, grant: &Held<Grant>, now: Timestamp) -> Result<[Change; 2], Problem> {
    Ok([
        grant.replace(&grant.value.ended(now)).map_err(unread)?,
        marks::advance(state, &grant.tenant, (EpochKind::Grant, &grant.id), now)?,
    ])
}

/// The changes that end a family and what was issued to it.
pub(crate) fn end_family(
    state: &State,
    family: &Held<Family>,
    now: Timestamp,
) -> Result<[Change; 2], Problem> {
    Ok([
        family.replace(&family.value.ended(now)).map_err(unread)?,
        marks::advance(state, &family.tenant, (EpochKind::Grant, &family.id), now)?,
    ])
}

/// A state database that does not answer.
pub(crate) fn unread(error: bartizan_store::StoreError) -> Problem {
    Stopped::from(error).problem
}

fn seen(grant: &Grant, families: &[Held<Family>], used: &Used) -> GrantView {
    let name = |principal: &Principal| marks::name_of(principal);
    let alive = families
        .iter()
        .map(|held| &held.value)
        .filter(|family| family.withdrawn.is_none() && family.rights.get().grants.contains(&grant.id));
    let login = |family: &Family| LoginView {
        id: family.id,
        began: family.began.to_string(),
        used: family.used.to_string(),
    };
    GrantView {
        id: grant.id,
        client: grant.client.clone(),
        agent: grant.agent.as_ref().map(name),
        scopes: grant.scopes.clone(),
        resources: grant.resources.clone(),
        details: grant.details.iter().map(|detail| exact(detail, used)).collect(),
        given: grant.given.to_string(),
        ends: grant.ends.to_string(),
        uses_max: grant.uses_max,
        uses: grant.uses,
        withdrawn: grant.withdrawn.map(|at| at.to_string()),
        logins: alive.map(login).collect(),
        state: match grant.withdrawn {
            Some(_) => "withdrawn",
            None if !is_alive(grant) => "used_up",
            None => "active",
        },
    }
}

fn exact(detail: &Value, used: &Used) -> ExactView {
    let id = Detail::read(detail).and_then(|detail| detail.id);
    ExactView {
        detail: detail.clone(),
        words: details::in_words(detail),
        used: id.and_then(|id| used.get(&id).copied()),
    }
}
