//! Work that may wait: on threads that step back behind everything that somebody waits for.

use std::io;

use tokio::sync::oneshot;

/// How far such a thread steps back (`nice`): it gets about a tenth of a core that others want as well.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEP_BACK: i32 = 10;

/// Does `work` on a thread of its own, called `name`, that steps back behind the others where the system knows such threads
/// (Linux does). For what is made of other things and may come late. Once begun it goes on to its end, also when nobody waits for
/// it any more.
///
/// # Errors
/// When no thread can be had, or the work panicked.
pub async fn background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, waiting) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        step_back();
        // Nobody may wait any more.
        drop(done.send(work()));
    })?;
    waiting.await.map_err(|_| io::Error::other(format!("{name} has panicked")))
}

/// Lets the calling thread step back. A thread that cannot works as it is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn step_back() {
    // Threads have a priority each there, and without an id the one that asks is meant.
    let own = rustix::process::getpriority_process(None);
    let stepped = own.and_then(|own| rustix::process::setpriority_process(None, own.max(STEP_BACK)));
    if let Err(error) = stepped {
        tracing::debug!(%error, "a thread of the background could not step back");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn step_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_and_a_panic_is_told() {
        assert_eq!(background("adds", || 1 + 1).await.unwrap(), 2);
        let error = background("fails", || -> u8 { panic!("as it must") }).await.unwrap_err();
        assert!(error.to_string().contains("fails"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_thread_steps_back_and_no_other_does() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let there = background("looks", own).await.unwrap();
        assert_eq!(there, before.max(STEP_BACK));
        assert_eq!(own(), before);
    }
}
