//! Files and folders as people have them: declared, undeclared, damaged, hostile.

use std::path::Path;

use kilter_recording::{
    Bearing, CsvDeclaration, DataSet, Declaration, Item, Note, NpyArray, Recording, Wav, open, read_csv, read_folder,
};
use kilter_types::{ChannelId, Hertz, Input, Micros, Rpm, Unit};
use proptest::prelude::*;

#[test]
fn a_csv_with_a_time_column_becomes_readings_with_gaps_missing_values_and_a_clock_that_goes_back() {
    let declaration = declared(
        "time = { column = \"when\" }
         columns = [{ column = \"T 1\", unit = \"degC\" }, { column = \"#3\", name = \"flow\", unit = \"L/min\" }]",
    );
    let text = "when;T 1;flow;label\r\n2020-01-01 00:00:00;20,5;1;0\r\n2020-01-01 00:00:09;;2;1\r\n\r\n2020-01-01 00:00:05;21.5;NaN;1\r\n";
    let recording = read_csv(text.as_bytes(), &declaration, "pump.csv").expect("a recording");
    let names: Vec<_> = recording.channels.iter().map(|c| (c.name.to_string(), c.unit)).collect();
    assert_eq!(names, [("t-1".to_owned(), Unit::DegreeCelsius), ("flow".to_owned(), Unit::LitrePerMinute)]);
    let start = 1_577_836_800_000_000;
    let readings: Vec<_> = recording
        .inputs()
        .map(|(channel, position, input)| match input {
            Input::Reading { t, value } => (channel.0, position, (t.0 - start) / 1_000_000, value.to_string()),
            other => panic!("{other:?} is no reading"),
        })
        .collect();
    let expected =
        [(0, 0, 0, "20.5"), (1, 0, 0, "1"), (0, 1, 9, "NaN"), (1, 1, 9, "2"), (0, 2, 5, "21.5"), (1, 2, 5, "NaN")];
    assert_eq!(readings, expected.map(|(c, p, t, v)| (c, p, t, v.to_owned())));
    let notes = [
        Note::Missing { line: 3, channel: ChannelId(0) },
        Note::ClockBack { line: 5, by: Micros::from_secs(4) },
        Note::Missing { line: 5, channel: ChannelId(1) },
    ];
    assert_eq!((recording.notes.missing, recording.notes.clock_back), (2, 1));
    assert_eq!(recording.notes.first, notes);
}

#[test]
fn a_csv_with_a_rate_becomes_blocks() {
    let declaration = declared("rate_hz = 1000\nno_header = true\ncolumns = [{ column = \"#2\", unit = \"m/s2\" }]");
    let text: String = (0..5000).map(|n| format!("x\t{n}\n")).collect();
    let recording = read_csv(text.as_bytes(), &declaration, "v.csv").expect("a recording");
    let Item::Block { position: 4096, t0: Micros(4_096_000), samples, .. } = &recording.items[1] else {
        panic!("{:?}", recording.items[1]);
    };
    assert_eq!((samples[0], samples.len()), (4096.0, 904));
    assert_eq!(recording.samples(ChannelId(0)).len(), 5000);
}

#[test]
fn what_is_not_declared_is_named_with_its_remedy() {
    let error = |toml: &str| read_csv(b"t,a\n1,2\n", &declared(toml), "x.csv").expect_err(toml).to_string();
    let unit = error("rate_hz = 10\ncolumns = [{ column = \"a\" }]");
    assert!(unit.contains("x.csv") && unit.contains("the unit of column a") && unit.contains("add unit"), "{unit}");
    let time = error("columns = [{ column = \"a\", unit = \"g\" }]");
    assert!(time.contains("time is not declared") && time.contains("rate_hz"), "{time}");
    let column = error("rate_hz = 10\ncolumns = [{ column = \"b\", unit = \"g\" }]");
    assert!(column.contains("\"b\"") && column.contains("t, a"), "{column}");
    let rate = error("rate_hz = -10\ncolumns = [{ column = \"a\", unit = \"g\" }]");
    assert!(rate.contains("rate is -10"), "{rate}");
    assert!(error("rate_hz = 10").contains("columns is not declared"));
    assert!(toml::from_str::<CsvDeclaration>("rte_hz = 10").is_err());

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.npy");
    std::fs::write(&path, npy(&[1.0, 2.0])).expect("written");
    let undeclared = open(&path, &Declaration::default()).expect_err("no rate").to_string();
    assert!(undeclared.contains("rate is not declared") && undeclared.contains("--rate HZ"), "{undeclared}");
    let only_rate = Declaration { rate: Some(Hertz(10.0)), ..Declaration::default() };
    let undeclared = open(&path, &only_rate).expect_err("no unit").to_string();
    assert!(undeclared.contains("unit is not declared") && undeclared.contains("--unit g"), "{undeclared}");
}

#[test]
fn a_cell_that_is_no_number_is_an_error_with_its_place() {
    let declaration = declared("rate_hz = 10\ncolumns = [{ column = \"a\", unit = \"g\" }]");
    let error = read_csv(b"t,a\n1,2\n1,2x\n", &declaration, "x.csv").expect_err("not a number").to_string();
    assert_eq!(error, "read x.csv: line 3, column a: \"2x\" is not a number");
}

#[test]
fn a_folder_reads_rate_speed_unit_and_bearing_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    write("a.npy", &npy(&[1.0, f32::NAN, 3.0]));
    write("b.npy", &npy(&[1.0]));
    write(
        "meta.json",
        br#"{"a": {"fs_hz": 100, "rpm": 600, "unit": "m/s2", "bearing": "6205", "label": {"any": ["thing"]}},
             "b.npy": {"fs_hz": 200, "rpm": null, "unit": "g", "orders": {"bpfo": 3.5, "bpfi": 5.4, "bsf": 2.3, "ftf": 0.4}}}"#,
    );
    let records = read_folder(folder.path()).expect("two records");
    let recordings: Vec<Recording> =
        records.iter().map(|r| open(&r.path, &r.declaration).expect("a recording")).collect();
    assert_eq!(recordings[0].rpm, Some(Rpm(600.0)));
    assert_eq!(recordings[0].bearing, Some(Bearing::Designation("6205".to_owned())));
    assert_eq!(recordings[0].channels[0].unit, Unit::MetrePerSecondSquared);
    assert_eq!(recordings[0].notes.missing, 1);
    assert_eq!(recordings[1].rpm, None);
    assert_eq!(recordings[1].bearing, Some(Bearing::Orders { bpfo: 3.5, bpfi: 5.4, bsf: 2.3, ftf: 0.4 }));

    write("meta.json", br#"{"a": {"rpm": 600, "unit": "g"}}"#);
    let error = read_folder(folder.path()).expect_err("no rate").to_string();
    assert!(error.contains("record a") && error.contains("fs_hz is not declared"), "{error}");
    write("meta.json", br#"{"a": {"fs_hz": 100, "unit": "parsec"}}"#);
    let error = read_folder(folder.path()).expect_err("no such unit").to_string();
    assert!(error.contains("parsec") && error.contains("mm/s"), "{error}");
    write("meta.json", br#"{"../a": {"fs_hz": 100, "unit": "g"}}"#);
    assert!(read_folder(folder.path()).is_err());
}

#[test]
fn a_wav_in_parts_of_full_scale_is_scaled_by_the_declaration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.wav");
    let mut bytes =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\0\0\0\0\x02\0\x10\0data\x02\0\0\0".to_vec();
    bytes.extend(16_384i16.to_le_bytes());
    std::fs::write(&path, bytes).expect("written");
    let declaration = Declaration { unit: Some(Unit::G), full_scale: Some(50.0), ..Declaration::default() };
    let recording = open(&path, &declaration).expect("a recording");
    assert_eq!(recording.samples(ChannelId(0)), [25.0]);
    assert_eq!(recording.channels[0].rate, Some(Hertz(8000.0)));
    let wrong = Declaration { rate: Some(Hertz(44_100.0)), ..declaration };
    assert!(open(&path, &wrong).expect_err("another rate").to_string().contains("8000"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..200) {
        let mut framed_npy = npy(&[1.0; 20]);
        framed_npy.truncate(cut);
        framed_npy.extend(&bytes);
        let mut framed_wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        framed_wav.extend(&bytes);
        for candidate in [&bytes, &framed_npy] {
            if let Ok(array) = NpyArray::parse(candidate, "x.npy") {
                prop_assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
            }
        }
        let _ = Wav::parse(&framed_wav, "x.wav");
        let _ = Wav::parse(&bytes, "x.wav");
    }

    #[test]
    fn random_text_never_panics_and_only_makes_finite_or_missing_values(text in "[0-9a-z,;:. \\-+\n\té\u{feff}\"#]{0,300}", semicolon: bool) {
        let mut declaration = declared("rate_hz = 10\ncolumns = [{ column = \"#1\", unit = \"g\" }, { column = \"#3\", unit = \"g\" }]");
        declaration.separator = semicolon.then_some(';');
        if let Ok(recording) = read_csv(text.as_bytes(), &declaration, "x.csv") {
            let values = recording.samples(ChannelId(0));
            prop_assert!(values.iter().all(|x| x.is_finite() || x.is_nan()));
        }
        let timed = declared("time = { column = \"#1\" }\ncolumns = [{ column = \"#2\", unit = \"g\" }]");
        let _ = read_csv(text.as_bytes(), &timed, "x.csv");
    }
}

#[test]
fn every_data_set_is_read_with_its_known_size_and_traps() {
    let Some(root) = std::env::var_os("KILTER_DATA") else {
        println!("not run: 6 (KILTER_DATA is not set)");
        return;
    };
    let root = Path::new(&root);
    let read = |set: DataSet| -> Vec<Recording> {
        let sources = set.sources(root).expect("sources");
        sources.iter().map(|source| source.read().expect("a recording")).collect()
    };
    let cwru = read(DataSet::Cwru);
    assert!(cwru.len() >= 9);
    assert!(cwru.iter().all(|r| r.bearing.is_some() && r.rpm.is_some() && r.channels.len() == 1));
    let mut rates: Vec<f32> = cwru.iter().filter_map(|r| r.channels[0].rate).map(|rate| rate.0).collect();
    rates.dedup();
    assert!(rates.contains(&12_000.0) && rates.contains(&48_000.0), "{rates:?}");

    let skab = read(DataSet::Skab);
    let free = skab.iter().find(|r| r.name == "anomaly-free").expect("the anomaly-free file");
    assert_eq!((free.channels.len(), free.items.len()), (8, 8 * 9_405));
    assert!(skab.iter().any(|r| r.name == "other-2") && skab.iter().any(|r| r.name == "valve1-0"));

    let ims = read(DataSet::Ims);
    assert_eq!(ims[0].items.len(), 4 * 984);
    let nab = read(DataSet::Nab);
    assert_eq!((nab[0].items.len(), nab[0].notes.clock_back), (11_347, 1));
    assert!(matches!(nab[0].notes.first[0], Note::ClockBack { by: Micros(3_300_000_000), .. }), "{:?}", nab[0].notes);

    let engines = DataSet::Cmapss.sources(root).expect("engines");
    assert_eq!(engines.len(), 200);
    let first =
        engines.iter().find(|source| source.name == "train_FD001-1").expect("engine 1").read().expect("a recording");
    assert_eq!(first.items.len(), 192);
    assert!(matches!(&first.items[191], Item::Cycle { n: 192, row, .. } if row.len() == 24));

    let femto = read(DataSet::Femto);
    assert_eq!(femto[0].samples(ChannelId(1)).len(), 99 * 2560);
    assert!(matches!(femto[0].items[2], Item::Skipped { from: 2560, .. }), "{:?}", femto[0].items[2]);
}

#[test]
fn a_packed_file_reads_as_its_contents_and_a_torn_one_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "1 1 0 0 100 ".to_owned() + &"0.5 ".repeat(21) + "\n";
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, text.as_bytes()).expect("memory takes it");
    let packed = packer.finish().expect("memory takes it");
    std::fs::write(folder.path().join("train_FD009.txt.gz"), &packed).expect("a file");
    let engines = DataSet::Cmapss.sources(folder.path()).expect("engines");
    assert_eq!(engines.iter().map(|engine| engine.name.as_str()).collect::<Vec<_>>(), ["train_FD009-1"]);
    assert_eq!(engines[0].read().expect("rows").items.len(), 1);
    std::fs::write(folder.path().join("train_FD009.txt.gz"), &packed[..packed.len() - 9]).expect("a file");
    assert!(DataSet::Cmapss.sources(folder.path()).is_err());
}

fn declared(toml: &str) -> CsvDeclaration {
    toml::from_str(toml).expect("a declaration")
}

fn npy(values: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}\n", values.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes
}
