//! The state as rows of text, the form every backend keeps it in.

use std::collections::BTreeMap;

use bartizan_model::{Document, Tenant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{State, StoreError};

/// A row's key: which noun, which tenant, which one.
pub type RowKey = (String, String, String);

#[derive(Serialize, Deserialize)]
struct DocumentRow {
    tenant: Tenant,
    document: Document,
    revision: u64,
}

fn put<T: Serialize>(out: &mut BTreeMap<RowKey, String>, noun: &str, tenant: &str, key: String, value: &T) {
    // Rows are plain structs with text keys: they always have a JSON form.
    out.insert((noun.to_owned(), tenant.to_owned(), key), serde_json::to_string(value).unwrap_or_default());
}

impl State {
    /// The rows of the state, without its revision.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RowKey, String> {
        let mut out = BTreeMap::new();
        for (tenant, document, revision) in &self.documents {
            let row = DocumentRow { tenant: tenant.clone(), document: document.clone(), revision: *revision };
            put(&mut out, "document", &tenant.0, format!("{}/{}", document.spec.kind(), document.name), &row);
        }
        for row in &self.keys {
            put(&mut out, "key", &row.tenant.0, row.id.to_string(), row);
        }
        for row in &self.epochs {
            put(&mut out, "epoch", &row.tenant.0, format!("{:?}/{}", row.kind, row.name), row);
        }
        for row in &self.sealed {
            put(&mut out, "sealed", &row.tenant.0, row.name.to_string(), row);
        }
        for row in &self.bundles {
            put(&mut out, "bundle", &row.tenant.0, String::new(), row);
        }
        if let Some(recovery) = &self.recovery {
            put(&mut out, "recovery", "", String::new(), recovery);
        }
        if let Some(claim) = &self.claim {
            put(&mut out, "claim", "", String::new(), claim);
        }
        out
    }

    /// The state of these rows at `revision`, in a stable order.
    ///
    /// # Errors
    /// `Corrupt` when a row cannot be read.
    pub fn from_rows(revision: u64, rows: BTreeMap<RowKey, String>) -> Result<Self, StoreError> {
        let mut state = Self { revision, ..Self::default() };
        for ((noun, _, key), value) in rows {
            match noun.as_str() {
                "document" => {
                    let row: DocumentRow = read(&noun, &key, &value)?;
                    state.documents.push((row.tenant, row.document, row.revision));
                }
                "key" => state.keys.push(read(&noun, &key, &value)?),
                "epoch" => state.epochs.push(read(&noun, &key, &value)?),
                "sealed" => state.sealed.push(read(&noun, &key, &value)?),
                "bundle" => state.bundles.push(read(&noun, &key, &value)?),
                "recovery" => state.recovery = Some(read(&noun, &key, &value)?),
                "claim" => state.claim = Some(read(&noun, &key, &value)?),
                _ => return Err(StoreError::Corrupt(format!("a `{noun}` is not known to this version"))),
            }
        }
        Ok(state)
    }
}

fn read<T: DeserializeOwned>(noun: &str, key: &str, value: &str) -> Result<T, StoreError> {
    serde_json::from_str(value).map_err(|e| StoreError::Corrupt(format!("{noun} `{key}`: {e}")))
}

/// What must be written and removed to come from one set of rows to another.
#[must_use]
pub fn row_changes(
    before: &BTreeMap<RowKey, String>,
    after: &BTreeMap<RowKey, String>,
) -> (Vec<(RowKey, String)>, Vec<RowKey>) {
    let written = after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let removed = before.keys().filter(|k| !after.contains_key(*k)).cloned().collect();
    (written, removed)
}
