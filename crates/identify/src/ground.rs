//! What a caller rests on, to be looked at again while what it was let in for still runs.

use std::sync::Arc;

use bartizan_base::Digest;
use bartizan_jose::Bound;

use crate::certificate::WorkloadCertificate;
use crate::genuine::Genuine;

/// What a caller rests on.
#[derive(Clone, Debug, Default)]
pub(crate) enum Ground {
    /// Nothing that could be looked at again.
    #[default]
    None,
    /// One of our API keys, by its digest.
    Key(Digest),
    /// A token, and what its presenter has proven.
    Token(Arc<Genuine>, Bound),
    /// The certificate of the connection, and what the door answers for.
    Certificate(Box<(WorkloadCertificate, Vec<String>)>),
}
