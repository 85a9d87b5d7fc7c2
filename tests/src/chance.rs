//! Seeded chance, and texts that are nearly right: for tests that nothing which a device or a person writes makes a reader panic.

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `most`; 0 where that is 0.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }

    /// A place in a list of this length.
    pub fn place(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

/// Has thousands of texts read that are made from the pieces of a good one: some left out, some in the place of others, some replaced by something
/// odd. Where every text is refused, or none is, nothing is shown: that fails too.
pub fn misspell(pieces: &[&str], odd: &[&str], is_good: impl Fn(&str) -> bool) {
    let (mut chance, mut good) = (Chance::new(1), 0);
    for _ in 0..TEXTS {
        let mut text = pieces.to_vec();
        for _ in 0..=chance.below(3) {
            let (at, from) = (chance.place(text.len()), chance.place(pieces.len()));
            match chance.below(3) {
                0 => drop(text.remove(at)),
                1 => text[at] = odd[chance.place(odd.len())],
                _ => text[at] = pieces[from],
            }
        }
        good += u32::from(is_good(&text.concat()));
    }
    assert!(good > 10 && good < TEXTS - 10, "{good} of {TEXTS} were good: the changes are too weak or too strong");
}

const TEXTS: u32 = 3_000;
