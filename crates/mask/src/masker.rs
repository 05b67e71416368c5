//! What is looked for, and what stands in its place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_base::Name;
use bartizan_model::{Detector, OnCanary};

use crate::canary::Canaries;
use crate::custom::Custom;
use crate::digits;
use crate::find::{Raw, View};
use crate::json::TextMasker;
use crate::marks;
use crate::secrets::Secrets;

/// What stands in the place of a match, and what a token of ours gives back.
pub trait Replace: fmt::Debug + Send + Sync {
    /// Appends what stands in the place of `value`. It must not be found again: brackets around words without digits, or a
    /// token.
    fn replace(&self, detector: &Detector, value: &str, out: &mut String);

    /// A canary of `detector` was found in a text; with [`OnCanary::Block`] that goes no further.
    fn sighted(&self, detector: &Detector, then: OnCanary) {
        let _ = (detector, then);
    }

    /// The value of a token, if it is given back here. What cannot be opened stays as it is.
    fn reveal(&self, token: &str) -> Option<String> {
        let _ = token;
        None
    }
}

/// The detector's name in brackets.
#[derive(Debug)]
struct Names;

impl Replace for Names {
    fn replace(&self, detector: &Detector, _: &str, out: &mut String) {
        out.push('[');
        out.push_str(detector.name());
        out.push(']');
    }
}

/// Masks what its detectors find.
#[derive(Clone, Debug)]
pub struct Masker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) how: Arc<dyn Replace>,
    /// Whether a canary was found that stops what it stands in; shared by all copies.
    pub(crate) caught: Arc<AtomicBool>,
}

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Plan {
    wanted: BTreeSet<Detector>,
    custom: Vec<Custom>,
    email: bool,
    ip: bool,
    digits: bool,
    secrets: bool,
}

impl Plan {
    /// Whether a value of JSON without letters of anybody's own could hold something: it is long enough, or looked at by what a
    /// tenant declares.
    pub(crate) fn may_hold(&self, scalar: &str) -> bool {
        !self.custom.is_empty()
            || !(matches!(scalar, "true" | "false" | "null") || scalar.len() < digits::SHORTEST)
    }

    /// What is told of canaries, in their order.
    pub(crate) fn canaries(&self) -> impl Iterator<Item = (&Detector, &Arc<Canaries>, OnCanary)> {
        self.custom.iter().filter_map(Custom::canaries)
    }
}

/// Why there is no masker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskerError {
    /// A detector that is not declared here, or not usable. What should be searched for it is not released.
    #[error("the detector `{0}` is not declared, or disabled")]
    Unknown(Name),
}

/// A masked text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked<'a> {
    /// The text, matches replaced.
    pub text: Cow<'a, str>,
    /// How many matches there were.
    pub count: u64,
}

impl Masker {
    /// A masker for `detectors`, those of the tenant's own as they are declared. Matches give way to their detector's name in
    /// brackets, such as `[email]`.
    ///
    /// # Errors
    /// When one of them is not declared.
    pub fn new(
        detectors: &BTreeSet<Detector>,
        declared: &BTreeMap<Name, Custom>,
    ) -> Result<Self, MaskerError> {
        let custom = detectors.iter().filter_map(|detector| match detector {
            Detector::Custom(name) => {
                Some(declared.get(name).cloned().ok_or_else(|| MaskerError::Unknown(name.clone())))
            }
            _ => None,
        });
        let custom = custom.collect::<Result<_, _>>()?;
        let any = |group: bartizan_model::Group| !group.members().is_disjoint(detectors);
        let plan = Plan {
            email: detectors.contains(&Detector::Email),
            ip: detectors.contains(&Detector::Ip),
            digits: detectors
                .iter()
                .any(|d| *d != Detector::Email && bartizan_model::Group::Pii.members().contains(d)),
            secrets: any(bartizan_model::Group::Secrets),
            wanted: detectors.clone(),
            custom,
        };
        Ok(Self { plan: Arc::new(plan), how: Arc::new(Names), caught: Arc::default() })
    }

    /// Whether it looks for canaries.
    #[must_use]
    pub fn looks_for_canaries(&self) -> bool {
        self.plan.canaries().next().is_some()
    }

    /// Whether this masker, or a copy of it, found a canary that stops what it stands in. Of that text nothing is given from
    /// there on; who asks this can stop the rest, too.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.caught.load(Ordering::Relaxed)
    }

    /// The same with something else in the place of matches.
    #[must_use]
    pub fn replacing(self, how: Arc<dyn Replace>) -> Self {
        Self { how, ..self }
    }

    /// Masks a whole text. Of a JSON document, strings are searched as they read without escapes, and numbers as they stand;
    /// what comes out is JSON again. Of a text with a canary that stops it only the detector's name in brackets is left.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Masked<'a> {
        let mut whole = TextMasker::new(self.clone());
        let mut out = whole.feed(text);
        out.push_str(&whole.finish());
        let count = whole.count();
        if let Some(detector) = whole.caught() {
            return Masked { text: Cow::Owned(format!("[{}]", detector.name())), count };
        }
        let text = if whole.changed() { Cow::Owned(out) } else { Cow::Borrowed(text) };
        Masked { text, count }
    }
}

/// How far each finder is in a text.
#[derive(Debug)]
pub(crate) struct Places {
    emails: usize,
    ipv6: usize,
    digits: usize,
    tokens: usize,
    marks: usize,
    secrets: Secrets,
    custom: Vec<Vec<usize>>,
}

impl Places {
    /// All of them at the beginning; the finder of secrets, and only it, looks at what stands before the text too.
    pub(crate) fn new(plan: &Plan, begin: usize) -> Self {
        let custom = plan.custom.iter().map(|custom| vec![begin; custom.places()]).collect();
        let secrets = Secrets::default();
        Self { emails: begin, ipv6: begin, digits: begin, tokens: begin, marks: 0, secrets, custom }
    }

    /// The same for another text.
    pub(crate) fn begin(&mut self, begin: usize) {
        for place in [&mut self.emails, &mut self.ipv6, &mut self.digits, &mut self.tokens] {
            *place = begin;
        }
        self.custom.iter_mut().flatten().for_each(|place| *place = begin);
        (self.marks, self.secrets) = (0, Secrets::default());
    }

    /// Lets every finder go on as far as it is sure, and says up to where all are.
    pub(crate) fn advance(&mut self, plan: &Plan, view: View<'_>, out: &mut Vec<Raw>) -> usize {
        let mut sure = view.len();
        self.tokens = marks::tokens(view, self.tokens, out);
        sure = sure.min(self.tokens);
        if plan.email {
            self.emails = marks::emails(view, self.emails, out);
            sure = sure.min(self.emails);
        }
        if plan.ip {
            self.ipv6 = marks::ipv6(view, self.ipv6, out);
            sure = sure.min(self.ipv6);
        }
        if plan.digits {
            self.digits = digits::find(view, &plan.wanted, self.digits, out);
            sure = sure.min(self.digits);
        }
        if plan.secrets {
            self.marks = self.secrets.find(view, &plan.wanted, self.marks, out);
            sure = sure.min(self.marks);
        }
        for (custom, places) in plan.custom.iter().zip(&mut self.custom) {
            custom.find(view, places, out);
            sure = places.iter().copied().fold(sure, usize::min);
        }
        sure
    }

    /// Counts places from `gone` bytes later on.
    pub(crate) fn forget(&mut self, gone: usize) {
        let own = [&mut self.emails, &mut self.ipv6, &mut self.digits, &mut self.tokens, &mut self.marks];
        for place in own.into_iter().chain(self.custom.iter_mut().flatten()) {
            *place = place.saturating_sub(gone);
        }
        self.secrets.forget(gone);
    }
}
