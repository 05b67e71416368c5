//! The house on PostgreSQL: several nodes on one state, and what happens when the database is gone.

use bartizan_testkit::postgres::Server;

use super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server, started outside of the tasks that must go on.
pub(super) async fn server() -> Server {
    blocking(Server::start).await
}

pub(super) async fn on(server: &Server) -> (House, String) {
    let url = server.create_database();
    (House::with(&[("state.postgres_url", url.clone())]).await, url)
}

/// Asks until the answer is `status`, and gives its reason.
pub(super) async fn until(house: &House, status: u16) -> String {
    let asked = async {
        loop {
            let (got, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
            // Until the lease has run out it is what entered the session that nobody knows.
            if got == status && reason(&body) != "label_unavailable" {
                return reason(&body).to_owned();
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_database_that_is_gone_refuses_within_the_lease_and_the_house_recovers_by_itself() {
    let server = server().await;
    let (house, _) = on(&server).await;
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    let server = blocking(move || {
        server.stop();
        server
    })
    .await;
    assert_eq!(until(&house, 503).await, "snapshot_stale");
    let calls = house.last().await.pointer("/count").cloned();
    for _ in 0..3 {
        let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
        let message = body.pointer("/error/message").and_then(Value::as_str).unwrap();
        assert_eq!((status, reason(&body)), (503, "snapshot_stale"));
        assert!(message.len() > 40, "no way forward: {message}");
    }
    assert_eq!(house.last().await.pointer("/count").cloned(), calls, "nothing was forwarded");
    let server = blocking(move || {
        server.start_again();
        server
    })
    .await;
    until(&house, 200).await;
    house.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_does_not_compile_when_it_is_reloaded_is_refused_with_an_alarm_and_the_last_good_one_stays()
 {
    let server = server().await;
    let (house, url) = on(&server).await;
    let database = url.rsplit('/').next().unwrap().to_owned();
    // What another version could have written: newer words, or damage.
    let data = house.folder.path().to_owned();
    let server = blocking(move || {
        recover::force(&data, &server, &database, "permit (principal");
        server
    })
    .await;
    let metrics = Arc::new(Client::new(&format!("http://{}", house.node.operations), None));
    let alarmed = async {
        loop {
            let client = metrics.clone();
            let (_, text) = blocking(move || client.raw("GET", "/metrics", None, &[]).unwrap()).await;
            if text.contains("bartizan_bundles_rejected_total 1") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, alarmed).await.unwrap();
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    assert_eq!(house.chat(&house.mallory, "assistant", "say: hi").await.0, 404);
    house.stop().await;
    drop(server);
}

#[test]
fn doctor_says_why_the_database_cannot_be_used_and_never_the_password() {
    let folder = tempfile::tempdir().unwrap();
    for (url, why) in [
        ("postgres://house:the-password@127.0.0.1:1/house", "Connection refused"),
        ("postgres://house:the@the-password@localhost/house", "written `%40`"),
        ("postgres://house:the-password@db.example/house", "sslmode=verify-full"),
        ("the-password", "does not begin with `postgres://`"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .env("BARTIZAN_STATE__POSTGRES_URL", url)
            .args(["doctor", "--output", "json", "--data-folder"])
            .arg(folder.path())
            .output()
            .unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.code() == Some(1) && out.contains(why), "{out}{error}");
        assert!(!out.contains("the-password") && !error.contains("the-password"), "{out}{error}");
    }
}

#[test]
fn the_database_url_is_never_shown() {
    let settings =
        |value: &str| Raw::load(None, &Vec::new(), &[("state.postgres_url", value.to_owned())]).unwrap();
    let url = "postgres://house:the-password@127.0.0.1/house";
    let shown =
        |raw: &Raw| format!("{raw:?} {:?}", raw.shown().map(|(_, value, _)| value).collect::<Vec<_>>());
    let raw = settings(url);
    let config = Config::resolve(&raw).unwrap();
    assert!(!shown(&raw).contains("the-password") && !format!("{config:?}").contains("the-password"));
    // From a file, only where it is; and a file that cannot be read is told with the setting.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, format!("{url}\n")).unwrap();
    let raw = settings(&format!("file:{}", path.display()));
    assert!(Config::resolve(&raw).is_ok() && shown(&raw).contains("/url"));
    let error = Config::resolve(&settings("file:/no/such/file")).unwrap_err().to_string();
    assert!(error.contains("state.postgres_url") && error.contains("/no/such/file"), "{error}");
}
