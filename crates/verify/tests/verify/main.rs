//! Good logs are accepted; whatever is done to one is noticed and told by its own reason.
//!
//! The modules say `cfg(test)` so that the lints' exceptions for tests hold in their helpers too.

#[cfg(test)]
mod command;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod monitor;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod promise;
#[cfg(test)]
mod tamper;
#[cfg(test)]
mod witnessed;
#[cfg(test)]
mod world;
