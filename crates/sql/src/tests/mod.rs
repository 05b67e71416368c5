//! Real databases.

mod lite;
mod server;

use std::collections::BTreeSet;

use bartizan_model::DatabaseRouteSpec;
use bartizan_sql_guard::{Values, analyse};

use crate::run::{Identity, Run};

fn identity(subject: &str) -> Identity {
    Identity {
        tenant: "default".to_owned(),
        subject: subject.to_owned(),
        kind: "user".to_owned(),
        groups: BTreeSet::from(["staff".to_owned()]),
        actors: vec!["agent/helper".to_owned()],
    }
}

fn run(route: &DatabaseRouteSpec, subject: &str, sql: &str) -> Run {
    let statement = analyse(route, sql, &Values::new()).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    Run::new(&statement, identity(subject), route.limits)
}

#[test]
fn the_digest_is_of_the_text_as_executed_the_values_and_the_identity() {
    let route = lite::route(&serde_json::json!({}));
    let one = run(&route, "alice", "select id from orders");
    assert_eq!(one.digest(), run(&route, "alice", "select id from orders -- again").digest());
    for other in [
        run(&route, "bob", "select id from orders"),
        run(&route, "alice", "select id from orders limit 5"),
        run(&route, "alice", "select customer from orders"),
    ] {
        assert_ne!(one.digest(), other.digest());
    }
}
