//! The endpoints about tokens that there are already, and those of devices (RFC 7662, RFC 7009, RFC 8628).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bartizan_authority::oauth::OauthError;
use http::StatusCode;
use serde_json::Value;

use super::token::body;
use super::{Answer, Oauth, answer};
use crate::mount::Arrived;

impl Oauth {
    pub(super) async fn introspect(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let form = body(arrived)?;
        let client = self.authenticated(arrived, &form, "/oauth/introspect", None).await?;
        let told = self.desk.registry().authority().introspect(&client, &form).await?;
        Ok(answer::private(StatusCode::OK, &Value::Object(told)))
    }

    pub(super) async fn revoke(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let form = body(arrived)?;
        let client = self.authenticated(arrived, &form, "/oauth/revoke", None).await?;
        self.desk.registry().authority().revoke(&client, &form).await?;
        Ok(answer::empty(StatusCode::OK))
    }

    pub(super) async fn begin_device(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let form = body(arrived)?;
        let client = self.authenticated(arrived, &form, "/oauth/device_authorization", None).await?;
        let form = self.spelled(&form)?;
        let network = network(arrived.peer.ip());
        let begun = self.desk.registry().authority().begin_device(&client, &form, &network).await?;
        Ok(answer::private(StatusCode::OK, &Value::Object(begun)))
    }
}

/// A network as people recognise it, and as limits count it: what one customer of a provider has.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_one_customer_has() {
        for (address, expected) in [
            ("198.51.100.7", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network(address.parse().unwrap()), expected);
        }
    }
}
