//! Every pattern of the catalogue compiles without a warning, passes its tests, and its tests show each rule both ways.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bartizan_base::Timestamp;
use bartizan_decide::{Bundle, CompiledBundle, TEMPLATES, Template, Tested, first_files};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn failures(tested: &[Tested]) -> Vec<String> {
    let failed = tested.iter().filter(|t| !t.differences.is_empty());
    failed.map(|t| format!("{}: {:?}\n{}", t.name, t.differences, t.explanation)).collect()
}

#[test]
fn every_pattern_is_compiled_linted_tested_and_covered_both_ways() {
    for template in TEMPLATES {
        let name = template.name;
        let bundle = template.bundle();
        let compiled = CompiledBundle::compile(&bundle).unwrap_or_else(|e| panic!("{name}\n{e}"));
        assert_eq!(compiled.warnings(), [], "{name}");
        let compiled = Arc::new(compiled);
        let tested = compiled.test(&bundle, NOW);
        assert_eq!(failures(&tested), Vec::<String>::new(), "{name}");
        for covered in compiled.coverage(&bundle, NOW) {
            // What it stands on is not what it is about.
            let own = template.policy().contains(&format!("\"{}\"", covered.rule));
            assert!(!own || covered.both_ways(), "{name}: {covered:?}");
        }
    }
}

#[test]
fn all_patterns_lie_in_one_folder_together() {
    let files: BTreeMap<String, String> = TEMPLATES
        .iter()
        .flat_map(|t| t.bundle().files)
        .filter(|(name, _)| !name.starts_with("tests/"))
        .collect();
    let compiled = CompiledBundle::compile(&Bundle { files }).unwrap_or_else(|e| panic!("{e}"));
    assert!(compiled.len() > TEMPLATES.len());
}

#[test]
fn every_folder_is_in_the_catalogue_and_patterns_are_formatted_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let mut folders: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let names: Vec<&str> = TEMPLATES.iter().map(|t| t.name).collect();
    assert_eq!(folders, names);
    for template in TEMPLATES {
        assert!(template.title() != template.name && template.text().ends_with('.'), "{}", template.name);
    }
}

#[test]
fn the_page_of_the_catalogue_is_made_of_its_folders() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/catalogue.md");
    let made = Template::page();
    if std::env::var_os("BARTIZAN_WRITE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|page| page == made),
        "run with BARTIZAN_WRITE_DOCS=1 to write docs/catalogue.md"
    );
}

#[test]
fn a_new_bundle_without_a_pattern_passes_its_first_tests() {
    let bundle = Bundle { files: first_files() };
    let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
    assert_eq!(failures(&compiled.test(&bundle, NOW)), Vec::<String>::new());
}

#[test]
fn the_example_is_the_starter_with_tests_for_each_of_its_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let mut files = bartizan_decide::starter_bundle().files;
    assert_eq!(files.get("policy.cedar"), Some(&read("policy.cedar")));
    files.insert("tests/models.toml".to_owned(), read("tests/models.toml"));
    let bundle = Bundle { files };
    let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
    assert_eq!(failures(&compiled.test(&bundle, NOW)), Vec::<String>::new());
    let ids: Vec<String> = compiled.coverage(&bundle, NOW).iter().map(|c| c.rule.to_string()).collect();
    for rule in ["everybody-looks-after-their-own", "enforcement-points-ask"] {
        assert!(ids.iter().any(|id| id == rule), "{rule}");
    }
}
