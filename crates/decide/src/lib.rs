//! Cedar schema and sets, remedies, explanation; the only maker of a Permit.
