//! Tokens of workloads, presented as authorization grants (RFC 7523, 2.1 and 3): Kubernetes, CI systems, SPIFFE (JWT-SVID).

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{Audience, TimeRules, Times, put, put_times};
use crate::id::untyped;
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, Replay, TokenError, form::Form};

/// The claims of a workload's token. Such tokens carry no type of their own, so a rule that trusts their issuer must trust it
/// for this and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadClaims {
    /// The platform. A SPIFFE identity may leave it out: its trust domain says it.
    pub iss: Option<String>,
    /// The workload.
    pub sub: String,
    /// For whom.
    pub aud: Audience,
    /// When it holds.
    pub times: Times,
    /// Its id; platforms leave it out, and such a token is not known again.
    pub jti: Option<String>,
    /// What else the platform says, such as repository, branch or namespace.
    pub others: Map<String, Value>,
}

/// Against what a workload's token is held.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadRules<'a> {
    /// The platform whose keys were used. For SPIFFE the trust domain, as `spiffe://trust.domain`.
    pub issuer: &'a str,
    /// What it must name: our own issuer identifier, or what the rule says.
    pub audience: &'a str,
    /// Times.
    pub time: TimeRules,
}

impl WorkloadClaims {
    /// What to remember, so that it is taken once, where it has an id.
    #[must_use]
    pub fn replay(&self, rules: &WorkloadRules<'_>) -> Option<Replay> {
        let jti = self.jti.as_deref()?;
        Some(Replay::new("workload", rules.issuer, jti, &self.times, &rules.time))
    }
}

impl Profile for WorkloadClaims {
    const TYP: &'static str = "JWT";
}

impl Form for WorkloadClaims {
    type Rules<'a> = WorkloadRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &WorkloadRules<'_>) -> bool {
        untyped(jws)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        // Marks of ID tokens, events, logout tokens and proofs, and of tokens that say whom they are bound to.
        for name in ["nonce", "at_hash", "c_hash", "events", "htm", "cnf", "act"] {
            claims.absent(name)?;
        }
        let read = Self {
            iss: claims.text_opt("iss")?,
            sub: claims.text("sub")?,
            aud: claims.audience()?,
            times: claims.times()?,
            jti: claims.text_opt("jti")?,
            others: claims.others(),
        };
        // A client that names itself is a client assertion.
        if read.iss.as_ref() == Some(&read.sub) { Err(TokenError::Claim("sub")) } else { Ok(read) }
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = self.others.clone();
        put(&mut out, "iss", self.iss.as_deref());
        put(&mut out, "sub", Some(self.sub.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put_times(&mut out, &self.times);
        put(&mut out, "jti", self.jti.as_deref());
        Ok(out)
    }

    fn others(&self) -> Option<&Map<String, Value>> {
        Some(&self.others)
    }

    fn check(&self, _: Algorithm, rules: &WorkloadRules<'_>) -> Result<(), TokenError> {
        // The issuer of a SPIFFE identity is its trust domain, whatever `iss` says.
        let spiffe = rules.issuer.strip_prefix("spiffe://").is_some();
        let ours = if spiffe {
            self.sub.strip_prefix(rules.issuer).is_some_and(|path| path.len() > 1 && path.starts_with('/'))
        } else {
            self.iss.as_deref() == Some(rules.issuer)
        };
        if !ours {
            return Err(TokenError::Issuer);
        }
        if !self.aud.contains(rules.audience) {
            return Err(TokenError::Audience);
        }
        rules.time.check(&self.times)
    }
}
