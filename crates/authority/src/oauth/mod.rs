//! What every endpoint of OAuth shares: parameters, errors, answers, scopes, what was agreed on at the start.

mod answer;
mod error;
mod form;
mod scope;
mod settings;

pub use answer::TokenAnswer;
pub use error::{OauthCode, OauthError};
pub use form::{Form, FormError};
pub(crate) use form::{decode, push_pair};
pub(crate) use scope::IDENTITY;
pub use scope::{is_known, parse_scope, write_scope};
pub use settings::{MetadataClients, Settings};
