//! What every backend must do. Each function is one behaviour, run against an empty database of its own;
//! [`conformance_tests!`](crate::conformance_tests) makes tests of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this module is a test suite: a failed expectation is a failed test"
)]

#[expect(missing_docs, reason = "the names of the functions are their documentation")]
mod cases;
mod counters;
#[expect(missing_docs, reason = "the names of the functions are their documentation")]
mod feed;
#[expect(missing_docs, reason = "the names of the functions are their documentation")]
mod labels;
mod random;
mod rows;

use std::future::Future;

use bartizan_model::{DecisionId, Tenant};

use crate::{Change, Checkpoints, Entrance, Marks, Rows, State, Store, StoreError, Warrant};

pub use cases::*;
pub use counters::{
    counts_that_are_over_are_swept, lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step,
};
pub use feed::{
    a_change_set_that_is_refused_is_no_step, a_step_that_is_too_long_is_loaded_whole,
    attack_13_a_history_that_is_another_is_not_followed, what_is_followed_is_what_is_loaded,
    what_is_not_loaded_is_not_followed,
};
pub use labels::{
    inv_label_goes_down_by_a_recorded_endorsement_alone,
    inv_label_is_of_one_house_and_lasts_while_it_is_used, inv_label_joins_of_two_nodes_at_once_lose_nothing,
};
pub use random::random_operations_match_the_model;

/// Where a backend's databases come from.
pub trait World: Send + Sync {
    /// What names one database: a path, a URL.
    type Place: Send + Sync;
    /// The backend.
    type Store: Store<TestWarrant> + Rows + Checkpoints + Marks;

    /// A new, empty database.
    fn empty(&self) -> impl Future<Output = Self::Place> + Send;

    /// Opens a database, also for the second time, also while it is open elsewhere.
    fn open(&self, place: &Self::Place) -> impl Future<Output = Self::Store> + Send;
}

/// A warrant that anybody can make.
#[derive(Clone, Debug)]
pub struct TestWarrant(Tenant, DecisionId);

impl TestWarrant {
    /// Leave to change the state of `tenant`.
    #[must_use]
    pub fn of(tenant: &Tenant) -> Self {
        Self(tenant.clone(), DecisionId::from_parts(bartizan_base::Timestamp::from_secs(1), [0; 10]))
    }
}

impl Entrance for TestWarrant {
    fn tenant(&self) -> &Tenant {
        &self.0
    }

    fn decision(&self) -> DecisionId {
        self.1
    }
}

impl Warrant for TestWarrant {
    fn tenant(&self) -> &Tenant {
        &self.0
    }

    fn decision(&self) -> DecisionId {
        self.1
    }
}

/// A founded store at revision 1.
async fn founded<W: World>(world: &W) -> (W::Place, W::Store) {
    let place = world.empty().await;
    let store = world.open(&place).await;
    store.found(rows::founding()).await.unwrap();
    (place, store)
}

async fn apply(
    store: &impl Store<TestWarrant>,
    tenant: &Tenant,
    changes: Vec<Change>,
) -> Result<u64, StoreError> {
    store.apply(&TestWarrant::of(tenant), changes).await
}

/// The change set is refused as a conflict and leaves no trace.
async fn refuses(store: &impl Store<TestWarrant>, tenant: &Tenant, changes: Vec<Change>) {
    let before: State = store.load().await.unwrap();
    let result = apply(store, tenant, changes).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(store.load().await.unwrap(), before, "a refused change set left something behind");
}

/// Makes a `#[tokio::test]` of every behaviour that a backend must have. The argument is an expression of a type that
/// implements [`World`](crate::conformance::World), evaluated once a test.
#[macro_export]
macro_rules! conformance_tests {
    ($world:expr) => {
        $crate::conformance_tests! { @each $world;
            an_empty_database_is_at_revision_zero_and_takes_no_changes
            founding_happens_once
            founding_brings_the_first_documents_and_the_first_bundle
            founding_by_two_at_once_succeeds_for_one
            every_kind_of_row_survives_reopening
            a_change_set_with_one_conflict_changes_nothing
            a_change_set_sees_its_own_earlier_changes
            every_change_set_moves_the_revision_by_one
            a_document_put_on_a_stale_revision_is_refused
            a_document_deleted_on_a_stale_revision_is_refused
            concurrent_puts_on_one_revision_succeed_once
            concurrent_change_sets_apply_one_after_the_other
            a_load_sees_one_revision
            inv_tenant_rows_of_another_tenant_are_refused
            inv_tenant_equal_names_in_two_tenants_are_two_things
            a_key_with_a_known_id_handle_or_digest_is_refused
            revoking_a_key_keeps_the_earlier_end
            shortening_a_key_never_lengthens_it
            touching_a_key_is_monotonic_and_keeps_the_revision
            an_epoch_never_goes_back
            a_bundle_follows_the_one_in_force
            every_bundle_that_was_in_force_is_kept
            a_claim_is_used_once
            a_claim_that_ran_out_or_is_another_is_refused
            concurrent_uses_of_a_claim_succeed_once
            rows_are_found_by_id_and_by_whom_they_belong_to
            a_row_changes_only_from_the_version_that_was_read
            a_row_is_used_once_by_however_many
            a_new_row_is_put_by_one_of_however_many
            rows_and_the_state_change_together_or_not_at_all
            rows_move_the_revision_only_where_every_node_holds_them
            rows_that_are_over_are_swept_and_no_others
            inv_label_joins_of_two_nodes_at_once_lose_nothing
            inv_label_goes_down_by_a_recorded_endorsement_alone
            inv_label_is_of_one_house_and_lasts_while_it_is_used
            a_row_without_an_id_or_beyond_its_bounds_is_refused
            inv_tenant_a_row_of_another_tenant_is_neither_replaced_nor_removed
            a_loaded_state_is_in_order
            what_is_followed_is_what_is_loaded
            what_is_not_loaded_is_not_followed
            a_change_set_that_is_refused_is_no_step
            a_step_that_is_too_long_is_loaded_whole
            attack_13_a_history_that_is_another_is_not_followed
            inv_ack_a_checkpoint_moves_only_from_the_latest
            inv_ack_a_checkpoint_never_shrinks_or_changes_its_root
            inv_ack_concurrent_swaps_succeed_once
        }
    };
    (@each $world:expr; $($case:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$case(&$world).await;
        })+
    };
}
