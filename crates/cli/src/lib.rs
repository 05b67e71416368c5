//! The command line: definitions, client of the control API, output.
