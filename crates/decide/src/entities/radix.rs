//! A persistent array: copies share what they have in common, and a change copies one path of it.

use std::sync::Arc;

/// Bits of a key that one level looks at. A change copies a path, and counts a reference to everything beside it, most of
/// which lies in no cache: narrow levels are written much faster than wide ones and read nearly as fast.
const BITS: u32 = 3;
const WIDTH: usize = 1 << BITS;
/// Levels above the leaves with which every key has its place.
const HEIGHT_MAX: u32 = u32::BITS.div_ceil(BITS) - 1;

/// Values by small numbers.
#[derive(Clone, Debug)]
pub(super) struct Radix<T> {
    root: Option<Arc<Level<T>>>,
    /// Levels of branches above the leaves.
    height: u32,
}

#[derive(Clone, Debug)]
enum Level<T> {
    Branch([Option<Arc<Level<T>>>; WIDTH]),
    Leaf([Option<T>; WIDTH]),
}

impl<T> Default for Radix<T> {
    fn default() -> Self {
        Self { root: None, height: 0 }
    }
}

/// Where `key` goes on the level `height` above the leaves.
const fn place(key: u32, height: u32) -> usize {
    (key >> (BITS * height)) as usize & (WIDTH - 1)
}

impl<T: Clone> Radix<T> {
    /// The value at `key`.
    pub(super) fn get(&self, key: u32) -> Option<&T> {
        let mut level = self.root.as_deref()?;
        if self.height < HEIGHT_MAX && key >> (BITS * (self.height + 1)) != 0 {
            return None;
        }
        let mut height = self.height;
        loop {
            match level {
                Level::Branch(children) => level = children.get(place(key, height))?.as_deref()?,
                Level::Leaf(values) => return values.get(place(key, 0))?.as_ref(),
            }
            height = height.saturating_sub(1);
        }
    }

    /// Changes what stands at `key`. Paths that no copy shares are changed in place.
    pub(super) fn update<R>(&mut self, key: u32, change: impl FnOnce(&mut Option<T>) -> R) -> R {
        while self.height < HEIGHT_MAX && key >> (BITS * (self.height + 1)) != 0 {
            self.height += 1;
            if let Some(below) = self.root.take() {
                let mut children = [const { None }; WIDTH];
                if let Some(first) = children.first_mut() {
                    *first = Some(below);
                }
                self.root = Some(Arc::new(Level::Branch(children)));
            }
        }
        let mut slot = &mut self.root;
        let mut height = self.height;
        loop {
            let level = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Level::empty(height))));
            match level {
                Level::Branch(children) => {
                    // `place` is always within the width.
                    slot = match children.get_mut(place(key, height)) {
                        Some(child) => child,
                        None => return change(&mut None),
                    };
                }
                Level::Leaf(values) => {
                    return match values.get_mut(place(key, 0)) {
                        Some(value) => change(value),
                        None => change(&mut None),
                    };
                }
            }
            height = height.saturating_sub(1);
        }
    }

    /// Every value.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut levels: Vec<&Level<T>> = self.root.as_deref().into_iter().collect();
        std::iter::from_fn(move || {
            loop {
                match levels.pop()? {
                    Level::Branch(children) => {
                        levels.extend(children.iter().rev().filter_map(Option::as_deref))
                    }
                    Level::Leaf(values) => return Some(values.iter().flatten()),
                }
            }
        })
        .flatten()
    }
}

impl<T> Level<T> {
    const fn empty(height: u32) -> Self {
        if height == 0 { Self::Leaf([const { None }; WIDTH]) } else { Self::Branch([const { None }; WIDTH]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_copy_stays_as_it_was_whatever_becomes_of_the_other(
            before in prop::collection::vec((prop_oneof![0_u32..100, 0_u32..70_000, any::<u32>()], any::<Option<u8>>()), 0..60),
            after in prop::collection::vec((prop_oneof![0_u32..100, 0_u32..70_000, any::<u32>()], any::<Option<u8>>()), 0..60),
        ) {
            let mut radix = Radix::default();
            let mut model = BTreeMap::new();
            let mut apply = |radix: &mut Radix<u8>, changes: &[(u32, Option<u8>)]| {
                for (key, value) in changes {
                    radix.update(*key, |slot| *slot = *value);
                    match value {
                        Some(value) => drop(model.insert(*key, *value)),
                        None => drop(model.remove(key)),
                    }
                }
                model.clone()
            };
            let first = apply(&mut radix, &before);
            let copy = radix.clone();
            let second = apply(&mut radix, &after);
            for (radix, model) in [(&copy, &first), (&radix, &second)] {
                prop_assert_eq!(radix.iter().copied().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
                for key in before.iter().chain(&after).map(|(key, _)| *key).chain([0, 1, 31, 32, u32::MAX]) {
                    prop_assert_eq!(radix.get(key), model.get(&key));
                }
            }
        }
    }
}
