//! Ports of the state by noun, and the conformance suite every backend passes; no driver.
