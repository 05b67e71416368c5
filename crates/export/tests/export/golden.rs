//! The catalogue in every format, as reviewed. Foreign programs judge these very files in `tests/outside/ocsf.py`.

use std::collections::BTreeSet;
use std::path::Path;

use bartizan_export::{Format, Kind, Said, catalogue};
use bartizan_model::record::Body;
use bartizan_model::{Action, record::VerdictKind};

#[test]
fn the_golden_files_are_what_is_written() {
    for format in Format::ALL {
        let name = format!("records.{}", format.extension());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
        let golden = std::fs::read(&path).unwrap_or_default();
        let written = crate::world::export(*format, &catalogue::placed());
        let first = written.iter().zip(&golden).position(|(a, b)| a != b);
        assert!(
            written == golden,
            "{name} differs from byte {first:?} on; if that is meant: cargo run -p bartizan-export --example golden"
        );
    }
}

#[test]
fn the_catalogue_has_every_kind_action_and_verdict() {
    let mut kinds = BTreeSet::new();
    let mut actions = BTreeSet::new();
    let mut verdicts = BTreeSet::new();
    let mut others = 0;
    for placed in catalogue::placed() {
        let Said::Record(record) = placed.said() else {
            others += 1;
            continue;
        };
        kinds.insert(Kind::of(&record.body));
        match &record.body {
            Body::Intent(intent) => {
                actions.insert(intent.what.action);
                verdicts.insert(VerdictKind::Permit);
            }
            Body::Refusal(refusal) => {
                actions.extend(refusal.what.as_ref().map(|what| what.action));
                verdicts.insert(refusal.verdict);
            }
            Body::Outcome(_) | Body::System(_) => {}
        }
    }
    assert_eq!(kinds, Kind::ALL.iter().copied().collect());
    assert_eq!(actions, Action::ALL.iter().copied().collect());
    let every = [
        VerdictKind::Permit,
        VerdictKind::StepUp,
        VerdictKind::Justify,
        VerdictKind::Hold,
        VerdictKind::Deny,
    ];
    assert_eq!(verdicts, every.into());
    assert_eq!(others, 2);
}

#[test]
fn every_example_is_of_the_kind_it_stands_for() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of(&catalogue::example(*kind)), *kind);
    }
}
