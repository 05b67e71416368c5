//! What is measured apart: chains, remedies, batches, changes, memory, bundles, explanation.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bartizan_bench::Error;
use bartizan_bench::report::Value;
use bartizan_decide::{AskedEntity, AskedOf, Bundle, CompiledBundle, Door, Entities, Snapshot};
use bartizan_identify::Caller;
use bartizan_model::{
    Assurance, AssuranceLevel, Binding, EnforcementPointSpec, Member, Principal, PrincipalKind, Risk, Tenant,
};

use crate::timing::{Times, resident};
use crate::workload::{Size, World, principal};
use crate::{Effort, ours, short};

/// Resident bytes that entities take.
pub fn memory(entities: usize) -> Result<f64, Error> {
    let world = World::new(Size { rules: 10_000, entities, unscoped: true });
    let before = resident();
    let store = ours::entities(&world)?;
    let taken = resident() - before;
    eprintln!("  {} entities", store.len());
    Ok(taken)
}

pub fn drive(effort: &Effort) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    let million = if effort.quick { 100_000 } else { 1_000_000 };
    for n in [100_000, 1_000_000] {
        let told = Command::new(std::env::current_exe()?).args(["memory", &n.to_string()]).output()?;
        let bytes: f64 = String::from_utf8(told.stdout)?.trim().parse()?;
        values.push(Value::new(format!("entities_memory_{}", short(n)), Some(bytes), "B"));
    }
    let world = World::new(Size { rules: 10_000, entities: million, unscoped: true });
    let store = Arc::new(ours::entities(&world)?);
    changes(&world, &store, effort, &mut values)?;
    let cedar = world.cedar();
    let bundle = ours::bundle(cedar.clone())?;
    let snapshot = Snapshot::new(Some(bundle), store.clone());
    let requests = ours::requests(&world, &world.asks(effort.asks))?;
    let door = Door::model_calls();
    let decide =
        |snapshot: &Snapshot, request: &ours::Request| drop(ours::decide(snapshot, request, &door, false));

    let start = Instant::now();
    requests.iter().take(1_000).for_each(|request| decide(&snapshot, request));
    let all = start.elapsed().as_secs_f64() * 1e3;
    values.push(Value::new("batch_1000".to_owned(), Some(all), "ms"));

    values.push(Value::new("advice_1000".to_owned(), Some(advice(&world, &cedar, &store)?), "ms"));

    let chains: Vec<Caller> = world
        .asks(effort.asks)
        .iter()
        .map(|ask| chain(&world, ask.user, ask.model))
        .collect::<Result<_, _>>()?;
    let pairs: Vec<(&Caller, &ours::Request)> = chains.iter().zip(&requests).collect();
    let times = Times::of(&pairs, 100, |(caller, request)| {
        let request = ours::Request { caller: (*caller).clone(), model: request.model.clone(), ..**request };
        decide(&snapshot, &request);
    });
    values.extend(times.values("chain_of_two"));

    let strict = "@id(\"strict\") @reason(\"assurance_too_low\") @remedy(\"step_up(level: 3)\") \
        forbid (principal, action in Action::\"model:use\", resource) unless { context.assurance.level >= 3 };";
    let remedied = Snapshot::new(Some(ours::bundle(format!("{cedar}{strict}"))?), store.clone());
    values.extend(Times::of(&requests, 100, |request| decide(&remedied, request)).values("remedy"));

    swap(&cedar, &store, &requests, &mut values)?;
    Ok(values)
}

/// A thousand questions of an application in one call: one person, a thousand models, what is told with each. Milliseconds.
fn advice(world: &World, cedar: &str, store: &Arc<Entities>) -> Result<f64, Error> {
    let own = "namespace App { action \"answer:read\" appliesTo { principal: [User], resource: [Model], context: { hour: Long } }; }";
    let rules = "@id(\"answers\") permit (principal, action == App::Action::\"answer:read\", resource) \
        when { resource.status == \"active\" && context.hour < 18 };";
    let bundle = Bundle {
        files: [
            ("rules.cedar".to_owned(), format!("{cedar}{rules}")),
            ("schema/own.cedarschema".to_owned(), own.to_owned()),
        ]
        .into(),
    };
    let snapshot = Snapshot::new(Some(Arc::new(CompiledBundle::compile(&bundle)?)), store.clone());
    let mut point = EnforcementPointSpec::of("app".parse()?);
    point.namespace = Some("App".parse()?);
    for kind in ["User", "Model"] {
        point.types.insert(kind.parse()?, kind.parse()?);
    }
    point.context = ["hour".parse()?].into();
    let (users, models) = (world.size.users(), world.size.models());
    let entity = |kind: &str, id: String| AskedEntity { kind: kind.to_owned(), id, ..AskedEntity::default() };
    let questions: Vec<AskedOf> = (0..1_000)
        .map(|n| AskedOf {
            subject: entity("User", format!("user{}", users / 2)),
            action: "answer:read".to_owned(),
            resource: entity("Model", format!("model{}", n * 7_919 % models)),
            context: [("hour".to_owned(), 9.into())].into_iter().collect(),
            ..AskedOf::default()
        })
        .collect();
    let start = Instant::now();
    let advising = snapshot.advising(&point, ours::NOW);
    let permitted = questions.iter().filter(|question| advising.advise(question).permits()).count();
    let all = start.elapsed().as_secs_f64() * 1e3;
    if permitted == 0 || permitted == questions.len() {
        return Err(format!("{permitted} of a thousand questions were answered with yes").into());
    }
    Ok(all)
}

/// Single changes: a person's groups, and a folder that everything of a tenth of the projects lies in.
fn changes(
    world: &World,
    store: &Entities,
    effort: &Effort,
    values: &mut Vec<Value>,
) -> Result<(), Error> {
    let mut store = store.clone();
    let changed: Vec<_> =
        (0..effort.asks).map(|n| world.user(n * 7 % world.size.users())).collect::<Result<_, _>>()?;
    let moved: Vec<_> = (0..effort.asks)
        .map(|n| {
            let mut document = world.user(n * 7 % world.size.users())?;
            if let bartizan_model::directory::Spec::User(spec) = &mut document.spec {
                spec.groups = [format!("team{}", n % world.size.nodes()).parse()?].into();
            }
            Ok(document)
        })
        .collect::<Result<_, Error>>()?;
    for (name, documents) in [("upsert_same_groups", changed), ("upsert_moved", moved)] {
        let mut failed = None;
        let times = Times::of(&documents, 100, |document| {
            match store.with_documents(std::slice::from_ref(document), &[]) {
                Ok(next) => store = next,
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        values.extend(times.values(name));
    }
    Ok(())
}

/// A bundle compiled, checked and put in force while another thread decides.
fn swap(
    cedar: &str,
    store: &Arc<bartizan_decide::Entities>,
    requests: &[ours::Request],
    values: &mut Vec<Value>,
) -> Result<(), Error> {
    let first = Arc::new(Snapshot::new(Some(ours::bundle(cedar.to_owned())?), store.clone()));
    let current = std::sync::RwLock::new(first);
    let done = AtomicBool::new(false);
    let door = Door::model_calls();
    let slowest = std::thread::scope(|scope| {
        let deciding = scope.spawn(|| {
            let mut all = Vec::new();
            for request in requests.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let start = Instant::now();
                let snapshot = current.read().map(|s| s.clone());
                if let Ok(snapshot) = snapshot {
                    drop(ours::decide(&snapshot, request, &door, false));
                }
                all.push(start.elapsed().as_nanos() as f64 / 1e3);
            }
            all.sort_by(f64::total_cmp);
            all
        });
        let start = Instant::now();
        let changed = format!(
            "{cedar}@id(\"one-more\") permit (principal == User::\"user1\", action == Action::\"model:embed\", resource);"
        );
        let compiled =
            ours::bundle(changed).map(|bundle| Arc::new(Snapshot::new(Some(bundle), store.clone())));
        if let (Ok(next), Ok(mut current)) = (compiled, current.write()) {
            *current = next;
        }
        values.push(Value::new("bundle_swap_10k".to_owned(), Some(start.elapsed().as_secs_f64()), "s"));
        done.store(true, Ordering::Relaxed);
        deciding.join()
    });
    let times = slowest.map_err(|_| "a decision failed")?;
    let at = |quantile: f64| times.get(((times.len() - 1) as f64 * quantile) as usize).copied();
    values.push(Value::new("decide_p50_during_swap".to_owned(), at(0.5), "us"));
    values.push(Value::new("decide_p999_during_swap".to_owned(), at(0.999), "us"));
    values.push(Value::new("decide_slowest_during_swap".to_owned(), at(1.0), "us"));
    Ok(())
}

/// A person with another one acting for them: every member is evaluated.
fn chain(world: &World, one: usize, other: usize) -> Result<Caller, Error> {
    let member = |n: usize| -> Result<Member, Error> {
        let n = n % world.size.users();
        let principal =
            Principal { kind: PrincipalKind::User, name: format!("user{n}").parse()?, id: principal(n) };
        let assurance =
            Assurance { level: AssuranceLevel::Aal1, methods: Vec::new(), at: ours::NOW, via: None };
        Ok(Member { principal, assurance, binding: Binding::None, device: None, risk: Risk::default() })
    };
    Ok(Caller::suppose(Tenant::default_tenant(), member(one)?, vec![member(other)?]))
}
