//! What a JSON Schema of OCSF cannot say: that numbers and captions belong together.

use serde_json::Value;

use super::Class;
use crate::Severity;

/// Holds an event against itself: `type_uid` is `class_uid` times 100 plus `activity_id`, and every caption belongs to its
/// number.
///
/// # Errors
/// What does not agree, in words.
pub fn check(event: &Value) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let number = |name: &str| event.get(name).and_then(Value::as_u64);
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let class = Class::ALL.iter().find(|c| number("class_uid") == Some(c.uid().into()));
    let Some(class) = class else {
        return Err(vec![format!("class_uid {:?} is not in use", event.get("class_uid"))]);
    };
    let activity = number("activity_id").unwrap_or(u64::MAX);
    let type_uid = u64::from(class.uid()).saturating_mul(100).saturating_add(activity);
    if number("type_uid") != Some(type_uid) {
        wrong.push(format!("type_uid {:?} is not {type_uid}", event.get("type_uid")));
    }
    let (category, category_caption) = class.category();
    let listed = u8::try_from(activity).ok().and_then(|id| class.activity_caption(id));
    let activity_name = text("activity_name").unwrap_or_default();
    if activity == 99 && (activity_name.is_empty() || listed.is_some())
        || activity != 99 && listed != Some(activity_name)
    {
        wrong.push(format!("activity_id {activity} is not `{activity_name}`"));
    }
    if number("category_uid") != Some(category.into()) {
        wrong.push(format!("category_uid {:?} is not {category}", event.get("category_uid")));
    }
    let type_name = format!("{}: {activity_name}", class.caption());
    for (name, expected) in
        [("class_name", class.caption()), ("category_name", category_caption), ("type_name", &*type_name)]
    {
        if text(name) != Some(expected) {
            wrong.push(format!("{name} {:?} is not `{expected}`", event.get(name)));
        }
    }
    let severities: Vec<_> = Severity::ALL.iter().map(|s| s.ocsf()).collect();
    for (id, caption, known, demanded) in [
        ("severity_id", "severity", severities.as_slice(), true),
        ("status_id", "status", STATUS, true),
        ("action_id", "action", ACTION, false),
        ("disposition_id", "disposition", DISPOSITION, false),
    ] {
        let pair = (number(id), text(caption));
        let fits = known.iter().any(|(n, c)| pair == (Some(u64::from(*n)), Some(*c)));
        let named_other = pair.0 == Some(99) && pair.1.is_some_and(|c| !c.is_empty());
        if !fits && !named_other && (demanded || pair != (None, None)) {
            wrong.push(format!("{id} {:?} is not {caption} {:?}", event.get(id), event.get(caption)));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Numbers and captions of `status_id` in use; 99 has a name of the source's own.
const STATUS: &[(u8, &str)] = &[(0, "Unknown"), (1, "Success"), (2, "Failure")];
/// Numbers and captions of `action_id` in use.
const ACTION: &[(u8, &str)] = &[(1, "Allowed"), (2, "Denied"), (4, "Modified")];
/// Numbers and captions of `disposition_id` in use.
const DISPOSITION: &[(u8, &str)] =
    &[(1, "Allowed"), (2, "Blocked"), (14, "Delayed"), (23, "Challenge"), (24, "Access Revoked")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue, ocsf::event};

    #[test]
    fn every_example_agrees_with_itself() {
        for placed in catalogue::placed() {
            assert_eq!(check(&event(&placed)), Ok(()), "{}", placed.text());
        }
    }

    #[test]
    fn a_number_or_caption_of_another_is_noticed() {
        let events: Vec<_> = catalogue::placed().iter().map(event).collect();
        let numbers = [
            "class_uid",
            "category_uid",
            "activity_id",
            "type_uid",
            "severity_id",
            "status_id",
            "action_id",
            "disposition_id",
        ];
        let captions = [
            "class_name",
            "category_name",
            "activity_name",
            "type_name",
            "severity",
            "status",
            "action",
            "disposition",
        ];
        for (number, caption) in numbers.into_iter().zip(captions) {
            let event = events.iter().find(|e| e.get(number).is_some()).unwrap();
            let mut other = event.clone();
            other[number] = 98.into();
            assert!(check(&other).is_err(), "{number}");
            let mut other = event.clone();
            other[caption] = "Something else".into();
            if caption != "activity_name" || event["activity_id"] != 99 {
                assert!(check(&other).is_err(), "{caption}");
            }
            other.as_object_mut().unwrap().remove(caption);
            assert!(check(&other).is_err(), "without {caption}");
        }
    }
}
