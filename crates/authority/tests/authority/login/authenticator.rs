//! An authenticator made of software, which lies as it is told.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const ATTESTED: u8 = 0x40;

pub(crate) struct Authenticator {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    handle: Vec<u8>,
    pub(crate) counter: u32,
    pub(crate) origin: String,
    pub(crate) rp: String,
    pub(crate) verifies: bool,
    pub(crate) cross_origin: Option<bool>,
    pub(crate) format: &'static str,
    /// The model that it says it is.
    pub(crate) aaguid: [u8; 16],
    /// Who vouches for it where it is asked; without, it vouches for itself.
    pub(crate) maker: Option<Maker>,
    /// Whether its keys can be copied, as it says when they are made, and whether they are, as it says later.
    pub(crate) copies: (bool, bool),
}

/// A batch of authenticators, certified by a maker's root.
pub(crate) struct Maker {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

/// A maker's root, made for a test.
pub(crate) struct Root {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Root {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A batch of the model, whose certificate says `certified`.
    pub(crate) fn certifies(&self, certified: [u8; 16]) -> Maker {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // What WebAuthn demands of such certificates (8.2.1).
        for (what, text) in [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Keys of Tests"),
            (DnType::OrganizationalUnitName, "Authenticator Attestation"),
            (DnType::CommonName, "Batch 1"),
        ] {
            params.distinguished_name.push(what, text);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        let model = [&[0x04, 0x10], &certified[..]].concat();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 45_724, 1, 1, 4], model)];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
        Maker { key, certificate }
    }
}

fn text_item(text: &str, out: &mut Vec<u8>) {
    out.push(0x60 | u8::try_from(text.len()).unwrap());
    out.extend(text.as_bytes());
}

fn bytes_item(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(0x59);
    out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn bytes(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

impl Authenticator {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            id: id.as_bytes().to_vec(),
            handle: Vec::new(),
            counter: 0,
            origin: super::ISSUER.to_owned(),
            rp: "id.example.com".to_owned(),
            verifies: true,
            cross_origin: None,
            format: "none",
            aaguid: [0; 16],
            maker: None,
            copies: (false, false),
        }
    }

    fn client_data(&self, kind: &str, challenge: &Value) -> Vec<u8> {
        let mut data = json!({"type": kind, "challenge": challenge, "origin": self.origin});
        if let Some(cross) = self.cross_origin {
            data["crossOrigin"] = cross.into();
        }
        data.to_string().into_bytes()
    }

    fn data(&self, more: u8) -> Vec<u8> {
        let mut flags = PRESENT | more | if self.verifies { VERIFIED } else { 0 };
        flags |= if self.copies.0 { ELIGIBLE } else { 0 };
        flags |= if self.copies.1 { BACKED_UP } else { 0 };
        let mut out = Digest::of(self.rp.as_bytes()).as_bytes().to_vec();
        out.push(flags);
        out.extend(self.counter.to_be_bytes());
        out
    }

    /// Answers `navigator.credentials.create`.
    pub(crate) fn create(&mut self, options: &Value) -> Value {
        let options = &options["publicKey"];
        self.handle = bytes(&options["user"]["id"]);
        let client_data = self.client_data("webauthn.create", &options["challenge"]);
        let mut data = self.data(ATTESTED);
        data.extend(self.aaguid);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        let point = self.key.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        let mut object = b"\xa3\x63fmt".to_vec();
        text_item(self.format, &mut object);
        object.extend(b"\x67attStmt");
        if self.format == "none" {
            object.push(0xa0);
        } else {
            // Packed: a true signature by the maker's key, or by the credential's own.
            let signed = [data.as_slice(), Digest::of(&client_data).as_bytes()].concat();
            let by = self.maker.as_ref().map_or(&self.key, |maker| &maker.key);
            let signature = by.sign(&SystemRandom::new(), &signed).unwrap();
            object.push(if self.maker.is_some() { 0xa3 } else { 0xa2 });
            object.extend(b"\x63alg\x26\x63sig");
            bytes_item(signature.as_ref(), &mut object);
            if let Some(maker) = &self.maker {
                object.extend(b"\x63x5c\x81");
                bytes_item(&maker.certificate, &mut object);
            }
        }
        object.extend(b"\x68authData");
        bytes_item(&data, &mut object);
        json!({"id": text(&self.id), "rawId": text(&self.id), "type": "public-key", "extensions": {},
            "response": {"attestationObject": text(&object), "clientDataJSON": text(&client_data), "transports": ["internal"]}})
    }

    /// Answers `navigator.credentials.get`.
    pub(crate) fn get(&mut self, options: &Value) -> Value {
        self.counter += 1;
        let client_data = self.client_data("webauthn.get", &options["publicKey"]["challenge"]);
        let data = self.data(0);
        let signed = [data.as_slice(), Digest::of(&client_data).as_bytes()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        json!({"id": text(&self.id), "rawId": text(&self.id), "type": "public-key", "extensions": {},
            "response": {"authenticatorData": text(&data), "clientDataJSON": text(&client_data),
                "signature": text(signature.as_ref()), "userHandle": text(&self.handle)}})
    }

    /// The same credential, but meaning somebody else.
    pub(crate) fn means(&mut self, handle: &[u8]) {
        self.handle = handle.to_vec();
    }
}
