//! OCSF: the Open Cybersecurity Schema Framework, version 1.8.0.
//!
//! | record | class |
//! |---|---|
//! | intents and refusals | by their action, see [`activity_of`]; refused logins are Authentication |
//! | outcomes | API Activity |
//! | the house about itself | Application Lifecycle, Application Error, Entity Management |
//! | what is not understood | Base Event |
//!
//! The profile `security_control` stands where something was decided, `ai_operation` where a model was asked. Records hold no
//! trace context, so the profile `trace` is never used; they hold no address, so the source is named by pseudonym. Whom a key
//! or a role is for is not in today's records, so their changes are Entity Management and not Account Change or User Access
//! Management, which demand that user.
//!
//! `metadata.uid` is the leaf, `metadata.log_name` and `metadata.sequence` the place, `metadata.correlation_uid` the decision,
//! `raw_data` the entry word for word. What the schema has no place for is in `unmapped`.

mod check;
mod class;
mod event;

pub use check::check;
pub use class::{Activity, Class, activity_of, activity_of_kind};
pub use event::event;
