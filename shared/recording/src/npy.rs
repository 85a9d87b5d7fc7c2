//! NumPy's `.npy`, versions 1 to 3: numbers of one to eight bytes in C order, one to three dimensions.
//!
//! ```text
//!  0        6       8          10 (12 from version 2)
//! ┌────────┬───────┬──────────┬──────────────────────────────────────────────────────┬────────┐
//! │ \x93NUMPY │ version │ header len │ {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } │ values │
//! └────────┴───────┴──────────┴──────────────────────────────────────────────────────┴────────┘
//! ```

use crate::error::RecordingError;

/// An array of numbers; values are converted to `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Length of each dimension, one to three.
    pub shape: Vec<usize>,
    /// The values in C order.
    pub values: Vec<f32>,
}

impl NpyArray {
    /// Reads the bytes of one file.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, RecordingError> {
        let wrong = |what: String| RecordingError::format(file, what);
        let magic = bytes.get(..6);
        if magic != Some(b"\x93NUMPY") {
            return Err(wrong("does not begin like an .npy file".to_owned()));
        }
        let cut = || wrong("is cut short within its header".to_owned());
        let (length, start) = match bytes.get(6) {
            Some(1) => (usize::from(u16::from_le_bytes(array(bytes, 8).ok_or_else(cut)?)), 10),
            Some(2 | 3) => (u32::from_le_bytes(array(bytes, 8).ok_or_else(cut)?) as usize, 12),
            Some(version) => return Err(wrong(format!(".npy version {version} is unknown; 1 to 3 can be read"))),
            None => return Err(cut()),
        };
        if length > MAX_HEADER_BYTES {
            return Err(RecordingError::too_large(file, "the header", MAX_HEADER_BYTES as u64));
        }
        let header = bytes.get(start..start + length).ok_or_else(cut)?;
        let header = std::str::from_utf8(header).map_err(|_| wrong("has a header that is not text".to_owned()))?;
        let kind = Kind::parse(quoted(header, "descr").unwrap_or(""))
            .ok_or_else(|| wrong("holds values of a type other than f4, f8, i1 to i8 or u1 to u8".to_owned()))?;
        let shape = shape(header).ok_or_else(|| wrong("has a shape other than one to three dimensions".to_owned()))?;
        if after(header, "fortran_order").is_none_or(|rest| rest.starts_with("True")) && shape.len() > 1 {
            return Err(wrong("is in Fortran order; save it with numpy.ascontiguousarray".to_owned()));
        }
        let count = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        let data = &bytes[start + length..];
        let expected = count.and_then(|count| count.checked_mul(kind.bytes));
        if expected != Some(data.len()) {
            let count = count.map_or("too many".to_owned(), |count| count.to_string());
            return Err(wrong(format!("promises {count} values but holds {} bytes of them", data.len())));
        }
        Ok(Self { shape, values: data.chunks_exact(kind.bytes).map(|bytes| kind.value(bytes)).collect() })
    }

    /// One row of values per channel of a 1-D (one channel) or 2-D (samples, channels) array.
    pub(crate) fn channels(&self, file: &str) -> Result<Vec<Vec<f32>>, RecordingError> {
        let width = match self.shape[..] {
            [_] => 1,
            [_, width] => width,
            _ => {
                return Err(RecordingError::format(
                    file,
                    "has three dimensions; only the femto set declares what they are",
                ));
            }
        };
        if width == 0 || width > crate::recording::MAX_CHANNELS {
            let what = format!("{width} columns; an array of (samples, channels) with 1 to 16 channels is expected");
            return Err(RecordingError::format(file, what));
        }
        Ok((0..width).map(|c| self.values.iter().skip(c).step_by(width).copied().collect()).collect())
    }
}

/// The type of one value.
#[derive(Debug, Clone, Copy)]
struct Kind {
    class: Class,
    bytes: usize,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Float,
    Signed,
    Unsigned,
}

impl Kind {
    fn parse(descr: &str) -> Option<Self> {
        let mut chars = descr.chars();
        let big_endian = match chars.next()? {
            '<' | '|' | '=' => false,
            '>' => true,
            _ => return None,
        };
        let class = match chars.next()? {
            'f' => Class::Float,
            'i' => Class::Signed,
            'u' => Class::Unsigned,
            _ => return None,
        };
        let bytes = match (class, chars.as_str()) {
            (_, "4") => 4,
            (_, "8") => 8,
            (Class::Signed | Class::Unsigned, "1") => 1,
            (Class::Signed | Class::Unsigned, "2") => 2,
            _ => return None,
        };
        Some(Self { class, bytes, big_endian })
    }

    fn value(self, bytes: &[u8]) -> f32 {
        let mut raw = [0u8; 8];
        for (place, byte) in bytes.iter().enumerate() {
            let place = if self.big_endian { bytes.len() - 1 - place } else { place };
            raw[place] = *byte;
        }
        let bits = u64::from_le_bytes(raw);
        match self.class {
            Class::Float if self.bytes == 4 => f32::from_bits(bits as u32),
            Class::Float => f64::from_bits(bits) as f32,
            Class::Unsigned => bits as f32,
            Class::Signed => {
                let unused = 64 - 8 * self.bytes as u32;
                ((bits << unused) as i64 >> unused) as f32
            }
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What follows a key of the header's dictionary.
fn after<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let place = header.find(&format!("'{key}'"))?;
    Some(header[place + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start())
}

fn quoted<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    after(header, key)?.strip_prefix('\'')?.split('\'').next()
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let inside = after(header, "shape")?.strip_prefix('(')?.split(')').next()?;
    let sides: Option<Vec<usize>> =
        inside.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect();
    sides.filter(|sides| (1..=3).contains(&sides.len()))
}

const MAX_HEADER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn every_number_type_is_read_in_both_byte_orders() {
        let cases: [(&str, Vec<u8>); 8] = [
            ("<f4", (-2.0f32).to_le_bytes().to_vec()),
            (">f4", (-2.0f32).to_be_bytes().to_vec()),
            ("<f8", (-2.0f64).to_le_bytes().to_vec()),
            ("|i1", (-2i8).to_le_bytes().to_vec()),
            ("<i2", (-2i16).to_le_bytes().to_vec()),
            (">i2", (-2i16).to_be_bytes().to_vec()),
            ("<i4", (-2i32).to_le_bytes().to_vec()),
            ("<i8", (-2i64).to_le_bytes().to_vec()),
        ];
        for (descr, data) in cases {
            let array = NpyArray::parse(&file(descr, "(1,)", &data), "x.npy").expect(descr);
            assert_eq!((array.values, array.shape), (vec![-2.0], vec![1]), "{descr}");
        }
        let array = NpyArray::parse(&file("<u2", "(1,)", &65_534u16.to_le_bytes()), "x.npy").expect("u2");
        assert_eq!(array.values, [65_534.0]);
    }

    #[test]
    fn two_dimensions_are_samples_by_channels() {
        let array = NpyArray::parse(&file("|u1", "(3, 2)", &[1, 10, 2, 20, 3, 30]), "x.npy").expect("an array");
        let channels = array.channels("x.npy").expect("two channels");
        assert_eq!(channels, [vec![1.0, 2.0, 3.0], vec![10.0, 20.0, 30.0]]);
    }

    #[test]
    fn wrong_sizes_and_types_are_refused_with_a_reason() {
        let cases = [
            (file("<f4", "(2,)", &[0; 4]), "promises 2 values but holds 4 bytes"),
            (file("<f4", "(18446744073709551615, 2)", &[0; 4]), "too many"),
            (file("<c8", "(1,)", &[0; 8]), "type other than"),
            (file("<f4", "()", &[0; 4]), "one to three dimensions"),
            (b"PK\x03\x04".to_vec(), "does not begin like"),
            (b"\x93NUMPY\x01\x00\xff".to_vec(), "cut short"),
        ];
        for (bytes, reason) in cases {
            let error = NpyArray::parse(&bytes, "x.npy").expect_err(reason).to_string();
            assert!(error.contains(reason) && error.contains("x.npy"), "{error}");
        }
    }
}
