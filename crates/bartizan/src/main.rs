//! `bartizan`: the one binary.

fn main() -> std::process::ExitCode {
    bartizan::run()
}
