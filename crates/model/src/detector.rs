//! What can be looked for in texts, by name and in groups.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bartizan_base::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! detectors {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $($group:ident)*,)+) => {
        /// What a detector looks for. Written by its name; one that a tenant declares itself as `custom:NAME`.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Detector {
            $($(#[doc = $doc])+ $variant,)+
            /// Words and patterns that the tenant declares as a resource `detector` of this name.
            Custom(Name),
        }

        impl Detector {
            /// Every detector that is built in.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in policies and in what replaces a match; for one of the tenant's own the name it is declared by.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Custom(name) => name.as_str(),
                }
            }

            /// What it finds, in one sentence.
            #[must_use]
            pub const fn meaning(&self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                    Self::Custom(_) => "What the tenant declares.",
                }
            }

            const fn groups(&self) -> &'static [Group] {
                match self {
                    $(Self::$variant => &[$(Group::$group),*],)+
                    Self::Custom(_) => &[],
                }
            }
        }
    };
}

detectors! {
    /// E-mail addresses.
    Email "email" Pii,
    /// Telephone numbers.
    Phone "phone" Pii,
    /// Payment card numbers: brand, length and check digit (ISO/IEC 7812).
    Card "card" Pii Financial,
    /// International bank account numbers: length of the country, check digits (ISO 13616).
    Iban "iban" Pii Financial,
    /// Addresses of machines on the internet: IPv4, IPv6.
    Ip "ip" Pii,
    /// Dates beside words that say somebody was born then.
    BirthDate "birth_date" Pii,
    /// United States: social security number.
    UsSsn "us_ssn" Pii NationalIds,
    /// Germany: tax identification number (§ 139b AO).
    DeTaxId "de_tax_id" Pii NationalIds,
    /// France: social security number (NIR).
    FrNir "fr_nir" Pii NationalIds,
    /// Spain: DNI and NIE.
    EsDni "es_dni" Pii NationalIds,
    /// Italy: codice fiscale.
    ItCodiceFiscale "it_codice_fiscale" Pii NationalIds,
    /// Netherlands: burgerservicenummer.
    NlBsn "nl_bsn" Pii NationalIds,
    /// United Kingdom: national insurance number.
    UkNino "uk_nino" Pii NationalIds,
    /// England and Wales: NHS number.
    UkNhs "uk_nhs" Pii NationalIds,
    /// Poland: PESEL.
    PlPesel "pl_pesel" Pii NationalIds,
    /// Sweden: personnummer.
    SePersonnummer "se_personnummer" Pii NationalIds,
    /// Switzerland: AHV number.
    ChAhv "ch_ahv" Pii NationalIds,
    /// Brazil: CPF.
    BrCpf "br_cpf" Pii NationalIds,
    /// India: Aadhaar number.
    InAadhaar "in_aadhaar" Pii NationalIds,
    /// Belgium: national register number.
    BeNrn "be_nrn" Pii NationalIds,
    /// Norway: fødselsnummer.
    NoFnr "no_fnr" Pii NationalIds,
    /// Finland: henkilötunnus.
    FiHetu "fi_hetu" Pii NationalIds,
    /// China: resident identity number (GB 11643).
    CnRic "cn_ric" Pii NationalIds,
    /// Türkiye: identity number.
    TrTckn "tr_tckn" Pii NationalIds,
    /// Canada: social insurance number.
    CaSin "ca_sin" Pii NationalIds,
    /// API keys of this house, whose checksum holds.
    BartizanKey "bartizan_key" Secrets,
    /// Tokens of GitHub.
    GithubToken "github_token" Secrets,
    /// Access keys of AWS, and secrets beside them.
    AwsKey "aws_key" Secrets,
    /// Tokens of Slack.
    SlackToken "slack_token" Secrets,
    /// Secret keys of Stripe.
    StripeKey "stripe_key" Secrets,
    /// API keys and access tokens of Google.
    GoogleKey "google_key" Secrets,
    /// API keys of OpenAI.
    OpenaiKey "openai_key" Secrets,
    /// API keys of Anthropic.
    AnthropicKey "anthropic_key" Secrets,
    /// Tokens of npm.
    NpmToken "npm_token" Secrets,
    /// Tokens of PyPI.
    PypiToken "pypi_token" Secrets,
    /// Signed tokens (JWT, RFC 7519).
    Jwt "jwt" Secrets,
    /// Private keys in PEM (RFC 7468).
    PrivateKey "private_key" Secrets,
    /// What stands behind words such as `password:` and looks like one.
    Password "password" Secrets,
}

/// Detectors that are named together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What people are identified by.
    NationalIds,
    /// Cards and accounts.
    Financial,
    /// Keys, tokens, passwords.
    Secrets,
    /// All personal data.
    Pii,
}

impl Group {
    /// Every group; one that holds another stands behind it.
    pub const ALL: &[Self] = &[Self::NationalIds, Self::Financial, Self::Secrets, Self::Pii];

    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NationalIds => "national_ids",
            Self::Financial => "financial",
            Self::Secrets => "secrets",
            Self::Pii => "pii",
        }
    }

    /// What belongs to it.
    #[must_use]
    pub fn members(self) -> BTreeSet<Detector> {
        Detector::ALL.iter().filter(|d| d.groups().contains(&self)).cloned().collect()
    }
}

/// No detector is written so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no detector of that name; one of your own is written `custom:NAME`")]
pub struct UnknownDetector;

impl FromStr for Detector {
    type Err = UnknownDetector;

    fn from_str(text: &str) -> Result<Self, UnknownDetector> {
        match text.strip_prefix("custom:") {
            Some(name) => name.parse().map(Self::Custom).map_err(|_| UnknownDetector),
            None => Self::ALL.iter().find(|d| d.name() == text).cloned().ok_or(UnknownDetector),
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Self::Custom(_)) {
            f.write_str("custom:")?;
        }
        f.write_str(self.name())
    }
}

impl Serialize for Detector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Detector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Detector {
    fn schema_name() -> Cow<'static, str> {
        "Detector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::ALL.iter().map(Self::name).collect();
        json_schema!({"type": "string", "anyOf": [{"enum": names}, {"pattern": "^custom:"}]})
    }
}

/// What stands in the place of a match. A stricter one is greater: uniting takes the strictest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MaskBy {
    /// A token that gives the value back to whoever may see it (`content:read`), and to the caller, whose own it is, in the answer.
    TokenReturned,
    /// A token that gives the value back to whoever may see it (`content:read`).
    Token,
    /// A keyed hash: the same value is the same text for a tenant, and nothing leads back.
    Hash,
    /// The detector's name.
    #[default]
    Name,
}

impl MaskBy {
    /// Every way.
    pub const ALL: &[Self] = &[Self::TokenReturned, Self::Token, Self::Hash, Self::Name];

    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenReturned => "token_returned",
            Self::Token => "token",
            Self::Hash => "hash",
            Self::Name => "name",
        }
    }

    /// Whether it is the one that need not be written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back_and_no_group_is_called_like_a_detector() {
        let mut seen = BTreeSet::new();
        for detector in Detector::ALL {
            assert!(seen.insert(detector.name().to_owned()), "{detector}");
            assert_eq!(detector.to_string().parse(), Ok(detector.clone()));
            let json = serde_json::to_string(detector).unwrap();
            assert_eq!(serde_json::from_str::<Detector>(&json).unwrap(), *detector);
        }
        let own = Detector::Custom(Name::literal("email"));
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        assert_ne!(own, Detector::Email);
        assert!("ssn".parse::<Detector>().is_err() && "custom:".parse::<Detector>().is_err());
        assert!(Group::ALL.iter().all(|g| seen.insert(g.name().to_owned())));
    }

    #[test]
    fn groups_hold_what_they_say_and_larger_ones_stand_last() {
        assert!(Group::Pii.members().is_superset(&Group::NationalIds.members()));
        assert!(Group::Pii.members().is_superset(&Group::Financial.members()));
        assert!(Group::Pii.members().is_disjoint(&Group::Secrets.members()));
        for (at, group) in Group::ALL.iter().enumerate() {
            assert!(!group.members().is_empty());
            assert!(Group::ALL[..at].iter().all(|before| !before.members().is_superset(&group.members())));
        }
        let all: BTreeSet<Detector> = Group::ALL.iter().flat_map(|g| g.members()).collect();
        assert_eq!(all.len(), Detector::ALL.len(), "each belongs somewhere");
    }
}
