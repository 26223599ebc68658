//! The short ways of sending and receiving: when they are open, and that the long way says the same.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::Link;
use super::admission::Wait;
use super::inbox::Inbox;
use super::lease::Work;
use super::outbound::{Outbound, Toll};
use super::peers::{LOT, Limits, Road, WIRE_BYTES, Witness};
use super::reader::Reader;
use super::waiters::Target;
use crate::event::DropReason;
use crate::message::Message;
use crate::options::{FlushPolicy, OnFull};

/// Tells nobody.
pub(super) struct Nobody;

impl Witness for Nobody {
    fn high_water(&self, _: &str, _: bool) {}
    fn dropped(&self, _: &str, _: DropReason, _: u64) {}
}

fn outbound(hwm: usize, hwm_bytes: usize) -> Outbound {
    let limits = Limits { hwm, hwm_bytes, on_full: OnFull::Block, flush: FlushPolicy::Auto, conflate: false, lot: 0 };
    Outbound::new(limits, Arc::new(Nobody))
}

fn numbered(number: usize) -> Message {
    Message::from(&(number as u64).to_le_bytes())
}

fn number(message: &Message) -> usize {
    u64::from_le_bytes(message[0][..].try_into().unwrap()) as usize
}

#[test]
fn a_message_joins_others_only_below_the_marks() {
    for hwm in [1, 2, 3, 10] {
        let outbound = outbound(hwm, 0);
        outbound.add("peer".into(), Road::Wire(None), true, None);
        assert!(!outbound.join(&numbered(0)), "there is no batch yet");
        outbound.try_send(&mut Some(numbered(0)), false).unwrap();
        let joined = (1..hwm + 5).take_while(|&n| outbound.join(&numbered(n))).count();
        // The last place is taken the long way, which marks the peer as full.
        assert_eq!(joined, hwm.saturating_sub(2));
        let more = (0..5).take_while(|_| outbound.try_send(&mut Some(numbered(0)), false).is_ok()).count();
        assert_eq!(1 + joined + more, hwm);
        assert_eq!(outbound.waiting(), hwm);
    }
    let outbound = outbound(0, 100_000);
    outbound.add("peer".into(), Road::Wire(None), true, None);
    let large = Message::from(vec![7; 1000]);
    outbound.try_send(&mut Some(large.clone()), false).unwrap();
    let (mut joined, mut more) = (0, 0);
    loop {
        if outbound.join(&large) {
            joined += 1;
        } else if outbound.try_send(&mut Some(large.clone()), false).is_ok() {
            more += 1;
        } else {
            break;
        }
    }
    assert!(joined > 0 && more > 0, "{joined} {more}");
    assert_eq!((1 + joined + more) * (1000 + 9), 100_900, "the message that reaches the mark is the last");
}

#[test]
fn nobody_joins_past_those_who_wait_in_line() {
    let outbound = outbound(3, 0);
    let key = outbound.add("peer".into(), Road::Wire(None), true, None);
    for n in 0..3 {
        outbound.try_send(&mut Some(numbered(n)), false).unwrap();
    }
    let mut cx = Context::from_waker(Waker::noop());
    let (mut wait, mut message) = (Wait::default(), Some(numbered(3)));
    assert!(outbound.poll_send(&mut cx, &mut wait, Target::Any, &mut message, false).is_pending());
    outbound.clear(key, DropReason::PeerGone);
    assert!(!outbound.join(&numbered(4)));
    outbound.abandon(&mut wait);
}

#[test]
fn the_oldest_goes_first_out_of_a_run() {
    for count in [1, 2, 3, 10] {
        let inbox = Inbox::new(0, 0, false);
        let (lane, other) = (inbox.open_lane(None), inbox.open_lane(None));
        inbox.push_direct(other, numbered(99), 8);
        for n in 0..count {
            if !inbox.join_direct(lane, 8, || Some(numbered(n))) {
                inbox.push_direct(lane, numbered(n), 8);
            }
        }
        assert_eq!(inbox.take_oldest(lane), Some(8));
        assert_eq!(inbox.received(lane).unwrap().unread, count - 1);
        let rest: Vec<usize> = inbox.drain(lane).iter().map(number).collect();
        assert_eq!(rest, (1..count).collect::<Vec<_>>());
        assert_eq!(inbox.take_oldest(lane), None);
        assert_eq!(inbox.drain(other).iter().map(number).collect::<Vec<_>>(), [99]);
    }
}

#[test]
fn who_comes_new_has_a_turn_soon() {
    let inbox = Arc::new(Inbox::new(0, 0, false));
    let (busy, new) = (inbox.open_lane(None), inbox.open_lane(None));
    for n in 0..1000 {
        inbox.push_direct(busy, numbered(n), 8);
    }
    let mut reader = Reader::new(inbox.clone(), false);
    let mut next = || match reader.take_in_hand(|_| true) {
        Some(message) => number(&message),
        None => number(&reader.try_next().unwrap().1),
    };
    assert_eq!((0..10).map(|_| next()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    inbox.push_direct(new, numbered(5000), 8);
    let before = (0..1000).take_while(|_| next() != 5000).count();
    assert!(before <= 32, "{before} of another's messages first");
    assert_eq!(next(), 10 + before, "and the others go on where they were");
}

/// A connection that takes everything, or nothing; keeps the lengths of the writes.
#[derive(Default)]
struct Wire {
    written: Mutex<Vec<usize>>,
    full: bool,
}

impl Wire {
    fn take(&self, len: usize) -> io::Result<usize> {
        if self.full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.written.lock().unwrap().push(len);
        Ok(len)
    }
}

impl Link for Wire {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes.len())
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.take(slices.iter().map(|slice| slice.len()).sum())
    }
}

#[test]
fn the_first_of_several_waits_for_the_others_and_a_single_one_is_written_at_once() {
    let outbound = outbound(1000, 0);
    let wire = Arc::new(Wire::default());
    let key = outbound.add("peer".into(), Road::Wire(None), true, None);
    outbound.link(key, wire.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut run_task = || {
        while let Poll::Ready(Work::Write(lease)) = outbound.poll_lease(key, &mut cx) {
            let written = lease.try_write().unwrap();
            outbound.finish(&lease, written, false);
        }
    };
    let written = || std::mem::take(&mut *wire.written.lock().unwrap());
    let send = |count: usize| (0..count).for_each(|n| outbound.try_send(&mut Some(numbered(n)), false).unwrap());
    run_task();
    for _ in 0..3 {
        send(1);
        assert_eq!(written(), [10], "one now and then is written by its caller");
        run_task();
    }
    send(5);
    run_task();
    assert_eq!(written(), [10, 40], "who cannot know of the others yet");
    for _ in 0..10 {
        // For something that came in, say.
        run_task();
        send(5);
        assert_eq!(written(), []);
        run_task();
        assert_eq!(written(), [50], "but those that follow in the same way go together");
    }
    let by_task = (0..).take_while(|_| {
        send(1);
        let waits = written().is_empty();
        run_task();
        waits
    });
    assert!(by_task.count() < 10, "and when they come one by one again, their callers write");
}

#[test]
fn who_runs_ahead_of_a_full_connection_owes_a_turn_once_a_mib_waits() {
    let outbound = outbound(0, 0);
    let key = outbound.add("peer".into(), Road::Wire(None), true, None);
    outbound.link(key, Arc::new(Wire { full: true, ..Wire::default() }));
    let body = Message::from(vec![7; 16 * 1024]);
    let owed = (1..=2 * WIRE_BYTES / body.size()).find(|_| {
        outbound.try_send(&mut Some(body.clone()), false).unwrap();
        outbound.takes_toll() == Toll::Turn
    });
    // A batch is looked at when it is full.
    let least = WIRE_BYTES / (body.size() + 9);
    assert!(owed.is_some_and(|sent| (least..least + 8).contains(&sent)), "{owed:?}");
}

#[test]
fn a_lot_of_requests_is_written_before_all_of_them_are_there() {
    let limits =
        Limits { hwm: 1000, hwm_bytes: 0, on_full: OnFull::Block, flush: FlushPolicy::Auto, conflate: false, lot: LOT };
    let outbound = Outbound::new(limits, Arc::new(Nobody));
    let wire = Arc::new(Wire::default());
    let key = outbound.add("peer".into(), Road::Wire(None), true, None);
    outbound.link(key, wire.clone());
    for n in 0..2 * LOT + 5 {
        outbound.try_send_to(key, &mut Some(numbered(n)), false).unwrap();
    }
    // The first finds a sparse link.
    assert_eq!(*wire.written.lock().unwrap(), [10, 10 * LOT, 10 * LOT]);
}
