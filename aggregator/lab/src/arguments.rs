//! Amounts as people write them: bytes with k or M, times with a unit.

/// Bytes, as in 64k or 2M (of 1024).
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (number, times) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    let number: usize = number.parse().map_err(|_| format!("{text} is no number of bytes, as in 64k"))?;
    number.checked_mul(times).ok_or_else(|| format!("{text} is too much"))
}

/// Microseconds, as in 500us, 1ms or 1s.
pub(crate) fn micros(text: &str) -> Result<u64, String> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found = units.iter().find_map(|(unit, times)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, times)));
    match found {
        Some((number, times)) if number > 0.0 && number * times < 1e12 => Ok((number * times).ceil() as u64),
        _ => Err(format!("{text} is no time, as in 1ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!((bytes("64k"), bytes("2M"), bytes("100")), (Ok(65_536), Ok(2 << 20), Ok(100)));
        assert_eq!((micros("1ms"), micros("500us"), micros("0.5s")), (Ok(1_000), Ok(500), Ok(500_000)));
        for wrong in ["", "k", "-1k", "99999999999999999999M"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1", "ms", "-1ms", "0s", "infs", "nans"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
    }
}
