//! Who can reach this, and what can this caller reach: answered from policy and entities, page by page, never cut short
//! without saying so.

use bartizan_base::{Name, Timestamp};
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, EntityRef, PrincipalKind, Tenant};
use cedar_policy::EntityUid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::describe::uid;
use crate::engine::{Door, Snapshot};
use crate::evaluate::Triple;
use crate::story::Reader;
use crate::suppose::{Named, Supposed};

/// Answers of a page.
const LIMIT_MAX: usize = 1_000;
/// Evaluations of a page.
const EVALUATED_MAX: usize = 10_000;

/// Which part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// At most this many answers, up to 1,000.
    pub limit: usize,
    /// After this: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only what is permitted as things are; otherwise also what a remedy would lead to.
    pub permitted_only: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100, after: None, permitted_only: false }
    }
}

/// A page of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// What was found, in a stable order.
    pub items: Vec<Reached>,
    /// Whether there may be more: then `next` says where to go on. An answer without it is whole.
    pub incomplete: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many asks were evaluated for it; those that no permit's scope matches are not.
    pub evaluated: usize,
}

/// One that can reach, or be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reached {
    /// `user/alice`, the name of a resource, or an action.
    pub name: String,
    /// How: permitted, or what would have to come first.
    pub verdict: VerdictKind,
}

/// The conditions of a search, and of whose house.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The ask, of which one part is searched for; what stands there is passed over.
    pub ask: &'a Supposed,
    /// Whose house.
    pub tenant: &'a Tenant,
    /// When, where the ask does not say.
    pub now: Timestamp,
    /// What the door can apply.
    pub door: &'a Door,
}

impl Snapshot {
    /// Who can do the action on the resource: people, agents and workloads, each alone.
    #[must_use]
    pub fn search_subjects(&self, search: Search<'_>, page: &Page) -> Found {
        let kinds = [PrincipalKind::Agent, PrincipalKind::User, PrincipalKind::Workload];
        let all = kinds.into_iter().flat_map(|kind| {
            let named = move |uid: EntityUid| Some(Named { kind, name: uid.id().unescaped().parse().ok()? });
            self.all_of(kind.entity_type()).into_iter().filter_map(named)
        });
        let asks = all.map(|principal| {
            let ask = Supposed { principal: principal.clone(), through: Vec::new(), ..search.ask.clone() };
            (String::from(principal), ask)
        });
        self.paged(search, page, asks)
    }

    /// On what the caller can do the action.
    #[must_use]
    pub fn search_resources(&self, search: Search<'_>, page: &Page) -> Found {
        let all = self.all_of(search.ask.action.resource_type());
        let asks = all.into_iter().filter_map(|uid| {
            let name: Name = uid.id().unescaped().parse().ok()?;
            Some((name.to_string(), Supposed { resource: name, ..search.ask.clone() }))
        });
        self.paged(search, page, asks)
    }

    /// What the caller can do on the resource of the ask, or on things of the type of its action.
    #[must_use]
    pub fn search_actions(&self, search: Search<'_>, page: &Page) -> Found {
        let kind = search.ask.action.resource_type();
        let mut all: Vec<Action> =
            Action::ALL.iter().copied().filter(|a| a.resource_type() == kind).collect();
        all.sort_by_key(|action| action.name());
        let asks = all
            .into_iter()
            .map(|action| (action.name().to_owned(), Supposed { action, ..search.ask.clone() }));
        self.paged(search, page, asks)
    }

    fn paged(
        &self,
        search: Search<'_>,
        page: &Page,
        asks: impl Iterator<Item = (String, Supposed)>,
    ) -> Found {
        let limit = page.limit.clamp(1, LIMIT_MAX);
        let mut out = Found { items: Vec::new(), incomplete: false, next: None, evaluated: 0 };
        let mut last: Option<String> = None;
        for (name, ask) in asks {
            if page.after.as_ref().is_some_and(|after| name <= *after) {
                continue;
            }
            if out.items.len() == limit || out.evaluated == EVALUATED_MAX {
                // Something is left, and what was looked at last is where to go on.
                (out.incomplete, out.next) = (true, last.or_else(|| page.after.clone()));
                return out;
            }
            if self.may_permit(&ask) {
                out.evaluated += 1;
                let told =
                    self.explain_supposed(&ask, search.tenant, search.now, search.door, Reader::CALLER);
                let wanted = told.verdict == VerdictKind::Permit
                    || (told.verdict != VerdictKind::Deny && !page.permitted_only);
                if wanted {
                    out.items.push(Reached { name: name.clone(), verdict: told.verdict });
                }
            }
            last = Some(name);
        }
        out
    }

    fn all_of(&self, kind: &str) -> Vec<EntityUid> {
        self.evaluator().map(|evaluator| evaluator.all_of(kind)).unwrap_or_default()
    }

    /// Whether the scope of any permit matches the subject: what none matches is denied without an evaluation.
    fn may_permit(&self, ask: &Supposed) -> bool {
        let triple = |evaluator: &crate::evaluate::Evaluator| {
            let kind = ask.action.resource_type();
            let resource = match EntityRef::OF_THE_HOUSE.contains(&kind) {
                true => "bartizan",
                false => ask.resource.as_str(),
            };
            let of =
                EntityRef::new(Name::literal(kind), resource.parse::<bartizan_model::EntityName>().ok()?);
            let called = evaluator.bundle.called(ask.action, &of, &ask.request).ok()?;
            Some(Triple {
                principal: uid(ask.principal.kind.entity_type(), &ask.principal.name)?,
                action: called.map_or_else(|| uid("Action", ask.action.name()), |c| Some(c.uid))?,
                resource: uid(kind, resource)?,
            })
        };
        let may = |evaluator: &crate::evaluate::Evaluator| {
            triple(evaluator).is_some_and(|t| evaluator.may_permit(&t))
        };
        self.evaluator().is_some_and(may)
    }
}
