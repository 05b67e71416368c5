//! What the tests share.

use std::sync::Mutex;

use crate::VaultError;
use crate::vault::Step;

/// Where an erasure is to end.
#[derive(Debug, Default)]
pub(crate) struct Fault(Mutex<Option<Plan>>);

#[derive(Debug)]
struct Plan {
    left: usize,
    abort: bool,
    seen: Vec<Step>,
}

impl Fault {
    pub(crate) fn at(&self, step: Step) -> Result<(), VaultError> {
        let mut plan = self.0.lock().unwrap();
        let Some(plan) = plan.as_mut() else { return Ok(()) };
        plan.seen.push(step);
        if plan.left > 0 {
            plan.left -= 1;
            return Ok(());
        }
        if plan.abort {
            std::process::abort();
        }
        Err(VaultError::Refused)
    }
}
