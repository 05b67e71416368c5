//! Policy bundles: a folder of Cedar files, checked and compiled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr as _;
use std::sync::LazyLock;

use bartizan_base::{Digest, Name, json};
use bartizan_model::{ReasonCode, Remedy};
use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationError, ValidationMode,
    Validator,
};

use crate::complexity::{self, TextOf};
use crate::context::Needs;
use crate::evaluate::LEVEL;
use crate::index::{Kept, Scope};
use crate::{lint, remedy, table};

const SCHEMA: &str = include_str!("schema.cedarschema");
const CONSTITUTION: &str = include_str!("constitution.cedar");
/// Bytes of a bundle.
const BYTES_MAX: usize = 16 << 20;
/// Policies of a bundle.
const POLICIES_MAX: usize = 50_000;

/// A bundle as it is written: files by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// `*.cedar`, `schema/*.cedarschema`, `bundle.toml`, `tests/*.toml`.
    pub files: BTreeMap<String, String>,
}

impl Bundle {
    /// The digest of its canonical form: every file, by path.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // A map of texts always has a canonical form.
        Digest::of(&json::canonical(&self.files).unwrap_or_default())
    }
}

/// One thing wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleError {
    /// In which file; empty for the bundle as a whole.
    pub file: String,
    /// On which line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub help: Option<String>,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => {}
            (file, 0) => write!(f, "{file}: ")?,
            (file, line) => write!(f, "{file}:{line}: ")?,
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n  hint: {help}"))
    }
}

/// Everything wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BundleErrors(pub Vec<BundleError>);

/// A rule of a compiled bundle.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: Name,
    pub(crate) policy: Policy,
    pub(crate) scope: Scope,
    pub(crate) forbids: bool,
    pub(crate) reason: ReasonCode,
    pub(crate) remedies: Vec<Remedy>,
    pub(crate) text: String,
    pub(crate) needs: Needs,
}

/// A bundle that passed every check, ready to decide.
#[derive(Debug)]
pub struct CompiledBundle {
    digest: Digest,
    pub(crate) schema: Schema,
    pub(crate) rules: Vec<Rule>,
    pub(crate) constitution: Vec<Rule>,
    /// Each action with the groups it is in, directly or not.
    pub(crate) action_groups: HashMap<EntityUid, Vec<EntityUid>>,
    pub(crate) kept: Kept,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    /// For people; read so that a misspelt member is refused.
    #[serde(rename = "name")]
    _name: String,
    reasons: BTreeSet<String>,
}

struct Compiler {
    errors: Vec<BundleError>,
    declared: BTreeSet<String>,
}

impl CompiledBundle {
    /// Checks and compiles a bundle: syntax, schema, types (strict, warnings are errors), ids, reasons, remedies.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn compile(bundle: &Bundle) -> Result<Self, BundleErrors> {
        let mut compiler = Compiler { errors: Vec::new(), declared: BTreeSet::new() };
        let compiled = compiler.run(bundle);
        match compiled {
            Some(compiled) if compiler.errors.is_empty() => Ok(compiled),
            _ => Err(BundleErrors(compiler.errors)),
        }
    }

    /// The digest of the bundle it was compiled from.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many rules it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rules: then everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Compiler {
    fn wrong(&mut self, file: &str, line: usize, message: impl Into<String>, help: Option<&str>) {
        self.errors.push(BundleError {
            file: file.to_owned(),
            line,
            message: message.into(),
            help: help.map(str::to_owned),
        });
    }

    fn run(&mut self, bundle: &Bundle) -> Option<CompiledBundle> {
        if bundle.files.values().map(String::len).sum::<usize>() > BYTES_MAX {
            self.wrong("", 0, format!("the bundle is longer than {BYTES_MAX} bytes"), None);
            return None;
        }
        self.manifest(bundle);
        let schema = self.schema(bundle)?;
        let mut rules = Vec::new();
        for (file, text) in &bundle.files {
            if file.ends_with(".cedar") {
                self.file(file, text, &mut rules);
            } else if table::is_test(file) {
                if let Err(error) = table::check(text) {
                    self.wrong(file, 0, error, None);
                }
            } else if !(file == "bundle.toml" || file.ends_with(".cedarschema")) {
                self.wrong(
                    file,
                    0,
                    "a bundle holds `*.cedar`, `schema/*.cedarschema`, `bundle.toml` and `tests/*.toml`",
                    None,
                );
            }
        }
        if rules.len() > POLICIES_MAX {
            self.wrong("", 0, format!("the bundle has more than {POLICIES_MAX} rules"), None);
        }
        self.unique(&rules);
        self.validate(&schema, &rules);
        let constitution = self.constitution(&schema)?;
        let rules = rules.into_iter().map(|(_, rule)| rule).collect();
        let action_groups = action_groups(&schema)?;
        let kept = Kept::default();
        Some(CompiledBundle { digest: bundle.digest(), schema, rules, constitution, action_groups, kept })
    }

    fn manifest(&mut self, bundle: &Bundle) {
        let Some(text) = bundle.files.get("bundle.toml") else { return };
        match toml::from_str::<Manifest>(text) {
            Ok(manifest) => {
                for reason in &manifest.reasons {
                    if !matches!(reason.parse(), Ok(ReasonCode::Custom(_))) {
                        self.wrong(
                            "bundle.toml",
                            0,
                            format!("`{reason}` is not a reason of a bundle"),
                            Some("write `custom:NAME`"),
                        );
                    }
                }
                self.declared = manifest.reasons;
            }
            Err(error) => self.wrong("bundle.toml", 0, error.message(), None),
        }
    }

    fn schema(&mut self, bundle: &Bundle) -> Option<Schema> {
        let mut fragments = Vec::new();
        for (file, text) in std::iter::once((&"schema".to_owned(), &SCHEMA.to_owned()))
            .chain(bundle.files.iter().filter(|(f, _)| f.ends_with(".cedarschema")))
        {
            if self.is_too_complex(file, text, TextOf::Schema) {
                continue;
            }
            match SchemaFragment::from_cedarschema_str(text) {
                Ok((fragment, _)) => fragments.push(fragment),
                Err(error) => self.wrong(file, 0, error.to_string(), None),
            }
        }
        match Schema::from_schema_fragments(fragments) {
            Ok(schema) => Some(schema),
            Err(error) => {
                self.wrong("", 0, format!("schema: {error}"), None);
                None
            }
        }
    }

    fn is_too_complex(&mut self, file: &str, text: &str, text_is: TextOf) -> bool {
        let Err((offset, message)) = complexity::check(text, text_is) else { return false };
        let line = text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
        self.wrong(file, line, message, Some("write several smaller ones"));
        true
    }

    fn file(&mut self, file: &str, text: &str, rules: &mut Vec<(String, Rule)>) {
        if self.is_too_complex(file, text, TextOf::Rules) {
            return;
        }
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    let line = miette_line(error, text);
                    self.wrong(file, line, error.to_string(), None);
                }
                return;
            }
        };
        if set.templates().next().is_some() {
            self.wrong(file, 0, "templates are not taken", Some("write the policies out"));
        }
        for policy in set.policies() {
            let line = line_of(policy, text);
            if let Some(rule) = self.rule(file, line, policy) {
                rules.push((file.to_owned(), rule));
            }
        }
    }

    fn rule(&mut self, file: &str, line: usize, policy: &Policy) -> Option<Rule> {
        let Some(id) = policy.annotation("id").and_then(|id| id.parse::<Name>().ok()) else {
            self.wrong(
                file,
                line,
                "a rule needs a unique `@id(\"…\")`",
                Some("records and explanations name rules by it"),
            );
            return None;
        };
        for (annotation, _) in policy.annotations() {
            if !matches!(annotation, "id" | "reason" | "remedy" | "description" | "owner") {
                let message = format!("`{id}`: unknown annotation `@{annotation}`");
                self.wrong(
                    file,
                    line,
                    message,
                    Some("there are @id, @reason, @remedy, @description, @owner"),
                );
            }
        }
        let forbids = policy.effect() == Effect::Forbid;
        let reason = self.reason(file, line, &id, policy, forbids);
        let remedies = match policy.annotation("remedy") {
            None => Vec::new(),
            Some(_) if !forbids => {
                self.wrong(file, line, format!("`{id}`: only a forbid can have a remedy"), None);
                Vec::new()
            }
            Some(text) => remedy::parse(text).unwrap_or_else(|message| {
                self.wrong(file, line, format!("`{id}`: {message}"), None);
                Vec::new()
            }),
        };
        let Ok(est) = policy.to_json() else {
            self.wrong(file, line, format!("`{id}`: cannot be analysed"), None);
            return None;
        };
        for (message, help) in lint::facts_stand_soundly(&est, forbids)
            .into_iter()
            .chain(lint::remedies_lift(&est, &id, &remedies))
        {
            self.wrong(file, line, format!("`{id}`: {message}"), Some(&help));
        }
        let policy = policy.new_id(PolicyId::new(id.as_str()));
        Some(Rule {
            scope: Scope::of(&policy),
            text: policy.to_string(),
            id,
            policy,
            forbids,
            reason,
            remedies,
            needs: Needs::of(&est),
        })
    }

    fn reason(&mut self, file: &str, line: usize, id: &Name, policy: &Policy, forbids: bool) -> ReasonCode {
        let Some(code) = policy.annotation("reason") else { return ReasonCode::Forbidden };
        if !forbids {
            self.wrong(file, line, format!("`{id}`: only a forbid can have a reason"), None);
        }
        match code.parse() {
            Ok(ReasonCode::Custom(_)) if !self.declared.contains(code) => {
                self.wrong(
                    file,
                    line,
                    format!("`{id}`: reason `{code}` is not declared"),
                    Some("declare it in `bundle.toml`: reasons = [\"custom:…\"]"),
                );
                ReasonCode::Forbidden
            }
            Ok(reason) => reason,
            Err(_) => {
                self.wrong(
                    file,
                    line,
                    format!("`{id}`: unknown reason `{code}`"),
                    Some("take a code of the registry, or declare `custom:NAME` in `bundle.toml`"),
                );
                ReasonCode::Forbidden
            }
        }
    }

    fn unique(&mut self, rules: &[(String, Rule)]) {
        let mut seen = BTreeSet::new();
        for (file, rule) in rules {
            if rule.id.starts_with("constitution-") {
                self.wrong(
                    file,
                    0,
                    format!("`{}`: ids beginning with `constitution-` are the house's own", rule.id),
                    None,
                );
            }
            if !seen.insert(&rule.id) {
                self.wrong(file, 0, format!("the id `{}` stands twice", rule.id), None);
            }
        }
    }

    fn validate(&mut self, schema: &Schema, rules: &[(String, Rule)]) {
        let mut set = PolicySet::new();
        for (_, rule) in rules {
            // A second rule of the same id was reported already.
            set.add(rule.policy.clone()).unwrap_or_default();
        }
        let result = Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL);
        let file_of = |id: &PolicyId| {
            let id: &str = id.as_ref();
            rules.iter().find(|(_, r)| r.id.as_str() == id).map(|(f, _)| f.clone()).unwrap_or_default()
        };
        let mut found: Vec<_> =
            result.validation_errors().map(|e| (file_of(e.policy_id()), told(e))).collect();
        found.extend(result.validation_warnings().map(|w| (file_of(w.policy_id()), w.to_string())));
        for (file, message) in found {
            self.wrong(&file, 0, message, None);
        }
    }

    /// The constitution, checked against the bundle's schema: a bundle can add to the vocabulary, not change what the
    /// constitution's words mean.
    fn constitution(&mut self, schema: &Schema) -> Option<Vec<Rule>> {
        static RULES: LazyLock<Option<Vec<Rule>>> = LazyLock::new(|| {
            let set = PolicySet::from_str(CONSTITUTION).ok()?;
            set.policies().map(rule_of_constitution).collect()
        });
        let rules = RULES.clone();
        let sound = rules.as_ref().is_some_and(|rules| {
            let set = PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()));
            let valid =
                |s| Validator::new(schema.clone()).validate(&s, ValidationMode::Strict).validation_passed();
            set.is_ok_and(valid)
        });
        if !sound {
            self.wrong("", 0, "the schema of the bundle breaks the constitution", None);
        }
        rules
    }
}

/// What is wrong with a rule, in words.
fn told(error: &ValidationError) -> String {
    match error {
        ValidationError::EntityDerefLevelViolation(beyond) => format!(
            "{beyond}: a rule may look at principal and resource and at what their attributes name, not further ({LEVEL} levels)"
        ),
        other => other.to_string(),
    }
}

/// Each action with the groups it is in.
fn action_groups(schema: &Schema) -> Option<HashMap<EntityUid, Vec<EntityUid>>> {
    let actions = schema.action_entities().ok()?;
    let groups = |action: &EntityUid| {
        let mut all: Vec<EntityUid> = actions.ancestors(action).into_iter().flatten().cloned().collect();
        all.sort();
        all
    };
    Some(actions.iter().map(|action| (action.uid(), groups(&action.uid()))).collect())
}

fn rule_of_constitution(policy: &Policy) -> Option<Rule> {
    let id: Name = policy.annotation("id")?.parse().ok()?;
    let est = policy.to_json().ok()?;
    let policy = policy.new_id(PolicyId::new(id.as_str()));
    Some(Rule {
        scope: Scope::of(&policy),
        text: policy.to_string(),
        id,
        policy,
        forbids: true,
        reason: ReasonCode::Constitution,
        remedies: Vec::new(),
        needs: Needs::of(&est),
    })
}

fn line_of(policy: &Policy, text: &str) -> usize {
    let rendered = policy.annotation("id").map(|id| format!("\"{id}\""));
    rendered
        .and_then(|r| text.find(&r))
        .and_then(|at| text.get(..at))
        .map_or(0, |before| before.matches('\n').count() + 1)
}

fn miette_line(error: &dyn miette::Diagnostic, text: &str) -> usize {
    let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    offset.and_then(|at| text.get(..at)).map_or(0, |before| before.matches('\n').count() + 1)
}

#[cfg(test)]
impl CompiledBundle {
    /// A bundle of rules that a test has made, whatever the checks would say of them.
    pub(crate) fn of_rules(schema: Schema, rules: &[Policy], constitution: &[Policy]) -> Self {
        let rule = |policy: &Policy| {
            let forbids = policy.effect() == Effect::Forbid;
            Rule { forbids, ..rule_of_constitution(policy).unwrap() }
        };
        Self {
            digest: Digest::of(b"test"),
            action_groups: action_groups(&schema).unwrap(),
            schema,
            rules: rules.iter().map(rule).collect(),
            constitution: constitution.iter().map(rule).collect(),
            kept: Kept::default(),
        }
    }
}
