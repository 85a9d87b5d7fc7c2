//! CRC-32 (IEEE) of frames: by tables of 16 kB where memory is plenty, by one of 64 bytes on a microcontroller.

/// The checksum of these bytes.
#[cfg(not(target_os = "none"))]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The checksum of these bytes.
#[cfg(target_os = "none")]
pub fn crc32(bytes: &[u8]) -> u32 {
    small(bytes)
}

/// Four bits at a time.
#[cfg(any(test, target_os = "none"))]
fn small(bytes: &[u8]) -> u32 {
    let step = |crc: u32| NIBBLES[(crc & 15) as usize] ^ crc >> 4;
    !bytes.iter().fold(u32::MAX, |crc, byte| step(step(crc ^ u32::from(*byte))))
}

#[cfg(any(test, target_os = "none"))]
const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ crc >> 1 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn both_ways_give_the_published_check_value_and_agree() {
        assert_eq!((small(b"123456789"), crc32(b"123456789")), (0xCBF4_3926, 0xCBF4_3926));
        let bytes: Vec<u8> = (0..700u32).map(|i| ((i * i * 7) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(small(&bytes[..len]), crc32(&bytes[..len]));
        }
    }
}
