//! What has to be the same for an answer to be given again.

use bartizan_base::{Digest, Name};
use bartizan_model::directory::{ModelSpec, UpstreamSpec};
use bartizan_model::{Label, Obligations, Tenant};
use http::HeaderMap;
use serde::Serialize;

/// All of it. An answer is never given across any part of this, so it rather holds too much than too little.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Key<'a> {
    pub(crate) tenant: &'a Tenant,
    /// Who asks and under which credential, where answers are not shared.
    pub(crate) session: Option<Digest>,
    /// By which rules it is permitted.
    pub(crate) rules: &'a [Name],
    /// The bundle that they stand in.
    pub(crate) policy: Digest,
    pub(crate) obligations: &'a Obligations,
    /// The state that all of that was read from. Whatever is changed in the house moves it.
    pub(crate) revision: u64,
    /// The label of what comes back.
    pub(crate) label: &'a Label,
    pub(crate) model: &'a Name,
    /// Where it goes, and what it is called there.
    pub(crate) spec: &'a ModelSpec,
    /// The upstreams of its routes.
    pub(crate) upstreams: Vec<(&'a Name, &'a UpstreamSpec)>,
    /// What goes out beside the body.
    #[serde(serialize_with = "headers")]
    pub(crate) headers: HeaderMap,
    /// The most output tokens, where a limit caps them.
    pub(crate) output_most: Option<u64>,
    /// What is asked, and at which address.
    pub(crate) request: Digest,
}

impl Key<'_> {
    /// What answers are kept under; nobody can read from it what was asked. None where it cannot be told.
    pub(crate) fn digest(&self) -> Option<Digest> {
        serde_json::to_vec(self).ok().map(|bytes| Digest::of(&bytes))
    }
}

fn headers<S: serde::Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes().to_vec())).collect();
    all.sort_unstable();
    all.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use bartizan_model::{CacheSpec, Confidentiality, Detector, Integrity, MaskBy, Obligation};
    use proptest::prelude::*;

    use super::*;

    /// Everything that a key is made of, owned; each part has a few values.
    #[derive(Clone, Debug, PartialEq)]
    struct Whole {
        tenant: Tenant,
        session: Option<Digest>,
        rules: Vec<Name>,
        policy: Digest,
        obligations: Obligations,
        revision: u64,
        label: Label,
        model: Name,
        spec: ModelSpec,
        upstreams: Vec<(Name, UpstreamSpec)>,
        headers: Vec<(&'static str, &'static str)>,
        output_most: Option<u64>,
        request: Digest,
    }

    impl Whole {
        fn digest(&self) -> Digest {
            let mut headers = HeaderMap::new();
            for (name, value) in &self.headers {
                headers.append(*name, value.parse().unwrap());
            }
            let key = Key {
                tenant: &self.tenant,
                session: self.session,
                rules: &self.rules,
                policy: self.policy,
                obligations: &self.obligations,
                revision: self.revision,
                label: &self.label,
                model: &self.model,
                spec: &self.spec,
                upstreams: self.upstreams.iter().map(|(name, spec)| (name, spec)).collect(),
                headers,
                output_most: self.output_most,
                request: self.request,
            };
            key.digest().unwrap()
        }
    }

    fn name() -> impl Strategy<Value = Name> + Clone {
        prop::sample::select(vec!["a", "b", "ab"]).prop_map(|name| name.parse().unwrap())
    }

    fn digest() -> impl Strategy<Value = Digest> + Clone {
        (0..3_u8).prop_map(|n| Digest::of(&[n]))
    }

    fn obligations() -> impl Strategy<Value = Obligations> {
        let one = prop_oneof![
            (1..3_u64).prop_map(|output_tokens_max| Obligation::Cap { output_tokens_max }),
            Just(Obligation::Watch),
            prop::sample::select(vec![MaskBy::Name, MaskBy::Hash, MaskBy::Token, MaskBy::TokenReturned])
                .prop_map(|by| Obligation::Redact { detectors: [Detector::Email].into(), by }),
            Just(Obligation::redact([Detector::Email, Detector::Card])),
            name().prop_map(|host| Obligation::StripLinks { hosts: [host].into() }),
        ];
        prop::collection::vec(one, 0..3).prop_map(|all| all.into_iter().collect())
    }

    fn label() -> impl Strategy<Value = Label> {
        let confidentiality =
            prop::sample::select(vec![Confidentiality::Public, Confidentiality::Restricted]);
        let integrity = prop::sample::select(vec![Integrity::Trusted, Integrity::Untrusted]);
        (prop::collection::btree_set(name(), 0..2), confidentiality, integrity).prop_map(
            |(categories, confidentiality, integrity)| Label { categories, confidentiality, integrity },
        )
    }

    fn spec() -> impl Strategy<Value = ModelSpec> {
        (name(), prop::option::of(name()), 1..3_u32).prop_map(|(upstream, upstream_model, max_age_s)| {
            let mut spec: ModelSpec =
                serde_json::from_str(r#"{"upstream": "x", "dialects": [], "environment": "e"}"#).unwrap();
            (spec.upstream, spec.upstream_model) = (upstream, upstream_model);
            spec.cache = Some(CacheSpec { max_age_s, among: Default::default() });
            spec
        })
    }

    fn upstream() -> impl Strategy<Value = UpstreamSpec> {
        prop::sample::select(vec!["https://a.example", "https://b.example"])
            .prop_map(|url| serde_json::from_value(serde_json::json!({"base_url": url})).unwrap())
    }

    fn whole() -> impl Strategy<Value = Whole> {
        let header = prop::sample::select(vec![("accept", "a"), ("accept", "b"), ("anthropic-beta", "a")]);
        let who = (name().prop_map(Tenant), prop::option::of(digest()), label());
        let why = (prop::collection::vec(name(), 0..3), digest(), obligations(), 0..3_u64);
        let at = (name(), spec(), prop::collection::vec((name(), upstream()), 0..2));
        let what = (prop::collection::vec(header, 0..2), prop::option::of(1..3_u64), digest());
        (who, why, at, what).prop_map(|(who, why, at, what)| {
            let ((tenant, session, label), (rules, policy, obligations, revision)) = (who, why);
            let ((model, spec, upstreams), (mut headers, output_most, request)) = (at, what);
            headers.sort_unstable();
            Whole {
                tenant,
                session,
                rules,
                policy,
                obligations,
                revision,
                label,
                model,
                spec,
                upstreams,
                headers,
                output_most,
                request,
            }
        })
    }

    /// `one` with exactly one part of `other`.
    fn with_part(one: &Whole, other: &Whole, part: u8) -> Whole {
        let (one, other) = (one.clone(), other.clone());
        match part {
            0 => Whole { tenant: other.tenant, ..one },
            1 => Whole { session: other.session, ..one },
            2 => Whole { rules: other.rules, ..one },
            3 => Whole { policy: other.policy, ..one },
            4 => Whole { obligations: other.obligations, ..one },
            5 => Whole { revision: other.revision, ..one },
            6 => Whole { label: other.label, ..one },
            7 => Whole { model: other.model, ..one },
            8 => Whole { spec: other.spec, ..one },
            9 => Whole { upstreams: other.upstreams, ..one },
            10 => Whole { headers: other.headers, ..one },
            11 => Whole { output_most: other.output_most, ..one },
            _ => Whole { request: other.request, ..one },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn inv_tenant_two_asks_that_differ_in_any_part_never_share_an_answer(one in whole(), other in whole()) {
            prop_assert_eq!(one.digest() == other.digest(), one == other);
            for part in 0..13 {
                let mixed = with_part(&one, &other, part);
                prop_assert_eq!(one.digest() == mixed.digest(), one == mixed, "part {}", part);
            }
        }
    }
}
