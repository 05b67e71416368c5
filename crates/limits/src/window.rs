//! Where windows begin and end.

use bartizan_base::Timestamp;
use bartizan_model::LimitSpec;
use bartizan_model::limit::Window;
use chrono::{DateTime, Datelike as _, Duration, NaiveDate, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::counter::Span;

const SECOND_US: u64 = 1_000_000;

/// A time zone has no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no time zone is called `{0}`; write one such as `Europe/Berlin`")]
pub struct NoSuchZone(pub String);

/// The zone that a limit's days begin in.
///
/// # Errors
/// When there is none of that name.
pub fn zone(spec: &LimitSpec) -> Result<Tz, NoSuchZone> {
    let Some(name) = &spec.zone else { return Ok(Tz::UTC) };
    name.parse().map_err(|_| NoSuchZone(name.to_string()))
}

/// The window of a limit that `now` lies in. One whose zone is unknown, which validation refuses, is cut in UTC.
#[must_use]
pub fn span(spec: &LimitSpec, now: Timestamp) -> Span {
    let Some(window) = spec.window else { return Span::Whole };
    let seconds = match window {
        Window::Minute => 60,
        Window::Hour => 3_600,
        Window::Day => 86_400,
        Window::Month => 30 * 86_400,
    };
    if spec.sliding {
        return Span::Sliding { window_us: seconds * SECOND_US };
    }
    let even = || {
        let start = now.as_secs() / seconds * seconds;
        Span::Fixed { start: Timestamp::from_secs(start), end: Timestamp::from_secs(start + seconds) }
    };
    match window {
        Window::Minute | Window::Hour => even(),
        Window::Day | Window::Month => calendar(spec, window, now).unwrap_or_else(even),
    }
}

fn calendar(spec: &LimitSpec, window: Window, now: Timestamp) -> Option<Span> {
    let zone = zone(spec).unwrap_or(Tz::UTC);
    let utc: DateTime<Utc> = DateTime::from_timestamp_micros(i64::try_from(now.as_micros()).ok()?)?;
    let today = utc.with_timezone(&zone).date_naive();
    let (first, next) = if window == Window::Month {
        let first = today.with_day(1)?;
        (first, first.checked_add_months(chrono::Months::new(1))?)
    } else {
        (today, today.succ_opt()?)
    };
    Some(Span::Fixed { start: midnight(zone, first)?, end: midnight(zone, next)? })
}

/// The first moment of a day. Where the clock is put forward over midnight, the day begins when it has been.
fn midnight(zone: Tz, day: NaiveDate) -> Option<Timestamp> {
    let midnight = day.and_hms_opt(0, 0, 0)?;
    let begins = (0..=4).find_map(|halves| {
        zone.from_local_datetime(&(midnight + Duration::minutes(30 * halves))).earliest()
    })?;
    u64::try_from(begins.timestamp_micros()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::limit::Counted;
    use proptest::prelude::*;

    fn spec(window: Window, zone: Option<&str>) -> LimitSpec {
        let mut json = serde_json::json!({"what": "requests", "most": 1, "window": window});
        if let Some(zone) = zone {
            json["zone"] = zone.into();
        }
        let spec: LimitSpec = serde_json::from_value(json).unwrap();
        assert_eq!(spec.what, Counted::Requests);
        spec
    }

    fn cut(window: Window, zone: Option<&str>, now: &str) -> (String, String) {
        match span(&spec(window, zone), Timestamp::parse_rfc3339(now).unwrap()) {
            Span::Fixed { start, end } => (start.to_string(), end.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn days_and_months_begin_where_the_zone_says() {
        let two = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            cut(Window::Day, Some("Europe/Berlin"), "2026-03-28T23:30:00Z"),
            two("2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"),
            "a day of 23 hours"
        );
        assert_eq!(
            cut(Window::Month, None, "2026-12-31T23:59:59Z"),
            two("2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z")
        );
        assert_eq!(
            cut(Window::Minute, None, "2026-12-31T23:59:59Z"),
            two("2026-12-31T23:59:00.000Z", "2027-01-01T00:00:00.000Z")
        );
        assert!(zone(&spec(Window::Day, Some("Mars/Phobos"))).is_err());
        // There was no midnight: the clock went from 23:59:59 to 01:00.
        assert_eq!(
            cut(Window::Day, Some("America/Sao_Paulo"), "2018-11-04T12:00:00Z").0,
            "2018-11-04T03:00:00.000Z"
        );
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_window(secs in 0_u64..5_000_000_000, zone in 0_usize..3, month: bool) {
            let zone = [None, Some("Pacific/Apia"), Some("America/Sao_Paulo")][zone];
            let now = Timestamp::from_secs(secs + 90_000);
            let window = if month { Window::Month } else { Window::Day };
            let Span::Fixed { start, end } = span(&spec(window, zone), now) else { panic!() };
            prop_assert!(start <= now && now < end, "{start} {now} {end}");
            let Span::Fixed { start: next, .. } = span(&spec(window, zone), end) else { panic!() };
            prop_assert_eq!(next, end);
        }
    }
}
