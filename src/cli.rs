//! The command line.

mod backup;
mod config;
mod node;
mod restore;
mod status;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// An S3-compatible object store built as an actor cluster, which can hurt itself on command.
#[derive(Parser)]
#[command(
    name = "mocks3",
    version,
    about,
    after_help = "Examples:
  mocks3 up                                   start a whole cluster on this machine
  mocks3 up --scale storage=5 --data-dir /tmp/m
  mocks3 status --watch                       the live cluster as a table
  mocks3 backup ./backups/monday              save metadata, queue and fault state
  mocks3 config check config/mocks3.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole cluster on this machine, one process per service instance.
    Up(up::UpArgs),
    /// Run one node (what `up` and containers start).
    Node(Box<node::NodeArgs>),
    /// Show the live cluster.
    Status(status::StatusArgs),
    /// Save metadata, queue and fault state of a running cluster to a folder.
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the state of a stopped cluster.
    Restore(restore::RestoreArgs),
    /// Look at configuration files.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print shell completions.
    #[command(
        after_help = "Example:\n  mocks3 completions bash > ~/.local/share/bash-completion/completions/mocks3"
    )]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// An end with a message for the user and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// The caller asked for something that cannot be: exit code 2.
    pub(crate) fn usage(text: impl std::fmt::Display) -> Self {
        Failure { code: 2, text: text.to_string() }
    }

    /// Something went wrong: exit code 1.
    pub(crate) fn run(text: impl std::fmt::Display) -> Self {
        Failure { code: 1, text: text.to_string() }
    }
}

/// Parses the arguments, runs the command, gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // two providers are compiled in (transport.rs says why): others of the process are to take this
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Node(args) => node::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "mocks3", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mocks3: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Reads the configuration, or says what is wrong with it or with the files that it names.
pub(crate) fn load_config(file: Option<&PathBuf>) -> Result<crate::config::Config, Failure> {
    let config = crate::config::Config::load(file.map(PathBuf::as_path)).map_err(Failure::usage)?;
    crate::node::transport(&config).map_err(Failure::usage)?;
    Ok(config)
}

/// Logs to standard error; `MOCKS3_LOG` filters (`info`, `mocks3=debug`, ...).
pub(crate) fn logging() {
    // ractor formats whole payloads at debug level, openraft its whole state at info
    let quiet = "info,ractor=warn,ractor_cluster=error,openraft=error";
    let filter =
        std::env::var("MOCKS3_LOG").map_or(quiet.to_owned(), |own| format!("{quiet},{own}"));
    let logger = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let _ = logger.try_init(); // tests set it up more than once
}

/// Done when the process is asked to stop (SIGINT, SIGTERM), counted from this call on and not only
/// from the first poll.
pub(crate) fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match handlers {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "no signal handler: stop with SIGKILL");
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
