//! What the measurements share. `gateway` drives those of the gateways, `doors` those of tool calls and of proxies that ask; `bare` is their physical baseline; `mock` is the
//! model behind everything. Those of the ledger are a package of their own, `ledger/`, since they link the product.

pub mod bartizan;
pub mod client;
pub mod credentials;
pub mod load;
pub mod measure;
pub mod process;
pub mod report;
pub mod rivals;

/// Why a measurement did not come about, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The model's answer that is not streamed: 364 bytes, as in the measurements this one is compared with.
pub const ANSWER_BYTES: usize = 364;
/// Events of a streamed answer, the last one `[DONE]`.
pub const STREAM_EVENTS: u64 = 51;
/// The tool of the MCP server behind the doors.
pub const MCP_TOOL: &str = "echo";
/// What its answer says, in bytes.
pub const MCP_TEXT_BYTES: u64 = 336;
/// In the text of a request: the model waits this long between two events of its stream.
pub const PACE: &str = "pace:5ms";
/// That wait, in milliseconds.
pub const PACE_MS: u64 = 5;

#[cfg(test)]
mod tests {
    /// The version of a package in a lock file that holds it once.
    fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
        let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
        rest.split('"').next()
    }

    #[test]
    fn bare_proxy_is_of_the_same_stack_as_the_product() {
        let (ours, product) = (include_str!("../Cargo.lock"), include_str!("../../Cargo.lock"));
        for package in ["hyper", "hyper-util", "http-body-util", "tokio"] {
            assert!(version(ours, package).is_some(), "{package}");
            assert_eq!(version(ours, package), version(product, package), "{package}");
        }
    }
    #[test]
    fn ledger_is_linked_from_the_parts_of_the_product() {
        let (ours, product) = (include_str!("../Cargo.lock"), include_str!("../../Cargo.lock"));
        for package in
            ["aws-lc-sys", "cedar-policy", "crc32c", "libsqlite3-sys", "rusqlite", "tokio-postgres"]
        {
            assert!(version(ours, package).is_some(), "{package}");
            assert_eq!(version(ours, package), version(product, package), "{package}");
        }
    }
}
