//! What authors are told: where, what is wrong, and what they probably meant; and what is only worth a look.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::world::{BASE, compile, refused_with};
use bartizan_decide::{Bundle, CompiledBundle};

#[test]
fn a_slip_is_told_with_its_place_and_what_was_meant() {
    for (text, place, meant) in [
        (
            "\n@id(\"a\")\n@reson(\"forbidden\") forbid (principal, action, resource);",
            "p.cedar:3:1",
            "reason",
        ),
        (
            "@id(\"a\") @reason(\"forbiden\") forbid (principal, action, resource);",
            "p.cedar:1:19",
            "forbidden",
        ),
        (
            "// é\n@id(\"a\") @remedy(\"redcat(pii)\") forbid (principal, action, resource);",
            "p.cedar:2:10",
            "redact",
        ),
        ("@id(\"a\") permit (principal in Rol::\"x\", action, resource);", "p.cedar:1:31", "Role"),
        (
            "@id(\"a\") permit (principal, action == Action::\"model:invok\", resource);",
            "p.cedar:1:39",
            "model:invoke",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"model:invoke\", resource)\nwhen { resource.enviroment == \"x\" };",
            "p.cedar:2:8",
            "environment",
        ),
        (
            "@id(\"a\") @remedy(\"redact(pii)\") forbid (principal, action, resource)\nunless { context.obligations.contains(\"redact:pi\") };",
            "p.cedar:2:10",
            "redact:pii",
        ),
    ] {
        let told = refused_with(text);
        assert!(told.contains(place), "{place}\n{told}");
        // Not what was written, which is shown too.
        let hint: String = told.lines().filter(|line| !line.contains(" | ")).collect();
        assert!(hint.contains(meant) && told.contains('^'), "{meant}\n{told}");
    }
    let manifest =
        Bundle { files: [("bundle.toml".to_owned(), "name = \"x\"\nreasns = []\n".to_owned())].into() };
    let told = CompiledBundle::compile(&manifest).unwrap_err().to_string();
    assert!(told.starts_with("bundle.toml:2:1: ") && told.contains("reasons"), "{told}");
}

#[test]
fn a_rule_that_never_matches_is_refused() {
    for rule in [
        "@id(\"a\") permit (principal, action == Action::\"model:invoke\", resource is System);",
        "@id(\"a\") permit (principal is Agent, action == Action::\"model:invoke\", resource) when { principal is User };",
        "@id(\"a\") permit (principal, action == Action::\"model:invoke\", resource) when { false };",
    ] {
        assert!(!refused_with(rule).is_empty(), "{rule}");
    }
}

fn warnings(rules: &str) -> Vec<String> {
    compile(rules).unwrap().warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_that_another_covers_is_worth_a_look() {
    let covered = |rules: &str| -> Vec<String> {
        let all = warnings(rules);
        all.iter()
            .map(|w| w.lines().next().unwrap_or_default().split_once(' ').unwrap().1.to_owned())
            .collect()
    };
    let narrow = r#"@id("narrow") permit (principal in Group::"engineers", action == Action::"model:invoke", resource is Model) when { context.request.stream };"#;
    assert_eq!(
        covered(&format!("{BASE}{narrow}")),
        ["`narrow`: is not needed: `engineers` permits all of it"]
    );
    let forbid =
        r#"@id("never") forbid (principal in Group::"engineers", action in Action::"model:use", resource);"#;
    assert_eq!(
        covered(&format!("{forbid}{narrow}")),
        ["`narrow`: never permits anything: `never` forbids all of it"]
    );
    let second = r#"@id("again") forbid (principal in Group::"engineers", action == Action::"model:embed", resource) when { context.request.stream };"#;
    assert_eq!(covered(&format!("{forbid}{second}")), ["`again`: is not needed: `never` forbids all of it"]);
    // Of two that say the same, the second is one too many.
    assert_eq!(
        covered(&format!("{BASE}{}", BASE.replace("\"engineers\") permit", "\"twin\") permit"))),
        ["`twin`: is not needed: `engineers` permits all of it"]
    );
    // Other people, other actions, other things, or a condition: nothing is covered.
    for other in [
        r#"@id("o") permit (principal in Group::"others", action == Action::"model:invoke", resource);"#,
        r#"@id("o") permit (principal in Group::"engineers", action == Action::"model:export", resource);"#,
        r#"@id("o") permit (principal, action == Action::"model:invoke", resource);"#,
        r#"@id("o") forbid (principal in Group::"engineers", action == Action::"model:invoke", resource == Model::"x");"#,
    ] {
        assert_eq!(covered(&format!("{BASE}{other}")), Vec::<String>::new(), "{other}");
    }
    let conditional = BASE.replace("resource);", "resource) when { context.request.stream };");
    assert_eq!(covered(&format!("{conditional}{narrow}")), Vec::<String>::new());
}

#[test]
fn a_rule_that_could_err_is_worth_a_look() {
    let told = |condition: &str| {
        warnings(&format!("@id(\"a\") forbid (principal is Agent, action in Action::\"model:use\", resource) when {{ {condition} }};"))
            .concat()
    };
    assert!(told("context.request.bytes + 1 > 5").contains("could err"));
    assert!(told("principal.owner.status == \"disabled\"").contains("could err"));
    assert_eq!(told("context.request.bytes > 5"), "");
    assert_eq!(told("principal.owner == User::\"x\""), "");
}

#[test]
fn rules_that_name_nobody_and_nothing_are_counted() {
    let rules: String = (0..3)
        .map(|n| format!("@id(\"r{n}\") forbid (principal, action == Action::\"model:invoke\", resource) when {{ context.request.bytes == {n} }};"))
        .collect();
    let with = |lints: &str| {
        let files = [("p.cedar", format!("{BASE}{rules}")), ("bundle.toml", format!("[lints]\n{lints}"))];
        let bundle = Bundle { files: files.map(|(name, text)| (name.to_owned(), text)).into() };
        CompiledBundle::compile(&bundle).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(with("unscoped = 3\nunscoped_per_action = 3"), "");
    assert!(with("unscoped = 2").contains("3 rules name neither"));
    assert!(with("unscoped_per_action = 2").contains("3 rules for `model:invoke`"));
    assert!(with("unscopd = 2").contains("unscoped"));
}
