//! What can be told of a packet before the codec sees it: its kind, its length, and how many of its bytes are properties.

use super::reason::Reason;

/// The fixed header of the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Packet type and flags.
    pub(crate) first_byte: u8,
    /// The whole packet, header included.
    pub(crate) total_bytes: usize,
}

impl Header {
    /// Reads the header if all of it is there.
    pub(crate) fn peek(input: &[u8]) -> Result<Option<Self>, Reason> {
        let Some((&first_byte, lengths)) = input.split_first() else {
            return Ok(None);
        };
        let length = length(lengths)?;
        Ok(length.map(|(remaining, bytes)| Self { first_byte, total_bytes: 1 + bytes + remaining }))
    }

    /// Whether the packet is a PUBLISH.
    pub(crate) fn is_publish(self) -> bool {
        self.first_byte >> 4 == 3
    }

    /// Whether the packet is a PUBLISH that gets no acknowledgement.
    pub(crate) fn is_unacknowledged_publish(self) -> bool {
        self.is_publish() && self.first_byte & 0b0110 == 0
    }

    /// Whether the packet is a CONNECT.
    pub(crate) fn is_connect(self) -> bool {
        self.first_byte == 0x10
    }
}

/// How many bytes of properties a PUBLISH of MQTT 5 claims to have; `None` of any other packet, and of one that is cut short, which the
/// codec tells.
pub(crate) fn property_bytes(packet: &[u8]) -> Option<usize> {
    let header = Header::peek(packet).ok()?.filter(|header| header.is_publish())?;
    let (_, length_bytes) = length(packet.get(1..)?).ok()??;
    let body = packet.get(1 + length_bytes..)?;
    let topic_bytes = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let id_bytes = if header.is_unacknowledged_publish() { 0 } else { 2 };
    length(body.get(2 + topic_bytes + id_bytes..)?).ok()?.map(|(properties, _)| properties)
}

/// A number of up to four bytes with seven bits each, and how many bytes it takes; `None` while not all of it is there.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Reason> {
    let mut value = 0usize;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(Reason::MALFORMED_PACKET) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cut_only_when_all_of_it_is_there() {
        assert_eq!(Header::peek(&[]), Ok(None));
        assert_eq!(Header::peek(&[0x30]), Ok(None));
        assert_eq!(Header::peek(&[0x30, 0x80, 0x80]), Ok(None));
        assert_eq!(Header::peek(&[0x32, 0x80, 0x01, 0xff]), Ok(Some(Header { first_byte: 0x32, total_bytes: 131 })));
        assert_eq!(Header::peek(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Reason::MALFORMED_PACKET));
    }

    #[test]
    fn the_properties_of_a_publish_are_measured_behind_topic_and_packet_id() {
        assert_eq!(property_bytes(&[0x32, 8, 0, 1, b'a', 0, 7, 2, 1, 1]), Some(2));
        assert_eq!(property_bytes(&[0x30, 6, 0, 1, b'a', 2, 1, 1]), Some(2), "without a packet id");
        assert_eq!(property_bytes(&[0x32, 7, 0, 1, b'a', 0, 7, 0x80, 0x20]), Some(4096), "what it claims");
        assert_eq!(property_bytes(&[0x32, 4, 0, 9, b'a', 0]), None, "cut within the topic");
        assert_eq!(property_bytes(&[0xc0, 0]), None, "no PUBLISH");
    }
}
