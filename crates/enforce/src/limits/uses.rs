//! Exact things that were allowed a number of times (RFC 9396): counted before anything leaves, in the counts that all nodes
//! share, by the id that the authority gave the thing. Whichever token names it, and however often that is refreshed or
//! exchanged, it is the same count.

use std::collections::BTreeMap;
use std::time::Duration;

use bartizan_decide::{Permit, Refused};
use bartizan_model::record::VerdictKind;
use bartizan_model::{DetailUse, Operation, ReasonCode, Tenant};
use bartizan_store::{CounterRow, Counters, StoreError, detail_key};

use super::Limiter;
use crate::path::{Gate, Stop};

/// How long a count is kept after nothing can be counted by it any more: longer than clocks of nodes differ.
const KEPT_AFTER: Duration = Duration::from_secs(86_400);

/// Counts each of `uses` once more: all of them, or none where one was used up.
async fn count(counters: &dyn Counters, tenant: &Tenant, uses: &[DetailUse]) -> Result<bool, StoreError> {
    let wanted: Vec<(String, DetailUse)> =
        uses.iter().map(|one| (detail_key(tenant, one.id), *one)).collect();
    let keys = wanted.iter().map(|(key, _)| key.clone()).collect();
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = move |rows: &mut BTreeMap<String, CounterRow>| {
        let mut counted = BTreeMap::new();
        for (key, one) in wanted {
            let used = match rows.get(&key).map(|row| row.body.parse::<u64>()) {
                None => 0,
                Some(Ok(used)) => used,
                // What cannot be read was used up.
                Some(Err(_)) => one.most,
            };
            if used >= one.most {
                tell.send(false).unwrap_or_default();
                return false;
            }
            let expires = one.until.saturating_add(KEPT_AFTER);
            counted.insert(key, CounterRow { body: (used + 1).to_string(), expires });
        }
        rows.extend(counted);
        tell.send(true).unwrap_or_default();
        true
    };
    counters.work(keys, Box::new(work)).await?;
    told.await.map_err(|_| StoreError::Corrupt("a use was not counted".to_owned()))
}

impl Limiter {
    async fn count_uses(&self, tenant: &Tenant, uses: &[DetailUse]) -> Result<bool, StoreError> {
        count(&*self.counters, tenant, uses).await
    }
}

impl Gate {
    /// Counts what the permit says has to be counted. A use that is counted and then not recorded is gone: at most is what was
    /// allowed.
    pub(crate) async fn use_up<O: Operation>(&self, permit: Permit<O>) -> Result<Permit<O>, Stop> {
        if permit.uses().is_empty() {
            return Ok(permit);
        }
        let uses = permit.uses().to_vec();
        let reason = match self.parts.limiter.count_uses(permit.tenant(), &uses).await {
            Ok(true) => return Ok(permit.counted(&uses)),
            Ok(false) => ReasonCode::DetailsUsedUp,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "uses cannot be counted");
                ReasonCode::LimitUnavailable
            }
        };
        let parts = permit.spend();
        let refused = Refused {
            id: parts.id,
            tenant: parts.tenant,
            who: parts.who,
            what: Some(parts.what),
            verdict: VerdictKind::Deny,
            reasons: vec![reason],
            offers: Vec::new(),
            holds: Vec::new(),
            grounds: None,
            discoverable: true,
        };
        Err(self.refuse(refused).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bartizan_base::Timestamp;
    use bartizan_model::DetailId;
    use bartizan_rt::Tasks;
    use bartizan_store::MemoryCounters;

    use super::*;

    fn one(n: u8, most: u64) -> DetailUse {
        let at = Timestamp::from_secs(1_000);
        DetailUse { id: DetailId::from_parts(at, [n; 10]), most, until: at }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_it_is_done_as_often_as_was_allowed() {
        let (counters, tasks) = (Arc::new(MemoryCounters::default()), Tasks::new());
        let all = (0..40).map(|_| {
            let counters = counters.clone();
            tasks.spawn("counts", async move {
                count(&*counters, &Tenant::default_tenant(), &[one(1, 7)]).await.unwrap()
            })
        });
        let mut permitted = 0;
        for task in all.collect::<Vec<_>>() {
            permitted += usize::from(task.await.unwrap());
        }
        assert_eq!(permitted, 7);
    }

    #[tokio::test]
    async fn all_are_counted_or_none_and_each_tenant_and_thing_for_itself() {
        let counters = MemoryCounters::default();
        let (here, there) = (Tenant::default_tenant(), Tenant("other".parse().unwrap()));
        assert!(count(&counters, &here, &[one(1, 1)]).await.unwrap());
        assert!(!count(&counters, &here, &[one(2, 1), one(1, 1)]).await.unwrap());
        assert!(count(&counters, &here, &[one(2, 1)]).await.unwrap(), "nothing of it was counted before");
        assert!(count(&counters, &there, &[one(1, 1)]).await.unwrap());
        // Narrowed to fewer, under the same id.
        assert!(count(&counters, &here, &[one(3, 5)]).await.unwrap());
        assert!(!count(&counters, &here, &[one(3, 1)]).await.unwrap());
        assert!(count(&counters, &here, &[one(3, 5)]).await.unwrap());
    }

    #[tokio::test]
    async fn a_count_that_cannot_be_read_is_used_up_and_one_that_is_kept_outlives_the_thing() {
        let counters = MemoryCounters::default();
        let (tenant, used) = (Tenant::default_tenant(), one(1, 3));
        let key = detail_key(&tenant, used.id);
        let row = CounterRow { body: "many".to_owned(), expires: Timestamp::MAX };
        let put = key.clone();
        counters.work([key].into(), Box::new(move |rows| rows.insert(put, row).is_none())).await.unwrap();
        assert!(!count(&counters, &tenant, &[used]).await.unwrap());
        assert!(count(&counters, &tenant, &[one(2, 1)]).await.unwrap());
        counters.sweep_counters(used.until.saturating_add(Duration::from_secs(3_600)), 10).await.unwrap();
        assert!(
            !count(&counters, &tenant, &[one(2, 1)]).await.unwrap(),
            "nothing is forgotten before its time"
        );
    }
}
