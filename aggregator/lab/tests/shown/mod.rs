//! What the page had shown, told by the lab: what the fold gave, in the order of its receipt, and no more than is asked for.

use std::path::Path;
use std::process::Command;

use kilter_fold::{Entry, Fold, Output};
use kilter_journal::{Offset, RealFilesystem, follow};
use kilter_types::{Class, Epoch, Gap, GapReason, Micros, Payload};

use crate::house::{Server, config};
use crate::settled::{QUICK, settled};

#[test]
fn s4_33_the_lab_tells_the_newest_rows_as_the_fold_gave_them_in_the_order_of_their_receipt() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, QUICK);
    let mut server = Server::open(data, 9, Vec::new());
    for part in 0..3 {
        server.received = Micros::from_secs(100 + part as i64);
        // The newest come first in event time.
        server.features("press", 40 - part * 20..60 - part * 20);
        let (class, epoch, reason) = (Class::Clip, Epoch(4), GapReason::Evicted);
        let gap = Gap { class, epoch, first_seq: part * 10, last_seq: part * 10 + 5, reason };
        server.records("pump", [(part, Payload::Gap(gap))].into_iter());
    }
    settled(data, &server).terminate();
    let (mut fold, mut wanted) = (Fold::new(), Vec::new());
    let mut reader = follow(RealFilesystem, &data.join("journal"), Offset(0)).expect("a journal");
    while let Some(stored) = reader.next_durable().expect("it can be read") {
        let entry = Entry::decode(&stored.bytes).expect("an entry");
        fold.apply(stored.offset.get(), entry, &mut |output| wanted.push(output));
    }
    assert_eq!(wanted.len(), 63);
    assert_eq!(told(data, &[]), wanted);
    // Of each table the last two: each part is twenty features and a gap.
    let last: Vec<Output> = [41, 60, 61, 62].into_iter().map(|place| wanted[place].clone()).collect();
    assert_eq!(told(data, &["--most-rows", "2"]), last);
}

fn told(data: &Path, arguments: &[&str]) -> Vec<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilter-lab"));
    let output = command.arg("shown").arg("--data").arg(data).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an output")).collect()
}
