//! What operations on people mean for the directory.

use bartizan_base::Name;
use bartizan_control::{PRINCIPAL_NAME_MAX, Redeclare};
use bartizan_model::directory::{PrincipalSpec, Spec, Status};
use bartizan_model::{Document, PrincipalId};
use bartizan_scim::{Resource, ScimError, ScimType, USER};
use serde_json::Value;

use super::write::{Plan, Present, Scene};

/// The name that a person has in the directory.
pub(super) fn user_name(resource: &Resource) -> Result<Name, ScimError> {
    let text = resource.get("userName").and_then(Value::as_str).unwrap_or_default();
    let name = text.parse::<Name>().ok().filter(|name| name.len() <= PRINCIPAL_NAME_MAX);
    name.ok_or_else(|| {
        let detail = format!(
            "`userName` has 1 to {PRINCIPAL_NAME_MAX} characters out of unaccented letters, digits and `. _ - : / @ +`"
        );
        ScimError::new(ScimType::InvalidValue, detail)
    })
}

impl Scene<'_> {
    /// A person, made or changed.
    pub(super) fn user(
        &self,
        id: PrincipalId,
        present: Option<&Present<'_>>,
        after: &Resource,
        attributes: &Resource,
    ) -> Result<Plan, ScimError> {
        let name = user_name(after)?;
        let old = present.map(|present| present.document);
        let renamed = old.filter(|old| old.name != name);
        if old.is_none_or(|old| !old.name.eq_ignore_ascii_case(&name)) {
            self.free(USER, &name)?;
        }
        if let Some(old) = renamed {
            // Otherwise whoever names people would take them out of rules that are about them.
            self.unspoken(USER, &old.name)?;
        }
        let mut spec = match old.map(|old| &old.spec) {
            Some(Spec::User(spec)) => spec.clone(),
            _ => PrincipalSpec::default(),
        };
        spec.suspended = attributes.get("active") == Some(&Value::Bool(false));
        let document = Document { name, principal: Some(id), spec: Spec::User(spec) };
        let mut redeclare = Redeclare::default();
        if old.is_none_or(|old| *old != document) {
            redeclare.put.push(document);
        }
        redeclare.gone.extend(renamed.map(|old| ("user".to_owned(), old.name.clone())));
        Ok(Plan { redeclare, more: Vec::new() })
    }

    /// A person who leaves for good. Their name stays taken.
    pub(super) fn retire(&self, present: &Present<'_>) -> Result<Plan, ScimError> {
        let spec = PrincipalSpec { status: Status::Retired, ..PrincipalSpec::default() };
        let document = Document { spec: Spec::User(spec), ..present.document.clone() };
        let redeclare = Redeclare { put: vec![document], ..Redeclare::default() };
        Ok(Plan { redeclare, more: Vec::new() })
    }
}
