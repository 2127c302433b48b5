//! The command line: what the thin binary does with its arguments.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sightline::config::Overrides;

/// A WebRTC low-latency annotation server: video in, boxes drawn, annotated video and detections out.
#[derive(Debug, Parser)]
#[command(name = "sightline", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Overrides,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command).
    Serve(Overrides),
}

/// Runs the command; errors go to standard error, in words that say what to change.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(overrides)) => serve::run(&overrides),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sightline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
