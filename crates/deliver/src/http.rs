//! Batches by HTTP, signed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use ::http::{Method, Request, StatusCode, Uri};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use bartizan_base::{Clock, Timestamp};
use bartizan_secret::Secret;
use bartizan_upstream::{ExchangePolicy, Upstreams};
use bytes::Bytes;

use crate::batch::{Batch, Cause, DeliverError, Sink};

/// Header: the batch's id, the same whenever it is sent.
pub const DELIVERY_ID: &str = "bartizan-delivery-id";
/// Header: when this try was made, in seconds since 1970.
pub const TIMESTAMP: &str = "bartizan-timestamp";
/// Header: `v1=` and HMAC-SHA256 (RFC 2104) of timestamp, full stop and body, in lower-case hexadecimal digits.
pub const SIGNATURE: &str = "bartizan-signature";

/// The longest time a receiver can ask for, whatever the courier's own bound is.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);
/// The shortest secret: as long as the signature (RFC 2104, section 3).
const SECRET_MIN: usize = 32;

/// Where batches are sent to.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address, without user and query.
    pub url: String,
    /// What the receiver checks signatures with, at least 32 bytes.
    pub secret: Secret<Vec<u8>>,
    /// Whether the address may be private, and may then be `http`.
    pub allow_private: bool,
}

/// The destination is not usable.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// Not an address.
    #[error("the address of the receiver is not well-formed")]
    Address,
    /// Guessable.
    #[error("the secret of the receiver is shorter than 32 bytes")]
    ShortSecret,
}

/// Posts each batch. A status of 2xx is an acknowledgement. A receiver that finds fault with the batch (400, 413, 415, 422)
/// refuses it; every other answer, also a redirect or a missing right, is the receiver's trouble and the batch waits.
pub struct HttpSink {
    uri: Uri,
    key: hmac::Key,
    policy: ExchangePolicy,
    upstreams: Arc<Upstreams>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSink").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl HttpSink {
    /// A sink that leaves by `upstreams`.
    ///
    /// # Errors
    /// [`HttpConfigError`].
    pub fn new(
        config: &HttpConfig,
        upstreams: Arc<Upstreams>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let uri: Uri = config.url.parse().map_err(|_| HttpConfigError::Address)?;
        if uri.authority().is_none() || uri.query().is_some() {
            return Err(HttpConfigError::Address);
        }
        if config.secret.expose().len() < SECRET_MIN {
            return Err(HttpConfigError::ShortSecret);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, config.secret.expose());
        let policy = ExchangePolicy::Webhook { allow_private: config.allow_private };
        Ok(Self { uri, key, policy, upstreams, clock })
    }

    fn request(&self, batch: &Batch) -> Result<Request<Bytes>, http::Error> {
        let timestamp = self.clock.now().as_secs().to_string();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, batch.media_type.as_ref())
            .header(DELIVERY_ID, batch.id().to_string())
            .header(SIGNATURE, sign(&self.key, &timestamp, &batch.body))
            .body(batch.body.clone())?;
        request.headers_mut().insert(TIMESTAMP, HeaderValue::try_from(timestamp)?);
        Ok(request)
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        let request = self.request(batch).map_err(|e| DeliverError::refused(Cause::chain(&e)))?;
        let answer = self.upstreams.exchange(self.policy, request).await;
        let answer = answer.map_err(|error| DeliverError::retry(Cause::chain(&error)))?;
        judge(answer.status(), answer.headers(), self.clock.now())
    }
}

fn sign(key: &hmac::Key, timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = String::from("v1=");
    for byte in context.sign().as_ref() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 0xf), 16).unwrap_or('0'));
    }
    text
}

fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Result<(), DeliverError> {
    let cause = Cause::new(format_args!("the receiver answered with status {}", status.as_u16()));
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Err(DeliverError::Refused { cause }),
        _ => Err(DeliverError::Retry { after: retry_after(headers, now), cause }),
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.saturating_since(now),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// An IMF-fixdate (RFC 9110, 5.6.7), such as `Fri, 20 Nov 2026 08:00:00 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let zone = parts.next()? == "GMT" && parts.next().is_none();
    zone.then(|| Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_hmac_of_timestamp_and_body() {
        // Computed with Python's `hmac`.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        let signed = sign(&key, "1795161600", b"{\"n\":0}\n");
        assert_eq!(signed, "v1=a7d09ccb8ad486607daef2e8d11f82237cf3db40cc84f6c7ffe7f4528d04b867");
        assert_ne!(signed, sign(&key, "1795161601", b"{\"n\":0}\n"));
        assert_ne!(signed, sign(&key, "1795161600", b"{\"n\":0} \n"));
    }

    #[test]
    fn faults_of_the_batch_are_refusals_and_all_others_wait() {
        let judged =
            |status| judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), Timestamp::from_secs(0));
        for status in [200, 201, 202, 204] {
            assert_eq!(judged(status), Ok(()));
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(judged(status), Err(DeliverError::Refused { .. })), "{status}");
        }
        for status in [301, 302, 307, 308, 401, 403, 404, 405, 408, 410, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(status), Err(DeliverError::Retry { .. })), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_bounded() {
        let now = Timestamp::parse_rfc3339("2026-11-20T07:59:00Z").unwrap();
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Fri, 20 Nov 2026 08:00:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Fri, 20 Nov 2020 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999"), Some(RETRY_AFTER_MAX));
        for bad in ["", "-1", "soon", "Fri, 20 Foo 2026 08:00:00 GMT", "Fri, 20 Nov 2026 08:00:00 CET"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
