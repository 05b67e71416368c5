//! What authors of bundles are helped with: formatting, a picture, and what their tests cover.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_model::Action;
use cedar_policy::{ActionConstraint, PrincipalConstraint, ResourceConstraint};
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::{Bundle, CompiledBundle, Rule};
use crate::complexity::{self, TextOf};
use crate::diagnostic::{BundleError, BundleErrors};

/// How wide formatted rules are.
const WIDTH: usize = 110;

impl Bundle {
    /// The bundle with its rules in the one form; comments stay.
    ///
    /// # Errors
    /// When rules cannot be read.
    pub fn formatted(&self) -> Result<Self, BundleErrors> {
        let (mut out, mut errors) = (self.clone(), Vec::new());
        let config = Config { line_width: WIDTH, indent_width: 2 };
        for (file, text) in out.files.iter_mut().filter(|(file, _)| file.ends_with(".cedar")) {
            if let Err((offset, message)) = complexity::check(text, TextOf::Rules) {
                errors.push(BundleError::at(file, text, offset..offset, message));
                continue;
            }
            match policies_str_to_pretty(text, &config) {
                Ok(pretty) => *text = format!("{}\n", pretty.trim_end()),
                Err(error) => errors.push(BundleError::of(file, error.to_string())),
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(BundleErrors(errors)) }
    }
}

/// The vocabulary that every bundle has, as a Cedar schema: for editors, which check rules against it as they are written.
#[must_use]
pub const fn platform_schema() -> &'static str {
    crate::platform::SCHEMA
}

/// What of a rule the tests of its bundle have shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Covered {
    /// The rule.
    #[schemars(with = "String")]
    pub rule: Name,
    /// Tests in which it permitted or forbade.
    pub applied: usize,
    /// Tests of one of its actions in which it did not.
    pub spared: usize,
}

impl Covered {
    /// Whether it was seen both ways.
    #[must_use]
    pub const fn both_ways(&self) -> bool {
        self.applied > 0 && self.spared > 0
    }
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown pages show it.
    Mermaid,
}

impl CompiledBundle {
    /// Which rules the tests of `bundle`, which this is compiled from, have seen apply and not apply.
    #[must_use]
    pub fn coverage(self: &Arc<Self>, bundle: &Bundle, now: Timestamp) -> Vec<Covered> {
        let tested = self.test(bundle, now);
        let of = |rule: &Arc<Rule>| {
            let (mut applied, mut spared) = (0, 0);
            for test in &tested {
                let evidence = &test.explanation.evidence;
                if evidence.permits.contains(&rule.id) || evidence.forbids.contains(&rule.id) {
                    applied += 1;
                } else if self.speaks_of(rule, test.action) {
                    spared += 1;
                }
            }
            Covered { rule: rule.id.clone(), applied, spared }
        };
        self.rules.iter().map(of).collect()
    }

    /// Whether a rule's scope names the action or a group that it is in.
    fn speaks_of(&self, rule: &Rule, action: Action) -> bool {
        let mut names = BTreeSet::from([action.name()]);
        let groups = self.action_groups.iter().filter(|(uid, _)| uid.id().unescaped() == action.name());
        names.extend(groups.flat_map(|(_, groups)| groups).map(|uid| uid.id().unescaped()));
        match rule.policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => names.contains(uid.id().unescaped()),
            ActionConstraint::In(uids) => uids.iter().any(|uid| names.contains(uid.id().unescaped())),
        }
    }

    /// A picture: who, by which rule, may do or must not do what, on what.
    #[must_use]
    pub fn graph(&self, drawn: Drawn) -> String {
        let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
        let mut edges = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let (who, actions, what) = ends(rule);
            for name in [format!("who: {who}"), format!("what: {what}")] {
                let next = nodes.len();
                nodes.entry(name).or_insert(next);
            }
            let place = |name: String| nodes.get(&name).copied().unwrap_or_default();
            edges.push((at, place(format!("who: {who}")), actions, place(format!("what: {what}"))));
        }
        let mut out = match drawn {
            Drawn::Dot => "digraph policy {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".to_owned(),
            Drawn::Mermaid => "flowchart LR\n".to_owned(),
        };
        // Writing to a text cannot fail.
        let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).unwrap_or_default();
        for (name, place) in &nodes {
            let label = escaped(name.split_once(": ").map_or(name.as_str(), |(_, label)| label), drawn);
            match drawn {
                Drawn::Dot => line(format_args!("  n{place} [label=\"{label}\", shape=ellipse];\n")),
                Drawn::Mermaid => line(format_args!("  n{place}([\"{label}\"])\n")),
            }
        }
        for (at, who, actions, what) in edges {
            let Some(rule) = self.rules.get(at) else { continue };
            let (id, actions) = (escaped(&rule.id, drawn), escaped(&actions, drawn));
            match (drawn, rule.forbids) {
                (Drawn::Dot, forbids) => {
                    let color = if forbids { "firebrick" } else { "darkgreen" };
                    line(format_args!("  r{at} [label=\"{id}\\n{actions}\", shape=box, color={color}];\n"));
                    line(format_args!("  n{who} -> r{at} -> n{what} [color={color}];\n"));
                }
                (Drawn::Mermaid, false) => {
                    line(format_args!("  n{who} --> r{at}[\"{id}<br/>{actions}\"] --> n{what}\n"))
                }
                (Drawn::Mermaid, true) => line(format_args!(
                    "  n{who} -. forbidden .-> r{at}[\"{id}<br/>{actions}\"] -.-> n{what}\n"
                )),
            }
        }
        if drawn == Drawn::Dot {
            out.push_str("}\n");
        }
        out
    }
}

/// Whom a rule's scope names, for what, on what.
fn ends(rule: &Rule) -> (String, String, String) {
    let who = match rule.policy.principal_constraint() {
        PrincipalConstraint::Any => "everybody".to_owned(),
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) => uid.to_string(),
        PrincipalConstraint::Is(kind) => format!("every {kind}"),
        PrincipalConstraint::IsIn(kind, uid) => format!("every {kind} in {uid}"),
    };
    let what = match rule.policy.resource_constraint() {
        ResourceConstraint::Any => "everything".to_owned(),
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) => uid.to_string(),
        ResourceConstraint::Is(kind) => format!("every {kind}"),
        ResourceConstraint::IsIn(kind, uid) => format!("every {kind} in {uid}"),
    };
    let actions = match rule.policy.action_constraint() {
        ActionConstraint::Any => "any action".to_owned(),
        ActionConstraint::Eq(uid) => uid.id().unescaped().to_owned(),
        ActionConstraint::In(uids) => {
            uids.iter().map(|uid| uid.id().unescaped()).collect::<Vec<_>>().join(", ")
        }
    };
    (who, actions, what)
}

/// A label that cannot leave its quotes.
fn escaped(text: &str, drawn: Drawn) -> String {
    match drawn {
        Drawn::Dot => text.replace('\\', "\\\\").replace('"', "\\\""),
        Drawn::Mermaid => text.replace('&', "&amp;").replace('"', "#quot;").replace('<', "&lt;"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "// Kept.\n@id(\"a\") permit (principal in Role::\"model-user\",action in Action::\"model:use\",resource);\n@id(\"b\") forbid (principal, action == Action::\"model:invoke\", resource == Model::\"x\\\"y\");\n";

    fn bundle(tests: &str) -> (Bundle, Arc<CompiledBundle>) {
        let files = [("a.cedar", RULES), ("tests/a.toml", tests)];
        let bundle = Bundle { files: files.map(|(name, text)| (name.to_owned(), text.to_owned())).into() };
        let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
        (bundle, compiled)
    }

    #[test]
    fn formatting_keeps_comments_and_meaning_and_is_done_once() {
        let (bundle, compiled) = bundle("test = []");
        let formatted = bundle.formatted().unwrap();
        let text = &formatted.files["a.cedar"];
        assert!(text.contains("// Kept.") && *text != RULES, "{text}");
        assert_eq!(formatted.formatted().unwrap(), formatted);
        let again = CompiledBundle::compile(&formatted).unwrap();
        assert_eq!((again.len(), again.graph(Drawn::Dot)), (compiled.len(), compiled.graph(Drawn::Dot)));
        let broken = Bundle { files: [("a.cedar".to_owned(), "permit (".to_owned())].into() };
        assert!(broken.formatted().is_err());
    }

    #[test]
    fn a_picture_names_everything_and_nothing_leaves_its_quotes() {
        let (_, compiled) = bundle("test = []");
        for drawn in [Drawn::Dot, Drawn::Mermaid] {
            let picture = compiled.graph(drawn);
            for part in ["model-user", "model:invoke", "everything", "everybody"] {
                assert!(picture.contains(part), "{part}\n{picture}");
            }
            let unescaped = picture.replace("\\\\", "").replace("\\\"", "");
            assert!(unescaped.lines().all(|line| line.matches('"').count() % 2 == 0), "{picture}");
        }
    }

    #[test]
    fn a_rule_is_covered_only_when_it_was_seen_both_ways() {
        let world = r#"
            [[resource]]
            name = "alice"
            spec = { kind = "user", roles = ["model-user"] }
            [[resource]]
            name = "mallory"
            spec = { kind = "user" }
            [[resource]]
            name = "gpt"
            spec = { kind = "model", upstream = "up", dialects = ["openai.chat"], environment = "development" }
            [[test]]
            name = "may"
            ask = { principal = "user/alice", action = "model:invoke", resource = "gpt" }
            expect = "permit"
            [[test]]
            name = "may not"
            ask = { principal = "user/mallory", action = "model:invoke", resource = "gpt" }
            expect = "deny"
            [[test]]
            name = "another action"
            ask = { principal = "user/mallory", action = "policy:read", resource = "x" }
            expect = "deny""#;
        let (bundle, compiled) = bundle(world);
        let covered = compiled.coverage(&bundle, Timestamp::from_secs(1_800_000_000));
        let told: Vec<_> =
            covered.iter().map(|c| (c.rule.as_str(), c.applied, c.spared, c.both_ways())).collect();
        assert_eq!(told, [("a", 1, 1, true), ("b", 0, 2, false)]);
    }
}
