//! Rows that were read or written lately. They stay what they are until somebody writes, and that somebody else did SQLite tells
//! without a way to the disk (`pragma data_version`): reading them again takes no thread to wait on.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_store::{Row, RowKind};

/// Rows of a generation: when the young one has as many, the old one is forgotten.
const GENERATION: usize = 4_096;
/// The longest body that is kept, in bytes.
const BODY_MAX: usize = 16 << 10;

/// What names a row.
pub(crate) type Name = (RowKind, String);

/// Rows by name; that there is none is known as well. Clones share them.
///
/// Whoever tells it of a row holds the connection, so that nothing older comes after something newer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    /// The file's version, as others have moved it, that all of this is of.
    version: i64,
    young: HashMap<Name, Option<Row>>,
    old: HashMap<Name, Option<Row>>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row, or that there is none, as of the file's `version`; nothing where that is not known.
    pub(crate) fn get(&self, name: &Name, version: i64) -> Option<Option<Row>> {
        let mut all = self.lock();
        if all.version != version {
            *all = Generations { version, ..Generations::default() };
            return None;
        }
        if let Some(row) = all.young.get(name) {
            return Some(row.clone());
        }
        let row = all.old.remove(name)?;
        all.put(name.clone(), row.clone());
        Some(row)
    }

    /// What the file says of a row now.
    pub(crate) fn put(&self, name: Name, row: Option<Row>) {
        self.lock().put(name, row);
    }

    /// Forgets everything, where rows may be others now.
    pub(crate) fn clear(&self) {
        let mut all = self.lock();
        *all = Generations { version: all.version, ..Generations::default() };
    }
}

impl Generations {
    fn put(&mut self, name: Name, row: Option<Row>) {
        self.old.remove(&name);
        if row.as_ref().is_some_and(|row| row.body.len() > BODY_MAX) {
            self.young.remove(&name);
            return;
        }
        self.young.insert(name, row);
        if self.young.len() >= GENERATION {
            self.old = take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use bartizan_model::Tenant;

    use super::*;

    fn name(number: usize) -> Name {
        (RowKind::Session, number.to_string())
    }

    fn row(number: usize, body: String) -> Row {
        Row {
            tenant: Tenant::default_tenant(),
            kind: RowKind::Session,
            id: number.to_string(),
            owner: String::new(),
            expires: None,
            version: 1,
            body,
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let known = Known::default();
        assert_eq!(known.get(&name(0), 0), None, "nothing is known, not even that there is none");
        known.put(name(0), Some(row(0, "kept".to_owned())));
        known.put(name(1), None);
        for number in 2..4 * GENERATION {
            known.put(name(number), None);
            assert_eq!(known.get(&name(0), 0).unwrap().unwrap().body, "kept");
        }
        assert_eq!(known.get(&name(1), 0), None);
        let all = known.lock();
        assert!(all.young.len() + all.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn the_newest_word_counts_also_where_it_is_too_long_to_keep() {
        let known = Known::default();
        for number in 0..GENERATION {
            known.put(name(number), Some(row(number, "old".to_owned())));
        }
        known.put(name(0), Some(row(0, "new".to_owned())));
        assert_eq!(known.get(&name(0), 0).unwrap().unwrap().body, "new");
        known.put(name(0), Some(row(0, "x".repeat(BODY_MAX + 1))));
        known.put(name(1), Some(row(1, "x".repeat(BODY_MAX + 1))));
        assert_eq!([known.get(&name(0), 0), known.get(&name(1), 0)], [None, None]);
        assert!(known.get(&name(2), 0).is_some());
        assert_eq!(known.get(&name(2), 1), None, "somebody else has written");
        known.put(name(2), None);
        assert_eq!(known.get(&name(2), 1), Some(None));
        known.clear();
        assert_eq!(known.get(&name(2), 1), None);
    }
}
