//! Verifies a log offline; links nothing of the writer.
