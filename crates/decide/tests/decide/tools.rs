//! Calls of tools are decided by the tool's own action, on the arguments that its schema types.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use crate::world::{documents, name, situation, user};
use bartizan_base::Digest;
use bartizan_base::Timestamp;
use bartizan_decide::{
    Bundle, CompiledBundle, Door, Entities, Explanation, KeptAsk, Question, Reader, ServerWords, Snapshot,
};
use bartizan_identify::Caller;
use bartizan_model::action::ToolCall;
use bartizan_model::asset::AssetSpec;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, Ask, AskFacts, AssuranceLevel, DecisionId, Document, EntityRef, ReasonCode, Spec, Tenant,
};
use serde_json::{Value, json};

const PERMIT: &str = "@id(\"staff\") permit (principal in Group::\"engineers\", action in [Action::\"tool:use\", Action::\"tool:list\"], resource);\n";

fn words(server: &str, tools: &Value) -> ServerWords {
    ServerWords::of(&name(server), tools.as_array().unwrap()).unwrap()
}

fn files() -> ServerWords {
    let schema = json!({"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"}, "depth": {"type": "integer"}, "force": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}}, "ratio": {"type": "number"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "to": {"type": "object", "required": ["host"], "properties": {"host": {"type": "string"}}},
    }});
    words("files", &json!([{"name": "write", "inputSchema": schema}, {"name": "ping"}]))
}

fn bundle(rules: &str) -> Bundle {
    Bundle { files: [("p.cedar".to_owned(), format!("{PERMIT}{rules}"))].into() }
}

fn over(compiled: CompiledBundle) -> Snapshot {
    let mut all = documents();
    for tool in ["files/write", "files/ping", "mail/send"] {
        let spec = Spec::Tool(AssetSpec::default());
        all.push(Document { name: name(tool), principal: None, spec });
    }
    Snapshot::new(Some(Arc::new(compiled)), Arc::new(Entities::build(&all).unwrap()))
}

fn snapshot(rules: &str) -> Snapshot {
    over(CompiledBundle::compile_with(&bundle(rules), &[files()]).unwrap_or_else(|e| panic!("{e}")))
}

fn facts(arguments: &Value) -> AskFacts {
    AskFacts { dialect: "mcp".to_owned(), arguments: arguments.as_object().cloned(), ..AskFacts::default() }
}

fn tool(of: &str) -> EntityRef {
    EntityRef::new(name("Tool"), name(of))
}

fn alice() -> Caller {
    user("alice", AssuranceLevel::Aal2)
}

fn call_as(snapshot: &Snapshot, of: &str, arguments: &Value, reader: Reader) -> Explanation {
    let (caller, resource, facts, situation) = (alice(), tool(of), facts(arguments), situation());
    let question = Question {
        caller: &caller,
        action: Action::ToolCall,
        resource: &resource,
        facts: &facts,
        situation: &situation,
    };
    snapshot.explain(&question, &Door::none(), reader)
}

fn call(snapshot: &Snapshot, of: &str, arguments: &Value) -> (VerdictKind, Option<ReasonCode>) {
    let told = call_as(snapshot, of, arguments, Reader::ALL);
    (told.verdict, told.reasons.first().cloned())
}

const PERMITTED: (VerdictKind, Option<ReasonCode>) = (VerdictKind::Permit, None);

fn denied(reason: ReasonCode) -> (VerdictKind, Option<ReasonCode>) {
    (VerdictKind::Deny, Some(reason))
}

const ETC: &str = r#"@id("etc") @reason("assurance_too_low")
forbid (principal, action == Tools::files::Action::"write", resource)
when { context.arguments.path like "/etc/*" || (context.arguments has force && context.arguments.force) };"#;

#[test]
fn lesson_agentgateway_3092_rules_on_arguments_match_and_those_that_never_can_are_refused() {
    let policy = snapshot(ETC);
    assert_eq!(call(&policy, "files/write", &json!({"path": "/home/x"})), PERMITTED);
    let low = denied(ReasonCode::AssuranceTooLow);
    assert_eq!(call(&policy, "files/write", &json!({"path": "/etc/passwd"})), low);
    assert_eq!(call(&policy, "files/write", &json!({"path": "/home/x", "force": true})), low);
    assert_eq!(call(&policy, "files/ping", &json!({})), PERMITTED);
    // Whatever could only ever fail to match, or fail open, does not compile.
    for never in [
        r#"forbid (principal, action == Tools::files::Action::"write", resource) when { context.arguments.paht == "/etc" };"#,
        r#"forbid (principal, action == Tools::files::Action::"write", resource) when { context.arguments has paht };"#,
        r#"permit (principal, action == Tools::files::Action::"write", resource) when { !(context.arguments has path) };"#,
        r#"forbid (principal, action == Tools::files::Action::"write", resource) when { context.arguments.path == 7 };"#,
        r#"forbid (principal, action == Tools::files::Action::"wirte", resource);"#,
        r#"forbid (principal, action == Tools::mail::Action::"send", resource);"#,
        r#"forbid (principal, action == Action::"tool:call", resource) when { context.arguments.path like "/etc/*" };"#,
        r#"forbid (principal, action == Tools::files::Action::"write", resource == Tool::"files/ping");"#,
        r#"forbid (principal, action, resource is Tool) when { action == Tools::files::Action::"write" };"#,
        r#"forbid (principal, action == Tools::files::Action::"write", resource is Model);"#,
        r#"forbid (principal, action == Tools::files::Action::"write", resource) when { context.arguments.ratio > 1 };"#,
    ] {
        let made = CompiledBundle::compile_with(&bundle(&format!("@id(\"never\") {never}")), &[files()]);
        assert!(made.is_err(), "{never}");
    }
}

#[test]
fn arguments_of_a_wrong_type_are_denied_whatever_policy_says() {
    let policy = snapshot("");
    let invalid = denied(ReasonCode::ToolArgumentsInvalid);
    for wrong in [
        json!({}),
        json!({"path": 7}),
        json!({"path": null}),
        json!({"path": ["/etc/passwd"]}),
        json!({"path": "x", "depth": "7"}),
        json!({"path": "x", "depth": 1.5}),
        json!({"path": "x", "depth": 9_223_372_036_854_775_808_u64}),
        json!({"path": "x", "force": "true"}),
        json!({"path": "x", "tags": "a"}),
        json!({"path": "x", "tags": ["a", 1]}),
        json!({"path": "x", "to": {}}),
        json!({"path": "x", "to": {"host": 1}}),
    ] {
        assert_eq!(call(&policy, "files/write", &wrong), invalid, "{wrong}");
    }
    for right in [
        json!({"path": "x", "note": null, "depth": 3.0, "ratio": 0.5, "tags": [], "more": {"any": "thing"}}),
        json!({"path": "x", "note": "n", "depth": -1, "to": {"host": "h", "port": 1}}),
    ] {
        assert_eq!(call(&policy, "files/write", &right), PERMITTED, "{right}");
    }
    // Who may not know of the tool is told nothing about it.
    let mallory = user("mallory", AssuranceLevel::Aal2);
    let ask = Ask::<ToolCall>::new(
        DecisionId::from_parts(crate::world::NOW, [1; 10]),
        Action::ToolCall,
        tool("files/write"),
        facts(&json!({"path": 7})),
        Digest::EMPTY,
    );
    let refused = match policy.decide(&mallory, ask, &situation(), &Door::none()).verdict {
        bartizan_decide::Verdict::Deny(refused) => refused,
        other => panic!("{other:?}"),
    };
    assert!(!refused.discoverable);
}

#[test]
fn sizes_and_nested_members_are_facts_and_absent_ones_are_guarded() {
    let policy = snapshot(
        r#"@id("long") forbid (principal, action == Tools::files::Action::"write", resource) when { context.sizes.path > 5 };
           @id("many") forbid (principal, action == Tools::files::Action::"write", resource) when { context.sizes has tags && context.sizes.tags >= 2 };
           @id("far") forbid (principal, action == Tools::files::Action::"write", resource)
             when { context.arguments has to && context.arguments.to.host != "localhost" };
           @id("tagged") forbid (principal, action == Tools::files::Action::"write", resource)
             when { context.arguments has tags && context.arguments.tags.contains("secret") };"#,
    );
    let rules = |arguments: Value| {
        let told = call_as(&policy, "files/write", &arguments, Reader::ALL);
        told.evidence.forbids.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(rules(json!({"path": "12345"})), Vec::<String>::new());
    assert_eq!(rules(json!({"path": "äää"})), ["long"], "bytes, not characters");
    assert_eq!(rules(json!({"path": "x", "tags": ["a", "a"]})), ["many"]);
    assert_eq!(rules(json!({"path": "x", "tags": ["secret"]})), ["tagged"]);
    assert_eq!(rules(json!({"path": "x", "to": {"host": "evil.example"}})), ["far"]);
    assert_eq!(rules(json!({"path": "x", "to": {"host": "localhost"}})), Vec::<String>::new());
}

#[test]
fn where_no_words_are_known_a_call_is_plain_and_arguments_say_nothing() {
    let policy = snapshot(ETC);
    assert_eq!(call(&policy, "mail/send", &json!({"path": "/etc/passwd", "anything": [1, {}]})), PERMITTED);
    let told = call_as(&policy, "mail/send", &json!({"to": "x"}), Reader::ALL);
    assert_eq!(told.evidence.permits, [name("staff")]);
    // A rule on every call is one on calls of tools with words, too.
    let policy = snapshot("@id(\"none\") forbid (principal, action == Action::\"tool:call\", resource);");
    assert_eq!(call(&policy, "mail/send", &json!({})), denied(ReasonCode::Forbidden));
    let group = snapshot("@id(\"none\") forbid (principal, action in Action::\"tool:call\", resource);");
    assert_eq!(call(&group, "files/ping", &json!({})), denied(ReasonCode::Forbidden));
}

/// INV-SAME: the index, the plain conditions and replay give what every rule by the engine's public interface gives.
#[test]
fn inv_same_holds_for_calls_of_tools_on_any_arguments() {
    let rules = format!(
        r#"{ETC}
        @id("deep") forbid (principal, action == Tools::files::Action::"write", resource)
          when {{ context.arguments has depth && context.arguments.depth * 2 > 10 }};
        @id("empty") forbid (principal, action == Tools::files::Action::"write", resource)
          unless {{ context.sizes.path > 0 }};
        @id("odd") forbid (principal, action in [Tools::files::Action::"write", Tools::files::Action::"ping"], resource)
          when {{ context has arguments && context.arguments has to && context.arguments.to.host like "*.test" }};"#
    );
    let policy = snapshot(&rules);
    let (mut verdicts, mut n) = (std::collections::BTreeSet::new(), 0_u8);
    for path in [json!("/etc/x"), json!("a"), json!(""), json!(1)] {
        for depth in [None, Some(json!(5)), Some(json!(6)), Some(json!(i64::MAX)), Some(json!("x"))] {
            for host in [None, Some(json!({"host": "a.test"})), Some(json!({"host": "b"}))] {
                let mut arguments = json!({"path": path});
                arguments["depth"] = depth.clone().unwrap_or_default();
                arguments["to"] = host.clone().unwrap_or_default();
                arguments.as_object_mut().unwrap().retain(|_, v| !v.is_null());
                n = n.wrapping_add(1);
                let ask = || {
                    let id = DecisionId::from_parts(Timestamp::from_secs(1), [n; 10]);
                    Ask::<ToolCall>::new(
                        id,
                        Action::ToolCall,
                        tool("files/write"),
                        facts(&arguments),
                        Digest::EMPTY,
                    )
                };
                let (caller, situation, door) = (alice(), situation(), Door::none());
                let kept = KeptAsk::of(
                    &caller,
                    Action::ToolCall,
                    &tool("files/write"),
                    &facts(&arguments),
                    &situation,
                    &door,
                )
                .by(&policy);
                // As it is stored, and with what it knew of the tool alone.
                let kept: KeptAsk = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
                let fast = policy.replay_fast(&kept, &Tenant::default_tenant());
                let every = policy.replay(&kept, &Tenant::default_tenant());
                assert_eq!(fast.differences(&every), Vec::<String>::new(), "{arguments}");
                let again = over(CompiledBundle::in_force(&bundle(&rules), &kept.words(), &[]).unwrap());
                let again = again.replay(&kept, &Tenant::default_tenant());
                assert_eq!(
                    (again.verdict, &again.reasons, again.grounds.context),
                    (fast.verdict, &fast.reasons, fast.grounds.context)
                );
                let decided = policy.decide_reference(&caller, ask(), &situation, &door).verdict;
                let kind = match &decided {
                    bartizan_decide::Verdict::Permit(_) => VerdictKind::Permit,
                    _ => VerdictKind::Deny,
                };
                assert!(fast.verdict == kind || caller.is_supposed(), "{arguments}");
                verdicts.insert(format!("{:?} {:?}", fast.verdict, fast.reasons.first()));
            }
        }
    }
    assert!(verdicts.len() >= 4, "{verdicts:?}");
}

#[test]
fn lesson_kuadrant_710_what_is_recorded_of_a_call_commits_to_its_arguments_and_to_the_definition_of_the_tool()
{
    let context = |servers: &[ServerWords], arguments: &Value| {
        let policy = over(CompiledBundle::compile_with(&bundle(""), servers).unwrap());
        let kept = KeptAsk::of(
            &alice(),
            Action::ToolCall,
            &tool("files/ping"),
            &facts(arguments),
            &situation(),
            &Door::none(),
        );
        policy.replay(&kept, &Tenant::default_tenant()).grounds.context
    };
    let other =
        words("files", &json!([{"name": "ping", "inputSchema": {"properties": {"x": {"type": "integer"}}}}]));
    let seen = [
        context(&[], &json!({})),
        context(&[files()], &json!({})),
        context(&[files()], &json!({"x": 1})),
        context(&[files()], &json!({"x": 2})),
        context(&[files()], &json!({"x": 9_007_199_254_740_993_u64})),
        context(&[files()], &json!({"x": 9_007_199_254_740_992_u64})),
        context(&[other], &json!({"x": 1})),
    ];
    assert_eq!(seen.iter().collect::<std::collections::BTreeSet<_>>().len(), seen.len(), "{seen:?}");
}

#[test]
fn a_tool_that_changed_under_its_rules_cannot_be_asked_for_and_the_bundle_stays() {
    let rules = format!(
        r#"{ETC}
        @id("both") forbid (principal in Group::"contractors", action in [Tools::files::Action::"gone", Tools::files::Action::"ping"], resource);
        @id("group") forbid (principal, action in Action::"tool:call", resource)
          when {{ context has sizes && context.sizes has path && context.sizes.path > 100 }};"#
    );
    let write = |kind: &str| json!({"name": "write", "inputSchema": {"required": ["path"], "properties": {"path": {"type": kind}, "force": {"type": "boolean"}}}});
    let with = |tools: &Value| {
        let servers = [words("files", tools)];
        over(CompiledBundle::in_force(&bundle(&rules), &servers, &[]).unwrap_or_else(|e| panic!("{e}")))
    };
    let unusable = denied(ReasonCode::ToolUnusable);
    // As it was meant.
    let fits = with(&json!([write("string"), {"name": "gone"}, {"name": "ping"}]));
    assert_eq!(fits.bundle().unwrap().unusable_tools(), Vec::<String>::new());
    assert_eq!(call(&fits, "files/write", &json!({"path": "x"})), PERMITTED);
    // Another type: the rule cannot be evaluated any more, so nobody calls the tool. Everything else goes on.
    let changed = with(&json!([write("integer"), {"name": "gone"}, {"name": "ping"}]));
    assert_eq!(call(&changed, "files/write", &json!({"path": 7})), unusable);
    assert_eq!(call(&changed, "files/ping", &json!({})), PERMITTED);
    // Gone: also where it stands beside something else, which is still forbidden.
    let gone = with(&json!([{"name": "ping"}]));
    assert_eq!(call(&gone, "files/write", &json!({"path": "/etc/x"})), unusable);
    assert_eq!(gone.bundle().unwrap().unusable_tools().len(), 2);
    assert_eq!(call(&gone, "files/ping", &json!({})), PERMITTED);
    let (carol, ping, none, now) =
        (user("carol", AssuranceLevel::Aal2), tool("files/ping"), facts(&json!({})), situation());
    let question =
        Question { caller: &carol, action: Action::ToolCall, resource: &ping, facts: &none, situation: &now };
    let told = gone.explain(&question, &Door::none(), Reader::ALL);
    assert_eq!(told.evidence.forbids, [name("both")], "what is left of it still forbids");
    // A rule on all tools that one of them breaks is kept; that one goes.
    let broken = with(
        &json!([write("string"), {"name": "gone"}, {"name": "ping"}, {"name": "odd", "inputSchema": {"properties": {
        "path": {"type": "object", "properties": {"x": {"type": "string"}}}}}}]),
    );
    assert!(broken.bundle().unwrap().unusable_tools().iter().any(|t| t.contains("odd")));
    assert_eq!(
        call(&broken, "files/write", &json!({"path": "x".repeat(200)})),
        denied(ReasonCode::Forbidden)
    );
    // What a server offers cannot be read at all.
    let unread = ServerWords::unusable(&name("files"), &ServerWords::of(&name("a/b"), &[]).unwrap_err());
    let policy = over(CompiledBundle::in_force(&bundle(&rules), &[unread], &[]).unwrap());
    assert_eq!(call(&policy, "files/ping", &json!({})), unusable);
    assert_eq!(call(&policy, "mail/send", &json!({})), PERMITTED);
    // A mistake that has nothing to do with tools is still one.
    let wrong = bundle("@id(\"x\") forbid (principal, action, resource) when { context.nonsense };");
    assert!(CompiledBundle::in_force(&wrong, &[files()], &[]).is_err());
}

#[test]
fn what_somebody_sent_to_a_tool_is_shown_only_to_those_who_may_read_content() {
    let policy = snapshot(ETC);
    let arguments = json!({"path": "/etc/alice-liddell"});
    let shown = |personal| {
        let told = call_as(&policy, "files/write", &arguments, Reader { rules: true, personal });
        serde_json::to_string(&told).unwrap().contains("alice-liddell")
    };
    assert!(shown(true));
    assert!(!shown(false));
}
