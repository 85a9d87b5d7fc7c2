//! The stored corpus, and seeded mutations of it, through every target: what was once found stays found, without an engine.

use std::path::{Path, PathBuf};

use kilter_fuzz::TARGETS;
use kilter_tests::Chance;

#[test]
fn every_stored_input_and_its_mutations_are_survived() {
    let mut total = 0;
    for (name, run) in TARGETS {
        let inputs = stored(name);
        assert!(!inputs.is_empty(), "corpus/{name} is empty");
        let mut chance = Chance::new(1);
        for input in &inputs {
            run(input);
            for _ in 0..(2_000 / inputs.len()).max(1) {
                run(&mutated(input, &inputs, &mut chance));
                total += 1;
            }
        }
    }
    println!("{total} mutations of the stored corpus survived");
}

/// Some bytes changed, cut, doubled, or taken over from another input.
fn mutated(input: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + chance.below(4) {
        let at = chance.place(bytes.len() + 1);
        match chance.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][chance.place(5)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + chance.place(32)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &others[chance.place(others.len())];
                let from = chance.place(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn stored(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new("corpus").join(name);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&dir).map(|dir| dir.filter_map(|file| Some(file.ok()?.path())).collect()).unwrap_or_default();
    paths.sort();
    paths.into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
