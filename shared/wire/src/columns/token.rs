//! Cuts a value's postcard bytes into literals and numbers, and puts them together again.
//!
//! The serializer here writes nothing that postcard would not: what it calls a literal are the very bytes, and a number is written
//! again as the varint or the four bytes that postcard gives it.

use core::fmt;

use kilter_types::Record;
use serde::ser::{self, Serialize};

/// One operation of a template.
pub(super) enum Op<'a> {
    /// These bytes.
    Literal(&'a [u8]),
    /// The next number as a varint.
    Unsigned,
    /// The next number as a zigzag varint.
    Signed,
    /// The next number's low four bytes.
    Float,
}

/// The operations of a template; `None` where it is damaged, and then no more.
pub(super) struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Ops<'a> {
    pub(super) fn new(template: &'a [u8]) -> Self {
        Self { rest: template }
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Option<Op<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (op, rest) = self.rest.split_first()?;
        self.rest = rest;
        let op = match *op {
            LITERAL => {
                let cut = rest.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)));
                cut.map(|(literal, rest)| {
                    self.rest = rest;
                    Op::Literal(literal)
                })
            }
            UNSIGNED => Some(Op::Unsigned),
            SIGNED => Some(Op::Signed),
            FLOAT => Some(Op::Float),
            _ => None,
        };
        if op.is_none() {
            self.rest = &[];
        }
        Some(op)
    }
}

/// How many numbers a template has; `None` when it is damaged.
pub(super) fn columns(template: &[u8]) -> Option<usize> {
    let mut columns = 0;
    for op in Ops::new(template) {
        columns += usize::from(!matches!(op?, Op::Literal(_)));
    }
    (columns <= super::MAX_COLUMNS).then_some(columns)
}

/// Cuts a record behind its version byte: lengths of the template and of the numbers. `None` when the room is too small.
pub(super) fn cut(version: u8, record: &Record, template: &mut [u8], numbers: &mut [u64]) -> Option<(usize, usize)> {
    let mut cutter = Cutter { template, len: 0, literal: None, numbers, count: 0 };
    cutter.literal(&[version]).ok()?;
    record.serialize(&mut cutter).ok()?;
    Some((cutter.len, cutter.count))
}

/// Puts a template and its numbers together; how many bytes. `None` when it is damaged or the room is too small.
pub(super) fn fill(template: &[u8], number: impl Fn(usize) -> u64, out: &mut [u8]) -> Option<usize> {
    let mut out = super::Writer::new(out);
    let mut column = 0;
    for op in Ops::new(template) {
        match op? {
            Op::Literal(bytes) => {
                out.bytes(bytes)?;
                continue;
            }
            Op::Unsigned => out.varint(number(column))?,
            Op::Signed => {
                let value = number(column);
                out.varint((value << 1) ^ (value as i64 >> 63) as u64)?;
            }
            Op::Float => out.bytes(&(number(column) as u32).to_le_bytes())?,
        }
        column += 1;
    }
    Some(out.finish().len())
}

struct Cutter<'a> {
    template: &'a mut [u8],
    len: usize,
    /// Where the length of the literal under way stands.
    literal: Option<usize>,
    numbers: &'a mut [u64],
    count: usize,
}

impl Cutter<'_> {
    fn put(&mut self, byte: u8) -> Result<(), NoRoom> {
        *self.template.get_mut(self.len).ok_or(NoRoom)? = byte;
        self.len += 1;
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        for byte in bytes {
            let open = self.literal.filter(|at| self.template[*at] < u8::MAX);
            let at = match open {
                Some(at) => at,
                None => {
                    self.put(LITERAL)?;
                    self.put(0)?;
                    self.len - 1
                }
            };
            self.put(*byte)?;
            self.template[at] += 1;
            self.literal = Some(at);
        }
        Ok(())
    }

    fn literal_varint(&mut self, mut value: u64) -> Result<(), NoRoom> {
        while value >= 0x80 {
            self.literal(&[value as u8 | 0x80])?;
            value >>= 7;
        }
        self.literal(&[value as u8])
    }

    fn number(&mut self, op: u8, value: u64) -> Result<(), NoRoom> {
        self.literal = None;
        self.put(op)?;
        *self.numbers.get_mut(self.count).ok_or(NoRoom)? = value;
        self.count += 1;
        Ok(())
    }
}

/// Template or numbers are longer than there is room for, or something comes that no record holds.
#[derive(Debug)]
struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for a template")
    }
}

impl core::error::Error for NoRoom {}

impl ser::Error for NoRoom {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl ser::Serializer for &mut Cutter<'_> {
    type Ok = ();
    type Error = NoRoom;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, v: bool) -> Result<(), NoRoom> {
        self.literal(&[u8::from(v)])
    }

    fn serialize_i8(self, v: i8) -> Result<(), NoRoom> {
        self.literal(&v.to_le_bytes())
    }

    fn serialize_i16(self, v: i16) -> Result<(), NoRoom> {
        self.number(SIGNED, i64::from(v) as u64)
    }

    fn serialize_i32(self, v: i32) -> Result<(), NoRoom> {
        self.number(SIGNED, i64::from(v) as u64)
    }

    fn serialize_i64(self, v: i64) -> Result<(), NoRoom> {
        self.number(SIGNED, v as u64)
    }

    fn serialize_u8(self, v: u8) -> Result<(), NoRoom> {
        self.literal(&[v])
    }

    fn serialize_u16(self, v: u16) -> Result<(), NoRoom> {
        self.number(UNSIGNED, v.into())
    }

    fn serialize_u32(self, v: u32) -> Result<(), NoRoom> {
        self.number(UNSIGNED, v.into())
    }

    fn serialize_u64(self, v: u64) -> Result<(), NoRoom> {
        self.number(UNSIGNED, v)
    }

    fn serialize_f32(self, v: f32) -> Result<(), NoRoom> {
        self.number(FLOAT, v.to_bits().into())
    }

    fn serialize_f64(self, v: f64) -> Result<(), NoRoom> {
        self.literal(&v.to_le_bytes())
    }

    fn serialize_char(self, v: char) -> Result<(), NoRoom> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, v: &str) -> Result<(), NoRoom> {
        self.serialize_bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), NoRoom> {
        self.literal_varint(v.len() as u64)?;
        self.literal(v)
    }

    fn serialize_none(self) -> Result<(), NoRoom> {
        self.literal(&[0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NoRoom> {
        self.literal(&[1])?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NoRoom> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NoRoom> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), NoRoom> {
        self.literal_varint(index.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NoRoom> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NoRoom> {
        self.literal_varint(index.into())?;
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, NoRoom> {
        self.literal_varint(len.ok_or(NoRoom)? as u64)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NoRoom> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NoRoom> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, NoRoom> {
        self.literal_varint(index.into())?;
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, NoRoom> {
        self.serialize_seq(len)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NoRoom> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, NoRoom> {
        self.literal_varint(index.into())?;
        Ok(self)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
}

/// Everything compound is its parts, one behind the other.
macro_rules! parts {
    ($($compound:ident :: $part:ident ( $($key:ty),* )),* $(,)?) => {$(
        impl ser::$compound for &mut Cutter<'_> {
            type Ok = ();
            type Error = NoRoom;

            fn $part<T: Serialize + ?Sized>(&mut self, $(_: $key,)* value: &T) -> Result<(), NoRoom> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), NoRoom> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(&'static str),
    SerializeStructVariant::serialize_field(&'static str),
}

impl ser::SerializeMap for &mut Cutter<'_> {
    type Ok = ();
    type Error = NoRoom;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoRoom> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoRoom> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NoRoom> {
        Ok(())
    }
}

const LITERAL: u8 = 0;
const UNSIGNED: u8 = 1;
const SIGNED: u8 = 2;
const FLOAT: u8 = 3;
