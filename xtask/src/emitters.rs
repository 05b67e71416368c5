//! Every kind of record has an emitter: somewhere in the house, outside of tests, a value of it is built.
//!
//! Nothing here is a list that somebody keeps. The kinds are the variants that `bartizan-model` declares; the emitters are
//! the expressions that build them in what `lib.rs` and `main.rs` reach without a test's configuration; and who may emit at
//! all is what `floors.toml` says: the pure crates of floors 0 and 1 can write nothing, so their examples count for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemMod};

use crate::{Failure, root};

/// The enumerations whose variants are kinds of records, or say how a record's ask ended.
const KINDS: [&str; 3] = ["Body", "System", "End"];

/// What is encoded by reference, without a value of its kind being built: by what makes it, with what it is then.
const BY_REFERENCE: [[&str; 4]; 2] =
    [["ToldIntent", "of", "Body", "Intent"], ["ToldRefusal", "of", "Body", "Refusal"]];

/// The lowest floor whose crates have effects.
const FIRST_EFFECTS: u32 = 2;

/// A variant, by the name of its enumeration and its own.
type Variant = (String, String);

/// Refuses kinds of records that nothing writes.
pub(crate) fn check() -> Result<(), Failure> {
    let kinds = kinds(&read(&root().join("crates/model/src/record.rs"))?)?;
    let mut emitters = BTreeMap::new();
    for name in emitting_crates()? {
        let folder = root().join("crates").join(&name).join("src");
        for top in ["lib.rs", "main.rs"].map(|file| folder.join(file)).iter().filter(|path| path.exists()) {
            reach(top, &folder, &mut emitters)?;
        }
    }
    let silent: Vec<String> = kinds
        .iter()
        .filter(|kind| !emitters.contains_key(*kind))
        .map(|(of, kind)| format!("`{of}::{kind}`"))
        .collect();
    if silent.is_empty() {
        return Ok(());
    }
    Err(format!(
        "kinds of records that nothing writes, outside of tests and of pure crates: {}",
        silent.join(", ")
    ))
}

/// The crates that have effects.
fn emitting_crates() -> Result<BTreeSet<String>, Failure> {
    let config: toml::Table = read(&root().join("floors.toml"))?
        .parse()
        .map_err(|error: toml::de::Error| format!("floors.toml: {error}"))?;
    let floors = config.get("floors").and_then(toml::Value::as_table).into_iter().flatten();
    let effects = floors.filter(|(floor, _)| floor.parse().is_ok_and(|floor: u32| floor >= FIRST_EFFECTS));
    let names = effects.filter_map(|(_, crates)| crates.as_array()).flatten();
    Ok(names.filter_map(toml::Value::as_str).map(str::to_owned).collect())
}

/// The variants that the schema of records declares.
fn kinds(source: &str) -> Result<BTreeSet<Variant>, Failure> {
    let file = syn::parse_file(source).map_err(|error| format!("the schema of records: {error}"))?;
    let mut out = BTreeSet::new();
    for item in &file.items {
        if let Item::Enum(item) = item
            && KINDS.iter().any(|kind| item.ident == kind)
        {
            out.extend(item.variants.iter().map(|v| (item.ident.to_string(), v.ident.to_string())));
        }
    }
    let found: BTreeSet<&str> = out.iter().map(|(of, _)| of.as_str()).collect();
    match KINDS.iter().find(|kind| !found.contains(*kind)) {
        Some(kind) => Err(format!("the schema of records declares no enumeration `{kind}`")),
        None => Ok(out),
    }
}

/// Notes what the file `path` and the modules that it declares build. Modules without a path of their own lie in `below`.
fn reach(path: &Path, below: &Path, built: &mut BTreeMap<Variant, PathBuf>) -> Result<(), Failure> {
    let source = read(path)?;
    let file = syn::parse_file(&source).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut found = Found::default();
    found.visit_file(&file);
    for variant in found.built {
        built.entry(variant).or_insert_with(|| path.to_owned());
    }
    for module in found.modules {
        let folder = below.join(&module);
        let beside = folder.with_extension("rs");
        let file = if beside.exists() { beside } else { folder.join("mod.rs") };
        reach(&file, &folder, built)?;
    }
    Ok(())
}

/// What one file builds, and the modules that lie in files of their own.
#[derive(Default)]
struct Found {
    built: BTreeSet<Variant>,
    modules: Vec<PathBuf>,
    within: PathBuf,
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let name = self.within.join(module.ident.to_string());
        if module.content.is_none() {
            self.modules.push(name);
        } else {
            let outer = std::mem::replace(&mut self.within, name);
            visit::visit_item_mod(self, module);
            self.within = outer;
        }
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        let path = match expression {
            Expr::Path(path) => Some(&path.path),
            Expr::Struct(built) => Some(&built.path),
            _ => None,
        };
        let mut segments = path.into_iter().flat_map(|path| path.segments.iter().rev());
        if let (Some(variant), Some(of)) = (segments.next(), segments.next()) {
            let named = (of.ident.to_string(), variant.ident.to_string());
            let told = BY_REFERENCE.iter().find(|[of, made, ..]| *of == named.0 && *made == named.1);
            self.built.extend(told.map(|[.., of, kind]| ((*of).to_owned(), (*kind).to_owned())));
            self.built.insert(named);
        }
        visit::visit_expr(self, expression);
    }

    /// Patterns read what others have built.
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an attribute says that its item is there for tests only: `#[test]`, or `cfg` with anything about tests.
fn is_for_tests(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let last = path.segments.last().map(|segment| segment.ident.to_string());
    match (last.as_deref(), &attribute.meta) {
        (Some("test"), _) => true,
        (Some("cfg"), syn::Meta::List(list)) => {
            let says = list.tokens.to_string();
            says.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
                && !says.split(|c: char| !c.is_alphanumeric()).any(|word| word == "not")
        }
        _ => false,
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(source: &str) -> Vec<String> {
        let mut found = Found::default();
        found.visit_file(&syn::parse_file(source).unwrap());
        found.built.iter().filter(|(of, _)| of == "System").map(|(_, kind)| kind.clone()).collect()
    }

    #[test]
    fn every_kind_of_record_has_an_emitter() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn a_kind_that_only_patterns_and_tests_know_has_no_emitter() {
        let emitters = "fn a() { tell(System::Stopped); } fn b() -> S { record::System::Cut { bytes: 1 } }
            impl A { fn c() { let x = y.then(|| { System::Told(3) }); } }";
        assert_eq!(built(emitters), ["Cut", "Stopped", "Told"]);
        let readers =
            "fn a(s: &System) -> bool { match s { System::Stopped => true, System::Cut { .. } if x() => y(),
                Body::System(System::Told(_)) => false, _ => matches!(s, System::Late) } }
            fn b() { if let System::Early = s {} let System::Only { a } = s else { return }; }
            #[cfg(test)] mod tests { fn a() { tell(System::Stopped) } }
            #[cfg(all(test, unix))] fn c() { tell(System::Stopped) }
            #[test] fn d() { tell(System::Stopped) }
            #[tokio::test] async fn e() { tell(System::Stopped) }";
        assert_eq!(built(readers), <[String; 0]>::default());
        // What is there without tests only is there.
        assert_eq!(built("#[cfg(not(test))] fn a() { tell(System::Stopped) }"), ["Stopped"]);
    }

    #[test]
    fn the_kinds_are_those_that_the_schema_declares() {
        let declared =
            kinds("enum Body { A(A) } enum System { B, C { x: u8 } } enum End { D } enum Other { E }");
        let names: Vec<String> = declared.unwrap().into_iter().map(|(of, kind)| of + "::" + &kind).collect();
        assert_eq!(names, ["Body::A", "End::D", "System::B", "System::C"]);
        assert!(kinds("enum Body { A } enum End { D }").unwrap_err().contains("`System`"));
    }
}
