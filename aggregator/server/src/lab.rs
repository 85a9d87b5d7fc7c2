//! The cold half from the hot half's side: started, restarted when it dies, asked through its socket. Never waited for.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use kilter_fold::Output;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;

/// Asks the lab.
#[derive(Clone)]
pub(crate) struct LabClient {
    socket: PathBuf,
}

impl LabClient {
    pub(crate) fn new(data: &Path) -> Self {
        Self { socket: data.join("lab.sock") }
    }

    /// One request, one answer; what comes before the answer goes to `progress`. A lab that is stopped or starved takes the
    /// connection and says nothing: after so many seconds without a word it counts as away.
    pub(crate) async fn ask(&self, request: &Value, mut progress: impl FnMut(Value)) -> anyhow::Result<Value> {
        let mut stream =
            UnixStream::connect(&self.socket).await.with_context(|| format!("the lab is away: {NEEDLESS}"))?;
        let mut line = request.to_string();
        line.push('\n');
        stream.write_all(line.as_bytes()).await.context("failed to ask the lab")?;
        let mut lines = BufReader::new(stream).lines();
        let patience = Duration::from_secs(patience_secs(request));
        loop {
            let line = tokio::time::timeout(patience, lines.next_line()).await;
            let line =
                line.map_err(|_| anyhow!("the lab is away: no word from it for {} s; {NEEDLESS}", patience.as_secs()))?;
            let Some(line) = line.context("failed to read the lab's answer")? else {
                bail!("the lab is away: it ended before it answered; {NEEDLESS}");
            };
            let mut answer: Value = serde_json::from_str(&line).context("failed to read the lab's answer")?;
            if let Some(ok) = answer.get_mut("ok") {
                return Ok(ok.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("{}", error.as_str().unwrap_or("the lab refused without a reason"));
            }
            progress(answer);
        }
    }
}

/// Hears from the lake, through a lab of its own that ends with the answer, the rows that were received last; an error where not all came.
pub(crate) fn shown(config: &crate::config::Lab, data: &Path, hear: &mut dyn FnMut(Output)) -> anyhow::Result<()> {
    let program = program(&config.program);
    if !config.enabled || !program.exists() {
        bail!("there is no lab");
    }
    let mut command = std::process::Command::new(&program);
    command.arg("shown").arg("--data").arg(data).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {}", program.display()))?;
    let told = child.stdout.take().context("failed to hear the lab")?;
    let heard = std::io::BufReader::new(told).lines().try_for_each(|line| -> anyhow::Result<()> {
        hear(serde_json::from_str(&line.context("failed to hear the lab")?).context("failed to read a row")?);
        Ok(())
    });
    // Nobody listens any more: a lab that still talks ends.
    let ended = child.wait().context("failed to wait for the lab")?;
    heard?;
    if !ended.success() {
        bail!("the lab ended with {ended}");
    }
    Ok(())
}

/// How long each kind of request may leave the asker without a word.
fn patience_secs(request: &Value) -> u64 {
    match request["op"].as_str() {
        Some("status") => 5,
        // Every file is read.
        Some("train" | "refetch") => 600,
        _ => 60,
    }
}

/// Keeps `kilter-lab serve` running until told to stop.
pub(crate) async fn supervise(config: crate::config::Lab, data: PathBuf, stop: CancellationToken) {
    if !config.enabled {
        return;
    }
    let program = program(&config.program);
    let mut pause_ms = FIRST_PAUSE_MS;
    let mut missing_told = false;
    while !stop.is_cancelled() {
        if !program.exists() {
            if !missing_told {
                info!(program = %program.display(), "lab not built yet; training starts when it is there");
                missing_told = true;
            }
            tokio::select! {
                () = clock::pause(FIRST_PAUSE_MS) => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        let started = clock::now();
        let child = Command::new(&program)
            .arg("serve")
            .arg("--data")
            .arg(&data)
            .args(&config.arguments)
            // A server that is killed can't end its lab: the lab looks whether its parent is still this one.
            .env("KILTER_SUPERVISOR", std::process::id().to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match child {
            Ok(mut child) => {
                info!(pid = child.id(), "lab started");
                tokio::select! {
                    status = child.wait() => warn!(status = ?status.ok(), "lab ended; it is started again"),
                    () = stop.cancelled() => {
                        terminate(&mut child).await;
                        return;
                    }
                }
            }
            Err(error) => warn!(%error, program = %program.display(), "lab not started"),
        }
        let lived = clock::now() - started;
        pause_ms = if lived.as_secs_f64() > 30.0 { FIRST_PAUSE_MS } else { (pause_ms * 2).min(LONGEST_PAUSE_MS) };
        tokio::select! {
            () = clock::pause(pause_ms) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Asks the child to end, and ends it when it does not.
async fn terminate(child: &mut tokio::process::Child) {
    if let Some(pid) = child.id() {
        let _ = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await;
    }
    if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn program(configured: &str) -> PathBuf {
    if configured.is_empty() {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("kilter-aggregator"));
        own.with_file_name("kilter-lab")
    } else {
        PathBuf::from(configured)
    }
}

const NEEDLESS: &str = "history, queries and training wait; alarms and trends do not need it";
const FIRST_PAUSE_MS: u64 = 500;
const LONGEST_PAUSE_MS: u64 = 30_000;
