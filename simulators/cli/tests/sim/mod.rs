//! A running simulator, and one that ends by itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// A running simulator.
pub(crate) struct Sim {
    child: Child,
    out: BufReader<ChildStdout>,
    pub(crate) listen: SocketAddr,
    control: Option<SocketAddr>,
}

impl Sim {
    pub(crate) fn start(args: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0", "--json"];
        let linger = if args.contains(&"--linger") { &[][..] } else { &["--linger", "600"] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_kilter-sim"))
            .args(args)
            .args(listen)
            .args(linger)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Self { child, out, listen: address(&said["listen"]).expect("an address"), control: address(&said["control"]) }
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.http(&format!(
            "POST {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.http(&format!("GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n"))
    }

    fn http(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.control.expect("a control address")).expect("connected");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, serde_json::from_str(body).expect("JSON"))
    }

    /// Stops it as a person would, and returns its summary.
    pub(crate) fn stop(self) -> Value {
        let stopped = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(stopped.success());
        self.wait()
    }

    pub(crate) fn wait(mut self) -> Value {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("the summary");
        assert!(self.child.wait().expect("it ends").success());
        serde_json::from_str(&rest).expect("JSON")
    }
}

pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kilter-sim")).args(args).output().expect("it runs")
}
