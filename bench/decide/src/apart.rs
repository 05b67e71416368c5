//! What is measured apart: chains, remedies, batches, changes, memory, bundles, explanation.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

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

/// Bundles compiled, checked and put in force while another thread decides: one of which nothing is known, and one of which
/// all but ten rules stand in the bundle in force. Beside them, for comparison, as long without any.
fn swap(
    cedar: &str,
    store: &Arc<bartizan_decide::Entities>,
    requests: &[ours::Request],
    values: &mut Vec<Value>,
) -> Result<(), Error> {
    let first = ours::bundle(cedar.to_owned())?;
    let current = RwLock::new(Arc::new(Snapshot::new(Some(first.clone()), store.clone())));
    let put = |cedar: String, beside: &[Arc<CompiledBundle>]| -> Result<f64, Error> {
        let start = Instant::now();
        let bundle = ours::bundle_beside(cedar, beside)?;
        let next = Arc::new(Snapshot::new(Some(bundle), store.clone()));
        let old = std::mem::replace(&mut *current.write().map_err(|_| "a decision failed")?, next);
        let taken = start.elapsed().as_secs_f64();
        // As the house does: it is not left to a decision to free what was in force.
        while Arc::strong_count(&old) > 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(old);
        Ok(taken)
    };
    let one_more = "@id(\"one-more\") permit (principal == User::\"user1\", action == Action::\"model:embed\", resource);";
    let (cold, meanwhile) = during(&current, requests, || put(format!("{cedar}{one_more}"), &[]))?;
    let (ten, besides) =
        during(&current, requests, || put(with_ten_changed(cedar), std::slice::from_ref(&first)))?;
    let ((), calm) = during(&current, requests, || {
        std::thread::sleep(Duration::from_secs_f64(cold));
        Ok(())
    })?;
    values.push(Value::new("bundle_swap_10k".to_owned(), Some(cold), "s"));
    values.push(Value::new("bundle_swap_10k_ten_changed".to_owned(), Some(ten), "s"));
    for (when, times) in
        [("during_swap", meanwhile), ("during_swap_ten_changed", besides), ("without_swap", calm)]
    {
        let at = |quantile: f64| times.get(((times.len() - 1) as f64 * quantile) as usize).copied();
        values.push(Value::new(format!("decide_p50_{when}"), at(0.5), "us"));
        values.push(Value::new(format!("decide_p999_{when}"), at(0.999), "us"));
        values.push(Value::new(format!("decide_slowest_{when}"), at(1.0), "us"));
    }
    Ok(())
}

/// The same rules, ten of them under other names.
pub fn with_ten_changed(cedar: &str) -> String {
    let every = cedar.lines().count() / 10;
    let line = |(n, line): (usize, &str)| match n % every == 0 {
        true => line.replacen("@id(\"r", "@id(\"changed", 1) + "\n",
        false => format!("{line}\n"),
    };
    cedar.lines().enumerate().map(line).collect()
}

/// Does `work` while another thread decides, and a moment longer; with what each of its decisions took, in microseconds,
/// sorted.
fn during<T>(
    current: &RwLock<Arc<Snapshot>>,
    requests: &[ours::Request],
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(T, Vec<f64>), Error> {
    let (done, door) = (AtomicBool::new(false), Door::model_calls());
    std::thread::scope(|scope| {
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
        let worked = work();
        std::thread::sleep(Duration::from_millis(200));
        done.store(true, Ordering::Relaxed);
        let times = deciding.join().map_err(|_| "a decision failed")?;
        Ok((worked?, times))
    })
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
