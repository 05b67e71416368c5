//! Types: what the engine's validator says of the rules.

use std::collections::HashMap;

use cedar_policy::{Policy, PolicySet, Schema, ValidationError, ValidationMode, Validator};
use miette::Diagnostic;

use super::{Compiler, Placed, help, label};
use crate::diagnostic::BundleError;
use crate::evaluate::LEVEL;
use crate::inner::{INNER, Typing};

/// What helps where a rule looks further than [`LEVEL`].
const TOO_FAR: &str =
    "a rule may look at principal and resource and at what their attributes name, not further (2 levels)";

/// Whether the validator need not be asked.
pub(super) fn is_plainly_valid(typing: &mut Typing<'_>, policy: &Policy) -> bool {
    INNER && typing.is_plainly_valid(policy)
}

impl Compiler<'_> {
    /// Tells what is wrong with the types of rules. A warning is an error too.
    pub(super) fn validate(&mut self, schema: &Schema, typing: &mut Typing<'_>, placed: &[Placed<'_>]) {
        let new = placed.iter().filter_map(|one| Some((one, one.written.as_ref()?)));
        let doubtful: Vec<_> = new.filter(|(_, written)| !is_plainly_valid(typing, written)).collect();
        if doubtful.is_empty() {
            return;
        }
        let mut set = PolicySet::new();
        let mut by_id: HashMap<&str, (usize, &Placed<'_>)> = HashMap::new();
        for (at, (one, written)) in doubtful.into_iter().enumerate() {
            // A second rule of the same id was reported already.
            set.add(written.clone()).unwrap_or_default();
            by_id.insert(one.rule.id.as_str(), (at, one));
        }
        let result = Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL);
        let found = result
            .validation_errors()
            .map(|e| {
                let far = matches!(e, ValidationError::EntityDerefLevelViolation(_));
                (e.policy_id(), e as &dyn Diagnostic, far)
            })
            .chain(result.validation_warnings().map(|w| (w.policy_id(), w as &dyn Diagnostic, false)));
        let mut errors: Vec<(usize, BundleError)> = Vec::new();
        for (id, diagnostic, far) in found {
            let one = by_id.get(AsRef::<str>::as_ref(id));
            let told = one.map_or_else(
                || (usize::MAX, BundleError::of("", diagnostic.to_string())),
                |(at, one)| (*at, told_of(one, diagnostic)),
            );
            errors.push(if far { (told.0, told.1.help(TOO_FAR)) } else { told });
        }
        // The engine tells them in no order.
        errors.sort_by(|(one, a), (other, b)| {
            (one, a.line, a.column, &a.message).cmp(&(other, b.line, b.column, &b.message))
        });
        self.errors.extend(errors.into_iter().map(|(_, error)| error));
    }
}

/// What the engine says about a rule.
fn told_of(placed: &Placed<'_>, diagnostic: &dyn Diagnostic) -> BundleError {
    let told = placed.place.about_span(label(diagnostic), placed.rule.id.as_str(), diagnostic.to_string());
    BundleError { help: help(diagnostic), ..told }
}
