//! Prefixes on the first frame, each with the number from which it counts: what covers a topic, and what becomes of a
//! stored set when another one is asked for. Used by the registry and by whoever filters records.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The set becomes `set`: a prefix that stays keeps the number from which it counts, a new one counts from `from`. What
/// was kept and is still wanted stays wanted: one that narrows a former prefix counts from where that did, and a former
/// prefix that a new one widens stays beside it.
pub(crate) fn replace<'a>(
    before: &BTreeMap<Vec<u8>, u64>,
    set: impl Iterator<Item = &'a [u8]>,
    from: u64,
) -> BTreeMap<Vec<u8>, u64> {
    let mut after = BTreeMap::new();
    for prefix in set {
        let covered = covering(before, prefix).map(|(_, from)| from).min();
        after.insert(prefix.to_vec(), covered.map_or(from, |former| former.min(from)));
    }
    let earlier = |(prefix, since): &(&Vec<u8>, &u64)| {
        !after.contains_key(*prefix) && covering(&after, prefix).any(|(_, from)| from > **since)
    };
    let kept: Vec<(Vec<u8>, u64)> =
        before.iter().filter(earlier).map(|(prefix, since)| (prefix.clone(), *since)).collect();
    after.extend(kept);
    after
}

/// All that `topic` starts with, from the longest to the shortest, and from where each counts: what sorts last at or
/// before `topic` is one, or shares with it all that a shorter one could be.
pub(crate) fn covering<'a>(
    prefixes: &'a BTreeMap<Vec<u8>, u64>,
    topic: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], u64)> + use<'a> {
    let mut rest = Some(topic);
    std::iter::from_fn(move || {
        while let Some(part) = rest {
            let range = prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Included(part)));
            let (prefix, &from) = range.last()?;
            let common = prefix.iter().zip(part).take_while(|(one, two)| one == two).count();
            if common == prefix.len() {
                rest = common.checked_sub(1).and_then(|shorter| topic.get(..shorter));
                return Some((prefix.as_slice(), from));
            }
            rest = topic.get(..common);
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[(&str, u64)]) -> BTreeMap<Vec<u8>, u64> {
        prefixes.iter().map(|(prefix, from)| (prefix.as_bytes().to_vec(), *from)).collect()
    }

    #[test]
    fn what_was_kept_and_is_still_wanted_stays() {
        let before = set(&[("news.", 5), ("x", 7)]);
        let after = |asked: &[&str]| replace(&before, asked.iter().map(|prefix| prefix.as_bytes()), 20);
        assert_eq!(after(&["news."]), set(&[("news.", 5)]), "the same");
        assert_eq!(after(&["news.ch"]), set(&[("news.ch", 5)]), "narrower");
        assert_eq!(after(&["new"]), set(&[("new", 20), ("news.", 5)]), "wider");
        assert_eq!(after(&[""]), set(&[("", 20), ("news.", 5), ("x", 7)]), "everything");
        assert_eq!(after(&["y"]), set(&[("y", 20)]), "another");
    }
}
