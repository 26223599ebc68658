use super::*;

fn started(topic: bool, window: u32, resume_after: u64) -> (Session, Memory) {
    let (mut session, mut memory) = (Session::new(topic, window), Memory::default());
    start(&mut session, &mut memory, resume_after);
    (session, memory)
}

fn start(session: &mut Session, memory: &mut Memory, resume_after: u64) {
    session.handle_started(memory, &Started { resume_after, ..Started::default() });
}

fn announcement(again: bool, prev: u64, numbers: &[u64]) -> Deliveries {
    let entries = numbers.iter().map(|&sequence| Entry { sequence, ..Entry::default() }).collect();
    Deliveries { again, prev, entries }
}

/// Announces and brings these; gives the ones that pass.
fn bring(session: &mut Session, memory: &mut Memory, again: bool, prev: u64, numbers: &[u64]) -> Vec<u64> {
    session.handle_deliveries(announcement(again, prev, numbers)).unwrap();
    numbers.iter().filter_map(|_| session.next(memory).unwrap()).map(|tag| tag.sequence).collect()
}

fn acks(session: &mut Session, memory: &Memory) -> Option<(u64, Vec<(u64, u64)>)> {
    session.take_acks(memory, true, Instant::now()).map(|acks| (acks.cumulative, acks.ranges))
}

#[test]
fn nothing_comes_before_its_start_and_its_announcement() {
    let (mut session, mut memory) = (Session::new(true, 10), Memory::default());
    assert!(!session.is_started());
    assert_eq!(session.handle_deliveries(announcement(false, 0, &[1])), Err(Reason::UnexpectedCommand));
    assert_eq!(session.next(&mut memory), Err(Reason::UnexpectedCommand));
    start(&mut session, &mut memory, 0);
    assert!(session.is_started());
    assert_eq!(session.next(&mut memory), Err(Reason::UnexpectedCommand));
    session.handle_deliveries(announcement(false, 0, &[1, 2])).unwrap();
    let tag = Tag { sequence: 1, tries: 1, time: None };
    assert_eq!(session.next(&mut memory), Ok(Some(tag)));
    assert_eq!(session.handle_deliveries(announcement(false, 2, &[3])), Err(Reason::UnexpectedCommand));
    assert!(session.next(&mut memory).unwrap().is_some());
    assert_eq!(session.next(&mut memory), Err(Reason::UnexpectedCommand));
}

#[test]
fn tries_and_time_are_handed_on() {
    let (mut session, mut memory) = started(true, 10, 0);
    let entries = vec![Entry { sequence: 4, tries: Some(3), time: Some(77) }];
    session.handle_deliveries(Deliveries { again: false, prev: 0, entries }).unwrap();
    assert_eq!(session.next(&mut memory), Ok(Some(Tag { sequence: 4, tries: 3, time: Some(77) })));
}

#[test]
fn d03_a_hole_in_the_announcements_ends_the_session() {
    for topic in [true, false] {
        let (mut session, mut memory) = started(topic, 10, 5);
        for prev in [0, 4, 6] {
            assert!(matches!(session.handle_deliveries(announcement(false, prev, &[9])), Err(Reason::Malformed(_))));
        }
        assert_eq!(bring(&mut session, &mut memory, false, 5, &[8, 9]), [8, 9]);
        assert!(session.handle_deliveries(announcement(false, 8, &[10])).is_err());
        assert_eq!(bring(&mut session, &mut memory, false, 9, &[11]), [11]);
    }
}

#[test]
fn a_topic_is_acknowledged_up_to_its_first_open_number_with_ranges_above() {
    let (mut session, mut memory) = started(true, 100, 10);
    bring(&mut session, &mut memory, false, 10, &[12, 13, 20, 21, 22]);
    assert_eq!((memory.done(), memory.held()), (11, 5));
    session.done(&mut memory, 13);
    session.done(&mut memory, 21);
    assert_eq!(acks(&mut session, &memory), Some((11, vec![(13, 1), (21, 1)])));
    assert_eq!(memory.ranges(), [(13, 19), (21, 21)]);
    session.done(&mut memory, 12);
    assert_eq!(acks(&mut session, &memory), Some((19, vec![])));
    assert_eq!(acks(&mut session, &memory), None);
    session.done(&mut memory, 22);
    assert_eq!(acks(&mut session, &memory), Some((19, vec![(22, 1)])));
    session.done(&mut memory, 20);
    assert_eq!(acks(&mut session, &memory), Some((22, vec![])));
}

#[test]
fn a_worker_acknowledges_by_ranges_only() {
    let (mut session, mut memory) = started(false, 100, 10);
    bring(&mut session, &mut memory, false, 10, &[11, 12, 15]);
    session.done_up_to(&mut memory, 15);
    assert_eq!(acks(&mut session, &memory), Some((0, vec![(11, 2), (15, 1)])));
    assert_eq!((memory.done(), memory.ranges()), (12, vec![(15, 15)]));
    assert!(!memory.is_done(14), "it may still come");
    assert_eq!(bring(&mut session, &mut memory, true, 13, &[14]), [14], "from a lost worker");
    session.done(&mut memory, 14);
    assert_eq!(acks(&mut session, &memory), Some((0, vec![(14, 1)])));
}

#[test]
fn acknowledgements_are_merged() {
    let now = Instant::now();
    let due = |window: u32, count: u64| {
        let (mut session, mut memory) = started(true, window, 0);
        let numbers: Vec<u64> = (1..=count).collect();
        numbers.chunks(200).for_each(|part| drop(bring(&mut session, &mut memory, false, part[0] - 1, part)));
        numbers.iter().for_each(|&number| session.done(&mut memory, number));
        session.take_acks(&memory, false, now)
    };
    for (window, enough) in [(0, 1), (1, 1), (2, 1), (10, 5), (128, 64), (1000, 256)] {
        assert_eq!(due(window, enough - 1), None, "{window}");
        assert_eq!(due(window, enough), Some(Acks { cumulative: enough, ranges: vec![] }), "{window}");
    }
    let (mut session, mut memory) = started(true, 100, 0);
    bring(&mut session, &mut memory, false, 0, &[1, 2, 3]);
    assert_eq!((session.take_acks(&memory, true, now), session.deadline()), (None, None));
    session.done(&mut memory, 1);
    assert_eq!((session.take_acks(&memory, false, now), session.deadline()), (None, Some(now + SOON)));
    session.done(&mut memory, 2);
    let later = now + SOON / 2;
    assert_eq!((session.take_acks(&memory, false, later), session.deadline()), (None, Some(now + SOON)));
    let acks = session.take_acks(&memory, false, now + SOON);
    assert_eq!((acks, session.deadline()), (Some(Acks { cumulative: 2, ranges: vec![] }), None));
    session.done(&mut memory, 3);
    assert!(session.take_acks(&memory, true, later).is_some(), "nothing else waits");
}

#[test]
fn more_ranges_than_a_command_holds_go_out_in_several() {
    let (mut session, mut memory) = started(false, 1 << 20, 0);
    let numbers: Vec<u64> = (1..=4000).map(|number| number * 2).collect();
    numbers.chunks(200).for_each(|part| drop(bring(&mut session, &mut memory, false, part[0] - 2, part)));
    session.done_up_to(&mut memory, u64::MAX);
    let lens: Vec<usize> = std::iter::from_fn(|| acks(&mut session, &memory)).map(|(_, ranges)| ranges.len()).collect();
    assert_eq!(lens, [MAX_RANGES, 1000]);
}

#[test]
fn d05_a_duplicate_is_dropped_and_acknowledged_again() {
    for topic in [true, false] {
        let (mut session, mut memory) = started(topic, 10, 0);
        assert_eq!(bring(&mut session, &mut memory, false, 0, &[1, 2, 3]), [1, 2, 3]);
        session.done(&mut memory, 1);
        session.done(&mut memory, 3);
        // The connection is lost with the acknowledgements; 2 is still in hand.
        let mut session = Session::new(topic, 10);
        start(&mut session, &mut memory, 0);
        assert_eq!(bring(&mut session, &mut memory, false, 0, &[1, 2, 3, 4]), [4]);
        let expected = if topic { (1, vec![(3, 1)]) } else { (0, vec![(1, 1), (3, 1)]) };
        assert_eq!(acks(&mut session, &memory), Some(expected));
        session.done(&mut memory, 2);
        session.done(&mut memory, 4);
        let expected = if topic { (4, vec![]) } else { (0, vec![(2, 1), (4, 1)]) };
        assert_eq!(acks(&mut session, &memory), Some(expected));
    }
}

#[test]
fn what_an_earlier_session_brought_is_acknowledged_when_it_was_announced_again() {
    for topic in [true, false] {
        let (mut session, mut memory) = started(topic, 10, 0);
        bring(&mut session, &mut memory, false, 0, &[1, 2, 3]);
        let mut session = Session::new(topic, 10);
        start(&mut session, &mut memory, 0);
        session.done(&mut memory, 1);
        assert_eq!(acks(&mut session, &memory), None, "it was not announced here");
        assert_eq!(bring(&mut session, &mut memory, false, 0, &[1, 2]), []);
        let expected = if topic { (1, vec![]) } else { (0, vec![(1, 1)]) };
        assert_eq!(acks(&mut session, &memory), Some(expected));
        session.done_up_to(&mut memory, 3);
        let expected = if topic { (2, vec![]) } else { (0, vec![(2, 1)]) };
        assert_eq!(acks(&mut session, &memory), Some(expected));
        assert_eq!(memory.done(), 3);
    }
}

#[test]
fn a_released_record_passes_once_more() {
    for topic in [true, false] {
        let (mut session, mut memory) = started(topic, 10, 0);
        bring(&mut session, &mut memory, false, 0, &[1, 2, 3]);
        assert!(session.reject(&mut memory, 2));
        assert!(!session.reject(&mut memory, 2), "it is not in hand");
        session.done(&mut memory, 1);
        session.done(&mut memory, 3);
        let expected = if topic { (1, vec![(3, 1)]) } else { (0, vec![(1, 1), (3, 1)]) };
        assert_eq!(acks(&mut session, &memory), Some(expected));
        assert_eq!(bring(&mut session, &mut memory, true, 1, &[2]), [2]);
        assert_eq!(bring(&mut session, &mut memory, true, 1, &[2]), [], "only once");
        session.done(&mut memory, 2);
        assert_eq!(acks(&mut session, &memory), Some(if topic { (3, vec![]) } else { (0, vec![(2, 1)]) }));
        assert_eq!(bring(&mut session, &mut memory, true, 1, &[2]), []);
        assert_eq!(acks(&mut session, &memory), Some(if topic { (3, vec![]) } else { (0, vec![(2, 1)]) }));
    }
}

#[test]
fn a_rejection_of_what_an_earlier_session_brought_needs_no_command() {
    for topic in [true, false] {
        let (mut session, mut memory) = started(topic, 10, 0);
        bring(&mut session, &mut memory, false, 0, &[1]);
        let mut session = Session::new(topic, 10);
        start(&mut session, &mut memory, 0);
        assert!(!session.reject(&mut memory, 1), "it is sent again anyway");
        assert_eq!(bring(&mut session, &mut memory, false, 0, &[1]), [1]);
    }
}

#[test]
fn a_topic_may_not_repeat_what_it_never_sent() {
    let (mut session, mut memory) = started(true, 10, 0);
    bring(&mut session, &mut memory, false, 0, &[1, 2]);
    assert!(session.handle_deliveries(announcement(true, 2, &[3])).is_err());
    let (mut session, mut memory) = started(false, 10, 0);
    assert_eq!(bring(&mut session, &mut memory, true, 2, &[3]), [3]);
}

#[test]
fn a_start_beyond_what_is_known_counts_as_done() {
    let (mut session, mut memory) = started(true, 10, 0);
    bring(&mut session, &mut memory, false, 0, &[1, 2, 3]);
    session.done(&mut memory, 2);
    let mut session = Session::new(true, 10);
    start(&mut session, &mut memory, 8);
    assert_eq!((memory.done(), memory.held()), (8, 0));
    session.done(&mut memory, 3);
    assert_eq!(memory.done(), 8);
    assert_eq!(bring(&mut session, &mut memory, false, 8, &[12]), [12]);
    assert_eq!(memory.done(), 11);
}

#[test]
fn numbers_that_do_not_come_again_are_done_unless_in_hand() {
    let (mut session, mut memory) = started(true, 10, 0);
    bring(&mut session, &mut memory, false, 0, &[1, 2, 3, 4]);
    memory.release(2);
    let mut session = Session::new(true, 10);
    start(&mut session, &mut memory, 0);
    assert_eq!(bring(&mut session, &mut memory, false, 0, &[6]), [6]);
    assert_eq!((memory.done(), memory.ranges(), memory.held()), (0, vec![(2, 2), (5, 5)], 4));
    for number in [1, 3, 4] {
        session.done(&mut memory, number);
    }
    assert_eq!((memory.done(), acks(&mut session, &memory).unwrap().0), (5, 5));
}

#[test]
fn without_a_session_the_memory_is_told() {
    let (mut session, mut memory) = started(true, 10, 0);
    bring(&mut session, &mut memory, false, 0, &[1, 2, 5, 6]);
    memory.finish(5);
    memory.finish_up_to(2);
    assert_eq!((memory.done(), memory.held()), (5, 1));
    let mut session = Session::new(true, 10);
    start(&mut session, &mut memory, 0);
    assert_eq!(bring(&mut session, &mut memory, false, 0, &[1, 2, 5, 6, 7]), [7]);
    assert_eq!(acks(&mut session, &memory), Some((5, vec![])));
}

#[test]
fn d05_a_kept_cursor_drops_what_was_done() {
    let (mut session, mut memory) = (Session::new(true, 10), Memory::new(5, vec![(7, 8)]));
    start(&mut session, &mut memory, 3);
    assert_eq!(bring(&mut session, &mut memory, false, 3, &[4, 5, 6, 7, 8, 9]), [6, 9]);
    assert_eq!(acks(&mut session, &memory), Some((5, vec![(7, 2)])));
}

#[test]
fn a_worker_remembers_a_bounded_number_of_ranges() {
    let (mut session, mut memory) = started(false, 10, 0);
    let mut prev = 0;
    for number in (2..).step_by(2).take(MAX_REMEMBERED + 10) {
        bring(&mut session, &mut memory, false, prev, &[number]);
        session.done(&mut memory, number);
        acks(&mut session, &memory);
        prev = number;
    }
    assert_eq!(memory.ranges().len(), MAX_REMEMBERED);
    assert!(!memory.is_done(2) && memory.is_done(prev));
}
