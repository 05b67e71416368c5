//! Who calls when proxies stand in front: the address at the other end of the connection, or, where that is a proxy of ours, the
//! one it says it forwards for.
//!
//! `X-Forwarded-For` grows to the right: each proxy appends the address it was called from. What a caller wrote itself
//! therefore stands left of what our proxies have appended, and is never looked at: entries are read from the right, past the
//! proxies that are named here, and the first other address is the caller.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

/// More entries than this nobody's proxies append; further ones are not read.
const ENTRIES_MAX: usize = 16;

/// The proxies whose word about callers' addresses is taken.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an address nor a network: `{0}`")]
pub struct NoNetwork(String);

impl FromStr for TrustedProxies {
    type Err = NoNetwork;

    /// Reads addresses and networks (`10.0.0.0/8`) that commas separate.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let read = |part: &str| {
            let address = part.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            part.parse::<IpNet>().ok().or(address.ok()).ok_or_else(|| NoNetwork(part.to_owned()))
        };
        Ok(Self(parts.map(read).collect::<Result<_, _>>()?))
    }
}

impl TrustedProxies {
    /// Who calls, when `peer` is at the other end of the connection. Behind a proxy the port is not known and is zero.
    ///
    /// An entry that is no address ends the search: the caller is then as far away as the last one who could be made out,
    /// which is one of the proxies, so that what is counted by network is counted too strictly rather than not at all.
    #[must_use]
    pub fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip().to_canonical()) {
            return peer;
        }
        let mut caller = peer;
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let entries = lines.flat_map(|line| line.to_str().unwrap_or("unreadable").rsplit(','));
        for entry in entries.take(ENTRIES_MAX) {
            let Some(address) = address(entry.trim()) else { break };
            caller = SocketAddr::new(address, 0);
            if !self.trusts(address) {
                break;
            }
        }
        caller
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An entry of the header: an address, with a port and brackets as some proxies write them.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &str, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: TrustedProxies = trusted.parse().unwrap();
        trusted.caller(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_named() {
        assert_eq!(caller("", "192.0.2.1:99", &["198.51.100.7"]), "192.0.2.1:99");
        assert_eq!(caller("10.0.0.0/8", "192.0.2.1:99", &["198.51.100.7"]), "192.0.2.1:99");
    }

    #[test]
    fn the_caller_is_the_first_from_the_right_that_is_no_proxy_of_ours() {
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["198.51.100.7"]), "198.51.100.7:0");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["198.51.100.7, 10.0.0.2"]), "198.51.100.7:0");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["198.51.100.7", "10.0.0.2"]), "198.51.100.7:0");
        assert_eq!(caller("10.0.0.1", "10.0.0.1:99", &["198.51.100.7, 10.0.0.2"]), "10.0.0.2:0");
        assert_eq!(caller("2001:db8::/32", "[2001:db8::1]:99", &["[2001:db9::7]:5"]), "[2001:db9::7]:0");
        assert_eq!(caller("10.0.0.0/8", "[::ffff:10.0.0.1]:99", &["::ffff:198.51.100.7"]), "198.51.100.7:0");
    }

    #[test]
    fn what_callers_write_themselves_is_never_reached() {
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7:0");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7:0");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["10.9.9.9, 198.51.100.7"]), "198.51.100.7:0");
    }

    #[test]
    fn an_entry_that_is_no_address_leaves_the_proxy_as_the_caller() {
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &[]), "10.0.0.1:99");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["198.51.100.7, unknown"]), "10.0.0.1:99");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &["198.51.100.7, , 10.0.0.2"]), "10.0.0.2:0");
        let many = ["10.0.0.2"; 100].join(",");
        assert_eq!(caller("10.0.0.0/8", "10.0.0.1:99", &[&many]), "10.0.0.2:0");
    }

    #[test]
    fn networks_are_addresses_or_prefixes() {
        assert!("10.0.0.1, fd00::/8,192.168.0.0/16".parse::<TrustedProxies>().is_ok());
        assert_eq!("proxy.local".parse::<TrustedProxies>().unwrap_err(), NoNetwork("proxy.local".to_owned()));
        assert!("10.0.0.0/33".parse::<TrustedProxies>().is_err());
    }
}
