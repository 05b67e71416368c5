//! What was in force, until nobody needs it any more. Whoever lets go of it last frees all of it, rules and entities by the
//! thousand; without this that would be some request.

use std::sync::{Arc, Mutex, PoisonError};

/// Things that others may still hold.
#[derive(Debug)]
pub(crate) struct Retired<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Retired<T> {
    /// Holds `thing`, so that nobody else is the last to let go of it.
    pub(crate) fn put(&self, thing: Arc<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }

    /// Hands out what nobody else holds any more, to be freed where it disturbs nobody.
    pub(crate) fn unused(&self) -> Vec<Arc<T>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *held);
        // Nobody can get hold of one again of which this is the only holder.
        let (unused, used) = all.into_iter().partition(|thing| Arc::strong_count(thing) == 1);
        *held = used;
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_handed_out_once_and_not_before_its_last_user_has_let_go() {
        let retired = Retired::default();
        let (one, other) = (Arc::new(1), Arc::new(2));
        let (user, weak) = (one.clone(), Arc::downgrade(&one));
        retired.put(one);
        retired.put(other);
        assert_eq!(retired.unused().iter().map(|n| **n).collect::<Vec<_>>(), [2]);
        assert!(retired.unused().is_empty());
        drop(user);
        assert!(weak.upgrade().is_some(), "its last user did not free it");
        assert_eq!(retired.unused().len(), 1);
        assert!(weak.upgrade().is_none() && retired.unused().is_empty());
    }
}
