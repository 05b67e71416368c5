//! Security events: what others send or are asked for ends something here; what is ended here is sent or fetched.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use bartizan_base::random::SeededRandom;
use bartizan_jose::testing::ForeignKey;
use bartizan_jose::{EventClaims, EventRules, Jwks, Jws, TimeRules, verify};

use super::tokens::{KeyServer, now};
use super::*;

const OWN: &str = "https://house.example";
const SENDER: &str = "https://idp.example";
const STREAM: &str = "https://idp.example/streams/house";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever is posted to: says what it is told to in turn, and remembers what came.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    came: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    fn start(answers: &[(u16, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::new(Mutex::new(answers.iter().cloned().collect())),
            came: Arc::default(),
        };
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                own.answer(stream.unwrap()).unwrap_or_default();
            }
        });
        receiver
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while stream.read_line(&mut line)? > 2 {
            head.push_str(&line.to_lowercase());
            line.clear();
        }
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        self.came.lock().unwrap().push((head, String::from_utf8_lossy(&body).into_owned()));
        let (status, body) = self.answers.lock().unwrap().pop_front().unwrap_or((202, String::new()));
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.get_mut().write_all((head + &body).as_bytes())
    }

    /// Waits until so many have come, and gives all of them.
    async fn until(&self, many: usize) -> Vec<(String, String)> {
        let came = async {
            loop {
                let came = self.came.lock().unwrap().clone();
                if came.len() >= many {
                    return came;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, came).await.unwrap()
    }
}

/// A house with an authority of its own that takes events of an issuer.
async fn house(keys: &KeyServer, poll: Option<Value>, receivers: &str) -> House {
    let settings =
        [("authority.issuer", OWN.to_owned()), ("authority.private_receivers", receivers.to_owned())];
    let house = House::with(&settings).await;
    let mut events = json!({"audience": STREAM, "sender": "idp-events"});
    if let Some(poll) = poll {
        events.as_object_mut().unwrap().insert("poll".to_owned(), poll);
    }
    let documents = json!([
        {"name": "idp-events", "spec": {"kind": "workload", "owner": "ada", "purpose": "tells of what happens at the identity provider"}},
        {"name": "idp", "spec": {
            "kind": "issuer", "issuer": SENDER, "audience": "https://ai.example", "allow_private": true,
            "jwks_url": format!("http://{}/jwks", keys.address), "events": events,
        }},
    ]);
    let appoint = "@id(\"senders\") permit (principal == Workload::\"idp-events\", action == Action::\"signal:send\", resource);";
    let bundle = json!({"files": {"policy.cedar": format!("{POLICY}\n{appoint}")}, "expect": 2});
    call(&house, "PUT", "/api/v1/policy", bundle).await.unwrap();
    call(&house, "POST", "/api/v1/resources", documents).await.unwrap();
    house
}

fn admin(house: &House) -> Client {
    Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()))
}

async fn call(
    house: &House,
    method: &str,
    path: &str,
    body: Value,
) -> Result<Value, bartizan_cli::ClientError> {
    let (client, method, path) = (admin(house), method.to_owned(), path.to_owned());
    blocking(move || client.call(&method, &path, Some(&body).filter(|body| !body.is_null()))).await
}

fn event(name: &str, change: &Value) -> Value {
    let subject = json!({"format": "iss_sub", "iss": SENDER, "sub": "alice"});
    let mut claims = json!({
        "iss": SENDER, "aud": STREAM, "iat": now() - 5, "jti": format!("{name}-1"), "sub_id": subject,
        "events": {(format!("{CAEP}{name}")): {"event_timestamp": now() - 6, "change_type": "revoke"}},
    });
    for (member, value) in change.as_object().unwrap() {
        claims.as_object_mut().unwrap().insert(member.clone(), value.clone());
    }
    claims
}

/// Sends an event token as its issuer does; the status, and the error's code.
async fn send(house: &House, token: &str, media: &str) -> (u16, String) {
    let (address, token, media) = (house.node.control, token.to_owned(), media.to_owned());
    blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = token.len();
        write!(
            stream,
            "POST /ssf/events HTTP/1.1\r\nhost: house.example\r\nconnection: close\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{token}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        let told: Value = serde_json::from_str(body).unwrap_or_default();
        (status, told.pointer("/err").and_then(Value::as_str).unwrap_or_default().to_owned())
    })
    .await
}

const MEDIA: &str = "application/secevent+jwt";

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_only_a_true_event_ends_anything_and_it_does_so_once() {
    let (keys, random) = (KeyServer::start(), SeededRandom::new(52));
    let key = ForeignKey::ed25519("k1", &random).unwrap();
    keys.gives(&[&key]);
    let house = house(&keys, None, "").await;
    let sign = |claims: &Value| key.sign(MEDIA.trim_start_matches("application/"), claims).unwrap();
    let good = sign(&event("session-revoked", &json!({})));
    let forged = ForeignKey::ed25519("k1", &SeededRandom::new(53)).unwrap();
    let elsewhere = json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "alice"});
    for (token, code) in [
        (sign(&event("session-revoked", &json!({"iss": "https://elsewhere.example"}))), "invalid_issuer"),
        (
            sign(&event("session-revoked", &json!({"aud": "https://idp.example/streams/other"}))),
            "invalid_audience",
        ),
        (sign(&event("session-revoked", &json!({"sub_id": elsewhere}))), "invalid_request"),
        (sign(&event("session-revoked", &json!({"iat": now() - 200_000}))), "invalid_request"),
        (sign(&event("session-revoked", &json!({"iat": now() + 600}))), "invalid_request"),
        (sign(&event("session-revoked", &json!({"exp": now() + 600}))), "invalid_request"),
        (sign(&event("session-revoked", &json!({"events": {}}))), "invalid_request"),
        (sign(&event("device-compliance-change", &json!({}))), "invalid_request"),
        (key.sign("at+jwt", &event("session-revoked", &json!({}))).unwrap(), "invalid_request"),
        (key.sign("JWT", &event("session-revoked", &json!({}))).unwrap(), "invalid_request"),
        (forged.sign("secevent+jwt", &event("session-revoked", &json!({}))).unwrap(), "invalid_key"),
        ("nothing".to_owned(), "invalid_request"),
    ] {
        assert_eq!(send(&house, &token, MEDIA).await, (400, code.to_owned()), "{token}");
    }
    assert_eq!(send(&house, &good, "application/json").await.0, 400);
    let nobody = json!({"jti": "nobody", "sub_id": {"format": "iss_sub", "iss": SENDER, "sub": "nobody"}});
    assert_eq!(send(&house, &sign(&event("session-revoked", &nobody)), MEDIA).await.0, 202, "not our affair");
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200, "nothing was ended");
    // The true one: dead when it is answered.
    assert_eq!(send(&house, &good, MEDIA).await, (202, String::new()));
    let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
    assert_eq!((status, reason(&body)), (401, "credential_revoked"), "{body}");
    // Taken again, it ends nothing of what was issued since.
    let wanted = json!({"principal_kind": "user", "principal": "alice"});
    let made = call(&house, "POST", "/api/v1/keys", wanted).await.unwrap();
    let new = Secret::new(made.pointer("/text").and_then(Value::as_str).unwrap().to_owned());
    assert_eq!(send(&house, &good, MEDIA).await, (202, String::new()));
    assert_eq!(house.chat(&new, "assistant", "say: hi").await.0, 200);
    // Whom policy does not permit may say what they like.
    let bundle = json!({"files": {"policy.cedar": POLICY}, "expect": 3});
    call(&house, "PUT", "/api/v1/policy", bundle).await.unwrap();
    let late = sign(&event("session-revoked", &json!({"jti": "late"})));
    assert_eq!(send(&house, &late, MEDIA).await, (400, "access_denied".to_owned()));
    assert_eq!(house.chat(&new, "assistant", "say: hi").await.0, 200);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_fetched_where_the_sender_wants_to_be_asked_and_acknowledged_to_it() {
    let (keys, random) = (KeyServer::start(), SeededRandom::new(54));
    let key = ForeignKey::ed25519("k1", &random).unwrap();
    keys.gives(&[&key]);
    let good = key.sign("secevent+jwt", &event("credential-change", &json!({}))).unwrap();
    let sets = json!({"sets": {"credential-change-1": good, "junk": "junk"}, "moreAvailable": false});
    let none = (200, json!({"sets": {}}).to_string());
    let sender = Receiver::start(&[(200, sets.to_string()), none.clone(), none]);
    let poll = json!({"url": format!("http://{}/poll", sender.address), "credential": "simulated"});
    let house = house(&keys, Some(poll), "").await;
    let came = sender.until(2).await;
    assert!(came.iter().all(|(head, _)| head.contains(&format!("authorization: bearer {OWN_CREDENTIAL}"))));
    let told: Value = serde_json::from_str(&came.get(1).unwrap().1).unwrap();
    assert_eq!(told.pointer("/ack"), Some(&json!(["credential-change-1"])), "{told}");
    assert_eq!(told.pointer("/setErrs/junk/err"), Some(&json!("invalid_request")), "{told}");
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 401);
    house.stop().await;
}

const OWN_CREDENTIAL: &str = "the-houses-own-credential";

/// What a token says, if it is one of the house for this audience.
async fn said(house: &House, token: &str, audience: &str) -> EventClaims {
    let jwks = call(house, "GET", "/oauth/jwks", Value::Null).await.unwrap();
    let jwks = Jwks::parse(jwks.to_string().as_bytes()).unwrap();
    let time = TimeRules {
        now: bartizan_base::Timestamp::from_secs(now() + 1),
        skew: Duration::from_secs(5),
        life_max: Duration::from_secs(60),
    };
    let rules = EventRules { issuer: OWN, audience, time };
    verify::<EventClaims>(&Jws::parse(token).unwrap(), &jwks, &rules).unwrap().into_claims()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_here_is_sent_until_it_is_taken() {
    // Not at first.
    let receiver = Receiver::start(&[(503, String::new())]);
    let keys = KeyServer::start();
    let house = house(&keys, None, &receiver.address.to_string()).await;
    let metadata = call(&house, "GET", "/.well-known/ssf-configuration", Value::Null).await.unwrap();
    assert_eq!(metadata.pointer("/issuer"), Some(&json!(OWN)), "{metadata}");
    let push = |url: String| json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": url, "authorization_header": "Bearer knows-us"}});
    for wrong in ["http://127.0.0.1:1/in", "https://user@siem.example/in", "ftp://siem.example", "/in"] {
        call(&house, "POST", "/ssf/streams", push(wrong.to_owned())).await.unwrap_err();
    }
    let made =
        call(&house, "POST", "/ssf/streams", push(format!("http://{}/in", receiver.address))).await.unwrap();
    assert!(!made.to_string().contains("knows-us"), "{made}");
    let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (stream, audience) = (text("/stream_id"), text("/aud"));
    call(&house, "POST", "/ssf/verify", json!({"stream_id": stream, "state": "are you there"}))
        .await
        .unwrap();
    let came = receiver.until(2).await;
    assert!(came.iter().all(|(head, _)| head.contains("content-type: application/secevent+jwt")), "{came:?}");
    assert!(came.iter().all(|(head, _)| head.contains("authorization: bearer knows-us")), "{came:?}");
    assert_eq!(came[0].1.split('.').nth(1), came[1].1.split('.').nth(1), "the same again");
    let claims = said(&house, &came[1].1, &audience).await;
    let (uri, event) = claims.events.iter().next().unwrap();
    assert!(uri.ends_with("/verification") && event.pointer("/state") == Some(&json!("are you there")));
    // A mark that is raised.
    call(&house, "POST", "/api/v1/epochs", json!({"kind": "principal", "name": "user/alice"})).await.unwrap();
    let came = receiver.until(3).await;
    let claims = said(&house, &came[2].1, &audience).await;
    assert!(claims.events.contains_key(&format!("{CAEP}session-revoked")), "{claims:?}");
    let subject = claims.sub_id.unwrap();
    assert_eq!(subject.get("iss"), Some(&json!(OWN)));
    assert!(subject.get("sub").and_then(Value::as_str).unwrap().starts_with("prn_"), "{subject:?}");
    // Somebody who is disabled.
    let carol =
        json!([{"name": "carol", "spec": {"kind": "user", "groups": ["contractors"], "status": "disabled"}}]);
    call(&house, "POST", "/api/v1/resources", carol).await.unwrap();
    let came = receiver.until(5).await;
    let mut told = Vec::new();
    for (_, token) in &came[3..] {
        told.extend(said(&house, token, &audience).await.events.into_iter().map(|(uri, _)| uri));
    }
    told.sort();
    assert_eq!(told.len(), 2, "an event a token: {told:?}");
    assert!(told[0].ends_with("/session-revoked") && told[1].ends_with("/account-disabled"), "{told:?}");
    // What waits while the stream is paused comes when it flows again.
    let status = |status: &str| json!({"stream_id": stream, "status": status});
    call(&house, "POST", "/ssf/status", status("paused")).await.unwrap();
    call(&house, "POST", "/api/v1/epochs", json!({"kind": "principal", "name": "user/mallory"}))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.came.lock().unwrap().len(), 5);
    call(&house, "POST", "/ssf/status", status("enabled")).await.unwrap();
    receiver.until(6).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_receiver_fetches_stay_until_it_says_that_it_has_them_and_are_nobody_elses() {
    let keys = KeyServer::start();
    let house = house(&keys, None, "").await;
    let made = call(&house, "POST", "/ssf/streams", json!({})).await.unwrap();
    let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (stream, audience) = (text("/stream_id"), text("/aud"));
    assert_eq!(text("/delivery/endpoint_url"), format!("{OWN}/ssf/poll/{stream}"));
    let path = format!("/ssf/poll/{stream}");
    call(&house, "POST", "/api/v1/epochs", json!({"kind": "device", "name": "laptop"})).await.unwrap();
    let fetched = async {
        loop {
            let asked = json!({"returnImmediately": true, "maxEvents": 5});
            let polled = call(&house, "POST", &path, asked).await.unwrap();
            let sets = polled.pointer("/sets").and_then(Value::as_object).unwrap().clone();
            if let Some((jti, token)) = sets.into_iter().next() {
                return (jti, token.as_str().unwrap().to_owned());
            }
        }
    };
    let (jti, token) = tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    let claims = said(&house, &token, &audience).await;
    assert_eq!(claims.jti, jti);
    assert_eq!(claims.sub_id.unwrap().get("device"), Some(&json!({"format": "opaque", "id": "laptop"})));
    // Not acknowledged, it comes again; acknowledged, it does not.
    let again = call(&house, "POST", &path, json!({"returnImmediately": true})).await.unwrap();
    assert!(again.pointer("/sets").unwrap().get(&jti).is_some(), "{again}");
    let done = call(&house, "POST", &path, json!({"returnImmediately": true, "ack": [jti]})).await.unwrap();
    assert_eq!(done.pointer("/sets"), Some(&json!({})), "{done}");
    let last = call(&house, "POST", &path, json!({"returnImmediately": true})).await.unwrap();
    assert_eq!(last.pointer("/sets"), Some(&json!({})), "{last}");
    // Without the right to read identity there are no streams, and with it only one's own.
    let alice = Client::new(&format!("http://{}", house.node.control), Some(house.alice.1.clone()));
    let own = path.clone();
    let refused = blocking(move || {
        let made = alice.call("POST", "/ssf/streams", Some(&json!({}))).is_err();
        made && alice.call("POST", &own, Some(&json!({}))).is_err()
    })
    .await;
    assert!(refused);
    call(&house, "DELETE", &format!("/ssf/streams?stream_id={stream}"), Value::Null).await.unwrap();
    call(&house, "POST", &path, json!({})).await.unwrap_err();
    house.stop().await;
}
