//! The bundle a new installation begins with.

use crate::bundle::Bundle;

/// Administrators run the house, auditors read it, model users use models; everything else is denied.
#[must_use]
pub fn starter_bundle() -> Bundle {
    let policy = include_str!("../starter/policy.cedar").to_owned();
    Bundle { files: [("policy.cedar".to_owned(), policy)].into() }
}
