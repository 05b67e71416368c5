//! Code that a model wrote, through the real door.

use bartizan_base::Digest;

use super::*;

/// What runs it: gives back its source, its input and a file, and refuses to end where the source says so.
fn runtimes(folder: &Path, file: &str) -> String {
    let path = folder.join("echo.wasm");
    if !path.exists() {
        std::fs::write(&path, wat::parse_str(ECHO).unwrap()).unwrap();
    }
    let digest = Digest::of(&wat::parse_str(ECHO).unwrap());
    format!(
        "[code]\nruns_max = 1\n[code.runtimes.echo]\nfile = \"{}\"\ndigest = \"{digest}\"\n[code.runtimes.echo.bounds]\nfuel = 1000000000000\ntime_ms = 2000\n\
         [code.runtimes.any]\naccepts = \"module\"\n",
        folder.join(file).display()
    )
}

const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "\00\01\00\00\00\10\00\00") (data (i32.const 32) "source") (data (i32.const 48) "out.bin")
    (func $copy (param $from i32) (param $to i32)
        (i32.store (i32.const 4) (i32.const 4096))
        (if (call $read (local.get $from) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (if (call $write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable))))
    (func (export "_start")
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 6) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 16)) (then (unreachable)))
        (call $copy (i32.load (i32.const 16)) (i32.const 1))
        (if (i32.eq (i32.load8_u (i32.const 256)) (i32.const 33)) (then (loop $l (br $l))))
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 48) (i32.const 7) (i32.const 1) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 16)) (then (unreachable)))
        (call $copy (i32.const 0) (i32.load (i32.const 16)))))"#;

const RULES: &str = r#"
@id("people-run-code")
permit (principal, action == Action::"code:run", resource) when { resource == Environment::"echo" || resource == Environment::"any" };

@id("nothing-long")
forbid (principal, action == Action::"code:run", resource)
when { context.request has code && context.request.code.bytes > 100 };

@id("no-module-but-this-one")
forbid (principal, action == Action::"code:run", resource == Environment::"any")
unless { context.request has code && context.request.code.digest == "DIGEST" };
"#;

/// A program that ends at once.
const NOTHING: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let text = runtimes(folder.path(), "echo.wasm");
    let raw = Raw::load(Some((Path::new("b.toml"), &text)), &Vec::new(), &[]).unwrap();
    let data = tempfile::tempdir().unwrap();
    let config = Config { code: Config::resolve(&raw).unwrap().code, ..config(data.path(), &[]) };
    let house = House::founded(data, config, Machine::default(), |_| {}).await;
    let digest = Digest::of(&wat::parse_str(NOTHING).unwrap()).to_string();
    let files = json!({"policy.cedar": POLICY, "code.cedar": RULES.replace("DIGEST", &digest)});
    let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    blocking(move || {
        let environment = |name: &str| json!({"name": name, "spec": {"kind": "environment"}});
        let declared = json!([environment("echo"), environment("any")]);
        admin.call("POST", "/api/v1/resources", Some(&declared)).unwrap();
        admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap()
    })
    .await;
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_wrote_is_decided_on_run_and_told_with_its_label() {
    let house = house().await;
    let alice = house.alice.1.clone();
    let (status, body) = house.post(&alice, "/code/echo", json!({"source": "1 + 1", "stdin": "abc"})).await;
    assert_eq!((status, &body["exit"], &body["ended"]), (200, &json!(0), &json!("exited")), "{body}");
    assert_eq!((&body["stdout"], &body["files"]), (&json!("1 + 1"), &json!({"out.bin": "YWJj"})));
    // Policy sees how much it is, and which; whoever may not run code learns nothing of what would.
    let (status, body) = house.post(&alice, "/code/echo", json!({"source": "x".repeat(101)})).await;
    assert_eq!((status, reason(&body)), (403, "forbidden"), "{body}");
    let (status, body) = house.post(&alice, "/code/python", json!({"source": "1"})).await;
    assert_eq!((status, reason(&body)), (403, "no_matching_permit"), "{body}");
    let module = |text: &str| json!({"module": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, wat::parse_str(text).unwrap())});
    assert_eq!(house.post(&alice, "/code/any", module(NOTHING)).await.0, 200);
    let (status, body) = house.post(&alice, "/code/any", module("(module (func (export \"_start\")))")).await;
    assert_eq!((status, reason(&body)), (403, "forbidden"), "{body}");
    for (sent, expected, status) in [
        (json!({"source": "a", "files": {"../../etc/passwd": ""}}), "code_refused", 422),
        (json!({"source": "a", "files": {"source": ""}}), "code_refused", 422),
        (json!({"module": "AGFzbQ=="}), "code_refused", 422),
        (json!({"source": "a", "command": "sh"}), "body_malformed", 400),
    ] {
        let (got, body) = house.post(&alice, "/code/echo", sent).await;
        assert_eq!((got, reason(&body)), (status, expected), "{body}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_end_is_ended_and_more_than_may_run_is_refused() {
    let house = house().await;
    let alice = house.alice.1.clone();
    let endless = json!({"source": "!"});
    // Nobody waits for a place: while one runs for its time, another is refused.
    let both = tokio::join!(
        house.post(&alice, "/code/echo", endless.clone()),
        house.post(&alice, "/code/echo", endless)
    );
    let mut told: Vec<(u16, String)> =
        [both.0, both.1].map(|(status, body)| (status, reason(&body).to_owned())).to_vec();
    told.sort_by_key(|(status, _)| *status);
    assert_eq!(told, [(422, "code_time".to_owned()), (503, "busy".to_owned())]);
    let (status, body) = house.post(&alice, "/code/echo", json!({"source": "!"})).await;
    assert_eq!((status, &body["ended"], &body["stdout"]), (422, &json!("code_time"), &json!("!")), "{body}");
    // It has gone, and the place with it.
    assert_eq!(house.post(&alice, "/code/echo", json!({"source": "1"})).await.0, 200);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_another_file_keeps_the_house_closed() {
    let folder = tempfile::tempdir().unwrap();
    let text = runtimes(folder.path(), "other.wasm");
    std::fs::write(folder.path().join("other.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let raw = Raw::load(Some((Path::new("b.toml"), &text)), &Vec::new(), &[]).unwrap();
    let data = tempfile::tempdir().unwrap();
    let config = Config { code: Config::resolve(&raw).unwrap().code, ..config(data.path(), &[]) };
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    found(&config, "2/3").await.unwrap();
    let error = Node::start_on(&config, Machine::default()).await.unwrap_err();
    let mut told = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        told += &format!("{error}; ");
        source = error.source();
    }
    assert!(told.contains("code.runtimes.echo") && told.contains("not the one that is configured"), "{told}");
}
