//! The worker as a program of its own, for the tests of this crate. In the product it is a hidden command of `bartizan`.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    bartizan_prove::worker::main(
        std::io::stdin(),
        std::io::stdout(),
        Arc::new(bartizan_rt::SystemClock::new()),
    )
}
