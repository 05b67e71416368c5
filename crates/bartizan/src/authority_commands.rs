//! `bartizan authority`: the keys that the authority of a server signs with.

use bartizan_cli::{AuthorityCommand, ClientError, ExitCode, Global, Output, Table};
use serde_json::{Value, json};

use crate::commands::{Failure, client};

pub(crate) fn run(global: &Global, command: &AuthorityCommand) -> Result<ExitCode, Failure> {
    let client = client(global)?;
    let keys = match command {
        AuthorityCommand::Keys => client.call("GET", "/api/v1/authority/keys", None),
        AuthorityCommand::Rotate { compromised } => {
            let order = json!({"compromised": compromised});
            client.call("POST", "/api/v1/authority/keys/rotate", Some(&order))
        }
    };
    let keys = keys.map_err(|error| {
        let absent = matches!(&error, ClientError::Refused { status: 404, .. });
        let mut failure = Failure::from(error);
        if absent {
            "this server has no authority: it issues no tokens".clone_into(&mut failure.message);
            failure.hint = Some("set `authority.issuer` in its configuration".to_owned());
        }
        failure
    })?;
    Output::new(global.output, std::io::stdout()).value(&keys, table)?;
    Ok(ExitCode::Ok)
}

fn table(keys: &Value) -> String {
    let fields = [
        ("thumbprint", "/kid"),
        ("algorithm", "/algorithm"),
        ("state", "/state"),
        ("published", "/published"),
        ("signs from", "/signs"),
        ("until", "/ends"),
        ("gone", "/gone"),
        ("withdrawn", "/withdrawn"),
    ];
    Table::of(keys, &fields).to_string()
}
