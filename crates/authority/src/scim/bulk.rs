//! Several operations in one request: each an ask and a set of changes of its own.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_identify::Caller;
use bartizan_model::PrincipalId;
use bartizan_scim::{Bulk, BulkOperation, GROUP, Kind, Method, ScimError, ScimType, USER};
use serde_json::{Value, json};

use super::index::version;
use super::{Failed, Operation, Scim, Write};

/// What became of each operation, in the order of the request.
#[derive(Clone, Debug)]
pub struct BulkAnswer {
    /// The body of the answer.
    pub body: Value,
}

impl Scim {
    /// Does the operations of a request, until as many have failed as the client says. What refers to something that was not
    /// made fails with it.
    pub async fn bulk(&self, caller: &Caller, base: &str, bulk: &Bulk) -> BulkAnswer {
        // Pseudonyms are given before, so that operations can refer to each other whichever way round.
        let posted = bulk.operations.iter().filter(|(_, o)| o.method == Method::Post);
        let made: BTreeMap<String, PrincipalId> = posted
            .filter_map(|(_, o)| o.bulk_id.clone())
            .map(|id| (id, PrincipalId::new(self.control.clock.now(), &*self.control.random)))
            .collect();
        let names: BTreeMap<String, String> =
            made.iter().map(|(bulk_id, id)| (bulk_id.clone(), id.to_string())).collect();
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut answers: BTreeMap<usize, Value> = BTreeMap::new();
        let mut errors = 0;
        for (place, operation) in &bulk.operations {
            if bulk.fail_on_errors.is_some_and(|max| errors >= max) {
                break;
            }
            let refers = operation.refers();
            let result = if refers.iter().any(|id| failed.contains(id) || !names.contains_key(id)) {
                Err(ScimError::of(409, "it refers to something that was not made"))
            } else {
                let id = operation.bulk_id.as_ref().and_then(|id| made.get(id)).copied();
                self.one(caller, base, &operation.resolved(&names), id).await
            };
            let mut answer = json!({"method": operation.method.name()});
            let Some(members) = answer.as_object_mut() else { continue };
            operation.bulk_id.as_ref().map(|id| members.insert("bulkId".to_owned(), id.as_str().into()));
            match result {
                Ok((status, location, version)) => {
                    members.insert("status".to_owned(), status.to_string().into());
                    members.insert("location".to_owned(), location.into());
                    version.map(|version| members.insert("version".to_owned(), version.into()));
                }
                Err(error) => {
                    errors += 1;
                    failed.extend(operation.bulk_id.clone());
                    members.insert("status".to_owned(), error.status.to_string().into());
                    members.insert("response".to_owned(), error.body());
                }
            }
            answers.insert(*place, answer);
        }
        let answers: Vec<Value> = answers.into_values().collect();
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkResponse"],
            "Operations": answers,
        });
        BulkAnswer { body }
    }

    async fn one(
        &self,
        caller: &Caller,
        base: &str,
        operation: &BulkOperation,
        made: Option<PrincipalId>,
    ) -> Result<(u16, String, Option<String>), ScimError> {
        let (kind, id) = place(&operation.path)?;
        let wrong = || ScimError::new(ScimType::InvalidSyntax, "the path does not fit the method");
        let what = match (operation.method, id) {
            (Method::Post, None) => Operation::Create { body: &operation.data, id: made },
            (Method::Put, Some(id)) => Operation::Replace { id, body: &operation.data },
            (Method::Patch, Some(id)) => Operation::Patch { id, body: &operation.data },
            (Method::Delete, Some(id)) => Operation::Delete { id },
            _ => return Err(wrong()),
        };
        let write = Write { kind, operation: what, if_match: operation.version.as_deref() };
        // The future is large, and there may be many operations.
        let done = Box::pin(self.write(caller, base, &write)).await.map_err(|Failed { error, .. }| error)?;
        let id = match &done.value {
            Some(resource) => resource.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            None => id.unwrap_or_default().to_owned(),
        };
        let status = match operation.method {
            Method::Post => 201,
            Method::Put | Method::Patch => 200,
            Method::Delete => 204,
        };
        let tag = done.value.as_ref().map(|resource| version(resource).to_owned());
        Ok((status, format!("{base}{}/{id}", kind.endpoint), tag))
    }
}

/// What a path of an operation names.
fn place(path: &str) -> Result<(Kind, Option<&str>), ScimError> {
    let mut parts = path.trim_start_matches('/').split('/');
    let endpoint = parts.next().unwrap_or_default();
    let kind = [USER, GROUP].into_iter().find(|kind| kind.endpoint.trim_start_matches('/') == endpoint);
    let kind = kind.ok_or_else(|| ScimError::of(404, "there is no such endpoint"))?;
    match (parts.next().filter(|id| !id.is_empty()), parts.next()) {
        (id, None) => Ok((kind, id)),
        _ => Err(ScimError::of(404, "there is no such endpoint")),
    }
}
