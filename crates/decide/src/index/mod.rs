//! The scope index: which rules can match an ask. What it picks has a matching scope, exactly; the full set is the reference
//! it is tested against.
//!
//! Each rule stands under the part of its scope that the fewest rules share: a resource, something the resource is in, a
//! principal, something the principal is in. Rules that name none of these stand under the request environments (types of
//! principal and resource, action) in which their scope can match.

mod scope;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cedar_policy::{Context, EntityUid, Schema};

use crate::bundle::{CompiledBundle, Rule};
use crate::entities::{NOBODY, Names, Node, Ready};
use crate::inner::{self, Condition, Grouped, Plain, Told};
use crate::needs::Needs;
use scope::{Actions, Place};

pub(crate) use scope::Scope;

type ByNumber<T> = HashMap<u32, T, BuildHasherDefault<Ready>>;
type Postings = ByNumber<Vec<u32>>;
/// Type of the principal, action, type of the resource.
type Environment = (u32, u32, u32);

/// A rule as the index sees it.
#[derive(Debug)]
pub(crate) struct Entry {
    principal: Spot,
    resource: Spot,
    /// One bit for each action that the scope matches; all of them where there are none.
    actions: Option<Arc<[u64]>>,
    pub(crate) condition: Condition,
    /// The same where it lies plain.
    pub(crate) plain: Option<Plain>,
    pub(crate) needs: Needs,
    pub(crate) forbids: bool,
}

/// A place in numbers; nobody where the scope says nothing.
#[derive(Clone, Copy, Debug)]
struct Spot {
    kind: u32,
    exactly: u32,
    within: u32,
}

/// An action of the schema.
#[derive(Debug)]
pub(crate) struct Act {
    number: u32,
    pub(crate) uid: EntityUid,
    /// The action and the groups it is in.
    pub(crate) grouped: Grouped,
    /// Whether our conditions are those that the schema gives the action; found when it is first asked for.
    takes: OnceLock<bool>,
}

impl Act {
    /// Whether the schema lets our conditions stand with this action. A bundle's own action could want others, and is then
    /// never permitted.
    pub(crate) fn takes(&self, schema: &Schema, context: impl FnOnce() -> Option<Context>) -> bool {
        *self
            .takes
            .get_or_init(|| context().is_some_and(|context| context.validate(schema, &self.uid).is_ok()))
    }
}

/// An ask as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) principal: (u32, &'a Node),
    pub(crate) action: &'a Act,
    pub(crate) resource: (u32, &'a Node),
}

/// Rules by the most telling part of their scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    constitution: Vec<Entry>,
    by_resource: Postings,
    within_resource: Postings,
    by_principal: Postings,
    within_principal: Postings,
    /// Every environment that the schema knows, with the rules that name nobody.
    environments: HashMap<Environment, Vec<u32>, BuildHasherDefault<Ready>>,
    actions: HashMap<EntityUid, Act>,
    /// What plain conditions look at of the context.
    told: Told,
    /// Types of which the schema lists every entity there can be.
    listed: ByNumber<Vec<u32>>,
}

impl Spot {
    fn of(place: &Place, names: &Names) -> Option<Self> {
        let number = |uid: &Option<EntityUid>| match uid {
            Some(uid) => names.of(uid),
            None => Some(NOBODY),
        };
        let kind = place.kind.as_ref().map_or(NOBODY, |kind| names.kind(kind));
        Some(Self { kind, exactly: number(&place.exactly)?, within: number(&place.within)? })
    }

    fn matches(self, (id, node): (u32, &Node)) -> bool {
        (self.kind == NOBODY || self.kind == node.kind)
            && (self.exactly == NOBODY || self.exactly == id)
            && (self.within == NOBODY || node.is_in(self.within))
    }
}

impl Entry {
    fn of(rule: &Rule, names: &Names, actions: &mut Bits<'_>, told: &mut Told) -> Option<Self> {
        let condition = rule.condition.clone();
        // Not for permits: how near one came to being satisfied is told by what of its condition failed.
        let scope = if rule.forbids { rule.scope.clone().narrowed(&condition) } else { rule.scope.clone() };
        Some(Self {
            principal: Spot::of(&scope.principal, names)?,
            resource: Spot::of(&scope.resource, names)?,
            actions: actions.of(&scope.actions),
            plain: condition.plain(names, told),
            condition,
            needs: rule.needs,
            forbids: rule.forbids,
        })
    }

    fn takes(&self, action: u32) -> bool {
        let bit = |bits: &Arc<[u64]>| {
            bits.get(action as usize / 64).is_some_and(|word| word >> (action % 64) & 1 == 1)
        };
        self.actions.as_ref().is_none_or(bit)
    }

    pub(crate) fn matches(&self, probe: &Probe<'_>) -> bool {
        self.takes(probe.action.number)
            && self.resource.matches(probe.resource)
            && self.principal.matches(probe.principal)
    }

    /// Whether the rule can match in an environment, as far as its scope tells.
    fn fits(&self, (principal, action, resource): Environment) -> bool {
        let of = |spot: Spot, kind: u32| spot.kind == NOBODY || spot.kind == kind;
        self.takes(action) && of(self.principal, principal) && of(self.resource, resource)
    }
}

/// Sets of actions as bits, each kept once.
struct Bits<'a> {
    actions: &'a HashMap<EntityUid, Act>,
    groups: &'a HashMap<EntityUid, Vec<EntityUid>>,
    kept: HashMap<Arc<[u64]>, ()>,
}

impl Bits<'_> {
    fn of(&mut self, scope: &Actions) -> Option<Arc<[u64]>> {
        let matches = |uid: &EntityUid| match scope {
            Actions::Any => true,
            Actions::Exactly(one) => one == uid,
            Actions::Within(all) => {
                all.contains(uid)
                    || self.groups.get(uid).is_some_and(|groups| groups.iter().any(|g| all.contains(g)))
            }
        };
        if matches!(scope, Actions::Any) {
            return None;
        }
        let mut bits = vec![0_u64; self.actions.len() / 64 + 1];
        for (_, act) in self.actions.iter().filter(|(uid, _)| matches(uid)) {
            if let Some(word) = bits.get_mut(act.number as usize / 64) {
                *word |= 1 << (act.number % 64);
            }
        }
        let bits: Arc<[u64]> = bits.into();
        if let Some((known, ())) = self.kept.get_key_value(&bits) {
            return Some(known.clone());
        }
        self.kept.insert(bits.clone(), ());
        Some(bits)
    }
}

impl Index {
    /// The index of a bundle over entities with these numbers. None when there are no more numbers.
    fn build(bundle: &CompiledBundle, names: &Names) -> Option<Self> {
        let mut actions = HashMap::new();
        for (number, (uid, groups)) in bundle.action_groups.iter().enumerate() {
            let grouped = Grouped::new(uid.clone(), groups);
            let number = u32::try_from(number).ok()?;
            actions.insert(uid.clone(), Act { number, uid: uid.clone(), grouped, takes: OnceLock::new() });
        }
        let mut bits = Bits { actions: &actions, groups: &bundle.action_groups, kept: HashMap::new() };
        let mut told = Told::default();
        let mut entries = |rules: &[Arc<Rule>]| -> Option<Vec<Entry>> {
            rules.iter().map(|rule| Entry::of(rule, names, &mut bits, &mut told)).collect()
        };
        let (constitution, entries) = (entries(&bundle.constitution)?, entries(&bundle.rules)?);
        let environments = environments(&bundle.schema, names, &actions);
        let listed = inner::enumerated(&bundle.schema).into_iter().map(|(kind, uids)| {
            let ids: Option<Vec<u32>> = uids.iter().map(|uid| names.of(uid)).collect();
            Some((names.kind(&kind), ids?))
        });
        let listed = listed.collect::<Option<_>>()?;
        let mut index = Self { constitution, environments, actions, listed, told, ..Self::default() };
        index.post(&entries);
        index.entries = entries;
        Some(index)
    }

    fn post(&mut self, entries: &[Entry]) {
        let anchors = |entry: &Entry| {
            let Entry { principal, resource, .. } = entry;
            [(0, resource.exactly), (1, resource.within), (2, principal.exactly), (3, principal.within)]
                .into_iter()
                .filter(|(_, id)| *id != NOBODY)
        };
        let mut shared: HashMap<(u8, u32), usize> = HashMap::new();
        for anchor in entries.iter().flat_map(anchors) {
            *shared.entry(anchor).or_default() += 1;
        }
        for (at, entry) in (0_u32..).zip(entries) {
            match anchors(entry).min_by_key(|anchor| shared.get(anchor)) {
                Some((table, id)) => {
                    let postings = match table {
                        0 => &mut self.by_resource,
                        1 => &mut self.within_resource,
                        2 => &mut self.by_principal,
                        _ => &mut self.within_principal,
                    };
                    postings.entry(id).or_default().push(at);
                }
                None => {
                    for (environment, rules) in &mut self.environments {
                        if entry.fits(*environment) {
                            rules.push(at);
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn action(&self, uid: &EntityUid) -> Option<&Act> {
        self.actions.get(uid)
    }

    pub(crate) const fn told(&self) -> &Told {
        &self.told
    }

    pub(crate) fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    /// The rules of the constitution whose scope matches, by their places.
    pub(crate) fn constitution(&self, probe: &Probe<'_>) -> impl Iterator<Item = (usize, &Entry)> {
        self.constitution.iter().enumerate().filter(|(_, entry)| entry.matches(probe))
    }

    /// The rules whose scope matches, by their places, in the order of the bundle; none when the schema does not know such
    /// an ask.
    pub(crate) fn candidates(&self, probe: &Probe<'_>) -> Option<Vec<(usize, &Entry)>> {
        let mut out = Vec::with_capacity(16);
        self.each(probe, &mut |at, entry| out.push((at as usize, entry)))?;
        out.sort_unstable_by_key(|(at, _)| *at);
        Some(out)
    }

    /// Whether the scope of any permit matches.
    pub(crate) fn may_permit(&self, probe: &Probe<'_>) -> bool {
        let mut may = false;
        let known = self.each(probe, &mut |_, entry| may |= !entry.forbids);
        known.is_some() && may
    }

    /// Gives every rule whose scope matches to `take`, in no order; none when the schema does not know such an ask.
    fn each<'a>(&'a self, probe: &Probe<'_>, take: &mut dyn FnMut(u32, &'a Entry)) -> Option<()> {
        let (principal, resource) = (probe.principal, probe.resource);
        let environment = (principal.1.kind, probe.action.number, resource.1.kind);
        let unlisted =
            |(id, node): (u32, &Node)| self.listed.get(&node.kind).is_some_and(|ids| !ids.contains(&id));
        if !self.listed.is_empty() && (unlisted(principal) || unlisted(resource)) {
            return None;
        }
        let mut take = |rules: &[u32]| {
            for (at, entry) in rules.iter().filter_map(|at| Some((*at, self.entry(*at)?))) {
                if entry.matches(probe) {
                    take(at, entry);
                }
            }
        };
        take(self.environments.get(&environment)?);
        for (postings, id) in [(&self.by_resource, resource.0), (&self.by_principal, principal.0)] {
            if let Some(rules) = postings.get(&id) {
                take(rules);
            }
        }
        for (postings, node) in [(&self.within_resource, resource.1), (&self.within_principal, principal.1)] {
            if postings.len() < node.above.len() {
                // Fewer things are named than this one is in.
                postings.iter().filter(|(id, _)| node.is_in(**id)).for_each(|(_, rules)| take(rules));
            } else {
                node.above.iter().filter_map(|id| postings.get(id)).for_each(|rules| take(rules));
            }
        }
        Some(())
    }
}

/// The environments that the schema knows: nothing else can be asked.
fn environments(
    schema: &Schema,
    names: &Names,
    actions: &HashMap<EntityUid, Act>,
) -> HashMap<Environment, Vec<u32>, BuildHasherDefault<Ready>> {
    let known = schema.request_envs().filter_map(|environment| {
        let action = actions.get(environment.action())?.number;
        Some(((names.kind(environment.principal()), action, names.kind(environment.resource())), Vec::new()))
    });
    known.collect()
}

/// What a compiled bundle keeps for its evaluators.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The index over the numbers it was made with: entities that come from one another share them.
    index: Mutex<Option<(Arc<Names>, Arc<Index>)>>,
    /// Whether the index was once found to differ from the whole set: it is not used again.
    pub(crate) doubted: std::sync::atomic::AtomicBool,
}

impl CompiledBundle {
    /// The index over the numbers of `names`.
    pub(crate) fn index(&self, names: &Arc<Names>) -> Option<Arc<Index>> {
        let mut kept = self.kept.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = kept.as_ref().filter(|(of, _)| Arc::ptr_eq(of, names)) {
            return Some(index.clone());
        }
        let index = Arc::new(Index::build(self, names)?);
        *kept = Some((names.clone(), index.clone()));
        Some(index)
    }
}

#[cfg(test)]
impl Index {
    /// How many rules have a plain condition, and how many are left to the engine.
    pub(crate) fn plain_and_not(&self) -> (usize, usize) {
        let plain = self.entries.iter().filter(|entry| entry.plain.is_some()).count();
        (plain, self.entries.len() - plain)
    }
}

#[cfg(test)]
impl CompiledBundle {
    /// Puts a broken index in the place of the right one: `mutate` is what went wrong.
    pub(crate) fn plant(&self, names: &Arc<Names>, mutate: Mutation) {
        let mut index = Index::build(self, names).unwrap();
        let mut entries = std::mem::take(&mut index.entries);
        for entry in &mut entries {
            match mutate {
                Mutation::IgnoresKinds => (entry.principal.kind, entry.resource.kind) = (NOBODY, NOBODY),
                Mutation::IgnoresActions => entry.actions = None,
                Mutation::IgnoresAncestors => {
                    (entry.principal.within, entry.resource.within) = (NOBODY, NOBODY)
                }
                Mutation::MisreadsPlain => entry.plain = entry.plain.take().map(Plain::misread),
                Mutation::DropsForbids => {}
            }
        }
        for rules in [
            &mut index.by_resource,
            &mut index.within_resource,
            &mut index.by_principal,
            &mut index.within_principal,
        ] {
            rules.clear();
        }
        index.environments.values_mut().for_each(Vec::clear);
        if mutate == Mutation::DropsForbids {
            entries
                .iter_mut()
                .filter(|entry| entry.forbids)
                .for_each(|entry| entry.actions = Some(Arc::from([])));
        }
        index.post(&entries);
        index.entries = entries;
        *self.kept.index.lock().unwrap() = Some((names.clone(), Arc::new(index)));
    }
}

/// Ways in which an index could be broken.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    IgnoresKinds,
    IgnoresActions,
    IgnoresAncestors,
    MisreadsPlain,
    DropsForbids,
}
