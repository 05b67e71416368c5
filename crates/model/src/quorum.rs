//! How many of whom have to approve.
//!
//! ```text
//! quorum = all *( "or" all )
//! all    = share *( "and" share )
//! share  = number [ "of" "role" quoted ]
//! ```
//!
//! `and` binds tighter than `or`; there are no brackets. Whoever approves counts for one share only: `1 of role "a" and 1
//! of role "b"` takes two people, also where one of them holds both roles. In its canonical form shares and alternatives
//! are sorted and stand once.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Alternatives of a quorum, and shares of an alternative.
const PARTS_MAX: usize = 8;
/// Approvals of an alternative.
const APPROVALS_MAX: u32 = 20;

/// A quorum: alternatives, each of shares that are all needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Quorum(BTreeSet<BTreeSet<Share>>);

/// A number of people out of the holders of a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How many.
    pub count: u32,
    /// Holding which role; anybody who may approve if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
}

/// Why a quorum is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// It cannot be read.
    #[error(
        "`{0}` is not a quorum; write such as `2`, `2 of role \"a\"`, `1 of role \"a\" and 1 of role \"b\"`"
    )]
    Unreadable(String),
    /// A role stands twice in one alternative.
    #[error("in one alternative each role stands once, and at most one number stands without a role")]
    Twice,
    /// Too many or none.
    #[error("a quorum has 1 to 8 alternatives of 1 to 8 shares, and takes 1 to 20 approvals")]
    Bounds,
}

impl Quorum {
    /// A quorum of alternatives.
    ///
    /// # Errors
    /// When a role stands twice in an alternative or a bound is broken.
    pub fn new(alternatives: impl IntoIterator<Item = Vec<Share>>) -> Result<Self, QuorumError> {
        let mut out = BTreeSet::new();
        for shares in alternatives {
            let roles: BTreeSet<&Option<Name>> = shares.iter().map(|s| &s.role).collect();
            if roles.len() != shares.len() {
                return Err(QuorumError::Twice);
            }
            let total = shares.iter().try_fold(0_u32, |sum, s| sum.checked_add(s.count));
            if shares.is_empty()
                || shares.len() > PARTS_MAX
                || shares.iter().any(|s| s.count == 0)
                || total.is_none_or(|n| n > APPROVALS_MAX)
            {
                return Err(QuorumError::Bounds);
            }
            out.insert(shares.into_iter().collect::<BTreeSet<_>>());
        }
        if out.is_empty() || out.len() > PARTS_MAX { Err(QuorumError::Bounds) } else { Ok(Self(out)) }
    }

    /// `count` people, holding `role` if one is named.
    ///
    /// # Errors
    /// When `count` is none or too many.
    pub fn of(count: u32, role: Option<Name>) -> Result<Self, QuorumError> {
        Self::new([vec![Share { count, role }]])
    }

    /// The alternatives.
    pub fn alternatives(&self) -> impl Iterator<Item = impl Iterator<Item = &Share>> {
        self.0.iter().map(|shares| shares.iter())
    }

    /// Whether people who hold these roles (a set for each of them) are enough. Nobody counts twice.
    #[must_use]
    pub fn is_met_by(&self, people: &[BTreeSet<Name>]) -> bool {
        self.0.iter().any(|shares| {
            let seats: Vec<&Share> =
                shares.iter().flat_map(|s| std::iter::repeat_n(s, s.count as usize)).collect();
            let mut taken = vec![None; people.len()];
            (0..seats.len()).all(|seat| seated(&seats, people, seat, &mut taken, &mut BTreeSet::new()))
        })
    }

    /// Whether whoever meets this quorum surely meets `before`.
    #[must_use]
    pub fn is_at_least(&self, before: &Self) -> bool {
        self.0.iter().all(|now| before.0.iter().any(|then| covers(now, then)))
    }
}

/// Finds a person for `seat`, moving others if need be (Kuhn's algorithm).
fn seated(
    seats: &[&Share],
    people: &[BTreeSet<Name>],
    seat: usize,
    taken: &mut Vec<Option<usize>>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    let Some(share) = seats.get(seat) else { return false };
    for (person, roles) in people.iter().enumerate() {
        let fits = share.role.as_ref().is_none_or(|role| roles.contains(role));
        if !fits || !tried.insert(person) {
            continue;
        }
        let free = match taken.get(person).copied().flatten() {
            None => true,
            Some(other) => seated(seats, people, other, taken, tried),
        };
        if free {
            if let Some(place) = taken.get_mut(person) {
                *place = Some(seat);
            }
            return true;
        }
    }
    false
}

/// Whether people who fill the shares `now` fill those of `then`.
fn covers(now: &BTreeSet<Share>, then: &BTreeSet<Share>) -> bool {
    let count = |shares: &BTreeSet<Share>, role: &Option<Name>| {
        shares.iter().find(|s| s.role == *role).map_or(0, |s| s.count)
    };
    let total = |shares: &BTreeSet<Share>| shares.iter().map(|s| s.count).sum::<u32>();
    total(now) >= total(then)
        && then.iter().filter(|s| s.role.is_some()).all(|s| count(now, &s.role) >= s.count)
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, shares) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " or " })?;
            for (j, share) in shares.iter().enumerate() {
                write!(f, "{}{}", if j == 0 { "" } else { " and " }, share.count)?;
                if let Some(role) = &share.role {
                    write!(f, " of role \"{role}\"")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Quorum {
    type Err = QuorumError;

    fn from_str(text: &str) -> Result<Self, QuorumError> {
        let unreadable = || QuorumError::Unreadable(text.chars().take(200).collect());
        // A role's name holds no blank, so words are enough.
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let alternatives = words.split(|w| *w == "or").map(|all| {
            let shares = all.split(|w| *w == "and").map(|share| {
                let (count, role) = match share {
                    [count] => (count, None),
                    [count, "of", "role", role] => (count, Some(role)),
                    _ => return Err(unreadable()),
                };
                let digits = count.bytes().all(|b| b.is_ascii_digit());
                let count = count.parse().ok().filter(|_| digits).ok_or_else(unreadable)?;
                let role = role
                    .map(|quoted| {
                        let name = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
                        name.and_then(|n| n.parse().ok()).ok_or_else(unreadable)
                    })
                    .transpose()?;
                Ok(Share { count, role })
            });
            shares.collect()
        });
        Self::new(alternatives.collect::<Result<Vec<_>, _>>()?)
    }
}

impl<'de> Deserialize<'de> for Quorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::<Vec<Share>>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quorum(text: &str) -> Quorum {
        text.parse().unwrap()
    }

    fn people(all: &[&[&str]]) -> Vec<BTreeSet<Name>> {
        all.iter().map(|roles| roles.iter().map(|r| r.parse().unwrap()).collect()).collect()
    }

    #[test]
    fn nobody_counts_twice_and_whoever_holds_two_roles_sits_where_needed() {
        let both = quorum(r#"1 of role "a" and 1 of role "b""#);
        assert!(!both.is_met_by(&people(&[&["a", "b"]])));
        assert!(both.is_met_by(&people(&[&["a", "b"], &["a"]])));
        assert!(both.is_met_by(&people(&[&["a"], &["a", "b"]])));
        assert!(!both.is_met_by(&people(&[&["a"], &["a"]])));
        let more = quorum(r#"1 of role "a" and 2"#);
        assert!(more.is_met_by(&people(&[&[], &[], &["a"]])));
        assert!(!more.is_met_by(&people(&[&[], &[], &[]])));
        assert!(!more.is_met_by(&people(&[&["a"], &["a"]])));
        let either = quorum(r#"2 of role "a" or 1 of role "chief""#);
        assert!(either.is_met_by(&people(&[&["chief"]])) && !either.is_met_by(&people(&[&["a"]])));
    }

    #[test]
    fn the_canonical_form_is_sorted_and_says_each_thing_once() {
        for (text, canonical) in [
            (r#" 1 of role "b"  and 1 of role "a" "#, r#"1 of role "a" and 1 of role "b""#),
            ("3 or 2 or 3", "2 or 3"),
            ("02", "2"),
        ] {
            assert_eq!(quorum(text).to_string(), canonical);
        }
    }

    #[test]
    fn what_is_not_a_quorum_is_refused() {
        let many = ["1"; 9].join(" or ");
        for text in [
            "",
            "0",
            "+1",
            "21",
            "one",
            "1 of role a",
            r#"1 of role "a b""#,
            "1 and",
            "or 1",
            "1 of",
            "1 and 1",
            r#"1 of role "a" and 1 of role "a""#,
            "20 and 1",
            r#"4294967295 and 1 of role "a""#,
            "-1",
            "1, 2",
        ] {
            assert!(text.parse::<Quorum>().is_err(), "{text}");
        }
        // Nine times the same is once.
        assert!(many.parse::<Quorum>().is_ok());
        let many: Vec<String> = (1..=9).map(|n| n.to_string()).collect();
        assert_eq!(many.join(" or ").parse::<Quorum>(), Err(QuorumError::Bounds));
        assert!(serde_json::from_str::<Quorum>("[]").is_err());
        assert!(serde_json::from_str::<Quorum>(r#"[[{"count":0}]]"#).is_err());
    }

    fn any_quorum() -> impl Strategy<Value = Quorum> {
        let role = prop_oneof![Just(None), proptest::sample::select(vec!["a", "b", "c"]).prop_map(Some)];
        let share = (1..4_u32, role)
            .prop_map(|(count, role)| Share { count, role: role.map(|r| r.parse().unwrap()) });
        proptest::collection::vec(proptest::collection::vec(share, 1..4), 1..4)
            .prop_filter_map("a role stands twice", |all| Quorum::new(all).ok())
    }

    proptest! {
        #[test]
        fn a_quorum_reads_back_as_written_and_as_data(quorum in any_quorum()) {
            prop_assert_eq!(&quorum.to_string().parse::<Quorum>().unwrap(), &quorum);
            let data = serde_json::to_string(&quorum).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Quorum>(&data).unwrap(), &quorum);
        }

        #[test]
        fn whoever_meets_a_stronger_quorum_meets_the_weaker(
            one in any_quorum(),
            other in any_quorum(),
            roles in proptest::collection::vec(proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3), 0..9),
        ) {
            let people = people(&roles.iter().map(Vec::as_slice).collect::<Vec<_>>());
            if one.is_at_least(&other) && one.is_met_by(&people) {
                prop_assert!(other.is_met_by(&people), "{} is not at least {}", one, other);
            }
            prop_assert!(one.is_at_least(&one));
        }
    }
}
