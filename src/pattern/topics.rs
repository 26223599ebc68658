//! Which subscriptions match a topic: [`Topics`], a radix tree of prefixes with counted values.
//!
//! Used on both sides: a publisher keeps classes of subscribers at each prefix, a subscriber keeps `()` with
//! counts (subscribing twice takes two calls to undo). May use nothing but std. Absent on purpose: limits
//! (they are charged where the command is read), recursion (the depth of the tree is chosen by peers) and
//! locks. Read next: the pattern that owns the tree.
//!
//! Shape: every node but the root has a label of at least one byte; a node without values has at least two
//! children, so there are at most two nodes per prefix and memory follows what was subscribed. Nodes live in
//! slots and name each other by number, so dropping the tree is flat too.

/// The place of one prefix. Stays the same for as long as the prefix has values.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
pub(crate) struct TopicId(u32);

/// A set of prefixes, each with counted values.
#[derive(Debug)]
pub(crate) struct Topics<V> {
    slots: Vec<Slot<V>>,
    /// First free slot, or [`NOWHERE`].
    free: u32,
    /// Prefixes that have values.
    used: usize,
    /// Slots freed since free slots were last given back; see `trim`.
    freed: usize,
}

#[derive(Debug)]
enum Slot<V> {
    /// Holds the number of the next free slot.
    Free(u32),
    /// Boxed, so that what a wave of subscriptions leaves behind is only the slot.
    Used(Box<Node<V>>),
}

#[derive(Debug)]
struct Node<V> {
    label: Label,
    /// Sorted by first byte; no two children share it.
    children: Vec<Edge>,
    values: Values<V>,
    parent: u32,
}

#[derive(Debug, Copy, Clone)]
struct Edge {
    first: u8,
    child: u32,
}

const ROOT: u32 = 0;
const NOWHERE: u32 = u32::MAX;

impl<V: Copy + Eq> Topics<V> {
    pub(crate) fn new() -> Self {
        let root = Node { label: Label::new(&[]), children: Vec::new(), values: Values::None, parent: NOWHERE };
        Topics { slots: vec![Slot::Used(Box::new(root))], free: NOWHERE, used: 0, freed: 0 }
    }

    /// Finds or makes the place of `prefix`. A new place lives on only if [`add`](Self::add) is the next call;
    /// to give it up instead, call [`sub`](Self::sub).
    pub(crate) fn insert(&mut self, prefix: &[u8]) -> TopicId {
        if self.slots.len() > (NOWHERE - 2) as usize {
            return TopicId(NOWHERE); // Four thousand million nodes: the subscription is not kept.
        }
        let (mut at, mut rest) = (ROOT, prefix);
        loop {
            let Some(&first) = rest.first() else { return TopicId(at) };
            let Some(child) = self.child(at, first) else { return TopicId(self.grow(at, Label::new(rest))) };
            let label = self.label(child);
            let common = common_len(label, rest);
            at = if common == label.len() { child } else { self.split(at, child, common) };
            rest = rest.get(common..).unwrap_or_default();
        }
    }

    /// The place of `prefix`, if it has values.
    pub(crate) fn find(&self, prefix: &[u8]) -> Option<TopicId> {
        let (mut at, mut rest) = (ROOT, prefix);
        while let Some(&first) = rest.first() {
            at = self.child(at, first)?;
            rest = rest.strip_prefix(self.label(at))?;
        }
        Some(TopicId(at)).filter(|&id| self.is_used(id))
    }

    /// Counts `value` once more at `id`. Returns its new count there; 0 if `id` is no place of this tree.
    pub(crate) fn add(&mut self, id: TopicId, value: V) -> u32 {
        let Some(node) = self.node_mut(id.0) else { return 0 };
        let was_used = !node.values.is_empty();
        let count = node.values.add(value);
        self.used += usize::from(!was_used);
        count
    }

    /// Counts `value` once less at `id`. Returns what is left; at zero the value goes, and with its last value
    /// the place goes. Taking what is not there does nothing.
    pub(crate) fn sub(&mut self, id: TopicId, value: V) -> u32 {
        let Some(node) = self.node_mut(id.0) else { return 0 };
        let was_used = !node.values.is_empty();
        let left = node.values.sub(value);
        if node.values.is_empty() {
            self.used -= usize::from(was_used);
            self.tidy(id.0);
            self.trim();
        }
        left
    }

    /// The values at `id`, each with its count, in no particular order.
    #[cfg(test)]
    pub(crate) fn values(&self, id: TopicId) -> impl Iterator<Item = (V, u32)> + '_ {
        self.node(id.0).into_iter().flat_map(|node| node.values.as_slice().iter().copied())
    }

    /// Whether `id` has values.
    pub(crate) fn is_used(&self, id: TopicId) -> bool {
        self.node(id.0).is_some_and(|node| !node.values.is_empty())
    }

    /// How many prefixes have values.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Whether no prefix has values: nothing matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The prefix that ends at `id`; empty for the root and for what is no place of this tree.
    pub(crate) fn prefix_of(&self, id: TopicId) -> Vec<u8> {
        let (mut backwards, mut at) = (Vec::new(), id.0);
        while let Some(node) = self.node(at) {
            backwards.extend(node.label.as_slice().iter().rev());
            at = node.parent;
        }
        backwards.reverse();
        backwards
    }

    /// Hands over every value at every prefix of `topic`, shortest prefix first. A value that sits at several
    /// prefixes is handed over several times. Takes time in proportion to the length of the topic.
    #[inline]
    pub(crate) fn matches(&self, topic: &[u8], mut found: impl FnMut(V)) {
        self.walk(topic, |values| {
            values.as_slice().iter().for_each(|&(value, _)| found(value));
            true
        });
    }

    /// Whether any prefix of `topic` has a value; knows at once if the empty prefix has one.
    #[inline]
    pub(crate) fn matches_any(&self, topic: &[u8]) -> bool {
        let mut any = false;
        self.walk(topic, |values| {
            any = !values.is_empty();
            !any
        });
        any
    }

    /// Every prefix that has values, in byte order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8], TopicId)) {
        let (mut path, mut todo) = (Vec::new(), vec![(ROOT, 0)]);
        while let Some((id, depth)) = todo.pop() {
            let Some(node) = self.node(id) else { continue };
            path.truncate(depth);
            path.extend_from_slice(node.label.as_slice());
            if !node.values.is_empty() {
                visit(&path, TopicId(id));
            }
            todo.extend(node.children.iter().rev().map(|edge| (edge.child, path.len())));
        }
    }

    /// Visits the values of every node on the way of `topic`, while `visit` says to go on.
    #[inline]
    fn walk<'a>(&'a self, topic: &[u8], mut visit: impl FnMut(&'a Values<V>) -> bool) {
        let Some(mut node) = self.node(ROOT) else { return };
        let mut rest = topic;
        while visit(&node.values) {
            let Some(&first) = rest.first() else { return };
            let Some(child) = node.child(first).and_then(|child| self.node(child)) else { return };
            let Some(after) = rest.strip_prefix(child.label.as_slice()) else { return };
            (node, rest) = (child, after);
        }
    }

    fn node(&self, id: u32) -> Option<&Node<V>> {
        match self.slots.get(id as usize) {
            Some(Slot::Used(node)) => Some(node),
            _ => None,
        }
    }

    fn node_mut(&mut self, id: u32) -> Option<&mut Node<V>> {
        match self.slots.get_mut(id as usize) {
            Some(Slot::Used(node)) => Some(node),
            _ => None,
        }
    }

    fn child(&self, id: u32, first: u8) -> Option<u32> {
        self.node(id)?.child(first)
    }

    fn label(&self, id: u32) -> &[u8] {
        self.node(id).map_or(&[], |node| node.label.as_slice())
    }

    /// Adds a node with this label below `parent`.
    fn grow(&mut self, parent: u32, label: Label) -> u32 {
        let first = label.first();
        let id = self.take_slot(Node { label, children: Vec::new(), values: Values::None, parent });
        if let Some(node) = self.node_mut(parent) {
            node.set_child(first, id);
        }
        id
    }

    /// Puts a new node between `parent` and `child`, with the first `at` bytes of the child's label. The child
    /// keeps its number, because somebody may hold it.
    fn split(&mut self, parent: u32, child: u32, at: usize) -> u32 {
        let (head, tail) = self.label(child).split_at_checked(at).unwrap_or_default();
        let (head, tail) = (Label::new(head), Label::new(tail));
        let first = tail.first();
        let middle = self.grow(parent, head);
        if let Some(node) = self.node_mut(child) {
            (node.label, node.parent) = (tail, middle);
        }
        if let Some(node) = self.node_mut(middle) {
            node.set_child(first, child);
        }
        middle
    }

    /// Restores the shape after a node lost its last value: no leaf and no lone link without values.
    fn tidy(&mut self, mut id: u32) {
        while let Some(node) = self.node(id).filter(|node| id != ROOT && node.values.is_empty()) {
            let (first, parent) = (node.label.first(), node.parent);
            match *node.children.as_slice() {
                [] => {
                    self.give_slot(id);
                    if let Some(node) = self.node_mut(parent) {
                        node.remove_child(first);
                    }
                    id = parent;
                }
                [only] => return self.merge(id, only.child),
                _ => return,
            }
        }
    }

    /// Takes `id` out from between its parent and its only child. The child keeps its number.
    fn merge(&mut self, id: u32, child: u32) {
        let Some(node) = self.give_slot(id) else { return };
        if let Some(child) = self.node_mut(child) {
            child.label = Label::new(&[node.label.as_slice(), child.label.as_slice()].concat());
            child.parent = node.parent;
        }
        if let Some(parent) = self.node_mut(node.parent) {
            parent.set_child(node.label.first(), child);
        }
    }

    fn take_slot(&mut self, node: Node<V>) -> u32 {
        let node = Slot::Used(Box::new(node));
        match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let id = self.free;
                if let Slot::Free(next) = std::mem::replace(slot, node) {
                    self.free = next;
                }
                id
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // Doubling would cost a subscriber's charge more than the nodes do.
                    self.slots.reserve_exact(4 + self.slots.len() / 4);
                }
                self.slots.push(node);
                (self.slots.len() - 1) as u32 // `insert` keeps the number of slots below NOWHERE.
            }
        }
    }

    fn give_slot(&mut self, id: u32) -> Option<Box<Node<V>>> {
        let slot = self.slots.get_mut(id as usize)?;
        match std::mem::replace(slot, Slot::Free(self.free)) {
            Slot::Used(node) => {
                self.free = id;
                self.freed += 1;
                Some(node)
            }
            free => {
                *slot = free;
                None
            }
        }
    }

    /// Gives back the free slots at the end, once enough were freed to pay for looking at all of them.
    fn trim(&mut self) {
        if self.freed <= self.slots.len() / 2 && !self.is_empty() {
            return;
        }
        self.freed = 0;
        let end = self.slots.iter().rposition(|slot| matches!(slot, Slot::Used(_))).map_or(0, |last| last + 1);
        self.slots.truncate(end);
        self.slots.shrink_to(end + end / 4);
        self.free = NOWHERE;
        for (id, slot) in self.slots.iter_mut().enumerate().rev() {
            if let Slot::Free(next) = slot {
                *next = self.free;
                self.free = id as u32;
            }
        }
    }

    /// Roughly the bytes of heap in use, with the allocator's own share.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let node_bytes = |slot: &Slot<V>| match slot {
            Slot::Free(_) => 0,
            Slot::Used(node) => {
                heap(size_of::<Node<V>>())
                    + heap(node.children.capacity() * size_of::<Edge>())
                    + node.label.heap()
                    + node.values.heap()
            }
        };
        heap(self.slots.capacity() * size_of::<Slot<V>>()) + self.slots.iter().map(node_bytes).sum::<usize>()
    }
}

impl<V> Node<V> {
    fn position(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |edge| edge.first)
    }

    #[inline]
    fn child(&self, first: u8) -> Option<u32> {
        let at = self.position(first).ok()?;
        self.children.get(at).map(|edge| edge.child)
    }

    fn set_child(&mut self, first: u8, child: u32) {
        match self.position(first) {
            Ok(at) => {
                if let Some(edge) = self.children.get_mut(at) {
                    edge.child = child;
                }
            }
            Err(at) => {
                if self.children.len() == self.children.capacity() {
                    // Most nodes have few children, and there may be very many nodes.
                    self.children.reserve_exact(1 + self.children.len() / 2);
                }
                self.children.insert(at, Edge { first, child });
            }
        }
    }

    fn remove_child(&mut self, first: u8) {
        if let Ok(at) = self.position(first) {
            self.children.remove(at);
            if self.children.len() * 2 < self.children.capacity() {
                self.children.shrink_to_fit();
            }
        }
    }
}

/// The bytes between a node and its parent. Short ones sit in the node.
#[derive(Debug)]
enum Label {
    Short(u8, [u8; Label::SHORT]),
    Long(Box<[u8]>),
}

impl Label {
    const SHORT: usize = 22;

    fn new(bytes: &[u8]) -> Self {
        let mut short = [0; Label::SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Label::Short(bytes.len() as u8, short)
            }
            None => Label::Long(bytes.into()),
        }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Label::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Label::Long(bytes) => bytes,
        }
    }

    /// Only the root's label is empty, and nobody has the root as a child.
    fn first(&self) -> u8 {
        self.as_slice().first().copied().unwrap_or_default()
    }

    #[cfg(test)]
    fn heap(&self) -> usize {
        match self {
            Label::Short(..) => 0,
            Label::Long(bytes) => heap(bytes.len()),
        }
    }
}

/// Counted values; one of them, the usual case, sits in the node.
#[derive(Debug)]
enum Values<V> {
    None,
    One([(V, u32); 1]),
    Many(Box<Many<V>>),
}

/// Boxed, because most nodes pay for this place and do not use it.
#[derive(Debug)]
struct Many<V>(Vec<(V, u32)>);

impl<V: Copy + Eq> Values<V> {
    #[inline]
    fn as_slice(&self) -> &[(V, u32)] {
        match self {
            Values::None => &[],
            Values::One(one) => one,
            Values::Many(many) => &many.0,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        matches!(self, Values::None)
    }

    fn as_mut_slice(&mut self) -> &mut [(V, u32)] {
        match self {
            Values::None => &mut [],
            Values::One(one) => one,
            Values::Many(many) => &mut many.0,
        }
    }

    fn add(&mut self, value: V) -> u32 {
        if let Some((_, count)) = self.as_mut_slice().iter_mut().find(|(have, _)| *have == value) {
            *count = count.saturating_add(1);
            return *count;
        }
        match self {
            Values::None => *self = Values::One([(value, 1)]),
            Values::One([one]) => *self = Values::Many(Box::new(Many(vec![*one, (value, 1)]))),
            Values::Many(many) => many.0.push((value, 1)),
        }
        1
    }

    fn sub(&mut self, value: V) -> u32 {
        let Some(at) = self.as_slice().iter().position(|(have, _)| *have == value) else { return 0 };
        let Some((_, count)) = self.as_mut_slice().get_mut(at) else { return 0 };
        *count -= 1; // Counts start at 1, and who reaches 0 is removed below.
        let left = *count;
        if left == 0 {
            self.remove(at);
        }
        left
    }

    fn remove(&mut self, at: usize) {
        let Values::Many(many) = self else {
            *self = Values::None;
            return;
        };
        many.0.swap_remove(at);
        match *many.0.as_slice() {
            [] => *self = Values::None,
            [one] => *self = Values::One([one]),
            _ if many.0.len() * 4 <= many.0.capacity() => many.0.shrink_to(many.0.len() * 2),
            _ => {}
        }
    }

    #[cfg(test)]
    fn heap(&self) -> usize {
        match self {
            Values::None | Values::One(_) => 0,
            Values::Many(many) => heap(size_of::<Many<V>>()) + heap(many.0.capacity() * size_of::<(V, u32)>()),
        }
    }
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What a request for `bytes` costs in a usual allocator.
#[cfg(test)]
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

#[cfg(test)]
mod tests;
