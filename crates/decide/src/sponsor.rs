//! The sponsor's conditions on agents and workloads: part of the constitution, though other for each of them. They are looked
//! at beside every evaluation, whichever way it was done, so that no rule, remedy, approval or grant widens them.

use bartizan_base::Name;
use bartizan_model::sponsor::Hours;
use bartizan_model::{
    Action, AssuranceLevel, Binding, BoundBy, Conditions, Member, Principal, PrincipalKind, ReasonCode,
};
use cedar_policy::EntityUid;
use chrono::{Datelike as _, Timelike as _};

use crate::engine::Case;
use crate::entities::{Entities, Node, View};
use crate::evaluate::{Evaluation, Triple};
use crate::zone::{Zone, moment};

/// How the rules begin whose breach is the sponsor's no.
const PREFIX: &str = "constitution-sponsor-";

/// What the conditions of one member look at, beside what it acts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// None for what only an application knows.
    action: Option<Action>,
    /// The one responsible; none where nobody was proven to us.
    subject: Option<&'a Member>,
    /// The member's place in the chain; 0 is the subject.
    place: usize,
    /// Whether somebody further out acts by what this member handed on.
    handed_on: bool,
    /// What the request is bound by: the binding of whoever makes it, the outermost of the chain.
    binding: Binding,
    now_s: u64,
}

impl<'a> Asked<'a> {
    /// An ask of a chain, as it concerns the member at `place`.
    pub(crate) fn of(case: &Case<'a>, place: usize) -> Self {
        let caller = case.caller;
        Self::by(caller, place, Some(case.action), case.situation.now.as_secs())
    }

    /// The same of a question about rows.
    pub(crate) fn by(
        caller: &'a bartizan_identify::Caller,
        place: usize,
        action: Option<Action>,
        now_s: u64,
    ) -> Self {
        let outermost = caller.actors().first().unwrap_or_else(|| caller.subject());
        // Actors stand outermost first: all but the first have handed on, and so has a subject with any.
        let handed_on = if place == 0 { !caller.actors().is_empty() } else { place > 1 };
        Self { action, subject: Some(caller.subject()), place, handed_on, binding: outermost.binding, now_s }
    }

    /// What an application asks about somebody: they alone, and nothing proven to us.
    pub(crate) const fn outside(now_s: u64) -> Self {
        Self { action: None, subject: None, place: 0, handed_on: false, binding: Binding::None, now_s }
    }

    /// Whether it is about the asker itself: then it acts on nothing that it could be confined to.
    fn is_of_oneself(&self) -> bool {
        self.action.and_then(Action::group) == Some("self:use")
    }
}

/// The evaluation with what the principal's sponsor says of it.
pub(crate) fn bounded(
    entities: &Entities,
    triple: &Triple,
    asked: &Asked<'_>,
    mut found: Evaluation,
) -> Evaluation {
    // What is declared, never what an application adds for one ask.
    let view = View::of(entities);
    let Some(bounds) = bounds_of(&view, &triple.principal) else { return found };
    let mut broken = out_of_bounds(bounds, asked);
    if !asked.is_of_oneself() {
        broken.extend(out_of_place(bounds, &view, &triple.resource));
    }
    if !broken.is_empty() {
        found.permitted = false;
        found.permits.clear();
        found.forbids.clear();
        found.near.clear();
        found.constitution.extend(broken.into_iter().map(name));
        found.constitution.sort();
    }
    found
}

/// What the sponsors of a chain say to any row: whether some condition that is about no row is broken, and whether rows have to
/// be looked at one by one.
pub(crate) fn of_rows(
    entities: &Entities,
    caller: &bartizan_identify::Caller,
    action: Action,
    now_s: u64,
) -> (bool, bool) {
    let view = View::of(entities);
    let (mut never, mut each) = (false, false);
    for (place, member) in caller.members().enumerate() {
        let Some(principal) = uid_of(&member.principal) else { continue };
        let Some(bounds) = bounds_of(&view, &principal) else { continue };
        never |= !out_of_bounds(bounds, &Asked::by(caller, place, Some(action), now_s)).is_empty();
        each |= bounds.confine();
    }
    (never, each)
}

/// Whether a condition of some sponsor in the chain is broken for the rows of a table, which lie where the table lies.
pub(crate) fn of_rows_in(
    entities: &Entities,
    caller: &bartizan_identify::Caller,
    action: Action,
    now_s: u64,
    table: &EntityUid,
) -> bool {
    let view = View::of(entities);
    caller.members().enumerate().any(|(place, member)| {
        let principal = uid_of(&member.principal);
        principal.and_then(|principal| bounds_of(&view, &principal)).is_some_and(|bounds| {
            let asked = Asked::by(caller, place, Some(action), now_s);
            !(out_of_bounds(bounds, &asked).is_empty() && out_of_place(bounds, &view, table).is_empty())
        })
    })
}

/// What rules of the constitution say by which an ask was refused.
pub(crate) fn reason(rules: &[Name]) -> Option<ReasonCode> {
    let sponsors = |rule: &Name| rule.starts_with(PREFIX);
    match rules {
        [] => None,
        rules if rules.iter().all(sponsors) => Some(ReasonCode::SponsorCondition),
        _ => Some(ReasonCode::Constitution),
    }
}

/// Refuses conditions that could never hold, or that nobody could look at.
///
/// # Errors
/// What is wrong with them, in words.
pub fn check_conditions(conditions: &Conditions) -> Result<(), String> {
    if AssuranceLevel::from_number(conditions.assurance_min).is_none() {
        return Err("`assurance_min` is a number from 0 to 4".to_owned());
    }
    if !conditions.for_others && !conditions.alone {
        return Err("it could act neither for others nor alone: set its status instead".to_owned());
    }
    let Some(hours) = &conditions.hours else { return Ok(()) };
    hours.zone.parse::<Zone>()?;
    if hours.from == hours.until {
        return Err("`from` and `until` are the same".to_owned());
    }
    Ok(())
}

fn uid_of(principal: &Principal) -> Option<EntityUid> {
    crate::describe::uid(principal.kind.entity_type(), &principal.name)
}

fn bounds_of<'v>(view: &'v View<'_>, principal: &EntityUid) -> Option<&'v Conditions> {
    let (_, node) = view.declared(principal)?;
    node.facts.bounds()
}

fn name(what: &'static str) -> Name {
    format!("{PREFIX}{what}").parse().unwrap_or_else(|_| Name::literal("constitution-sponsor"))
}

/// What is broken whatever it acts on.
fn out_of_bounds(bounds: &Conditions, asked: &Asked<'_>) -> Vec<&'static str> {
    let mut broken = Vec::new();
    // Whoever gives something up may always do so.
    if asked.action == Some(Action::TokenRevoke) {
        return broken;
    }
    let mut demand = |holds: bool, what| {
        if !holds {
            broken.push(what);
        }
    };
    demand(asked.place > 0 || bounds.alone, "alone");
    demand(asked.place == 0 || bounds.for_others, "others");
    demand(!asked.handed_on || bounds.delegates, "delegation");
    if let Some(person) = asked.subject.filter(|subject| subject.principal.kind == PrincipalKind::User) {
        demand(u8::from(person.assurance.level) >= bounds.assurance_min, "assurance");
    }
    demand(bounds.binding.is_empty() || is_bound(bounds, asked.binding), "binding");
    demand(bounds.hours.as_ref().is_none_or(|hours| are_now(hours, asked.now_s)), "hours");
    broken
}

fn is_bound(bounds: &Conditions, binding: Binding) -> bool {
    let by = match binding {
        Binding::None => return false,
        Binding::Dpop(_) => BoundBy::Dpop,
        Binding::Mtls(_) => BoundBy::Mtls,
    };
    bounds.binding.contains(&by)
}

/// A zone that nobody knows has no hours.
fn are_now(hours: &Hours, now_s: u64) -> bool {
    let local = || {
        let zone: Zone = hours.zone.parse().ok()?;
        moment(now_s, zone.offset_s(now_s)?)
    };
    local().is_some_and(|local| {
        let weekday = u8::try_from(local.weekday().num_days_from_monday()).unwrap_or(u8::MAX);
        let minute = u16::try_from(local.hour() * 60 + local.minute()).unwrap_or(u16::MAX);
        hours.include(weekday, minute)
    })
}

/// What is broken by what it acts on. A thing that is not declared lies nowhere.
fn out_of_place(bounds: &Conditions, view: &View<'_>, resource: &EntityUid) -> Vec<&'static str> {
    if !bounds.confine() {
        return Vec::new();
    }
    let resource = view.declared(resource).map(|(_, node)| node);
    let above = |node: &Node| view.uids(&node.above);
    let around: Vec<(String, EntityUid)> =
        resource.into_iter().flat_map(above).map(|uid| (uid.type_name().to_string(), uid)).collect();
    let lies =
        |fits: &dyn Fn(&str, &str) -> bool| around.iter().any(|(kind, uid)| fits(kind, uid.id().unescaped()));
    let named = |names: &std::collections::BTreeSet<Name>, of: &str| {
        names.is_empty() || lies(&|kind, name| kind == of && names.contains(name))
    };
    let mut broken = Vec::new();
    if !named(&bounds.environments, "Environment") {
        broken.push("environments");
    }
    if !named(&bounds.projects, "Project") {
        broken.push("projects");
    }
    let meant = |kind: &str, name: &str| bounds.resources.iter().any(|pattern| pattern.matches(kind, name));
    if !bounds.resources.is_empty() && !lies(&meant) {
        broken.push("resources");
    }
    broken
}
