//! Receiving a body: whole, bounded in bytes and time, JSON and nothing else.

use std::time::Duration;

use bartizan_model::{Problem, ReasonCode};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt as _;

/// Receives a JSON body of at most `bytes_max` bytes within `patience`.
pub(crate) async fn receive<B>(
    headers: &HeaderMap,
    body: B,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") || headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::new(ReasonCode::MediaTypeUnsupported));
    }
    let too_large =
        || Problem::with_detail(ReasonCode::BodyTooLarge, format!("at most {bytes_max} bytes are taken"));
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|n| n > bytes_max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(patience, collect(body, bytes_max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(())) => Err(Problem::with_detail(ReasonCode::BodyMalformed, "the body broke off")),
        Err(_) => Err(Problem::new(ReasonCode::BodyTimeout)),
    }
}

/// The whole body; `None` when it grows past the bound.
async fn collect<B>(mut body: B, bytes_max: usize) -> Result<Option<Bytes>, ()>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ())?.into_data() else { continue };
        if first.len() + all.len() + data.len() > bytes_max {
            return Ok(None);
        }
        // Most bodies come in one piece, which then needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(Some(if all.is_empty() { first } else { all.freeze() }))
}
