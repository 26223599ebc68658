use super::*;

const WIDE: Window = Window { messages: 100, bytes: 1 << 20 };

fn topic() -> Queue {
    Queue::new(Kind::Topic, 0, Ranges::new(), 0)
}

fn outbox() -> Queue {
    Queue::new(Kind::Outbox, 0, Ranges::new(), 0)
}

fn window(messages: u32) -> Window {
    Window { messages, ..WIDE }
}

fn up_to(cumulative: u64) -> Acks {
    Acks { cumulative, ranges: Vec::new() }
}

fn only(ranges: &[(u64, u64)]) -> Acks {
    Acks { cumulative: 0, ranges: ranges.to_vec() }
}

fn nack(sequence: u64, delay_ms: u32) -> Nack {
    Nack { sequence, delay_ms, ..Nack::default() }
}

/// Sends what `next` says, one by one, from a log without holes that ends at `newest`; gives what went.
fn pump(queue: &mut Queue, key: HolderKey, newest: u64) -> Vec<u64> {
    let now = Instant::now();
    let mut sent = Vec::new();
    loop {
        let sequence = match queue.next(key, now) {
            Next::Again(sequence) => sequence,
            Next::After(after) if after < newest => after + 1,
            _ => return sent,
        };
        assert!(queue.send(key, sequence, 10) > 0);
        sent.push(sequence);
    }
}

#[test]
fn a_topic_is_sent_in_order_and_acknowledged_by_its_highest_number() {
    let mut queue = topic();
    let key = queue.join(WIDE);
    assert_eq!(queue.next(key, Instant::now()), Next::After(0));
    assert_eq!(pump(&mut queue, key, 5), [1, 2, 3, 4, 5]);
    assert_eq!((queue.cursor(), queue.position(), queue.in_flight(key), queue.bytes_in_flight(key)), (0, 5, 5, 50));
    queue.acknowledge(key, &up_to(3)).unwrap();
    assert_eq!((queue.cursor(), queue.in_flight(key), queue.bytes_in_flight(key)), (3, 2, 20));
    queue.acknowledge(key, &up_to(2)).unwrap();
    queue.acknowledge(key, &up_to(5)).unwrap();
    assert_eq!((queue.cursor(), queue.total_in_flight(), queue.redelivered()), (5, 0, 0));
}

#[test]
fn numbers_between_and_skipped_ones_count_as_done() {
    let mut queue = topic();
    let key = queue.join(WIDE);
    queue.skip(3);
    assert_eq!((queue.cursor(), queue.position()), (3, 3));
    assert_eq!(queue.send(key, 6, 1), 1);
    queue.skip(9);
    assert_eq!((queue.cursor(), queue.position()), (5, 9));
    assert_eq!(queue.done(), [(7, 9)]);
    queue.acknowledge(key, &up_to(6)).unwrap();
    assert_eq!((queue.cursor(), queue.done()), (9, vec![]));
    assert_eq!(queue.next(key, Instant::now()), Next::After(9));
}

#[test]
fn the_window_closes_by_messages_and_by_bytes_and_one_record_always_fits() {
    let mut queue = topic();
    let key = queue.join(Window { messages: 3, bytes: 100 });
    assert_eq!(pump(&mut queue, key, 9), [1, 2, 3]);
    assert!(queue.is_full(key));
    queue.acknowledge(key, &up_to(1)).unwrap();
    assert_eq!(pump(&mut queue, key, 9), [4]);
    queue.acknowledge(key, &up_to(4)).unwrap();
    queue.send(key, 5, 99);
    assert!(!queue.is_full(key));
    queue.send(key, 6, 1000);
    assert!(queue.is_full(key));
    queue.acknowledge(key, &up_to(5)).unwrap();
    assert_eq!(queue.next(key, Instant::now()), Next::Full);
    for nothing in [Window { messages: 0, bytes: 0 }, Window { messages: 0, bytes: 9 }] {
        let key = queue.join(nothing);
        assert_eq!(pump(&mut queue, key, 9).len(), 1);
        queue.acknowledge(key, &up_to(queue.position())).unwrap();
    }
}

#[test]
fn what_a_lost_connection_had_comes_again_in_order_with_one_more_try() {
    let mut queue = topic();
    let key = queue.join(WIDE);
    pump(&mut queue, key, 5);
    queue.acknowledge(key, &Acks { cumulative: 1, ranges: vec![(3, 1)] }).unwrap();
    queue.leave(key);
    assert_eq!((queue.cursor(), queue.position(), queue.total_in_flight()), (1, 1, 0));
    assert_eq!(queue.send(key, 2, 1), 0, "it left");
    let key = queue.join(WIDE);
    let now = Instant::now();
    assert_eq!((queue.next(key, now), queue.send(key, 2, 1)), (Next::After(1), 2));
    assert_eq!((queue.next(key, now), queue.send(key, 4, 1)), (Next::After(3), 2), "3 is done");
    assert_eq!((queue.next(key, now), queue.send(key, 5, 1)), (Next::After(4), 2));
    assert_eq!((queue.next(key, now), queue.send(key, 6, 1)), (Next::After(5), 1));
    assert_eq!(queue.redelivered(), 3);
    queue.leave(key);
    let key = queue.join(WIDE);
    assert_eq!((queue.next(key, now), queue.send(key, 2, 1)), (Next::After(1), 3));
    queue.acknowledge(key, &up_to(2)).unwrap();
    assert_eq!(queue.cursor(), 3);
    assert_eq!(queue.send(key, 3, 1), 0, "it is done");
}

#[test]
fn a_second_holder_of_a_topic_takes_the_place_of_the_first() {
    let mut queue = topic();
    let old = queue.join(WIDE);
    pump(&mut queue, old, 3);
    let new = queue.join(WIDE);
    assert_eq!(queue.next(old, Instant::now()), Next::Full);
    assert_eq!(queue.acknowledge(old, &up_to(2)), Ok(()), "a stale one changes nothing");
    assert_eq!(queue.cursor(), 0);
    assert_eq!(pump(&mut queue, new, 3), [1, 2, 3]);
    queue.leave(old);
    assert_eq!(queue.in_flight(new), 3);
}

#[test]
fn a_start_or_a_limit_moves_the_cursor() {
    let mut queue = Queue::new(Kind::Topic, 10, vec![(12, 13), (20, 20)].into(), 0);
    assert_eq!((queue.cursor(), queue.position()), (10, 10));
    let key = queue.join(WIDE);
    queue.start_at(11);
    assert_eq!((queue.cursor(), queue.next(key, Instant::now())), (13, Next::After(13)));
    pump(&mut queue, key, 18);
    queue.start_at(16);
    assert_eq!((queue.cursor(), queue.position(), queue.in_flight(key)), (16, 18, 2));
    queue.start_at(5);
    queue.start_at(40);
    assert_eq!((queue.cursor(), queue.position(), queue.total_in_flight()), (40, 40, 0));
}

#[test]
fn numbers_never_sent_are_no_acknowledgement() {
    let unexpected = Err(Reason::UnexpectedCommand);
    let mut queue = topic();
    let key = queue.join(WIDE);
    pump(&mut queue, key, 3);
    assert_eq!(queue.acknowledge(key, &up_to(4)), unexpected);
    assert_eq!(queue.acknowledge(key, &only(&[(2, 3)])), unexpected);
    assert_eq!(queue.acknowledge(key, &only(&[(u64::MAX, 1)])), unexpected);
    assert_eq!(queue.reject(key, &nack(4, 0), Instant::now()), Err(Reason::UnexpectedCommand));
    assert_eq!((queue.cursor(), queue.in_flight(key)), (0, 3));
    let mut queue = outbox();
    let [one, two] = [queue.join(WIDE), queue.join(WIDE)];
    pump(&mut queue, one, 1);
    queue.send(two, 2, 1);
    queue.send(one, 3, 1);
    assert_eq!(queue.acknowledge(one, &up_to(1)), unexpected, "workers acknowledge by ranges only");
    assert_eq!(queue.acknowledge(one, &only(&[(1, 3)])), unexpected, "2 is with another");
    assert_eq!(queue.acknowledge(two, &only(&[(1, 1)])), unexpected);
    assert_eq!((queue.cursor(), queue.total_in_flight()), (0, 3));
}

#[test]
fn an_outbox_serves_whoever_has_fewest_in_flight() {
    let mut queue = outbox();
    let now = Instant::now();
    let [one, two, three] = [queue.join(WIDE), queue.join(WIDE), queue.join(window(1))];
    let mut turns = Vec::new();
    for sequence in 1..=9 {
        let key = queue.turn().unwrap();
        assert_eq!(queue.next(key, now), Next::After(sequence - 1));
        queue.send(key, sequence, 1);
        turns.push(key);
    }
    assert_eq!(turns, [one, two, three, one, two, one, two, one, two]);
    assert_eq!((queue.in_flight(one), queue.in_flight(two), queue.in_flight(three)), (4, 4, 1));
    queue.send(one, 10, 1);
    assert_eq!((queue.next(one, now), queue.turn()), (Next::Full, Some(two)));
    queue.set_ready(two, false);
    assert_eq!((queue.next(one, now), queue.turn()), (Next::After(10), Some(one)));
    queue.set_ready(two, true);
    assert_eq!(queue.next(one, now), Next::Full);
    queue.leave(two);
    assert_eq!(queue.next(one, now), Next::Again(2));
}

#[test]
fn an_outbox_gives_what_came_back_to_the_next_worker_first() {
    let mut queue = outbox();
    let [one, two] = [queue.join(WIDE), queue.join(window(2))];
    for (key, sequence) in [(one, 1), (two, 2), (one, 3), (two, 4), (one, 5)] {
        assert_eq!(queue.send(key, sequence, 1), 1);
    }
    queue.acknowledge(one, &only(&[(3, 1)])).unwrap();
    assert_eq!((queue.cursor(), queue.done()), (0, vec![(3, 3)]));
    queue.leave(one);
    assert_eq!((queue.waiting(), queue.next(two, Instant::now())), (2, Next::Full));
    queue.acknowledge(two, &only(&[(2, 1), (4, 1)])).unwrap();
    assert_eq!(queue.done(), [(2, 4)]);
    assert_eq!(queue.next(two, Instant::now()), Next::Again(1));
    assert_eq!((queue.send(two, 1, 1), queue.send(two, 5, 1)), (2, 2));
    assert_eq!(queue.send(two, 5, 1), 0, "once is enough");
    queue.acknowledge(two, &only(&[(1, 1)])).unwrap();
    assert_eq!((queue.cursor(), queue.waiting()), (4, 0));
    queue.acknowledge(two, &only(&[(5, 1)])).unwrap();
    assert_eq!((queue.cursor(), queue.redelivered()), (5, 2));
}

#[test]
fn a_range_over_done_numbers_is_no_offence() {
    let mut queue = outbox();
    let [one, two] = [queue.join(WIDE), queue.join(WIDE)];
    for (key, sequence) in [(one, 1), (two, 2), (one, 3)] {
        queue.send(key, sequence, 1);
    }
    queue.acknowledge(two, &only(&[(2, 1)])).unwrap();
    queue.acknowledge(one, &only(&[(1, 3)])).unwrap();
    queue.acknowledge(one, &only(&[(3, 1)])).unwrap();
    assert_eq!((queue.cursor(), queue.total_in_flight(), queue.bytes_in_flight(one)), (3, 0, 0));
}

#[test]
fn too_many_done_ranges_stop_an_outbox_above_its_oldest_hole() {
    let mut queue = outbox();
    let now = Instant::now();
    let [slow, quick] = [queue.join(window(1)), queue.join(WIDE)];
    queue.send(slow, 1, 1);
    let mut number = 1;
    while let Next::After(after) = queue.next(quick, now) {
        assert_eq!(after, number);
        // Every second record is rejected, for later.
        queue.send(quick, number + 1, 1);
        queue.send(quick, number + 2, 1);
        queue.acknowledge(quick, &only(&[(number + 2, 1)])).unwrap();
        queue.reject(quick, &nack(number + 1, 60_000), now).unwrap();
        number += 2;
        assert!(queue.done().len() <= MAX_DONE);
    }
    assert_eq!((queue.done().len(), queue.waiting()), (MAX_DONE, MAX_DONE));
    let due = now + Duration::from_secs(60);
    assert_eq!((queue.next(quick, now), queue.turn()), (Next::Later(due), None));
    assert_eq!(queue.next(quick, due), Next::Again(2));
    queue.send(quick, 2, 1);
    queue.acknowledge(quick, &only(&[(2, 1)])).unwrap();
    assert_eq!(queue.next(quick, due), Next::Again(4));
    queue.acknowledge(slow, &only(&[(1, 1)])).unwrap();
    assert_eq!(queue.cursor(), 3);
}

#[test]
fn a_rejected_record_comes_again_after_its_delay() {
    let mut queue = topic();
    let key = queue.join(window(4));
    let now = Instant::now();
    pump(&mut queue, key, 3);
    assert_eq!(queue.reject(key, &nack(2, 500), now), Ok(Rejected::Again));
    assert_eq!(queue.reject(key, &nack(2, 500), now), Ok(Rejected::Unknown), "it is not in flight");
    let due = now + Duration::from_millis(500);
    assert_eq!((queue.next_retry(), queue.waiting(), queue.tries(2)), (Some(due), 1, 1));
    assert_eq!(pump(&mut queue, key, 9), [4], "what waits is in the window, too");
    assert_eq!(queue.next(key, now), Next::Later(due));
    assert_eq!(queue.next(key, due), Next::Again(2));
    assert_eq!(queue.send(key, 2, 1), 2);
    assert_eq!(queue.next_retry(), None);
    queue.acknowledge(key, &Acks { cumulative: 1, ranges: vec![(3, 2)] }).unwrap();
    assert_eq!(queue.cursor(), 1);
    assert_eq!(queue.reject(key, &nack(2, 0), due), Ok(Rejected::Again));
    assert_eq!((queue.next(key, due), queue.send(key, 2, 1)), (Next::Again(2), 3));
    queue.acknowledge(key, &up_to(4)).unwrap();
    assert_eq!((queue.cursor(), queue.tries(2)), (4, 0));
    assert_eq!(queue.reject(key, &nack(2, 0), due), Ok(Rejected::Unknown), "it is done");
}

#[test]
fn a_topics_delays_end_with_the_session() {
    let mut queue = topic();
    let key = queue.join(WIDE);
    pump(&mut queue, key, 3);
    queue.reject(key, &nack(1, 60_000), Instant::now()).unwrap();
    queue.acknowledge(key, &only(&[(2, 2)])).unwrap();
    queue.leave(key);
    assert_eq!((queue.waiting(), queue.next_retry()), (0, None));
    let key = queue.join(WIDE);
    assert_eq!((queue.next(key, Instant::now()), queue.send(key, 1, 1)), (Next::After(0), 2));
    assert_eq!(queue.next(key, Instant::now()), Next::After(3));
}

#[test]
fn an_outbox_keeps_its_delays_for_the_next_worker() {
    let mut queue = outbox();
    let now = Instant::now();
    let one = queue.join(WIDE);
    pump(&mut queue, one, 2);
    queue.reject(one, &nack(1, 100), now).unwrap();
    queue.leave(one);
    let two = queue.join(WIDE);
    assert_eq!((queue.next(two, now), queue.send(two, 2, 1)), (Next::Again(2), 2));
    assert_eq!(queue.next(two, now), Next::After(2));
    assert_eq!(queue.next(two, now + Duration::from_millis(100)), Next::Again(1));
}

#[test]
fn a_record_that_was_sent_often_enough_is_buried() {
    for kind in [Kind::Topic, Kind::Outbox] {
        let mut queue = Queue::new(kind, 0, Ranges::new(), 2);
        let now = Instant::now();
        let key = queue.join(WIDE);
        pump(&mut queue, key, 2);
        assert!(!queue.exhausted(1));
        assert_eq!(queue.reject(key, &nack(1, 0), now), Ok(Rejected::Again));
        assert!(!queue.exhausted(1));
        assert_eq!((queue.next(key, now), queue.send(key, 1, 1)), (Next::Again(1), 2));
        assert_eq!(queue.reject(key, &nack(1, 60_000), now), Ok(Rejected::Dead { tries: 2 }));
        assert!(queue.exhausted(1));
        assert_eq!(queue.next(key, now), Next::Again(1), "without its delay");
        queue.skip(1);
        assert_eq!((queue.cursor(), queue.tries(1), queue.next(key, now)), (1, 0, Next::After(2)));
        queue.leave(key);
        let key = queue.join(WIDE);
        assert!(!queue.exhausted(2));
        assert_eq!(pump(&mut queue, key, 2), [2]);
        queue.leave(key);
        assert!(queue.exhausted(2));
        queue.join(WIDE);
        queue.skip(2);
        assert_eq!((queue.cursor(), queue.exhausted(2)), (2, false));
    }
}

#[test]
fn a_queue_forgets_everything_about_what_is_done() {
    let mut queue = topic();
    for round in 0..10 {
        let key = queue.join(WIDE);
        pump(&mut queue, key, 50 * (round + 1));
        queue.acknowledge(key, &up_to(queue.cursor() + 20)).unwrap();
        queue.reject(key, &nack(queue.cursor() + 3, 1000), Instant::now()).unwrap();
        queue.leave(key);
    }
    let key = queue.join(WIDE);
    pump(&mut queue, key, 1000);
    queue.acknowledge(key, &up_to(queue.position())).unwrap();
    assert!(queue.tries.is_empty() && queue.waiting() == 0 && queue.done().is_empty());
    assert_eq!(queue.bytes_in_flight(key), 0);
}
