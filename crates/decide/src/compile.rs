//! From a folder of files to rules that decide: every check that a bundle must pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::LazyLock;

use bartizan_base::Name;
use bartizan_model::{ReasonCode, Remedy};
use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationError, ValidationMode,
    Validator,
};
use miette::Diagnostic;

use crate::approval::ApprovalKey;
use crate::bundle::{Bundle, CompiledBundle, Rule};
use crate::complexity::{self, TextOf};
use crate::diagnostic::{BundleError, BundleErrors, statements, within};
use crate::evaluate::LEVEL;
use crate::index::{Kept, Scope};
use crate::near::did_you_mean;
use crate::needs::Needs;
use crate::servers::ServerWords;
use crate::vocabulary::{self, Linked};
use crate::zone::Zone;
use crate::{lint, remedy, review, table};

const CONSTITUTION: &str = include_str!("constitution.cedar");
/// Bytes of a bundle.
const BYTES_MAX: usize = 16 << 20;
/// Policies of a bundle.
const POLICIES_MAX: usize = 50_000;
/// The annotations of a rule.
const ANNOTATIONS: [&str; 5] = ["id", "reason", "remedy", "description", "owner"];

/// `bundle.toml`.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    /// For people; read so that a misspelt member is refused.
    #[serde(rename = "name")]
    _name: String,
    reasons: BTreeSet<String>,
    /// In which time zone rules speak of hours and days.
    zone: Option<String>,
    lints: review::Bounds,
}

/// A compilation.
pub(crate) struct Compiler {
    errors: Vec<BundleError>,
    manifest: Manifest,
    zone: Zone,
}

/// A rule with the place where it is written.
pub(crate) struct Placed<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    pub(crate) span: Range<usize>,
    pub(crate) rule: Rule,
    /// As it is written: with the places of its parts, for messages.
    pub(crate) written: Policy,
}

impl Placed<'_> {
    /// A message about `part` of the rule, a text that stands in it.
    pub(crate) fn about(&self, part: &str, message: &str) -> BundleError {
        let message = format!("`{}`: {message}", self.rule.id);
        BundleError::at(self.file, self.text, within(self.text, &self.span, part), message)
    }
}

impl Compiler {
    /// A compilation that has seen nothing yet.
    pub(crate) fn new() -> Self {
        Self { errors: Vec::new(), manifest: Manifest::default(), zone: Zone::UTC }
    }

    /// Compiles `bundle`.
    pub(crate) fn compile(
        mut self,
        bundle: &Bundle,
        servers: &[ServerWords],
    ) -> Result<CompiledBundle, BundleErrors> {
        match self.run(bundle, servers) {
            Some(compiled) if self.errors.is_empty() => Ok(compiled),
            _ => Err(BundleErrors(self.errors)),
        }
    }

    fn wrong(&mut self, file: &str, message: impl Into<String>) {
        self.errors.push(BundleError::of(file, message));
    }

    fn run(&mut self, bundle: &Bundle, servers: &[ServerWords]) -> Option<CompiledBundle> {
        if bundle.files.values().map(String::len).sum::<usize>() > BYTES_MAX {
            self.wrong("", format!("the bundle is longer than {BYTES_MAX} bytes"));
            return None;
        }
        self.manifest(bundle);
        let Linked { schema, disabled, declared } = self.schema(bundle, servers)?;
        let mut placed = Vec::new();
        for (file, text) in &bundle.files {
            if file.ends_with(".cedar") {
                self.file(file, text, &mut placed);
            } else if table::is_test(file) {
                if let Err(error) = table::check(text) {
                    self.wrong(file, error);
                }
            } else if !(file == "bundle.toml" || file.ends_with(".cedarschema")) {
                self.wrong(
                    file,
                    "a bundle holds `*.cedar`, `schema/*.cedarschema`, `bundle.toml` and `tests/*.toml`",
                );
            }
        }
        if placed.len() > POLICIES_MAX {
            self.wrong("", format!("the bundle has more than {POLICIES_MAX} rules"));
        }
        self.unique(&placed);
        self.validate(&schema, &placed);
        let constitution = self.constitution(&schema)?;
        let action_groups = action_groups(&schema)?;
        let warnings = if self.errors.is_empty() {
            self.errors.extend(review::unscoped(&placed, &self.manifest.lints));
            review::warnings(&placed, &action_groups)
        } else {
            Vec::new()
        };
        let rules = placed.into_iter().map(|placed| placed.rule).collect();
        Some(CompiledBundle {
            digest: bundle.digest(),
            schema,
            rules,
            constitution,
            action_groups,
            declared,
            zone: self.zone,
            disabled,
            warnings,
            kept: Kept::default(),
        })
    }

    fn manifest(&mut self, bundle: &Bundle) {
        let Some(text) = bundle.files.get("bundle.toml") else { return };
        match toml::from_str::<Manifest>(text) {
            Ok(manifest) => {
                for reason in &manifest.reasons {
                    if !matches!(reason.parse(), Ok(ReasonCode::Custom(_))) {
                        let whole = 0..text.len();
                        let span = within(text, &whole, reason);
                        let message = format!("`{reason}` is not a reason of a bundle");
                        self.errors.push(
                            BundleError::at("bundle.toml", text, span, message).help("write `custom:NAME`"),
                        );
                    }
                }
                match manifest.zone.as_deref().map_or(Ok(Zone::UTC), str::parse) {
                    Ok(zone) => self.zone = zone,
                    Err(error) => {
                        let span = within(text, &(0..text.len()), "zone");
                        let help = "write a name of the IANA database, such as `Europe/Berlin`";
                        self.errors.push(BundleError::at("bundle.toml", text, span, error).help(help));
                    }
                }
                self.manifest = manifest;
            }
            Err(error) => {
                let span = error.span().unwrap_or_default();
                self.errors.push(BundleError::at("bundle.toml", text, span, error.message()));
            }
        }
    }

    fn schema(&mut self, bundle: &Bundle, servers: &[ServerWords]) -> Option<Linked> {
        let files = bundle.files.iter().filter(|(file, _)| file.ends_with(".cedarschema"));
        let mut fragments = Vec::new();
        let mut bytes = 0;
        for (file, text) in files {
            bytes += text.len();
            if bytes > vocabulary::BYTES_MAX {
                self.wrong(
                    file,
                    format!("the bundle's schema is longer than {} bytes", vocabulary::BYTES_MAX),
                );
                return None;
            }
            if self.is_too_complex(file, text, TextOf::Schema) {
                continue;
            }
            match SchemaFragment::from_cedarschema_str(text) {
                Ok((fragment, _)) => fragments.push((file.as_str(), fragment)),
                Err(error) => {
                    let told = told(file, text, &error);
                    self.errors.push(BundleError { message: vocabulary::chain(&error), ..told });
                }
            }
        }
        match vocabulary::link(&fragments, servers) {
            Ok(linked) => Some(linked),
            Err(wrong) => {
                for (file, message, help) in wrong {
                    let error = BundleError::of(&file, message);
                    self.errors.push(BundleError { help: help.map(str::to_owned), ..error });
                }
                None
            }
        }
    }

    fn is_too_complex(&mut self, file: &str, text: &str, text_is: TextOf) -> bool {
        let Err((offset, message)) = complexity::check(text, text_is) else { return false };
        let error = BundleError::at(file, text, offset..offset, message).help("write several smaller ones");
        self.errors.push(error);
        true
    }

    fn file<'a>(&mut self, file: &'a str, text: &'a str, placed: &mut Vec<Placed<'a>>) {
        if self.is_too_complex(file, text, TextOf::Rules) {
            return;
        }
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                self.errors.extend(errors.iter().map(|error| told(file, text, error)));
                return;
            }
        };
        if set.templates().next().is_some() {
            self.errors.push(BundleError::of(file, "templates are not taken").help("write the policies out"));
        }
        // The parser names rules by their place: `policy0`, `policy1`.
        let spans = statements(text);
        let mut policies: BTreeMap<usize, &Policy> = BTreeMap::new();
        for policy in set.policies() {
            let id: &str = policy.id().as_ref();
            let place = id.strip_prefix("policy").and_then(|n| n.parse().ok());
            policies.insert(place.unwrap_or(usize::MAX), policy);
        }
        for (place, policy) in policies {
            let span = spans.get(place).cloned().unwrap_or_default();
            placed.extend(self.rule(file, text, span, policy));
        }
    }

    fn rule<'a>(
        &mut self,
        file: &'a str,
        text: &'a str,
        span: Range<usize>,
        policy: &Policy,
    ) -> Option<Placed<'a>> {
        let at =
            |part: &str, message: String| BundleError::at(file, text, within(text, &span, part), message);
        let Some(id) = policy.annotation("id").and_then(|id| id.parse::<Name>().ok()) else {
            let error = at("@id", "a rule needs a unique `@id(\"…\")`".to_owned());
            self.errors.push(error.help("records and explanations name rules by it"));
            return None;
        };
        for (annotation, _) in policy.annotations() {
            if !ANNOTATIONS.contains(&annotation) {
                let help = did_you_mean(annotation, ANNOTATIONS)
                    .unwrap_or_else(|| "there are @id, @reason, @remedy, @description, @owner".to_owned());
                let message = format!("`{id}`: unknown annotation `@{annotation}`");
                self.errors.push(at(&format!("@{annotation}"), message).help(help));
            }
        }
        let forbids = policy.effect() == Effect::Forbid;
        let reason = self.reason(&at, &id, policy, forbids);
        let remedies = match policy.annotation("remedy") {
            None => Vec::new(),
            Some(_) if !forbids => {
                self.errors.push(at("@remedy", format!("`{id}`: only a forbid can have a remedy")));
                Vec::new()
            }
            Some(text) => remedy::parse(text).unwrap_or_else(|message| {
                self.errors.push(at("@remedy", format!("`{id}`: {message}")));
                Vec::new()
            }),
        };
        let Ok(written) = policy.to_json() else {
            self.errors.push(at("", format!("`{id}`: cannot be analysed")));
            return None;
        };
        let key = |remedy: &Remedy| match remedy {
            Remedy::Approve(approval) => Some(ApprovalKey::of(&id, approval)),
            _ => None,
        };
        let approval = remedies.iter().find_map(key);
        let mut keyed = written.clone();
        let is_keyed = approval.as_ref().is_some_and(|key| lint::put_keys(&mut keyed, &id, key));
        for (part, (message, help)) in lint::facts_stand_soundly(&written, forbids)
            .into_iter()
            .map(|finding| ("context.", finding))
            .chain(lint::facts_are_its_own(&written, &id, &remedies).into_iter().map(|f| ("context.", f)))
            .chain(lint::remedies_lift(&keyed, &remedies, &key).into_iter().map(|f| ("@remedy", f)))
        {
            self.errors.push(at(part, format!("`{id}`: {message}")).help(help));
        }
        let needs = Needs::of(&written);
        let written = policy.new_id(PolicyId::new(id.as_str()));
        let policy = if is_keyed {
            let Ok(policy) = Policy::from_json(Some(PolicyId::new(id.as_str())), keyed) else {
                self.errors.push(at("", format!("`{id}`: cannot be analysed")));
                return None;
            };
            policy
        } else {
            written.clone()
        };
        let scope = Scope::of(&policy);
        let text_of_rule = written.to_string();
        let rule = Rule { scope, text: text_of_rule, id, policy, forbids, reason, remedies, approval, needs };
        Some(Placed { file, text, span, rule, written })
    }

    fn reason(
        &mut self,
        at: &dyn Fn(&str, String) -> BundleError,
        id: &Name,
        policy: &Policy,
        forbids: bool,
    ) -> ReasonCode {
        let Some(code) = policy.annotation("reason") else { return ReasonCode::Forbidden };
        if !forbids {
            self.errors.push(at("@reason", format!("`{id}`: only a forbid can have a reason")));
        }
        let error = match code.parse() {
            Ok(ReasonCode::Custom(_)) if !self.manifest.reasons.contains(code) => {
                let help = did_you_mean(code, self.manifest.reasons.iter().map(String::as_str));
                let help =
                    help.unwrap_or_else(|| format!("declare it in `bundle.toml`: reasons = [\"{code}\"]"));
                at(code, format!("`{id}`: reason `{code}` is not declared")).help(help)
            }
            Ok(reason) => return reason,
            Err(_) => {
                let codes: Vec<_> = ReasonCode::ALL.iter().map(ReasonCode::code).collect();
                let help = did_you_mean(code, codes.iter().map(AsRef::as_ref)).unwrap_or_else(|| {
                    "take a code of the registry, or declare `custom:NAME` in `bundle.toml`".to_owned()
                });
                at(code, format!("`{id}`: unknown reason `{code}`")).help(help)
            }
        };
        self.errors.push(error);
        ReasonCode::Forbidden
    }

    fn unique(&mut self, placed: &[Placed<'_>]) {
        let mut seen: HashMap<&Name, &Placed<'_>> = HashMap::new();
        for one in placed {
            let id = &one.rule.id;
            if id.starts_with("constitution-") {
                self.errors.push(one.about(id, "ids beginning with `constitution-` are the house's own"));
            }
            if let Some(first) = seen.insert(id, one) {
                let message = format!("the id stands twice, first in {}", first.about(id, "").place());
                self.errors.push(one.about(id, &message));
            }
        }
    }

    fn validate(&mut self, schema: &Schema, placed: &[Placed<'_>]) {
        let mut set = PolicySet::new();
        for one in placed {
            // A second rule of the same id was reported already.
            set.add(one.written.clone()).unwrap_or_default();
        }
        let result = Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL);
        let by_id: HashMap<&str, &Placed<'_>> = placed.iter().map(|p| (p.rule.id.as_str(), p)).collect();
        let found = result
            .validation_errors()
            .map(|e| {
                let far = matches!(e, ValidationError::EntityDerefLevelViolation(_));
                (e.policy_id(), e as &dyn Diagnostic, far)
            })
            .chain(result.validation_warnings().map(|w| (w.policy_id(), w as &dyn Diagnostic, false)));
        for (id, diagnostic, far) in found {
            match by_id.get(AsRef::<str>::as_ref(id)) {
                Some(one) if far => self.errors.push(told_of(one, diagnostic).help(TOO_FAR)),
                Some(one) => self.errors.push(told_of(one, diagnostic)),
                None => self.wrong("", diagnostic.to_string()),
            }
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
            self.wrong("", "the schema of the bundle breaks the constitution");
        }
        rules
    }
}

/// What helps where a rule looks further than [`LEVEL`].
const TOO_FAR: &str =
    "a rule may look at principal and resource and at what their attributes name, not further (2 levels)";

/// Each action with the groups it is in.
pub(crate) fn action_groups(schema: &Schema) -> Option<HashMap<EntityUid, Vec<EntityUid>>> {
    let actions = schema.action_entities().ok()?;
    let groups = |action: &EntityUid| {
        let mut all: Vec<EntityUid> = actions.ancestors(action).into_iter().flatten().cloned().collect();
        all.sort();
        all
    };
    Some(actions.iter().map(|action| (action.uid(), groups(&action.uid()))).collect())
}

pub(crate) fn rule_of_constitution(policy: &Policy) -> Option<Rule> {
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
        approval: None,
        needs: Needs::of(&est),
    })
}

/// What the engine says about a file.
fn told(file: &str, text: &str, diagnostic: &dyn Diagnostic) -> BundleError {
    let span = label(diagnostic).unwrap_or_default();
    BundleError { help: help(diagnostic), ..BundleError::at(file, text, span, diagnostic.to_string()) }
}

/// What the engine says about a rule.
fn told_of(placed: &Placed<'_>, diagnostic: &dyn Diagnostic) -> BundleError {
    let whole = || within(placed.text, &placed.span, placed.rule.id.as_str());
    // A label that does not lie in the rule's own place says nothing.
    let span = label(diagnostic).filter(|s| s.start >= placed.span.start && s.end <= placed.span.end);
    let span = span.unwrap_or_else(whole);
    BundleError {
        help: help(diagnostic),
        ..BundleError::at(placed.file, placed.text, span, diagnostic.to_string())
    }
}

fn label(diagnostic: &dyn Diagnostic) -> Option<Range<usize>> {
    let label = diagnostic.labels()?.next()?;
    Some(label.offset()..label.offset() + label.len())
}

fn help(diagnostic: &dyn Diagnostic) -> Option<String> {
    diagnostic.help().map(|help| help.to_string())
}
