//! What is taken over from bundles that were compiled before, and what is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::PolicySet;

use super::Place;
use crate::{Bundle, CompiledBundle};

const WORDS: &str = "entity Vault { floor: Long }; namespace Own { action open appliesTo { principal: [User, Agent], resource: Vault, context: Context }; }";

fn bundle(files: &[(&str, &str)]) -> Bundle {
    Bundle { files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect() }
}

fn rules(texts: &[&str]) -> Bundle {
    bundle(&[("rules.cedar", &texts.join("\n"))])
}

fn compiled(bundle: &Bundle) -> Arc<CompiledBundle> {
    Arc::new(CompiledBundle::compile(bundle).unwrap())
}

/// Everything that a compilation comes to.
fn outcome(bundle: &Bundle, beside: &[Arc<CompiledBundle>]) -> String {
    match CompiledBundle::compile_beside(bundle, &[], beside) {
        Ok(made) => {
            let rules: Vec<String> = made
                .rules
                .iter()
                .map(|r| {
                    let own =
                        (&r.id, &r.text, r.forbids, &r.reason, &r.remedies, &r.approval, r.needs, r.can_err);
                    format!("{own:?} {} {:?} {:?}", r.policy, r.scope, r.condition)
                })
                .collect();
            format!("{} {:?}\n{}\n{:?}", made.digest(), made.grounds, rules.join("\n"), made.warnings())
        }
        Err(errors) => errors.to_string(),
    }
}

const A: &str = "@id(\"a\") permit (principal in Group::\"x\", action, resource is Model) when { resource.status == \"active\" };";
const B: &str = "@id(\"b\") @remedy(\"approve(2, use_within: 30m)\") forbid (principal, action == Action::\"model:export\", resource)\n  unless { context.approvals.contains(\"b\") };";
const C: &str = "@id(\"c\") permit (principal == User::\"u\", action == Action::\"model:invoke\", resource);";

#[test]
fn a_rule_that_stands_in_both_is_one_and_the_same() {
    let before = compiled(&rules(&[A, B]));
    let after =
        CompiledBundle::compile_beside(&rules(&[C, "// moved", B]), &[], std::slice::from_ref(&before))
            .unwrap();
    assert!(Arc::ptr_eq(&after.rules[1], &before.rules[1]));
    let changed = A.replace("active", "disabled");
    let after =
        CompiledBundle::compile_beside(&rules(&[&changed]), &[], std::slice::from_ref(&before)).unwrap();
    assert!(after.rules[0].text == changed && !Arc::ptr_eq(&after.rules[0], &before.rules[0]));
}

#[test]
fn a_bundle_compiled_beside_others_is_the_same_as_one_compiled_alone() {
    let wrong =
        "@id(\"w\") permit (principal, action == Action::\"model:invoke\", resource) when { resource.gone };";
    let far = "@id(\"f\") permit (principal is Agent, action == Action::\"agent:delegate\", resource) when { resource.owner.status == \"a\" };";
    let cut = "@id(\"d\") permit (principal, action, resource";
    let template = "@id(\"t\") permit (principal == ?principal, action, resource);";
    let covered = "@id(\"z\") permit (principal in Group::\"x\", action == Action::\"model:embed\", resource is Model) when { context.request.bytes + 1 > 2 };";
    let wide = "@id(\"y\") permit (principal in Group::\"x\", action, resource is Model);";
    let all =
        [A, B, C, wrong, far, cut, template, covered, wide, "\u{feff}", "/* no comment */", "// comment ;"];
    let mut held: Vec<Arc<CompiledBundle>> =
        vec![compiled(&rules(&[A, B])), compiled(&rules(&[covered, wide, far]))];
    let mut seed = 5_u64;
    let (mut good, mut bad) = (0, 0);
    for _ in 0..60 {
        let mut texts = Vec::new();
        for text in all {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let often =
                if [wrong, cut, template, "\u{feff}", "/* no comment */"].contains(&text) { 14 } else { 2 };
            if (seed >> 33).is_multiple_of(often) {
                texts.push(text);
            }
        }
        let bundle = rules(&texts);
        let alone = outcome(&bundle, &[]);
        assert_eq!(outcome(&bundle, &held), alone, "{texts:?}");
        match CompiledBundle::compile_beside(&bundle, &[], &held) {
            Ok(made) => {
                good += 1;
                held.push(Arc::new(made));
            }
            Err(_) => bad += 1,
        }
    }
    assert!(good > 10 && bad > 10, "{good} {bad}");
}

#[test]
fn nothing_is_taken_over_from_under_other_words_or_reasons() {
    let rule = "@id(\"v\") @reason(\"custom:shut\") forbid (principal, action == Own::Action::\"open\", resource) when { resource.floor > 3 };";
    let manifest = "reasons = [\"custom:shut\"]";
    let files = |words: &str, manifest: &str| {
        bundle(&[("schema/own.cedarschema", words), ("bundle.toml", manifest), ("rules.cedar", rule)])
    };
    let before = [compiled(&files(WORDS, manifest))];
    assert!(CompiledBundle::compile_beside(&files(WORDS, manifest), &[], &before).is_ok());
    for (words, manifest, told) in [
        (WORDS.replace("floor: Long", "floor?: Long"), manifest, "floor"),
        (WORDS.replace("floor: Long", "floor: String"), manifest, "floor"),
        (WORDS.replace("floor: Long", "level: Long"), manifest, "floor"),
        (WORDS.to_owned(), "", "custom:shut"),
    ] {
        let errors =
            CompiledBundle::compile_beside(&files(&words, manifest), &[], &before).unwrap_err().to_string();
        assert!(errors.contains(told), "{words} {manifest}\n{errors}");
    }
    // Without its words a rule of theirs means nothing.
    let bare = bundle(&[("bundle.toml", manifest), ("rules.cedar", rule)]);
    assert!(CompiledBundle::compile_beside(&bare, &[], &before).is_err());
}

#[test]
fn an_id_that_stands_twice_is_refused_also_when_both_were_taken_over() {
    let other = C.replace("\"u\"", "\"w\"");
    let beside = [compiled(&rules(&[C])), compiled(&rules(&[&other]))];
    let errors = CompiledBundle::compile_beside(&rules(&[C, &other]), &[], &beside).unwrap_err().to_string();
    assert!(
        errors.contains("rules.cedar:2:") && errors.contains("stands twice, first in rules.cedar:1"),
        "{errors}"
    );
}

#[test]
fn statements_are_what_the_engine_reads() {
    let odd = [
        "// a;\r\n@id(\"x;y\")\r\npermit (principal, action, resource) // b;\r when { \"//;\" == \"\\\";\" };",
        "permit(principal,action,resource);forbid(principal,action,resource)unless{[1,2].contains(1)};",
        "\u{2003}permit (principal, action, resource)\u{a0};\u{2028}",
        "@a(\"{[(\") permit (principal, action, resource) when { {a: [\"}\"]} has a };\n// end",
        "",
        "// only a comment",
    ];
    let catalogue = crate::TEMPLATES.iter().map(|template| template.policy().to_owned());
    let texts: Vec<String> = odd.iter().map(|text| (*text).to_owned()).chain(catalogue).collect();
    let mut read = 0;
    for text in texts {
        let Ok(set) = text.parse::<PolicySet>() else { continue };
        let (places, rest) = Place::all("f", &text);
        let ours: Vec<&str> = places.iter().map(Place::words).collect();
        let theirs: BTreeMap<usize, String> = set
            .policies()
            .map(|p| (p.id().to_string().replace("policy", "").parse().unwrap(), p.to_string()))
            .collect();
        assert!(
            !rest && ours.iter().copied().eq(theirs.values().map(String::as_str)),
            "{text:?}\n{ours:?}\n{theirs:?}"
        );
        read += ours.len();
    }
    assert!(read > 20, "{read}");
}

#[test]
fn places_of_errors_do_not_depend_on_how_a_file_is_read() {
    let wrong = "@id(\"w\")\npermit (principal, action == Action::\"model:invoke\", resource)\n  when { resource.gone };";
    let text = format!("// é\n{A}\n\n{wrong}\n{C}");
    let errors = CompiledBundle::compile(&bundle(&[("p.cedar", &text)])).unwrap_err();
    let [error] = &errors.0[..] else { panic!("{errors}") };
    assert_eq!(
        (error.line, error.column, error.source.as_deref()),
        (6, 10, Some("  when { resource.gone };"))
    );
}
