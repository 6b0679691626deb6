//! `mocks3 config check FILE`.

use std::path::PathBuf;

use super::{Failure, load_config};

/// Look at configuration files.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Check a file (and the environment) without starting anything.
    #[command(after_help = "Example:\n  mocks3 config check config/mocks3.toml")]
    Check {
        /// The TOML file.
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Check { file } = command;
    load_config(Some(file))?;
    println!("{}: ok", file.display());
    Ok(())
}
