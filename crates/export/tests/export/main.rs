//! Whole exports: golden files, hostile entries, broken writers, sizes.
//!
//! The modules say `cfg(test)` so that the lints' exceptions for tests hold in their helpers too.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod table;
#[cfg(test)]
mod world;
