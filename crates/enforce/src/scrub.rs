//! Obligations on content at the doors beside those of models: what goes out and what comes back is masked, and addresses are
//! taken out, inside JSON too. What cannot be looked through is neither sent nor released.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bartizan_base::json::Limits;
use bartizan_decide::Door;
use bartizan_mask::Masker;
use bartizan_model::{ObligationKind, Obligations, Problem, ReasonCode, Tenant};
use bartizan_wire::Node;
use bartizan_wire::links::Links;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::mask::{CallMaskers, uncaught};
use crate::masking::{links, released};
use crate::path::Gate;
use crate::world::TenantWorld;

/// What the doors of tools, external APIs, documents and databases can do: whatever else a permit demands denies it there.
pub(crate) static DOOR: LazyLock<Door> = LazyLock::new(|| {
    Door::new(
        [
            ObligationKind::DoNotKeep,
            ObligationKind::Redact,
            ObligationKind::StripLinks,
            ObligationKind::Watch,
        ]
        .into(),
    )
});

/// What the doors of tools and external APIs can do: beside that, keep what comes back and give a handle for it.
pub(crate) static HIDING: LazyLock<Door> = LazyLock::new(|| {
    Door::new(
        [
            ObligationKind::DoNotKeep,
            ObligationKind::Hide,
            ObligationKind::Redact,
            ObligationKind::StripLinks,
            ObligationKind::Watch,
        ]
        .into(),
    )
});

/// What doors can do that change nothing of what passes.
pub(crate) static PASSING: LazyLock<Door> =
    LazyLock::new(|| Door::new([ObligationKind::DoNotKeep, ObligationKind::Watch].into()));

/// Whether an obligation needs nothing done to content.
pub(crate) fn passes(obligations: &Obligations) -> bool {
    obligations.iter().all(|o| matches!(o.kind(), ObligationKind::DoNotKeep | ObligationKind::Watch))
}

/// What is taken out of the content of one effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrub {
    maskers: Option<CallMaskers>,
    links: Option<Links>,
}

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the caller.
    Out,
    /// To the caller.
    Back,
}

impl Gate {
    /// What has to be taken out of the content of an effect under these obligations.
    ///
    /// # Errors
    /// When a detector is not declared, or disabled: then nothing is sent or released.
    pub(crate) fn scrub(
        &self,
        world: &TenantWorld,
        tenant: &Tenant,
        obligations: &Obligations,
    ) -> Result<Scrub, Problem> {
        Ok(Scrub { maskers: self.maskers(world, tenant, obligations)?, links: links(obligations) })
    }
}

impl Scrub {
    /// What masks, and what takes addresses out.
    pub(crate) const fn new(maskers: Option<CallMaskers>, links: Option<Links>) -> Self {
        Self { maskers, links }
    }

    fn of(&self, way: Way) -> (Option<&Masker>, Option<&Links>) {
        let maskers = self.maskers.as_ref();
        match way {
            // Addresses that a caller sends lead nobody anywhere.
            Way::Out => (maskers.map(|maskers| &maskers.request), None),
            Way::Back => (maskers.map(|maskers| &maskers.answer), self.links.as_ref()),
        }
    }

    /// Whether what goes that way stays as it is.
    pub(crate) fn is_idle(&self, way: Way) -> bool {
        matches!(self.of(way), (None, None))
    }

    /// A text, and how much was taken out of it.
    pub(crate) fn text(&self, text: &str, way: Way) -> (String, u64) {
        let (masker, links) = self.of(way);
        let (text, count, _) = released(masker, links, text);
        (text, count)
    }

    /// A JSON document, byte for byte as it was beside what was taken out, and how much that is. A number that looks like
    /// something to be masked is a text then.
    ///
    /// # Errors
    /// When it is not JSON, or holds encoded bytes that cannot be looked through.
    pub(crate) fn document(&self, bytes: &Bytes, way: Way, limits: Limits) -> Result<(Bytes, u64), Problem> {
        if self.is_idle(way) || bytes.is_empty() {
            return Ok((bytes.clone(), 0));
        }
        let failed = |why: String| Problem::with_detail(ReasonCode::ObligationFailed, why);
        let root = Node::parse(bytes, limits).map_err(|error| failed(error.to_string()))?;
        let (masker, links) = self.of(way);
        let mut walk = Walk { bytes, masker, links, out: String::with_capacity(bytes.len()), count: 0 };
        walk.node(&root)?;
        uncaught(masker)?;
        Ok((walk.out.into(), walk.count))
    }

    /// A value, and how much was taken out of it.
    pub(crate) fn value(&self, value: Value, way: Way) -> (Value, u64) {
        if self.is_idle(way) {
            return (value, 0);
        }
        let mut count = 0;
        (self.inside(value, way, &mut count), count)
    }

    fn inside(&self, value: Value, way: Way, count: &mut u64) -> Value {
        let (masker, links) = self.of(way);
        match value {
            Value::Null | Value::Bool(_) => value,
            Value::Number(number) => match masker.map(|masker| masked(masker, &number.to_string())) {
                Some((text, found)) if found > 0 => {
                    *count += found;
                    Value::String(text)
                }
                _ => Value::Number(number),
            },
            Value::String(text) => {
                let (text, found, _) = released(masker, links, &text);
                *count += found;
                Value::String(text)
            }
            Value::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.inside(item, way, count)).collect())
            }
            Value::Object(members) => {
                let mut names = Names::default();
                let members = members.into_iter().map(|(name, member)| {
                    (names.shown(masker, &name, count), self.inside(member, way, count))
                });
                Value::Object(members.collect())
            }
        }
    }
}

fn masked(masker: &Masker, text: &str) -> (String, u64) {
    let masked = masker.mask(text);
    (masked.text.into_owned(), masked.count)
}

/// Names of the members of one object: two that are masked alike must not become one.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn shown(&mut self, masker: Option<&Masker>, name: &str, count: &mut u64) -> String {
        let mut shown = name.to_owned();
        if let Some(masker) = masker {
            let (text, found) = masked(masker, name);
            *count += found;
            shown = text;
        }
        let (first, mut n) = (shown.clone(), 1_u32);
        while !self.0.insert(shown.clone()) {
            n = n.saturating_add(1);
            shown = format!("{first} {n}");
        }
        shown
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    masker: Option<&'a Masker>,
    links: Option<&'a Links>,
    out: String,
    count: u64,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node) -> Result<(), Problem> {
        match node {
            Node::Object(members, _) => {
                self.is_clear(node)?;
                self.out.push('{');
                let mut names = Names::default();
                for (n, (name, member)) in members.iter().enumerate() {
                    if n > 0 {
                        self.out.push(',');
                    }
                    let shown = names.shown(self.masker, name, &mut self.count);
                    self.out.push_str(&json!(shown).to_string());
                    self.out.push(':');
                    self.node(member)?;
                }
                self.out.push('}');
            }
            Node::Array(items, _) => {
                self.out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        self.out.push(',');
                    }
                    self.node(item)?;
                }
                self.out.push(']');
            }
            Node::String(_) => {
                let text = node.text(self.bytes).ok_or_else(|| Problem::new(ReasonCode::ObligationFailed))?;
                let (shown, count, changed) = released(self.masker, self.links, &text);
                self.count += count;
                if changed { self.out.push_str(&json!(shown).to_string()) } else { self.raw(node) }
            }
            Node::Scalar(_) => {
                let number = node
                    .scalar(self.bytes)
                    .filter(|raw| raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
                match number.zip(self.masker).map(|(number, masker)| masked(masker, number)) {
                    Some((text, count)) if count > 0 => {
                        self.count += count;
                        self.out.push_str(&json!(text).to_string());
                    }
                    _ => self.raw(node),
                }
            }
        }
        Ok(())
    }

    fn raw(&mut self, node: &Node) {
        let (start, end) = node.span();
        let raw = self.bytes.get(start..end).unwrap_or_default();
        self.out.push_str(&String::from_utf8_lossy(raw));
    }

    /// Pictures, sounds and files (MCP: `data` with a `mimeType`, and `blob`) are encoded bytes: what is in them nobody sees here.
    fn is_clear(&self, object: &Node) -> Result<(), Problem> {
        let is_text = |name| matches!(object.member(name), Some(Node::String(_)));
        if self.masker.is_some() && (is_text("blob") || is_text("data") && is_text("mimeType")) {
            let detail = "parts that are not text cannot be redacted";
            return Err(Problem::with_detail(ReasonCode::ObligationFailed, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::Detector;
    use proptest::prelude::*;

    fn scrub(hosts: Option<&[&str]>) -> Scrub {
        let masker = Masker::new(&[Detector::Email, Detector::Card].into(), &Default::default()).unwrap();
        let maskers = CallMaskers { request: masker.clone(), answer: masker };
        Scrub::new(Some(maskers), hosts.map(|hosts| Links::allowing(hosts.iter().copied())))
    }

    fn document(scrub: &Scrub, text: &str, way: Way) -> Result<(String, u64), Problem> {
        let (bytes, count) =
            scrub.document(&Bytes::copy_from_slice(text.as_bytes()), way, Limits::default())?;
        Ok((String::from_utf8(bytes.to_vec()).unwrap(), count))
    }

    #[test]
    fn texts_numbers_and_names_are_masked_wherever_they_stand_and_nothing_else_changes() {
        let (text, count) = document(
            &scrub(None),
            r#"{"a":[1.50,1e300,"write to ann@mail.example",4111111111111111],"ann@mail.example":{"x":null},"bob@mail.example":true}"#,
            Way::Out,
        )
        .unwrap();
        let expected =
            r#"{"a":[1.50,1e300,"write to [email]","[card]"],"[email]":{"x":null},"[email] 2":true}"#;
        assert_eq!((text.as_str(), count), (expected, 4));
    }

    #[test]
    fn what_is_written_with_escapes_is_found_too() {
        let (text, count) = document(&scrub(None), r#"["ann\u0040mail.example"]"#, Way::Back).unwrap();
        assert_eq!((text.as_str(), count), (r#"["[email]"]"#, 1));
    }

    #[test]
    fn addresses_are_taken_out_of_what_comes_back_alone() {
        let scrub = scrub(Some(&["docs.example"]));
        let text = r#"{"uri":"https://evil.example/?q=1","text":"see https://docs.example/a"}"#;
        assert_eq!(document(&scrub, text, Way::Out).unwrap().0, text);
        let back = document(&scrub, text, Way::Back).unwrap();
        assert_eq!(back, (r#"{"uri":"[link removed]","text":"see https://docs.example/a"}"#.to_owned(), 1));
    }

    #[test]
    fn what_cannot_be_looked_through_is_not_released() {
        for text in [
            r#"{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"}]}"#,
            r#"{"contents":[{"uri":"x","blob":"aGk="}]}"#,
            "no json",
        ] {
            let problem = document(&scrub(None), text, Way::Back).unwrap_err();
            assert_eq!(problem.reason, ReasonCode::ObligationFailed, "{text}");
        }
        // Addresses alone: a picture that is sent as it is leads nowhere.
        let links = Scrub::new(None, Some(Links::allowing([])));
        assert!(document(&links, r#"{"data":"aGk=","mimeType":"image/png"}"#, Way::Back).is_ok());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
            Just(json!("call ann@mail.example now")),
            Just(json!(4_111_111_111_111_111_u64)),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z@.]{0,8}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_and_its_value_are_masked_alike_and_once_is_enough(value in values()) {
            let scrub = scrub(Some(&[]));
            let (text, count) = document(&scrub, &value.to_string(), Way::Back).unwrap();
            let (masked, found) = scrub.value(value, Way::Back);
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &masked);
            prop_assert_eq!(count, found);
            prop_assert!(!text.contains("ann@mail.example") && !text.contains("4111111111111111"));
            prop_assert_eq!(document(&scrub, &text, Way::Back).unwrap().0, text);
        }
    }
}
