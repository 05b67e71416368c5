//! A house with issuers of every algorithm, and tokens of each.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Timestamp};
use bartizan_bench::Error;
use bartizan_identify::{Assessed, Directory, EpochEntry, EpochKind, Identifier, OwnKey, Place, Presented};
use bartizan_jose::{Algorithm, SigningKey};
use bartizan_model::directory::{AgentSpec, IssuerSpec, PrincipalSpec, Spec, Status};
use bartizan_model::{Document, PrincipalId, PrincipalKind, Risk, RiskLevel, SessionId, Tenant};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

/// The moment of everything.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub const OWN: &str = "https://id.example";
pub const AUDIENCE: &str = "https://ai.example/v1";
/// Of each kind that is not about the tenant: about others than those who come.
const EPOCHS: u64 = 1_000;

/// What an issuer signs with.
pub enum Signer {
    Ed25519(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl Signer {
    pub fn all() -> Result<Vec<(&'static str, Self)>, Error> {
        let es256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(vec![
            ("ed25519", Self::Ed25519(Ed25519KeyPair::generate()?)),
            ("es256", Self::Es256(es256)),
            ("rs256", Self::Rs256(RsaKeyPair::generate(KeySize::Rsa2048)?)),
        ])
    }

    pub const fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(pair.public_key().as_ref())})
            }
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])})
            }
            Self::Rs256(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({"kty": "RSA", "n": BASE64.encode(n.big_endian_without_leading_zero()), "e": BASE64.encode(e.big_endian_without_leading_zero())})
            }
        };
        jwk["kid"] = "k".into();
        jwk["alg"] = self.alg().into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({"alg": self.alg(), "typ": "at+jwt", "kid": "k"});
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), signed.as_bytes())?.as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut out)?;
                out
            }
        };
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

/// Everything that is asked with.
pub struct World {
    pub signers: Vec<(&'static str, Signer)>,
    pub own: SigningKey,
    documents: Vec<Document>,
}

impl World {
    pub fn new() -> Result<Self, Error> {
        let signers = Signer::all()?;
        let document = |name: &str, n: u8, spec| -> Result<Document, Error> {
            Ok(Document { name: name.parse()?, principal: Some(id(n)), spec })
        };
        let agent = AgentSpec {
            status: Status::Active,
            owner: "alice".parse()?,
            purpose: "reports".parse()?,
            expires_us: None,
            conditions: Default::default(),
            groups: Default::default(),
            roles: Default::default(),
        };
        let mut documents = vec![
            document("alice", 1, Spec::User(PrincipalSpec::default()))?,
            document("reporter", 2, Spec::Agent(agent.clone()))?,
            document("helper", 3, Spec::Agent(agent))?,
        ];
        for (name, _) in &signers {
            let spec = IssuerSpec {
                status: Status::Active,
                issuer: iss(name),
                audience: AUDIENCE.to_owned(),
                jwks_url: format!("{}/jwks", iss(name)),
                allow_private: false,
                subject_claim: "sub".to_owned(),
                subject_kind: PrincipalKind::User,
                acr: BTreeMap::from([("phr".to_owned(), 3)]),
                assurance_cap: 3,
                events: None,
            };
            documents.push(Document { name: name.parse()?, principal: None, spec: Spec::Issuer(spec) });
        }
        let own = SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(1))?;
        Ok(Self { signers, own, documents })
    }

    /// The directory, with marks about others or without any.
    pub fn directory(&self, with_epochs: bool) -> Result<Directory, Error> {
        let tenant = Tenant::default_tenant();
        let mut epochs = Vec::new();
        let kinds = [
            EpochKind::Principal,
            EpochKind::Issuer,
            EpochKind::Session,
            EpochKind::Grant,
            EpochKind::Client,
            EpochKind::Device,
        ];
        for kind in kinds {
            for n in 0..EPOCHS {
                let name: Name = match kind {
                    EpochKind::Session => session(1_000_000 + n).to_string().parse()?,
                    _ => format!("other/{n}").parse()?,
                };
                epochs.push(EpochEntry { tenant: tenant.clone(), kind, name, not_before: NOW, revision: 60 });
            }
        }
        epochs.push(EpochEntry {
            tenant: tenant.clone(),
            kind: EpochKind::Tenant,
            name: tenant.0.clone(),
            not_before: Timestamp::from_secs(NOW.as_secs() - 86_400),
            revision: 10,
        });
        if !with_epochs {
            epochs.clear();
        }
        let risk = Risk { level: RiskLevel::Medium, score: 40, at: NOW, reasons: Vec::new() };
        let risks = (0..if with_epochs { EPOCHS } else { 0 })
            .map(|n| (tenant.clone(), Assessed::Session(session(2_000_000 + n)), risk.clone()));
        let documents = self.documents.iter().map(|d| (tenant.clone(), d.clone()));
        let directory = Directory::build(70, documents, std::iter::empty(), epochs.into_iter()).with_risks(risks);
        let until = NOW.saturating_add(Duration::from_secs(86_400));
        let own = OwnKey { tenant: tenant.clone(), public: self.own.public().clone(), until };
        Ok(directory.with_own(OWN.into(), [own]).map_err(|(_, error)| error)?)
    }

    pub fn identifier(&self, room: usize) -> Result<Identifier, Error> {
        let identifier = Identifier::with_room_for(room);
        for (name, signer) in &self.signers {
            let jwks = json!({"keys": [signer.jwk()]}).to_string();
            identifier.learn_keys(&name.parse()?, jwks.as_bytes(), NOW)?;
        }
        Ok(identifier)
    }

    /// A token of a foreign issuer, with two who act.
    pub fn foreign(&self, which: usize, n: u64) -> Result<String, Error> {
        let (name, signer) = &self.signers[which];
        let mut claims = shared(n);
        claims["iss"] = iss(name).into();
        claims["sub"] = "alice".into();
        claims["act"] = json!({"sub": "reporter", "act": {"sub": "helper"}});
        signer.sign(&claims)
    }

    /// A token of our own, with two who act, in a session, under a grant.
    pub fn own(&self, n: u64) -> Result<String, Error> {
        let mut claims = shared(n);
        claims["iss"] = OWN.into();
        claims["sub"] = id(1).to_string().into();
        claims["sid"] = session(n).to_string().into();
        claims["act"] = json!({"sub": id(2).to_string(), "act": {"sub": id(3).to_string()}});
        let grant = bartizan_model::GrantId::from_parts(NOW, random(n));
        claims["bartizan"] = json!({"rev": 50, "kind": "user", "grant": grant.to_string()});
        let claims = bartizan_jose::AccessClaims::parse(claims.to_string().as_bytes())?;
        Ok(self.own.issue(&claims)?.expose().clone())
    }
}

fn shared(n: u64) -> Value {
    json!({
        "aud": AUDIENCE, "client_id": "https://app.example/client", "jti": format!("tok_{n:032}"),
        "iat": NOW.as_secs() - 10, "exp": NOW.as_secs() + 290, "auth_time": NOW.as_secs() - 60, "acr": "phr",
        "amr": ["hwk", "user"], "scope": "model:use model:list tool:use"
    })
}

pub fn iss(name: &str) -> String {
    format!("https://{name}.example")
}

fn random(n: u64) -> [u8; 10] {
    let mut out = [0; 10];
    out[2..].copy_from_slice(&n.to_be_bytes());
    out
}

fn id(n: u8) -> PrincipalId {
    PrincipalId::from_parts(NOW, [n; 10])
}

fn session(n: u64) -> SessionId {
    SessionId::from_parts(NOW, random(n))
}

/// As a door reads it from a request.
pub fn presented(token: &str) -> Result<Presented, Error> {
    let header = format!("Bearer {token}");
    let place = || Place {
        resources: vec![AUDIENCE.to_owned(), "https://ai.example".to_owned()],
        method: "POST".to_owned(),
        uri: "https://ai.example/v1/chat/completions".to_owned(),
        certificate: None,
    };
    let read = Presented::at([header.as_bytes()].into_iter(), std::iter::empty(), std::iter::empty(), place);
    read.map_err(|reason| reason.to_string().into())
}
