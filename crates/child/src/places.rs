//! How many there may be at once, in all and of one tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::Tenant;

/// The places that are taken.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<Tenant, usize>>);

/// One of them, taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    tenant: Tenant,
    places: Arc<Places>,
}

impl Places {
    pub(crate) fn taken(&self) -> usize {
        held(&self.0).values().sum()
    }

    /// A place, if there is one.
    pub(crate) fn take(self: &Arc<Self>, tenant: &Tenant, max: usize, of_tenant_max: usize) -> Option<Place> {
        let mut places = held(&self.0);
        let all: usize = places.values().sum();
        let own = places.get(tenant).copied().unwrap_or_default();
        if all >= max || own >= of_tenant_max {
            return None;
        }
        places.insert(tenant.clone(), own + 1);
        drop(places);
        Some(Place { tenant: tenant.clone(), places: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = held(&self.places.0);
        if let Some(count) = places.get_mut(&self.tenant) {
            *count = count.saturating_sub(1);
        }
        places.retain(|_, count| *count > 0);
    }
}

/// What a mutex guards, also after a panic: nothing here is left half done.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bartizan_base::Name;

    use super::*;

    #[test]
    fn a_tenant_does_not_take_the_places_of_the_others() {
        let places = Arc::<Places>::default();
        let [a, b] = ["a", "b"].map(|name| Tenant(Name::literal(name)));
        let taken: Vec<_> = (0..4).map_while(|_| places.take(&a, 3, 2)).collect();
        assert_eq!(taken.len(), 2);
        let other = places.take(&b, 3, 2);
        assert!(other.is_some() && places.take(&b, 3, 2).is_none(), "as many as may be in all");
        drop(taken);
        assert_eq!(places.taken(), 1);
        assert!(places.take(&a, 3, 2).is_some());
    }
}
