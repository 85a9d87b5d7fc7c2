//! Starts that the aggregator must refuse, each by name and with its remedy.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use kilter_tests::Bins;

use crate::stage::{self, Mount, refused, says};

#[test]
fn a_taken_port_an_unknown_key_and_a_folder_that_cannot_be_written_are_named_before_anything_starts() {
    let Some(bins) = stage::bins() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("the folder can be written");
    let data = dir.path().join("data");
    let config = |data: &Path, mqtt: u16, http: u16, more: &str| {
        format!(
            "data = {data:?}\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [lab]\nenabled = false\n{more}"
        )
    };
    let port_text = port.to_string();
    let mut cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("a taken HTTP port", config(&data, 0, port, ""), vec!["http.listen", &port_text]),
        ("a taken MQTT port", config(&data, port, 0, ""), vec!["mqtt.listen", &port_text]),
        (
            "an unknown key",
            config(&data, 0, 0, "[rollout]\ncanary = 1\n"),
            vec!["canary", "unknown field", "canaries", "kilter-aggregator config"],
        ),
        ("a value of a wrong kind", config(&data, 0, 0, "[rollout]\ncanaries = \"two\"\n"), vec!["canaries", "two"]),
        (
            "a data folder below a file",
            config(&file.join("data"), 0, 0, ""),
            vec!["file/data", "make it writable or set `data`"],
        ),
    ];
    let read_only = dir.path().join("read-only");
    let mount = stage::is_root().then(|| Mount::tmpfs(&read_only, "ro,size=64k").expect("root may mount"));
    if mount.is_some() {
        cases.push((
            "a read-only data folder",
            config(&read_only, 0, 0, ""),
            vec!["read-only", "make it writable or set `data`", "Read-only file system"],
        ));
    } else {
        stage::not_run("only root may mount a read-only folder");
    }
    for (i, (what, config, words)) in cases.into_iter().enumerate() {
        if let Err(error) = start(&bins, dir.path(), i, &config).and_then(|said| says(&said, &words)) {
            panic!("{what}: {error:#}");
        }
    }
    assert!(!data.join("journal").exists(), "a start that was refused has begun a journal");
}

fn start(bins: &Bins, dir: &Path, number: usize, config: &str) -> anyhow::Result<String> {
    let path = dir.join("aggregator.toml");
    std::fs::write(&path, config)?;
    let mut command = Command::new(bins.path("kilter-aggregator")?);
    command.arg("serve").arg("--config").arg(path);
    refused(&mut command, &dir.join(format!("{number}.log")))
}
