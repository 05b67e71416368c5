//! One solver process, asked one query after the other.

use std::path::Path;
use std::process::Command as Plain;
use std::str::FromStr as _;

use bartizan_base::Clock;
use cedar_policy::{Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::err::{Error, SolverError};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, CompiledSchema, Env};
use tokio::process::Command;

use crate::answer::Why;
use crate::meaning::{Claim, World};

/// What a query came to.
#[derive(Debug)]
pub(crate) enum Reply {
    /// No ask contradicts it.
    Holds,
    /// This ask contradicts it, says the solver.
    Fails(Box<World>),
    /// Nobody knows.
    NotKnown(Why, String),
}

/// A solver at work.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    path: &'a Path,
    query_ms: u64,
    clock: &'a dyn Clock,
    compiler: Option<CedarSymCompiler<LocalSolver>>,
    /// Queries put so far.
    pub(crate) queries: u64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(path: &'a Path, query_ms: u64, clock: &'a dyn Clock) -> Self {
        Self { path, query_ms, clock, compiler: None, queries: 0 }
    }

    /// What the solver says of itself, where it is cvc5.
    pub(crate) fn version(&self) -> Result<String, String> {
        let output = Plain::new(self.path).arg("--version").env_clear().output();
        let output = output.map_err(|e| format!("{} does not start: {e}", self.path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default().trim();
        let version = first.strip_prefix("This is ").unwrap_or(first);
        match version.starts_with("cvc5 ") && version.len() < 200 {
            true => Ok(version.to_owned()),
            false => Err(format!("{} is not cvc5", self.path.display())),
        }
    }

    /// Puts one query. A solver that failed is replaced for the next one.
    pub(crate) async fn put<F>(&mut self, query: F) -> Reply
    where
        F: AsyncFnOnce(&mut CedarSymCompiler<LocalSolver>) -> Result<Option<Env>, Error>,
    {
        self.queries = self.queries.saturating_add(1);
        let began = self.clock.monotonic_us();
        let result = match self.compiler() {
            Ok(compiler) => query(compiler).await,
            Err(error) => Err(error),
        };
        let took_ms = self.clock.monotonic_us().saturating_sub(began) / 1_000;
        // A solver that gives up does so shortly before or after its limit.
        let late = took_ms >= self.query_ms.saturating_sub(self.query_ms / 10);
        match result {
            Ok(None) => Reply::Holds,
            Ok(Some(env)) => match World::of(&env.request, &env.entities) {
                Some(world) => Reply::Fails(Box::new(world)),
                None => Reply::NotKnown(Why::Unknown, "the solver's counterexample is no ask".to_owned()),
            },
            Err(error) => {
                if matches!(error, Error::SolverError(_)) {
                    self.compiler = None;
                }
                let (why, detail) = reason(&error, late, self.query_ms);
                Reply::NotKnown(why, detail)
            }
        }
    }

    #[expect(clippy::result_large_err, reason = "the error is the symbolic compiler's own")]
    fn compiler(&mut self) -> Result<&mut CedarSymCompiler<LocalSolver>, Error> {
        let fresh = match self.compiler.take() {
            Some(present) => present,
            None => {
                let mut command = Command::new(self.path);
                command.args(["--lang", "smt", &format!("--tlimit-per={}", self.query_ms)]);
                command.env_clear().kill_on_drop(true);
                CedarSymCompiler::new(LocalSolver::from_command(&mut command)?)?
            }
        };
        Ok(self.compiler.insert(fresh))
    }
}

fn reason(error: &Error, late: bool, query_ms: u64) -> (Why, String) {
    match error {
        Error::SolverUnknown if late => (Why::Timeout, format!("a query took longer than {query_ms} ms")),
        Error::SolverUnknown => (Why::Unknown, "the solver does not know".to_owned()),
        Error::SolverError(SolverError::Io(e)) => (Why::Unknown, format!("the solver ended: {e}")),
        Error::SolverError(e) => {
            let text: String = e.to_string().chars().take(300).collect();
            (if late { Why::Timeout } else { Why::Unknown }, format!("the solver failed: {text}"))
        }
        Error::DecodeModel(_) | Error::ConcretizeError(_) | Error::ModelInvalid { .. } => {
            (Why::Unknown, "the solver's counterexample makes no sense".to_owned())
        }
        Error::IncompleteSchema(_)
        | Error::ActionNotInSchema(_)
        | Error::CompileError(_)
        | Error::EncodeError(_)
        | Error::PolicyNotWellTyped { .. }
        | Error::NoPolicies => (Why::Unsupported, error.to_string()),
    }
}

const KNOWN_SCHEMA: &str = "entity Person { age: Long }; entity Door; \
    action open appliesTo { principal: Person, resource: Door };";

/// Asks what is known: one claim that holds and one that does not, whose counterexample has to be right. This finds a solver
/// that always says the same or talks nonsense. It cannot find one that means to deceive: where a solver says that nothing
/// contradicts a claim, it is believed.
pub(crate) async fn knows_the_known(session: &mut Session<'_>) -> Result<(), String> {
    const BROKEN: &str = "the built-in questions cannot be put";
    let schema = Schema::from_str(KNOWN_SCHEMA).map_err(|_| BROKEN)?;
    let compiled = CompiledSchema::new(&schema).map_err(|_| BROKEN)?;
    let env: RequestEnv = schema.request_envs().next().ok_or(BROKEN)?;
    let rule = |age: i64| {
        let text = format!("permit (principal, action, resource) when {{ principal.age > {age} }};");
        PolicySet::from_policies([Policy::from_str(&text).map_err(|_| BROKEN)?]).map_err(|_| BROKEN)
    };
    let (narrow, wide) = (rule(20)?, rule(10)?);
    let compile = |set| {
        let symbols = compiled.sym_env(&env).map_err(|_| BROKEN)?;
        CompiledPolicySet::compile_with_custom_symenv(set, &env, &schema, symbols).map_err(|_| BROKEN)
    };
    let (small, big) = (compile(&narrow)?, compile(&wide)?);
    let holds = session.put(async |c| c.check_implies_with_counterexample_opt(&small, &big).await).await;
    let fails = session.put(async |c| c.check_implies_with_counterexample_opt(&big, &small).await).await;
    let refuted = |world: &World| {
        let claim = Claim::NothingNew { old: &narrow, new: &wide };
        world.concrete(&schema).is_some_and(|ask| claim.refuted_by(&ask))
    };
    match (holds, fails) {
        (Reply::Holds, Reply::Fails(world)) if refuted(&world) => Ok(()),
        (Reply::NotKnown(_, detail), _) | (_, Reply::NotKnown(_, detail)) => {
            Err(format!("the solver does not answer what is known: {detail}"))
        }
        _ => Err("the solver answers wrongly what is known".to_owned()),
    }
}
