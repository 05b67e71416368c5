//! A map in shards.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Entries of a shard, on average, before there are more shards.
const SHARD: usize = 32;
/// Shards at the most.
const SHARDS_MAX: usize = 1 << 10;

type Shard<K, V> = Arc<HashTable<(K, V)>>;

/// A map. A copy costs nothing, a change about a hundred entries, and looking something up hashes once. Keys and values are
/// copied with their shard, so they are best small or behind an [`Arc`].
#[derive(Clone)]
pub struct Map<K, V, S = RandomState> {
    /// A power of two of them, and never none.
    shards: Arc<[Shard<K, V>]>,
    hasher: S,
    len: usize,
}

impl<K, V, S: Default> Default for Map<K, V, S> {
    fn default() -> Self {
        Self { shards: Arc::new([Arc::default()]), hasher: S::default(), len: 0 }
    }
}

/// Tables look at the upper and lower bits of a hash; these are between them.
const fn place(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize & (shards - 1)
}

impl<K, V, S: BuildHasher> Map<K, V, S> {
    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key, |known| known.borrow() == key)
    }

    /// The value of a key that hashes like `like` and that `is` says yes to: to look up by borrowed parts of a key.
    #[must_use]
    pub fn find<Q: Hash + ?Sized>(&self, like: &Q, is: impl Fn(&K) -> bool) -> Option<&V> {
        let hash = self.hasher.hash_one(like);
        let shard = self.shards.get(place(hash, self.shards.len()))?;
        shard.find(hash, |(key, _)| is(key)).map(|(_, value)| value)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }
}

impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher> Map<K, V, S> {
    /// Puts a value, and gives the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.len >= self.shards.len() * SHARD && self.shards.len() < SHARDS_MAX {
            self.spread();
        }
        let (hash, hasher) = (self.hasher.hash_one(&key), &self.hasher);
        let at = place(hash, self.shards.len());
        let shard = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?);
        match shard.entry(hash, |(known, _)| *known == key, |(known, _)| hasher.hash_one(known)) {
            Entry::Occupied(mut there) => Some(mem::replace(&mut there.get_mut().1, value)),
            Entry::Vacant(free) => {
                free.insert((key, value));
                self.len += 1;
                None
            }
        }
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // What is not there copies nothing.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let at = place(hash, self.shards.len());
        let shard = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?);
        shard.find_mut(hash, |(known, _)| known.borrow() == key).map(|(_, value)| value)
    }

    /// Takes an entry away, and gives its value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // What is not there copies nothing.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let at = place(hash, self.shards.len());
        let shard = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?);
        let there = shard.find_entry(hash, |(known, _)| known.borrow() == key).ok()?;
        self.len -= 1;
        Some(there.remove().0.1)
    }

    /// Twice as many shards.
    fn spread(&mut self) {
        let many = self.shards.len() * 2;
        let mut shards: Vec<HashTable<(K, V)>> = (0..many).map(|_| HashTable::new()).collect();
        for (key, value) in self.iter() {
            let hash = self.hasher.hash_one(key);
            if let Some(shard) = shards.get_mut(place(hash, many)) {
                let entry = (key.clone(), value.clone());
                shard.insert_unique(hash, entry, |(known, _)| self.hasher.hash_one(known));
            }
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }
}

impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher + Default> FromIterator<(K, V)> for Map<K, V, S> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut out = Self::default();
        for (key, value) in entries {
            out.insert(key, value);
        }
        out
    }
}

impl<K: Hash + Eq, V: PartialEq, S: BuildHasher> PartialEq for Map<K, V, S> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S: BuildHasher> fmt::Debug for Map<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_map_is_a_map_and_copies_stay_as_they_were(
            changes in prop::collection::vec((0_u32..4_000, any::<Option<u8>>()), 0..6_000)
        ) {
            let (mut map, mut model) = (Map::<u32, u8>::default(), HashMap::new());
            let mut copies = Vec::new();
            for (n, (key, value)) in changes.into_iter().enumerate() {
                match value {
                    Some(value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    None if key % 2 == 0 => {
                        let (here, there) = (map.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(here.as_deref(), there.as_deref());
                        here.into_iter().chain(there).for_each(|value| *value = value.wrapping_add(1));
                    }
                    None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                }
                if n % 1_000 == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            copies.push((map, model));
            for (map, model) in &copies {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.is_empty(), model.is_empty());
                prop_assert!(map.iter().all(|(key, value)| model.get(key) == Some(value)));
                prop_assert!((0..4_000).all(|key| map.get(&key) == model.get(&key)));
                let again: Map<u32, u8> = model.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert!(*map == again);
            }
        }
    }

    #[test]
    fn a_key_is_found_by_its_parts() {
        let map: Map<Arc<(String, u8)>, u8> = (0..99).map(|n| (Arc::new((n.to_string(), n)), n)).collect();
        let by = |text: &str, n: u8| map.find(&(text, n), |key| key.0 == text && key.1 == n).copied();
        assert_eq!((by("7", 7), by("98", 98), by("7", 8)), (Some(7), Some(98), None));
    }
}
