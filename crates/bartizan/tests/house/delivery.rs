//! What happens in the house, as it arrives elsewhere.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use aws_lc_rs::hmac;
use bartizan_cli::ClientError;

use super::*;

/// The receiver's, at least 32 bytes.
const SECRET: &str = "a-secret-that-the-receiver-shares-0001";

/// A request as the receiver got it.
#[derive(Clone, Debug)]
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Got {
    fn id(&self) -> &str {
        self.headers.get("bartizan-delivery-id").unwrap()
    }

    /// Whether the signature holds, as a receiver checks it who reads the documentation of the headers.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let text = format!("{}.{}", self.headers.get("bartizan-timestamp").unwrap(), self.body);
        let hex: String =
            hmac::sign(&key, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        *self.headers.get("bartizan-signature").unwrap() == format!("v1={hex}")
    }
}

/// A receiver that answers by script, then with 200 unless told otherwise.
struct Receiver {
    address: SocketAddr,
    then: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<(Got, u16)>>>,
}

impl Receiver {
    fn start(script: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let then = Arc::new(AtomicU16::new(200));
        let (keep, script, otherwise) = (got.clone(), script.to_vec(), then.clone());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let status = script.get(number).copied().unwrap_or_else(|| otherwise.load(Relaxed));
                if let Some(request) = receive(stream.unwrap(), status) {
                    keep.lock().unwrap().push((request, status));
                }
            }
        });
        Self { address, then, got }
    }

    fn got(&self, status: u16) -> Vec<Got> {
        self.got.lock().unwrap().iter().filter(|(_, s)| *s == status).map(|(got, _)| got.clone()).collect()
    }

    fn spec(&self) -> Value {
        json!({"type": "http", "url": format!("http://{}/in", self.address), "allow_private": true})
    }
}

fn receive(mut stream: TcpStream, status: u16) -> Option<Got> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4_096]);
    let head = loop {
        let length = stream.read(&mut piece).ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(piece.get(..length)?);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes.get(..head)?.to_vec()).ok()?;
    let headers: BTreeMap<String, String> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = bytes.get(head + 4..)?.to_vec();
    while body.len() < length {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        body.extend_from_slice(piece.get(..read)?);
    }
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    Some(Got { headers, body: String::from_utf8(body).ok()? })
}

/// Waits until `done`; longer than anything here may take.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..800 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(done(), "in vain: {what}");
}

impl House {
    pub(super) async fn ask(
        &self,
        method: &'static str,
        path: String,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        let client = Client::new(&format!("http://{}", self.node.control), Some(self.admin_key.clone()));
        blocking(move || client.call(method, &path, body.as_ref())).await
    }

    async fn declare(&self, name: &str, mut spec: Value) -> Result<Value, ClientError> {
        spec.as_object_mut().unwrap().insert("kind".to_owned(), json!("delivery"));
        self.ask("POST", "/api/v1/resources".to_owned(), Some(json!([{"name": name, "spec": spec}]))).await
    }

    pub(super) async fn credential(&self, name: &str, text: &str) {
        self.ask("PUT", format!("/api/v1/credentials/{name}"), Some(json!({"credential": text})))
            .await
            .unwrap();
    }

    async fn delivery(&self, name: &str) -> Option<Value> {
        let all = self.ask("GET", "/api/v1/deliveries".to_owned(), None).await.unwrap();
        all.as_array().unwrap().iter().find(|d| d.get("name").is_some_and(|n| n == name)).cloned()
    }

    /// Waits until the delivery is as `wanted`.
    pub(super) async fn delivery_is(
        &self,
        name: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let mut found = None;
        for _ in 0..130 {
            found = self.delivery(name).await;
            if wanted(found.as_ref()) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(wanted(found.as_ref()), "in vain: {found:?}");
        found
    }

    /// Starts again on the same folder.
    async fn again(self) -> Self {
        let Self { node, model, admin_key, alice, carol, mallory, folder, .. } = self;
        node.stop().await;
        let node = Node::start(&config(folder.path(), &[])).await.unwrap();
        let admin = Client::new(&format!("http://{}", node.control), Some(admin_key.clone()));
        Self { node, model, admin, admin_key, alice, carol, mallory, folder }
    }
}

/// The lines that were delivered to files, in order.
fn delivered(folder: &Path, name: &str) -> Vec<Value> {
    let Ok(files) = std::fs::read_dir(folder.join("delivered/default").join(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // A line that is just being written is none yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What lies sealed on the disk, read without the house.
fn sealed(folder: &Path) -> Vec<Value> {
    let logs = std::fs::read_dir(folder.join("log/default")).unwrap().map(|log| log.unwrap().path());
    let mut entries = Vec::new();
    for log in logs {
        let note = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
        for tile in bartizan_ledger::tiles_for(size).into_iter().filter(|tile| tile.level.is_none()) {
            let bytes = std::fs::read(log.join(tile.path())).unwrap();
            let bundle = bartizan_ledger::bundle_entries(&bytes).unwrap();
            entries.extend(bundle.into_iter().map(|entry| serde_json::from_slice::<Value>(entry).unwrap()));
        }
    }
    entries
}

fn refusal(result: Result<Value, ClientError>) -> (String, String) {
    let error = result.unwrap_err();
    let told = format!("{error:?}");
    let ClientError::Refused { reason, message, .. } = error else { return ("other".to_owned(), told) };
    (reason, message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_holds_everything_that_happens_once_and_in_order_over_restarts() {
    let mut house = House::new().await;
    house.declare("archive", json!({"destination": {"type": "file"}})).await.unwrap();
    for round in 0..3 {
        for number in 0..5 {
            let said = format!("say: {round}-{number}");
            assert_eq!(house.chat(&house.alice.1, "assistant", &said).await.0, 200);
        }
        let path = house.folder.path().to_owned();
        until("something is delivered", || delivered(&path, "archive").len() > round * 10).await;
        house = house.again().await;
    }
    // What is sealed by now is there soon; nobody has to ask.
    let path = house.folder.path().to_owned();
    let known = sealed(&path).len();
    assert!(known > 30, "{known}");
    until("all of it is delivered", || delivered(&path, "archive").len() >= known).await;
    let folder = house.stop().await;
    let (lines, entries) = (delivered(folder.path(), "archive"), sealed(folder.path()));
    for (index, (line, entry)) in lines.iter().zip(&entries).enumerate() {
        assert_eq!((&line["index"], &line["record"]), (&json!(index), entry));
    }
    assert!(lines.len() >= known && lines.len() <= entries.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_gets_the_same_batch_again_signed_and_its_secret_stays_with_us() {
    let house = House::new().await;
    let receiver = Receiver::start(&[503, 500]);
    // Without its credential it does not start, and says so.
    let spec = json!({"destination": receiver.spec(), "credential": "siem"});
    house.declare("siem", spec).await.unwrap();
    let failing = house.delivery_is("siem", |d| d.is_some_and(|d| d["state"] == "failing")).await.unwrap();
    assert!(failing["failing"].as_str().unwrap().contains("no credential `siem`"), "{failing}");
    assert!(receiver.got.lock().unwrap().is_empty());

    house.credential("siem", SECRET).await;
    until("the receiver takes something", || !receiver.got(200).is_empty()).await;
    let (failed, again, taken) = (receiver.got(503), receiver.got(500), receiver.got(200));
    assert!(failed[0].id() == again[0].id() && again[0].id() == taken[0].id());
    assert!(failed[0].body == taken[0].body, "the same batch, to the byte");
    assert!(
        taken.iter().all(|got| got.is_signed_with(SECRET) && !got.is_signed_with(&SECRET.to_uppercase()))
    );
    let view = house.delivery_is("siem", |d| d.is_some_and(|d| d["state"] == "running")).await.unwrap();
    assert_eq!((&view["failures"], view["last_success"].is_string()), (&json!(2), true), "{view}");

    let operations = format!("http://{}", house.node.operations);
    let metrics =
        blocking(move || Client::new(&operations, None).raw("GET", "/metrics", None, &[]).unwrap().1).await;
    let labels = r#"{tenant="default",kind="delivery",name="siem"}"#;
    assert!(metrics.contains(&format!("bartizan_delivery_failures_total{labels} 2\n")), "{metrics}");
    assert!(metrics.contains(&format!("bartizan_delivery_lag_entries{labels} ")), "{metrics}");

    let told = house.ask("GET", "/api/v1/resources/delivery".to_owned(), None).await.unwrap().to_string();
    assert!(told.contains("siem") && !told.contains(SECRET) && !view.to_string().contains(SECRET));
    let folder = house.stop().await;
    let mut queue = vec![folder.path().to_owned()];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()), "{}", path.display());
        }
    }
    assert!(taken.iter().all(|got| !got.body.contains(SECRET)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_tried_is_the_same_to_the_byte_after_a_restart_though_the_log_has_grown() {
    let mut house = House::new().await;
    house.credential("siem", SECRET).await;
    let receiver = Receiver::start(&[]);
    receiver.then.store(503, Relaxed);
    house.declare("siem", json!({"destination": receiver.spec(), "credential": "siem"})).await.unwrap();
    until("a batch is tried", || !receiver.got(503).is_empty()).await;
    for _ in 0..3 {
        assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    }
    house = house.again().await;
    receiver.then.store(200, Relaxed);
    until("it is taken", || !receiver.got(200).is_empty()).await;
    let (tried, taken) = (receiver.got(503).remove(0), receiver.got(200).remove(0));
    assert_eq!((tried.id(), &tried.body), (taken.id(), &taken.body));
    let line: Value = serde_json::from_str(taken.body.lines().next().unwrap()).unwrap();
    let folder = house.stop().await;
    assert!(line["verified_size"].as_u64().unwrap() + 6 <= sealed(folder.path()).len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_refuses_waits_as_a_dead_letter_until_somebody_sends_it_again() {
    let house = House::new().await;
    house.credential("siem", SECRET).await;
    let receiver = Receiver::start(&[422]);
    house.declare("siem", json!({"destination": receiver.spec(), "credential": "siem"})).await.unwrap();
    until("a batch is refused", || !receiver.got(422).is_empty()).await;
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    until("what follows is taken", || !receiver.got(200).is_empty()).await;
    let refused = receiver.got(422);
    let path = "/api/v1/deliveries/siem/letters";
    let letters = house.ask("GET", path.to_owned(), None).await.unwrap();
    let [letter] = letters.as_array().unwrap().as_slice() else { panic!("{letters}") };
    assert_eq!((letter["id"].as_str().unwrap(), &letter["first"]), (refused[0].id(), &json!(0)));
    assert!(letter["cause"].as_str().unwrap().contains("422"), "{letter}");
    house.delivery_is("siem", |d| d.is_some_and(|d| d["dead_letters"] == 1)).await;

    // Whoever may not run the house neither sees nor sends it.
    let mallory = Client::new(&format!("http://{}", house.node.control), Some(house.mallory.clone()));
    let retry = format!("{path}/{}/retry", refused[0].id());
    let theirs = retry.clone();
    let answers =
        blocking(move || [mallory.call("GET", path, None), mallory.call("POST", &theirs, None)]).await;
    for answer in answers {
        assert_eq!(refusal(answer).0, "no_matching_permit");
    }
    assert!(!receiver.got(200).iter().any(|got| got.id() == refused[0].id()));

    // By command.
    let control = format!("http://{}", house.node.control);
    let (key, id) = (house.admin_key.clone(), refused[0].id().to_owned());
    let output = blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.env_clear().env("BARTIZAN_CONTROL_URL", control).env("BARTIZAN_API_KEY", key.expose());
        command.args(["delivery", "retry", "siem", &id]).output().unwrap()
    })
    .await;
    let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.starts_with("delivered "), "{told}");
    let taken = receiver.got(200).into_iter().find(|got| got.id() == refused[0].id()).unwrap();
    assert!(taken.body == refused[0].body && taken.is_signed_with(SECRET));
    assert_eq!(house.ask("GET", path.to_owned(), None).await.unwrap(), json!([]));
    house.delivery_is("siem", |d| d.is_some_and(|d| d["dead_letters"] == 0)).await;

    // It is gone; there never was another; there is no such delivery.
    for path in
        [retry.as_str(), "/api/v1/deliveries/siem/letters/x/retry", "/api/v1/deliveries/no/letters/x/retry"]
    {
        assert_eq!(refusal(house.ask("POST", path.to_owned(), None).await).0, "not_found", "{path}");
    }
    // Sending it was an ask, and is told like one.
    let query = house.ask("GET", "/api/v1/decisions?limit=50".to_owned(), None).await.unwrap().to_string();
    assert!(query.contains("delivery:retry"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_lets_through_what_it_asks_for_and_nothing_else() {
    let house = House::new().await;
    let spec = json!({"destination": {"type": "file"}, "query": "kind:refusal since:1h"});
    house.declare("refusals", spec).await.unwrap();
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    assert_eq!(house.chat(&house.alice.1, "weights-lab", "say: hi").await.0, 403);
    let path = house.folder.path().to_owned();
    let found = |lines: &[Value]| lines.iter().any(|l| l.to_string().contains("approval_required"));
    until("the refusal is there", || found(&delivered(&path, "refusals"))).await;
    let lines = delivered(&path, "refusals");
    assert!(lines.iter().all(|line| line["record"]["kind"] == "refusal"), "{lines:?}");
    let folder = house.stop().await;
    let all = sealed(folder.path());
    let due = all.iter().filter(|entry| entry["kind"] == "refusal").count();
    assert!(due >= lines.len() && all.len() > due);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_within_seconds_and_what_is_removed_stops_and_goes_on_if_it_comes_back() {
    let house = House::new().await;
    let path = house.folder.path().to_owned();
    house.declare("out", json!({"destination": {"type": "file"}})).await.unwrap();
    until("it runs", || !delivered(&path, "out").is_empty()).await;

    house.declare("out", json!({"destination": {"type": "file"}, "format": "ocsf"})).await.unwrap();
    let otherwise = || delivered(&path, "out").iter().any(|line| line["class_uid"].is_u64());
    for _ in 0..100 {
        // Something has to happen after the change is in force.
        house.chat(&house.alice.1, "assistant", "say: hi").await;
        if otherwise() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(otherwise(), "it is written otherwise");
    let lines = delivered(&path, "out");
    let turn = lines.iter().position(|line| line["class_uid"].is_u64()).unwrap();
    assert!(lines.iter().skip(turn).all(|line| line["class_uid"].is_u64()), "never back");

    house.ask("DELETE", "/api/v1/resources/delivery/out".to_owned(), None).await.unwrap();
    house.delivery_is("out", |d| d.is_none()).await;
    let stopped = delivered(&path, "out").len();
    for _ in 0..3 {
        assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(delivered(&path, "out").len(), stopped);

    // What is disabled is told, and does not run either.
    house.declare("out", json!({"destination": {"type": "file"}, "status": "disabled"})).await.unwrap();
    house.delivery_is("out", |d| d.is_some_and(|d| d["state"] == "disabled")).await;
    assert_eq!(delivered(&path, "out").len(), stopped);
    house.declare("out", json!({"destination": {"type": "file"}})).await.unwrap();
    until("it goes on", || delivered(&path, "out").len() > stopped + 6).await;
    let places: Vec<Value> = delivered(&path, "out")
        .iter()
        .map(|line| if line["class_uid"].is_u64() { Value::Null } else { line["index"].clone() })
        .collect();
    for (at, place) in places.iter().enumerate().filter(|(_, place)| !place.is_null()) {
        assert_eq!(*place, json!(at), "nothing twice and nothing left out");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_now_leaves_out_what_was_before_once() {
    let mut house = House::new().await;
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: before").await.0, 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    house.declare("new", json!({"destination": {"type": "file"}, "from": "now"})).await.unwrap();
    let path = house.folder.path().to_owned();
    house.delivery_is("new", |d| d.is_some_and(|d| d["state"] == "running")).await;
    until("something new", || !delivered(&path, "new").is_empty()).await;
    let first = delivered(&path, "new")[0]["index"].as_u64().unwrap();
    assert!(first > 10, "the house was furnished before: {first}");
    // Over a restart it goes on, and leaves nothing out.
    house = house.again().await;
    let known = sealed(&path).len();
    until("it goes on", || delivered(&path, "new").len() >= known - usize::try_from(first).unwrap()).await;
    let places = delivered(&path, "new");
    assert!(places.iter().zip(first..).all(|(line, index)| line["index"] == index));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_its_place_and_changes_nothing() {
    let house = House::new().await;
    let http = |url: &str| json!({"type": "http", "url": url});
    let file = json!({"type": "file"});
    let cases = [
        (json!({"destination": file, "format": "cef"}), "does not take this format"),
        (json!({"destination": file, "query": "kind:("}), "the query"),
        (json!({"destination": file, "credential": "siem"}), "takes no credential"),
        (json!({"destination": {"type": "file", "bytes_max": 1}}), "`bytes_max`"),
        (json!({"destination": http("https://siem.example/in")}), "needs a `credential`"),
        (
            json!({"destination": http("http://siem.example/in"), "credential": "c"}),
            "only with `allow_private`",
        ),
        (json!({"destination": http("https://a@siem.example/"), "credential": "c"}), "without user"),
        (json!({"destination": http("ftp://siem.example/"), "credential": "c"}), "an address is"),
        (json!({"destination": {"type": "syslog", "host": "a b"}}), "`host`"),
        (json!({"destination": {"type": "syslog", "host": "h"}, "format": "otlp-json"}), "does not take"),
        (json!({"destination": {"type": "syslog", "host": "h", "message_max": 10}}), "`message_max`"),
    ];
    for (spec, why) in cases {
        let (reason, message) = refusal(house.declare("odd", spec.clone()).await);
        assert!(reason == "invalid" && message.contains(why), "{spec}: {reason}: {message}");
    }
    for spec in [
        json!({"destination": {"type": "pigeon"}}),
        json!({"destination": {"type": "file", "folder": "/etc"}}),
    ] {
        assert_eq!(refusal(house.declare("odd", spec).await).0, "body_malformed");
    }
    assert_eq!(house.delivery("odd").await, None);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_are_taken_or_name_the_feature_that_they_need() {
    let house = House::new().await;
    let control = format!("http://{}", house.node.control);
    let key = house.admin_key.clone();
    let apply = move |file: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).env_clear();
        command.env("BARTIZAN_CONTROL_URL", &control).env("BARTIZAN_API_KEY", key.expose());
        let output = command.args(["resource", "apply", file]).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (plain, featured) =
        blocking(move || (apply("examples/deliveries.toml"), apply("examples/mirror.toml"))).await;
    assert!(plain.0, "{}", plain.1);
    house.delivery_is("archive", |d| d.is_some_and(|d| d["state"] == "running")).await;
    let whole = cfg!(all(feature = "s3", feature = "nats"));
    assert_eq!(featured.0, whole, "{}", featured.1);
    if !whole {
        let feature = if cfg!(feature = "s3") { "`nats`" } else { "`s3`" };
        assert!(featured.1.contains("the feature") && featured.1.contains(feature), "{}", featured.1);
        assert_eq!(house.delivery("auditors").await, None, "all or nothing");
    }
    house.stop().await;
}
