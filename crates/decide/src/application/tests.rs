//! Many questions at once are answered as each alone.

use std::sync::Arc;

use bartizan_model::EnforcementPointSpec;
use serde_json::json;

use super::*;
use crate::bundle::{Bundle, CompiledBundle};
use crate::entities::Entities;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const SCHEMA: &str = r#"namespace App { entity Desk { floor: Long };
    action "desk:book" appliesTo { principal: [User], resource: [Desk], context: { hour: Long, vip?: Bool } };
    action "desk:clean" appliesTo { principal: [User], resource: [Desk], context: { hour: Long } }; }"#;
const RULES: &str = r#"@id("book") permit (principal, action == App::Action::"desk:book", resource)
        when { context.hour < 18 && resource.floor < 3 };
    @id("vip") permit (principal, action == App::Action::"desk:book", resource) when { context has vip && context.vip };
    @id("clean") permit (principal, action == App::Action::"desk:clean", resource) when { context.hour >= 18 };"#;

fn question(action: &str, desk: &str, floor: &Value, context: &Value) -> AskedOf {
    let of = |kind: &str, id: &str| AskedEntity { kind: kind.into(), id: id.into(), properties: Map::new() };
    let mut asked = AskedOf {
        subject: of("User", "ann"),
        action: action.to_owned(),
        resource: of("Desk", desk),
        context: context.as_object().cloned().unwrap(),
        ..AskedOf::default()
    };
    asked.resource.properties.insert("floor".to_owned(), floor.clone());
    asked
}

#[test]
fn what_questions_have_in_common_never_reaches_from_one_into_another() {
    let files = [("rules.cedar", RULES), ("schema/own.cedarschema", SCHEMA)];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let bundle = CompiledBundle::compile(&Bundle { files }).unwrap_or_else(|e| panic!("{e}"));
    let ann = [Entity::new(r#"User::"ann""#.parse().unwrap(), [].into(), [].into()).unwrap()];
    let entities = Entities::default().with(&ann, &[]).unwrap();
    let snapshot = Snapshot::new(Some(Arc::new(bundle)), Arc::new(entities));
    let mut point = EnforcementPointSpec::of("app".parse().unwrap());
    point.namespace = Some("App".parse().unwrap());
    point.types = [("User".parse().unwrap(), "User".parse().unwrap())].into();
    point.context = ["hour".parse().unwrap(), "vip".parse().unwrap()].into();
    point.resource_properties = ["floor".parse().unwrap()].into();

    let mut questions = Vec::new();
    for action in ["desk:book", "desk:clean", "desk:unheard", "model:invoke"] {
        // More different hours than are kept, and each asked about again after all the others.
        for hour in (8..22).chain(8..22) {
            let floor = json!(hour % 5);
            questions.push(question(action, &format!("d{}", hour % 3), &floor, &json!({"hour": hour})));
            questions.push(question(action, "d1", &floor, &json!({"hour": hour, "vip": hour % 2 == 0})));
        }
        for wrong in [json!({}), json!({"hour": "9"}), json!({"hour": 9, "vip": 1})] {
            questions.push(question(action, "d1", &json!(1), &wrong));
        }
        questions.push(question(action, "d1", &json!("one"), &json!({"hour": 9})));
    }
    let told = |advice: &Advice| format!("{advice:?}");
    let alone: Vec<String> = questions.iter().map(|q| told(&snapshot.advise(q, &point, NOW))).collect();
    let advising = snapshot.advising(&point, NOW);
    let together: Vec<String> = questions.iter().map(|q| told(&advising.advise(q))).collect();
    assert_eq!(together, alone);
    let backwards: Vec<String> = questions.iter().rev().map(|q| told(&advising.advise(q))).collect();
    assert_eq!(backwards.iter().rev().collect::<Vec<_>>(), alone.iter().collect::<Vec<_>>());
    let answered = ["verdict: Permit", "verdict: Deny", "reasons: [Invalid]"];
    let answered = answered.map(|word| alone.iter().filter(|advice| advice.contains(word)).count());
    assert!(answered[0] > 20 && answered[1] > 20 && answered[2] >= 4, "{answered:?}");
}
