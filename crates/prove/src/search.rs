//! The way from a question to queries: changed rules one by one first, then what they meet.
//!
//! An error of any rule denies in this house, while Cedar passes over the rule. So, beside Cedar's meaning, a rule that is gone or
//! changed must not have denied by an error what is now permitted ([`Search::errors_stay`]); rules that stay err in both sets.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, RequestEnv, ResourceConstraint,
    Schema,
};
use cedar_policy_symcc::term::Term;
use cedar_policy_symcc::{
    CompiledPolicy, CompiledPolicySet, CompiledSchema, SymEnv, WellFormedAsserts, disjoint_asserts,
    implies_asserts, never_errors_asserts, term_factory,
};

use crate::answer::Why;
use crate::diff;
use crate::meaning::Claim;
use crate::question::{Question, as_permit};
use crate::session::{Reply, Session};
use crate::wire::Found;

/// A rule with what narrows down where it can meet others.
#[derive(Debug)]
struct Rule {
    policy: Policy,
    principal: Option<EntityUid>,
    resource: Option<EntityUid>,
    /// The kinds of ask that it is not trivially false for, as places in [`Search::kinds`].
    kinds: OnceCell<BTreeSet<usize>>,
    /// The kinds of ask that its scope can match: there its conditions are evaluated, and can end in an error.
    within: OnceCell<BTreeSet<usize>>,
}

/// A set of rules.
#[derive(Debug)]
struct Side {
    rules: Vec<Rule>,
    /// Those that the other set does not say, if there is one.
    changed: BTreeSet<PolicyId>,
}

/// What is not known so far, and that nothing is refuted.
type Doubts = Option<(Why, String)>;

/// The search for counterexamples to one question.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    schema: &'a Schema,
    compiled: CompiledSchema,
    kinds: Vec<RequestEnv>,
    places: BTreeMap<RequestEnv, usize>,
    slice_rules_max: usize,
    session: Session<'a>,
    asked: BTreeSet<usize>,
}

/// Leaves with what was found, where a query refuted the claim.
enum Stop {
    Refuted(Box<crate::meaning::World>),
    Unsupported(String),
}

type Step<T> = Result<T, Stop>;

impl From<cedar_policy_symcc::err::Error> for Stop {
    fn from(error: cedar_policy_symcc::err::Error) -> Self {
        Self::Unsupported(error.to_string())
    }
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        schema: &'a Schema,
        session: Session<'a>,
        slice_rules_max: usize,
    ) -> Result<Self, String> {
        let compiled = CompiledSchema::new(schema).map_err(|e| e.to_string())?;
        let mut kinds: Vec<RequestEnv> = schema.request_envs().collect();
        kinds.sort_by_key(name);
        let places = kinds.iter().cloned().zip(0..).collect();
        Ok(Self { schema, compiled, kinds, places, slice_rules_max, session, asked: BTreeSet::new() })
    }

    /// Looks for an ask that refutes what the question claims about one subject. Returns what was found, the kinds of ask looked
    /// at, and the number of queries.
    pub(crate) async fn find(&mut self, question: &Question, about: &str) -> (Found, Vec<[String; 3]>, u64) {
        self.asked.clear();
        let before = self.session.queries;
        let result = match Claim::of(question, about) {
            Some(claim) => self.one(question, about, &claim).await,
            None => Err(Stop::Unsupported("the rule cannot be analysed".to_owned())),
        };
        let found = match result {
            Ok(None) => Found::Proven,
            Ok(Some((why, detail))) => Found::NotProven(why, detail),
            Err(Stop::Refuted(world)) => Found::Refuted(world),
            Err(Stop::Unsupported(detail)) => Found::NotProven(Why::Unsupported, detail),
        };
        let environments = self.asked.iter().filter_map(|at| self.kinds.get(*at)).map(name).collect();
        (found, environments, self.session.queries.saturating_sub(before))
    }

    async fn one(&mut self, question: &Question, about: &str, claim: &Claim<'_>) -> Step<Doubts> {
        let id = cedar_policy::PolicyId::new(about);
        match question {
            Question::NothingNew { old, new } => {
                let (old, new) = Side::both(old, new);
                self.nothing_new(&old, &new, claim).await
            }
            Question::Equivalent { old, new } => {
                let (old, new) = Side::both(old, new);
                let more = self.nothing_new(&old, &new, claim).await?;
                let less = self.nothing_new(&new, &old, claim).await?;
                Ok(more.or(less))
            }
            Question::NeverPermits { rules, invariants } => match invariants.policy(&id) {
                Some(invariant) => self.never_permits(&Side::of(rules), invariant, claim).await,
                None => Err(Stop::Unsupported("no such invariant".to_owned())),
            },
            Question::NeverErrs { rules } => match rules.policy(&id) {
                Some(policy) => self.never_errs(&Rule::of(policy.clone()), claim).await,
                None => Err(Stop::Unsupported("no such rule".to_owned())),
            },
        }
    }

    /// Whether every ask that `new` permits is one that `old` permits.
    ///
    /// An ask newly permitted matches a permit of `new`. If that rule is not in `old` either a permit of `old` covers it
    /// ([`Self::covered`]) or the ask is new. If it is covered, what denied the ask in `old` is a forbid that is gone or changed
    /// ([`Self::still_forbidden`]) or an error ([`Self::errors_stay`]).
    async fn nothing_new(&mut self, old: &Side, new: &Side, claim: &Claim<'_>) -> Step<Doubts> {
        let mut doubts = None;
        let mut open = Vec::new();
        for rule in new.changed().filter(|rule| rule.permits()) {
            let pair = old.rules.iter().find(|o| o.policy.id() == rule.policy.id() && o.permits());
            self.pair(rule, rule, pair, claim, &mut open).await?;
        }
        for rule in old.changed().filter(|rule| !rule.permits()) {
            let pair = new.rules.iter().find(|n| n.policy.id() == rule.policy.id() && !n.permits());
            self.pair(rule, rule, pair, claim, &mut open).await?;
        }
        for rule in old.changed() {
            let pair = new.rules.iter().find(|n| n.policy.id() == rule.policy.id());
            note(&mut doubts, self.errors_stay(rule, pair, claim).await?);
        }
        for (rule, kind) in open {
            let found = match rule.permits() {
                true => self.covered(rule, kind, old, new, claim).await?,
                false => self.still_forbidden(rule, kind, new, claim).await?,
            };
            note(&mut doubts, found);
        }
        Ok(doubts)
    }

    /// Asks whether `inner` matches only what its pair matches, in every kind of ask; those where that is not so stay open.
    async fn pair<'r>(
        &mut self,
        open_rule: &'r Rule,
        inner: &Rule,
        outer: Option<&Rule>,
        claim: &Claim<'_>,
        open: &mut Vec<(&'r Rule, usize)>,
    ) -> Step<()> {
        for kind in self.kinds_of(inner).clone() {
            let implied = match outer {
                None => false,
                Some(outer) => {
                    let (a, b) = (self.compile(&inner.policy, kind)?, self.compile(&outer.policy, kind)?);
                    let reply = self
                        .session
                        .put(async |c| c.check_matches_implies_with_counterexample_opt(&a, &b).await)
                        .await;
                    self.sift(reply, claim)?.is_none()
                }
            };
            self.asked.insert(kind);
            if !implied {
                open.push((open_rule, kind));
            }
        }
        Ok(())
    }

    /// Whether what a permit of `new` permits together with the forbids it meets, was permitted by what it meets in `old`.
    async fn covered(
        &mut self,
        rule: &Rule,
        kind: usize,
        old: &Side,
        new: &Side,
        claim: &Claim<'_>,
    ) -> Step<Doubts> {
        let mut left = self.slice(new, kind, &[rule], false);
        left.push(rule.policy.clone());
        let mut right = self.slice(old, kind, &[rule], false);
        right.extend(self.slice(old, kind, &[rule], true));
        if let Some(doubt) = self.too_large(&left, &right) {
            return Ok(Some(doubt));
        }
        let (a, b) = (self.compile_set(left.clone(), kind)?, self.compile_set(right, kind)?);
        let reply = self.session.put(async |c| c.check_implies_with_counterexample_opt(&a, &b).await).await;
        match self.sift(reply, claim)? {
            Some(doubt) => self.where_nothing_errs(&implies_asserts(&a, &b), &left, kind, doubt).await,
            None => Ok(None),
        }
    }

    /// Asks once more, of the asks only in which no rule of `slice` ends in an error: with one that does, the new set denies.
    async fn where_nothing_errs(
        &mut self,
        asserts: &WellFormedAsserts<'_>,
        slice: &[Policy],
        kind: usize,
        doubt: (Why, String),
    ) -> Step<Doubts> {
        let before = asserts.asserts().len();
        let mut asserts = asserts.asserts().to_vec();
        for policy in slice {
            let compiled = self.compile(policy, kind)?;
            let errs = never_errors_asserts(&compiled).asserts().last().cloned();
            asserts.extend(errs.map(term_factory::not).filter(|sound| *sound != true.into()));
        }
        if asserts.len() == before {
            return Ok(Some(doubt));
        }
        let symbols = self.symbols(kind)?;
        let reply = self.raw(asserts, &symbols).await;
        Ok((!matches!(reply, Reply::Holds)).then_some(doubt))
    }

    /// Whether no ask satisfies all of `asserts`.
    async fn raw(&mut self, asserts: Vec<Term>, symbols: &SymEnv) -> Reply {
        let asserts = asserts.into();
        self.session
            .put(async |c| match c.check_unsat_raw(asserts, symbols).await {
                Ok(true) => Ok(None),
                Ok(false) => Err(cedar_policy_symcc::err::Error::SolverUnknown),
                Err(error) => Err(error),
            })
            .await
    }

    /// Whether what a forbid of the old set matched is permitted by no permit of `new`, one permit after the other.
    async fn still_forbidden(
        &mut self,
        rule: &Rule,
        kind: usize,
        new: &Side,
        claim: &Claim<'_>,
    ) -> Step<Doubts> {
        let permits: Vec<&Rule> = new
            .rules
            .iter()
            .filter(|r| r.permits() && r.may_meet(rule) && self.kinds_of(r).contains(&kind))
            .collect();
        self.never_together(&rule.policy, rule, kind, &permits, new, claim).await
    }

    /// Whether no ask is both matched by `matcher` and permitted by one of `permits` under the forbids of `side`.
    async fn never_together(
        &mut self,
        matcher: &Policy,
        scope: &Rule,
        kind: usize,
        permits: &[&Rule],
        side: &Side,
        claim: &Claim<'_>,
    ) -> Step<Doubts> {
        let mut doubts = None;
        self.asked.insert(kind);
        let matcher =
            as_permit(matcher).ok_or_else(|| Stop::Unsupported("the rule has no JSON form".to_owned()))?;
        let matched = self.compile(&matcher, kind)?;
        for permit in permits {
            let permitted = self.compile(&permit.policy, kind)?;
            let reply = self
                .session
                .put(async |c| c.check_matches_disjoint_with_counterexample_opt(&matched, &permitted).await)
                .await;
            if self.sift(reply, claim)?.is_none() {
                continue;
            }
            let mut slice = self.slice(side, kind, &[scope, permit], false);
            slice.push(permit.policy.clone());
            if let Some(doubt) = self.too_large(&slice, &[]) {
                note(&mut doubts, Some(doubt));
                continue;
            }
            let permitted = self.compile_set(slice.clone(), kind)?;
            let set = matched.clone().into_compiled_policyset();
            let reply = self
                .session
                .put(async |c| c.check_disjoint_with_counterexample_opt(&set, &permitted).await)
                .await;
            if let Some(doubt) = self.sift(reply, claim)? {
                let asserts = disjoint_asserts(&set, &permitted);
                note(&mut doubts, self.where_nothing_errs(&asserts, &slice, kind, doubt).await?);
            }
        }
        Ok(doubts)
    }

    /// Whether a rule of the old set ended in an error only where its pair does.
    async fn errors_stay(&mut self, rule: &Rule, pair: Option<&Rule>, claim: &Claim<'_>) -> Step<Doubts> {
        let mut doubts = None;
        for kind in self.within(rule).clone() {
            let a = self.compile(&rule.policy, kind)?;
            let reply =
                self.session.put(async |c| c.check_never_errors_with_counterexample_opt(&a).await).await;
            self.asked.insert(kind);
            if self.sift(reply, claim)?.is_none() {
                continue;
            }
            if let Some(pair) = pair {
                let b = self.compile(&pair.policy, kind)?;
                let symbols = self.symbols(kind)?;
                let mut asserts = never_errors_asserts(&a).asserts().to_vec();
                let errs = never_errors_asserts(&b).asserts().last().cloned();
                asserts.extend(errs.map(term_factory::not));
                let reply = self.raw(asserts, &symbols).await;
                if matches!(reply, Reply::Holds) {
                    continue;
                }
            }
            let detail = format!(
                "`{}` as it was could end in an error, which denied; whether that is denied still is not known",
                rule.policy.id()
            );
            note(&mut doubts, Some((Why::Unknown, detail)));
        }
        Ok(doubts)
    }

    async fn never_permits(&mut self, rules: &Side, invariant: &Policy, claim: &Claim<'_>) -> Step<Doubts> {
        let invariant = Rule::of(invariant.clone());
        let mut doubts = None;
        for kind in self.kinds_of(&invariant).clone() {
            let compiled = self.compile(&invariant.policy, kind)?;
            let reply = self
                .session
                .put(async |c| c.check_never_errors_with_counterexample_opt(&compiled).await)
                .await;
            if !matches!(reply, Reply::Holds) {
                let detail = "the invariant itself can end in an error, and would then say nothing";
                return Ok(Some((Why::Unsupported, detail.to_owned())));
            }
            let permits: Vec<&Rule> = rules
                .rules
                .iter()
                .filter(|r| r.permits() && r.may_meet(&invariant) && self.kinds_of(r).contains(&kind))
                .collect();
            let found =
                self.never_together(&invariant.policy, &invariant, kind, &permits, rules, claim).await?;
            note(&mut doubts, found);
        }
        Ok(doubts)
    }

    async fn never_errs(&mut self, rule: &Rule, claim: &Claim<'_>) -> Step<Doubts> {
        let mut doubts = None;
        for kind in self.within(rule).clone() {
            let compiled = self.compile(&rule.policy, kind)?;
            let reply = self
                .session
                .put(async |c| c.check_never_errors_with_counterexample_opt(&compiled).await)
                .await;
            self.asked.insert(kind);
            note(&mut doubts, self.sift(reply, claim)?);
        }
        Ok(doubts)
    }

    /// What a reply means for the claim. A counterexample to a part of the claim may be none to the whole; only the engine
    /// says which it is.
    fn sift(&self, reply: Reply, claim: &Claim<'_>) -> Step<Doubts> {
        match reply {
            Reply::Holds => Ok(None),
            Reply::NotKnown(why, detail) => Ok(Some((why, detail))),
            Reply::Fails(world) => match world.concrete(self.schema) {
                Some(ask) if claim.refuted_by(&ask) => Err(Stop::Refuted(world)),
                _ => Ok(Some((
                    Why::Unknown,
                    "the solver gave an ask that the engine does not confirm as a counterexample".to_owned(),
                ))),
            },
        }
    }

    /// The rules of one effect that can match where all of `rules` match.
    fn slice(&self, side: &Side, kind: usize, rules: &[&Rule], permits: bool) -> Vec<Policy> {
        let meets = |r: &&Rule| {
            r.permits() == permits
                && rules.iter().all(|rule| r.may_meet(rule))
                && self.kinds_of(r).contains(&kind)
        };
        side.rules.iter().filter(meets).map(|r| r.policy.clone()).collect()
    }

    fn too_large(&self, left: &[Policy], right: &[Policy]) -> Doubts {
        let count = left.len().saturating_add(right.len());
        (count > self.slice_rules_max).then(|| {
            let max = self.slice_rules_max;
            (Why::TooLarge, format!("a changed rule meets {count} others, which is more than {max}"))
        })
    }

    fn kinds_of<'r>(&self, rule: &'r Rule) -> &'r BTreeSet<usize> {
        rule.kinds.get_or_init(|| self.valid(&rule.policy))
    }

    /// More than [`Self::kinds_of`]: a condition that is never true can still end in an error before it is false.
    fn within<'r>(&self, rule: &'r Rule) -> &'r BTreeSet<usize> {
        rule.within.get_or_init(|| match scope_alone(&rule.policy) {
            Some(scope) => self.valid(&scope),
            None => self.places.values().copied().collect(),
        })
    }

    fn valid(&self, policy: &Policy) -> BTreeSet<usize> {
        let kinds = policy.get_valid_request_envs(self.schema);
        kinds.filter_map(|kind| self.places.get(&kind).copied()).collect()
    }

    fn symbols(&self, kind: usize) -> Step<SymEnv> {
        Ok(self.compiled.sym_env(self.kind(kind)?)?)
    }

    fn kind(&self, kind: usize) -> Step<&RequestEnv> {
        self.kinds.get(kind).ok_or_else(|| Stop::Unsupported("no such kind of ask".to_owned()))
    }

    fn compile(&self, policy: &Policy, kind: usize) -> Step<CompiledPolicy> {
        let (env, symbols) = (self.kind(kind)?, self.symbols(kind)?);
        Ok(CompiledPolicy::compile_with_custom_symenv(policy, env, self.schema, symbols)?)
    }

    fn compile_set(&self, policies: Vec<Policy>, kind: usize) -> Step<CompiledPolicySet> {
        let set = PolicySet::from_policies(policies).map_err(|e| Stop::Unsupported(e.to_string()))?;
        let (env, symbols) = (self.kind(kind)?, self.symbols(kind)?);
        Ok(CompiledPolicySet::compile_with_custom_symenv(&set, env, self.schema, symbols)?)
    }
}

/// Principal type, action and resource type in words; the order of the schema's own is not fixed.
fn name(kind: &RequestEnv) -> [String; 3] {
    [kind.principal().to_string(), kind.action().to_string(), kind.resource().to_string()]
}

/// The rule without its conditions.
fn scope_alone(policy: &Policy) -> Option<Policy> {
    let mut est = policy.to_json().ok()?;
    est.as_object_mut()?.insert("conditions".to_owned(), serde_json::Value::Array(Vec::new()));
    Policy::from_json(Some(policy.id().clone()), est).ok()
}

/// Keeps the first doubt; it is told.
fn note(doubts: &mut Doubts, found: Doubts) {
    if doubts.is_none() {
        *doubts = found;
    }
}

impl Side {
    fn of(set: &PolicySet) -> Self {
        let mut rules: Vec<Rule> = set.policies().map(|policy| Rule::of(policy.clone())).collect();
        rules.sort_by(|a, b| a.policy.id().cmp(b.policy.id()));
        Self { rules, changed: BTreeSet::new() }
    }

    fn both(old: &PolicySet, new: &PolicySet) -> (Self, Self) {
        let (gone, fresh) = diff::different(old, new);
        (Self { changed: gone, ..Self::of(old) }, Self { changed: fresh, ..Self::of(new) })
    }

    fn changed(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| self.changed.contains(rule.policy.id()))
    }
}

impl Rule {
    fn of(policy: Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) => Some(uid),
            PrincipalConstraint::Any
            | PrincipalConstraint::In(_)
            | PrincipalConstraint::Is(_)
            | PrincipalConstraint::IsIn(..) => None,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => Some(uid),
            ResourceConstraint::Any
            | ResourceConstraint::In(_)
            | ResourceConstraint::Is(_)
            | ResourceConstraint::IsIn(..) => None,
        };
        Self { principal, resource, policy, kinds: OnceCell::new(), within: OnceCell::new() }
    }

    fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// Never false for two rules that some ask matches both.
    fn may_meet(&self, other: &Self) -> bool {
        let apart =
            |a: &Option<EntityUid>, b: &Option<EntityUid>| matches!((a, b), (Some(a), Some(b)) if a != b);
        !apart(&self.principal, &other.principal) && !apart(&self.resource, &other.resource)
    }
}
