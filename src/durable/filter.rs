//! The prefixes of a name, each with the number from which it counts.

/// A set of prefixes on the first frame. A set, not counted: as in every PUB, the second SUBSCRIBE of a connection to
/// the same prefix changes nothing and one CANCEL ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    prefixes: std::collections::BTreeMap<Vec<u8>, u64>,
}

/// What [`Filter::replace`] changed, for whoever counts prefixes elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) added: Vec<Vec<u8>>,
    pub(crate) removed: Vec<Vec<u8>>,
}

impl Filter {
    pub(crate) fn new(prefixes: Vec<(Vec<u8>, u64)>) -> Filter {
        Filter { prefixes: prefixes.into_iter().collect() }
    }

    /// The set becomes `set`: prefixes that stay keep the number from which they count, new ones count from `from`.
    pub(crate) fn replace(&mut self, set: &[Vec<u8>], from: u64) -> Replaced {
        let _ = (set, from);
        Replaced::default()
    }

    /// Whether it is new.
    pub(crate) fn add(&mut self, prefix: &[u8], from: u64) -> bool {
        let _ = (prefix, from);
        false
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, prefix: &[u8]) -> bool {
        self.prefixes.remove(prefix).is_some()
    }

    /// Whether some prefix of `topic` counts for this number.
    pub(crate) fn matches(&self, topic: &[u8], sequence: u64) -> bool {
        let _ = (topic, sequence);
        false
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.prefixes.iter().map(|(prefix, &from)| (prefix.as_slice(), from))
    }

    pub(crate) fn to_vec(&self) -> Vec<(Vec<u8>, u64)> {
        self.iter().map(|(prefix, from)| (prefix.to_vec(), from)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.prefixes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}
