//! Under which conditions: the situation of an ask.

use std::net::IpAddr;

use bartizan_base::{Text, Timestamp};
use bartizan_model::{Problem, ReasonCode, RunName, Situation};
use http::HeaderMap;

use crate::session::untrusted;

/// The header in which a caller states a purpose.
pub(crate) const PURPOSE: &str = "x-bartizan-purpose";

/// The header in which a caller names the run that an ask belongs to.
pub(crate) const RUN: &str = "x-bartizan-run";

/// The run that a request names.
pub(crate) fn run(headers: &HeaderMap) -> Result<Option<RunName>, Problem> {
    let mut named = headers.get_all(RUN).iter();
    let run = match (named.next(), named.next()) {
        (None, _) => return Ok(None),
        (Some(one), None) => {
            one.to_str().ok().filter(|text| !text.trim().is_empty()).and_then(|text| text.parse().ok())
        }
        (Some(_), Some(_)) => None,
    };
    let wrong = || {
        Problem::with_detail(
            ReasonCode::HeaderInvalid,
            format!("`{RUN}` is one visible ASCII text of at most 128 characters"),
        )
    };
    run.map(Some).ok_or_else(wrong)
}

/// The situation of a request.
///
/// What has entered the session is not known here: a prompt of unknown origin is untrusted.
pub(crate) fn assess(
    now: Timestamp,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Situation, Problem> {
    let mut stated = headers.get_all(PURPOSE).iter();
    let purpose: Option<Text<500>> = match (stated.next(), stated.next()) {
        (None, _) => None,
        (Some(one), None) => {
            let text =
                one.to_str().ok().map(str::trim).filter(|t| !t.is_empty()).and_then(|t| t.parse().ok());
            Some(text.ok_or_else(|| {
                Problem::with_detail(
                    ReasonCode::HeaderInvalid,
                    format!("`{PURPOSE}` is visible ASCII text of at most 500 characters"),
                )
            })?)
        }
        (Some(_), Some(_)) => {
            return Err(Problem::with_detail(ReasonCode::HeaderInvalid, format!("`{PURPOSE}` stands twice")));
        }
    };
    Ok(Situation { network: peer, purpose, session: untrusted(), ..Situation::at(now) })
}
