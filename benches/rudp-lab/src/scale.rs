//! How much a run measures: seeds, stacks, and whether it is a smoke run.

use std::ops::Range;

use crate::stack::Stack;

/// How much is measured.
pub(crate) struct Scale {
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) only: String,
    pub(crate) quick: bool,
}

impl Scale {
    /// Whether a stack is to be measured.
    pub(crate) fn wants(&self, stack: &dyn Stack) -> bool {
        stack.name().contains(&self.only)
    }

    /// The seeds of the network.
    pub(crate) fn seeds(&self) -> Range<u64> {
        self.seed..self.seed + if self.quick { 1 } else { self.seeds.max(1) }
    }
}
