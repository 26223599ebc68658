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
    #[cfg(test)]
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let new = !self.contains(number);
        self.insert_range(number, number);
        new
    }

    /// Both included; nothing if `from > to`.
    pub(crate) fn insert_range(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        // What ends below `from` with a hole between stays before it.
        let before = |&(_, end): &(u64, u64)| end.checked_add(1).is_some_and(|next| next < from);
        let start = match self.ranges.back() {
            None => 0,
            Some(last) if before(last) => self.ranges.len(),
            Some(&(begin, _)) if begin <= from => self.ranges.len() - 1,
            Some(_) => self.ranges.partition_point(before),
        };
        let touching = |&&(begin, _): &&(u64, u64)| to.checked_add(1).is_none_or(|next| begin <= next);
        let count = self.ranges.iter().skip(start).take_while(touching).count();
        match count {
            0 => self.ranges.insert(start, (from, to)),
            1 => {
                let range = &mut self.ranges[start];
                *range = (range.0.min(from), range.1.max(to));
            }
            _ => {
                let last = self.ranges[start + count - 1];
                self.ranges[start] = (self.ranges[start].0.min(from), last.1.max(to));
                self.ranges.drain(start + 1..start + count);
            }
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// The range that holds `number`.
    pub(crate) fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        if self.ranges.back().is_none_or(|&(_, end)| end < number) {
            return None;
        }
        let at = self.ranges.partition_point(|&(_, end)| end < number);
        self.ranges.get(at).copied().filter(|&(begin, _)| begin <= number)
    }

    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    /// Everything up to `number`, itself included, goes.
    pub(crate) fn remove_up_to(&mut self, number: u64) {
        while let Some(front) = self.ranges.front_mut() {
            if front.0 > number {
                return;
            }
            if front.1 > number {
                front.0 = number + 1;
                return;
            }
            self.ranges.pop_front();
        }
    }

    /// The lowest range goes.
    pub(crate) fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.ranges.pop_front()
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

/// How far a reader is done: everything up to a cursor, and ranges above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    cursor: u64,
    above: Ranges,
}

impl Progress {
    pub(crate) fn new(cursor: u64, above: Ranges) -> Progress {
        let mut progress = Progress { cursor: 0, above };
        progress.finish_up_to(cursor);
        progress
    }

    /// Everything up to here is done.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What is done above the cursor; never starts right behind it.
    pub(crate) fn above(&self) -> &Ranges {
        &self.above
    }

    pub(crate) fn is_done(&self, number: u64) -> bool {
        number <= self.cursor || self.above.contains(number)
    }

    pub(crate) fn finish(&mut self, number: u64) {
        self.finish_range(number, number);
    }

    /// Both included; nothing if `from > to`.
    pub(crate) fn finish_range(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        if from <= self.cursor.saturating_add(1) {
            self.finish_up_to(to);
        } else {
            self.above.insert_range(from, to);
        }
    }

    pub(crate) fn finish_up_to(&mut self, number: u64) {
        self.cursor = self.cursor.max(number);
        if self.above.is_empty() {
            return;
        }
        self.above.remove_up_to(self.cursor);
        if let Some((begin, end)) = self.above.first()
            && begin - 1 == self.cursor
        {
            self.cursor = end;
            self.above.pop_first();
        }
    }

    /// Forgets the lowest ranges beyond so many: their records may come again.
    pub(crate) fn forget_beyond(&mut self, ranges: usize) {
        while self.above.len() > ranges {
            self.above.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;
    use std::collections::BTreeSet;

    fn is_sound(ranges: &Ranges) -> bool {
        ranges.iter().all(|(from, to)| from <= to)
            && ranges.iter().zip(ranges.iter().skip(1)).all(|(one, two)| one.1 + 1 < two.0)
    }

    #[test]
    fn a_set_of_ranges_is_a_set_of_numbers() {
        fn property(steps: Vec<(u8, u8, u8)>) -> bool {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for (kind, a, b) in steps {
                let (a, b) = (u64::from(a), u64::from(b % 24));
                match kind % 4 {
                    0 => {
                        ranges.remove_up_to(a / 2);
                        model.retain(|&number| number > a / 2);
                    }
                    1 => assert_eq!(ranges.insert(a), model.insert(a)),
                    _ => {
                        ranges.insert_range(a, a + b);
                        model.extend(a..=a + b);
                    }
                }
                assert!(is_sound(&ranges), "{ranges:?}");
                assert!((0..300).all(|number| ranges.contains(number) == model.contains(&number)), "{ranges:?}");
            }
            let all: Vec<u64> = ranges.iter().flat_map(|(from, to)| from..=to).collect();
            Ranges::from(ranges.to_vec()) == ranges && all == model.into_iter().collect::<Vec<_>>()
        }
        QuickCheck::new().tests(300).quickcheck(property as fn(Vec<(u8, u8, u8)>) -> bool);
    }

    #[test]
    fn the_ends_of_the_numbers_are_numbers_like_others() {
        let mut ranges = Ranges::new();
        ranges.insert_range(u64::MAX, u64::MAX);
        ranges.insert_range(0, 0);
        ranges.insert_range(5, 4);
        assert_eq!(ranges.to_vec(), [(0, 0), (u64::MAX, u64::MAX)]);
        ranges.insert_range(1, u64::MAX - 1);
        assert_eq!(ranges.to_vec(), [(0, u64::MAX)]);
        ranges.remove_up_to(u64::MAX);
        assert!(ranges.is_empty());
        let mut progress = Progress::new(0, Ranges::new());
        progress.finish_up_to(u64::MAX);
        progress.finish(u64::MAX);
        assert_eq!((progress.cursor(), progress.above().len()), (u64::MAX, 0));
    }

    #[test]
    fn lists_from_a_file_are_put_in_order() {
        let ranges = Ranges::from(vec![(9, 12), (3, 4), (10, 20), (7, 5), (5, 5)]);
        assert_eq!(ranges.to_vec(), [(3, 5), (9, 20)]);
        assert_eq!(Progress::new(2, ranges).cursor(), 5);
    }

    #[test]
    fn progress_is_a_set_with_everything_below_its_cursor() {
        fn property(start: u8, steps: Vec<(u8, u8, u8)>) -> bool {
            let mut model: BTreeSet<u64> = (0..=u64::from(start)).collect();
            let mut progress = Progress::new(start.into(), Ranges::new());
            for (kind, a, b) in steps {
                let (a, b) = (u64::from(a), u64::from(b % 16));
                if kind % 8 == 0 {
                    progress.finish_up_to(a / 4);
                    model.extend(0..=a / 4);
                } else {
                    progress.finish_range(a, a + b);
                    model.extend(a..=a + b);
                }
                let cursor = progress.cursor();
                assert!(!progress.is_done(cursor + 1) && is_sound(progress.above()), "{progress:?}");
                assert!((0..300).all(|number| progress.is_done(number) == model.contains(&number)), "{progress:?}");
            }
            true
        }
        QuickCheck::new().tests(300).quickcheck(property as fn(u8, Vec<(u8, u8, u8)>) -> bool);
    }
}
