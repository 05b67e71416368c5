//! The ledger against the specifications' vectors, against naive definitions, and against foreign implementations.
//!
//! The modules say `cfg(test)` so that the lints' exceptions for tests hold in their helpers too.

#[cfg(test)]
mod cosignature;
#[cfg(test)]
mod note;
#[cfg(test)]
mod policy;
#[cfg(feature = "pq")]
#[cfg(test)]
mod pq;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod receipt;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod tile;
#[cfg(test)]
mod tlog_tiles_oracle;
#[cfg(test)]
mod witness;
#[cfg(test)]
mod witnessed;
#[cfg(test)]
mod world;
