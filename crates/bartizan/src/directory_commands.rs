//! Commands about people, groups and programs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use bartizan_cli::{DirectoryCommand, ExitCode, Global, Output, Table};
use serde_json::{Map, Value, json};

use crate::commands::{Failure, client, show, text};

/// Entries that are sent at once.
const BATCH: usize = 200;
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

pub(crate) fn run(global: &Global, command: &DirectoryCommand) -> Result<ExitCode, Failure> {
    match command {
        DirectoryCommand::Import { file, dry_run } => import(global, file, *dry_run),
        DirectoryCommand::History { who } => history(global, who),
        DirectoryCommand::Disable { who } => standing(global, who, "disable"),
        DirectoryCommand::Enable { who } => standing(global, who, "enable"),
    }
}

fn split(who: &str) -> Result<(&str, &str), Failure> {
    let parts = who.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
    parts.ok_or_else(|| Failure::usage(format!("`{who}`: expected a kind and a name, such as user/alice")))
}

fn standing(global: &Global, who: &str, verb: &str) -> Result<ExitCode, Failure> {
    let (kind, name) = split(who)?;
    show(global, "POST", &format!("/api/v1/directory/{kind}/{name}/{verb}"), None, |_| {
        format!("{verb}d: {who}")
    })
}

/// The pseudonym of somebody, and what the ledger says about it.
fn history(global: &Global, who: &str) -> Result<ExitCode, Failure> {
    let client = client(global)?;
    let whom = if who.starts_with("prn_") {
        who.to_owned()
    } else {
        let (kind, name) = split(who)?;
        let listed = client.call("GET", &format!("/api/v1/resources/{kind}"), None)?;
        let named = |document: &&Value| text(document, "/name") == name;
        let found = listed.as_array().into_iter().flatten().find(named);
        let found = found.map(|document| text(document, "/principal").to_owned()).filter(|id| id != "-");
        found.ok_or_else(|| {
            Failure::new(
                ExitCode::Invalid,
                format!("`{who}` is not in the directory; whoever was removed is found by prn_…"),
            )
        })?
    };
    let query =
        json!({"query": format!("event:directory_changed \"{whom}\""), "first": "oldest", "limit": 1000});
    show(global, "POST", "/api/v1/log/search", Some(&query), |found| {
        let entries = found.pointer("/entries").and_then(Value::as_array).into_iter().flatten();
        let records = entries.filter_map(|entry| serde_json::from_str::<Value>(text(entry, "/entry")).ok());
        let rows: Vec<Value> = records.flat_map(|record| told(&record, &whom)).collect();
        let fields = [("when", "/when"), ("became", "/became"), ("kind", "/kind"), ("decision", "/decision")];
        Table::of(&rows.into(), &fields).to_string()
    })
}

/// What a record says of somebody.
fn told(record: &Value, whom: &str) -> Vec<Value> {
    let time = record.pointer("/time_us").and_then(Value::as_u64).unwrap_or_default();
    let when = bartizan_base::Timestamp::from_micros(time).to_string();
    let changes = record.pointer("/changes").and_then(Value::as_array).into_iter().flatten();
    let own = changes.filter(|change| text(change, "/whom") == whom);
    own.map(|change| {
        json!({
            "when": when, "became": text(change, "/became"), "kind": text(change, "/kind"),
            "decision": text(record, "/of"),
        })
    })
    .collect()
}

fn import(global: &Global, file: &Path, dry_run: bool) -> Result<ExitCode, Failure> {
    let bytes = fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let read =
        if file.extension().is_some_and(|e| e == "json") { from_json(&bytes) } else { from_csv(&bytes) };
    let invalid = |e: String| Failure::new(ExitCode::Invalid, format!("{}: {e}", file.display()));
    let (users, groups) = read.map_err(invalid)?;
    let client = client(global)?;
    let mut entries = Vec::new();
    let people = users.chunks(BATCH).map(|batch| ("users", batch));
    for (kind, batch) in people.chain(groups.chunks(BATCH).map(|batch| ("groups", batch))) {
        let body = json!({kind: batch, "dry_run": dry_run});
        let (status, answer) =
            client.raw("POST", "/api/v1/directory/import", Some(&body), &[]).map_err(Failure::from)?;
        let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
        if status >= 300 {
            let code = if status == 401 { ExitCode::Unauthenticated } else { ExitCode::Denied };
            return Err(Failure::new(code, text(&answer, "/detail")));
        }
        entries.extend(answer.pointer("/entries").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    let refused = entries.iter().any(|entry| text(entry, "/outcome") == "refused");
    let fields = [("kind", "/kind"), ("name", "/name"), ("outcome", "/outcome"), ("detail", "/detail")];
    let counts = ["created", "changed", "unchanged", "refused"].map(|outcome| {
        let of = entries.iter().filter(|entry| text(entry, "/outcome") == outcome).count();
        format!("{of} {outcome}")
    });
    let value = json!({"dry_run": dry_run, "entries": entries});
    let shown = |value: &Value| {
        let entries = value.pointer("/entries").cloned().unwrap_or_default();
        format!(
            "{}\n{}{}",
            Table::of(&entries, &fields),
            counts.join(", "),
            if dry_run { " (nothing was done)" } else { "" }
        )
    };
    Output::new(global.output, io::stdout()).value(&value, shown)?;
    Ok(if refused { ExitCode::Invalid } else { ExitCode::Ok })
}

type People = (Vec<Value>, Vec<Value>);

/// People of a table; the groups that they name.
fn from_csv(text: &str) -> Result<People, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let head = reader.headers().map_err(|e| e.to_string())?.clone();
    let known = [
        "username",
        "displayname",
        "givenname",
        "familyname",
        "email",
        "title",
        "department",
        "employeenumber",
        "externalid",
        "active",
        "groups",
    ];
    if let Some(other) = head.iter().find(|name| !known.contains(&name.to_ascii_lowercase().as_str())) {
        return Err(format!("the column `{other}` is none that is known"));
    }
    let (mut users, mut groups): (Vec<Value>, Vec<(String, Vec<Value>)>) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let cell = |name: &str| {
            let at = head.iter().position(|column| column.eq_ignore_ascii_case(name))?;
            record.get(at).filter(|cell| !cell.is_empty())
        };
        let name = cell("userName").ok_or("a row without `userName`")?;
        let mut user = Map::from_iter([("userName".to_owned(), json!(name))]);
        for attribute in ["displayName", "title", "externalId", "active"] {
            cell(attribute).map(|value| user.insert(attribute.to_owned(), json!(value)));
        }
        let parts = ["givenName", "familyName"].into_iter().filter_map(|part| Some((part, cell(part)?)));
        let parts: Map<String, Value> = parts.map(|(part, value)| (part.to_owned(), json!(value))).collect();
        if !parts.is_empty() {
            user.insert("name".to_owned(), parts.into());
        }
        cell("email").map(|email| {
            user.insert("emails".to_owned(), json!([{"value": email, "type": "work", "primary": true}]))
        });
        let work = ["department", "employeeNumber"].into_iter().filter_map(|part| Some((part, cell(part)?)));
        let work: Map<String, Value> = work.map(|(part, value)| (part.to_owned(), json!(value))).collect();
        if !work.is_empty() {
            user.insert(ENTERPRISE.to_owned(), work.into());
        }
        users.push(user.into());
        for group in cell("groups").into_iter().flat_map(|groups| groups.split(';')).map(str::trim) {
            if group.is_empty() {
                continue;
            }
            let member = json!({"value": name});
            match groups.iter_mut().find(|(known, _)| known == group) {
                Some((_, members)) => members.push(member),
                None => groups.push((group.to_owned(), vec![member])),
            }
        }
    }
    let groups = groups.into_iter().map(|(name, members)| json!({"displayName": name, "members": members}));
    Ok((users, groups.collect()))
}

/// People and groups of a SCIM bulk request or list. Members are named as people are: by `userName` or `displayName`.
fn from_json(text: &str) -> Result<People, String> {
    let document: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut found: Vec<(bool, Option<String>, Value)> = Vec::new();
    if let Some(operations) = document.get("Operations").and_then(Value::as_array) {
        for operation in operations {
            let method = operation.get("method").and_then(Value::as_str).unwrap_or_default();
            if !method.eq_ignore_ascii_case("POST") {
                return Err(format!("an operation `{method}`: only what is made is taken in"));
            }
            let path = operation.get("path").and_then(Value::as_str).unwrap_or_default();
            let mark = operation.get("bulkId").and_then(Value::as_str).map(|id| format!("bulkId:{id}"));
            let data = operation.get("data").cloned().unwrap_or_default();
            found.push((path.trim_matches('/') == "Users", mark, data));
        }
    } else {
        let listed = document.get("Resources").or(Some(&document)).and_then(Value::as_array);
        for resource in listed.ok_or("neither `Operations` nor `Resources`, nor a list")? {
            let user = resource.get("userName").is_some();
            let id = resource.get("id").and_then(Value::as_str).map(str::to_owned);
            found.push((user, id, resource.clone()));
        }
    }
    let name_of = |user: bool, value: &Value| {
        let name = if user { "userName" } else { "displayName" };
        value.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let names: HashMap<String, String> = found
        .iter()
        .filter_map(|(user, mark, value)| Some((mark.clone()?, name_of(*user, value)?)))
        .collect();
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for (user, _, mut value) in found {
        let members = value.get_mut("members").and_then(Value::as_array_mut);
        for member in members.into_iter().flatten() {
            let called = member.get("value").and_then(Value::as_str).unwrap_or_default();
            *member = json!({"value": names.get(called).map_or(called, String::as_str)});
        }
        if user { users.push(value) } else { groups.push(value) }
    }
    Ok((users, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_people_and_the_groups_that_they_name() {
        let text = "userName,givenName,email,active,groups,employeeNumber\n\
                    ann,Ann,ann@example.com,true,\"staff; ml\",7\n\"bob\",,,false,staff,\n";
        let (users, groups) = from_csv(text).unwrap();
        assert_eq!(users[0]["name"], json!({"givenName": "Ann"}));
        assert_eq!(users[0][ENTERPRISE], json!({"employeeNumber": "7"}));
        assert_eq!(users[1], json!({"userName": "bob", "active": "false"}));
        assert_eq!(
            groups[0],
            json!({"displayName": "staff", "members": [{"value": "ann"}, {"value": "bob"}]})
        );
        assert_eq!(groups[1]["displayName"], "ml");
        for wrong in ["userName,password\nann,secret\n", "givenName\nAnn\n", "userName,title\nann\n"] {
            assert!(from_csv(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bulk_request_and_a_list_become_the_same_people() {
        let data = json!({"userName": "ann"});
        let bulk = json!({"Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "1", "data": data},
            {"method": "POST", "path": "/Groups", "bulkId": "2", "data": {"displayName": "staff", "members": [{"value": "bulkId:1"}]}},
        ]});
        let list = json!({"Resources": [
            {"id": "x", "userName": "ann"}, {"id": "y", "displayName": "staff", "members": [{"value": "x", "type": "User"}]},
        ]});
        let (users, groups) = from_json(&bulk.to_string()).unwrap();
        assert_eq!(
            (&users[0]["userName"], &groups[0]["members"]),
            (&json!("ann"), &json!([{"value": "ann"}]))
        );
        let (users, groups) = from_json(&list.to_string()).unwrap();
        assert_eq!(
            (&users[0]["userName"], &groups[0]["members"]),
            (&json!("ann"), &json!([{"value": "ann"}]))
        );
        assert!(
            from_json("{\"Operations\": [{\"method\": \"DELETE\"}]}").is_err() && from_json("5").is_err()
        );
    }
}
