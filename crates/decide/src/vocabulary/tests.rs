use std::fmt::Write as _;

use crate::{Bundle, CompiledBundle};

const RULE: &str = r#"@id("a") permit (principal, action == Action::"model:invoke", resource);"#;

fn compile(files: &[(&str, &str)]) -> Result<CompiledBundle, String> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let all = files.chain([("a.cedar".to_owned(), RULE.to_owned())]).collect();
    CompiledBundle::compile(&Bundle { files: all }).map_err(|e| e.to_string())
}

fn refused(schema: &str) -> String {
    compile(&[("schema/own.cedarschema", schema)]).unwrap_err()
}

#[test]
fn a_bundle_adds_types_and_actions_that_its_rules_speak_of() {
    let shop = r#"namespace Shop {
        entity Order in [Group, Project] { total: Long };
        action "act";
        action "read" in ["act"] appliesTo { principal: [User, Agent], resource: [Order, Model], context: Context };
    }"#;
    let rule = r#"@id("b") permit (principal, action in Shop::Action::"act", resource is Shop::Order)
        when { resource.total < 10 && context.assurance.level > 1 };"#;
    let compiled = compile(&[("schema/shop.cedarschema", shop), ("b.cedar", rule)]).unwrap();
    assert_eq!(compiled.len(), 2);
}

#[test]
fn files_refer_to_one_another_also_by_external_declarations() {
    let one = "namespace A { entity Thing in [Group]; }";
    let two = r#"external entity User; external action "model:use"; namespace A { external entity Thing; }
        namespace B { entity Part in [A::Thing] { of: User }; action "use" in [Action::"model:use"] appliesTo { principal: User, resource: Part, context: Context }; }"#;
    compile(&[("schema/one.cedarschema", one), ("schema/two.cedarschema", two)]).unwrap();
    let told = compile(&[("schema/two.cedarschema", two)]).unwrap_err();
    assert!(
        told.contains("schema/two.cedarschema: `A::Thing` is external, and nothing declares it"),
        "{told}"
    );
    assert!(refused("external entity User in [Project];").contains("its parents stand where it is declared"));
    assert!(refused(r#"external action "model:melt";"#).contains("nothing declares it"));
}

#[test]
fn the_words_of_the_house_cannot_be_changed_or_shadowed() {
    for (schema, word) in [
        ("entity User { status: String, admin: Bool };", "`User` is a word of the house"),
        ("entity Model in [Shop::Order]; namespace Shop { entity Order; }", "`Model` is a word of the house"),
        ("type Context = { extra: String };", "`Context` is a word of the house"),
        ("namespace Shop { type Context = { extra: String }; }", "`Context` is a word of the house"),
        ("namespace Shop { entity User; }", "`User` is a word of the house"),
        ("type Counts = { requests: Long };", "`Counts` is a word of the house"),
        ("type Role = Long;", "`Role` is a word of the house"),
        ("namespace Model { entity Part; }", "the namespace `Model`"),
        ("namespace Tools::files { entity Part; }", "the namespace `Tools`"),
        (
            r#"action "policy:apply" appliesTo { principal: User, resource: System, context: Context };"#,
            "the action `policy:apply` is a word of the house",
        ),
        (r#"action "house:change";"#, "the action `house:change` is a word of the house"),
        (
            r#"action "model:melt" appliesTo { principal: User, resource: Model, context: Context };"#,
            "`model:melt` is a word of the house, or could become one",
        ),
        (
            r#"action "read" appliesTo { principal: User, resource: Model, context: { extra: String } };"#,
            "must take the house's context",
        ),
        (r#"action "read" appliesTo { principal: User, resource: Model };"#, "must take the house's context"),
        ("namespace Shop { entity Order in [Nothing]; }", "Nothing"),
    ] {
        let told = refused(schema);
        assert!(told.starts_with("schema/own.cedarschema: ") && told.contains(word), "{schema}: {told}");
    }
}

#[test]
fn two_files_that_declare_the_same_word_are_refused() {
    let told = compile(&[("schema/a.cedarschema", "entity Todo;"), ("schema/b.cedarschema", "entity Todo;")])
        .unwrap_err();
    assert!(told.contains("Todo"), "{told}");
}

#[test]
fn schemas_that_are_too_large_or_too_deep_are_refused_quickly() {
    let long = format!("// {}\nentity Todo;", "x".repeat(10 << 20));
    assert!(refused(&long).contains("longer than 1048576 bytes"));
    let deep = format!("type Deep = {}Long{};", "Set<".repeat(2_000), ">".repeat(2_000));
    assert!(refused(&deep).contains("levels of brackets"));
    let mut many = String::new();
    for n in 0..2_001 {
        writeln!(many, "entity T{n};").unwrap();
    }
    assert!(refused(&many).contains("more than 2000 types and actions"));
    let types: Vec<String> = (0..200).map(|n| format!("T{n}")).collect();
    let types = types.join(", ");
    let product = format!(
        r#"entity {types}; action "a" appliesTo {{ principal: [{types}], resource: [{types}], context: Context }};"#
    );
    assert!(refused(&product).contains("more than 20000 combinations"));
}

#[test]
fn a_zone_that_nobody_knows_is_refused() {
    for (zone, good) in [("Europe/Berlin", true), ("Mars/Olympus", false), ("", false), ("UTC", true)] {
        let manifest = format!("zone = \"{zone}\"");
        let told = compile(&[("bundle.toml", &manifest)]);
        assert_eq!(told.is_ok(), good, "{zone}");
        if let Err(told) = told {
            assert!(told.contains("bundle.toml:1:1: ") && told.contains("is not a time zone"), "{told}");
        }
    }
}

#[test]
fn a_few_lines_that_stand_for_endless_types_are_refused() {
    let mut double = "type T0 = { a: Long };".to_owned();
    for n in 1..16 {
        write!(double, "type T{n} = {{ a: T{0}, b: T{0}, c: T{0}, d: T{0} }};", n - 1).unwrap();
    }
    assert!(refused(&double).contains("more than 200000 parts"));
    let mut long = "type T0 = Long;".to_owned();
    for n in 1..1_900 {
        write!(
            long,
            "namespace N{n} {{ type T = Set<{}>; }}",
            if n == 1 { "T0".to_owned() } else { format!("N{}::T", n - 1) }
        )
        .unwrap();
    }
    assert!(refused(&long).contains("more than 16 levels deep"));
    assert!(refused("type A = { b: B }; type B = { a: A };").contains("in a circle"));
    assert!(refused("type A = Set<A>;").contains("in a circle"));
    assert!(
        compile(&[(
            "schema/a.cedarschema",
            "type A = { b: B }; type B = Set<Long>; entity E { a: A, f: E };"
        )])
        .is_ok()
    );
}

#[test]
fn long_chains_of_types_and_actions_do_not_end_the_process() {
    let mut chain = "entity T0; action \"a0\";".to_owned();
    for n in 1..900 {
        write!(chain, "entity T{n} in [T{0}]; action \"a{n}\" in [\"a{0}\"];", n - 1).unwrap();
    }
    compile(&[("schema/a.cedarschema", &chain)]).unwrap();
}
