//! A socket that holds a durable name: [`Holder`], and one connection of it, [`Holding`].
//!
//! What was done of each spool is remembered beyond connections ([`SpoolLedger`]), so that a record that comes again
//! is dropped and acknowledged again. Deliveries carry a tag that leads back here. Driven by the connection's task
//! for what arrives, by the receiver's for what is done. Next: `durable::holder`.

mod saver;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Sleep;

use self::saver::Saver;
use crate::durable::holder::{Memory, Session};
use crate::engine::events::{Events, lock};
use crate::engine::shared::{Shared, Via};
use crate::event::{Event, Reason};
use crate::message::SpoolId;
use crate::options::Options;
use crate::options::spool::{Ack, HolderOptions};
use crate::queue::PeerKey;
use crate::queue::inbox::{Ledger, Tag};
use crate::queue::outbound::Outbound;
use crate::store::cursor::FileCursor;
use crate::wire::command::durable::{self as wire, Durable, Nack, Refusal, Start, Started};
use crate::wire::frame;

/// Bytes that may be unacknowledged.
const WINDOW_BYTES: u32 = 4 << 20;
/// The window where the receive mark is unlimited.
const WIDE: u32 = 1_000_000;

/// What one socket knows of its durable name.
pub(crate) struct Holder {
    pub(crate) options: HolderOptions,
    topic: bool,
    window: u32,
    events: Arc<Events>,
    ledgers: Mutex<HashMap<SpoolId, Arc<SpoolLedger>>>,
    /// Which spool was behind a peer the last time.
    last: Mutex<HashMap<PeerKey, SpoolId>>,
    saver: Option<Arc<Saver>>,
    /// The answer to a name given up is here.
    ended: Notify,
    /// The name was given up: it is not asked for any more.
    given_up: AtomicBool,
    /// Handed out, and done when the next one is asked for or the socket is closed.
    hand: Mutex<Vec<Tag>>,
}

/// What is done of one spool.
pub(crate) struct SpoolLedger {
    spool: SpoolId,
    state: Mutex<LedgerState>,
    saver: Option<Arc<Saver>>,
}

struct LedgerState {
    memory: Memory,
    live: Option<Live>,
}

/// Spools remembered at most, beside those that are connected.
const MOST_SPOOLS: usize = 4096;
/// A peer that leaves so many bytes of acknowledgements unread gets no more until it reads: they merge meanwhile.
const MOST_UNREAD: usize = 64 * 1024;

/// Why acknowledgements are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// One more was added.
    Gathered,
    /// The deadline has come.
    Due,
    /// Nothing else is to be done.
    Idle,
}

/// The connection that takes acknowledgements now.
struct Live {
    session: Session,
    key: PeerKey,
    outbound: Arc<Outbound>,
}

impl Live {
    /// The peer does not read what we send. When it does, its task looks again.
    fn is_stuck(&self) -> bool {
        self.outbound.control_backlog(self.key) > MOST_UNREAD
    }

    fn send(&self, command: &Durable) {
        let mut out = BytesMut::new();
        wire::encode(&mut out, command);
        self.outbound.control(self.key, &out);
    }
}

impl LedgerState {
    /// Sends the acknowledgements that are due. Whether there were any.
    fn acknowledge(&mut self, when: When) -> bool {
        let Some(live) = &mut self.live else { return false };
        // The clock is not asked for every message.
        if when == When::Gathered && live.session.is_waiting() {
            return false;
        }
        if live.is_stuck() {
            return false;
        }
        let idle = when == When::Idle;
        let before = live.session.deadline();
        let mut sent = false;
        while let Some(acks) = live.session.take_acks(&self.memory, idle, Instant::now()) {
            live.send(&Durable::Acks(acks));
            sent = true;
        }
        if before.is_none() && live.session.deadline().is_some() {
            // Its task is to watch the clock from now on.
            live.outbound.nudge(live.key);
        }
        sent
    }
}

impl SpoolLedger {
    fn note(&self, change: impl FnOnce(&mut LedgerState), when: When) {
        let sent = {
            let mut state = lock(&self.state);
            change(&mut state);
            state.acknowledge(when)
        };
        if let Some(saver) = self.saver.as_ref().filter(|_| sent) {
            saver.save_soon();
        }
    }
}

impl Ledger for SpoolLedger {
    fn spool(&self) -> SpoolId {
        self.spool
    }

    fn done(&self, sequence: u64) {
        let change = |LedgerState { memory, live }: &mut LedgerState| match live {
            Some(live) => live.session.done(memory, sequence),
            None => memory.finish(sequence),
        };
        self.note(change, When::Gathered);
    }

    fn done_up_to(&self, sequence: u64) {
        let change = |LedgerState { memory, live }: &mut LedgerState| match live {
            Some(live) => live.session.done_up_to(memory, sequence),
            None => memory.finish_up_to(sequence),
        };
        self.note(change, When::Gathered);
    }

    fn retry(&self, sequence: u64, delay: Duration) {
        let mut state = lock(&self.state);
        let LedgerState { memory, live } = &mut *state;
        let Some(live) = live else {
            memory.release(sequence);
            return;
        };
        if live.session.reject(memory, sequence) {
            let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
            live.send(&Durable::Nack(Nack { sequence, delay_ms, reason: 0, text: String::new() }));
        }
    }

    fn release(&self, sequence: u64) {
        lock(&self.state).memory.release(sequence);
    }

    fn settle(&self) {
        self.note(|_| {}, When::Idle);
    }
}

impl Holder {
    pub(crate) fn open(
        options: &Options,
        holder: &HolderOptions,
        topic: bool,
        events: Arc<Events>,
    ) -> io::Result<Arc<Holder>> {
        let mut known: HashMap<SpoolId, Memory> = HashMap::new();
        let mut saver = None;
        if let Some(path) = &holder.cursor_file {
            let (file, states) = FileCursor::open(Path::new(path))?;
            known.extend(states.into_iter().map(|(spool, done, ranges)| (spool, Memory::new(done, ranges))));
            saver = Some(Arc::new(Saver::new(file)));
        }
        for token in &holder.resume {
            let further = known.get(&token.spool).is_none_or(|memory| memory.done() < token.sequence);
            if further && topic {
                known.insert(token.spool, Memory::new(token.sequence, Vec::new()));
            } else if further {
                // One worker's records: those between went to others.
                let number = token.sequence;
                let (done, mut ranges) =
                    known.remove(&token.spool).map_or((0, Vec::new()), |memory| (memory.done(), memory.ranges()));
                ranges.push((number, number));
                known.insert(token.spool, Memory::new(done, ranges));
            }
        }
        let ledger = |(spool, memory)| {
            let state = Mutex::new(LedgerState { memory, live: None });
            (spool, Arc::new(SpoolLedger { spool, state, saver: saver.clone() }))
        };
        let ledgers = known.into_iter().map(ledger).collect();
        let window = match options.recv_hwm {
            0 => WIDE,
            mark => u32::try_from(mark).unwrap_or(WIDE),
        };
        let holder = Arc::new(Holder {
            options: holder.clone(),
            topic,
            window,
            events,
            ledgers: Mutex::new(ledgers),
            last: Mutex::default(),
            saver,
            ended: Notify::new(),
            given_up: AtomicBool::new(false),
            hand: Mutex::default(),
        });
        if let Some(saver) = &holder.saver {
            saver.belongs_to(&holder);
        }
        Ok(holder)
    }

    /// Writes what is done to the user's file, and gives the file back. Blocking.
    pub(crate) fn close(&self) {
        if let Some(saver) = &self.saver {
            saver.close();
        }
    }

    fn ledger(&self, spool: SpoolId) -> Arc<SpoolLedger> {
        let fresh = || {
            let state = Mutex::new(LedgerState { memory: Memory::default(), live: None });
            Arc::new(SpoolLedger { spool, state, saver: self.saver.clone() })
        };
        let mut ledgers = lock(&self.ledgers);
        if ledgers.len() >= MOST_SPOOLS && !ledgers.contains_key(&spool) {
            // Strangers may call themselves as they like. What is forgotten may come again.
            let gone = ledgers.iter().find(|(_, ledger)| lock(&ledger.state).live.is_none()).map(|(spool, _)| *spool);
            gone.and_then(|spool| ledgers.remove(&spool));
        }
        ledgers.entry(spool).or_insert_with(fresh).clone()
    }

    /// The spool that is expected behind this peer: the last one, or the only one that is known.
    fn expected(&self, key: PeerKey) -> Option<Arc<SpoolLedger>> {
        let last = lock(&self.last).get(&key).copied();
        let ledgers = lock(&self.ledgers);
        match last {
            Some(spool) => ledgers.get(&spool).cloned(),
            // Not to a stranger while its own spool is connected: he could speak for it.
            None if ledgers.len() == 1 => {
                ledgers.values().next().filter(|ledger| lock(&ledger.state).live.is_none()).cloned()
            }
            None => None,
        }
    }

    /// The application has this one now, and will say that it is done by asking for more.
    pub(crate) fn hand_out(&self, tag: Tag) {
        lock(&self.hand).push(tag);
    }

    /// The application asks for more, or closes: what it has is done.
    pub(crate) fn finish_hand(&self) {
        let mut hand = lock(&self.hand);
        if hand.len() <= 1 {
            // One message after the other: the list keeps its memory.
            let tag = hand.pop();
            drop(hand);
            return tag.into_iter().for_each(|tag| tag.ledger.done(tag.sequence));
        }
        let tags = std::mem::take(&mut *hand);
        drop(hand);
        tags.iter().for_each(|tag| tag.ledger.done(tag.sequence));
    }

    /// The receiver vanished with these in hand: nobody said that they are done.
    pub(crate) fn release_hand(&self) {
        let tags = std::mem::take(&mut *lock(&self.hand));
        tags.iter().for_each(|tag| tag.ledger.release(tag.sequence));
    }

    /// Sends what is to be acknowledged.
    pub(crate) fn settle(&self) {
        let ledgers: Vec<Arc<SpoolLedger>> = lock(&self.ledgers).values().cloned().collect();
        ledgers.iter().for_each(|ledger| ledger.settle());
    }

    /// Gives the name up for good, on every spool that is connected. Ready when one has answered; false when none is
    /// connected.
    pub(crate) async fn end_name(&self) -> bool {
        let answered = self.ended.notified();
        self.given_up.store(true, Ordering::Relaxed);
        let ledgers: Vec<Arc<SpoolLedger>> = lock(&self.ledgers).values().cloned().collect();
        let mut asked = false;
        for ledger in ledgers {
            let state = lock(&ledger.state);
            if let Some(live) = &state.live {
                live.send(&Durable::End);
                asked = true;
            }
        }
        if asked {
            answered.await;
        }
        asked
    }
}

enum Role {
    /// DSTART is on its way.
    Asked,
    Started(Arc<SpoolLedger>),
    /// The other side keeps nothing: messages come without numbers.
    Plain,
}

/// One connection of a socket that holds a durable name.
pub(crate) struct Holding {
    holder: Arc<Holder>,
    key: PeerKey,
    address: Arc<str>,
    role: Role,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Holding {
    /// `durable`: the peer announced the extension.
    pub(crate) fn new(
        holder: Arc<Holder>,
        shared: &Shared,
        key: PeerKey,
        address: Arc<str>,
        durable: bool,
    ) -> Result<Holding, Reason> {
        let durable = durable && !holder.given_up.load(Ordering::Relaxed);
        let role = if durable { Role::Asked } else { Role::Plain };
        let mut holding = Holding { holder, key, address, role, timer: None };
        if durable {
            holding.ask(shared);
            return Ok(holding);
        }
        holding.be_plain()?;
        Ok(holding)
    }

    /// The other side keeps nothing.
    fn be_plain(&mut self) -> Result<(), Reason> {
        self.role = Role::Plain;
        self.holder.events.emit(Event::PlainPeer { peer: self.address.to_string() });
        if self.holder.options.require_durable { Err(Reason::IncompatibleType) } else { Ok(()) }
    }

    fn ask(&self, shared: &Shared) {
        let options = &self.holder.options;
        let known = self.holder.expected(self.key);
        let (spool, done) =
            known.map_or((SpoolId::NONE, 0), |ledger| (ledger.spool, lock(&ledger.state).memory.done()));
        let expiry_s = match options.name_expiry {
            None => 0,
            Some(Duration::ZERO) => u32::MAX,
            Some(time) => u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX),
        };
        let start = Start {
            manual: options.ack == Ack::Manual,
            oldest: options.from_oldest,
            take_over: options.take_over,
            window: self.holder.window,
            window_bytes: WINDOW_BYTES,
            spool,
            done: if self.holder.topic { done } else { 0 },
            expiry_s,
        };
        let mut out = BytesMut::new();
        wire::encode(&mut out, &Durable::Start(start));
        shared.outbound.control(self.key, &out);
    }

    pub(crate) fn handle(&mut self, shared: &Shared, command: Durable) -> Result<(), Reason> {
        match (command, &self.role) {
            (Durable::Started(started), Role::Asked) => {
                self.begin(shared, &started);
                Ok(())
            }
            (Durable::Started(_), Role::Started(_)) => {
                self.holder.ended.notify_waiters();
                Ok(())
            }
            // Too late: it was taken for a plain one. It is asked again.
            (Durable::Started(_), Role::Plain) => Err(Reason::Timeout),
            (Durable::Refusal(refusal), _) => Err(refusal_reason(refusal)),
            (Durable::Deliveries(deliveries), Role::Started(ledger)) => {
                let mut state = lock(&ledger.state);
                match state.live.as_mut().filter(|live| live.key == self.key) {
                    Some(live) => live.session.handle_deliveries(deliveries),
                    None => Err(Reason::IdentityTaken),
                }
            }
            (Durable::Head(_), _) => Ok(()),
            _ => Err(Reason::UnexpectedCommand),
        }
    }

    fn begin(&mut self, shared: &Shared, started: &Started) {
        if let (Some(saver), Some(runtime)) = (&self.holder.saver, shared.runtime()) {
            saver.move_in(runtime);
        }
        // Whoever came to us comes with another key the next time.
        let dialed = matches!(shared.table().get(&self.key).map(|entry| entry.via), Some(Via::Dial(_)));
        let before = if dialed { lock(&self.holder.last).insert(self.key, started.spool) } else { None };
        if let Some(old) = before.filter(|old| *old != started.spool) {
            lock(&self.holder.ledgers).remove(&old);
            let peer = self.address.to_string();
            self.holder.events.emit_kept(Event::SpoolChanged { peer, old, new: started.spool });
        }
        let ledger = self.holder.ledger(started.spool);
        let done = lock(&ledger.state).memory.done();
        if started.loss {
            self.tell_loss(started.lost);
        } else if started.new && (before == Some(started.spool) || done > 0) && done < started.resume_after {
            // The name that we held, now or in an earlier run, was dropped and is made anew: what was between is gone.
            self.tell_loss((done.saturating_add(1), started.resume_after));
        }
        {
            let mut state = lock(&ledger.state);
            let mut session = Session::new(self.holder.topic, self.holder.window);
            session.handle_started(&mut state.memory, started);
            state.live = Some(Live { session, key: self.key, outbound: shared.outbound.clone() });
            // What was finished while there was no connection.
            state.acknowledge(When::Idle);
        }
        self.role = Role::Started(ledger);
    }

    fn tell_loss(&self, (from, to): (u64, u64)) {
        let records = to.saturating_sub(from).saturating_add(1);
        let name = self.holder.options.name.clone();
        self.holder.events.emit_kept(Event::Lost { name, from, to, records, bytes: 0 });
    }

    /// Messages that arrived. Gives those back that are plain.
    pub(crate) fn take(&mut self, shared: &Shared, lane: PeerKey, mut bytes: Bytes) -> Result<Option<Bytes>, Reason> {
        let ledger = match &self.role {
            Role::Plain => return Ok(Some(bytes)),
            // A spooler delivers nothing before it has answered DSTART: the peer only copied our property.
            Role::Asked => {
                self.be_plain()?;
                return Ok(Some(bytes));
            }
            Role::Started(ledger) => ledger,
        };
        let (mut entries, mut outcome) = (VecDeque::new(), Ok(None));
        let tagged: Arc<dyn Ledger> = ledger.clone();
        {
            let mut state = lock(&ledger.state);
            let LedgerState { memory, live } = &mut *state;
            let Some(live) = live.as_mut().filter(|live| live.key == self.key) else {
                return Err(Reason::IdentityTaken);
            };
            entries.reserve(live.session.announced().min(bytes.len() / 2));
            while let Some(len) = frame::message_len(&bytes) {
                let message = bytes.split_to(len);
                match live.session.next(memory) {
                    Ok(None) => {}
                    Ok(Some(tag)) => {
                        let ledger = tagged.clone();
                        let tag = Tag { ledger, sequence: tag.sequence, tries: tag.tries, time: tag.time };
                        entries.push_back((message, tag));
                    }
                    // What was in order before it is delivered all the same.
                    Err(reason) => {
                        outcome = Err(reason);
                        break;
                    }
                }
            }
            state.acknowledge(When::Gathered);
        }
        if !entries.is_empty() {
            shared.inbox.publish_tagged(lane, entries);
        }
        outcome
    }

    /// Sends acknowledgements whose time has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        let Role::Started(ledger) = &self.role else { return };
        loop {
            let state = lock(&ledger.state);
            let live = state.live.as_ref().filter(|live| live.key == self.key && !live.is_stuck());
            let kept_back = live.is_some_and(|live| !live.session.is_waiting());
            let deadline = live.and_then(|live| live.session.deadline());
            drop(state);
            if kept_back {
                ledger.note(|_| {}, When::Idle);
                continue;
            }
            let Some(deadline) = deadline else {
                self.timer = None;
                return;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            if timer.deadline() != tokio::time::Instant::from_std(deadline) {
                timer.as_mut().reset(deadline.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer = None;
            ledger.note(|_| {}, When::Due);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Role::Started(ledger) = &self.role {
            let mut state = lock(&ledger.state);
            if state.live.as_ref().is_some_and(|live| live.key == self.key) {
                state.live = None;
            }
        }
        self.holder.ended.notify_waiters();
    }
}

/// Why the other side keeps its records to itself. A name that is in use may be free soon.
fn refusal_reason(refusal: Refusal) -> Reason {
    match refusal.code {
        Refusal::IN_USE => Reason::IdentityTaken,
        Refusal::NOT_ALLOWED => Reason::AuthDenied,
        Refusal::VERSION => Reason::UnsupportedVersion,
        _ => Reason::PeerError(refusal.text),
    }
}
