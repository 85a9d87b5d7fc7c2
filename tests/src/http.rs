//! The few requests that a user's tools would send; HTTP/1.1 with one request per connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// GET, as JSON.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    json(request(address, "GET", path, "")?, path)
}

/// POST of JSON, as JSON.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Value> {
    json(request(address, "POST", path, &body.to_string())?, path)
}

/// Status and body of one request.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    send(address, &format!("{method} {path} HTTP/1.1\r\nContent-Type: application/json"), body.as_bytes())
}

/// The same with a head of its own (request line and headers, but for those of host and length).
pub fn send(address: SocketAddr, head: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).with_context(|| format!("reach {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(180))).context("set a timeout")?;
    let length = body.len();
    write!(stream, "{head}\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
        .context("send a request's head")?;
    stream.write_all(body).context("send a request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("read the answer to {path}"))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("read an answer's head")?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).context("read a status")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn json((status, body): (u16, String), path: &str) -> anyhow::Result<Value> {
    if !(200..300).contains(&status) {
        bail!("{path}: {status} {body}");
    }
    serde_json::from_str(&body).with_context(|| format!("read the answer to {path}: {body}"))
}

fn unchunk(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, tail)) = rest.split_once("\r\n") {
        match usize::from_str_radix(size.trim(), 16) {
            Ok(size) if size > 0 && size <= tail.len() => {
                out.push_str(&tail[..size]);
                rest = tail[size..].trim_start_matches("\r\n");
            }
            Ok(_) | Err(_) => break,
        }
    }
    out
}
