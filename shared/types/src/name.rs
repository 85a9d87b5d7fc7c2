//! Names and addresses: where a measurement belongs, from the first day and in every table.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest name in bytes.
pub const MAX_NAME: usize = 32;

/// A short name: 1 to [`MAX_NAME`] of `a-z 0-9 - _ .`, so that it is safe in a topic, a path, a URL and SQL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(heapless::String<MAX_NAME>);

impl Name {
    /// Parses a name; says what is wrong with it otherwise.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')) {
            return Err(NameError::Character);
        }
        heapless::String::try_from(text).map(Self).map_err(|_| NameError::TooLong)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = heapless::String::<MAX_NAME>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No character at all.
    Empty,
    /// More than [`MAX_NAME`] bytes.
    TooLong,
    /// Something other than `a-z 0-9 - _ .`.
    Character,
    /// An address that is not `tenant/site/asset/point`.
    Parts,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name needs at least one character",
            Self::TooLong => "a name has at most 32 characters",
            Self::Character => "a name is made of a-z, 0-9, '-', '_' and '.'",
            Self::Parts => "an address is tenant/site/asset/point",
        })
    }
}

impl core::error::Error for NameError {}

/// One node that keeps its own journal: an agent or a microcontroller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub Name);

impl DeviceId {
    /// Parses a device id under the rules of [`Name`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        Name::new(text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of a measuring point: `tenant/site/asset/point`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Point {
    /// Who owns the data.
    pub tenant: Name,
    /// Plant or location.
    pub site: Name,
    /// The machine.
    pub asset: Name,
    /// Where on the machine, for example `drive-end`.
    pub point: Name,
}

impl Point {
    /// Parses `tenant/site/asset/point`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(NameError::Parts).and_then(Name::new);
        let point = Self { tenant: next()?, site: next()?, asset: next()?, point: next()? };
        if parts.next().is_some() { Err(NameError::Parts) } else { Ok(point) }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.tenant, self.site, self.asset, self.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_address_survives_the_way_to_text_and_back() {
        let point = Point::parse("default/north/pump-1/drive-end").expect("a good address");
        assert_eq!(Point::parse(&point.to_string()), Ok(point));
    }

    #[test]
    fn names_stand_in_the_order_of_their_texts() {
        let all = ["-", "-a", "0", "a", "a-", "a.", "a0", "aa", "ab", "b", "z"];
        for pair in all.windows(2) {
            let names = [Name::new(pair[0]).expect("a name"), Name::new(pair[1]).expect("a name")];
            assert_eq!(names[0].cmp(&names[1]), pair[0].cmp(pair[1]), "{pair:?}");
            assert!(names[0] < names[1], "{pair:?}");
        }
    }

    #[test]
    fn a_name_that_could_break_a_topic_is_refused() {
        for bad in ["", "a/b", "a+b", "#", "Pump", "p ump", "a\0"] {
            assert!(Name::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Name::new(&"x".repeat(33)), Err(NameError::TooLong));
        assert_eq!(Point::parse("a/b/c"), Err(NameError::Parts));
        assert_eq!(Point::parse("a/b/c/d/e"), Err(NameError::Parts));
    }
}
