//! Trees without negation.

use crate::test::Atom;

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

/// Adds what is not there yet. Quadratic only while the list is short.
fn add<L: PartialEq>(kept: &mut Vec<Tree<L>>, part: Tree<L>) {
    const COMPARED_MAX: usize = 64;
    if kept.len() > COMPARED_MAX || !kept.contains(&part) {
        kept.push(part);
    }
}
