//! Two callers on one line, and a server that says what it likes.

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::*;

fn link(shared: bool) -> (Arc<Link>, mpsc::Receiver<Bytes>) {
    Link::new(Manner { shared, bytes_max: 1 << 16, patience: Duration::from_secs(60) }, Shutdown::default())
}

fn message(value: &Value) -> Message {
    Message::read(value.to_string().into(), limits(1 << 16)).unwrap()
}

fn session(n: u8) -> Digest {
    Digest::of(&[n])
}

fn call(id: &Value, token: &Value) -> Message {
    message(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "echo", "_meta": {"progressToken": token}, "arguments": {"id": id}}}))
}

/// Begins a request and gives it as it leaves.
fn begin(link: &Arc<Link>, n: u8, request: &Message) -> Result<(Value, Messages), Broken> {
    let (numbers, messages) = link.begin(session(n), request)?;
    Ok((numbers.map_or(Value::Null, |numbers| read(&request.numbered(&numbers))), messages))
}

fn read(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn hear(link: &Link, value: &Value) -> Result<(), Broken> {
    link.hear(value.to_string().into())
}

/// What is there now, without waiting.
fn now(messages: &mut Messages) -> Option<Option<Result<Value, Broken>>> {
    messages.next().now_or_never().map(|next| next.map(|m| m.map(|bytes| read(&bytes))))
}

#[tokio::test]
async fn two_callers_with_the_same_id_and_token_each_get_their_own_answer_and_progress() {
    let (link, _said) = link(true);
    let (first, mut a) = begin(&link, 1, &call(&json!(1), &json!("t"))).unwrap();
    let (second, mut b) = begin(&link, 2, &call(&json!(1), &json!("t"))).unwrap();
    assert_ne!(first["id"], second["id"]);
    assert_eq!(second["params"]["_meta"]["progressToken"], second["id"], "the token is ours, too");
    assert_eq!(second["params"]["arguments"], json!({"id": 1}), "arguments stay as they are");
    let progress = |token: &Value| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    hear(&link, &progress(&second["id"])).unwrap();
    hear(&link, &json!({"jsonrpc": "2.0", "id": second["id"], "result": {"for": "b"}})).unwrap();
    assert_eq!(now(&mut a), None, "nothing of it reaches the other");
    let told = now(&mut b).unwrap().unwrap().unwrap();
    assert_eq!(told["params"]["progressToken"], "t");
    assert_eq!(
        now(&mut b).unwrap().unwrap().unwrap(),
        json!({"jsonrpc": "2.0", "id": 1, "result": {"for": "b"}})
    );
    assert_eq!(now(&mut b), Some(None));
    hear(&link, &json!({"jsonrpc": "2.0", "id": first["id"], "result": {"for": "a"}})).unwrap();
    assert_eq!(now(&mut a).unwrap().unwrap().unwrap()["result"], json!({"for": "a"}));
}

#[tokio::test]
async fn a_progress_token_that_cannot_be_replaced_is_refused() {
    let (link, _said) = link(true);
    for token in [json!(1.0), json!(true), json!([1]), json!({"a": 1}), json!(null), json!("x".repeat(300))] {
        assert_eq!(begin(&link, 1, &call(&json!(1), &token)).unwrap_err(), Broken::Malformed, "{token}");
    }
    assert_eq!(link.open(), 0);
}

#[tokio::test]
async fn an_answer_under_a_number_that_is_not_open_reaches_nobody() {
    let (link, _said) = link(true);
    let (_, mut a) = begin(&link, 1, &call(&json!(7), &json!(7))).unwrap();
    for id in [json!(7), json!(99), json!("1"), json!("x"), json!(-1)] {
        hear(&link, &json!({"jsonrpc": "2.0", "id": id, "result": {"stolen": true}})).unwrap();
    }
    assert_eq!(now(&mut a), None);
    assert_eq!(link.open(), 1);
}

#[tokio::test]
async fn nobody_cancels_the_call_of_another_session() {
    let (link, mut said) = link(true);
    let (line, a) = begin(&link, 1, &call(&json!(1), &json!(1))).unwrap();
    let cancel = |id: Value| {
        message(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}))
    };
    assert_eq!(link.tell(session(2), &cancel(json!(1))), Ok(None), "the same id in another session");
    assert_eq!(link.tell(session(2), &cancel(line["id"].clone())), Ok(None), "our own number");
    let own = link.tell(session(1), &cancel(json!(1))).unwrap().unwrap();
    assert_eq!(read(&cancel(json!(1)).numbered(&own))["params"]["requestId"], line["id"]);
    // Who goes away cancels, under our number.
    drop(a);
    assert_eq!(read(&said.recv().await.unwrap())["params"]["requestId"], line["id"]);
    assert_eq!(link.open(), 0);
}

#[tokio::test]
async fn on_a_shared_line_nothing_is_asked_noted_or_changed() {
    let (link, mut said) = link(true);
    let (_, mut a) = begin(&link, 1, &call(&json!(1), &json!(1))).unwrap();
    hear(&link, &json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}}))
        .unwrap();
    assert_eq!(read(&said.recv().await.unwrap())["error"]["code"], -32601);
    hear(
        &link,
        &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "of another"}}),
    )
    .unwrap();
    assert_eq!(now(&mut a), None);
    let answer = message(&json!({"jsonrpc": "2.0", "id": "q", "result": {}}));
    assert_eq!(link.tell(session(1), &answer), Err(Broken::Malformed));
    for method in ["logging/setLevel", "resources/subscribe", "anything"] {
        let request = message(&json!({"jsonrpc": "2.0", "id": 3, "method": method}));
        let (line, mut told) = begin(&link, 1, &request).unwrap();
        assert!(line.is_null(), "nothing is sent");
        assert_eq!(now(&mut told).unwrap().unwrap().unwrap()["error"]["code"], -32601);
    }
}

#[tokio::test]
async fn a_question_goes_to_the_session_whose_line_it_is_and_is_answered_once() {
    let (link, mut said) = link(false);
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}});
    hear(&link, &question).unwrap();
    assert_eq!(read(&said.recv().await.unwrap())["error"]["code"], -32601, "nobody is there");
    let (_, mut a) = begin(&link, 1, &call(&json!(1), &json!(1))).unwrap();
    hear(&link, &question).unwrap();
    assert_eq!(now(&mut a).unwrap().unwrap().unwrap(), question);
    let answer = message(&json!({"jsonrpc": "2.0", "id": "q", "result": {"action": "decline"}}));
    assert!(link.tell(session(1), &answer).unwrap().is_some());
    assert_eq!(link.tell(session(1), &answer), Err(Broken::Malformed), "twice");
}

#[tokio::test]
async fn a_ping_is_answered_by_us() {
    let (link, mut said) = link(true);
    hear(&link, &json!({"jsonrpc": "2.0", "id": "p", "method": "ping"})).unwrap();
    assert_eq!(read(&said.recv().await.unwrap()), json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
}

#[tokio::test]
async fn a_server_that_writes_rubbish_or_only_what_nobody_asked_for_is_not_listened_to() {
    let (one, _said) = link(false);
    assert_eq!(one.hear("Listening on stdio".into()), Err(Broken::Rubbish));
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
    let mut heard = 0;
    while hear(&one, &note).is_ok() {
        heard += 1;
    }
    assert_eq!(heard, STRAY_MAX);
}

#[tokio::test]
async fn notes_that_a_caller_does_not_take_are_left_out_and_its_answer_still_comes() {
    let (link, _said) = link(false);
    let (line, mut a) = begin(&link, 1, &call(&json!(1), &json!(1))).unwrap();
    let note =
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x".repeat(1_000)}});
    for _ in 0..NOTES_MAX * 4 {
        hear(&link, &note).unwrap();
    }
    hear(&link, &json!({"jsonrpc": "2.0", "id": line["id"], "result": {}})).unwrap();
    let mut got = 0;
    let last = loop {
        let next = read(&a.next().await.unwrap().unwrap());
        if next.get("id").is_some() {
            break next;
        }
        got += 1;
    };
    assert_eq!((got, last["result"].clone()), (NOTES_MAX, json!({})));
}

#[tokio::test]
async fn a_session_has_a_bounded_number_of_calls_and_does_not_take_those_of_others() {
    let (link, _said) = link(true);
    let open: Vec<_> =
        (0..SESSION_MAX).map(|n| begin(&link, 1, &call(&json!(n), &json!(n))).unwrap()).collect();
    assert_eq!(begin(&link, 1, &call(&json!(0), &json!(0))).unwrap_err(), Broken::Busy);
    assert!(begin(&link, 2, &call(&json!(0), &json!(0))).is_ok());
    drop(open);
    assert!(begin(&link, 1, &call(&json!(0), &json!(0))).is_ok());
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_line_ends() {
    let (link, _said) = link(false);
    let (_, mut a) = begin(&link, 1, &call(&json!(1), &json!(1))).unwrap();
    link.end(Broken::Ended);
    assert_eq!(now(&mut a), Some(Some(Err(Broken::Ended))));
    assert_eq!(begin(&link, 1, &call(&json!(1), &json!(1))).unwrap_err(), Broken::Ended);
}
