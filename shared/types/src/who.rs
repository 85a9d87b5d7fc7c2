//! The person who did something, as records and commands name them.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest [`Who`] in bytes.
pub const MAX_WHO: usize = 64;

/// A person's name on one line: 1 to [`MAX_WHO`] bytes, no control characters, no space at either end.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Who(heapless::String<MAX_WHO>);

impl Who {
    /// A name without the spaces around it; `None` when nothing is left, when it is too long or when it has control characters.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let plain = !text.is_empty() && !text.contains(char::is_control);
        heapless::String::try_from(text).ok().filter(|_| plain).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = heapless::String::<MAX_WHO>::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("not a person's name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_says_something() {
        assert_eq!(Who::new(" r. meier ").expect("a good name").as_str(), "r. meier");
        assert!(Who::new("ü".repeat(32).as_str()).is_some());
        for bad in ["", "  ", "two\nlines", "ü".repeat(33).as_str()] {
            assert_eq!(Who::new(bad), None, "{bad:?}");
        }
    }
}
