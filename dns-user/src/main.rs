//! `nodedns`: reads the command line, starts the log, runs the verb and turns
//! its result into an exit code: 0 done, 1 failed, 2 wrong usage.

use std::process::ExitCode;

use anyhow::Error;
use clap::Parser as _;
use dns_user::{
    agent,
    args::{Arguments, LogFormat, Verb},
    config::Config,
    incumbent::{Translated, translate},
    inspect::{
        dump,
        env::{self, EnvQuery},
        status, uninstall,
    },
    logs,
};
use tracing::{Level, info};

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let Translated { arguments, remarks } = translate(env_args());
    let verb = Arguments::parse_from(arguments).verb;
    let Err((code, reason)) = run(verb, &remarks) else { return ExitCode::SUCCESS };
    logs::complain(&reason);
    ExitCode::from(code)
}

fn env_args() -> impl Iterator<Item = String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned())
}

/// Runs a verb; an error comes with its exit code. `remarks` are about its flags.
fn run(verb: Verb, remarks: &[String]) -> Result<(), (u8, Error)> {
    let done = match verb {
        Verb::Run(arguments) => {
            logs::start(arguments.log_format, arguments.log_level);
            for remark in remarks {
                info!("{remark}");
            }
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
