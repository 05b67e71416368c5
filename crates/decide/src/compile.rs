//! From a folder of files to rules that decide: every check that a bundle must pass.

mod place;
mod rule;
mod tools;
mod valid;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock};

use bartizan_base::{Digest, Name, json};
use bartizan_model::ReasonCode;
use cedar_policy::{
    EntityUid, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator,
};
use miette::Diagnostic;

use crate::bundle::{Bundle, CompiledBundle, Rule};
use crate::called::Tools;
use crate::complexity::{self, TextOf};
use crate::diagnostic::{BundleError, BundleErrors, within};
use crate::evaluate::LEVEL;
use crate::index::{Kept, Scope};
use crate::inner::{Condition, Typing};
use crate::needs::Needs;
use crate::servers::ServerWords;
use crate::vocabulary::{self, Linked};
use crate::zone::Zone;
use crate::{review, table};
pub(crate) use place::{Place, Placed};
use valid::is_plainly_valid;

const CONSTITUTION: &str = include_str!("constitution.cedar");
/// Bytes of a bundle.
const BYTES_MAX: usize = 16 << 20;
/// Policies of a bundle.
const POLICIES_MAX: usize = 50_000;

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
pub(crate) struct Compiler<'b> {
    errors: Vec<BundleError>,
    manifest: Manifest,
    zone: Zone,
    /// Bundles that were compiled before.
    beside: &'b [Arc<CompiledBundle>],
    /// Where rules need not fit the tools: those that do not.
    unfit: Option<BTreeSet<EntityUid>>,
}

impl<'b> Compiler<'b> {
    /// A compilation that takes over what was checked before.
    pub(crate) fn new(beside: &'b [Arc<CompiledBundle>]) -> Self {
        Self { errors: Vec::new(), manifest: Manifest::default(), zone: Zone::UTC, beside, unfit: None }
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
        let grounds = self.grounds(bundle, servers);
        let known = self.known(grounds);
        let mut placed = Vec::new();
        for (file, text) in &bundle.files {
            if file.ends_with(".cedar") {
                self.file(file, text, &known, &mut placed);
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
        let mut typing = Typing::new(&schema, LEVEL);
        let dead = self.set_aside(&schema, &mut typing, &mut placed);
        let tools = Tools::of(servers, &disabled, dead);
        self.tools_stand_soundly(&tools, &placed);
        self.validate(&schema, &mut typing, &placed);
        let constitution = self.constitution(&schema, &mut typing)?;
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
            grounds,
            schema,
            rules,
            constitution,
            action_groups,
            declared,
            zone: self.zone,
            disabled,
            tools,
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

    /// What rules are checked against, besides the engine and the house; none where that has no canonical form.
    fn grounds(&self, bundle: &Bundle, servers: &[ServerWords]) -> Option<Digest> {
        let words: BTreeMap<_, _> =
            bundle.files.iter().filter(|(file, _)| file.ends_with(".cedarschema")).collect();
        let servers: Vec<_> = servers.iter().map(|server| (server.server(), server.words())).collect();
        json::canonical(&(words, servers, &self.manifest.reasons)).ok().map(|bytes| Digest::of(&bytes))
    }

    /// The rules that were checked against the same, by their texts.
    fn known(&self, grounds: Option<Digest>) -> Known<'b> {
        let same = self.beside.iter().filter(|bundle| grounds.is_some() && bundle.grounds == grounds);
        same.flat_map(|bundle| &bundle.rules).map(|rule| (rule.text.as_str(), rule)).collect()
    }

    fn file<'a>(&mut self, file: &'a str, text: &'a str, known: &Known<'_>, placed: &mut Vec<Placed<'a>>) {
        if self.is_too_complex(file, text, TextOf::Rules) {
            return;
        }
        // Statement by statement, so that what is known is not read again.
        let (places, rest) = Place::all(file, text);
        let mut readable = !rest;
        let mut read = Vec::with_capacity(places.len());
        for place in places {
            match known.get(place.words()) {
                Some(rule) => read.push((place, Err(Arc::clone(rule)))),
                None => match Policy::parse(None, place.words()) {
                    Ok(policy) => read.push((place, Ok(policy))),
                    Err(_) => readable = false,
                },
            }
        }
        if !readable && !self.is_readable(file, text) {
            return;
        }
        for (place, one) in read {
            match one {
                Ok(policy) => placed.extend(self.rule(place, &policy)),
                Err(rule) => placed.push(Placed { place, rule, written: None }),
            }
        }
    }

    /// Whether a file can be read as a whole; what is wrong with it is told.
    fn is_readable(&mut self, file: &str, text: &str) -> bool {
        match PolicySet::from_str(text) {
            Err(errors) => {
                self.errors.extend(errors.iter().map(|error| told(file, text, error)));
                false
            }
            Ok(set) => {
                let (message, help) = match set.templates().next() {
                    Some(_) => ("templates are not taken", "write the policies out"),
                    None => ("the end of a rule cannot be found", "write each rule on lines of its own"),
                };
                self.errors.push(BundleError::of(file, message).help(help));
                set.templates().next().is_some()
            }
        }
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

    /// The constitution, checked against the bundle's schema: a bundle can add to the vocabulary, not change what the
    /// constitution's words mean.
    fn constitution(&mut self, schema: &Schema, typing: &mut Typing<'_>) -> Option<Vec<Arc<Rule>>> {
        static RULES: LazyLock<Option<Vec<Arc<Rule>>>> = LazyLock::new(|| {
            let set = PolicySet::from_str(CONSTITUTION).ok()?;
            set.policies().map(|policy| rule_of_constitution(policy).map(Arc::new)).collect()
        });
        let rules = RULES.clone();
        let sound = rules.as_ref().is_some_and(|rules| {
            rules.iter().all(|rule| is_plainly_valid(typing, &rule.policy)) || {
                let set = PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()));
                let validator = Validator::new(schema.clone());
                set.is_ok_and(|set| validator.validate(&set, ValidationMode::Strict).validation_passed())
            }
        });
        if !sound {
            self.wrong("", "the schema of the bundle breaks the constitution");
        }
        rules
    }
}

/// Rules by their texts.
type Known<'b> = HashMap<&'b str, &'b Arc<Rule>>;

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
        condition: Condition::of(&policy),
        text: policy.to_string(),
        id,
        policy,
        forbids: true,
        reason: ReasonCode::Constitution,
        remedies: Vec::new(),
        approval: None,
        needs: Needs::of(&est),
        can_err: None,
    })
}

/// What the engine says about a file.
fn told(file: &str, text: &str, diagnostic: &dyn Diagnostic) -> BundleError {
    let span = label(diagnostic).unwrap_or_default();
    BundleError { help: help(diagnostic), ..BundleError::at(file, text, span, diagnostic.to_string()) }
}

fn label(diagnostic: &dyn Diagnostic) -> Option<Range<usize>> {
    let label = diagnostic.labels()?.next()?;
    Some(label.offset()..label.offset() + label.len())
}

fn help(diagnostic: &dyn Diagnostic) -> Option<String> {
    diagnostic.help().map(|help| help.to_string())
}

#[cfg(test)]
mod tests;
