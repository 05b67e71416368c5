//! The database's URL, read strictly: where to connect, as whom, and how the way there is protected.

use std::path::PathBuf;
use std::time::Duration;

use bartizan_secret::Secret;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Read out of the URL.
pub(crate) struct Address {
    /// For the driver.
    pub(crate) config: Config,
    /// Certificates to trust instead of the well-known authorities (`sslrootcert`).
    pub(crate) roots: Option<PathBuf>,
}

/// Why a URL is not used. The message never holds the URL: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `postgres://…`, or parameters that the driver does not know.
    #[error("the database URL cannot be read: {0}")]
    Syntax(String),
    /// An `sslmode` that promises less than it seems to.
    #[error(
        "sslmode is `disable`, `require` or `verify-full`; all but the first verify the server's certificate"
    )]
    Mode,
    /// Another machine without TLS.
    #[error(
        "the database is on another machine: add `sslmode=verify-full`, or `sslmode=disable` to go without TLS"
    )]
    Unprotected,
    /// TLS through a socket of this machine.
    #[error("TLS needs a host name; a socket folder or bare address cannot be verified")]
    NoHostName,
}

impl Address {
    /// Reads `url`. Without `sslmode`, this machine is reached in the clear and any other is refused.
    pub(crate) fn parse(url: &Secret<String>) -> Result<Self, AddressError> {
        let (url, mode, roots) = take_tls_parameters(url.expose())?;
        let mut config: Config =
            url.expose().parse().map_err(|error: tokio_postgres::Error| syntax(&error))?;
        if config.get_hosts().is_empty() {
            return Err(AddressError::Syntax("no host".to_owned()));
        }
        // The first `@` ends user and password: a second one belongs to a password and has slipped into the host.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return Err(AddressError::Syntax("a `@` in user or password is written `%40`".to_owned()));
        }
        let is_near = config.get_hosts().iter().all(is_this_machine);
        config.ssl_mode(match mode.as_deref() {
            Some("require" | "verify-full") => SslMode::Require,
            Some("disable") => SslMode::Disable,
            Some(_) => return Err(AddressError::Mode),
            None if is_near => SslMode::Disable,
            None => return Err(AddressError::Unprotected),
        });
        if config.get_ssl_mode() == SslMode::Require
            && !config.get_hosts().iter().all(|h| matches!(h, Host::Tcp(_)))
        {
            return Err(AddressError::NoHostName);
        }
        // The server gives up on a statement before we give up on the server, and says so.
        let limits =
            "-c statement_timeout=2000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=5000";
        let options = config.get_options().map_or_else(|| limits.to_owned(), |own| format!("{own} {limits}"));
        config
            .options(options)
            .application_name("bartizan")
            .connect_timeout(Duration::from_secs(1))
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(5));
        Ok(Self { config, roots })
    }
}

/// `sslmode` and `sslrootcert` are ours to understand: the driver knows no `verify-full`.
#[expect(clippy::type_complexity, reason = "three parts of one URL, named where they are taken apart")]
fn take_tls_parameters(url: &str) -> Result<(Secret<String>, Option<String>, Option<PathBuf>), AddressError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(AddressError::Syntax("it does not begin with `postgres://`".to_owned()));
    }
    let Some((front, query)) = url.split_once('?') else {
        return Ok((Secret::new(url.to_owned()), None, None));
    };
    let (mut rest, mut mode, mut roots) = (Vec::new(), None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => roots = Some(PathBuf::from(value)),
            _ => rest.push(parameter),
        }
    }
    Ok((Secret::new(format!("{front}?{}", rest.join("&"))), mode, roots))
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// The driver's own words name the parameter at most, never a value.
fn syntax(error: &tokio_postgres::Error) -> AddressError {
    AddressError::Syntax(
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, AddressError> {
        Address::parse(&Secret::new(url.to_owned()))
    }

    fn mode(url: &str) -> SslMode {
        parse(url).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn this_machine_is_reached_in_the_clear_and_others_only_when_that_is_spelled_out() {
        for near in ["postgres://u@127.0.0.1/d", "postgres://u@localhost/d", "postgres://u@%2Frun%2Fpg/d"] {
            assert_eq!(mode(near), SslMode::Disable, "{near}");
        }
        for far in
            ["postgres://u:p@db.example/d", "postgres://u@10.0.0.1/d", "postgres://u@localhost,db.example/d"]
        {
            assert_eq!(parse(far).err(), Some(AddressError::Unprotected), "{far}");
            assert_eq!(mode(&format!("{far}?sslmode=disable")), SslMode::Disable);
            assert_eq!(mode(&format!("{far}?sslmode=require")), SslMode::Require);
            assert_eq!(mode(&format!("{far}?connect_timeout=1&sslmode=verify-full")), SslMode::Require);
        }
    }

    #[test]
    fn modes_that_do_not_verify_or_cannot_are_refused() {
        for weak in ["prefer", "allow", "verify-ca", "", "Require"] {
            let result = parse(&format!("postgres://u@db.example/d?sslmode={weak}"));
            assert_eq!(result.err(), Some(AddressError::Mode), "{weak}");
        }
        let socket = parse("postgres://u@%2Frun%2Fpg/d?sslmode=require");
        assert_eq!(socket.err(), Some(AddressError::NoHostName));
    }

    #[test]
    fn limits_are_added_to_the_options_of_the_url() {
        let address =
            parse("postgres://u@localhost/d?options=-c%20search_path%3Dbartizan&sslrootcert=/ca.pem")
                .unwrap();
        let options = address.config.get_options().unwrap();
        assert!(options.starts_with("-c search_path=bartizan -c statement_timeout=2000"), "{options}");
        assert_eq!(address.roots, Some(PathBuf::from("/ca.pem")));
    }

    #[test]
    fn an_error_never_shows_the_password() {
        for bad in [
            "hunter2",
            "host=db password=hunter2",
            "postgres://u:hunter2@localhost:port/d",
            "postgres://u:hunter2@localhost/d?hunter=2",
            "postgres://u@localhost/d?connect_timeout=hunter2",
            "postgres://u:hunter2@",
            "postgres://u:x@hunter2@localhost/d",
        ] {
            let error = parse(bad).err().map(|error| format!("{error} {error:?}"));
            assert!(error.is_some_and(|error| !error.contains("hunter2")), "{bad}");
        }
    }
}
