//! Memory for a monitor where there is a heap: gateways, simulators, tests.

use alloc::{vec, vec::Vec};

use kilter_types::Micros;

use crate::Memory;

/// Lends `Vec`s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

impl Memory for Heap {
    type Floats = Vec<f32>;
    type Times = Vec<Micros>;
    type Model = Vec<u8>;

    fn floats(&mut self, len: usize) -> Option<Vec<f32>> {
        Some(vec![0.0; len])
    }

    fn times(&mut self, len: usize) -> Option<Vec<Micros>> {
        Some(vec![Micros(0); len])
    }
}
