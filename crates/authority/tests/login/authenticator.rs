//! An authenticator made of software, which lies as it is told.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
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
        let flags = PRESENT | more | if self.verifies { VERIFIED } else { 0 };
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
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        let point = self.key.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        let mut object = b"\xa3\x63fmt".to_vec();
        object.push(0x60 | u8::try_from(self.format.len()).unwrap());
        object.extend(self.format.as_bytes());
        object.extend(b"\x67attStmt");
        if self.format == "none" {
            object.push(0xa0);
        } else {
            // Packed self-attestation: a true signature by the credential's own key.
            let signed = [data.as_slice(), Digest::of(&client_data).as_bytes()].concat();
            let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
            object.extend(b"\xa2\x63alg\x26\x63sig\x58");
            object.push(u8::try_from(signature.as_ref().len()).unwrap());
            object.extend(signature.as_ref());
        }
        object.extend(b"\x68authData\x58");
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(&data);
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
