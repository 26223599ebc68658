//! The tree against a plain map, and its promises on memory and depth.

use std::collections::BTreeMap;

use quickcheck::QuickCheck;

use super::*;

type Model = BTreeMap<Vec<u8>, BTreeMap<u8, u32>>;

fn add(topics: &mut Topics<u8>, prefix: &[u8], value: u8) -> u32 {
    let id = topics.insert(prefix);
    topics.add(id, value)
}

fn sub(topics: &mut Topics<u8>, prefix: &[u8], value: u8) -> u32 {
    topics.find(prefix).map_or(0, |id| topics.sub(id, value))
}

fn matched(topics: &Topics<u8>, topic: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    topics.matches(topic, |value| all.push(value));
    all
}

fn model_add(model: &mut Model, prefix: &[u8], value: u8) -> u32 {
    let count = model.entry(prefix.to_vec()).or_default().entry(value).or_default();
    *count += 1;
    *count
}

fn model_sub(model: &mut Model, prefix: &[u8], value: u8) -> u32 {
    let Some(values) = model.get_mut(prefix) else { return 0 };
    let Some(count) = values.get_mut(&value) else { return 0 };
    *count -= 1;
    let left = *count;
    values.retain(|_, count| *count > 0);
    if values.is_empty() {
        model.remove(prefix);
    }
    left
}

/// Values by prefix length, sorted within one prefix, as the tree promises no order there.
fn model_matched(model: &Model, topic: &[u8]) -> Vec<u8> {
    (0..=topic.len()).filter_map(|len| model.get(&topic[..len])).flat_map(|values| values.keys().copied()).collect()
}

fn same_matches(topics: &Topics<u8>, model: &Model, topic: &[u8]) -> bool {
    let (mut ours, mut theirs) = (matched(topics, topic), model_matched(model, topic));
    let any = topics.matches_any(topic) != theirs.is_empty();
    ours.sort_unstable();
    theirs.sort_unstable();
    any && ours == theirs
}

fn same_content(topics: &Topics<u8>, model: &Model) -> bool {
    let mut found = Vec::new();
    topics.for_each(|prefix, id| {
        assert_eq!(topics.prefix_of(id), prefix);
        assert_eq!(topics.find(prefix), Some(id));
        let values: BTreeMap<u8, u32> = topics.values(id).collect();
        found.push((prefix.to_vec(), values));
    });
    let expected: Vec<_> = model.iter().map(|(prefix, values)| (prefix.clone(), values.clone())).collect();
    found == expected && topics.len() == model.len() && topics.is_empty() == model.is_empty()
}

/// The shape that bounds memory: no idle leaf, no idle link, parents and children agree.
fn assert_shape<V: Copy + Eq + std::fmt::Debug>(topics: &Topics<V>) {
    let mut nodes = 0;
    for (id, slot) in topics.slots.iter().enumerate() {
        let Slot::Used(node) = slot else { continue };
        nodes += 1;
        assert!(node.children.is_sorted_by(|a, b| a.first < b.first));
        for edge in &node.children {
            let child = topics.node(edge.child).expect("a child lives");
            assert_eq!((child.parent as usize, child.label.first()), (id, edge.first));
        }
        if id != ROOT as usize {
            assert!(!node.label.as_slice().is_empty());
            assert!(!node.values.is_empty() || node.children.len() >= 2, "an idle node stayed");
        }
    }
    assert!(nodes <= 1 + 2 * topics.len(), "{nodes} nodes for {} prefixes", topics.len());
}

/// A short topic over three letters from arbitrary bytes, so that splits and merges happen all the time.
fn topic_of(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().take(7).map(|byte| b'a' + byte % 3).collect()
}

#[test]
fn behaves_as_a_plain_map() {
    fn property(steps: Vec<(u8, Vec<u8>, u8)>) -> bool {
        let (mut topics, mut model) = (Topics::new(), Model::new());
        for (what, bytes, value) in steps {
            let (topic, value) = (topic_of(&bytes), value % 3);
            let same = match what % 5 {
                0 | 1 => add(&mut topics, &topic, value) == model_add(&mut model, &topic, value),
                2 | 3 => sub(&mut topics, &topic, value) == model_sub(&mut model, &topic, value),
                _ => same_matches(&topics, &model, &topic),
            };
            assert_shape(&topics);
            if !same || !same_content(&topics, &model) {
                return false;
            }
        }
        true
    }
    QuickCheck::new().tests(600).quickcheck(property as fn(Vec<(u8, Vec<u8>, u8)>) -> bool);
}

#[test]
fn a_place_keeps_its_number_through_splits_and_merges() {
    fn property(mine: Vec<u8>, others: Vec<Vec<u8>>) -> bool {
        let (mut topics, mine) = (Topics::new(), topic_of(&mine));
        let id = topics.insert(&mine);
        topics.add(id, 0);
        let others: Vec<_> = others.iter().map(|bytes| topic_of(bytes)).collect();
        let holds = |topics: &Topics<u8>| topics.find(&mine) == Some(id) && topics.prefix_of(id) == mine;
        let mut ok = true;
        for other in &others {
            add(&mut topics, other, 1);
            ok &= holds(&topics);
        }
        for other in &others {
            sub(&mut topics, other, 1);
            ok &= holds(&topics);
        }
        ok && topics.len() == 1
    }
    QuickCheck::new().tests(600).quickcheck(property as fn(Vec<u8>, Vec<Vec<u8>>) -> bool);
}

#[test]
fn shorter_prefixes_come_first_and_the_empty_one_matches_all() {
    let mut topics = Topics::new();
    for (prefix, value) in [("orders.eu", 3), ("", 1), ("orders", 2), ("orders.us", 4)] {
        add(&mut topics, prefix.as_bytes(), value);
    }
    assert_eq!(matched(&topics, b"orders.eu.7"), [1, 2, 3]);
    assert_eq!(matched(&topics, b"orders"), [1, 2]);
    assert_eq!(matched(&topics, b"order"), [1]);
    assert_eq!(matched(&topics, b""), [1]);
    sub(&mut topics, b"", 1);
    assert_eq!(matched(&topics, b"order"), []);
    assert!(!topics.matches_any(b"order") && topics.matches_any(b"orders.asia"));
}

#[test]
fn values_are_counted_at_each_place() {
    let mut topics = Topics::new();
    assert_eq!((add(&mut topics, b"a", 7), add(&mut topics, b"a", 7), add(&mut topics, b"a", 8)), (1, 2, 1));
    assert_eq!((sub(&mut topics, b"a", 9), sub(&mut topics, b"a", 7), topics.len()), (0, 1, 1));
    assert_eq!((sub(&mut topics, b"a", 8), sub(&mut topics, b"a", 7), topics.len()), (0, 0, 0));
    assert_eq!((sub(&mut topics, b"a", 7), topics.find(b"a")), (0, None));
}

#[test]
fn a_dead_number_does_nothing() {
    let mut topics = Topics::new();
    let id = topics.insert(b"gone");
    topics.add(id, 1);
    topics.sub(id, 1);
    for dead in [id, TopicId(NOWHERE), TopicId(77)] {
        assert_eq!((topics.add(dead, 1), topics.sub(dead, 1)), (0, 0));
        assert_eq!((topics.is_used(dead), topics.values(dead).count(), topics.prefix_of(dead).len()), (false, 0, 0));
    }
}

#[test]
fn a_place_without_values_can_be_given_up() {
    let mut topics = Topics::new();
    add(&mut topics, b"abc", 1);
    let id = topics.insert(b"ab");
    assert_eq!(topics.sub(id, 1), 0);
    assert_shape(&topics);
    assert_eq!((topics.len(), matched(&topics, b"abcd")), (1, vec![1]));
}

#[test]
fn p01_depth_costs_no_stack() {
    let deep = || {
        const DEPTH: usize = 64 * 1024;
        let (long, mut topics, mut ids) = (vec![b'a'; DEPTH], Topics::new(), vec![ROOT]);
        // Node below node; subscribing to each length in turn would walk the whole way every time.
        while ids.len() <= DEPTH {
            ids.push(topics.grow(ids[ids.len() - 1], Label::new(b"a")));
        }
        for &id in &ids {
            topics.add(TopicId(id), 1);
        }
        assert_eq!((topics.len(), matched(&topics, &long).len()), (DEPTH + 1, DEPTH + 1));
        assert_eq!(topics.find(&long), Some(TopicId(ids[DEPTH])));
        assert_eq!(topics.prefix_of(TopicId(ids[DEPTH])), long);
        let mut seen = 0;
        topics.for_each(|_, _| seen += 1);
        assert_eq!(seen, DEPTH + 1);
        assert_shape(&topics);
        for &id in ids.iter().step_by(2) {
            topics.sub(TopicId(id), 1);
        }
        assert_shape(&topics);
        assert_eq!((topics.len(), matched(&topics, &long).len()), (DEPTH / 2, DEPTH / 2));
        drop(topics);
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(deep).expect("a thread starts");
    thread.join().expect("no panic");
}

/// A fixed mix of bits, so that runs repeat.
fn scatter(n: u64) -> u64 {
    (n.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// Sets of 100,000 prefixes, each the worst for one part of the tree.
fn heavy_sets() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    const MANY: usize = 100_000;
    let chain = (0..2_000).map(|len| vec![b'a'; len]).collect();
    let numbers = (0..MANY as u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let random = (0..MANY as u64).map(|n| scatter(n).to_be_bytes().to_vec()).collect();
    let names = (0..MANY).map(|n| format!("market.{}.symbol.{n:06}.trades", n % 50).into_bytes()).collect();
    // Each pair forks at its last byte behind 23 bytes of its own: two nodes for two prefixes plus a long label.
    let forks = (0..MANY as u64).map(|n| {
        let own = scatter(n / 2).to_be_bytes();
        [&own[..], &[b'-'; 23], &[n as u8 & 1]].concat()
    });
    vec![
        ("chain", chain),
        ("numbers", numbers),
        ("random", random),
        ("names", names),
        ("forks", forks.collect()),
        ("binary", (0..65_536u32).map(|n| (0..16).map(|bit| b'0' + (n >> bit & 1) as u8).collect()).collect()),
    ]
}

#[test]
fn p03_memory_stays_under_four_times_the_charge() {
    for (name, prefixes) in heavy_sets() {
        let (mut topics, mut charge) = (Topics::<u32>::new(), 0);
        let empty = topics.memory();
        for prefix in &prefixes {
            let id = topics.insert(prefix);
            topics.add(id, 1);
            charge += prefix.len() + 64;
        }
        assert_shape(&topics);
        let grown = topics.memory() - empty;
        println!("{name}: {} prefixes, {:.2} bytes per charged byte", prefixes.len(), grown as f64 / charge as f64);
        assert!(grown <= 4 * charge, "{name}: {grown} bytes for a charge of {charge}");
    }
}

#[test]
fn p03_memory_comes_back_when_prefixes_go() {
    for (name, prefixes) in heavy_sets() {
        let mut topics = Topics::new();
        add(&mut topics, b"zzz stays", 9);
        let before = topics.memory();
        for prefix in &prefixes {
            add(&mut topics, prefix, 1);
        }
        // Somebody who comes last must not keep the slots of all who came before alive.
        add(&mut topics, b"zzz late", 9);
        let full = topics.memory();
        for prefix in prefixes.iter().rev() {
            assert_eq!(sub(&mut topics, prefix, 1), 0);
        }
        assert_shape(&topics);
        assert_eq!(topics.len(), 2);
        assert!(topics.memory() < full / 4, "{name}: {} of {full} bytes stayed", topics.memory());
        sub(&mut topics, b"zzz late", 9);
        sub(&mut topics, b"zzz stays", 9);
        assert!(topics.is_empty() && !topics.matches_any(b"zzz stays"));
        assert!(before < 1_000, "{name}");
    }
}

#[test]
fn slots_are_used_again() {
    let mut topics = Topics::new();
    add(&mut topics, b"stays", 1);
    for round in 0..10_000_u32 {
        let prefix = round.to_be_bytes();
        add(&mut topics, &prefix, 1);
        sub(&mut topics, &prefix, 1);
    }
    assert!(topics.slots.len() <= 8, "{} slots", topics.slots.len());
    sub(&mut topics, b"stays", 1);
    assert_eq!(topics.memory(), Topics::<u8>::new().memory());
}

#[test]
fn nodes_are_small() {
    assert!(size_of::<Node<u32>>() <= 72, "{}", size_of::<Node<u32>>());
    assert!(size_of::<Slot<u32>>() <= 16);
}
