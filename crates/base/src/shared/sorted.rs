//! A list in order, in chunks.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Items of a chunk before it is split.
const CHUNK_MAX: usize = 128;

type Chunk<T> = Arc<Vec<Arc<T>>>;

/// A list that whoever changes it keeps in one order. A copy costs nothing, a change one chunk of pointers.
pub struct Sorted<T> {
    /// None of them is empty.
    chunks: Arc<Vec<Chunk<T>>>,
    len: usize,
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<T> Sorted<T> {
    /// How many items there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|item| &**item)
    }

    /// The first item.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// The item that `order` says is [`Ordering::Equal`] to what is sought; it compares an item with that.
    pub fn find(&self, order: impl Fn(&T) -> Ordering) -> Option<&T> {
        let (chunk, at) = self.place(&order).ok()?;
        self.chunks.get(chunk)?.get(at).map(|item| &**item)
    }

    /// The items from the first one on that is not before what is sought: to look at a part of the list.
    pub fn tail(&self, is_before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| is_before(last)));
        let here = self.chunks.get(chunk).map_or(&[][..], |chunk| chunk.as_slice());
        let after = self.chunks.iter().skip(chunk + 1).flat_map(|chunk| chunk.iter());
        here.iter().skip(here.partition_point(|item| is_before(item))).chain(after).map(|item| &**item)
    }

    /// Puts an item in its place, and gives the one that it replaces.
    pub fn put(&mut self, item: T, order: impl Fn(&T, &T) -> Ordering) -> Option<Arc<T>> {
        let place = self.place(&|known: &T| order(known, &item));
        let chunks = Arc::make_mut(&mut self.chunks);
        match place {
            Ok((chunk, at)) => {
                let slot = Arc::make_mut(chunks.get_mut(chunk)?).get_mut(at)?;
                Some(std::mem::replace(slot, Arc::new(item)))
            }
            Err((chunk, at)) => {
                self.len += 1;
                let Some(items) = chunks.get_mut(chunk) else {
                    chunks.push(Arc::new(vec![Arc::new(item)]));
                    return None;
                };
                let items = Arc::make_mut(items);
                items.insert(at, Arc::new(item));
                if items.len() > CHUNK_MAX {
                    let upper = items.split_off(CHUNK_MAX / 2);
                    chunks.insert(chunk + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    /// Takes an item away.
    pub fn remove(&mut self, order: impl Fn(&T) -> Ordering) -> Option<Arc<T>> {
        let (chunk, at) = self.place(&order).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let items = Arc::make_mut(chunks.get_mut(chunk)?);
        let gone = (at < items.len()).then(|| items.remove(at));
        if items.is_empty() {
            chunks.remove(chunk);
        }
        self.len -= usize::from(gone.is_some());
        gone
    }

    /// Brings all items into an order.
    pub fn sort_by(&mut self, order: impl Fn(&T, &T) -> Ordering) {
        let mut all: Vec<Arc<T>> = self.chunks.iter().flat_map(|chunk| chunk.iter().cloned()).collect();
        all.sort_by(|a, b| order(a, b));
        *self = Self::of(&all);
    }

    /// Where an item is, or would be.
    fn place(&self, order: &impl Fn(&T) -> Ordering) -> Result<(usize, usize), (usize, usize)> {
        let before = |chunk: &Chunk<T>| chunk.first().is_some_and(|first| order(first).is_le());
        let chunk = self.chunks.partition_point(before).saturating_sub(1);
        let items = self.chunks.get(chunk).map_or(&[][..], |chunk| chunk.as_slice());
        items.binary_search_by(|item| order(item)).map(|at| (chunk, at)).map_err(|at| (chunk, at))
    }

    fn of(items: &[Arc<T>]) -> Self {
        let len = items.len();
        // Room for some more in each.
        let chunks = items.chunks(CHUNK_MAX * 3 / 4).map(|chunk| Arc::new(chunk.to_vec())).collect();
        Self { chunks: Arc::new(chunks), len }
    }
}

/// In the order in which they come.
impl<T> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<Arc<T>> = items.into_iter().map(Arc::new).collect();
        Self::of(&items)
    }
}

/// In the order in which they stand.
impl<T> From<Vec<T>> for Sorted<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Sorted<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.iter().eq(other)
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_sorted_list_is_in_order_and_copies_stay_as_they_were(
            before in prop::collection::btree_map(0_u32..3_000, any::<u8>(), 0..700),
            changes in prop::collection::vec((0_u32..3_000, any::<Option<u8>>()), 0..3_000),
        ) {
            let mut model: BTreeMap<u32, u8> = before;
            let mut list: Sorted<(u32, u8)> = model.clone().into_iter().collect();
            let mut copies = Vec::new();
            for (n, (key, value)) in changes.into_iter().enumerate() {
                let (was, known) = match value {
                    Some(value) => {
                        (list.put((key, value), |a, b| a.0.cmp(&b.0)), model.insert(key, value))
                    }
                    None => (list.remove(|item| item.0.cmp(&key)), model.remove(&key)),
                };
                prop_assert_eq!(was.map(|item| item.1), known);
                if n % 500 == 0 {
                    copies.push((list.clone(), model.clone()));
                }
            }
            copies.push((list, model));
            for (list, model) in &copies {
                prop_assert!(list.iter().copied().eq(model.iter().map(|(key, value)| (*key, *value))));
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
                for key in [0, 1, 7, 1_500, 2_999, 3_000] {
                    let found = list.find(|item| item.0.cmp(&key)).map(|item| item.1);
                    prop_assert_eq!(found, model.get(&key).copied());
                    let tail = list.tail(|item| item.0 < key).map(|item| item.0);
                    prop_assert!(tail.eq(model.range(key..).map(|(key, _)| *key)));
                }
                let again: Sorted<(u32, u8)> = list.iter().copied().collect();
                prop_assert!(*list == again);
            }
        }
    }

    #[test]
    fn sorting_brings_what_came_anyhow_into_order() {
        let mut list: Sorted<u32> = (0..999).rev().collect();
        list.sort_by(u32::cmp);
        assert!(list.iter().copied().eq(0..999));
        assert_eq!(list.first(), Some(&0));
    }
}
