//! regorus with the rules as data, and casbin with its roles: what each can carry of the same world.

use bartizan_bench::Error;
use bartizan_bench::report::Value;
use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use serde_json::{Map, Value as Json, json};

use crate::timing::Times;
use crate::workload::{Asked, ENVIRONMENTS, Rule, SENSITIVITIES, Size, World};
use crate::{Effort, short};

/// How many entities these are given: their cost is in the rules, and loading a million of them says nothing.
const ENTITIES: usize = 1_000;
/// With ten thousand rules there are more roles than that.
const ENTITIES_MANY_RULES: usize = 100_000;

fn worlds(effort: &Effort) -> impl Iterator<Item = World> {
    effort.rules.iter().map(|rules| {
        let entities = if *rules > 1_000 { ENTITIES_MANY_RULES } else { ENTITIES };
        World::new(Size { rules: *rules, entities, unscoped: true })
    })
}

/// Rules as data: each ask is a few look-ups in tables, whatever the number of rules.
const REGO: &str = r#"
package authz

default allow := false

allow if {
    granted
    not denied
}

granted if {
    input.action == "model:invoke"
    some role in data.users[input.user].roles
    data.roles[role][data.models[input.model].project]
}

granted if {
    input.action == "model:invoke"
    data.direct[input.user][input.model]
}

granted if {
    model := data.models[input.model]
    some rule in data.teams[data.users[input.user].team][model.project]
    model.sensitivity == rule.sensitivity
    input.level >= rule.level
    input.inside
}

denied if {
    model := data.models[input.model]
    data.closed[data.users[input.user].team][model.project]
    model.status == "disabled"
}

denied if {
    input.level < 3
    data.strong[data.models[input.model].environment]
}
"#;

pub fn regorus(effort: &Effort) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    for world in worlds(effort) {
        let mut engine = regorus::Engine::new();
        let told = |e: &dyn std::fmt::Display| -> Error { e.to_string().into() };
        engine.add_policy("authz.rego".to_owned(), REGO.to_owned()).map_err(|e| told(&e))?;
        engine
            .add_data(regorus::Value::from_json_str(&data(&world).to_string()).map_err(|e| told(&e))?)
            .map_err(|e| told(&e))?;
        let (mut permitted, mut failed) = (0, None);
        let mut ask = |ask: &Asked| {
            let input = json!({
                "user": format!("user{}", ask.user), "model": format!("model{}", ask.model),
                "action": if ask.embed { "model:embed" } else { "model:invoke" }, "level": ask.level, "inside": ask.inside,
            });
            engine.set_input(regorus::Value::from(input));
            match engine.eval_rule("data.authz.allow".to_owned()) {
                Ok(allowed) => permitted += usize::from(allowed == regorus::Value::Bool(true)),
                Err(error) => failed = Some(error.to_string()),
            }
        };
        let asks = world.asks(effort.asks);
        let times = Times::of(&asks, 0, &mut ask);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let name = format!("decide_{}_{}", short(world.size.rules), short(world.size.entities));
        eprintln!("  {name}: p50 {:.1} us, {permitted} of {} permitted", times.quantile_us(0.5), asks.len());
        values.extend(times.values(&name));
    }
    Ok(values)
}

fn data(world: &World) -> Json {
    let mut tables: Map<String, Json> = Map::new();
    let mut put = |table: &str, one: String, other: String, value: Json| {
        let table = tables.entry(table).or_insert_with(|| json!({}));
        let entry = &mut table[&one];
        if entry.is_null() {
            *entry = json!({});
        }
        match (value, &mut entry[&other]) {
            (Json::Array(new), Json::Array(known)) => known.extend(new),
            (value, place) => *place = value,
        }
    };
    let mut strong = Map::new();
    for rule in &world.rules {
        match rule {
            Rule::Role { role, project } => {
                put("roles", format!("role{role}"), format!("project{project}"), json!(true))
            }
            Rule::Direct { user, model } => {
                put("direct", format!("user{user}"), format!("model{model}"), json!(true))
            }
            Rule::Closed { team, project } => {
                put("closed", format!("team{team}"), format!("project{project}"), json!(true))
            }
            Rule::Team { team, project, sensitivity, level } => {
                let rule = json!([{ "sensitivity": SENSITIVITIES[*sensitivity], "level": level }]);
                put("teams", format!("team{team}"), format!("project{project}"), rule);
            }
            Rule::Strong { environment } => drop(strong.insert(format!("env{environment}"), json!(true))),
        }
    }
    let users: Map<String, Json> = (0..world.size.users())
        .map(|n| {
            let roles: Vec<String> = world.roles_of(n).iter().map(|r| format!("role{r}")).collect();
            (format!("user{n}"), json!({ "team": format!("team{}", world.team_of(n)), "roles": roles }))
        })
        .collect();
    let models: Map<String, Json> = (0..world.size.models())
        .map(|n| {
            let model = json!({
                "project": format!("project{}", world.project_of(n)), "environment": format!("env{}", n % ENVIRONMENTS),
                "status": if n % 20 == 0 { "disabled" } else { "active" }, "sensitivity": SENSITIVITIES[n / 7 % 3],
            });
            (format!("model{n}"), model)
        })
        .collect();
    for table in ["roles", "direct", "closed", "teams"] {
        tables.entry(table).or_insert_with(|| json!({}));
    }
    tables.insert("strong".to_owned(), Json::Object(strong));
    tables.insert("users".to_owned(), Json::Object(users));
    tables.insert("models".to_owned(), Json::Object(models));
    Json::Object(tables)
}

const CASBIN: &str = "
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
g2 = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && g(r.sub, p.sub) && g2(r.obj, p.obj)
";

/// The rules that name roles or persons; casbin's language has no place for the others.
pub fn casbin(effort: &Effort) -> Result<Vec<Value>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut values = Vec::new();
    for world in worlds(effort) {
        let number = if world.size.rules >= 10_000 { effort.asks.min(300) } else { effort.asks };
        let asks = world.asks(number);
        let enforcer = runtime.block_on(enforcer(&world, &asks)).map_err(|e| e.to_string())?;
        let (mut permitted, mut failed) = (0, None);
        let times = Times::of(&asks, 20, |ask| {
            let action = if ask.embed { "model:embed" } else { "model:invoke" };
            match enforcer.enforce((format!("user{}", ask.user), format!("model{}", ask.model), action)) {
                Ok(allowed) => permitted += usize::from(allowed),
                Err(error) => failed = Some(error.to_string()),
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let name = format!("decide_{}_{}", short(world.size.rules), short(world.size.entities));
        eprintln!(
            "  {name}: p50 {:.1} us, {permitted} of {} permitted",
            times.quantile_us(0.5),
            asks.len() + 20
        );
        values.extend(times.values(&name));
    }
    Ok(values)
}

/// With the people and models of the asks alone, which is in casbin's favour.
async fn enforcer(world: &World, asks: &[Asked]) -> casbin::Result<Enforcer> {
    let mut enforcer = Enforcer::new(DefaultModel::from_str(CASBIN).await?, MemoryAdapter::default()).await?;
    let invoke = |one: String, other: String| vec![one, other, "model:invoke".to_owned()];
    let rules = world.rules.iter().filter_map(|rule| match rule {
        Rule::Role { role, project } => Some(invoke(format!("role{role}"), format!("project{project}"))),
        Rule::Direct { user, model } => Some(invoke(format!("user{user}"), format!("model{model}"))),
        _ => None,
    });
    for rule in rules {
        enforcer.add_policy(rule).await?;
    }
    for ask in asks {
        for role in world.roles_of(ask.user) {
            enforcer
                .add_named_grouping_policy("g", vec![format!("user{}", ask.user), format!("role{role}")])
                .await?;
        }
        let project = format!("project{}", world.project_of(ask.model));
        enforcer.add_named_grouping_policy("g2", vec![format!("model{}", ask.model), project]).await?;
    }
    Ok(enforcer)
}
