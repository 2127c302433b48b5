//! The command line: what the thin binary does with its arguments.
//!
//! Belongs here: one file per command, its arguments and its words. Does not belong here: anything that a program which
//! uses the library would want too.

mod bench;
mod detect;
mod doctor;
mod eval;
mod inputs;
mod models;
mod reload;
mod serve;

use std::io::{self, Write};
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
    /// Look at pictures and videos, and say what is in them.
    Detect(detect::Args),
    /// Measure how well a model finds what is labelled in pictures.
    Eval(eval::Args),
    /// Measure latency, frames and load of this server, or of another one, over real WebRTC.
    Bench(bench::Args),
    /// Show and fetch models.
    #[command(subcommand)]
    Models(models::Command),
    /// Check that everything that the server needs is there and works, and say what to do where it does not.
    Doctor(doctor::Args),
}

/// Runs the command; errors go to standard error, in words that say what to change.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = &mut io::stdout();
    let result = match &cli.command {
        None => serve::run(&cli.serve).map(|()| true),
        Some(Command::Serve(overrides)) => serve::run(overrides).map(|()| true),
        Some(Command::Detect(args)) => detect::run(args, out),
        Some(Command::Eval(args)) => eval::run(args, out),
        Some(Command::Bench(args)) => bench::run(args, out),
        Some(Command::Models(command)) => models::run(command, out),
        Some(Command::Doctor(args)) => doctor::run(args, out),
    };
    let result = result.and_then(|well| {
        out.flush()?;
        Ok(well)
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has read enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sightline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
