//! What the service says about itself (RFC 7644, 4; RFC 7643, 5 to 8).

use serde_json::{Value, json};

use crate::bulk::BULK_MAX;
use crate::page::{PAGE_DEFAULT, PAGE_MAX};
use crate::schema::{Kind, Schema};
use crate::schemas::{ENTERPRISE, GROUP, META, USER};

fn meta(kind: &str, base: &str, path: &str) -> Value {
    json!({"resourceType": kind, "location": format!("{base}{path}")})
}

fn schema(schema: &Schema, base: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": schema.id,
        "name": schema.name,
        "description": schema.description,
        "attributes": schema.attributes.iter().map(crate::Attribute::described).collect::<Vec<_>>(),
        "meta": meta("Schema", base, &format!("/Schemas/{}", schema.id)),
    })
}

/// Every schema, by URN. `base` is the address of the service, without a slash at its end.
#[must_use]
pub fn schema_list(base: &str) -> Vec<Value> {
    let own = [USER.schema, ENTERPRISE, GROUP.schema];
    own.into_iter().chain(META).map(|found| schema(found, base)).collect()
}

/// How a type of resource is described.
#[must_use]
pub fn resource_type(kind: &Kind, base: &str) -> Value {
    let extensions = kind.extensions.iter().map(|schema| json!({"schema": schema.id, "required": false}));
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
        "id": kind.name,
        "name": kind.name,
        "description": kind.description,
        "endpoint": kind.endpoint,
        "schema": kind.schema.id,
        "schemaExtensions": extensions.collect::<Vec<_>>(),
        "meta": meta("ResourceType", base, &format!("/ResourceTypes/{}", kind.name)),
    })
}

/// Every type of resource.
#[must_use]
pub fn resource_types(base: &str) -> Vec<Value> {
    [USER, GROUP].iter().map(|kind| resource_type(kind, base)).collect()
}

/// What the service can do; `payload_max` is the longest body it takes, in bytes.
#[must_use]
pub fn service_provider_config(base: &str, payload_max: usize) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": true, "maxOperations": BULK_MAX, "maxPayloadSize": payload_max},
        "filter": {"supported": true, "maxResults": PAGE_MAX},
        "changePassword": {"supported": false},
        "sort": {"supported": true},
        "etag": {"supported": true},
        "pagination": {
            "cursor": true, "index": true, "defaultPaginationMethod": "index",
            "defaultPageSize": PAGE_DEFAULT, "maxPageSize": PAGE_MAX,
        },
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer",
            "description": "An API key or access token with the scopes `identity:read` and `identity:change`.",
            "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
            "primary": true,
        }],
        "meta": meta("ServiceProviderConfig", base, "/ServiceProviderConfig"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_a_resource_type_names_is_shown() {
        let shown: Vec<_> = schema_list("").iter().map(|schema| schema["id"].clone()).collect();
        for kind in resource_types("") {
            assert!(shown.contains(&kind["schema"]));
            for extension in kind["schemaExtensions"].as_array().unwrap() {
                assert!(shown.contains(&extension["schema"]));
            }
        }
    }
}
