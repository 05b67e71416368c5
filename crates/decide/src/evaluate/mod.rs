//! One evaluation: one principal, one action, one resource, one context. Chains and remedies are made of these.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bartizan_base::{Digest, Name};
use cedar_policy::{Entity, EntityUid, Request};

use crate::bundle::CompiledBundle;
use crate::context::{Circumstances, Conditions};
use crate::entities::{Entities, Node, View};
use crate::index::{Entry, Index, Probe};
use crate::inner::{self, Reached, Reads, Run, Sight, Slice, Unevaluable};
use crate::needs::Needs;
use crate::reference::{Ask, Picked};
use crate::shadow::{Sample, Shadow};
use crate::story::Scene;

/// How far a rule may look from principal and resource, in attributes that name another entity: the owner of a resource, not
/// the owner's manager (levels as in Cedar's RFC 76). Bundles with rules that look further do not compile, so what
/// [`View::reach`] gives is everything that any rule can see.
pub(crate) const LEVEL: u32 = 2;

/// Policy and entities, made ready for evaluations.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub(crate) bundle: Arc<CompiledBundle>,
    entities: Arc<Entities>,
    /// None only when there were no more numbers for names; then every rule is evaluated.
    index: Option<Arc<Index>>,
    pub(crate) shadow: Option<Arc<Shadow>>,
}

/// Who does what on what. All of it lies within the tenant of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Triple {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
}

/// How one evaluation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) permitted: bool,
    /// The rules that decided, as places in the bundle.
    pub(crate) permits: Vec<usize>,
    pub(crate) forbids: Vec<usize>,
    /// Rules of the constitution that forbid.
    pub(crate) constitution: Vec<Name>,
    /// Rules that could not be evaluated.
    pub(crate) erred: Vec<Name>,
    /// Permits whose scope matched and whose condition did not hold.
    pub(crate) near: Vec<usize>,
    /// The entities that were in reach.
    pub(crate) slice: Digest,
    /// The conditions.
    pub(crate) context: Digest,
    /// What was known of the conditions but too old.
    pub(crate) stale: Vec<&'static str>,
}

/// By which way an evaluation is done. All give the same, which tests compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Rules whose scope matches, by the engine's inner evaluator.
    Inner,
    /// The same rules by the engine's public interface.
    Public,
    /// Every rule, by the engine's public interface, on a request that was validated.
    Reference,
}

/// What of an evaluation is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The digests of what it saw, for the record.
    Digests,
    /// Nothing: it only asks what would be.
    Nothing,
}

impl Evaluation {
    pub(crate) const fn nothing_yet(slice: Digest, context: Digest) -> Self {
        Self {
            permitted: false,
            permits: Vec::new(),
            forbids: Vec::new(),
            constitution: Vec::new(),
            erred: Vec::new(),
            near: Vec::new(),
            slice,
            context,
            stale: Vec::new(),
        }
    }

    /// An ask that the schema does not know: nothing can be evaluated.
    pub(crate) fn unaskable(mut self) -> Self {
        self.erred.push(Name::literal("request"));
        self
    }
}

impl Evaluator {
    pub(crate) fn new(bundle: Arc<CompiledBundle>, entities: Arc<Entities>) -> Self {
        let index = bundle.index(entities.names());
        Self { bundle, entities, index, shadow: None }
    }

    /// Evaluates the rules that can apply; with `all`, every rule: the reference that the index is tested against. None
    /// when the principal or the resource does not exist.
    pub(crate) fn evaluate(
        &self,
        triple: &Triple,
        conditions: &impl Circumstances,
        all: bool,
        noted: Noted,
    ) -> Option<Evaluation> {
        self.evaluate_in(&View::of(&self.entities), triple, conditions, (self.way(all), noted))
    }

    /// The same with entities, or attributes and parents of entities, that exist for this ask alone. What `overlay` says of
    /// an entity is added to what is known of it, or stands in its place: the caller answers for what it lets in. An overlay
    /// that cannot be laid over the entities is an error, which denies.
    pub(crate) fn evaluate_with(
        &self,
        triple: &Triple,
        conditions: &impl Circumstances,
        overlay: &[Entity],
    ) -> Option<Evaluation> {
        match View::with(&self.entities, overlay) {
            Ok(view) => self.evaluate_in(&view, triple, conditions, (self.way(false), Noted::Digests)),
            Err(_) => {
                let nothing = Evaluation::nothing_yet(Digest::EMPTY, conditions.digest()?);
                Some(nothing.unaskable())
            }
        }
    }

    fn way(&self, all: bool) -> Way {
        if all || self.bundle.kept.doubted.load(Ordering::Relaxed) {
            Way::Reference
        } else if inner::INNER {
            Way::Inner
        } else {
            Way::Public
        }
    }

    pub(crate) fn evaluate_in(
        &self,
        view: &View<'_>,
        triple: &Triple,
        conditions: &impl Circumstances,
        (way, noted): (Way, Noted),
    ) -> Option<Evaluation> {
        let principal = view.declared(&triple.principal)?;
        let resource = view.declared(&triple.resource)?;
        let ask = Ask { bundle: &self.bundle, view, triple, roots: [principal.1, resource.1] };
        let mut out = match noted {
            Noted::Digests => Evaluation::nothing_yet(ask.slice(), conditions.digest()?),
            Noted::Nothing => Evaluation::nothing_yet(Digest::EMPTY, Digest::EMPTY),
        };
        out.stale = conditions.stale().to_vec();
        let index = self.index.as_deref();
        let probe = index
            .and_then(|index| Some(Probe { principal, action: index.action(&triple.action)?, resource }));
        let Some((index, probe)) = index.zip(probe) else {
            return ask.all(None, &conditions.context(Needs::ALL)?, out);
        };
        if way == Way::Reference {
            return ask.all(Some((index, &probe)), &conditions.context(Needs::ALL)?, out);
        }
        let Some(candidates) = index.candidates(&probe) else { return Some(out.unaskable()) };
        if !probe.action.takes(&self.bundle.schema, || conditions.context(Needs::ALL)) {
            return Some(out.unaskable());
        }
        let picked = Picked::new(index, &probe, candidates);
        if way == Way::Public {
            return ask.some(&picked, &conditions.context(picked.needs)?, out);
        }
        let bench = Bench {
            sight: Sight::new(
                (probe.principal, &probe.action.uid, probe.resource),
                (index.told(), picked.needs),
                conditions,
            ),
            ask: &ask,
            probe: &probe,
            picked: &picked,
            conditions,
        };
        self.by_inner(&bench, out)
    }

    /// Evaluates the conditions of the rules that were picked.
    fn by_inner(&self, bench: &Bench<'_>, mut out: Evaluation) -> Option<Evaluation> {
        let (slice, run) = (OnceCell::new(), OnceCell::new());
        let holds = |entry: &Entry| bench.holds(entry, &slice, &run);
        for (at, entry) in &bench.picked.constitution {
            let name = || self.bundle.constitution.get(*at).map(|rule| rule.id.clone());
            match holds(entry)? {
                Ok(true) => out.constitution.extend(name()),
                Ok(false) => {}
                Err(_) => out.erred.extend(name()),
            }
        }
        if !out.constitution.is_empty() {
            out.constitution.sort();
            out.erred.sort();
            return Some(out);
        }
        for (at, entry) in &bench.picked.rules {
            match (holds(entry)?, entry.forbids) {
                (Ok(true), true) => out.forbids.push(*at),
                (Ok(true), false) => out.permits.push(*at),
                (Ok(false), true) => {}
                (Ok(false), false) => out.near.push(*at),
                (Err(_), forbids) => {
                    out.erred.extend(self.bundle.rules.get(*at).map(|rule| rule.id.clone()));
                    if !forbids {
                        out.near.push(*at);
                    }
                }
            }
        }
        out.erred.sort();
        out.permitted = out.forbids.is_empty() && !out.permits.is_empty() && out.erred.is_empty();
        Some(out)
    }

    pub(crate) const fn entities(&self) -> &Arc<Entities> {
        &self.entities
    }

    /// The request and the entities of an evaluation, whole, to be looked at in detail.
    pub(crate) fn scene(&self, triple: &Triple, conditions: &Conditions<'_>) -> Option<Scene> {
        let view = View::of(&self.entities);
        let roots = [view.declared(&triple.principal)?.1, view.declared(&triple.resource)?.1];
        let entities = Ask { bundle: &self.bundle, view: &view, triple, roots }.entities()?;
        let context = conditions.context(Needs::ALL)?;
        let Triple { principal, action, resource } = triple.clone();
        let request = Request::new(principal.clone(), action, resource, context, None).ok()?;
        Some(Scene { request, entities, principal })
    }

    /// Whether any permit can match at all, by scopes alone. Never false where one matches.
    pub(crate) fn may_permit(&self, triple: &Triple) -> bool {
        let view = View::of(&self.entities);
        let declared = view.declared(&triple.principal).zip(view.declared(&triple.resource));
        let Some((principal, resource)) = declared else { return false };
        let Some(index) = self.index.as_deref().filter(|_| self.way(false) != Way::Reference) else {
            return true;
        };
        let Some(action) = index.action(&triple.action) else { return false };
        index.may_permit(&Probe { principal, action, resource })
    }

    /// The entities of one type, by name.
    pub(crate) fn all_of(&self, kind: &str) -> Vec<EntityUid> {
        let kind = kind.parse().ok();
        kind.map(|kind| self.entities.of_type(&kind, None)).unwrap_or_default()
    }

    /// Hands an evaluation over to be compared with the reference, off the path of the request.
    pub(crate) fn watch(&self, triple: &Triple, conditions: &Conditions<'_>, evaluation: &Evaluation) {
        let Some(shadow) = &self.shadow else { return };
        let Some(context) = conditions.context(Needs::ALL) else { return };
        shadow.put(Sample {
            bundle: self.bundle.clone(),
            entities: self.entities.clone(),
            triple: triple.clone(),
            context,
            evaluation: evaluation.clone(),
        });
    }
}

/// What lies ready for the conditions of one evaluation.
struct Bench<'a> {
    sight: Sight<'a>,
    ask: &'a Ask<'a>,
    probe: &'a Probe<'a>,
    picked: &'a Picked<'a>,
    conditions: &'a dyn Circumstances,
}

impl<'a> Bench<'a> {
    /// Whether a condition holds: by its plain form where that can tell, else by the engine, for which `slice` and `run` are
    /// made when they are first needed. None when they cannot be made.
    fn holds<'r>(
        &self,
        entry: &Entry,
        slice: &'r OnceCell<Option<Reached>>,
        run: &OnceCell<Option<Run<'r>>>,
    ) -> Option<Result<bool, Unevaluable>> {
        if let Some(held) = entry.plain.as_ref().and_then(|plain| plain.holds(&self.sight)) {
            return Some(Ok(held));
        }
        let make = || {
            let made = || self::slice(self.ask.view, self.probe, self.picked.reads).ready();
            let context = self.conditions.context(self.picked.needs)?;
            let Triple { principal, action, resource } = self.ask.triple;
            Some(Run::new([principal, action, resource], &context, slice.get_or_init(made).as_ref()?))
        };
        Some(run.get_or_init(make).as_ref()?.holds(&entry.condition))
    }
}

/// The entities that the picked rules can look at, and no more.
fn slice(view: &View<'_>, probe: &Probe<'_>, reads: Reads) -> Slice {
    let mut slice = Slice::default();
    let above = |node: &Node| if reads.above { view.uids(&node.above) } else { Vec::new() };
    let mut seen: Vec<u32> = Vec::new();
    let mut add = |id: u32, node: &Node, above: Vec<EntityUid>| {
        if !seen.contains(&id) {
            seen.push(id);
            slice.add(node, above.into_iter().filter(|uid| *uid != node.uid).collect());
        }
    };
    if reads.entities {
        for (id, node) in [probe.principal, probe.resource] {
            add(id, node, above(node));
            if reads.pointed {
                view.pointed(node).for_each(|(id, node)| add(id, node, above(node)));
            }
        }
    }
    if reads.above {
        slice.add_action(&probe.action.grouped);
    }
    slice
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
