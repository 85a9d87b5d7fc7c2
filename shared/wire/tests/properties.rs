//! Any bytes are safe to read, and what is written is read back.

use kilter_wire::frame::{self, Kind};
use kilter_wire::image::SignedImage;
use kilter_wire::{Batch, BatchRecord, Down, Up, cobs, decode_record};
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_can_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = frame::decode::<Up<'_>>(Kind::Up, &bytes);
        let _ = frame::decode::<Down<'_>>(Kind::Down, &bytes);
        let _ = frame::length(&bytes);
        let _ = decode_record(&bytes);
        let _ = SignedImage::parse(&[b"KLTI\x01", bytes.as_slice()].concat()).map(|image| image.verify(&[1; 32]));
        let batch = Batch { epoch: kilter_types::Epoch(1), count: 0, records: &bytes };
        prop_assert!(batch.iter().count() <= bytes.len());
        let mut copy = bytes.clone();
        let _ = cobs::decode(&mut copy);
    }

    #[test]
    fn a_damaged_body_behind_a_good_checksum_is_refused_not_fatal(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![0x4B, 1, 1, 0];
        bytes.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
        bytes.extend(&body);
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());
        let _ = frame::decode::<Up<'_>>(Kind::Up, &bytes);
    }

    #[test]
    fn cobs_gives_back_what_it_was_given_and_holds_no_zero(data in proptest::collection::vec(any::<u8>(), 0..700)) {
        let mut room = vec![0; cobs::max_encoded(data.len())];
        let encoded = cobs::encode(&data, &mut room).expect("the room is large enough").to_vec();
        let (last, inner) = encoded.split_last().expect("never empty");
        prop_assert_eq!(*last, 0);
        let mut pieces = Vec::new();
        let sent = cobs::encode_each(&data, &mut |piece| -> Result<(), ()> {
            pieces.extend_from_slice(piece);
            Ok(())
        });
        prop_assert!(sent.is_ok() && pieces == encoded);
        prop_assert!(!inner.contains(&0));
        let mut copy = inner.to_vec();
        prop_assert_eq!(cobs::decode(&mut copy), Some(data.as_slice()));
    }

    #[test]
    fn a_batch_gives_back_its_records(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let mut room = [0; 2048];
        let mut used = 0;
        for (seq, bytes) in records.iter().enumerate() {
            let record = BatchRecord { class: 5, seq: seq as u64, bytes };
            prop_assert!(Batch::push(&mut room, &mut used, record));
        }
        let batch = Batch { epoch: kilter_types::Epoch(1), count: 0, records: &room[..used] };
        let back: Vec<_> = batch.iter().map(|r| r.expect("undamaged").bytes.to_vec()).collect();
        prop_assert_eq!(back, records);
    }
}
