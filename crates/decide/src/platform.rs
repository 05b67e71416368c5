//! The house's own vocabulary, which bundles extend and cannot change.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cedar_policy::Schema;

/// The schema of the house.
pub(crate) const SCHEMA: &str = include_str!("schema.cedarschema");

/// Whether an entity type is the house's own; types of actions are.
pub(crate) fn has_type(name: &str) -> bool {
    static TYPES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let schema = Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| schema);
        schema.iter().flat_map(|s| s.entity_types().map(ToString::to_string)).collect()
    });
    TYPES.contains(name) || name.rsplit("::").next() == Some("Action")
}
