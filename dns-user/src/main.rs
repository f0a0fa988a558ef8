//! `nodedns`: reads the command line, starts the log, runs the verb and turns
//! its result into an exit code: 0 done, 1 failed, 2 wrong usage.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use dns_user::{
    agent,
    args::{Arguments, LogFormat, Verb},
    config::Config,
    inspect::{dump, status, uninstall},
    logs,
};
use tracing::Level;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(reason) => {
            logs::complain(&reason);
            ExitCode::from(FAILED)
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Run(arguments) => {
            logs::start(arguments.log_format, arguments.log_level);
            let config = match Config::new(*arguments) {
                Ok(config) => config,
                Err(reason) => {
                    logs::complain(&reason);
                    return Ok(ExitCode::from(WRONG_USAGE));
                }
            };
            agent::run_until_signal(config)?;
        }
        Verb::Status(arguments) => status::status(&arguments)?,
        Verb::Dump { name, inspect } => dump::dump(name.as_deref(), &inspect)?,
        Verb::Uninstall(arguments) => {
            logs::start(LogFormat::Text, Level::WARN);
            uninstall::uninstall(&arguments)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
