//! SCIM 2.0 (RFC 7643, RFC 7644, RFC 9865) without knowing where anything is kept: what resources look like, filters, patches,
//! pages, sets of operations. Pure: JSON in, JSON out.
//!
//! Whatever comes from outside is bounded before it is looked at, and brought into one form by [`clean`]: names of attributes
//! as the schema writes them, no values that the client may not set.

mod bulk;
mod clean;
mod discover;
mod error;
mod filter;
mod lex;
mod matches;
mod page;
mod patch;
mod path;
mod schema;
mod schemas;
mod values;

#[cfg(test)]
mod tests;

pub use bulk::{BULK_MAX, Bulk, BulkOperation, Method};
pub use clean::{clean, complete};
pub use discover::{resource_type, resource_types, schema_list, service_provider_config};
pub use error::{ScimError, ScimType};
pub use filter::{Compare, Filter};
pub use page::{Listed, PAGE_DEFAULT, PAGE_MAX, Projection, Query};
pub use patch::{PATCH_MAX, Patch};
pub use path::{Path, Target};
pub use schema::{Attribute, Kind, Mutability, Schema, Type};
pub use schemas::{ENTERPRISE, GROUP, USER};

/// A resource: its attributes by name; those of an extension under its URN.
pub type Resource = serde_json::Map<String, serde_json::Value>;
