//! Cedar's own authorizer over the whole set, on its own entities.

use std::collections::{HashMap, HashSet};

use bartizan_bench::Error;
use bartizan_bench::report::Value;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use crate::timing::Times;
use crate::workload::{Asked, ENVIRONMENTS, SENSITIVITIES, Size, World};
use crate::{Effort, short};

struct Types(HashMap<&'static str, EntityTypeName>);

impl Types {
    fn uid(&self, kind: &'static str, id: &str) -> Result<EntityUid, Error> {
        let kind = self.0.get(kind).ok_or("unknown type")?.clone();
        Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
    }
}

pub fn drive(effort: &Effort) -> Result<Vec<Value>, Error> {
    let kinds = ["User", "Group", "Role", "Model", "Project", "Environment", "Action"];
    let types: Result<_, _> = kinds.into_iter().map(|kind| kind.parse().map(|name| (kind, name))).collect();
    let types = Types(types?);
    let mut values = Vec::new();
    // A million entities take it 4 GB and change nothing: the cost is in the rules.
    for &entities in effort.entities.iter().filter(|n| **n <= 100_000) {
        for &rules in effort.rules {
            if rules * 3 / 10 * 2 > entities {
                continue;
            }
            let world = World::new(Size { rules, entities, unscoped: true });
            let store = store(&world, &types)?;
            let set: PolicySet = world.cedar().parse()?;
            let number = if rules >= 10_000 { effort.asks.min(300) } else { effort.asks };
            let asks = world.asks(number);
            let authorizer = Authorizer::new();
            let mut failed = None;
            let mut permitted = 0;
            let times = Times::of(&asks, 20, |ask| match request(ask, &types) {
                Ok(request) => {
                    let response = authorizer.is_authorized(&request, &set, &store);
                    permitted += usize::from(response.decision() == Decision::Allow);
                }
                Err(error) => failed = Some(error),
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let name = format!("decide_{}_{}", short(rules), short(entities));
            eprintln!(
                "  {name}: p50 {:.1} us, {permitted} of {} permitted",
                times.quantile_us(0.5),
                asks.len() + 20
            );
            values.extend(times.values(&name));
        }
    }
    Ok(values)
}

fn request(ask: &Asked, types: &Types) -> Result<Request, Error> {
    let long = RestrictedExpression::new_long;
    let address = if ask.inside { "10.1.2.3" } else { "192.0.2.1" };
    let assurance = [("level".to_owned(), long(ask.level.into())), ("age_s".to_owned(), long(0))];
    let network = [("address".to_owned(), RestrictedExpression::new_ip(address))];
    let context = Context::from_pairs([
        ("assurance".to_owned(), RestrictedExpression::new_record(assurance)?),
        ("network".to_owned(), RestrictedExpression::new_record(network)?),
    ])?;
    let action = if ask.embed { "model:embed" } else { "model:invoke" };
    Ok(Request::new(
        types.uid("User", &format!("user{}", ask.user))?,
        types.uid("Action", action)?,
        types.uid("Model", &format!("model{}", ask.model))?,
        context,
        None,
    )?)
}

fn store(world: &World, types: &Types) -> Result<Entities, Error> {
    let mut all = Vec::new();
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let bare = |uid: EntityUid, parents: HashSet<EntityUid>| Entity::new_no_attrs(uid, parents);
    for n in 0..world.size.nodes() {
        all.push(bare(types.uid("Role", &format!("role{n}"))?, [].into()));
        all.push(bare(types.uid("Group", &format!("team{n}"))?, [].into()));
        let folder = types.uid("Project", &format!("folder{}", world.folder_of(n)))?;
        all.push(bare(types.uid("Project", &format!("project{n}"))?, [folder].into()));
    }
    for n in 0..world.size.folders() {
        all.push(bare(types.uid("Project", &format!("folder{n}"))?, [types.uid("Project", "org")?].into()));
    }
    all.push(bare(types.uid("Project", "org")?, [].into()));
    for n in 0..world.size.users() {
        let mut parents: HashSet<EntityUid> =
            [types.uid("Group", &format!("team{}", world.team_of(n)))?].into();
        for role in world.roles_of(n) {
            parents.insert(types.uid("Role", &format!("role{role}"))?);
        }
        let attributes = [("status".to_owned(), text("active"))].into();
        all.push(Entity::new(types.uid("User", &format!("user{n}"))?, attributes, parents)?);
    }
    for n in 0..world.size.models() {
        let environment = format!("env{}", n % ENVIRONMENTS);
        let attributes = [
            ("status".to_owned(), text(if n % 20 == 0 { "disabled" } else { "active" })),
            ("environment".to_owned(), text(&environment)),
            ("sensitivity".to_owned(), text(SENSITIVITIES[n / 7 % 3])),
        ];
        let project = types.uid("Project", &format!("project{}", world.project_of(n)))?;
        let parents = [types.uid("Environment", &environment)?, project].into();
        all.push(Entity::new(types.uid("Model", &format!("model{n}"))?, attributes.into(), parents)?);
    }
    for action in ["model:invoke", "model:embed"] {
        let group = types.uid("Action", "model:use")?;
        all.push(bare(types.uid("Action", action)?, [group].into()));
    }
    Ok(Entities::from_entities(all, None)?)
}
