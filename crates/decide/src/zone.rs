//! Time zones: a bundle says in which one its rules speak of hours and days.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use chrono_tz::Tz;

/// A zone of the IANA database that is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone(Tz);

impl Zone {
    /// Where nobody said.
    pub(crate) const UTC: Self = Self(Tz::UTC);

    pub(crate) fn name(self) -> &'static str {
        self.0.name()
    }

    /// How far its clocks are ahead of UTC at a moment, in seconds. Part of the recorded conditions, so that a decision can be
    /// evaluated again after the zone's rules have changed.
    pub(crate) fn offset_s(self, epoch_s: u64) -> Option<i32> {
        let utc = moment(epoch_s, 0)?;
        Some(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = name.parse().map(Self);
        known.map_err(|_| format!("`{}` is not a time zone", name.escape_debug()))
    }
}

/// What clocks show at a moment that are so far ahead of UTC.
pub(crate) fn moment(epoch_s: u64, offset_s: i32) -> Option<NaiveDateTime> {
    let utc = DateTime::from_timestamp(i64::try_from(epoch_s).ok()?, 0)?.naive_utc();
    utc.checked_add_signed(TimeDelta::seconds(offset_s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_summer_and_an_unknown_one_is_refused() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(berlin.offset_s(1_767_225_600), Some(3_600)); // 2026-01-01
        assert_eq!(berlin.offset_s(1_782_864_000), Some(7_200)); // 2026-07-01
        assert_eq!(Zone::UTC.offset_s(1_782_864_000), Some(0));
        // The second before and the second of the change, 2026-03-29T01:00:00Z.
        assert_eq!(
            (berlin.offset_s(1_774_745_999), berlin.offset_s(1_774_746_000)),
            (Some(3_600), Some(7_200))
        );
        for bad in ["", "Europe/Atlantis", "europe/berlin", "UTC+1", "../etc/passwd", "Europe/Berlin\0"] {
            assert!(bad.parse::<Zone>().unwrap_err().contains("is not a time zone"), "{bad}");
        }
        assert_eq!(Zone::UTC.offset_s(u64::MAX), None);
    }
}
