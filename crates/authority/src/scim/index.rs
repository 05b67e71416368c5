//! The directory as provisioning sees it: documents by pseudonym, groups with their members, each as a resource.

use bartizan_base::{Digest, Name, json};
use bartizan_control::View;
use bartizan_model::directory::{Spec, Status};
use bartizan_model::{Document, PrincipalId, Tenant};
use bartizan_scim::{GROUP, Kind, Resource, USER};
use bartizan_store::State;
use serde_json::{Value, json};

use super::profile::Known;

/// The directory of a tenant at one moment.
#[derive(Debug)]
pub(super) struct Index<'a> {
    /// The address of the service, without a slash at its end.
    base: &'a str,
    state: &'a State,
    tenant: &'a Tenant,
}

/// How provisioning calls a document. Groups that were declared before they had pseudonyms go by their name.
pub(super) fn id_of(document: &Document) -> String {
    document.principal.map_or_else(|| format!("group:{}", document.name), |id: PrincipalId| id.to_string())
}

/// The kind of resource that a document is. Whoever is gone for good is none.
pub(super) const fn kind_of(document: &Document) -> Option<Kind> {
    match &document.spec {
        Spec::User(spec) if !matches!(spec.status, Status::Retired) => Some(USER),
        Spec::Group(_) => Some(GROUP),
        _ => None,
    }
}

impl<'a> Index<'a> {
    pub(super) fn of(view: &'a View, tenant: &'a Tenant, base: &'a str) -> Self {
        Self { base, state: &view.state, tenant }
    }

    fn document(&self, kind: &str, name: &Name) -> Option<&'a Document> {
        let found = self.state.document(self.tenant, kind, name).map(|(_, document, _)| document);
        found.filter(|document| kind_of(document).is_some())
    }

    /// Every document of a kind.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &'a Document> {
        let of = if kind == USER { "user" } else { "group" };
        let documents = self.state.of_kind(self.tenant, of).map(|(_, document, _)| document);
        documents.filter(|document| kind_of(document).is_some())
    }

    /// The document of a kind with that id.
    pub(super) fn find(&self, kind: Kind, id: &str) -> Option<&'a Document> {
        self.any(id).filter(|document| kind_of(document) == Some(kind))
    }

    /// The document with that id.
    pub(super) fn any(&self, id: &str) -> Option<&'a Document> {
        let found = match id.parse::<PrincipalId>() {
            Ok(id) => {
                let (kind, name) = self.state.index.by_pseudonym(self.tenant, id)?;
                self.document(kind, name)
            }
            Err(_) => self.document("group", &id.strip_prefix("group:")?.parse().ok()?),
        };
        // In another spelling it is none.
        found.filter(|document| id_of(document) == id)
    }

    /// The person whose name is spelled so, in any case.
    pub(super) fn user_called(&self, name: &str) -> Option<&'a Document> {
        let mut alike = self.state.index.alike(self.tenant, "user", name);
        alike.find_map(|name| self.document("user", name))
    }

    /// The group of that name.
    pub(super) fn group(&self, name: &Name) -> Option<&'a Document> {
        self.document("group", name)
    }

    /// People and groups directly in a group, in the order of their names.
    pub(super) fn members(&self, group: &Name) -> impl Iterator<Item = &'a Document> {
        let referrers = self.state.index.referrers(self.tenant, "group", group);
        let within = |document: &&Document| match &document.spec {
            Spec::User(spec) => spec.groups.contains(group),
            Spec::Group(spec) => spec.parents.contains(group),
            _ => false,
        };
        let mut members: Vec<&Document> =
            referrers.filter_map(|(kind, name)| self.document(kind, name)).filter(within).collect();
        members.sort_by_key(|member| (member.spec.kind(), &member.name));
        members.into_iter()
    }

    /// Where a resource is.
    pub(super) fn location(&self, kind: Kind, id: &str) -> String {
        format!("{}{}/{id}", self.base, kind.endpoint)
    }

    /// A document as a resource, with its entity tag.
    pub(super) fn resource(&self, document: &Document, known: Option<&Known>) -> Resource {
        let kind = if matches!(document.spec, Spec::Group(_)) { GROUP } else { USER };
        let id = id_of(document);
        let mut out = known.map(|known| known.attributes.clone()).unwrap_or_default();
        match &document.spec {
            Spec::User(spec) => {
                out.insert("userName".to_owned(), document.name.as_str().into());
                if spec.standing() != Status::Active {
                    out.insert("active".to_owned(), false.into());
                } else if known.is_none() || out.get("active") == Some(&Value::Bool(false)) {
                    // An administrator has lifted what provisioning said.
                    out.insert("active".to_owned(), true.into());
                }
                self.reference_manager(&mut out);
                let groups = spec.groups.iter().filter_map(|name| self.group(name)).map(|group| {
                    let id = id_of(group);
                    json!({"$ref": self.location(GROUP, &id), "value": id, "display": group.name, "type": "direct"})
                });
                put(&mut out, "groups", groups.collect());
                put(&mut out, "roles", spec.roles.iter().map(|role| json!({"value": role})).collect());
            }
            _ => {
                out.entry("displayName").or_insert_with(|| document.name.as_str().into());
                let mut members: Vec<&Document> = self.members(&document.name).collect();
                members.sort_by_cached_key(|member| id_of(member));
                let members = members.into_iter().filter_map(|member| {
                    let (kind, id) = (kind_of(member)?, id_of(member));
                    let at = self.location(kind, &id);
                    Some(json!({"$ref": at, "value": id, "type": kind.name}))
                });
                put(&mut out, "members", members.collect());
            }
        }
        let extensions = kind.extensions.iter().map(|schema| schema.id).filter(|id| out.contains_key(*id));
        let schemas: Vec<&str> = [kind.schema.id].into_iter().chain(extensions).collect();
        out.insert("schemas".to_owned(), json!(schemas));
        out.insert("id".to_owned(), id.as_str().into());
        let created = document.principal.map(|id| id.timestamp().to_string());
        let created = known.map(|known| known.held.value.created.to_string()).or(created);
        let modified = known.map(|known| known.held.value.modified.to_string()).or_else(|| created.clone());
        let version = tag(&out);
        let meta = json!({
            "resourceType": kind.name, "created": created, "lastModified": modified,
            "location": self.location(kind, &id), "version": version,
        });
        out.insert("meta".to_owned(), meta);
        out
    }

    fn reference_manager(&self, resource: &mut Resource) {
        let extension = resource.get_mut(bartizan_scim::ENTERPRISE.id);
        let Some(manager) = extension.and_then(|e| e.get_mut("manager")).and_then(Value::as_object_mut)
        else {
            return;
        };
        let Some(id) = manager.get("value").and_then(Value::as_str).map(str::to_owned) else { return };
        manager.insert("$ref".to_owned(), self.location(USER, &id).into());
    }
}

fn put(resource: &mut Resource, name: &str, values: Vec<Value>) {
    if !values.is_empty() {
        resource.insert(name.to_owned(), values.into());
    }
}

/// The entity tag: of the content, so that it changes with whatever is shown, whoever changed it.
fn tag(resource: &Resource) -> String {
    let digest = Digest::of(&json::canonical(resource).unwrap_or_default());
    let short: String = digest.as_bytes().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{short}\"")
}

/// The entity tag of a resource.
pub(super) fn version(resource: &Resource) -> &str {
    resource.get("meta").and_then(|meta| meta.get("version")).and_then(Value::as_str).unwrap_or_default()
}
