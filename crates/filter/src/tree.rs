//! Trees without negation.

use std::collections::BTreeSet;

use crate::test::{Atom, Check, What};
use crate::value::{Entity, Field, Value};

/// What a caller may see, as a tree of tests over a row.
pub type Filter = Tree<Atom>;

/// A condition without negation over leaves. Made by [`Tree::all`] and [`Tree::any`] it is flat and free of constants below
/// its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree<L> {
    /// Every row.
    Always,
    /// No row.
    Never,
    /// What the leaf says.
    Leaf(L),
    /// The rows that match all.
    All(Vec<Self>),
    /// The rows that match any.
    Any(Vec<Self>),
}

impl<L: PartialEq> Tree<L> {
    /// The rows that match all of `parts`; every row for none.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(inner) => inner.into_iter().for_each(|part| add(&mut kept, part)),
                part @ (Self::Leaf(_) | Self::Any(_)) => add(&mut kept, part),
            }
        }
        match kept.len() {
            0 => Self::Always,
            1 => kept.pop().unwrap_or(Self::Never),
            _ => Self::All(kept),
        }
    }

    /// The rows that match any of `parts`; no row for none.
    #[must_use]
    pub fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::Any(inner) => inner.into_iter().for_each(|part| add(&mut kept, part)),
                part @ (Self::Leaf(_) | Self::All(_)) => add(&mut kept, part),
            }
        }
        match kept.len() {
            0 => Self::Never,
            1 => kept.pop().unwrap_or(Self::Never),
            _ => Self::Any(kept),
        }
    }

    /// The leaves, from the left.
    #[must_use]
    pub fn leaves(&self) -> Vec<&L> {
        let mut out = Vec::new();
        let mut left = vec![self];
        while let Some(tree) = left.pop() {
            match tree {
                Self::Always | Self::Never => {}
                Self::Leaf(leaf) => out.push(leaf),
                Self::All(parts) | Self::Any(parts) => left.extend(parts.iter().rev()),
            }
        }
        out
    }

    /// The tree with every leaf replaced by what `replace` makes of it.
    pub fn try_map<M: PartialEq, E>(
        &self,
        replace: &mut impl FnMut(&L) -> Result<Tree<M>, E>,
    ) -> Result<Tree<M>, E> {
        Ok(match self {
            Self::Always => Tree::Always,
            Self::Never => Tree::Never,
            Self::Leaf(leaf) => replace(leaf)?,
            Self::All(parts) => {
                Tree::all(parts.iter().map(|part| part.try_map(replace)).collect::<Result<Vec<_>, _>>()?)
            }
            Self::Any(parts) => {
                Tree::any(parts.iter().map(|part| part.try_map(replace)).collect::<Result<Vec<_>, _>>()?)
            }
        })
    }
}

impl Filter {
    /// The filter for rows that all lie in `above` and in nothing else, such as those of one table with everything that it lies in:
    /// what is asked about their ancestors is answered here.
    #[must_use]
    pub fn of_rows_in(&self, above: &BTreeSet<Entity>) -> Self {
        let lies = |value: &Value| matches!(value, Value::Entity(entity) if above.contains(entity));
        let known = |atom: &Atom| {
            let What::Test { field: Field::Ancestors, check } = &atom.what else { return None };
            Some(match check {
                Check::Present => true,
                Check::Absent => false,
                Check::HoldsAny(values) => values.iter().any(lies),
                Check::HoldsNone(values) => !values.iter().any(lies),
                Check::HoldsAll(values) => values.iter().all(lies),
                Check::LacksOne(values) => !values.iter().all(lies),
                _ => return None,
            })
        };
        let answered = self.try_map(&mut |atom: &Atom| {
            Ok::<_, std::convert::Infallible>(match known(atom) {
                Some(true) => Tree::Always,
                Some(false) => Tree::Never,
                None => Tree::Leaf(atom.clone()),
            })
        });
        let Ok(answered) = answered;
        answered
    }
}

/// Adds what is not there yet. Quadratic only while the list is short.
fn add<L: PartialEq>(kept: &mut Vec<Tree<L>>, part: Tree<L>) {
    const COMPARED_MAX: usize = 64;
    if kept.len() > COMPARED_MAX || !kept.contains(&part) {
        kept.push(part);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_asked_about_the_place_of_rows_is_answered_where_the_place_is_known() {
        let entity = |id: &str| Entity { kind: "Table".to_owned(), id: id.to_owned() };
        let asked = |field: Field, check: Check| {
            Tree::Leaf(Atom { rule: Arc::from("r"), what: What::Test { field, check } })
        };
        let list = |ids: &[&str]| ids.iter().map(|id| Value::Entity(entity(id))).collect::<Vec<_>>();
        let above: BTreeSet<Entity> = [entity("here"), entity("around")].into();
        for (check, holds) in [
            (Check::Present, true),
            (Check::Absent, false),
            (Check::HoldsAny(list(&["there", "around"])), true),
            (Check::HoldsAny(list(&["there"])), false),
            (Check::HoldsAny(list(&[])), false),
            (Check::HoldsNone(list(&["there"])), true),
            (Check::HoldsNone(list(&["here", "there"])), false),
            (Check::HoldsAll(list(&["here", "around"])), true),
            (Check::HoldsAll(list(&["here", "there"])), false),
            (Check::LacksOne(list(&["here", "there"])), true),
            (Check::LacksOne(list(&["here"])), false),
        ] {
            let known = asked(Field::Ancestors, check.clone()).of_rows_in(&above);
            assert_eq!(known, if holds { Tree::Always } else { Tree::Never }, "{check:?}");
            // What is asked of the row itself stays.
            let own = asked(Field::Attribute(vec!["a".to_owned()]), check);
            assert_eq!(own.of_rows_in(&above), own);
            let both = Tree::all([own.clone(), asked(Field::Ancestors, Check::HoldsAny(list(&["there"])))]);
            assert_eq!(both.of_rows_in(&above), Tree::Never);
        }
    }
}
