//! Fetching what clients publish: through the guarded exit, under a budget, one at a time for an address, kept as long as its
//! headers say within bounds.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Timestamp, json};
use bartizan_upstream::{ExchangePolicy, Upstreams};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};

/// Bounds of a trust bundle.
const BUNDLE_LIMITS: json::Limits = json::Limits { bytes_max: 256 << 10, depth_max: 6, nodes_max: 4_000 };

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A client's document about itself: at most 5 KiB.
    Document,
    /// Keys of a client or issuer: at most 64 KiB.
    Keys,
    /// The keys of a SPIFFE trust domain: at most 256 KiB.
    Bundle,
}

/// What came back, of an answer of status 200 with JSON in it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The body.
    pub body: Bytes,
    /// How long it may be kept, as its headers say; none where they say nothing.
    pub fresh: Option<Duration>,
}

/// Nothing was fetched: the address is not one to go to, does not answer in time, or not with JSON. What exactly, the log
/// says and nobody who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailed {
    /// Nothing usable came back.
    #[error("what the client publishes could not be fetched")]
    Nothing,
    /// More was asked for than is fetched in a minute.
    #[error("too much is being fetched")]
    Budget,
}

/// Fetches, following no redirect, connecting to no address but those that were checked.
pub trait Fetch: Debug + Send + Sync {
    /// Fetches what is at `url`.
    fn fetch<'a>(
        &'a self,
        wanted: Wanted,
        url: &'a str,
        private: bool,
    ) -> BoxFuture<'a, Result<Fetched, FetchFailed>>;
}

impl Fetch for Upstreams {
    fn fetch<'a>(
        &'a self,
        wanted: Wanted,
        url: &'a str,
        private: bool,
    ) -> BoxFuture<'a, Result<Fetched, FetchFailed>> {
        Box::pin(async move {
            let policy = match wanted {
                Wanted::Document => ExchangePolicy::ClientDocument { allow_private: private },
                Wanted::Keys => ExchangePolicy::ClientKeys { allow_private: private },
                Wanted::Bundle => ExchangePolicy::TrustBundle { allow_private: private },
            };
            let request = Request::builder()
                .method(Method::GET)
                .uri(url)
                .header(ACCEPT, HeaderValue::from_static("application/json"))
                .body(Bytes::new())
                .map_err(|_| FetchFailed::Nothing)?;
            let answer = self.exchange(policy, request).await.map_err(|error| {
                tracing::info!(
                    url,
                    error = &error as &dyn std::error::Error,
                    "a client's document was not fetched"
                );
                FetchFailed::Nothing
            })?;
            if answer.status() != StatusCode::OK || !is_json(answer.headers()) {
                return Err(FetchFailed::Nothing);
            }
            let fresh = match wanted {
                Wanted::Bundle => refresh_hint(answer.body()),
                Wanted::Document | Wanted::Keys => freshness(answer.headers()),
            };
            Ok(Fetched { fresh, body: answer.into_body() })
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// How long an answer may be kept (RFC 9111, 5.2).
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let mut directives = text.split(',').map(str::trim);
    if directives.clone().any(|d| matches!(d, "no-store" | "no-cache")) {
        return Some(Duration::ZERO);
    }
    directives.find_map(|d| d.strip_prefix("max-age=")?.parse().ok()).map(Duration::from_secs)
}

/// How soon a trust domain wants to be asked again (SPIFFE Trust Domain and Bundle, 4.1.1): its bundle says it, not its headers.
fn refresh_hint(bundle: &[u8]) -> Option<Duration> {
    let document = json::parse(bundle, BUNDLE_LIMITS).ok()?;
    document.get("spiffe_refresh_hint")?.as_u64().map(Duration::from_secs)
}

/// The longest that anything is kept.
const KEPT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long something is kept that says nothing about it.
const KEPT: Duration = Duration::from_secs(300);
/// The shortest: below it, an address would be asked for every request.
const KEPT_MIN: Duration = Duration::from_secs(10);
/// How many addresses are kept.
const ENTRIES_MAX: usize = 1_000;
/// How many fetches a minute, of all hosts together and of one.
const BUDGET: (u32, u32) = (60, 10);
const MINUTE_US: u64 = 60_000_000;

#[derive(Clone, Debug)]
struct Entry {
    body: Bytes,
    at: Timestamp,
    until: Timestamp,
}

type Slot = Arc<tokio::sync::Mutex<Option<Entry>>>;

/// Fetches and keeps.
#[derive(Debug)]
pub(super) struct Fetches {
    fetch: Arc<dyn Fetch>,
    slots: Mutex<HashMap<(Wanted, String), Slot>>,
    /// Fetches in the present minute: the minute, all of them, by host.
    spent: Mutex<(u64, u32, HashMap<String, u32>)>,
}

impl Fetches {
    pub(super) fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, slots: Mutex::default(), spent: Mutex::default() }
    }

    /// What is at `url`, as it was within its bounds. With `newer`, what was fetched at that moment or before does not do.
    /// Errors are never kept.
    pub(super) async fn get(
        &self,
        wanted: Wanted,
        url: &str,
        private: bool,
        now: Timestamp,
        newer: Option<Timestamp>,
    ) -> Result<Bytes, FetchFailed> {
        let slot = self.slot(wanted, url, now)?;
        // Whoever asks meanwhile waits for the one fetch.
        let mut entry = slot.lock().await;
        if let Some(entry) =
            entry.as_ref().filter(|e| now < e.until && newer.is_none_or(|moment| e.at > moment))
        {
            return Ok(entry.body.clone());
        }
        self.spend(url, now)?;
        let fetched = self.fetch.fetch(wanted, url, private).await?;
        let kept = fetched.fresh.unwrap_or(KEPT).clamp(KEPT_MIN, KEPT_MAX);
        *entry = Some(Entry { body: fetched.body.clone(), at: now, until: now.saturating_add(kept) });
        Ok(fetched.body)
    }

    fn slot(&self, wanted: Wanted, url: &str, now: Timestamp) -> Result<Slot, FetchFailed> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (wanted, url.to_owned());
        if slots.len() >= ENTRIES_MAX && !slots.contains_key(&key) {
            // Those that nobody waits for and that are over, or never came.
            slots.retain(|_, slot| {
                slot.try_lock().map_or(true, |e| e.as_ref().is_some_and(|e| now < e.until))
            });
            if slots.len() >= ENTRIES_MAX {
                return Err(FetchFailed::Budget);
            }
        }
        Ok(slots.entry(key).or_default().clone())
    }

    fn spend(&self, url: &str, now: Timestamp) -> Result<(), FetchFailed> {
        let host = super::redirect::host(url).unwrap_or_default();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_micros() / MINUTE_US;
        if spent.0 != minute {
            *spent = (minute, 0, HashMap::new());
        }
        let of_host = spent.2.get(host).copied().unwrap_or_default();
        if spent.1 >= BUDGET.0 || of_host >= BUDGET.1 {
            return Err(FetchFailed::Budget);
        }
        spent.1 += 1;
        spent.2.insert(host.to_owned(), of_host + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts, and answers with what number it was; fails for addresses that say so.
    #[derive(Debug, Default)]
    struct Counting(AtomicU32, Option<Duration>);

    impl Fetch for Counting {
        fn fetch<'a>(
            &'a self,
            _: Wanted,
            url: &'a str,
            _: bool,
        ) -> BoxFuture<'a, Result<Fetched, FetchFailed>> {
            Box::pin(async move {
                let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                if url.ends_with("fails") {
                    return Err(FetchFailed::Nothing);
                }
                Ok(Fetched { body: Bytes::from(count.to_string()), fresh: self.1 })
            })
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 * 60 + seconds)
    }

    async fn get(fetches: &Fetches, url: &str, second: u64) -> Result<Bytes, FetchFailed> {
        fetches.get(Wanted::Document, url, false, at(second), None).await
    }

    #[tokio::test]
    async fn attack_37_many_who_ask_at_once_are_one_fetch_and_what_came_is_kept() {
        let counting = Arc::new(Counting::default());
        let fetches = Fetches::new(counting.clone());
        let asks = (0..50).map(|_| get(&fetches, "https://a.example/c", 0));
        let answers = futures_util::future::join_all(asks).await;
        assert!(answers.iter().all(|a| a.as_deref().ok() == Some(b"1")));
        assert_eq!(get(&fetches, "https://a.example/c", 299).await.unwrap(), "1");
        assert_eq!(get(&fetches, "https://a.example/c", 301).await.unwrap(), "2");
    }

    #[tokio::test]
    async fn attack_37_one_host_and_all_together_have_a_budget() {
        let counting = Arc::new(Counting::default());
        let fetches = Fetches::new(counting.clone());
        for number in 0..200 {
            drop(get(&fetches, &format!("https://a.example/{number}"), 0).await);
        }
        assert_eq!(counting.0.load(Ordering::SeqCst), BUDGET.1);
        for number in 0..200 {
            drop(get(&fetches, &format!("https://h{number}.example/c"), 0).await);
        }
        assert_eq!(counting.0.load(Ordering::SeqCst), BUDGET.0);
        assert_eq!(get(&fetches, "https://new.example/c", 59).await, Err(FetchFailed::Budget));
        assert!(get(&fetches, "https://new.example/c", 60).await.is_ok());
    }

    #[tokio::test]
    async fn attack_34_a_failure_is_never_kept_and_headers_count_within_bounds() {
        let fetches = Fetches::new(Arc::new(Counting(AtomicU32::new(0), Some(Duration::ZERO))));
        for _ in 0..2 {
            assert_eq!(get(&fetches, "https://a.example/fails", 0).await, Err(FetchFailed::Nothing));
        }
        assert_eq!(get(&fetches, "https://a.example/c", 0).await.unwrap(), "3");
        assert_eq!(get(&fetches, "https://a.example/c", 9).await.unwrap(), "3");
        assert_eq!(get(&fetches, "https://a.example/c", 11).await.unwrap(), "4");
        let headers =
            |value: &'static str| HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))]);
        assert_eq!(freshness(&headers("public, max-age=90")), Some(Duration::from_secs(90)));
        assert_eq!(freshness(&headers("max-age=90, no-store")), Some(Duration::ZERO));
        assert_eq!(freshness(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn keys_that_must_be_newer_are_fetched_again_but_not_without_end() {
        let fetches = Fetches::new(Arc::new(Counting::default()));
        let first = fetches.get(Wanted::Keys, "https://a.example/k", false, at(0), None).await.unwrap();
        let newer =
            fetches.get(Wanted::Keys, "https://a.example/k", false, at(1), Some(at(0))).await.unwrap();
        assert_eq!((&first[..], &newer[..]), (&b"1"[..], &b"2"[..]));
        let same = fetches.get(Wanted::Keys, "https://a.example/k", false, at(2), Some(at(0))).await.unwrap();
        assert_eq!(same, newer);
    }

    #[test]
    fn only_json_is_taken() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/cimd+json"] {
            assert!(is_json(&headers(good)), "{good}");
        }
        for bad in ["text/html", "text/plain", "application/jsonp", "image/x+json"] {
            assert!(!is_json(&headers(bad)), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
