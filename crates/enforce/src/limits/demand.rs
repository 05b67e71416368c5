//! What limits are asked for by one ask: the declared ones, cut down to those that count it.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_limits::{Claim, Of, Span, Tokens, cost, price_at, window};
use bartizan_model::limit::{Counted, Only, Per, Window};
use bartizan_model::{EntityRef, LimitSpec, PrincipalKind, ReasonCode, RunName};

use crate::world::TenantWorld;

/// What an ask will take, at the most.
#[derive(Clone, Debug)]
pub(crate) struct Demand<'a> {
    /// On what.
    pub(crate) resource: &'a EntityRef,
    /// Where it may be sent, as far as prices depend on that.
    pub(crate) upstreams: Vec<&'a Name>,
    /// Tokens it may take: an estimate that is never too low, and that the answer is capped to.
    pub(crate) estimate: Tokens,
    /// What is the same where the same is asked again: action, thing and body.
    pub(crate) digest: Digest,
    /// The run that it names.
    pub(crate) run: Option<&'a RunName>,
    /// Whether it will be known here when it has ended: only then it takes a place among what goes on at once.
    pub(crate) ends: bool,
}

/// An hour: how long asks that name no run count as one.
const UNNAMED_US: u64 = 3_600_000_000;

/// What an ask claims, with what each claim counts.
pub(crate) fn claims(
    world: &TenantWorld,
    caller: &Caller,
    demand: &Demand<'_>,
    now: Timestamp,
) -> Result<Vec<(Claim, Counted)>, (Name, ReasonCode)> {
    let mut out = Vec::new();
    let run = run(caller, demand.run, now);
    // Nothing else is made of tokens, and nothing else has a price.
    let is_model = demand.resource.kind.as_str() == "Model";
    for (name, spec) in &*world.limits {
        if !concerns(&spec.only, world, caller, demand.resource) {
            continue;
        }
        let counted = match spec.what {
            Counted::TokensIn | Counted::TokensOut | Counted::Tokens | Counted::Cost => is_model,
            Counted::Concurrency => demand.ends,
            Counted::Requests | Counted::Runs | Counted::Duration | Counted::Depth | Counted::Repeats => true,
        };
        if !counted {
            continue;
        }
        let Some(key) = key(name, spec, caller, demand, run) else { continue };
        let amount = |amount| Of::Amount { key: key.to_string(), amount };
        let tokens = demand.estimate;
        let of = match spec.what {
            Counted::Requests => amount(1),
            Counted::TokensIn => amount(tokens.input),
            Counted::TokensOut => amount(tokens.output),
            Counted::Tokens => amount(tokens.input.saturating_add(tokens.output)),
            Counted::Cost => match most_cost(world, demand, now) {
                Some(most) => amount(most),
                // A model that costs nobody knows what would never exhaust a budget.
                None if spec.hard => return Err((name.clone(), ReasonCode::PriceMissing)),
                None => continue,
            },
            Counted::Concurrency => Of::Place { key: key.to_string() },
            Counted::Runs => Of::New { key: key.to_string(), first: run.to_string() },
            Counted::Duration => Of::Age { first: run.to_string() },
            Counted::Depth => Of::Now(caller.actors().len() as u64),
            Counted::Repeats => {
                let same = Digest::of_parts(&[key.as_bytes(), demand.digest.as_bytes()]);
                Of::Amount { key: same.to_string(), amount: 1 }
            }
        };
        let span = if matches!(of, Of::Amount { .. } | Of::New { .. }) {
            window::span(spec, now)
        } else {
            Span::Whole
        };
        out.push((Claim { limit: name.clone(), most: spec.most, hard: spec.hard, span, of }, spec.what));
    }
    Ok(out)
}

/// Why a limit that says no does so.
pub(crate) const fn reason(spec: &LimitSpec) -> ReasonCode {
    match (spec.what, spec.window) {
        (Counted::Concurrency, _) => ReasonCode::TooManyAtOnce,
        (Counted::Repeats, _) => ReasonCode::LoopDetected,
        (Counted::Cost, _) | (_, Some(Window::Day | Window::Month)) => ReasonCode::BudgetExhausted,
        (Counted::Depth | Counted::Duration, _) | (_, None) => ReasonCode::RunExhausted,
        (_, Some(Window::Minute | Window::Hour)) => ReasonCode::RateLimited,
    }
}

/// What was used of a claim, once that is known; where it is not, the estimate stays.
pub(crate) fn used(
    what: Counted,
    reserved: u64,
    spent: Option<&super::Spent>,
    world: &TenantWorld,
    resource: &EntityRef,
) -> u64 {
    let Some(spent) = spent else { return reserved };
    let known = match what {
        Counted::TokensIn => spent.input,
        Counted::TokensOut => spent.output,
        Counted::Tokens => spent.input.zip(spent.output).map(|(a, b)| a.saturating_add(b)),
        Counted::Cost => spent.input.zip(spent.output).and_then(|(input, output)| {
            let (name, upstream) = (resource.name.as_str(), spent.upstream.as_ref());
            let price = price_at(world.prices.values(), name, upstream, spent.at)?;
            Some(cost(price, Tokens { input, cached: spent.cached, output }))
        }),
        _ => None,
    };
    known.unwrap_or(reserved)
}

/// The most it can cost, wherever it is sent; none where the price of a place is not known.
fn most_cost(world: &TenantWorld, demand: &Demand<'_>, now: Timestamp) -> Option<u64> {
    let name = demand.resource.name.as_str();
    let at = |upstream| {
        let price = price_at(world.prices.values(), name, upstream, now)?;
        // Nobody knows beforehand what the provider has kept.
        Some(cost(price, Tokens { cached: 0, ..demand.estimate }).max(cost(price, demand.estimate)))
    };
    if demand.upstreams.is_empty() {
        return at(None);
    }
    demand.upstreams.iter().map(|upstream| at(Some(upstream))).try_fold(0, |most, one| Some(one?.max(most)))
}

fn concerns(only: &Only, world: &TenantWorld, caller: &Caller, resource: &EntityRef) -> bool {
    let entities = world.policy.entities();
    let subject = &caller.subject().principal;
    let under = |kind: &'static str, name: &Name| {
        entities.is_under(resource, &EntityRef::new(Name::literal(kind), name.clone()))
    };
    let is = |kind: &'static str, name: &Name| {
        resource.kind.as_str() == kind && resource.name.as_str() == name.as_str()
    };
    let among =
        |kind, name: &Name| caller.members().any(|m| m.principal.kind == kind && m.principal.name == *name);
    only.user.as_ref().is_none_or(|name| subject.kind == PrincipalKind::User && subject.name == *name)
        && only.agent.as_ref().is_none_or(|name| among(PrincipalKind::Agent, name))
        && only.workload.as_ref().is_none_or(|name| among(PrincipalKind::Workload, name))
        && only.group.as_ref().is_none_or(|name| entities.is_in(&subject.entity(), name))
        && only.project.as_ref().is_none_or(|name| under("Project", name))
        && only.model.as_ref().is_none_or(|name| is("Model", name))
        && only.tool.as_ref().is_none_or(|name| is("Tool", name))
        && only.tool_server.as_ref().is_none_or(|name| under("ToolServer", name))
}

/// What a count is kept under: nothing of it names anybody. None where the ask lacks what counts are kept apart by.
fn key(name: &Name, spec: &LimitSpec, caller: &Caller, demand: &Demand<'_>, run: Digest) -> Option<Digest> {
    let mut parts: Vec<Vec<u8>> = vec![
        b"limit".to_vec(),
        caller.tenant().0.as_str().into(),
        name.as_str().into(),
        spec.what.name().into(),
        vec![spec.window.map_or(0, |window| window as u8 + 1), u8::from(spec.sliding)],
    ];
    for per in &spec.per {
        parts.push(match per {
            Per::Caller => caller.subject().principal.id.as_bytes().to_vec(),
            Per::Agent => {
                let agent = caller.actors().first().unwrap_or(caller.subject());
                (agent.principal.kind == PrincipalKind::Agent)
                    .then(|| agent.principal.id.as_bytes().to_vec())?
            }
            Per::Key => caller.key()?.as_bytes().to_vec(),
            Per::Run => run.as_bytes().to_vec(),
            Per::Resource => demand.resource.to_string().into_bytes(),
        });
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Some(Digest::of_parts(&parts))
}

/// A run is of those who act, under their credential; what it is called only tells apart what is theirs. Asks that name none
/// count as one run for an hour, so that leaving the name out is no way around a limit, and no way into one for ever.
fn run(caller: &Caller, name: Option<&RunName>, now: Timestamp) -> Digest {
    let hour = (now.as_micros() / UNNAMED_US).to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![b"run", caller.tenant().0.as_str().as_bytes()];
    parts.extend(caller.members().map(|member| member.principal.id.as_bytes().as_slice()));
    let (key, session, grant) = (caller.key(), caller.session(), caller.grant());
    parts.extend([&b"key"[..], key.as_ref().map_or(&[][..], |id| id.as_bytes())]);
    parts.extend([&b"session"[..], session.as_ref().map_or(&[][..], |id| id.as_bytes())]);
    parts.extend([&b"grant"[..], grant.as_ref().map_or(&[][..], |id| id.as_bytes())]);
    match name {
        Some(name) => parts.extend([&b"named"[..], name.as_str().as_bytes()]),
        None => parts.extend([&b"unnamed"[..], &hour]),
    }
    Digest::of_parts(&parts)
}
