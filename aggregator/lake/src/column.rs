//! Plain columns: what crosses the borders of the lake instead of Arrow.
//!
//! Text, lists and bytes lie one behind the other in a single buffer, so that a row costs no allocation of its own.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// UTF-8 text.
    Text,
    /// Whole numbers.
    Int32,
    /// Whole numbers; ids of 64 bits keep their bit pattern.
    Int64,
    /// Numbers.
    Float32,
    /// Lists of numbers.
    Floats,
    /// Bytes.
    Bytes,
}

/// A column's name and kind. Every column may be null, so that columns can be added later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

/// The values of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// UTF-8 text.
    Text(Texts),
    /// Whole numbers.
    Int32(Vec<Option<i32>>),
    /// Whole numbers.
    Int64(Vec<Option<i64>>),
    /// Numbers.
    Float32(Vec<Option<f32>>),
    /// Lists of numbers.
    Floats(Lists),
    /// Bytes.
    Bytes(Blobs),
}

/// Texts one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    data: String,
    ends: Vec<usize>,
    valid: Vec<bool>,
}

/// Lists of numbers one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    data: Vec<f32>,
    ends: Vec<usize>,
}

/// Byte strings one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blobs {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Values {
    /// An empty column of this kind.
    pub fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Text => Self::Text(Texts::default()),
            ColumnKind::Int32 => Self::Int32(Vec::new()),
            ColumnKind::Int64 => Self::Int64(Vec::new()),
            ColumnKind::Float32 => Self::Float32(Vec::new()),
            ColumnKind::Floats => Self::Floats(Lists::default()),
            ColumnKind::Bytes => Self::Bytes(Blobs::default()),
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(texts) => texts.ends.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Floats(lists) => lists.ends.len(),
            Self::Bytes(blobs) => blobs.ends.len(),
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(texts) => texts.data.len() + 9 * texts.ends.len(),
            Self::Int32(values) => 8 * values.len(),
            Self::Int64(values) => 16 * values.len(),
            Self::Float32(values) => 8 * values.len(),
            Self::Floats(lists) => 4 * lists.data.len() + 8 * lists.ends.len(),
            Self::Bytes(blobs) => blobs.data.len() + 8 * blobs.ends.len(),
        }
    }

    /// All values of `from`, appended here. Both are of the same kind.
    pub(crate) fn extend(&mut self, from: &Self) {
        match (self, from) {
            (Self::Text(to), Self::Text(from)) => {
                let start = to.data.len();
                to.data.push_str(&from.data);
                to.ends.extend(from.ends.iter().map(|end| start + end));
                to.valid.extend(&from.valid);
            }
            (Self::Int32(to), Self::Int32(from)) => to.extend(from),
            (Self::Int64(to), Self::Int64(from)) => to.extend(from),
            (Self::Float32(to), Self::Float32(from)) => to.extend(from),
            (Self::Floats(to), Self::Floats(from)) => {
                let start = to.data.len();
                to.data.extend(&from.data);
                to.ends.extend(from.ends.iter().map(|end| start + end));
            }
            (Self::Bytes(to), Self::Bytes(from)) => {
                let start = to.data.len();
                to.data.extend(&from.data);
                to.ends.extend(from.ends.iter().map(|end| start + end));
            }
            (to, from) => debug_assert!(false, "columns of different kinds: {to:?} and {from:?}"),
        }
    }

    /// Value `row` of `from`, appended here. Both are of the same kind.
    pub(crate) fn copy(&mut self, from: &Self, row: usize) {
        match (self, from) {
            (Self::Text(to), Self::Text(from)) => to.push(from.get(row)),
            (Self::Int32(to), Self::Int32(from)) => to.push(from[row]),
            (Self::Int64(to), Self::Int64(from)) => to.push(from[row]),
            (Self::Float32(to), Self::Float32(from)) => to.push(from[row]),
            (Self::Floats(to), Self::Floats(from)) => to.push(from.get(row)),
            (Self::Bytes(to), Self::Bytes(from)) => to.push(from.get(row)),
            (to, from) => debug_assert!(false, "columns of different kinds: {to:?} and {from:?}"),
        }
    }

    /// Does nothing stand in this row? A list and bytes are never null.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(texts) => texts.get(row).is_none(),
            Self::Int32(values) => values[row].is_none(),
            Self::Int64(values) => values[row].is_none(),
            Self::Float32(values) => values[row].is_none(),
            Self::Floats(_) | Self::Bytes(_) => false,
        }
    }

    /// Is the value of this row the first one of `other`, to the bit?
    pub(crate) fn is_bit_for_bit(&self, row: usize, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(held), Self::Text(other)) => held.get(row) == other.get(0),
            (Self::Int32(held), Self::Int32(other)) => held[row] == other[0],
            (Self::Int64(held), Self::Int64(other)) => held[row] == other[0],
            (Self::Float32(held), Self::Float32(other)) => held[row].map(f32::to_bits) == other[0].map(f32::to_bits),
            (Self::Floats(held), Self::Floats(other)) => {
                let bits = |list: &[f32]| list.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                bits(held.get(row)) == bits(other.get(0))
            }
            (Self::Bytes(held), Self::Bytes(other)) => held.get(row) == other.get(0),
            (_, _) => false,
        }
    }

    /// Appends what stands for "nothing".
    pub(crate) fn push_null(&mut self) {
        match self {
            Self::Text(texts) => texts.push(None),
            Self::Int32(values) => values.push(None),
            Self::Int64(values) => values.push(None),
            Self::Float32(values) => values.push(None),
            Self::Floats(lists) => lists.push(&[]),
            Self::Bytes(blobs) => blobs.push(&[]),
        }
    }
}

impl Texts {
    /// Appends a text or null.
    pub fn push(&mut self, text: Option<&str>) {
        self.data.push_str(text.unwrap_or_default());
        self.ends.push(self.data.len());
        self.valid.push(text.is_some());
    }

    /// Text `row`, if it is not null.
    pub fn get(&self, row: usize) -> Option<&str> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        self.valid[row].then(|| &self.data[start..self.ends[row]])
    }

    /// Every text.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.ends.len()).map(|row| self.get(row))
    }
}

impl Lists {
    /// Appends a list.
    pub fn push(&mut self, list: &[f32]) {
        self.data.extend_from_slice(list);
        self.ends.push(self.data.len());
    }

    /// List `row`.
    pub fn get(&self, row: usize) -> &[f32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.data[start..self.ends[row]]
    }

    /// Every list.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.ends.len()).map(|row| self.get(row))
    }

    /// All numbers one behind the other, and where each list ends.
    pub fn parts(&self) -> (&[f32], &[usize]) {
        (&self.data, &self.ends)
    }
}

impl Blobs {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
    }

    /// Bytes of `row`.
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.data[start..self.ends[row]]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|row| self.get(row))
    }
}
