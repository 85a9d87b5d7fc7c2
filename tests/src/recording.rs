//! Recordings as files that any tool could have written.

/// A NumPy file (format 1.0) of one row of little-endian f32.
pub fn npy(samples: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", samples.len());
    let room = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(room - 1 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}
