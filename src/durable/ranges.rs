//! A set of record numbers as ranges, and how far a reader of the log is done.

use std::collections::VecDeque;

/// Numbers as disjoint inclusive ranges, never adjacent, ascending. Quick at both ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: VecDeque<(u64, u64)>,
}

impl Ranges {
    pub(crate) fn new() -> Ranges {
        Ranges::default()
    }

    /// Whether it was not there before.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let new = !self.contains(number);
        self.insert_range(number, number);
        new
    }

    /// Both included; nothing if `from > to`.
    pub(crate) fn insert_range(&mut self, from: u64, to: u64) {
        let _ = (from, to);
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// The range that holds `number`.
    pub(crate) fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let _ = number;
        None
    }

    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        self.ranges.back().copied()
    }

    /// Everything up to `number`, itself included, goes.
    pub(crate) fn remove_up_to(&mut self, number: u64) {
        let _ = number;
    }

    /// How many ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().copied()
    }

    pub(crate) fn to_vec(&self) -> Vec<(u64, u64)> {
        self.iter().collect()
    }
}

/// Takes any order and overlap; a range with `from > to` is left out.
impl From<Vec<(u64, u64)>> for Ranges {
    fn from(list: Vec<(u64, u64)>) -> Ranges {
        let mut ranges = Ranges::new();
        list.into_iter().for_each(|(from, to)| ranges.insert_range(from, to));
        ranges
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Vec<(u64, u64)> {
        ranges.ranges.into()
    }
}
