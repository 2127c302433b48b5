//! Arguments → Config → telemetry → `server::run`; nothing else.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
