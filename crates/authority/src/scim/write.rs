//! Changing resources: one operation, one ask, one set of changes.

use bartizan_base::Name;
use bartizan_control::{Redeclare, View, Work, Worked};
use bartizan_identify::Caller;
use bartizan_model::{Action, Document, PrincipalId, Problem, Tenant};
use bartizan_scim::{Kind, Patch, Resource, ScimError, ScimType, USER, clean, complete};
use bartizan_store::Change;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::index::{Index, version};
use super::profile::{Known, Profiles};
use super::{Answered, Failed, Request, Scim, Told, unavailable};
use crate::names::{self, Unfree};

/// What is done with a resource.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// Made of this.
    Create {
        /// The resource as it was sent.
        body: &'a Value,
        /// The pseudonym that it gets, where that had to be known before.
        id: Option<PrincipalId>,
    },
    /// Replaced by this.
    Replace {
        /// Which.
        id: &'a str,
        /// The resource as it was sent.
        body: &'a Value,
    },
    /// Changed by parts.
    Patch {
        /// Which.
        id: &'a str,
        /// The `PatchOp` message.
        body: &'a Value,
    },
    /// Taken away.
    Delete {
        /// Which.
        id: &'a str,
    },
}

/// An operation on a resource.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// Of what kind.
    pub kind: Kind,
    /// What is done.
    pub operation: Operation<'a>,
    /// The entity tags of which the resource must have one; none for any.
    pub if_match: Option<&'a str>,
}

/// What an operation means for the directory.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) redeclare: Redeclare,
    pub(super) more: Vec<Change>,
}

/// What an operation is worked out on.
pub(super) struct Scene<'a> {
    pub(super) view: &'a View,
    pub(super) tenant: &'a Tenant,
    pub(super) index: &'a Index<'a>,
    pub(super) profiles: Profiles<'a>,
}

/// A resource that is there already.
pub(super) struct Present<'a> {
    pub(super) document: &'a Document,
    pub(super) known: Option<Known>,
}

impl Operation<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Replace { .. } => "replace",
            Self::Patch { .. } => "patch",
            Self::Delete { .. } => "delete",
        }
    }

    const fn id(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Replace { id, .. } | Self::Patch { id, .. } | Self::Delete { id } => Some(id),
        }
    }

    const fn body(&self) -> Option<&Value> {
        match self {
            Self::Create { body, .. } | Self::Replace { body, .. } | Self::Patch { body, .. } => Some(body),
            Self::Delete { .. } => None,
        }
    }
}

/// An operation, as it is worked out.
struct Planning<'x> {
    scim: &'x Scim,
    base: &'x str,
    write: &'x Write<'x>,
    told: &'x Told,
}

impl Work for Planning<'_> {
    type Value = Option<PrincipalId>;

    fn work<'a>(&'a self, view: &'a View, tenant: &'a Tenant) -> Worked<'a, Self::Value> {
        async move {
            let (plan, id) = self.scim.plan(view, tenant, self.base, self.write, self.told).await?;
            Ok((plan.redeclare, plan.more, id))
        }
        .boxed()
    }
}

impl Scim {
    /// Does an operation. Gives the resource as it is afterwards; none for one that was taken away.
    ///
    /// # Errors
    /// As RFC 7644 says: 400 with a keyword, 403, 404, 409, 412.
    pub async fn write(
        &self,
        caller: &Caller,
        base: &str,
        write: &Write<'_>,
    ) -> Result<Answered<Option<Resource>>, Failed> {
        let told = Told::default();
        let body = write.operation.body().map(Value::to_string).unwrap_or_default();
        let committed = self.commit(body.as_bytes());
        let request = Request {
            operation: write.operation.name(),
            resource: write.kind.name,
            id: write.operation.id(),
            body: committed.digest,
        };
        let work = Planning { scim: self, base, write, told: &told };
        let done = self.control.change_directory(caller, Action::IdentityChange, &request, &work).await;
        let done = done.map_err(|stopped| told.failed(stopped))?;
        let shown = match done.value.1 {
            None => None,
            Some(id) => self.shown(caller.tenant(), base, write.kind, id).await?,
        };
        Ok(committed.answer(done, |_| shown))
    }

    async fn plan(
        &self,
        view: &View,
        tenant: &Tenant,
        base: &str,
        write: &Write<'_>,
        told: &Told,
    ) -> Result<(Plan, Option<PrincipalId>), Problem> {
        let index = Index::of(view, tenant, base);
        let scene = Scene { view, tenant, index: &index, profiles: self.profiles(tenant) };
        let stop = |error| told.stop(error);
        let present = match write.operation.id() {
            None => None,
            Some(id) => {
                let document = index.find(write.kind, id).ok_or_else(|| stop(ScimError::not_found()))?;
                let known = match document.principal {
                    Some(id) => scene.profiles.of(id).await.map_err(unavailable)?,
                    None => None,
                };
                Some(Present { document, known })
            }
        };
        let current = present.as_ref().map(|p| index.resource(p.document, p.known.as_ref()));
        if let (Some(tags), Some(current)) = (write.if_match, &current)
            && !matched(tags, version(current))
        {
            return Err(stop(ScimError::of(412, "the resource has changed since it was read")));
        }
        let after = match (&write.operation, &current) {
            (Operation::Create { body, .. } | Operation::Replace { body, .. }, _) => {
                clean(&write.kind, body).map_err(stop)?
            }
            (Operation::Patch { body, .. }, Some(current)) => {
                let patch = Patch::parse(&write.kind, body).map_err(stop)?;
                patch.apply(current).map_err(stop)?
            }
            _ => {
                let Some(present) = present else { return Err(stop(ScimError::not_found())) };
                let removed =
                    if write.kind == USER { scene.retire(&present) } else { scene.dissolve(&present) };
                return Ok((removed.map_err(stop)?, None));
            }
        };
        complete(&write.kind, &after).map_err(stop)?;
        let id = match (&write.operation, &present) {
            (_, Some(Present { document: Document { principal: Some(id), .. }, .. })) => *id,
            (Operation::Create { id: Some(id), .. }, _) => *id,
            _ => PrincipalId::new(self.control.clock.now(), &*self.control.random),
        };
        // A `PUT` that does not say whether they may come in changes nothing about it.
        let keeps = matches!(write.operation, Operation::Replace { .. });
        let mut attributes = own(&after, write.kind);
        let before = current.as_ref().and_then(|current| current.get("active"));
        if write.kind == USER && !attributes.contains_key("active") {
            match (before, present.is_some()) {
                (Some(active), true) if keeps => drop(attributes.insert("active".to_owned(), active.clone())),
                (_, false) => drop(attributes.insert("active".to_owned(), true.into())),
                _ => {}
            }
        }
        let planned = if write.kind == USER {
            scene.user(id, present.as_ref(), &after, &attributes)
        } else {
            scene.group(id, present.as_ref(), &after)
        };
        let mut plan = planned.map_err(stop)?;
        attributes.remove("userName");
        attributes.remove("members");
        let known = present.as_ref().and_then(|present| present.known.as_ref());
        let kept = scene.profiles.keep(id, known, &attributes, &*self.control.random).map_err(unavailable)?;
        plan.more.extend(kept);
        Ok((plan, Some(id)))
    }

    /// A resource as it is now.
    pub(super) async fn shown(
        &self,
        tenant: &Tenant,
        base: &str,
        kind: Kind,
        id: PrincipalId,
    ) -> Result<Option<Resource>, Failed> {
        let failed = |problem: Problem| Failed::from(bartizan_control::Stopped::from(problem));
        let view = self.control.house.view(tenant).map_err(|reason| failed(Problem::new(reason)))?;
        let index = Index::of(&view, tenant, base);
        let Some(document) = index.find(kind, &id.to_string()) else { return Ok(None) };
        let known = self.profiles(tenant).of(id).await.map_err(|error| failed(unavailable(error)))?;
        Ok(Some(index.resource(document, known.as_ref())))
    }
}

impl Scene<'_> {
    /// Whether a name may be given to somebody new by provisioning.
    pub(super) fn free(&self, kind: Kind, name: &Name) -> Result<(), ScimError> {
        names::free(self.view, self.tenant, kind.name, name).map_err(unfree)
    }

    /// Whoever is made must not thereby come to what policy says of the name.
    pub(super) fn unspoken(&self, kind: Kind, name: &Name) -> Result<(), ScimError> {
        names::unspoken(self.view, kind.name, name).map_err(unfree)
    }
}

fn unfree(why: Unfree) -> ScimError {
    let taken = |what: &str| ScimError::new(ScimType::Uniqueness, what);
    match why {
        Unfree::Taken => taken("the name is taken, or belonged to somebody who is gone"),
        Unfree::Before => taken("the name belonged to somebody before; an administrator can declare it anew"),
        Unfree::Spoken => {
            ScimError::of(403, "policy speaks of that name: an administrator has to declare it first")
        }
    }
}

/// The client's own attributes of a resource.
fn own(resource: &Resource, kind: Kind) -> Resource {
    let ours = |name: &str| {
        kind.attribute(name).is_some_and(|a| a.mutability == bartizan_scim::Mutability::ReadOnly)
    };
    let own = resource.iter().filter(|(name, _)| !ours(name)).map(|(n, v)| (n.clone(), v.clone()));
    let mut own: Resource = own.collect();
    // Where the manager is, is said anew in every answer.
    if let Some(manager) = own
        .get_mut(bartizan_scim::ENTERPRISE.id)
        .and_then(|extension| extension.get_mut("manager"))
        .and_then(Value::as_object_mut)
    {
        manager.remove("$ref");
    }
    own
}

/// RFC 9110, 13.1.1: any of the tags; `*` for any at all. Ours are weak, and compared as such (RFC 7644, 3.14).
fn matched(tags: &str, version: &str) -> bool {
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.trim() == "*" || tags.split(',').any(|tag| plain(tag) == plain(version))
}
