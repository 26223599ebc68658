//! The prefixes of a name, each with the number from which it counts.

use std::collections::BTreeMap;

use crate::store::prefixes::{self, covering};

/// A set of prefixes on the first frame. A set, not counted: as in every PUB, the second SUBSCRIBE of a connection to
/// the same prefix changes nothing and one CANCEL ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    prefixes: BTreeMap<Vec<u8>, u64>,
}

impl Filter {
    pub(crate) fn new(prefixes: Vec<(Vec<u8>, u64)>) -> Filter {
        Filter { prefixes: prefixes.into_iter().collect() }
    }

    /// The set becomes `set`, and nothing that was kept for it and is still wanted is lost: see [`prefixes::replace`].
    /// Whether that changed it.
    pub(crate) fn replace(&mut self, set: &[Vec<u8>], from: u64) -> bool {
        let after = prefixes::replace(&self.prefixes, set.iter().map(Vec::as_slice), from);
        let changed = after != self.prefixes;
        self.prefixes = after;
        changed
    }

    /// Whether it is new.
    pub(crate) fn add(&mut self, prefix: &[u8], from: u64) -> bool {
        if self.prefixes.contains_key(prefix) {
            return false;
        }
        let covered = covering(&self.prefixes, prefix).map(|(_, from)| from).min();
        let from = covered.map_or(from, |known| known.min(from));
        self.prefixes.insert(prefix.to_vec(), from);
        true
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, prefix: &[u8]) -> bool {
        self.prefixes.remove(prefix).is_some()
    }

    /// Whether some prefix of `topic` counts for this number.
    pub(crate) fn matches(&self, topic: &[u8], sequence: u64) -> bool {
        // The usual one: everything.
        if self.prefixes.first_key_value().is_some_and(|(prefix, &from)| prefix.is_empty() && from <= sequence) {
            return true;
        }
        covering(&self.prefixes, topic).any(|(_, from)| from <= sequence)
    }

    /// Whether every topic matches, from some number on.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefixes.first_key_value().is_some_and(|(prefix, _)| prefix.is_empty())
    }

    /// From which number this very prefix counts.
    pub(crate) fn get(&self, prefix: &[u8]) -> Option<u64> {
        self.prefixes.get(prefix).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.prefixes.iter().map(|(prefix, &from)| (prefix.as_slice(), from))
    }

    pub(crate) fn to_vec(&self) -> Vec<(Vec<u8>, u64)> {
        self.iter().map(|(prefix, from)| (prefix.to_vec(), from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    #[test]
    fn a_prefix_counts_from_its_number() {
        let mut filter = Filter::new(vec![(b"a".to_vec(), 5)]);
        assert!(filter.matches(b"abc", 5) && filter.matches(b"a", 9));
        assert!(!filter.matches(b"a", 4) && !filter.matches(b"b", 9) && !filter.matches(b"", 9));
        assert!(filter.add(b"ab", 2) && !filter.add(b"a", 1));
        assert!(filter.matches(b"abc", 2) && !filter.matches(b"ac", 2));
        assert!(filter.remove(b"a") && !filter.remove(b"a"));
        assert!(!filter.matches(b"ac", 9));
        assert!(filter.add(b"", 20) && filter.matches(b"", 20) && !filter.matches(b"x", 19));
    }

    #[test]
    fn a_replaced_set_keeps_what_stays() {
        let mut filter = Filter::new(vec![(b"a".to_vec(), 1), (b"b".to_vec(), 2)]);
        let set = [b"c".to_vec(), b"b".to_vec(), b"c".to_vec(), b"b".to_vec()];
        assert!(filter.replace(&set, 9) && !filter.replace(&set, 10), "the second time nothing changes");
        assert_eq!(filter.to_vec(), [(b"b".to_vec(), 2), (b"c".to_vec(), 9)]);
        assert_eq!(filter.iter().count(), 2);
    }

    #[test]
    fn the_look_up_is_a_comparison_with_every_prefix() {
        fn property(prefixes: Vec<(Vec<bool>, u8)>, topics: Vec<(Vec<bool>, u8)>) -> bool {
            let bytes = |bits: &[bool]| bits.iter().take(8).map(|&bit| u8::from(bit)).collect::<Vec<u8>>();
            let mut filter = Filter::default();
            for (prefix, from) in &prefixes {
                filter.add(&bytes(prefix), u64::from(from % 8));
            }
            topics.iter().all(|(topic, sequence)| {
                let (topic, sequence) = (bytes(topic), u64::from(sequence % 8));
                let plain = filter.iter().any(|(prefix, from)| topic.starts_with(prefix) && sequence >= from);
                filter.matches(&topic, sequence) == plain
            })
        }
        QuickCheck::new().tests(1000).quickcheck(property as fn(Vec<(Vec<bool>, u8)>, Vec<(Vec<bool>, u8)>) -> bool);
    }
}
