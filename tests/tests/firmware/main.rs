//! The whole node in QEMU: it tells of its faults after resets, keeps a model through power cuts, and reaches a real agent.
//!
//! `KILTER_FIRMWARE` names the node's image (`cargo xt firmware` builds it); without it or without QEMU nothing of that runs. What needs a
//! bootloader runs on the host ([`gateway`]).
#![expect(clippy::disallowed_methods, reason = "journeys wait for processes")]

mod fleet;
mod gateway;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kilter_source::{Heard, Nodes, Now, encode};
use kilter_tests::model::{SECRET, Signed, artifact, manifest};
use kilter_tests::{Bins, Process, get};
use kilter_types::{Digest, Generation};
use kilter_wire::frame::Kind;
use kilter_wire::node::{NodeDown, NodeStatus};
use kilter_wire::{Chunk, Down, sign};

/// How long anything may take; how many reads that is depends on the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// QEMU with the node in a folder of its own.
struct Node {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(image: &Path, dir: &Path) -> Self {
        Self::start_at(free_port(), image, dir, sign::public_key(&SECRET))
    }

    /// The same behind this port, flashed with this model-signing key.
    fn start_at(port: u16, image: &Path, dir: &Path, key: [u8; 32]) -> Self {
        fs::write(dir.join("key.bin"), key).expect("a folder");
        let log = fs::File::options().create(true).append(true).open(dir.join("qemu.log")).expect("a log");
        // Started without a wrapper: what we kill is what computes.
        let child = Command::new("qemu-system-arm")
            .args(["-M", "mps2-an386", "-nographic", "-monitor", "none"])
            .arg("-chardev")
            .arg(format!("socket,id=u,host=127.0.0.1,port={port},server=on,wait=off"))
            .args(["-serial", "chardev:u", "-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(image)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("QEMU starts");
        Self { child, dir: dir.to_owned(), port }
    }

    /// A line to it, as a gateway has one.
    fn line(&self) -> Line {
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
                return Line { stream, nodes: Nodes::default(), status: None };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("QEMU does not listen: {}", fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default());
    }

    fn touch(&self, file: &str) {
        fs::write(self.dir.join(file), b"").expect("a folder");
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

fn free_port() -> u16 {
    kilter_tests::free_port().expect("a free port")
}

struct Line {
    stream: TcpStream,
    nodes: Nodes,
    status: Option<NodeStatus>,
}

impl Line {
    /// One read; serves the node's fetches of this model. `false` when the line is gone.
    fn turn(&mut self, model: &[u8]) -> bool {
        let mut room = [0; 4096];
        let count = match self.stream.read(&mut room) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        };
        let mut heard = Vec::new();
        self.nodes.feed(&room[..count], Now::default(), &mut |said| heard.push(said));
        for said in heard {
            match said {
                Heard::Status(status) => self.status = Some(*status),
                Heard::Fetch(fetch) if fetch.digest == Digest::of(model) => {
                    let (from, total) = (fetch.offset as usize, model.len() as u32);
                    let bytes = &model[from..(from + fetch.len as usize).min(model.len())];
                    let chunk = Chunk { digest: fetch.digest, offset: fetch.offset, total, bytes };
                    self.send(Kind::Down, &Down::Chunk(chunk));
                }
                _ => {}
            }
        }
        true
    }

    fn send<T: kilter_wire::frame::Message>(&mut self, kind: Kind, message: &T) {
        // A node that has lost its power hears nothing.
        let _ = self.stream.write_all(&encode(kind, message).expect("it fits"));
    }

    fn offer(&mut self, model: &[u8], generation: u64) {
        let signed = Signed::new(&manifest(model, generation), &SECRET);
        self.send(Kind::NodeDown, &NodeDown::Model(signed.travel()));
    }

    /// Waits for a status that fits.
    fn wait(&mut self, what: &str, model: &[u8], fits: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.turn(model);
            if let Some(status) = self.status.as_ref().filter(|status| fits(status)) {
                return status.clone();
            }
        }
        panic!("{what}: {:?}", self.status)
    }
}

/// The node's image, or a line that says what was not run.
fn image() -> Option<PathBuf> {
    let image = std::env::var_os("KILTER_FIRMWARE").map(PathBuf::from);
    if image.is_none() {
        println!("not run: 1 (KILTER_FIRMWARE is unset)");
    }
    image
}

#[test]
fn a_panic_and_a_hang_reset_the_node_and_both_are_told_afterwards_also_after_a_loss_of_power() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(&image, dir.path());
    let mut line = node.line();
    let first = line.wait("the first status", &[], |_| true);
    assert_eq!((first.faults.boots, first.panic), (1, None));
    node.touch("panic");
    let after = line.wait("a status after the panic", &[], |status| status.faults.panics == 1);
    let note = after.panic.clone().expect("it was noted");
    assert!(note.file.ends_with("src/bin/node/main.rs") && note.line > 0, "{note:?}");
    node.touch("hang");
    let after = line.wait("a status after the hang", &[], |status| status.faults.watchdog == 1);
    assert_eq!((after.faults.boots, after.faults.panics), (3, 1));
    // Without power memory keeps nothing; flash does.
    drop((node, line));
    let node = Node::start(&image, dir.path());
    let after = node.line().wait("a status after the power came back", &[], |_| true);
    assert_eq!((after.faults.boots, after.faults.panics, after.faults.watchdog), (4, 1, 1));
    assert_eq!(after.panic, Some(note), "the last panic is told for as long as there is no other");
}

#[test]
fn a_node_reaches_a_real_agent_with_its_features_and_its_alarm() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(&image, dir.path());
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let source = format!("source = {{ kind = \"node\", address = \"tcp://127.0.0.1:{}\" }}", node.port);
    let config = format!(
        "bundle = \"\"\n[http]\nlisten = \"{http}\"\n[[machine]]\nasset = \"pump-1\"\nclass = \"pump\"\n{source}\n"
    );
    fs::write(dir.path().join("agent.toml"), config).expect("a folder");
    let mut command = Command::new(Bins::find().path("kilter-agent").expect("the agent is built"));
    command.arg("run").arg("--config").arg(dir.path().join("agent.toml"));
    let agent = Process::start("agent", &mut command, &dir.path().join("agent.log")).expect("the agent starts");
    let rows =
        wait(http, "/windows", &agent, |windows| windows[0]["rows"].as_array().is_some_and(|rows| rows.len() >= 2));
    assert!(rows[0]["rows"][0]["values"]["rms"].as_f64().is_some_and(|rms| rms > 0.0), "{rows}");
    node.touch("fault");
    let status = wait(http, "/status", &agent, |status| status["machines"][0]["severity"] == "alarm");
    assert_eq!(status["machines"][0]["connected"], true);
    agent.stop(Duration::from_secs(20)).expect("the agent ends well");
}

fn wait(http: SocketAddr, path: &str, agent: &Process, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    for _ in 0..600 {
        if let Ok(found) = get(http, path)
            && fits(&found)
        {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{path}: {:?}\n{}", get(http, path), agent.log_tail())
}

#[test]
#[ignore = "a minute: run by cargo xt proof"]
fn ten_power_cuts_in_a_model_swap_leave_a_model_and_the_swap_is_done_after() {
    let Some(image) = image() else { return };
    let (old, new) = (artifact(2.0), artifact(3.0));
    let dir = tempfile::tempdir().expect("a folder");
    {
        let node = Node::start(&image, dir.path());
        let mut line = node.line();
        line.wait("a status", &[], |_| true);
        line.offer(&old, 5);
        let confirmed = |status: &NodeStatus| !status.on_trial && status.model.is_some();
        line.wait("the first model is confirmed", &old, confirmed);
    }
    let flash = fs::read(dir.path().join("flash.bin")).expect("the node made it");
    let (mut kept, mut switched) = (0, 0);
    for cut in 0..10u32 {
        fs::write(dir.path().join("flash.bin"), &flash).expect("a folder");
        fs::write(dir.path().join("cut.bin"), (11 * cut + 3).to_le_bytes()).expect("a folder");
        let mut node = Node::start(&image, dir.path());
        let mut line = node.line();
        line.offer(&new, 6);
        let begun = Instant::now();
        while line.turn(&new) && !node.has_ended() {
            assert!(begun.elapsed() < PATIENCE, "cut {cut}: the power did not go");
        }
        drop(node);
        fs::remove_file(dir.path().join("cut.bin")).expect("it was there");
        let node = Node::start(&image, dir.path());
        let mut line = node.line();
        let (digest, _) = line.wait("a status", &[], |_| true).model.unwrap_or_else(|| panic!("cut {cut}: no model"));
        assert!(digest == Digest::of(&old) || digest == Digest::of(&new), "cut {cut}");
        kept += u32::from(digest == Digest::of(&old));
        switched += u32::from(digest == Digest::of(&new));
    }
    println!("ten cuts: the old model {kept} times, the new one {switched} times");
    let node = Node::start(&image, dir.path());
    let mut line = node.line();
    line.wait("a status", &[], |_| true);
    line.offer(&new, 7);
    let runs = |status: &NodeStatus| status.model == Some((Digest::of(&new), Generation(7))) && !status.on_trial;
    line.wait("the swap is done", &new, runs);
}
