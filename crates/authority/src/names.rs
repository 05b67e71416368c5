//! Names that may be given to somebody new by another system's word.

use bartizan_base::Name;
use bartizan_control::View;
use bartizan_model::{EntityRef, Tenant};

/// Why a name may not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfree {
    /// Somebody or something has it, or one that could be taken for it; perhaps somebody who is gone for good.
    Taken,
    /// Somebody had it before: names in policies and keys outlive whoever bore them.
    Before,
    /// Policy speaks of it: whoever is made must not thereby come to what it says.
    Spoken,
}

/// Whether a name of that entity type may be given to somebody new.
pub(crate) fn free(view: &View, tenant: &Tenant, kind: &'static str, name: &Name) -> Result<(), Unfree> {
    // People and groups are declared under their type's name, in lower case.
    let (index, declared) = (&view.state.index, kind.to_ascii_lowercase());
    if index.alike(tenant, &declared, name).next().is_some() {
        return Err(Unfree::Taken);
    }
    if index.was_marked(tenant, &format!("{declared}/{name}")) {
        return Err(Unfree::Before);
    }
    unspoken(view, kind, name)
}

/// Whether no policy speaks of a name.
pub(crate) fn unspoken(view: &View, kind: &'static str, name: &Name) -> Result<(), Unfree> {
    let what = EntityRef::new(Name::literal(kind), name.clone());
    let speaks = |policy: &bartizan_decide::Snapshot| policy.bundle().is_some_and(|b| b.names(&what));
    if speaks(&view.policy) || speaks(&view.deciding) { Err(Unfree::Spoken) } else { Ok(()) }
}
