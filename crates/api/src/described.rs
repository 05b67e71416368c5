//! What the mounts answer, described: a mount answers nothing that does not stand in its table.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// How whoever asks says who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Not at all.
    Anyone,
    /// By an API key, an access token or the certificate of a workload.
    Credential,
    /// As a client of the authority: `client_secret_basic`, `client_secret_post`, `private_key_jwt`, mutual TLS, or by its id alone.
    Client,
    /// By the session of the browser.
    Session,
    /// By what is in the body.
    Body,
}

/// A schema, and what it refers to.
pub(crate) type Shape = fn(&mut SchemaGenerator) -> Value;

/// A method of a path.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The method.
    pub method: &'static str,
    /// The path; `{name}` stands for one part.
    pub path: &'static str,
    /// How one says who asks.
    pub by: By,
    /// The action that policy is asked for; `-` for none, or for whatever the endpoint is asked to do.
    pub action: &'static str,
    /// What it does.
    pub meaning: &'static str,
    pub(crate) takes: Option<(&'static str, Shape)>,
    pub(crate) gives: (u16, Option<(&'static str, Shape)>),
}

impl Described {
    /// A method of a path that gives JSON.
    pub(crate) const fn new(
        method: &'static str,
        path: &'static str,
        by: By,
        action: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { method, path, by, action, meaning, takes: None, gives: (200, Some((JSON, object))) }
    }

    /// The same, taking a body.
    pub(crate) const fn takes(self, media: &'static str, shape: Shape) -> Self {
        Self { takes: Some((media, shape)), ..self }
    }

    /// The same, giving something else.
    pub(crate) const fn gives(self, status: u16, media: &'static str, shape: Shape) -> Self {
        Self { gives: (status, Some((media, shape))), ..self }
    }

    /// The same, giving nothing but a status.
    pub(crate) const fn gives_nothing(self, status: u16) -> Self {
        Self { gives: (status, None), ..self }
    }

    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut given) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), given.next()) {
                (None, None) => return true,
                (Some(own), Some(given)) if own.starts_with('{') && !given.is_empty() || own == given => {}
                _ => return false,
            }
        }
    }
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const HTML: &str = "text/html";

/// Any object: its members are those of the standard that the path is of.
pub(crate) fn object(_: &mut SchemaGenerator) -> Value {
    json!({"type": "object"})
}

/// A text.
pub(crate) fn text(_: &mut SchemaGenerator) -> Value {
    json!({"type": "string"})
}

/// What a type of ours says of itself.
pub(crate) fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// Whether a path stands in a table.
pub(crate) fn knows(table: &[Described], path: &str) -> bool {
    table.iter().any(|one| one.is_at(path))
}

/// Whether a path stands in a table with that method.
pub(crate) fn permits(table: &[Described], method: &str, path: &str) -> bool {
    table.iter().any(|one| one.method == method && one.is_at(path))
}

/// The tables of all mounts, each under the word that its operations go by.
pub const MOUNTED: &[(&str, &[Described])] = &[
    ("oauth", crate::oauth::DESCRIBED),
    ("scim", crate::scim::DESCRIBED),
    ("signals", crate::signals::DESCRIBED),
    ("certificates", crate::workloads::DESCRIBED),
    ("connections", crate::connections::DESCRIBED),
    ("authority", crate::signing_keys::DESCRIBED),
    ("sessions", crate::session_labels::DESCRIBED),
    ("resources", crate::door::DESCRIBED),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Described> {
        MOUNTED.iter().flat_map(|(_, table)| *table)
    }

    #[test]
    fn every_described_path_is_described_once_and_names_an_action_there_is() {
        let mut seen = std::collections::BTreeSet::new();
        for one in all() {
            assert!(seen.insert((one.method, one.path)), "{} {}", one.method, one.path);
            assert!(permits(&[*one], one.method, one.path) && !one.meaning.is_empty());
            let known = one.action == "-" || one.action.parse::<bartizan_model::Action>().is_ok();
            assert!(known, "{}: {}", one.path, one.action);
        }
    }

    #[test]
    fn a_part_of_a_path_stands_for_one_part_and_no_other() {
        let table = [Described::new("GET", "/scim/v2/Users/{id}", By::Credential, "-", "One.")];
        assert!(permits(&table, "GET", "/scim/v2/Users/u1"));
        for path in ["/scim/v2/Users", "/scim/v2/Users/", "/scim/v2/Users/u1/x", "/scim/v2/users/u1"] {
            assert!(!knows(&table, path), "{path}");
        }
        assert!(!permits(&table, "PUT", "/scim/v2/Users/u1"));
    }
}
