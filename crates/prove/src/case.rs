//! A counterexample as a policy test: a file for `tests/` of a bundle, in the form of `bartizan-decide`.
//!
//! A proof is about rules, a test about the whole engine; so not every counterexample can be told as a test. One that is handed
//! out was run: it passes with the set compared with, or would with a set that keeps the invariant, and fails with the set asked
//! about.

use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Tested};
use bartizan_model::record::VerdictKind;
use serde_json::{Value, json};

use crate::answer::Counterexample;
use crate::meaning::World;
use crate::shrink::split;
use crate::words::entry;

/// A policy test that fails with the bundle asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file's text, for `tests/NAME.toml`.
    pub text: String,
}

/// The name under which a test is tried.
const FILE: &str = "tests/counterexample.toml";

/// Tells a counterexample as a policy test and tries it: what it expects is the verdict under `old`, or a denial where there is no
/// `old`, and with `new` the ask must come through more easily.
///
/// # Errors
/// Why it cannot be told so, in words.
pub fn case(
    counterexample: &Counterexample,
    name: &str,
    old: Option<&Bundle>,
    new: &Bundle,
    now: Timestamp,
) -> Result<Case, String> {
    let Counterexample { principal, action, resource, context, entities, .. } = counterexample.clone();
    let world = World { principal, action, resource, context, entities };
    let (resources, ask) = (resources(&world)?, ask(&world)?);
    let text = |expect: VerdictKind| {
        let test = json!([{"name": name, "ask": ask, "expect": expect.name()}]);
        let file = json!({"resource": resources, "test": test});
        toml::to_string(&file).map_err(|e| e.to_string())
    };
    let tried = |bundle: &Bundle, text: String| try_with(bundle, text, now);
    let expect = match old {
        Some(old) => tried(old, text(VerdictKind::Deny)?)?.explanation.verdict,
        None => VerdictKind::Deny,
    };
    let text = text(expect)?;
    let found = tried(new, text.clone())?.explanation.verdict;
    match strength(found) < strength(expect) {
        true => Ok(Case { text }),
        false => Err(format!(
            "the engine as a whole answers `{}` to this ask, where `{}` is expected",
            found.name(),
            expect.name()
        )),
    }
}

fn try_with(bundle: &Bundle, text: String, now: Timestamp) -> Result<Tested, String> {
    let mut bundle = bundle.clone();
    bundle.files.retain(|file, _| !file.starts_with("tests/"));
    bundle.files.insert(FILE.to_owned(), text);
    let compiled = CompiledBundle::compile(&bundle).map_err(|e| e.to_string())?;
    Arc::new(compiled).test(&bundle, now).pop().ok_or_else(|| "the test did not run".to_owned())
}

/// The order of strength of DESIGN: a permit is the weakest.
const fn strength(verdict: VerdictKind) -> u8 {
    match verdict {
        VerdictKind::Permit => 0,
        VerdictKind::StepUp => 1,
        VerdictKind::Justify => 2,
        VerdictKind::Hold => 3,
        VerdictKind::Deny => 4,
    }
}

fn name(id: &str) -> Result<Name, String> {
    id.parse().map_err(|_| format!("`{id}` is not a name"))
}

/// The things of the counterexample as declared ones.
fn resources(world: &World) -> Result<Vec<Value>, String> {
    let mut out = Vec::new();
    for entity in world.entities.as_array().into_iter().flatten() {
        let text = |pointer: &str| entity.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, id) = (text("/uid/type"), text("/uid/id"));
        let within = |kind: &str| -> Vec<&str> {
            let parents = entity.get("parents").and_then(Value::as_array).into_iter().flatten();
            let of_kind = parents.filter(|p| p.get("type").and_then(Value::as_str) == Some(kind));
            of_kind.filter_map(|p| p.get("id")?.as_str()).collect()
        };
        let declared = match kind {
            "User" => {
                json!({"kind": "user", "status": text("/attrs/status"), "groups": within("Group"), "roles": within("Role")})
            }
            "Agent" | "Workload" => {
                let owner = entity.pointer("/attrs/owner");
                let owner = owner.and_then(|o| o.get("__entity").unwrap_or(o).get("id")?.as_str());
                json!({
                    "kind": kind.to_lowercase(), "status": text("/attrs/status"), "purpose": text("/attrs/purpose"),
                    "owner": owner.unwrap_or_default(), "groups": within("Group"), "roles": within("Role"),
                })
            }
            "Group" => json!({"kind": "group", "parents": within("Group"), "roles": within("Role")}),
            "Role" | "Project" | "Environment" | "Provider" => {
                json!({"kind": kind.to_lowercase(), "parents": within(kind)})
            }
            "Model" => {
                let mut model = json!({
                    "kind": "model", "upstream": "somewhere", "dialects": ["openai.chat"], "status": text("/attrs/status"),
                    "environment": text("/attrs/environment"), "sensitivity": text("/attrs/sensitivity"),
                });
                if let ([project], Some(members)) = (within("Project").as_slice(), model.as_object_mut()) {
                    members.insert("project".to_owned(), json!(project));
                }
                model
            }
            "System" | "Policy" | "Ledger" | "Configuration" | "Anonymous" => continue,
            other => return Err(format!("a test cannot declare a thing of the kind `{other}`")),
        };
        out.push(json!({"name": name(id)?, "spec": declared}));
    }
    Ok(out)
}

/// The ask as a supposed one.
fn ask(world: &World) -> Result<Value, String> {
    let (kind, id) = split(&world.principal).ok_or("the principal is no entity")?;
    if !matches!(kind.as_str(), "User" | "Agent" | "Workload") {
        return Err(format!("a test cannot ask as `{kind}`"));
    }
    if entry(&world.entities, &kind, &id).is_none() {
        return Err("the principal has no entry of its own".to_owned());
    }
    let (_, action) = split(&world.action).ok_or("the action is no entity")?;
    let (_, resource) = split(&world.resource).ok_or("the resource is no entity")?;
    let at = |pointer: &str| world.context.pointer(pointer);
    let mut ask = json!({
        "principal": format!("{}/{}", kind.to_lowercase(), name(&id)?),
        "action": action,
        "resource": name(&resource)?,
        "assurance": at("/assurance/level"),
        "assurance_age_s": at("/assurance/age_s"),
        "risk": at("/risk/level").cloned().unwrap_or_else(|| json!("unknown")),
        "request": at("/request"),
    });
    let mut set =
        |name: &str, value: Value| ask.as_object_mut().map(|members| members.insert(name.to_owned(), value));
    if let Some(epoch_s) = at("/time/epoch_s").and_then(Value::as_u64) {
        let micros = epoch_s.checked_mul(1_000_000).ok_or("the time is out of reach")?;
        set("at", json!(Timestamp::from_micros(micros).to_string()));
    }
    if let Some(purpose) = at("/purpose") {
        set("purpose", purpose.clone());
    }
    if let Some(network) = at("/network/address/__extn/arg") {
        set("network", network.clone());
    }
    Ok(ask)
}
