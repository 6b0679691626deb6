//! One child process of `up`: started, watched, restarted with a backoff, stopped.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::types::{InstanceId, Service};

const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A child that ran so long is forgiven its earlier ends: it waits the shortest time again.
const STABLE: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// A log that grew over this is begun anew at the next start; the old one is kept once.
const LOG_LIMIT: u64 = 64 << 20;

/// The process of one instance.
pub struct Child {
    /// Its service.
    pub service: Service,
    /// Its instance id.
    pub instance: InstanceId,
    /// Its HTTP address.
    pub http_url: String,
    command: (PathBuf, Vec<OsString>),
    dir: PathBuf,
    process: Option<std::process::Child>,
    started: Instant,
    failures: u32,
    restart_at: Option<Instant>,
    /// The data directory stays locked as long as a child may be there.
    _lock: Arc<Flock<File>>,
}

impl Child {
    /// A child that is not started yet.
    pub fn new(
        service: Service,
        instance: InstanceId,
        http_url: String,
        command: (PathBuf, Vec<OsString>),
        dir: PathBuf,
        lock: Arc<Flock<File>>,
    ) -> Self {
        Child {
            service,
            instance,
            http_url,
            command,
            dir,
            process: None,
            started: Instant::now(),
            failures: 0,
            restart_at: None,
            _lock: lock,
        }
    }

    /// Starts the process; its log goes to `node.log` in its directory.
    pub fn start(&mut self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let path = self.log_path();
        if path.metadata().is_ok_and(|m| m.len() > LOG_LIMIT) {
            std::fs::rename(&path, path.with_extension("log.1"))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        let mut command = Command::new(&self.command.0);
        command.args(&self.command.1).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        command.process_group(0); // Ctrl-C is for `up`, which then stops the children in order
        self.process = Some(command.spawn()?);
        self.started = Instant::now();
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// The process id, 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, std::process::Child::id)
    }

    /// How the process ended, if it did.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().ok().flatten()
    }

    /// The last line of its log.
    pub fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log_path())?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(4096)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        text.trim_end().lines().last().unwrap_or("it says nothing in its log").to_owned()
    }

    /// Notices its end, starts it again when its wait is over; lines for the operator.
    pub fn look(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(status) = self.try_wait() {
            let pid = self.pid();
            self.process = None;
            let wait;
            (wait, self.failures) = backoff(self.failures, self.started.elapsed());
            self.restart_at = Some(Instant::now() + wait);
            let name = &self.instance;
            lines.push(format!("{name} (pid {pid}) ended: {status}; starts again in {wait:?}"));
        }
        if self.restart_at.is_some_and(|at| at <= Instant::now()) {
            self.restart_at = None;
            match self.start() {
                Ok(()) => {
                    lines.push(format!("{} started again, pid {}", self.instance, self.pid()))
                }
                Err(error) => {
                    self.restart_at = Some(Instant::now() + BACKOFF_MAX);
                    lines.push(format!("{} cannot be started: {error}", self.instance));
                }
            }
        }
        lines
    }

    /// Asks it to stop, waits, and kills it if it does not.
    pub async fn stop(&mut self) {
        self.restart_at = None;
        let Some(mut process) = self.process.take() else { return };
        let pid = Pid::from_raw(process.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM); // already gone: fine
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            match process.try_wait() {
                Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(Some(_)) | Err(_) => return,
            }
        }
        println!("{} did not stop within {STOP_LIMIT:?}: killed", self.instance);
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Child {
    /// When `up` gives up in the middle, nothing is left behind.
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// How long a child that ended waits before it starts again, given its ends in a row before this
/// one and how long it ran; and its ends in a row now.
fn backoff(failures: u32, ran: Duration) -> (Duration, u32) {
    let before = if ran > STABLE { 0 } else { failures };
    let wait = BACKOFF.saturating_mul(2u32.saturating_pow(before)).min(BACKOFF_MAX);
    (wait, before.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit_and_begins_anew_after_a_stable_run() {
        let (short, long) = (Duration::from_millis(300), STABLE + Duration::from_millis(1));
        let rows = [
            (0, short, 100, 1),
            (1, short, 200, 2),
            (2, short, 400, 3),
            (5, short, 3_200, 6),
            (6, short, 5_000, 7),
            (31, STABLE, 5_000, 32),
            (u32::MAX, short, 5_000, u32::MAX),
            (3, long, 100, 1),
            (u32::MAX, long, 100, 1),
        ];
        for (failures, ran, wait_ms, then) in rows {
            let expected = (Duration::from_millis(wait_ms), then);
            assert_eq!(backoff(failures, ran), expected, "{failures} ends, ran {ran:?}");
        }
    }
}
