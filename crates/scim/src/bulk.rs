//! Several operations in one request (RFC 7644, 3.7).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{ScimError, ScimType};

/// Operations of one request at the most.
pub const BULK_MAX: usize = 200;
const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const MARK: &str = "bulkId:";

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Makes a resource.
    Post,
    /// Replaces one.
    Put,
    /// Changes one by parts.
    Patch,
    /// Takes one away.
    Delete,
}

impl Method {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub struct BulkOperation {
    /// What it does.
    pub method: Method,
    /// What the client calls what is made; set for every `POST`.
    pub bulk_id: Option<String>,
    /// Where, below the root: `/Users` or `/Users/ID`.
    pub path: String,
    /// The body.
    pub data: Value,
    /// The entity tag that it is for.
    pub version: Option<String>,
}

/// A request of several operations, in an order in which what is referred to comes first, as far as there is one.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// The operations, with their place in the request.
    pub operations: Vec<(usize, BulkOperation)>,
    /// After how many errors the rest is left undone; none for never.
    pub fail_on_errors: Option<usize>,
}

impl Bulk {
    /// Reads a `BulkRequest` message.
    ///
    /// # Errors
    /// `invalidSyntax`, or status 413 for too many operations.
    pub fn parse(body: &Value) -> Result<Self, ScimError> {
        let member = |name: &str| {
            let members = body.as_object()?;
            members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let named = |value: &Value| value.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(SCHEMA));
        if !member("schemas").and_then(Value::as_array).is_some_and(|schemas| schemas.iter().any(named)) {
            return Err(syntax("`schemas` does not name the message `BulkRequest`"));
        }
        let listed = member("Operations").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| syntax("`Operations` is missing"))?;
        if listed.len() > BULK_MAX {
            return Err(ScimError::of(413, format!("a request has at most {BULK_MAX} operations")));
        }
        let fail_on_errors = match member("failOnErrors") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let number =
                    value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|n| *n > 0);
                Some(number.ok_or_else(|| syntax("`failOnErrors` is a number from 1 on"))?)
            }
        };
        let operations: Vec<BulkOperation> = listed.iter().map(operation).collect::<Result<_, _>>()?;
        let mut known = BTreeSet::new();
        let again = operations.iter().filter_map(|o| o.bulk_id.as_ref()).any(|id| !known.insert(id));
        if again {
            return Err(syntax("a `bulkId` stands twice"));
        }
        let order = ordered(&operations);
        let mut by_place: BTreeMap<usize, BulkOperation> = operations.into_iter().enumerate().collect();
        let operations = order.into_iter().filter_map(|at| by_place.remove(&at).map(|o| (at, o))).collect();
        Ok(Self { operations, fail_on_errors })
    }
}

impl BulkOperation {
    /// The `bulkId`s that it refers to.
    #[must_use]
    pub fn refers(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        let mut open = vec![&self.data];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => out.extend(text.strip_prefix(MARK).map(str::to_owned)),
                Value::Array(values) => open.extend(values),
                Value::Object(members) => open.extend(members.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        out.extend(self.path.split('/').filter_map(|part| part.strip_prefix(MARK)).map(str::to_owned));
        out
    }

    /// The same with the ids of what was made in the place of `bulkId`s; one that `ids` does not know stays.
    #[must_use]
    pub fn resolved(&self, ids: &BTreeMap<String, String>) -> Self {
        let id = |text: &str| text.strip_prefix(MARK).and_then(|mark| ids.get(mark)).cloned();
        let parts = self.path.split('/').map(|part| id(part).unwrap_or_else(|| part.to_owned()));
        Self { path: parts.collect::<Vec<_>>().join("/"), data: replaced(&self.data, &id), ..self.clone() }
    }
}

fn replaced(value: &Value, id: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => Value::String(id(text).unwrap_or_else(|| text.clone())),
        Value::Array(values) => values.iter().map(|value| replaced(value, id)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), replaced(value, id))).collect()
        }
        value => value.clone(),
    }
}

fn operation(given: &Value) -> Result<BulkOperation, ScimError> {
    let member = |name: &str| {
        let members = given.as_object()?;
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let text = |name: &str| member(name).and_then(Value::as_str).map(str::to_owned);
    let method = match text("method").map(|method| method.to_ascii_uppercase()).as_deref() {
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        Some("PATCH") => Method::Patch,
        Some("DELETE") => Method::Delete,
        _ => return Err(syntax("`method` is none of POST, PUT, PATCH, DELETE")),
    };
    let bulk_id = text("bulkId").filter(|id| !id.is_empty() && id.len() <= 256);
    if method == Method::Post && bulk_id.is_none() {
        return Err(syntax("a POST without its `bulkId`"));
    }
    let path = text("path").ok_or_else(|| syntax("`path` is missing"))?;
    let data = member("data").cloned().unwrap_or(Value::Null);
    Ok(BulkOperation { method, bulk_id, path, data, version: text("version") })
}

/// The places of operations so that whatever is referred to is made before, where that can be. What refers to each other in
/// a circle is done as it was sent.
fn ordered(operations: &[BulkOperation]) -> Vec<usize> {
    let makers: BTreeMap<&str, usize> = operations
        .iter()
        .enumerate()
        .filter(|(_, o)| o.method == Method::Post)
        .filter_map(|(at, o)| Some((o.bulk_id.as_deref()?, at)))
        .collect();
    let needs: Vec<BTreeSet<usize>> = operations
        .iter()
        .enumerate()
        .map(|(at, o)| {
            o.refers()
                .iter()
                .filter_map(|id| makers.get(id.as_str()).copied())
                .filter(|maker| *maker != at)
                .collect()
        })
        .collect();
    let mut out: Vec<usize> = Vec::with_capacity(operations.len());
    let mut done = BTreeSet::new();
    while out.len() < operations.len() {
        let ready =
            |at: &usize| !done.contains(at) && needs.get(*at).is_none_or(|needs| needs.is_subset(&done));
        let next = (0..operations.len()).find(ready);
        let next = next.or_else(|| (0..operations.len()).find(|at| !done.contains(at)));
        let Some(next) = next else { break };
        done.insert(next);
        out.push(next);
    }
    out
}

fn syntax(what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidSyntax, what)
}
