//! Consistent overhead byte stuffing: frames on a serial line, delimited by zero bytes.
//!
//! A reader that starts in the middle or meets garbage is in step again after the next zero.

/// The longest encoded form of `len` bytes, delimiter included.
pub const fn max_encoded(len: usize) -> usize {
    len + len / 254 + 2
}

/// Encodes `data` with a closing zero into `out`; `None` when it does not fit.
pub fn encode<'o>(data: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let mut code_at = 0;
    let mut code = 1u8;
    let mut used = 1;
    for &byte in data {
        if byte != 0 {
            *out.get_mut(used)? = byte;
            used += 1;
            code += 1;
        }
        if byte == 0 || code == u8::MAX {
            *out.get_mut(code_at)? = code;
            code_at = used;
            used += 1;
            code = 1;
        }
    }
    *out.get_mut(code_at)? = code;
    *out.get_mut(used)? = 0;
    out.get(..=used)
}

/// Encodes `data` with a closing zero piece by piece, for a sender without room for the whole; its first error ends it.
pub fn encode_each<E>(data: &[u8], send: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut block = [0; 255];
    let mut len = 1;
    for &byte in data {
        if byte != 0 {
            block[len] = byte;
            len += 1;
        }
        if byte == 0 || len == block.len() {
            block[0] = len as u8;
            send(&block[..len])?;
            len = 1;
        }
    }
    block[0] = len as u8;
    send(&block[..len])?;
    send(&[0])
}

/// Decodes in place what stood before a zero; `None` when it is damaged.
pub fn decode(data: &mut [u8]) -> Option<&[u8]> {
    let mut read = 0;
    let mut write = 0;
    while read < data.len() {
        let code = usize::from(data[read]);
        if code == 0 || read + code > data.len() {
            return None;
        }
        for i in 1..code {
            let byte = data[read + i];
            if byte == 0 {
                return None;
            }
            data[write] = byte;
            write += 1;
        }
        read += code;
        if code != usize::from(u8::MAX) && read < data.len() {
            data[write] = 0;
            write += 1;
        }
    }
    Some(&data[..write])
}
