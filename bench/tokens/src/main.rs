//! Measures what verifying an access token costs: anew for each algorithm beside jsonwebtoken, and remembered, with what
//! looking at it each time adds to a bare table.

mod world;

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bartizan_base::Digest;
use bartizan_bench::Error;
use bartizan_bench::report::{self, Cases, Comparison, Value};
use bartizan_identify::{Caller, Directory, Identified, Identifier, Presented};
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde::Deserialize;

use world::{AUDIENCE, NOW, World, iss, presented};

const USAGE: &str = "usage: tokens --results FILE [--quick]";
const COMPARISON: Comparison = Comparison { baseline: "jsonwebtoken", further: &["bare_table"], added: None };

/// How much is done.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// Tokens verified anew in a round, of each algorithm.
    fresh: usize,
    /// Tokens that are remembered.
    remembered: usize,
    /// Looked up in a round.
    hits: usize,
}

const FULL: Effort = Effort { rounds: 15, fresh: 2_000, remembered: 100_000, hits: 200_000 };
const QUICK: Effort = Effort { rounds: 3, fresh: 300, remembered: 100_000, hits: 100_000 };

/// What jsonwebtoken reads: the claims that a door needs.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be comparable, as a service would")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    client_id: String,
    jti: String,
    exp: u64,
    iat: u64,
    auth_time: u64,
    acr: String,
    amr: Vec<String>,
    scope: String,
    act: serde_json::Value,
}

fn main() -> Result<(), Error> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let (mut results, mut effort) = (None, FULL);
    let mut flags = given.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--results" => results = Some(PathBuf::from(flags.next().ok_or(USAGE)?)),
            "--quick" => effort = QUICK,
            _ => return Err(USAGE.into()),
        }
    }
    let results = results.ok_or(USAGE)?;
    let world = World::new()?;
    let mut all = Measured::default();
    anew(&world, effort, &mut all)?;
    remembered(&world, effort, &mut all)?;
    let rows = report::rows(&all.cases(), &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    report::write(&results, &report::machine(), &rows)
}

/// Rounds by case and metric, in the order they came.
#[derive(Default)]
struct Measured(Vec<(&'static str, String, Vec<f64>)>);

impl Measured {
    fn add(&mut self, case: &'static str, metric: String, us: f64) {
        match self.0.iter_mut().find(|(c, m, _)| *c == case && *m == metric) {
            Some((.., rounds)) => rounds.push(us),
            None => self.0.push((case, metric, vec![us])),
        }
    }

    fn cases(self) -> Cases {
        let mut out: Cases = Vec::new();
        for (case, metric, rounds) in self.0 {
            let value = Value::median(metric, rounds, "us");
            match out.iter_mut().find(|(name, _)| name == case) {
                Some((_, values)) => values.push(value),
                None => out.push((case.to_owned(), vec![value])),
            }
        }
        out
    }
}

/// The processor time of this thread for one of `count`, in microseconds.
fn each_us(count: usize, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    (cpu() - before).as_secs_f64() * 1e6 / count as f64
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn identify(identifier: &Identifier, directory: &Directory, presented: &Presented) -> Option<Box<Caller>> {
    match identifier.identify(directory, presented, NOW) {
        Identified::Caller(caller) => Some(caller),
        _ => None,
    }
}

/// Tokens that were never seen, in turns.
fn anew(world: &World, effort: Effort, all: &mut Measured) -> Result<(), Error> {
    let directory = world.directory(true)?;
    for (which, (name, signer)) in world.signers.iter().enumerate() {
        let metric = format!("verify_{name}");
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.jwk())?;
        let key = DecodingKey::from_jwk(&jwk)?;
        let mut validation = Validation::new(signer.alg().parse()?);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[iss(name)]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The tokens are of a moment of their own, and this library asks the machine for the time.
        validation.validate_exp = false;
        for round in 0..effort.rounds {
            let first = (round * effort.fresh) as u64;
            let tokens: Vec<String> =
                (first..first + effort.fresh as u64).map(|n| world.foreign(which, n)).collect::<Result<_, _>>()?;
            let shown: Vec<Presented> = tokens.iter().map(|t| presented(t)).collect::<Result<_, _>>()?;
            let identifier = world.identifier(effort.fresh * 2)?;
            let mut good = 0;
            let us = each_us(tokens.len(), || {
                good = tokens.iter().filter(|token| decode::<Claims>(token, &key, &validation).is_ok()).count();
            });
            all.add("jsonwebtoken", metric.clone(), us);
            must(good, tokens.len(), "jsonwebtoken")?;
            let us = each_us(shown.len(), || {
                good = shown.iter().filter(|shown| identify(&identifier, &directory, shown).is_some()).count();
            });
            all.add("bartizan", metric.clone(), us);
            must(good, shown.len(), "bartizan")?;
        }
    }
    let metric = "verify_own_ed25519".to_owned();
    for round in 0..effort.rounds {
        let first = (round * effort.fresh) as u64;
        let shown: Vec<Presented> = (first..first + effort.fresh as u64)
            .map(|n| presented(&world.own(n)?))
            .collect::<Result<_, _>>()?;
        let identifier = world.identifier(effort.fresh * 2)?;
        let mut good = 0;
        let us = each_us(shown.len(), || {
            good = shown.iter().filter(|shown| identify(&identifier, &directory, shown).is_some()).count();
        });
        all.add("bartizan", metric.clone(), us);
        must(good, shown.len(), "bartizan")?;
    }
    Ok(())
}

/// Tokens that were verified before: a hot one, and many in an order that no cache of the processor can follow. A bare table of
/// callers by the digest of the token is what remembering costs without ever looking again.
fn remembered(world: &World, effort: Effort, all: &mut Measured) -> Result<(), Error> {
    let (with, without) = (world.directory(true)?, world.directory(false)?);
    for (metric, count) in [("hit_hot", 1), ("hit_100k", effort.remembered)] {
        let tokens: Vec<String> = (0..count as u64).map(|n| world.own(n)).collect::<Result<_, _>>()?;
        let shown: Vec<Presented> = tokens.iter().map(|t| presented(t)).collect::<Result<_, _>>()?;
        let identifier = world.identifier(count * 2)?;
        let table: Mutex<HashMap<Digest, Caller>> = Mutex::default();
        for (token, shown) in tokens.iter().zip(&shown) {
            let caller = identify(&identifier, &with, shown).ok_or("a token was refused")?;
            let digest = Digest::of(token.as_bytes());
            table.lock().map_err(|_| "poisoned")?.insert(digest, *caller);
        }
        // A full cycle through all of them, far apart: the step has no divisor in common with their number.
        let order: Vec<usize> = (0..effort.hits).map(|n| n * 61_803 % count).collect();
        for _ in 0..effort.rounds {
            let mut good = 0;
            let us = each_us(order.len(), || {
                for at in &order {
                    let digest = Digest::of(tokens[*at].as_bytes());
                    let found = table.lock().ok().and_then(|table| table.get(&digest).cloned());
                    good += usize::from(black_box(found).is_some());
                }
            });
            must(good, order.len(), "bare_table")?;
            all.add("bare_table", metric.to_owned(), us);
            let hits = |directory: &Directory| {
                let mut good = 0;
                let us = each_us(order.len(), || {
                    for at in &order {
                        good += usize::from(black_box(identify(&identifier, directory, &shown[*at])).is_some());
                    }
                });
                must(good, order.len(), "bartizan").map(|()| us)
            };
            let (bare, full) = (hits(&without)?, hits(&with)?);
            all.add("bartizan", metric.to_owned(), full);
            all.add("bartizan", format!("{metric}_checks_added"), full - us);
            all.add("bartizan", format!("{metric}_epochs_added"), full - bare);
        }
    }
    Ok(())
}

fn must(good: usize, all: usize, case: &str) -> Result<(), Error> {
    if good == all { Ok(()) } else { Err(format!("{case}: {good} of {all} held").into()) }
}
