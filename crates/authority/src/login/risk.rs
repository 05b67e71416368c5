//! How risky a login looks, and why: a pure function of what is known, so that it can be explained and tested.

use std::fmt::Debug;
use std::net::IpAddr;

use bartizan_base::{Name, Timestamp};
use bartizan_model::{Principal, Risk, RiskLevel, Tenant};
use serde::{Deserialize, Serialize};

/// How many networks of somebody are remembered.
const NETWORKS: usize = 20;
/// Faster than airliners, in kilometres an hour.
const FASTEST_KMH: f64 = 1_000.0;
/// What places are known to be wrong by, in kilometres.
const PLACE_ERROR_KM: f64 = 200.0;
/// Logins within an hour that are unusual.
const MANY_LOGINS: usize = 10;
const HOUR_US: u64 = 3_600 * 1_000_000;

/// Where an address is, as far as somebody knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The country, by its two letters (ISO 3166-1).
    pub country: Option<Name>,
    /// Latitude and longitude, in degrees.
    pub coordinates: Option<(f64, f64)>,
}

/// Knows what this house does not: where an address is, and what detectors have found about somebody.
pub trait Signals: Debug + Send + Sync {
    /// Where the address is.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let _ = address;
        None
    }

    /// What else speaks against somebody just now: stable codes with what each is worth, 0 to 100.
    fn findings(&self, tenant: &Tenant, principal: &Principal) -> Vec<(Name, u8)> {
        let _ = (tenant, principal);
        Vec::new()
    }
}

/// Nobody knows more.
#[derive(Debug)]
pub struct NoSignals;

impl Signals for NoSignals {}

/// From where and when somebody logs in as a rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Habit {
    /// Networks, the latest last.
    pub networks: Vec<String>,
    /// Countries, the latest last.
    pub countries: Vec<Name>,
    /// Where and when the latest login was that had coordinates.
    pub last_place: Option<(Timestamp, (f64, f64))>,
    /// When the latest logins were.
    pub logins: Vec<Timestamp>,
}

/// What is known of a login.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The moment.
    pub now: Timestamp,
    /// Whether they have logged in with this browser before.
    pub browser_known: bool,
    /// The network it comes from.
    pub network: &'a str,
    /// Where that is.
    pub place: Option<&'a Place>,
    /// How many attempts failed just before it.
    pub failures: u32,
    /// What detectors have found.
    pub findings: &'a [(Name, u8)],
}

/// Says how risky a login looks, with every reason. Somebody's first login is not unusual: there is no rule yet.
#[must_use]
pub fn assess(habit: &Habit, facts: &Facts<'_>) -> Risk {
    let first = habit.logins.is_empty();
    let mut found: Vec<(Name, u8)> = Vec::new();
    let mut add = |is: bool, code: &'static str, worth: u8| {
        if is {
            found.push((Name::literal(code), worth));
        }
    };
    add(!first && !facts.browser_known, "new_device", 20);
    add(!first && !habit.networks.iter().any(|n| n == facts.network), "new_network", 15);
    let country = facts.place.and_then(|place| place.country.as_ref());
    add(
        !habit.countries.is_empty() && country.is_some_and(|c| !habit.countries.contains(c)),
        "new_country",
        20,
    );
    let here = facts.place.and_then(|place| place.coordinates);
    let travelled = here.zip(habit.last_place).is_some_and(|(here, (then, there))| {
        is_impossible(distance_km(here, there), facts.now.saturating_since(then).as_secs_f64() / 3_600.0)
    });
    add(travelled, "impossible_travel", 50);
    let recent =
        habit.logins.iter().filter(|at| facts.now.saturating_since(**at).as_micros() < u128::from(HOUR_US));
    add(recent.count() >= MANY_LOGINS, "velocity", 20);
    add(facts.failures >= 3, "failed_attempts", if facts.failures >= 10 { 40 } else { 20 });
    found.extend_from_slice(facts.findings);
    let score = found.iter().fold(0_u8, |sum, (_, worth)| sum.saturating_add(*worth)).min(100);
    let level = match score {
        0..30 => RiskLevel::Low,
        30..60 => RiskLevel::Medium,
        _ => RiskLevel::High,
    };
    let mut reasons: Vec<Name> = found.into_iter().map(|(code, _)| code).collect();
    reasons.sort();
    reasons.dedup();
    Risk { level, score, at: facts.now, reasons }
}

impl Habit {
    /// What is the rule after a login.
    #[must_use]
    pub fn after(mut self, facts: &Facts<'_>) -> Self {
        self.networks.retain(|n| n != facts.network);
        self.networks.push(facts.network.to_owned());
        keep_last(&mut self.networks, NETWORKS);
        if let Some(country) = facts.place.and_then(|place| place.country.clone()) {
            self.countries.retain(|c| *c != country);
            self.countries.push(country);
            keep_last(&mut self.countries, NETWORKS);
        }
        if let Some(here) = facts.place.and_then(|place| place.coordinates) {
            self.last_place = Some((facts.now, here));
        }
        self.logins.push(facts.now);
        keep_last(&mut self.logins, MANY_LOGINS);
        self
    }
}

fn keep_last<T>(list: &mut Vec<T>, count: usize) {
    list.drain(..list.len().saturating_sub(count));
}

fn is_impossible(km: f64, hours: f64) -> bool {
    km > PLACE_ERROR_KM && (km - PLACE_ERROR_KM) > FASTEST_KMH * hours
}

/// The way over the surface of the earth (haversine).
fn distance_km((lat1, lon1): (f64, f64), (lat2, lon2): (f64, f64)) -> f64 {
    let (dlat, dlon) = ((lat2 - lat1).to_radians() / 2.0, (lon2 - lon1).to_radians() / 2.0);
    let h = dlat.sin().powi(2) + lat1.to_radians().cos() * lat2.to_radians().cos() * dlon.sin().powi(2);
    2.0 * 6_371.0 * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: (f64, f64) = (52.52, 13.40);
    const SYDNEY: (f64, f64) = (-33.87, 151.21);
    const POTSDAM: (f64, f64) = (52.40, 13.06);

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_micros((100_000 + minutes) * 60_000_000)
    }

    fn place(country: &'static str, coordinates: (f64, f64)) -> Place {
        Place { country: Some(Name::literal(country)), coordinates: Some(coordinates) }
    }

    fn facts<'a>(now: Timestamp, place: Option<&'a Place>) -> Facts<'a> {
        Facts { now, browser_known: true, network: "home", place, failures: 0, findings: &[] }
    }

    fn berliner() -> Habit {
        let berlin = place("DE", BERLIN);
        Habit::default().after(&facts(at(0), Some(&berlin)))
    }

    fn codes(risk: &Risk) -> Vec<&str> {
        risk.reasons.iter().map(Name::as_str).collect()
    }

    #[test]
    fn a_first_login_and_a_usual_one_are_low() {
        let stranger = Facts { browser_known: false, network: "x", ..facts(at(0), None) };
        assert_eq!(assess(&Habit::default(), &stranger).level, RiskLevel::Low);
        let risk = assess(&berliner(), &facts(at(60), None));
        assert_eq!((risk.level, risk.score, risk.reasons.len()), (RiskLevel::Low, 0, 0));
    }

    #[test]
    fn every_signal_shows_by_its_own_reason() {
        let (sydney, potsdam) = (place("AU", SYDNEY), place("DE", POTSDAM));
        let base = facts(at(60), None);
        let new = |facts: Facts<'_>| assess(&berliner(), &facts);
        assert_eq!(codes(&new(Facts { browser_known: false, ..base.clone() })), ["new_device"]);
        assert_eq!(codes(&new(Facts { network: "café", ..base.clone() })), ["new_network"]);
        assert_eq!(codes(&new(facts(at(60), Some(&sydney)))), ["impossible_travel", "new_country"]);
        assert_eq!(codes(&new(facts(at(60 * 24 * 2), Some(&sydney)))), ["new_country"]);
        assert_eq!(
            codes(&new(facts(at(1), Some(&potsdam)))),
            [""; 0],
            "places are known to be a little wrong"
        );
        assert_eq!(codes(&new(Facts { failures: 3, ..base.clone() })), ["failed_attempts"]);
        let leaked = [(Name::literal("leaked_key"), 70)];
        let risk = new(Facts { findings: &leaked, ..base });
        assert_eq!((codes(&risk), risk.level), (vec!["leaked_key"], RiskLevel::High));
    }

    #[test]
    fn many_logins_within_an_hour_show_and_a_day_later_do_not() {
        let busy = (0..12).fold(Habit::default(), |habit, minute| habit.after(&facts(at(minute), None)));
        assert_eq!(codes(&assess(&busy, &facts(at(13), None))), ["velocity"]);
        assert!(assess(&busy, &facts(at(60 * 24), None)).reasons.is_empty());
    }

    #[test]
    fn more_reasons_are_never_less_risk_and_the_score_is_bounded() {
        let sydney = place("AU", SYDNEY);
        let findings = [(Name::literal("a"), 200), (Name::literal("b"), 200)];
        let mut last = 0;
        for bits in [0_u8, 1, 3, 7, 15] {
            let facts = Facts {
                browser_known: bits & 1 == 0,
                network: if bits & 2 == 0 { "home" } else { "other" },
                place: (bits & 4 != 0).then_some(&sydney),
                findings: if bits & 8 == 0 { &[] } else { &findings },
                ..facts(at(5), None)
            };
            let risk = assess(&berliner(), &facts);
            assert!(risk.score >= last && risk.score <= 100, "{risk:?}");
            last = risk.score;
        }
        assert_eq!(last, 100);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let names: Vec<String> = (0..500).map(|n| format!("10.0.{n}.0/24")).collect();
        let habit = names.iter().fold(Habit::default(), |habit, name| {
            habit.after(&Facts { network: name, ..facts(at(1), None) })
        });
        assert_eq!((habit.networks.len(), habit.logins.len()), (NETWORKS, MANY_LOGINS));
    }
}
