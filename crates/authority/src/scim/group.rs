//! What operations on groups mean for the directory. Who belongs to a group is written down at the members.

use std::collections::BTreeSet;

use bartizan_base::Name;
use bartizan_control::Redeclare;
use bartizan_model::directory::{NodeSpec, Spec};
use bartizan_model::{Document, PrincipalId};
use bartizan_scim::{GROUP, Resource, ScimError, ScimType};
use serde_json::Value;

use super::index::id_of;
use super::write::{Plan, Present, Scene};

/// The name in policies of a group that is called so: what is no letter or digit becomes `-`. Nothing where nothing is left.
pub(super) fn name_of(display: &str) -> Option<Name> {
    if let Ok(name) = display.parse::<Name>() {
        return Some(name);
    }
    let mut out = String::new();
    for c in display.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') => out.push(c.to_ascii_lowercase()),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    let short: String = out.chars().take(Name::MAX).collect();
    short.trim_end_matches('-').parse().ok()
}

impl Scene<'_> {
    /// A group, made or changed.
    pub(super) fn group(
        &self,
        id: PrincipalId,
        present: Option<&Present<'_>>,
        after: &Resource,
    ) -> Result<Plan, ScimError> {
        let mut redeclare = Redeclare::default();
        let name = match present {
            // A new name for people is no new name in policies.
            Some(present) => {
                provisioned(present.document)?;
                present.document.name.clone()
            }
            None => {
                let display = after.get("displayName").and_then(Value::as_str).unwrap_or_default();
                // Written in letters that policies do not have: its pseudonym is its name there.
                let name = name_of(display).map_or_else(|| id.to_string().parse().ok(), Some);
                let none = || ScimError::new(ScimType::InvalidValue, "`displayName` makes no name");
                let name = name.ok_or_else(none)?;
                self.free(GROUP, &name)?;
                let spec = NodeSpec { provisioned: true, ..NodeSpec::default() };
                redeclare.put.push(Document {
                    name: name.clone(),
                    principal: Some(id),
                    spec: Spec::Group(spec),
                });
                name
            }
        };
        let wanted = self.wanted(after)?;
        let members: Vec<&Document> = self.index.members(&name).collect();
        for member in &members {
            if !wanted.contains(&id_of(member)) {
                redeclare.put.push(membership(member, &name, false));
            }
        }
        let there: BTreeSet<String> = members.iter().map(|member| id_of(member)).collect();
        for id in wanted.iter().filter(|id| !there.contains(*id)) {
            let unknown = || ScimError::new(ScimType::InvalidValue, "a member is not there");
            let member = self.index.any(id).ok_or_else(unknown)?;
            if member.name == name && matches!(member.spec, Spec::Group(_)) {
                return Err(ScimError::new(ScimType::InvalidValue, "a group cannot belong to itself"));
            }
            redeclare.put.push(membership(member, &name, true));
        }
        Ok(Plan { redeclare, more: Vec::new() })
    }

    /// A group that is taken away, with it its memberships.
    pub(super) fn dissolve(&self, present: &Present<'_>) -> Result<Plan, ScimError> {
        provisioned(present.document)?;
        let name = &present.document.name;
        let state = &self.view.state;
        let members = state.index.referrers(self.tenant, "group", name);
        let members = members.filter_map(|(kind, member)| state.document(self.tenant, kind, member));
        let mut put: Vec<Document> = members
            .map(|(_, document, _)| document)
            .filter(|document| belongs(document, name))
            .map(|document| membership(document, name, false))
            .collect();
        put.sort_by(|a, b| (a.spec.kind(), &a.name).cmp(&(b.spec.kind(), &b.name)));
        let gone = vec![("group".to_owned(), name.clone())];
        let redeclare = Redeclare { put, gone };
        let kept = present.known.as_ref().map(|known| known.held.remove());
        Ok(Plan { redeclare, more: kept.into_iter().collect() })
    }

    fn wanted(&self, after: &Resource) -> Result<BTreeSet<String>, ScimError> {
        let members = after.get("members").and_then(Value::as_array).into_iter().flatten();
        let id = |member: &Value| {
            let id = member.get("value").and_then(Value::as_str).map(str::to_owned);
            // `$ref` alone is as good: its last part is the id.
            let from = || {
                let at = member.get("$ref").and_then(Value::as_str)?;
                at.rsplit('/').next().map(str::to_owned)
            };
            let none = || ScimError::new(ScimType::InvalidValue, "a member without its `value`");
            id.or_else(from).ok_or_else(none)
        };
        members.map(id).collect()
    }
}

/// Only groups that were declared for it are provisioning's to change.
pub(super) fn provisioned(document: &Document) -> Result<(), ScimError> {
    match &document.spec {
        Spec::Group(spec) if spec.provisioned => Ok(()),
        _ => {
            let detail = "the group is not declared as `provisioned`: only administrators change it";
            Err(ScimError::of(403, detail))
        }
    }
}

fn groups(spec: &Spec) -> Option<&BTreeSet<Name>> {
    Some(match spec {
        Spec::User(spec) => &spec.groups,
        Spec::Agent(spec) | Spec::Workload(spec) => &spec.groups,
        Spec::Group(spec) => &spec.parents,
        Spec::Device(spec) => &spec.groups,
        _ => return None,
    })
}

fn belongs(document: &Document, group: &Name) -> bool {
    groups(&document.spec).is_some_and(|groups| groups.contains(group))
}

/// The same as a member of the group.
pub(super) fn with(document: &Document, group: &Name) -> Document {
    membership(document, group, true)
}

/// The same with or without the group.
fn membership(document: &Document, group: &Name, is_in: bool) -> Document {
    let mut document = document.clone();
    let groups = match &mut document.spec {
        Spec::User(spec) => &mut spec.groups,
        Spec::Agent(spec) | Spec::Workload(spec) => &mut spec.groups,
        Spec::Group(spec) => &mut spec.parents,
        Spec::Device(spec) => &mut spec.groups,
        _ => return document,
    };
    if is_in {
        groups.insert(group.clone());
    } else {
        groups.remove(group);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_get_names_that_policies_can_speak_of() {
        for (display, name) in [
            ("ml-engineers", Some("ml-engineers")),
            ("Tour Guides (EMEA)", Some("tour-guides-emea")),
            ("  spaced  ", Some("spaced")),
            // Letters that look like others make another name, not the same.
            ("\u{430}dmin\u{455} ", Some("dmin")),
            ("\u{442}\u{430}\u{43a}", None),
        ] {
            assert_eq!(name_of(display).as_deref(), name, "{display}");
        }
        assert_eq!(name_of(&"xy".repeat(200)).unwrap().len(), Name::MAX);
    }
}
