//! A house with an authority of its own, a foreign issuer, and some who come.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_identify::*;
use bartizan_jose::testing::ForeignKey;
use bartizan_jose::{AccessClaims, Algorithm, Confirmation, DpopProof, SigningKey, Times, X5t};
use bartizan_model::asset::DeviceSpec;
use bartizan_model::directory::{AgentSpec, IssuerSpec, PrincipalSpec, Spec, Status};
use bartizan_model::{Document, GrantId, PrincipalId, PrincipalKind, ReasonCode, Risk, SessionId, Tenant};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const PLANE: &str = "https://ai.example";
pub(crate) const DOOR: &str = "https://ai.example/v1";
pub(crate) const PATH: &str = "https://ai.example/v1/chat/completions";
pub(crate) const CLIENT: &str = "https://app.example/client";
pub(crate) const COMPANY: &str = "https://company.example";

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn after(secs: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(secs))
}

pub(crate) fn before(secs: u64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() - secs)
}

pub(crate) fn id(n: u8) -> PrincipalId {
    PrincipalId::from_parts(before(9_000), [n; 10])
}

pub(crate) fn session() -> SessionId {
    SessionId::from_parts(before(600), [7; 10])
}

pub(crate) fn grant() -> GrantId {
    GrantId::from_parts(before(500), [8; 10])
}

pub(crate) fn signing(seed: u64) -> SigningKey {
    SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(seed)).unwrap()
}

pub(crate) struct World {
    pub(crate) documents: Vec<Document>,
    pub(crate) epochs: Vec<EpochEntry>,
    pub(crate) risks: Vec<(Assessed, Risk)>,
    pub(crate) revision: u64,
    pub(crate) key: SigningKey,
    pub(crate) key_until: Timestamp,
    pub(crate) has_authority: bool,
    pub(crate) company: ForeignKey,
    pub(crate) identifier: Identifier,
}

/// How something is shown.
#[derive(Clone)]
pub(crate) struct Showing {
    pub(crate) authorization: String,
    pub(crate) proofs: Vec<String>,
    pub(crate) place: Place,
}

impl World {
    pub(crate) fn new() -> Self {
        let document = |n: &str, p: u8, spec| Document { name: name(n), principal: Some(id(p)), spec };
        let user = || Spec::User(PrincipalSpec::default());
        let company = ForeignKey::ed25519("c1", &SeededRandom::new(2)).unwrap();
        let identifier = Identifier::new();
        let jwks = json!({"keys": [company.public_jwk()]}).to_string();
        identifier.learn_keys(&name("company"), jwks.as_bytes(), NOW).unwrap();
        Self {
            documents: vec![
                document("alice", 1, user()),
                document("bob", 2, user()),
                document("reporter", 3, Spec::Agent(agent("alice"))),
                document("helper", 4, Spec::Agent(agent("bob"))),
                document("batch", 5, Spec::Workload(agent("bob"))),
                Document { name: name("company"), principal: None, spec: Spec::Issuer(issuer()) },
                Document { name: name("laptop"), principal: None, spec: Spec::Device(DeviceSpec::default()) },
            ],
            epochs: Vec::new(),
            risks: Vec::new(),
            revision: 50,
            key: signing(1),
            key_until: after(100_000),
            has_authority: true,
            company,
            identifier,
        }
    }

    pub(crate) fn directory(&self) -> Directory {
        let tenant = Tenant::default_tenant();
        let documents = self.documents.iter().map(|d| (tenant.clone(), d.clone()));
        let directory =
            Directory::build(self.revision, documents, std::iter::empty(), self.epochs.iter().cloned())
                .with_risks(self.risks.iter().map(|(whom, risk)| (tenant.clone(), *whom, risk.clone())));
        let own = OwnKey { tenant: tenant.clone(), public: self.key.public().clone(), until: self.key_until };
        if self.has_authority { directory.with_own(ISSUER.into(), [own]).unwrap() } else { directory }
    }

    pub(crate) fn spec(&mut self, of: &str) -> &mut Spec {
        &mut self.documents.iter_mut().find(|d| d.name.as_str() == of).unwrap().spec
    }

    pub(crate) fn device(&mut self, spec: DeviceSpec) {
        *self.spec("laptop") = Spec::Device(spec);
    }

    pub(crate) fn mark(&mut self, kind: EpochKind, what: &str, not_before: Timestamp) {
        self.revision += 1;
        self.epochs.push(EpochEntry {
            tenant: Tenant::default_tenant(),
            kind,
            name: name(what),
            not_before,
            revision: self.revision,
        });
    }

    /// A token of ours, changed.
    pub(crate) fn own(&self, change: impl FnOnce(&mut AccessClaims)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.key.issue(&claims).unwrap().expose().clone()
    }

    /// A token of the company's, changed.
    pub(crate) fn foreign(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = foreign_claims();
        change(&mut claims);
        self.company.sign("at+jwt", &claims).unwrap()
    }

    pub(crate) fn show_with(
        &self,
        identifier: &Identifier,
        showing: &Showing,
        now: Timestamp,
    ) -> Result<Caller, ReasonCode> {
        let bytes = [showing.authorization.as_bytes()];
        let proofs = showing.proofs.iter().map(String::as_bytes);
        let presented =
            Presented::at(bytes.into_iter(), std::iter::empty(), proofs, || showing.place.clone())?;
        match identifier.identify(&self.directory(), &presented, now) {
            Identified::Caller(caller) => Ok(*caller),
            Identified::Refused { reason, .. } => Err(reason),
            Identified::NeedKeys(_) | Identified::NeedBundle(_) | Identified::NeedCertificate(_) => {
                Err(ReasonCode::IssuerKeysUnavailable)
            }
        }
    }

    pub(crate) fn show(&self, showing: &Showing) -> Result<Caller, ReasonCode> {
        self.show_with(&self.identifier, showing, NOW)
    }

    pub(crate) fn bearer(&self, token: &str) -> Result<Caller, ReasonCode> {
        self.show(&Showing::bearer(token))
    }

    /// Signs whatever text with our own key.
    pub(crate) fn raw(&self, header: &str, payload: &str) -> String {
        raw(&self.key, header, payload)
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": "Ed25519", "typ": "at+jwt", "kid": self.key.kid()})
    }

    /// The payload of a good token of ours, as text.
    pub(crate) fn payload(&self) -> String {
        let token = self.own(|_| {});
        String::from_utf8(URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    }
}

/// Signs whatever text.
pub(crate) fn raw(key: &SigningKey, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let pair = Ed25519KeyPair::from_seed_unchecked(key.private().expose()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
}

impl Showing {
    pub(crate) fn bearer(token: &str) -> Self {
        let place = Place {
            resources: vec![DOOR.to_owned(), PLANE.to_owned()],
            method: "POST".to_owned(),
            uri: PATH.to_owned(),
            certificate: None,
        };
        Self { authorization: format!("Bearer {token}"), proofs: Vec::new(), place }
    }

    /// Bound to `key`, by a proof changed as it is said.
    pub(crate) fn dpop(token: &str, key: &SigningKey, change: impl FnOnce(&mut DpopProof)) -> Self {
        let mut proof = DpopProof {
            jti: "p-1".to_owned(),
            htm: "POST".to_owned(),
            htu: PATH.to_owned(),
            issued: NOW,
            ath: Some(Digest::of(token.as_bytes())),
            nonce: None,
        };
        change(&mut proof);
        let proof = key.prove(&proof).unwrap().expose().clone();
        Self { authorization: format!("DPoP {token}"), proofs: vec![proof], ..Self::bearer(token) }
    }

    pub(crate) fn over(mut self, certificate: &[u8]) -> Self {
        self.place.certificate = Some(PeerCertificate::of_connection(certificate).thumbprint());
        self
    }

    pub(crate) fn at(mut self, resources: &[&str]) -> Self {
        self.place.resources = resources.iter().map(|r| (*r).to_owned()).collect();
        self
    }
}

pub(crate) fn claims() -> AccessClaims {
    let times = Times { issued: before(10), not_before: None, expires: after(290) };
    let mut claims = AccessClaims::new(ISSUER, &id(1).to_string(), DOOR, CLIENT, "tok_1", times);
    claims.scope = Some("openid model:use".to_owned());
    claims.acr = Some("phr".to_owned());
    claims.auth_time = Some(before(60));
    claims.sid = Some(session().to_string());
    private(&mut claims, &json!({"rev": 50, "kind": "user", "grant": grant().to_string()}));
    claims
}

pub(crate) fn private(claims: &mut AccessClaims, private: &Value) {
    claims.others.insert("bartizan".to_owned(), private.clone());
}

/// Bound to a key.
pub(crate) fn to_key(claims: &mut AccessClaims, key: &SigningKey) {
    claims.cnf = Some(Confirmation::Key(key.thumbprint()));
}

/// Bound to a certificate.
pub(crate) fn to_certificate(claims: &mut AccessClaims, certificate: &[u8]) {
    claims.cnf = Some(Confirmation::Certificate(X5t::of_certificate(certificate)));
}

pub(crate) fn foreign_claims() -> Value {
    json!({
        "iss": COMPANY, "sub": "alice", "aud": "bartizan", "client_id": "app", "iat": NOW.as_secs() - 10,
        "exp": NOW.as_secs() + 290
    })
}

pub(crate) fn agent(owner: &str) -> AgentSpec {
    AgentSpec {
        status: Status::Active,
        owner: name(owner),
        purpose: "reports".parse().unwrap(),
        expires_us: None,
        conditions: Default::default(),
        groups: Default::default(),
        roles: Default::default(),
    }
}

pub(crate) fn issuer() -> IssuerSpec {
    IssuerSpec {
        status: Status::Active,
        issuer: COMPANY.to_owned(),
        audience: "bartizan".to_owned(),
        jwks_url: "https://company.example/jwks".to_owned(),
        allow_private: false,
        subject_claim: "sub".to_owned(),
        subject_kind: PrincipalKind::User,
        acr: BTreeMap::from([("phrh".to_owned(), 4)]),
        assurance_cap: 2,
        events: None,
    }
}
