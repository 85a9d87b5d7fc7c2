//! `.wav`: PCM of 16, 24 and 32 bits and floats of 32 and 64 bits, any number of channels up to the limit.
//!
//! A `.wav` states its rate but no unit: values are parts of full scale until a declaration says what full scale is.

use crate::error::RecordingError;
use crate::recording::MAX_CHANNELS;

/// The samples of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Wav {
    /// Samples per second and channel.
    pub rate_hz: u32,
    /// Per channel, in parts of full scale (PCM) or as they stand (float).
    pub channels: Vec<Vec<f32>>,
}

impl Wav {
    /// Reads the bytes of one file.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, RecordingError> {
        let wrong = |what: &str| RecordingError::format(file, what);
        if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
            return Err(wrong("does not begin like a .wav file"));
        }
        let (mut format, mut data) = (None, None);
        let mut rest = &bytes[12..];
        while let Some((id, body, next)) = chunk(rest) {
            match id {
                b"fmt " => {
                    format = Some(Format::parse(body).ok_or_else(|| wrong("has a format chunk that is cut short"))?)
                }
                b"data" if data.is_none() => data = Some(body),
                _ => {}
            }
            rest = next;
        }
        let format = format.ok_or_else(|| wrong("has no format chunk"))?;
        let data = data.ok_or_else(|| wrong("has no data chunk"))?;
        let decode: fn(&[u8]) -> f32 = match (format.tag, format.bits) {
            (1, 16) => |b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0,
            (1, 24) => |b| (i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8) as f32 / 8_388_608.0,
            (1, 32) => |b| (f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])) / 2_147_483_648.0) as f32,
            (3, 32) => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            (3, 64) => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            (tag, bits) => {
                let what =
                    format!("holds format {tag} of {bits} bits; PCM of 16, 24, 32 and float of 32, 64 can be read");
                return Err(wrong(&what));
            }
        };
        let width = usize::from(format.channels);
        if width == 0 || width > MAX_CHANNELS || format.rate_hz == 0 {
            return Err(wrong(&format!(
                "states {width} channels at {} Hz; 1 to {MAX_CHANNELS} can be read",
                format.rate_hz
            )));
        }
        let sample_bytes = usize::from(format.bits / 8);
        let mut channels = vec![Vec::with_capacity(data.len() / (sample_bytes * width)); width];
        for frame in data.chunks_exact(sample_bytes * width) {
            for (channel, sample) in channels.iter_mut().zip(frame.chunks_exact(sample_bytes)) {
                channel.push(decode(sample));
            }
        }
        Ok(Self { rate_hz: format.rate_hz, channels })
    }
}

struct Format {
    tag: u16,
    channels: u16,
    rate_hz: u32,
    bits: u16,
}

impl Format {
    fn parse(body: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
        let rate_hz = u32::from_le_bytes(body.get(4..8)?.try_into().ok()?);
        let tag = match short(0)? {
            // Extensible: the real tag opens the sub-format.
            0xFFFE => short(24)?,
            tag => tag,
        };
        Some(Self { tag, channels: short(2)?, rate_hz, bits: short(14)? })
    }
}

/// The next chunk's id and body, and what follows. A last chunk that is cut short counts with what is there.
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (id, rest) = bytes.split_at_checked(4)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = &rest[..length.min(rest.len())];
    let padded = length.saturating_add(length % 2).min(rest.len());
    Some((id, body, &rest[padded..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tag: u16, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut format = Vec::new();
        format.extend(tag.to_le_bytes());
        format.extend(channels.to_le_bytes());
        format.extend(8_000u32.to_le_bytes());
        format.extend(0u32.to_le_bytes());
        format.extend(0u16.to_le_bytes());
        format.extend(bits.to_le_bytes());
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        bytes.extend((format.len() as u32).to_le_bytes());
        bytes.extend(format);
        bytes.extend(b"LIST\x03\x00\x00\x00abc\0data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn pcm_and_float_of_every_width_are_parts_of_full_scale() {
        let cases: [(u16, u16, Vec<u8>); 5] = [
            (1, 16, (-16_384i16).to_le_bytes().to_vec()),
            (1, 24, (-4_194_304i32).to_le_bytes()[..3].to_vec()),
            (1, 32, (-1_073_741_824i32).to_le_bytes().to_vec()),
            (3, 32, (-0.5f32).to_le_bytes().to_vec()),
            (3, 64, (-0.5f64).to_le_bytes().to_vec()),
        ];
        for (tag, bits, data) in cases {
            let wav = Wav::parse(&file(tag, 1, bits, &data), "x.wav").expect("a wav");
            assert_eq!((wav.rate_hz, wav.channels), (8_000, vec![vec![-0.5]]), "{tag} {bits}");
        }
    }

    #[test]
    fn stereo_is_split_and_a_torn_frame_is_left_out() {
        let data: Vec<u8> = [8_192i16, 16_384, 24_576, -32_768, 1].iter().flat_map(|x| x.to_le_bytes()).collect();
        let wav = Wav::parse(&file(1, 2, 16, &data[..9]), "x.wav").expect("a wav");
        assert_eq!(wav.channels, [vec![0.25, 0.75], vec![0.5, -1.0]]);
    }

    #[test]
    fn other_formats_are_refused_with_a_reason() {
        let error = Wav::parse(&file(7, 1, 8, &[0]), "x.wav").expect_err("mu-law").to_string();
        assert!(error.contains("format 7 of 8 bits"), "{error}");
        assert!(Wav::parse(b"RIFF\0\0\0\0WAVE", "x.wav").is_err());
    }
}
