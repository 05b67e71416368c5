//! Ends what was begun, unless it was finished.

use bartizan_rt::Shutdown;

/// Asks for the end when it is dropped armed: so whoever stops waiting in the middle leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Ending(Option<Shutdown>);

impl Ending {
    pub(crate) fn of(end: &Shutdown) -> Self {
        Self(Some(end.clone()))
    }

    /// It was finished.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end.request();
        }
    }
}
