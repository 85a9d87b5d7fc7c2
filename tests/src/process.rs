//! Child processes that never outlive us, with their output in files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::target;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Bins {
    dir: PathBuf,
}

impl Bins {
    /// The programs in this folder.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The programs that `cargo xt` built: named by `KILTER_BIN`, else those of the `house` profile.
    pub fn find() -> Self {
        if let Some(dir) = std::env::var_os("KILTER_BIN") {
            return Self::in_dir(dir);
        }
        Self::in_dir(target().join("house"))
    }

    /// Those that a journey needs; `None` once it is said that they are not built, which CI does not let pass.
    pub fn built(names: &[&str]) -> Option<Self> {
        let bins = Self::find();
        if names.iter().all(|name| bins.has(name)) {
            return Some(bins);
        }
        assert!(std::env::var_os("CI").is_none(), "CI builds the programs first");
        println!("not run: 1 (the programs are not built; `cargo xt journeys` does it)");
        None
    }

    /// A program by name; says how to build it when it is not there.
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        ensure!(path.exists(), "find {}: build it with `cargo xt build`", path.display());
        Ok(path)
    }

    /// Is it built?
    pub fn has(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with its output in `log` (appended).
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file =
            File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .env("NO_COLOR", "1")
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, now.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Any signal by its name.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
    }

    /// SIGTERM, and the exit status once it has ended; an error when it does not end in time.
    pub fn stop(mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM");
        self.wait(patience)
    }

    /// The exit status once it has ended by itself; an error when it does not end in time.
    #[expect(clippy::disallowed_methods, reason = "a shell waits for a process")]
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if let Some(status) = self.child.try_wait().context("wait for a process")? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("{} did not end within {patience:?}; its log says\n{}", self.name, self.log_tail())
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
