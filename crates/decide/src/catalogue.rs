//! The catalogue of patterns: small bundles to begin with, each with its tests and a page.

use std::collections::BTreeMap;

use crate::bundle::Bundle;

/// What every pattern stands on.
const BASE: &str = include_str!("../catalogue/base.cedar");

/// A pattern.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name, and that of its files.
    pub name: &'static str,
    policy: &'static str,
    tests: &'static str,
    readme: &'static str,
}

macro_rules! template {
    ($name:literal) => {
        Template {
            name: $name,
            policy: include_str!(concat!("../catalogue/", $name, "/policy.cedar")),
            tests: include_str!(concat!("../catalogue/", $name, "/tests.toml")),
            readme: include_str!(concat!("../catalogue/", $name, "/README.md")),
        }
    };
}

/// Every pattern, by name.
pub const TEMPLATES: &[Template] = &[
    template!("agents-never-alone-in-production"),
    template!("bound-credentials-for-agents"),
    template!("budget-per-day"),
    template!("consequential-acts-need-trust"),
    template!("flows-fit-the-sink"),
    template!("kept-for-audit"),
    template!("lethal-trifecta"),
    template!("managed-devices-only"),
    template!("masked-data-for-contractors"),
    template!("models-by-sensitivity"),
    template!("no-export-of-restricted"),
    template!("office-hours"),
    template!("purpose-for-personal-data"),
    template!("risky-callers-step-back"),
    template!("rule-of-two"),
    template!("separation-of-duties"),
    template!("strong-login-in-production"),
    template!("two-people-for-weights"),
];

impl Template {
    /// The pattern of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    /// What it is for, in one line.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.readme.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or(self.name)
    }

    /// What it is for.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.readme.split_once('\n').map_or("", |(_, text)| text).trim()
    }

    /// Its rules.
    #[must_use]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// A bundle of it: its rules, what they stand on, and their tests. Files of several patterns can lie in one folder.
    #[must_use]
    pub fn bundle(&self) -> Bundle {
        let files = [
            ("base.cedar".to_owned(), BASE.to_owned()),
            (format!("{}.cedar", self.name), self.policy.to_owned()),
            (format!("tests/{}.toml", self.name), self.tests.to_owned()),
        ];
        Bundle { files: files.into() }
    }

    /// The page of the catalogue.
    #[must_use]
    pub fn page() -> String {
        let mut out = "# Patterns of policy\n\nEach is a folder of rules with tests: `bartizan policy new PATTERN FOLDER` writes one, `bartizan policy new --list` names them.\nSeveral can be written into one folder. `base.cedar` is what they stand on. This page is made of the folders under\n`crates/decide/catalogue`; a test compares the two.\n".to_owned();
        for template in TEMPLATES {
            let (name, title, text) = (template.name, template.title(), template.text());
            out.push_str(&format!(
                "\n## {title}\n\n`{name}`. {text}\n\n```cedar\n{}\n```\n",
                template.policy.trim()
            ));
        }
        out
    }
}

/// The names of the patterns, for hints.
#[must_use]
pub fn nearest_template(name: &str) -> Option<&'static str> {
    crate::near::nearest(name, TEMPLATES.iter().map(|template| template.name))
}

/// The files that a new bundle begins with if no pattern is named: the starter, with a test to go on from.
#[must_use]
pub fn first_files() -> BTreeMap<String, String> {
    let mut files = crate::starter::starter_bundle().files;
    files.insert("tests/first.toml".to_owned(), include_str!("../starter/first.toml").to_owned());
    files
}
