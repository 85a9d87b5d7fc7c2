//! A real browser without a window, driven over its debugging pipe: what a user sees, clicks and waits for.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::Process;

/// One tab of one browser.
#[derive(Debug)]
pub struct Browser {
    _process: Process,
    to: File,
    from: Receiver<Value>,
    sent: u64,
    session: String,
    events: Vec<Value>,
}

impl Browser {
    /// Opens an address; everything that the browser writes goes to `dir`.
    pub fn open(dir: &Path, address: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let (into, out) = (dir.join("in"), dir.join("out"));
        let made = Command::new("mkfifo").arg(&into).arg(&out).status().context("make the debugging pipe")?;
        ensure!(made.success(), "make the debugging pipe");
        // The browser reads orders from its third file and answers on its fourth; a shell puts them there.
        let mut command = Command::new("sh");
        let line = r#"exec "$1" --headless=new --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe --user-data-dir="$2" about:blank 3<"$3" 4>"$4""#;
        command.arg("-c").arg(line).arg("sh").arg("chromium").arg(dir.join("profile")).arg(&into).arg(&out);
        let process = Process::start("chromium", &mut command, &dir.join("chromium.log"))?;
        let to = OpenOptions::new().write(true).open(&into).context("open the debugging pipe")?;
        let answers = BufReader::new(File::open(&out).context("open the debugging pipe")?);
        let (send, from) = channel();
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { _process: process, to, from, sent: 0, session: String::new(), events: Vec::new() };
        let target = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }))?["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }))?;
        browser.session = attached["sessionId"].as_str().context("attach to the tab")?.to_owned();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.ask(&format!("{domain}.enable"), &json!({}))?;
        }
        browser.ask("Page.navigate", &json!({ "url": address }))?;
        Ok(browser)
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", &asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {}", thrown["exception"]["description"].as_str().unwrap_or("an exception"));
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true in the sense of the page's language; what it gave.
    #[expect(clippy::disallowed_methods, reason = "a shell waits for a page")]
    pub fn wait_for(&mut self, what: &str, expression: &str, patience: Duration) -> anyhow::Result<Value> {
        let begin = Instant::now();
        loop {
            let found = self.value(expression);
            if let Ok(found) = &found
                && !matches!(found, Value::Null | Value::Bool(false))
                && found != ""
                && found != 0
            {
                return Ok(found.clone());
            }
            if begin.elapsed() > patience {
                let text = self.value("document.body.innerText").unwrap_or_default();
                bail!(
                    "wait for {what}: {found:?} after {patience:?}; the page says\n{}",
                    text.as_str().unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks the first element of this selector.
    pub fn click(&mut self, selector: &str) -> anyhow::Result<()> {
        let found = self.value(&format!("(e => e && (e.click(), true))(document.querySelector({selector:?}))"))?;
        ensure!(found == true, "click {selector}: there is none");
        Ok(())
    }

    /// Sets size and colour scheme.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) -> anyhow::Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.ask("Emulation.setEmulatedMedia", &json!({ "features": [scheme] })).map(drop)
    }

    /// Takes a picture as PNG.
    pub fn picture(&mut self, path: &Path) -> anyhow::Result<()> {
        let answer = self.ask("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let text = path.with_extension("base64");
        fs::write(&text, answer["data"].as_str().context("take a picture")?).context("write a picture")?;
        let output = Command::new("base64").arg("-d").arg(&text).output().context("decode a picture")?;
        fs::write(path, output.stdout).context("write a picture")?;
        fs::remove_file(text).context("remove the picture's text")
    }

    /// What went wrong in the page so far, and what it asked of another host than `host`.
    pub fn complaints(&mut self, host: &str) -> Vec<String> {
        // An answer comes after all events before it.
        let _ = self.value("0");
        let wrong = |event: &Value| -> Option<String> {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                "Log.entryAdded" if params["entry"]["level"] == "error" => Some(params["entry"].to_string()),
                "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params["args"].to_string()),
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str()?;
                    let own = url.starts_with(&format!("http://{host}/"))
                        || url.starts_with("data:")
                        || url.starts_with("blob:");
                    (!own).then(|| format!("asked {url}"))
                }
                _ => None,
            }
        };
        self.events.iter().filter_map(wrong).collect()
    }

    fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).with_context(|| format!("ask the browser for {method}"))?;
        loop {
            let answer = self.from.recv_timeout(Duration::from_secs(60));
            let mut answer = answer.with_context(|| format!("wait for the browser's answer to {method}"))?;
            if answer["id"] == self.sent {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
            self.events.push(answer);
        }
    }
}
