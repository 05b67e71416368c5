//! People and groups taken in from a file: what is there is brought up to date, what is not is made. Done again, it changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_control::{Redeclare, View, Work, Worked};
use bartizan_identify::Caller;
use bartizan_model::{Action, Document, PrincipalId, Problem, Tenant};
use bartizan_scim::{GROUP, Kind, Resource, ScimError, USER, clean, complete};
use bartizan_store::Change;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::index::Index;
use super::profile::Known;
use super::user::user_name;
use super::write::{Present, Scene};
use super::{Answered, Failed, Request, Scim, unavailable};

/// Entries that are taken in at once.
const ENTRIES_MAX: usize = 1_000;

/// What is to be taken in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// People, as SCIM writes them.
    #[serde(default)]
    pub users: Vec<Value>,
    /// Groups, as SCIM writes them; a member's `value` is its `userName`, or the group's `displayName`.
    #[serde(default)]
    pub groups: Vec<Value>,
    /// Whether only to say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was brought up to date.
    Changed,
    /// It was so already.
    Unchanged,
    /// It was not taken.
    Refused,
}

/// An entry and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct ImportedEntry {
    /// `User` or `Group`.
    pub kind: &'static str,
    /// Its place in the file, from 1 on.
    pub place: usize,
    /// Its name in the directory, where it has one.
    pub name: Option<Name>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What became of everything.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Each entry.
    pub entries: Vec<ImportedEntry>,
}

/// What the import comes to, gathered.
#[derive(Default)]
struct Gathered {
    put: BTreeMap<(&'static str, Name), Document>,
    more: Vec<Change>,
    entries: Vec<ImportedEntry>,
    /// Names of people that the file has named already, in small letters.
    seen: BTreeSet<String>,
}

/// An import, as it is worked out.
struct Taking<'x> {
    scim: &'x Scim,
    people: &'x People,
}

impl Work for Taking<'_> {
    type Value = Vec<ImportedEntry>;

    fn work<'a>(&'a self, view: &'a View, tenant: &'a Tenant) -> Worked<'a, Self::Value> {
        async move {
            let gathered = self.scim.gather(view, tenant, self.people).await?;
            if self.people.dry_run {
                return Ok((Redeclare::default(), Vec::new(), gathered.entries));
            }
            let put = gathered.put.into_values().collect();
            Ok((Redeclare { put, ..Redeclare::default() }, gathered.more, gathered.entries))
        }
        .boxed()
    }
}

impl Scim {
    /// Takes people and groups in, all that can be in one set of changes.
    ///
    /// # Errors
    /// 403 when policy says no, 413 for more than 1,000 entries, 400 when the directory would not be whole.
    pub async fn import(&self, caller: &Caller, people: &People) -> Result<Answered<Imported>, Failed> {
        if people.users.len().saturating_add(people.groups.len()) > ENTRIES_MAX {
            let error = ScimError::of(413, format!("at most {ENTRIES_MAX} entries are taken at once"));
            return Err(Failed { error, decision: None });
        }
        let body = serde_json::to_vec(people).unwrap_or_default();
        let committed = self.commit(&body);
        let request = Request { operation: "import", resource: "any", id: None, body: committed.digest };
        let work = Taking { scim: self, people };
        let done = self.control.change_directory(caller, Action::IdentityChange, &request, &work).await?;
        let dry_run = people.dry_run;
        Ok(committed.answer(done, |(_, entries)| Imported { dry_run, entries }))
    }

    async fn gather(&self, view: &View, tenant: &Tenant, people: &People) -> Result<Gathered, Problem> {
        let index = Index::of(view, tenant, "");
        let scene = Scene { view, tenant, index: &index, profiles: self.profiles(tenant) };
        let mut out = Gathered::default();
        for (at, sent) in people.users.iter().enumerate() {
            let result = self.user(&scene, sent, &mut out).await?;
            out.entry(USER.name, at, result);
        }
        for (at, sent) in people.groups.iter().enumerate() {
            let result = self.one_group(&scene, sent, &mut out).await?;
            out.entry(GROUP.name, at, result);
        }
        Ok(out)
    }

    async fn user(
        &self,
        scene: &Scene<'_>,
        sent: &Value,
        out: &mut Gathered,
    ) -> Result<Result<(Name, Outcome), ScimError>, Problem> {
        let read = || -> Result<(Resource, Name), ScimError> {
            let resource = read(USER, sent)?;
            let name = user_name(&resource)?;
            Ok((resource, name))
        };
        let (mut resource, name) = match read() {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        if !out.seen.insert(name.to_ascii_lowercase()) {
            return Ok(Err(ScimError::of(409, "the name stands twice in the file")));
        }
        let known = self.present(scene, scene.index.user_called(&name)).await?;
        let id = known.as_ref().and_then(|present| present.document.principal);
        let id = id.unwrap_or_else(|| PrincipalId::new(self.control.clock.now(), &*self.control.random));
        // What the file does not say stays as it is.
        let before = known.as_ref().and_then(|present| present.known.as_ref());
        let mut attributes = before.map(|known| known.attributes.clone()).unwrap_or_default();
        attributes.extend(resource.clone());
        attributes.entry("active").or_insert(Value::Bool(true));
        if let Some(present) = &known {
            // Somebody's name is written as it was first.
            resource.insert("userName".to_owned(), present.document.name.as_str().into());
        }
        let plan = match scene.user(id, known.as_ref(), &resource, &attributes) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error)),
        };
        attributes.remove("userName");
        let outcome = self.take(scene, id, known.as_ref(), plan.redeclare.put, attributes, out)?;
        Ok(Ok((name, outcome)))
    }

    async fn one_group(
        &self,
        scene: &Scene<'_>,
        sent: &Value,
        out: &mut Gathered,
    ) -> Result<Result<(Name, Outcome), ScimError>, Problem> {
        let resource = match read(GROUP, sent) {
            Ok(resource) => resource,
            Err(error) => return Ok(Err(error)),
        };
        let display = resource.get("displayName").and_then(Value::as_str).unwrap_or_default();
        let name = super::group::name_of(display);
        let present = self.present(scene, name.as_ref().and_then(|name| scene.index.group(name))).await?;
        let id = present.as_ref().and_then(|present| present.document.principal);
        let id = id.unwrap_or_else(|| PrincipalId::new(self.control.clock.now(), &*self.control.random));
        let (put, members) = match self.group_of(scene, id, present.as_ref(), &resource, out) {
            Ok(planned) => planned,
            Err(error) => return Ok(Err(error)),
        };
        let named = put.first().map(|document| document.name.clone());
        let name = named.or_else(|| present.as_ref().map(|p| p.document.name.clone())).or(name);
        let Some(name) = name else { return Ok(Err(ScimError::of(400, "`displayName` makes no name"))) };
        let mut attributes = resource.clone();
        attributes.remove("members");
        let mut documents = put;
        for member in members {
            let with = super::group::with(&member, &name);
            if with != member {
                documents.push(with);
            }
        }
        let outcome = self.take(scene, id, present.as_ref(), documents, attributes, out)?;
        Ok(Ok((name, outcome)))
    }

    /// The group's own document, where it is new, and its members as they are by now. An import adds members; who is not in
    /// the file stays.
    fn group_of(
        &self,
        scene: &Scene<'_>,
        id: PrincipalId,
        present: Option<&Present<'_>>,
        resource: &Resource,
        out: &Gathered,
    ) -> Result<(Vec<Document>, Vec<Document>), ScimError> {
        let mut bare = resource.clone();
        bare.remove("members");
        let put = match present {
            // Whether it may be changed at all is asked with nothing changed.
            Some(present) => {
                super::group::provisioned(present.document)?;
                Vec::new()
            }
            None => scene.group(id, None, &bare)?.redeclare.put,
        };
        let mut members = Vec::new();
        for member in resource.get("members").and_then(Value::as_array).into_iter().flatten() {
            let called = member.get("value").and_then(Value::as_str).unwrap_or_default();
            let found = out.find("user", called).or_else(|| scene.index.user_called(called));
            let group = || super::group::name_of(called);
            let found = found.or_else(|| group().and_then(|name| out.find("group", &name)));
            let found = found.or_else(|| group().and_then(|name| scene.index.group(&name)));
            let found = found.ok_or_else(|| ScimError::of(400, "a member is not there"))?;
            // With what the import changed of it before.
            let found = out.find(found.spec.kind(), &found.name).unwrap_or(found);
            members.push(found.clone());
        }
        Ok((put, members))
    }

    async fn present<'a>(
        &self,
        scene: &Scene<'_>,
        document: Option<&'a Document>,
    ) -> Result<Option<Present<'a>>, Problem> {
        let Some(document) = document else { return Ok(None) };
        let known: Option<Known> = match document.principal {
            Some(id) => scene.profiles.of(id).await.map_err(unavailable)?,
            None => None,
        };
        Ok(Some(Present { document, known }))
    }

    fn take(
        &self,
        scene: &Scene<'_>,
        id: PrincipalId,
        present: Option<&Present<'_>>,
        put: Vec<Document>,
        attributes: Resource,
        out: &mut Gathered,
    ) -> Result<Outcome, Problem> {
        let known = present.and_then(|present| present.known.as_ref());
        let mut merged = known.map(|known| known.attributes.clone()).unwrap_or_default();
        merged.extend(attributes);
        let random = &*self.control.random;
        let kept = scene.profiles.keep(id, known, &merged, random).map_err(unavailable)?;
        let outcome = match present {
            None => Outcome::Created,
            Some(_) if put.is_empty() && kept.is_none() => Outcome::Unchanged,
            Some(_) => Outcome::Changed,
        };
        out.more.extend(kept);
        for document in put {
            out.put.insert((document.spec.kind(), document.name.clone()), document);
        }
        Ok(outcome)
    }
}

impl Gathered {
    /// A document that the import has made or changed.
    fn find(&self, kind: &str, name: &str) -> Option<&Document> {
        let fits = |(k, n): &&(&'static str, Name)| *k == kind && n.eq_ignore_ascii_case(name);
        self.put.keys().find(fits).and_then(|key| self.put.get(key))
    }

    fn entry(&mut self, kind: &'static str, at: usize, result: Result<(Name, Outcome), ScimError>) {
        let (name, outcome, detail) = match result {
            Ok((name, outcome)) => (Some(name), outcome, None),
            Err(error) => (None, Outcome::Refused, Some(error.detail)),
        };
        self.entries.push(ImportedEntry { kind, place: at.saturating_add(1), name, outcome, detail });
    }
}

/// A resource of a file: `schemas` need not be said.
fn read(kind: Kind, sent: &Value) -> Result<Resource, ScimError> {
    let mut sent = sent.clone();
    if let Some(members) = sent.as_object_mut() {
        members.insert("schemas".to_owned(), json!([kind.schema.id]));
    }
    let resource = clean(&kind, &sent)?;
    complete(&kind, &resource)?;
    Ok(resource)
}
