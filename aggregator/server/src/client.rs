//! Commands that ask a running aggregator, through its API, on loopback.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One request; HTTP/1.1 without reuse is all that a command needs.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address).await.with_context(|| {
        format!("failed to reach the aggregator at {address}; is it running? --http names another address")
    })?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.context("failed to ask the aggregator")?;
    stream.write_all(body.as_bytes()).await.context("failed to ask the aggregator")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("failed to read the aggregator's answer")?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").context("failed to read the aggregator's answer")?;
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let value: Value = serde_json::from_str(&body).with_context(|| format!("failed to read the answer {body:?}"))?;
    if !status.starts_with('2') {
        bail!("{}", value["detail"].as_str().unwrap_or(&body));
    }
    Ok(value)
}

fn unchunk(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || tail.len() < size {
            break;
        }
        out.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    out
}
