//! Facts about declared things: typed values in the words of JSON and TOML, with bounds.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A fact: true or false, a number, text, a list (policies see a set), or a table (policies see a record). What a text
/// stands for (an address, a date, an amount) and what a table `{type, id}` points to, the schema says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    /// True or false.
    Flag(bool),
    /// A whole number between -(2^53 - 1) and 2^53 - 1.
    Number(i64),
    /// Text.
    Text(String),
    /// Several; their order means nothing to policies.
    List(Vec<Self>),
    /// Named members.
    Table(BTreeMap<String, Self>),
}

/// The facts of one thing by name, within the bounds of [`Facts::DEPTH_MAX`], [`Facts::VALUES_MAX`] and
/// [`Facts::BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, Fact>);

impl Facts {
    /// How deep lists and tables may nest.
    pub const DEPTH_MAX: usize = 8;
    /// How many values there may be in all.
    pub const VALUES_MAX: usize = 10_000;
    /// How many bytes names and texts may have in all.
    pub const BYTES_MAX: usize = 256 << 10;
    /// The longest name of a member, in bytes.
    pub const NAME_MAX: usize = 128;

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(name)
    }
}

/// Numbers that every reader of JSON keeps exactly.
const NUMBER_MAX: i64 = (1 << 53) - 1;

struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn value<E: de::Error>(&mut self) -> Result<(), E> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or_else(|| E::custom(format!("more than {} values", Facts::VALUES_MAX)))?;
        Ok(())
    }

    fn text<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        let left = self.bytes.checked_sub(text.len());
        self.bytes = left.ok_or_else(|| E::custom(format!("longer than {} bytes", Facts::BYTES_MAX)))?;
        Ok(())
    }

    /// The names that the engine's JSON format gives a meaning of its own, and those by which TOML marks its dates, are
    /// not names of facts.
    fn name<E: de::Error>(&mut self, name: &str) -> Result<(), E> {
        self.text(name)?;
        let odd = name.is_empty() || name.len() > Facts::NAME_MAX || name.chars().any(char::is_control);
        if odd || name.starts_with("__") || name.starts_with('$') {
            return Err(E::custom(format!(
                "the name of a fact has 1 to {} bytes and begins with neither `__` nor `$`",
                Facts::NAME_MAX
            )));
        }
        Ok(())
    }
}

struct Read<'a> {
    budget: &'a mut Budget,
    depth: usize,
}

impl Read<'_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        let depth = self.depth + 1;
        if depth > Facts::DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {} levels", Facts::DEPTH_MAX)));
        }
        Ok(depth)
    }
}

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Fact;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fact, D::Error> {
        self.budget.value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Fact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, a whole number, text, a list or a table")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Fact, E> {
        Ok(Fact::Flag(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Fact, E> {
        if number.unsigned_abs() > NUMBER_MAX.unsigned_abs() {
            return Err(E::custom("a number lies between -(2^53 - 1) and 2^53 - 1"));
        }
        Ok(Fact::Number(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Fact, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fact, E> {
        self.budget.text(text)?;
        Ok(Fact::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fact, A::Error> {
        let depth = self.deeper()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Read { budget: &mut *self.budget, depth })? {
            out.push(item);
        }
        Ok(Fact::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Fact, A::Error> {
        let depth = self.deeper()?;
        members_of(members, self.budget, depth).map(Fact::Table)
    }
}

fn members_of<'de, A: MapAccess<'de>>(
    mut members: A,
    budget: &mut Budget,
    depth: usize,
) -> Result<BTreeMap<String, Fact>, A::Error> {
    let mut out = BTreeMap::new();
    while let Some(name) = members.next_key::<String>()? {
        budget.name(&name)?;
        let value = members.next_value_seed(Read { budget: &mut *budget, depth })?;
        if out.insert(name, value).is_some() {
            return Err(de::Error::custom("a name stands twice"));
        }
    }
    Ok(out)
}

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl<'de> Visitor<'de> for Whole {
            type Value = Facts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of facts")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Facts, A::Error> {
                let mut budget = Budget { values: Facts::VALUES_MAX, bytes: Facts::BYTES_MAX };
                members_of(members, &mut budget, 1).map(Facts)
            }
        }

        deserializer.deserialize_map(Whole)
    }
}

impl JsonSchema for Facts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Facts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Facts by name: true or false, whole numbers, texts, lists, tables.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &serde_json::Value) -> Result<Facts, String> {
        serde_json::from_value(value.clone()).map_err(|e| e.to_string())
    }

    #[test]
    fn facts_come_back_as_they_were_written() {
        let written = json!({"a": true, "b": -7, "c": "é", "d": [1, "x", [2]], "e": {"f": {"type": "User", "id": "\u{1f600}"}}});
        assert_eq!(serde_json::to_value(read(&written).unwrap()).unwrap(), written);
    }

    #[test]
    fn what_no_policy_could_see_and_what_is_too_much_is_refused() {
        let deep = (0..Facts::DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
        for (value, why) in [
            (json!({"a": 1.5}), "whole number"),
            (json!({"a": null}), "whole number"),
            (json!({"a": 1_u64 << 53}), "2^53"),
            (json!({"a": u64::MAX}), "2^53"),
            (json!({"__entity": {"type": "User", "id": "root"}}), "neither"),
            (json!({"a": {"__extn": {"fn": "ip", "arg": "::1"}}}), "neither"),
            (json!({"$__toml_private_datetime": "2026-01-01"}), "neither"),
            (json!({"": 1}), "1 to 128"),
            (json!({"a": deep}), "nested deeper"),
            (json!({"a": vec![0; Facts::VALUES_MAX]}), "more than 10000 values"),
            (json!({"a": "x".repeat(Facts::BYTES_MAX)}), "longer than"),
            (json!([1]), "table of facts"),
        ] {
            let told = read(&value).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
