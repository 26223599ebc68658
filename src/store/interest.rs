//! Which topics anybody wants: [`Interest`], a counted set of prefixes, asked once for each append.
//!
//! A byte trie: a question costs one step for each byte that some prefix shares with the topic. Counted, because
//! several names may want the same. No lock and no names in here. Next: `log`.

/// A set of prefixes, each counted.
#[derive(Debug, Clone)]
pub(crate) struct Interest {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// How often the prefix that ends here was added.
    count: u32,
    /// Ascending.
    children: Vec<(u8, u32)>,
}

const ROOT: usize = 0;

impl Default for Interest {
    fn default() -> Interest {
        Interest { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Interest {
    /// Adds a prefix once more.
    pub(crate) fn add(&mut self, prefix: &[u8]) {
        let mut at = ROOT;
        for &byte in prefix {
            at = self.child(at, byte).unwrap_or_else(|| self.grow(at, byte));
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.count = node.count.saturating_add(1);
        }
    }

    /// Takes it out once. One that is not there changes nothing.
    pub(crate) fn remove(&mut self, prefix: &[u8]) {
        let mut path = Vec::with_capacity(prefix.len());
        let mut at = ROOT;
        for &byte in prefix {
            path.push((at, byte));
            let Some(next) = self.child(at, byte) else { return };
            at = next;
        }
        let Some(node) = self.nodes.get_mut(at).filter(|node| node.count > 0) else { return };
        node.count -= 1;
        // What nobody needs any more goes, from the end.
        for (parent, byte) in path.into_iter().rev() {
            if !self.nodes.get(at).is_some_and(|node| node.count == 0 && node.children.is_empty()) {
                return;
            }
            if let Some(node) = self.nodes.get_mut(parent) {
                node.children.retain(|child| child.0 != byte);
            }
            self.free.push(at as u32);
            at = parent;
        }
    }

    /// Whether some prefix begins this topic.
    #[inline]
    pub(crate) fn matches(&self, topic: &[u8]) -> bool {
        let mut at = ROOT;
        for &byte in topic {
            match self.nodes.get(at) {
                Some(node) if node.count > 0 => return true,
                Some(node) if node.children.is_empty() => return false,
                _ => {}
            }
            match self.child(at, byte) {
                Some(next) => at = next,
                None => return false,
            }
        }
        self.nodes.get(at).is_some_and(|node| node.count > 0)
    }

    /// Whether nothing matches at all.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.get(ROOT).is_none_or(|root| root.count == 0 && root.children.is_empty())
    }

    #[inline]
    fn child(&self, at: usize, byte: u8) -> Option<usize> {
        let children = &self.nodes.get(at)?.children;
        if let [only] = children.as_slice() {
            return (only.0 == byte).then_some(only.1 as usize);
        }
        let found = children.binary_search_by_key(&byte, |child| child.0).ok()?;
        children.get(found).map(|child| child.1 as usize)
    }

    fn grow(&mut self, at: usize, byte: u8) -> usize {
        let new = match self.free.pop() {
            Some(new) => new as usize,
            None => {
                self.nodes.push(Node::default());
                self.nodes.len() - 1
            }
        };
        if let Some(node) = self.nodes.get_mut(at) {
            let place = node.children.partition_point(|child| child.0 < byte);
            node.children.insert(place, (byte, new as u32));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn a_topic_is_wanted_while_a_prefix_of_it_is_counted() {
        let mut interest = Interest::default();
        assert!(interest.is_empty() && !interest.matches(b"") && !interest.matches(b"a"));
        interest.add(b"ab");
        interest.add(b"ab");
        interest.add(b"abc");
        assert!(interest.matches(b"ab") && interest.matches(b"abx") && !interest.matches(b"a"));
        interest.remove(b"ab");
        assert!(interest.matches(b"abx"));
        interest.remove(b"ab");
        interest.remove(b"ab");
        assert!(!interest.matches(b"abx") && interest.matches(b"abcd"));
        interest.remove(b"abc");
        assert!(interest.is_empty());
        interest.add(b"");
        assert!(interest.matches(b"") && interest.matches(b"anything"));
    }

    quickcheck! {
        fn it_agrees_with_a_plain_list(changes: Vec<(bool, Vec<u8>)>, topics: Vec<Vec<u8>>) -> bool {
            let short = |bytes: &[u8]| bytes.iter().take(4).map(|byte| byte % 3).collect::<Vec<u8>>();
            let (mut interest, mut list) = (Interest::default(), Vec::<Vec<u8>>::new());
            for (add, prefix) in &changes {
                let prefix = short(prefix);
                if *add {
                    interest.add(&prefix);
                    list.push(prefix);
                } else {
                    interest.remove(&prefix);
                    if let Some(at) = list.iter().position(|one| *one == prefix) {
                        list.swap_remove(at);
                    }
                }
            }
            interest.is_empty() == list.is_empty()
                && topics.iter().map(|topic| short(topic)).all(|topic| {
                    interest.matches(&topic) == list.iter().any(|prefix| topic.starts_with(prefix))
                })
        }
    }
}
