//! Another image of a node's firmware, the way a technician brings it: signed by a real server's key, handed to a real agent, taken by the
//! node's own code over embassy-boot's bootloader, through lost lines, restarts and power cuts.

#[path = "../../../firmware/node/tests/bench/mod.rs"]
mod bench;

use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bench::chip::{BOARD, Chip, Part, image};
use bench::flash::Tear;
use kilter_monitor::Carve;
use kilter_node::{BootSlots, Hardware, Identity, Link, Node};
use kilter_tests::{Bins, Process, get};
use kilter_types::{Digest, Epoch, Monotonic};
use kilter_wire::sign;
use serde_json::Value;

use super::free_port;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_image_reaches_its_node_over_cut_lines_restarts_and_power_cuts_and_the_status_names_its_generation() {
    let Some(mut plant) = Plant::new(None) else { return };
    let (old, new) = (image(0x11), image(0xA5));
    let file = plant.sign(&new, BOARD, 5);
    let mut follow = plant.hand_over(&file);

    // The power goes when the first part lies in flash; then the line is cut there, and the agent is killed.
    plant.until("the first part", |plant| (plant.coming() == Some(512)).then_some(()));
    plant.reset();
    plant.until("the first part again", |plant| (plant.coming() == Some(512)).then_some(()));
    plant.node.link().stream = None;
    plant.start_agent();
    plant.until("the rest, and the restart", |plant| RESTART.take().then(|| plant.chip.cut_in(40, Tear::Some)));
    plant.reset();
    assert_eq!(plant.cuts, 1, "the power went while the bootloader swapped");
    assert_eq!(plant.chip.image(), new);
    plant.settle();
    plant.shows("the trial", |image| image["on_trial"] == true && image["generation"] == 5);
    let (status, said) = plant.end(&mut follow);
    assert!(status.success() && said.contains("generation 5 runs and stays"), "{said}");
    plant.shows("the new generation", |image| {
        image["on_trial"] == false && image["generation"] == 5 && image["update"]["stage"] == "kept"
    });
    // It stays over another start, and a model may come again.
    plant.reset();
    assert!(plant.chip.image() == new && old != new);

    for (image, board, generation, why) in [
        (&old, BOARD, 5, "generation 5 runs there already"),
        (&old, BOARD, 4, "generation 4 is not above 5"),
        (&old, "rp2040", 6, "for board rp2040, the node is a bench"),
    ] {
        let file = plant.sign(image, board, generation);
        let mut follow = plant.hand_over(&file);
        let (status, said) = plant.end(&mut follow);
        assert!(!status.success() && said.contains(why), "{said}");
    }
    assert_eq!(plant.chip.image(), new);
}

#[test]
fn an_image_that_hangs_is_given_up_and_what_another_fleet_signed_is_refused_by_command_and_node() {
    let Some(mut plant) = Plant::new(None) else { return };
    let (old, new) = (image(0x11), image(0xA5));
    let file = plant.sign(&new, BOARD, 5);
    let mut follow = plant.hand_over(&file);
    plant.until("the restart", |_| RESTART.take().then_some(()));
    plant.reset();
    plant.settle();
    plant.shows("the trial", |image| image["on_trial"] == true);
    // The watchdog bites.
    plant.reset();
    let (status, said) = plant.end(&mut follow);
    assert!(!status.success() && said.contains("generation 0 runs again, and generation 5 is used up"), "{said}");
    plant.shows("the image before", |image| image["generation"] == 0 && image["update"]["stage"] == "given_up");
    assert_eq!(plant.chip.image(), old);
    plant.until("the record of it", |plant| plant.events().contains("firmware_reverted").then_some(()));

    // Another server's key: the command says so at once.
    let own = std::mem::replace(&mut plant.server, plant.dir.path().join("another"));
    let strange = plant.sign(&new, BOARD, 6);
    plant.server = own;
    let mut follow = plant.hand_over(&strange);
    let (status, said) = plant.end(&mut follow);
    assert!(!status.success() && said.contains("not made by this fleet"), "{said}");

    // A node that was flashed for another fleet believes nothing that this one signed.
    let Some(mut plant) = Plant::new(Some([7; 32])) else { return };
    let file = plant.sign(&new, BOARD, 6);
    let mut follow = plant.hand_over(&file);
    let (status, said) = plant.end(&mut follow);
    assert!(!status.success() && said.contains("flashed with another key"), "{said}");
    assert_eq!(plant.chip.image(), old);
}

thread_local! {
    /// The node starts itself again.
    static RESTART: Cell<bool> = const { Cell::new(false) };
}

/// A node whose UART is a socket.
struct OnChip;

impl Hardware for OnChip {
    type Accelerometer = bench::Sensor;
    type Thermometer = bench::Housing;
    type Link = Socket;
    type Output = bench::Lamp;
    type Flash = Part;
    type Watchdog = bench::Dog;
    type Images = BootSlots<Part, Part>;
}

/// The plug, and the cable that is in it.
struct Socket {
    plug: Rc<TcpListener>,
    stream: Option<TcpStream>,
}

impl Link for Socket {
    type Error = ();

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let sent = self.stream.as_mut().ok_or(())?.write_all(bytes);
        sent.map_err(|_| self.stream = None)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        if self.stream.is_none()
            && let Ok((stream, _)) = self.plug.accept()
        {
            stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true)).map_err(drop)?;
            // Paces the node: its own time runs as fast as it is polled.
            stream.set_read_timeout(Some(Duration::from_millis(1))).map_err(drop)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(0);
        };
        match stream.read(bytes) {
            Ok(0) => self.stream = None,
            Ok(count) => return Ok(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.stream = None,
        }
        Ok(0)
    }
}

/// A server's keys, an agent, and a node on a chip.
struct Plant {
    dir: tempfile::TempDir,
    bins: Bins,
    server: PathBuf,
    agent: Option<Process>,
    page: SocketAddr,
    chip: Chip,
    key: [u8; 32],
    node: Node<OnChip, Carve<'static>, 2, 64, 1024>,
    plug: Rc<TcpListener>,
    starts: u64,
    now: u64,
    /// Starts at which the power went.
    cuts: u32,
    commands: u32,
}

impl Plant {
    /// The node was flashed with this secret's public half, or with that of the agent's fleet.
    fn new(strange: Option<[u8; 32]>) -> Option<Self> {
        let bins = Bins::built(&["kilter-agent", "kilter-aggregator"])?;
        let dir = tempfile::tempdir().expect("a folder");
        let server = dir.path().join("server");
        let mut enrol = Command::new(bins.path("kilter-aggregator").expect("it is built"));
        enrol.args(["enroll", "edge-1", "--data"]).arg(&server).arg("--out").arg(dir.path().join("bundle.toml"));
        assert!(enrol.output().expect("it runs").status.success());
        let bundle = fs::read_to_string(dir.path().join("bundle.toml")).expect("it was written");
        let bundle: toml::Table = toml::from_str(&bundle).expect("good TOML");
        let fleet = bundle["signing_key"].as_str().and_then(Digest::parse).expect("a key").0;
        let key = strange.map_or(fleet, |secret| sign::public_key(&secret));
        let plug = TcpListener::bind("127.0.0.1:0").expect("a free port");
        plug.set_nonblocking(true).expect("a socket");
        let (address, plug) = (plug.local_addr().expect("bound"), Rc::new(plug));
        let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\n[http]\nlisten = \"{page}\"\n[[machine]]\nasset = \"pump-1\"\n\
             class = \"pump\"\nsource = {{ kind = \"node\", address = \"tcp://{address}\" }}\n"
        );
        fs::write(dir.path().join("agent.toml"), config).expect("a folder");
        let chip = Chip::new(&image(0x11));
        RESTART.set(false);
        let (pages, images) = chip.boot(|| RESTART.set(true)).expect("it has power");
        let node = assemble(1, key, pages, images, Socket { plug: Rc::clone(&plug), stream: None });
        let (starts, now, cuts, commands) = (1, 0, 0, 0);
        let mut plant =
            Self { dir, bins, server, agent: None, page, chip, key, node, plug, starts, now, cuts, commands };
        plant.start_agent();
        plant.shows("the image as flashed", |image| image["generation"] == 0 && image["board"] == BOARD);
        Some(plant)
    }

    /// Starts the agent, or kills it and starts it again.
    fn start_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
        let mut command = self.command("kilter-agent");
        command.args(["run", "--config"]).arg(self.dir.path().join("agent.toml"));
        let log = self.dir.path().join("agent.log");
        self.agent = Some(Process::start("agent", &mut command, &log).expect("it starts"));
    }

    /// The image's file, signed by the server.
    fn sign(&self, image: &[u8], board: &str, generation: u64) -> PathBuf {
        let (plain, out) = (self.dir.path().join("node.bin"), self.dir.path().join(format!("{generation}.kltimage")));
        fs::write(&plain, image).expect("a folder");
        let mut command = self.command("kilter-aggregator");
        command.arg("sign-image").arg(plain).args(["--board", board, "--generation", &generation.to_string()]);
        let output = command.arg("--data").arg(&self.server).arg("--out").arg(&out).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out
    }

    /// The technician's command, which goes on until the update has ended.
    fn hand_over(&mut self, file: &std::path::Path) -> Process {
        self.commands += 1;
        let mut command = self.command("kilter-agent");
        command.arg("node-image").arg(file).args(["--node", "pump-1", "--follow", "--config"]);
        command.arg(self.dir.path().join("agent.toml"));
        Process::start("node-image", &mut command, &self.said()).expect("it starts")
    }

    /// How the command ended, and what it said.
    fn end(&mut self, follow: &mut Process) -> (ExitStatus, String) {
        self.until("the command's end", |_| follow.has_ended().then_some(()));
        (follow.wait(PATIENCE).expect("it has ended"), fs::read_to_string(self.said()).unwrap_or_default())
    }

    fn said(&self) -> PathBuf {
        self.dir.path().join(format!("command-{}.log", self.commands))
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.bins.path(name).expect("it is built"))
    }

    /// Bytes of another image that the node has.
    fn coming(&self) -> Option<u32> {
        self.node.image_status().and_then(|status| status.coming).map(|(_, have)| have)
    }

    /// Lets the node live until something is so.
    fn until<T>(&mut self, what: &str, mut probe: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            self.turn();
            if let Some(found) = probe(self) {
                return found;
            }
        }
        let agent = self.agent.as_ref().map(Process::log_tail).unwrap_or_default();
        panic!("{what}: not seen; the node says {:?}\n{agent}", self.node.image_status())
    }

    /// Waits until the agent's page shows it; the node lives as long as it is not asked to.
    fn shows(&mut self, what: &str, fits: impl Fn(&Value) -> bool) {
        let begin = Instant::now();
        let mut seen = Value::Null;
        while begin.elapsed() < PATIENCE {
            if let Ok(status) = get(self.page, "/status") {
                seen = status["machines"][0]["image"].clone();
                if fits(&seen) {
                    return;
                }
            }
            if !self.node.image_status().is_some_and(|status| status.on_trial) {
                (0..20).for_each(|_| self.turn());
            }
        }
        let agent = self.agent.as_ref().map(Process::log_tail).unwrap_or_default();
        panic!("{what}: the page shows {seen}\n{agent}")
    }

    /// After a start: a few turns, in which it says who it is.
    fn settle(&mut self) {
        (0..3).for_each(|_| self.turn());
    }

    fn turn(&mut self) {
        self.node.poll(Monotonic(self.now));
        self.now += 40_000;
    }

    /// The node starts again, as often as the power goes. What is in its plug stays there.
    fn reset(&mut self) {
        let stream = self.node.link().stream.take();
        let mut socket = Some(Socket { plug: Rc::clone(&self.plug), stream });
        loop {
            self.starts += 1;
            if let Some((pages, images)) = self.chip.boot(|| RESTART.set(true)) {
                let link = socket.take().expect("one start has power");
                self.node = assemble(self.starts, self.key, pages, images, link);
                self.now = 0;
                return;
            }
            self.cuts += u32::from(self.chip.power());
        }
    }

    /// What the agent's journal says of events.
    fn events(&self) -> String {
        let journal = self.dir.path().join("data").join("journal");
        let output = self.command("kilter-agent").args(["journal", "dump", "--class", "event"]).arg(journal).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    }
}

fn assemble(
    start: u64,
    key: [u8; 32],
    pages: Part,
    images: BootSlots<Part, Part>,
    link: Socket,
) -> Node<OnChip, Carve<'static>, 2, 64, 1024> {
    let identity = Identity { epoch: Epoch(start), ..bench::identity() };
    bench::assemble(identity, pages, link, images, key)
}
