//! How much one frame takes from the doors.

use bytes::Bytes;
use kaos_kernel::ids::PeerId;
use kaos_kernel::input::Input;

use crate::bridge::{FRAME_INPUTS_MAX, FRAME_WEIGHT_MAX, weight};

/// Where inputs go, and how much more of them a frame takes.
pub(crate) struct InputBudget<'a> {
    inputs: &'a mut Vec<Input>,
    count: usize,
    weight: usize,
}

impl<'a> InputBudget<'a> {
    /// A whole budget, of which nothing is spent.
    pub(crate) fn new(inputs: &'a mut Vec<Input>) -> Self {
        InputBudget { inputs, count: 0, weight: 0 }
    }

    pub(crate) fn push(&mut self, input: Input) {
        self.count += 1;
        self.inputs.push(input);
    }

    /// Pushes data, which also costs its weight.
    pub(crate) fn push_data(&mut self, peer: PeerId, bytes: Bytes) {
        self.weight += weight(&bytes);
        self.push(Input::Data { peer, bytes });
    }

    /// Whether the frame takes more.
    pub(crate) fn room(&self) -> bool {
        self.count < FRAME_INPUTS_MAX && self.weight < FRAME_WEIGHT_MAX
    }
}
