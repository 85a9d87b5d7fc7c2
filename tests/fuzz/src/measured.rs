//! What comes as a file: model artifacts and recordings.

use kilter_infer::{Artifact, Scratch, State};
use kilter_recording::{ChannelDeclaration, CsvDeclaration, CsvTime, NpyArray, TimeFormat, Wav, read_csv};
use kilter_types::{Name, Unit};

/// A model: one that passes the door is certified and scores whatever comes.
pub(crate) fn artifact(bytes: &[u8]) {
    let Ok(artifact) = Artifact::parse(bytes) else { return };
    let (mut state, mut scratch) = (Box::new(State::<1024>::new()), Box::new(Scratch::new()));
    if artifact.state_floats() > 1024 || artifact.certify(&mut state, &mut scratch).is_err() {
        return;
    }
    for value in [0.0, 1.0, -1.0e30, f32::MAX, f32::NAN, f32::INFINITY] {
        let _ = artifact.push(&vec![value; artifact.inputs()], &mut state, &mut scratch);
    }
}

/// An array.
pub(crate) fn npy(bytes: &[u8]) {
    let _ = NpyArray::parse(bytes, "fuzz.npy");
}

/// Sound.
pub(crate) fn wav(bytes: &[u8]) {
    if let Ok(wav) = Wav::parse(bytes, "fuzz.wav") {
        let samples: usize = wav.channels.iter().map(Vec::len).sum();
        assert!(samples <= bytes.len(), "more samples than bytes");
    }
}

/// A table, by each way of telling its time.
pub(crate) fn csv(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let format = [TimeFormat::DateTime, TimeFormat::Dotted, TimeFormat::UnixSeconds, TimeFormat::UnixMicros];
    let format = format[usize::from(*choice >> 4) % 4];
    let time = CsvTime { column: "#1".to_owned(), format };
    let column = |column: &str, name: &str| ChannelDeclaration {
        column: column.to_owned(),
        name: Some(Name::new(name).expect("a good name")),
        unit: Some(Unit::G),
    };
    let declaration = CsvDeclaration {
        separator: [None, Some(','), Some(';'), Some('\t')][usize::from(*choice) % 4],
        no_header: choice & 4 != 0,
        time: (choice & 8 != 0).then_some(time),
        rate_hz: (choice & 8 == 0).then_some(1000.0),
        t0_us: 0,
        columns: vec![column("#1", "one"), column("#2", "two")],
    };
    let _ = read_csv(text, &declaration, "fuzz.csv");
}
