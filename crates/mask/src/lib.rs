//! Detectors and redaction over text, JSON and streams.
