//! `nodedns`: reads the command line, starts the log, runs the verb and turns
//! its result into an exit code: 0 done, 1 failed, 2 wrong usage.

use std::process::ExitCode;

use anyhow::Error;
use clap::Parser as _;
use dns_user::{
    agent,
    args::{Arguments, LogFormat, Verb},
    config::Config,
    inspect::{
        dump,
        env::{self, EnvQuery},
        status, uninstall,
    },
    logs,
};
use tracing::Level;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let Err((code, reason)) = run(Arguments::parse().verb) else { return ExitCode::SUCCESS };
    logs::complain(&reason);
    ExitCode::from(code)
}

/// Runs a verb; an error comes with its exit code.
fn run(verb: Verb) -> Result<(), (u8, Error)> {
    let done = match verb {
        Verb::Run(arguments) => {
            logs::start(arguments.log_format, arguments.log_level);
            let config = Config::new(*arguments).map_err(|reason| (WRONG_USAGE, reason))?;
            agent::run_until_signal(config)
        }
        Verb::Status(arguments) => status::status(&arguments),
        Verb::Dump { name, inspect } => dump::dump(name.as_deref(), &inspect),
        Verb::Env(arguments) => {
            logs::start(LogFormat::Text, Level::WARN);
            let query = EnvQuery::new(arguments).map_err(|reason| (WRONG_USAGE, reason))?;
            env::env(&query)
        }
        Verb::Uninstall(arguments) => {
            logs::start(LogFormat::Text, Level::WARN);
            uninstall::uninstall(&arguments)
        }
    };
    done.map_err(|reason| (FAILED, reason))
}
