//! Deliveries to real receivers: a small HTTP server, `rsyslogd`, `nats-server`, an S3-compatible store; and couriers that are killed.
//!
//! The modules say `cfg(test)` so that the lints' exceptions for tests hold in their helpers too.

#[cfg(test)]
mod http;
#[cfg(test)]
mod killed;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats;
#[cfg(feature = "s3")]
#[cfg(test)]
mod s3;
#[cfg(test)]
mod server;
#[cfg(test)]
mod syslog;
#[cfg(test)]
mod world;
