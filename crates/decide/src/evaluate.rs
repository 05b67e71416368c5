//! One evaluation: one principal, one action, one resource, one context. Chains and remedies are made of these.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use cedar_policy::{Authorizer, Entity, EntityUid, Policy, PolicyId, PolicySet, Request};

use crate::bundle::{CompiledBundle, Rule};
use crate::context::{Circumstances, Conditions};
use crate::entities::Entities;
use crate::index::{Index, Probe};
use crate::needs::Needs;
use crate::story::Scene;

/// Prepared evaluations kept.
const PREPARED_MAX: usize = 20_000;

/// Policy and entities, made ready for evaluations.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub(crate) bundle: Arc<CompiledBundle>,
    entities: Arc<Entities>,
    index: Index,
    authorizer: Authorizer,
    prepared: Mutex<HashMap<Triple, Arc<Prepared>>>,
}

/// Who does what on what. All of it lies within the tenant of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Triple {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
}

/// Everything about an evaluation that does not depend on its context.
#[derive(Debug)]
struct Prepared {
    /// What of the constitution can apply, if anything.
    constitution: Option<PolicySet>,
    /// What the candidates can see of the context.
    needs: Needs,
    policies: PolicySet,
    candidates: Vec<usize>,
    entities: cedar_policy::Entities,
    digest: Digest,
}

/// How one evaluation went.
#[derive(Debug)]
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

impl Evaluation {
    fn nothing_yet(slice: Digest, context: Digest) -> Self {
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
}

impl Evaluator {
    pub(crate) fn new(bundle: Arc<CompiledBundle>, entities: Arc<Entities>) -> Self {
        let index = Index::build(&bundle.rules);
        Self { bundle, entities, index, authorizer: Authorizer::new(), prepared: Mutex::default() }
    }

    pub(crate) const fn entities(&self) -> &Arc<Entities> {
        &self.entities
    }

    /// Evaluates the rules that can apply; with `all`, every rule: the reference that the index is tested against. None
    /// when the principal or the resource does not exist.
    pub(crate) fn evaluate(
        &self,
        triple: &Triple,
        conditions: &impl Circumstances,
        all: bool,
    ) -> Option<Evaluation> {
        self.evaluate_with(triple, conditions, &[], all)
    }

    /// The same, where some entities are other than the directory says, for this one evaluation.
    pub(crate) fn evaluate_with(
        &self,
        triple: &Triple,
        conditions: &impl Circumstances,
        overlay: &[Entity],
        all: bool,
    ) -> Option<Evaluation> {
        let prepared = self.prepare(triple, overlay, all)?;
        let context = conditions.context(prepared.needs)?;
        let mut out = Evaluation::nothing_yet(prepared.digest, conditions.digest()?);
        out.stale = conditions.stale().to_vec();
        // The reference checks the whole context against the schema; what is left out here no candidate can see.
        let schema = all.then_some(&self.bundle.schema);
        let Triple { principal, action, resource } = triple.clone();
        let Ok(request) = Request::new(principal, action, resource, context, schema) else {
            out.erred.push(Name::literal("request"));
            return Some(out);
        };
        if let Some(constitution) = &prepared.constitution {
            let above = self.authorizer.is_authorized(&request, constitution, &prepared.entities);
            out.erred.extend(above.diagnostics().errors().filter_map(name_of));
            if above.decision() == cedar_policy::Decision::Deny {
                let forbids = above.diagnostics().reason();
                out.constitution = forbids.filter_map(|id| AsRef::<str>::as_ref(id).parse().ok()).collect();
                out.constitution.sort();
                return Some(out);
            }
        }
        let response = self.authorizer.is_authorized(&request, &prepared.policies, &prepared.entities);
        out.erred.extend(response.diagnostics().errors().filter_map(name_of));
        let satisfied: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        for at in &prepared.candidates {
            let Some(rule) = self.bundle.rules.get(*at) else { continue };
            match (satisfied.contains(rule.id.as_str()), rule.forbids) {
                (true, true) => out.forbids.push(*at),
                (true, false) => out.permits.push(*at),
                (false, false) => out.near.push(*at),
                (false, true) => {}
            }
        }
        out.permitted = response.decision() == cedar_policy::Decision::Allow && out.erred.is_empty();
        Some(out)
    }

    /// The request and the entities of an evaluation, whole, to be looked at in detail.
    pub(crate) fn scene(&self, triple: &Triple, conditions: &Conditions<'_>) -> Option<Scene> {
        let prepared = self.prepare(triple, &[], false)?;
        let context = conditions.context(Needs::ALL)?;
        let Triple { principal, action, resource } = triple.clone();
        let request = Request::new(principal.clone(), action, resource, context, None).ok()?;
        Some(Scene { request, entities: prepared.entities.clone(), principal })
    }

    /// Whether any permit can match at all, by scopes alone. Never false where one matches.
    pub(crate) fn may_permit(&self, triple: &Triple) -> bool {
        let (Some(principal), Some(resource)) =
            (self.entities.node(&triple.principal), self.entities.node(&triple.resource))
        else {
            return false;
        };
        let groups = self.bundle.action_groups.get(&triple.action).into_iter().flatten();
        let actions: Vec<&str> =
            std::iter::once(&triple.action).chain(groups).map(|uid| uid.id().unescaped()).collect();
        let probe = Probe {
            principal: &triple.principal,
            principal_in: &principal.within,
            actions: &actions,
            resource: &triple.resource,
            resource_in: &resource.within,
        };
        let candidates = self.index.candidates(&self.bundle.rules, &probe);
        candidates.iter().filter_map(|at| self.bundle.rules.get(*at)).any(|rule| !rule.forbids)
    }

    /// The entities of one type, by name.
    pub(crate) fn all_of(&self, kind: &str) -> Vec<EntityUid> {
        let mut all: Vec<EntityUid> =
            self.entities.ids().filter(|uid| uid.type_name().to_string() == kind).cloned().collect();
        all.sort();
        all
    }

    /// Candidates and entities for one triple. They follow from the snapshot alone, so they are kept as long as it is.
    fn prepare(&self, triple: &Triple, overlay: &[Entity], all: bool) -> Option<Arc<Prepared>> {
        let keep = !all && overlay.is_empty();
        if keep && let Some(found) = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(triple)
        {
            return Some(found.clone());
        }
        let (bundle, Triple { principal, action, resource }) = (&self.bundle, triple);
        let slice = self.entities.slice_with([principal, resource], overlay)?;
        let no_groups = Vec::new();
        let groups = bundle.action_groups.get(action).unwrap_or(&no_groups);
        let actions: Vec<&str> =
            std::iter::once(action).chain(groups).map(|uid| uid.id().unescaped()).collect();
        let probe = Probe {
            principal,
            principal_in: &self.entities.within(principal),
            actions: &actions,
            resource,
            resource_in: &self.entities.within(resource),
        };
        let candidates = if all {
            (0..bundle.rules.len()).collect()
        } else {
            self.index.candidates(&bundle.rules, &probe)
        };
        let chosen: Vec<&Rule> = candidates.iter().filter_map(|at| bundle.rules.get(*at)).collect();
        let above: Vec<&Rule> =
            bundle.constitution.iter().filter(|rule| all || rule.scope.matches(&probe)).collect();
        let needs = chosen.iter().chain(&above).map(|rule| rule.needs).fold(Needs::default(), Needs::and);
        let policies = set_of(&chosen)?;
        let constitution = if above.is_empty() { None } else { Some(with_otherwise(set_of(&above)?)?) };
        let entities = slice.entities.add_entities(action_entities(action, groups), None).ok()?;
        let prepared = Arc::new(Prepared {
            constitution,
            needs: if all { Needs::ALL } else { needs },
            policies,
            candidates,
            entities,
            digest: slice.digest,
        });
        if keep {
            let mut kept = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= PREPARED_MAX {
                kept.clear();
            }
            kept.insert(triple.clone(), prepared.clone());
        }
        Some(prepared)
    }
}

fn name_of(error: &cedar_policy::AuthorizationError) -> Option<Name> {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
    let id: &str = error.policy_id().as_ref();
    Some(Name::from_str(id).unwrap_or_else(|_| Name::literal("unnamed")))
}

/// The rules as a set for the engine. Ids are unique in a compiled bundle.
fn set_of(rules: &[&Rule]) -> Option<PolicySet> {
    let mut set = PolicySet::new();
    for rule in rules {
        set.add(rule.policy.clone()).ok()?;
    }
    Some(set)
}

/// The constitution only forbids: whatever it does not forbid is left to the tenant's policy.
fn with_otherwise(mut set: PolicySet) -> Option<PolicySet> {
    static OTHERWISE: LazyLock<Option<Policy>> = LazyLock::new(|| {
        let id = PolicyId::new("constitution-otherwise");
        Policy::parse(Some(id), "permit (principal, action, resource);").ok()
    });
    set.add(OTHERWISE.clone()?).ok()?;
    Some(set)
}

/// The action and the groups it is in, directly or not, as the schema says.
fn action_entities(action: &EntityUid, groups: &[EntityUid]) -> Vec<Entity> {
    let mut out = vec![Entity::new_no_attrs(action.clone(), groups.iter().cloned().collect())];
    out.extend(groups.iter().map(|group| Entity::new_no_attrs(group.clone(), [].into())));
    out
}
