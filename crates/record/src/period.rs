//! Which log a record belongs to: one a tenant and quarter; the operator has one for ever, so that witnesses follow one log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_base::Timestamp;
use bartizan_model::Tenant;
use chrono::{DateTime, Datelike as _, NaiveDate};

/// A quarter of a year in UTC, written `2026q4`; or all of time, written `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period {
    year: u16,
    quarter: u8,
}

impl Period {
    const ALL: Self = Self { year: 0, quarter: 0 };

    pub(crate) fn of(time: Timestamp) -> Self {
        let date = i64::try_from(time.as_micros()).ok().and_then(DateTime::from_timestamp_micros);
        // `Timestamp` ends with the year 9999.
        let (year, quarter) = date.map_or((9_999, 4), |d| (d.year(), d.month0() / 3 + 1));
        Self { year: u16::try_from(year).unwrap_or(9_999), quarter: u8::try_from(quarter).unwrap_or(4) }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::ALL);
        }
        let (year, quarter) = text.split_once('q')?;
        let period = Self { year: year.parse().ok()?, quarter: quarter.parse().ok()? };
        (period.to_string() == text && (1..=4).contains(&period.quarter)).then_some(period)
    }
}

impl Period {
    /// The quarter after this one; all of time has none.
    pub(crate) fn next(self) -> Option<Self> {
        match self.quarter {
            0 => None,
            1..=3 => Some(Self { quarter: self.quarter + 1, ..self }),
            _ => Some(Self { year: self.year.checked_add(1)?, quarter: 1 }),
        }
    }

    /// When the quarter is over: the first moment of the next; none for all of time.
    pub(crate) fn end(self) -> Option<Timestamp> {
        let next = self.next()?;
        let month = u32::from(next.quarter).checked_sub(1)? * 3 + 1;
        let first = NaiveDate::from_ymd_opt(next.year.into(), month, 1)?.and_hms_opt(0, 0, 0)?;
        Some(Timestamp::from_micros(u64::try_from(first.and_utc().timestamp_micros()).ok()?))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        write!(f, "{:04}q{}", self.year, self.quarter)
    }
}

/// Whether the quarter that is written `period` is over at `now`; none for what is no quarter.
#[must_use]
pub fn period_is_over(period: &str, now: Timestamp) -> Option<bool> {
    Some(Period::parse(period)?.end()? <= now)
}

/// One tenant's log of one quarter, or the operator's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogId {
    pub(crate) tenant: Tenant,
    pub(crate) period: Period,
}

impl LogId {
    pub(crate) fn of(tenant: &Tenant, time: Timestamp) -> Self {
        let period = if *tenant == Tenant::operator() { Period::ALL } else { Period::of(time) };
        Self { tenant: tenant.clone(), period }
    }

    /// The operator's log.
    pub(crate) fn operator() -> Self {
        Self { tenant: Tenant::operator(), period: Period::ALL }
    }

    /// The log's name: a URL without scheme.
    pub(crate) fn origin(&self, prefix: &str) -> Arc<str> {
        format!("{prefix}/{}/{}", folder_name(&self.tenant), self.period).into()
    }

    /// The log's folder below `log/`.
    pub(crate) fn folder(&self, logs: &Path) -> PathBuf {
        logs.join(folder_name(&self.tenant)).join(self.period.to_string())
    }
}

/// The names of logs, of which neighbouring records mostly have the same.
#[derive(Debug, Default)]
pub(crate) struct Origins(Option<(Tenant, u64, Arc<str>)>);

impl Origins {
    /// The name of the log of a tenant's record made at `time`, where names begin with `prefix`.
    pub(crate) fn of(&mut self, tenant: &Tenant, time: Timestamp, prefix: &str) -> Arc<str> {
        // No quarter ends within a day.
        let day = time.as_secs() / 86_400;
        match &self.0 {
            Some((known, on, origin)) if *on == day && known == tenant => origin.clone(),
            _ => {
                let origin = LogId::of(tenant, time).origin(prefix);
                self.0 = Some((tenant.clone(), day, origin.clone()));
                origin
            }
        }
    }
}

/// The tenant's name as one part of a path and of a log's name. Names may hold `/`, `..` and `+`; here they may not, or
/// one tenant could reach into another's folder. Different names stay different: `%` is no character of a name.
fn folder_name(tenant: &Tenant) -> String {
    let mut out = String::new();
    for (place, byte) in tenant.0.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && place > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The tenant whose folder is called `name`.
pub(crate) fn tenant_of(name: &str) -> Option<Tenant> {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let tenant = Tenant(std::str::from_utf8(&bytes).ok()?.parse().ok()?);
    (folder_name(&tenant) == name).then_some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn periods_are_quarters_in_utc() {
        let of = |text| Period::of(Timestamp::parse_rfc3339(text).unwrap()).to_string();
        assert_eq!(of("2026-09-30T23:59:59.999Z"), "2026q3");
        assert_eq!(of("2026-10-01T00:00:00Z"), "2026q4");
        assert_eq!(of("2027-01-01T00:30:00+01:00"), "2026q4");
        assert_eq!(Period::parse("2026q4").unwrap().to_string(), "2026q4");
        assert_eq!(Period::parse("all").unwrap().to_string(), "all");
        let (operator, now) = (Tenant::operator(), Timestamp::from_secs(1_795_161_600));
        assert_eq!(&*LogId::of(&operator, now).origin("example.org/log"), "example.org/log/operator/all");
        for bad in ["2026q5", "2026q0", "026q1", "2026", "2026q4.new", "+026q1"] {
            assert_eq!(Period::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quarter_ends_where_the_next_begins() {
        let end = |text| Period::parse(text).unwrap().end().map(|end| end.to_string());
        assert_eq!(end("2026q3").unwrap(), "2026-10-01T00:00:00.000Z");
        assert_eq!(end("2026q4").unwrap(), "2027-01-01T00:00:00.000Z");
        assert_eq!(end("all"), None);
        for text in ["2026q1", "2026q4"] {
            let period = Period::parse(text).unwrap();
            let end = period.end().unwrap();
            assert_eq!(Period::of(Timestamp::from_micros(end.as_micros() - 1)), period);
            assert_eq!(Some(Period::of(end)), period.next());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn inv_tenant_folder_names_are_one_harmless_part_and_tell_tenants_apart(
            a in "[a./%@+:A]{1,6}", b in "[a./@+:A]{1,6}",
        ) {
            let (Ok(a), Ok(b)) = (a.parse().map(Tenant), b.parse().map(Tenant)) else { return Ok(()) };
            let name = folder_name(&a);
            prop_assert!(!name.contains(['/', '+']) && !name.starts_with('.'));
            prop_assert_eq!(tenant_of(&name), Some(a.clone()));
            prop_assert_eq!(a == b, name == folder_name(&b));
        }
    }
}
