//! The spool as users see it: [`Spool`], [`Pending`], and their numbers.
//!
//! A face over the engine's: no state of its own. Next: `engine::durable`.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::durable::Durability;
use crate::engine::durable::spool::{self as inner, Name, OUTBOX};
use crate::engine::events::Events;
use crate::error::{BuildError, SendError, SpoolError, TrySendError};
use crate::message::{Message, Receipt, SpoolId};
use crate::options::{Options, SocketType};
use crate::store::log::stats::LogState;
use crate::store::log::{LogStats, Refused, Ticket};
use crate::store::record::Extra;

/// Checked options with what they opened: what a socket is made of.
#[derive(Default)]
pub(crate) struct Built {
    pub(crate) options: Arc<Options>,
    pub(crate) durability: Durability,
    pub(crate) events: Arc<Events>,
}

impl Built {
    pub(crate) fn open(kind: SocketType, options: Arc<Options>) -> Result<Built, BuildError> {
        let events = Arc::new(Events::default());
        let durability = Durability::open(kind, &options, &events)?;
        Ok(Built { options, durability, events })
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Built")
    }
}

/// The spool of a PUB or PUSH: its numbers, and its durable names. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<inner::Spool>,
}

/// Whether a spool takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolState {
    /// It does.
    Open,
    /// A limit is reached, or the disk is full: [`WhenFull`](crate::WhenFull) runs.
    Full,
    /// Writing or syncing failed: nothing is accepted until it is opened again.
    Failed,
    /// Its socket is closed.
    Closed,
}

/// A spool's numbers at the moment of the call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Its identity.
    pub id: SpoolId,
    /// Whether it takes messages.
    pub state: SpoolState,
    /// Records on disk.
    pub records: u64,
    /// Bytes of the segment files, prepared ones included.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// How old the oldest record is.
    pub oldest_age: Option<Duration>,
    /// The lowest number that may still be there.
    pub oldest: u64,
    /// The last number given out.
    pub newest: u64,
    /// Peers may have everything up to here.
    pub visible: u64,
    /// Everything up to here survives a power cut.
    pub durable: u64,
    /// Bytes that wait for the writer.
    pub open_batch_bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// How long syncs took: upper bounds and counts.
    pub sync_time: Vec<(Duration, u64)>,
    /// Batches written.
    pub batches: u64,
    /// Sends that had to wait for space.
    pub full_waits: u64,
    /// Sends refused for want of space.
    pub rejects: u64,
    /// Records dropped by a limit before every name had them.
    pub dropped_records: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Records that could not be read.
    pub damaged_records: u64,
    /// Bytes that could not be read.
    pub damaged_bytes: u64,
    /// Bytes of a torn tail, cut when the spool was opened.
    pub recovered_bytes: u64,
    /// Gaps in the numbers.
    pub gaps: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// The durable names; a PUSH has one without a name, for all its workers.
    pub names: Vec<NameStats>,
}

/// One durable name at the moment of the call.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NameStats {
    /// The name; empty for a PUSH's own queue.
    pub name: String,
    /// Its connections: 0 or 1 for a name, the workers of a PUSH.
    pub connections: usize,
    /// Everything up to here is done.
    pub cursor: u64,
    /// Records that it is behind, at most: those that its prefixes do not match count, too.
    pub lag_records: u64,
    /// About how many bytes that is.
    pub lag_bytes: u64,
    /// How old the oldest of them is.
    pub lag_age: Duration,
    /// Sent and not acknowledged.
    pub in_flight: u64,
    /// Deliveries since the spool was opened.
    pub sent: u64,
    /// Acknowledged ones.
    pub acked: u64,
    /// Deliveries that were not the first of their record.
    pub redelivered: u64,
    /// Given back by the holder.
    pub nacked: u64,
    /// Passed over because their time was over.
    pub expired: u64,
    /// Records that it will never get.
    pub lost_records: u64,
    /// Their bytes.
    pub lost_bytes: u64,
    /// How long its window was closed.
    pub closed_window: Duration,
    /// When it was last connected; in microseconds since 1970.
    pub last_seen_us: i64,
    /// When it will be dropped if it stays away.
    pub expires_in: Option<Duration>,
}

impl NameStats {
    /// Whether somebody is connected.
    pub fn connected(&self) -> bool {
        self.connections > 0
    }
}

impl Spool {
    pub(crate) fn new(inner: Arc<inner::Spool>) -> Spool {
        Spool { inner }
    }

    /// Its identity: made with the directory.
    pub fn id(&self) -> SpoolId {
        self.inner.log.id()
    }

    /// Its numbers, and those of its names.
    pub fn stats(&self) -> SpoolStats {
        let stats = self.inner.log.stats();
        let names = self.inner.all_names().iter().map(|name| self.name_stats(name, &stats)).collect();
        SpoolStats {
            id: self.id(),
            state: match stats.state {
                LogState::Open => SpoolState::Open,
                LogState::Full => SpoolState::Full,
                LogState::Failed => SpoolState::Failed,
                LogState::Closed => SpoolState::Closed,
            },
            records: stats.records,
            bytes: stats.bytes,
            segments: stats.segments,
            oldest_age: stats.oldest_age,
            oldest: stats.oldest,
            newest: stats.newest,
            visible: stats.visible,
            durable: stats.durable,
            open_batch_bytes: stats.open_batch_bytes,
            syncs: stats.syncs,
            sync_time: stats.sync_time,
            batches: stats.batches,
            full_waits: stats.full_waits,
            rejects: stats.rejects,
            dropped_records: stats.dropped_records,
            dropped_bytes: stats.dropped_bytes,
            damaged_records: stats.damaged_records,
            damaged_bytes: stats.damaged_bytes,
            recovered_bytes: stats.recovered_bytes,
            gaps: stats.gaps,
            delayed: stats.delayed,
            dead_letters: stats.dead_letters,
            names,
        }
    }

    /// The durable names.
    pub fn names(&self) -> Vec<NameStats> {
        let stats = self.inner.log.stats();
        self.inner.all_names().iter().map(|name| self.name_stats(name, &stats)).collect()
    }

    fn name_stats(&self, name: &Name, stats: &LogStats) -> NameStats {
        let lag = stats.names.iter().find(|lag| lag.name == name.name).cloned().unwrap_or_default();
        let state = name.lock();
        let cursor = state.queue.cursor();
        NameStats {
            name: name.name.clone(),
            connections: state.holders.len(),
            cursor,
            // The books may be a moment older than the cursor.
            lag_records: lag.lag_records.min(stats.visible.saturating_sub(cursor)),
            lag_bytes: lag.lag_bytes,
            lag_age: lag.lag_age,
            in_flight: state.queue.total_in_flight() as u64,
            sent: state.counts.sent,
            acked: state.counts.acked,
            redelivered: state.queue.redelivered(),
            nacked: state.counts.nacked,
            expired: state.counts.expired,
            lost_records: lag.lost_records,
            lost_bytes: lag.lost_bytes,
            closed_window: state.closed_window(Instant::now()),
            last_seen_us: lag.last_seen,
            expires_in: lag.expires_in,
        }
    }

    /// Makes a durable name before anyone connects with it, or replaces its prefixes: from now on what matches is kept
    /// for it. On disk when this returns.
    ///
    /// # Errors
    /// [`SpoolError`]: no name, too many names, or it could not be saved.
    ///
    /// # Cancel safety
    /// Dropped, the name may have been made.
    pub async fn declare<P: AsRef<[u8]>>(
        &self,
        name: &str,
        prefixes: impl IntoIterator<Item = P>,
    ) -> Result<(), SpoolError> {
        if self.inner.is_outbox() {
            return Err(SpoolError::Refused(
                "a PUSH has no durable names: every message goes to one worker".to_owned(),
            ));
        }
        let mut prefixes: Vec<Vec<u8>> = prefixes.into_iter().map(|prefix| prefix.as_ref().to_vec()).collect();
        if prefixes.is_empty() {
            prefixes.push(Vec::new());
        }
        self.inner.declare(name, &prefixes).map_err(|refusal| SpoolError::Refused(refusal.text))?;
        self.save().await
    }

    /// Gives up a durable name for good: what was kept for it alone goes. False when there is none.
    ///
    /// # Errors
    /// [`SpoolError::Io`]: it could not be saved.
    ///
    /// # Cancel safety
    /// Dropped, the name may have been dropped, too.
    pub async fn drop_name(&self, name: &str) -> Result<bool, SpoolError> {
        let dropped = name != OUTBOX && self.inner.drop_name(name, None);
        if dropped {
            self.save().await?;
        }
        Ok(dropped)
    }

    async fn save(&self) -> Result<(), SpoolError> {
        let log = self.inner.log.clone();
        let saved = crate::engine::apart(move || log.save_both()).await;
        saved.and_then(|saved| saved).map_err(SpoolError::Io)
    }

    /// Withdraws a message that waits for its time (see [`Sender::send_at`](crate::Sender::send_at)). False when the
    /// receipt is of another kind, or it is too late.
    pub fn cancel(&self, receipt: Receipt) -> bool {
        match receipt.sequence() {
            Some(number) if receipt.is_delayed() => self.cancel_number(number),
            _ => false,
        }
    }

    /// As [`Spool::cancel`], by the number of a delayed message alone: for a receipt of an earlier run.
    pub fn cancel_number(&self, number: u64) -> bool {
        self.inner.log.cancel_delayed(number)
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The append side, as a pattern's sender uses it.
impl Spool {
    fn refused(refused: Refused, message: Message) -> SendError<Message> {
        match refused {
            Refused::Full => SendError::Full(message),
            Refused::TooLarge => SendError::TooLarge(message),
            Refused::Failed => SendError::SpoolFailed(message),
            Refused::Closed => SendError::Closed(message),
        }
    }

    /// Waits for room, takes a number.
    pub(crate) async fn append(
        &self,
        message: Message,
        limit: Option<Duration>,
    ) -> Result<Pending, SendError<Message>> {
        if self.inner.is_closed() {
            return Err(SendError::Closed(message));
        }
        if self.inner.takes_toll() {
            // Before anything is accepted: who reads the log is to keep up with a loop that only writes.
            crate::engine::yield_now().await;
            self.inner.keep_touch().await;
        }
        let extra = Extra::default();
        match self.inner.log.try_append(&message, &extra) {
            Ok(sequence) => return Ok(self.pending(sequence, false)),
            Err(Refused::Full) => {}
            Err(refused) => return Err(Spool::refused(refused, message)),
        }
        let mut waiting = InLine { spool: &self.inner, ticket: Ticket::default() };
        let wait = poll_fn(|cx| waiting.spool.log.poll_append(cx, &mut waiting.ticket, &message, &extra));
        match crate::engine::within(limit, wait).await {
            None => Err(SendError::Timeout(message)),
            Some(Ok(sequence)) => Ok(self.pending(sequence, false)),
            Some(Err(refused)) => Err(Spool::refused(refused, message)),
        }
    }

    /// Waits for room, and then until the message is accepted.
    pub(crate) async fn send(&self, message: Message, limit: Option<Duration>) -> Result<Receipt, SendError<Message>> {
        self.append(message, limit).await?.accepted().await
    }

    pub(crate) fn try_append(&self, message: Message) -> Result<u64, TrySendError<Message>> {
        if self.inner.is_closed() {
            return Err(TrySendError::Closed(message));
        }
        self.inner.log.try_append(&message, &Extra::default()).map_err(|refused| match refused {
            Refused::Full => TrySendError::Full(message),
            Refused::TooLarge => TrySendError::TooLarge(message),
            Refused::Failed => TrySendError::SpoolFailed(message),
            Refused::Closed => TrySendError::Closed(message),
        })
    }

    /// As many of these as there is room for now.
    pub(crate) fn try_append_all(&self, messages: &mut VecDeque<Message>) -> usize {
        if self.inner.is_closed() {
            return 0;
        }
        self.inner.log.try_append_all(messages).map_or(0, |(count, _)| count)
    }

    /// The first message in a spool's life that waits for its time makes the place for them, which may block.
    pub(crate) async fn append_at(&self, message: Message, due: SystemTime) -> Result<Pending, SendError<Message>> {
        if self.inner.is_closed() {
            return Err(SendError::Closed(message));
        }
        let due = match due.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        let (log, copy) = (self.inner.log.clone(), message.clone());
        let appended = crate::engine::apart(move || log.append_delayed(&copy, due)).await;
        match appended {
            Ok(Ok(number)) => Ok(self.pending(number, true)),
            Ok(Err(refused)) => Err(Spool::refused(refused, message)),
            Err(_) => Err(SendError::SpoolFailed(message)),
        }
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) -> Result<(), SendError<()>> {
        if self.inner.is_closed() {
            return Err(SendError::Closed(()));
        }
        let mut waiting = InLine { spool: &self.inner, ticket: Ticket::default() };
        let room = poll_fn(|cx| waiting.spool.log.poll_room(cx, &mut waiting.ticket)).await;
        room.map_err(|refused| match refused {
            Refused::Closed => SendError::Closed(()),
            Refused::Full => SendError::Full(()),
            Refused::TooLarge => SendError::TooLarge(()),
            Refused::Failed => SendError::SpoolFailed(()),
        })
    }

    /// Whether there is room now.
    pub(crate) fn try_room(&self) -> Result<(), TrySendError<()>> {
        if self.inner.is_closed() {
            return Err(TrySendError::Closed(()));
        }
        let mut line = InLine { spool: &self.inner, ticket: Ticket::default() };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match line.spool.log.poll_room(&mut cx, &mut line.ticket) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Pending | Poll::Ready(Err(Refused::Full)) => Err(TrySendError::Full(())),
            Poll::Ready(Err(Refused::Closed)) => Err(TrySendError::Closed(())),
            Poll::Ready(Err(Refused::TooLarge)) => Err(TrySendError::TooLarge(())),
            Poll::Ready(Err(Refused::Failed)) => Err(TrySendError::SpoolFailed(())),
        }
    }

    /// For a permit: it was given room.
    pub(crate) fn append_permitted(&self, message: &Message) -> Result<u64, ()> {
        if self.inner.is_closed() {
            return Err(());
        }
        self.inner.log.append_permitted(message).map_err(drop)
    }

    /// For a sink: `message` is taken when it is appended; refused, it waits in the sink no more.
    pub(crate) fn poll_append(
        &self,
        cx: &mut Context<'_>,
        line: &mut Line,
        message: &mut Option<Message>,
        back: &mut VecDeque<Message>,
    ) -> Poll<Result<(), SendError<Message>>> {
        let Some(content) = message.take() else { return Poll::Ready(Ok(())) };
        if self.inner.is_closed() {
            return Poll::Ready(Err(SendError::Closed(content)));
        }
        match self.inner.log.poll_append(cx, &mut line.ticket, &content, &Extra::default()) {
            Poll::Ready(Ok(sequence)) => {
                line.last = sequence;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(refused)) => Poll::Ready(Err(Spool::refused(refused, content))),
            Poll::Pending => {
                back.push_front(content);
                Poll::Pending
            }
        }
    }

    /// Ready when what this line appended is accepted; the error is its last number.
    pub(crate) fn poll_flushed(&self, cx: &mut Context<'_>, line: &Line) -> Poll<Result<(), u64>> {
        self.inner.log.poll_flushed(line.last, cx).map(|flushed| flushed.map_err(|_| line.last))
    }

    fn pending(&self, sequence: u64, delayed: bool) -> Pending {
        Pending { spool: self.inner.clone(), sequence, delayed, waited: false }
    }

    /// Everything numbered so far is accepted.
    pub(crate) async fn flush(&self) -> Result<(), SendError<()>> {
        let target = self.inner.log.newest();
        let flushed = poll_fn(|cx| self.inner.log.poll_flushed(target, cx)).await;
        flushed.map_err(|_| SendError::DurabilityUnknown { sequence: target })
    }

    pub(crate) fn leave_line(&self, line: &mut Line) {
        self.inner.log.abandon(&mut line.ticket);
    }
}

/// A place in the line for room.
#[derive(Default)]
pub(crate) struct Line {
    ticket: Ticket,
    /// The number taken last.
    last: u64,
}

struct InLine<'a> {
    spool: &'a inner::Spool,
    ticket: Ticket,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.spool.log.abandon(&mut self.ticket);
    }
}

/// A message that has its number and is on its way to the disk: resolves to the receipt once it is accepted.
///
/// Dropped, the message is written all the same; only nobody waits for it.
#[must_use = "the message is accepted when this resolves"]
pub struct Pending {
    spool: Arc<inner::Spool>,
    sequence: u64,
    delayed: bool,
    waited: bool,
}

impl Pending {
    /// The record's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Pending {
    /// As awaiting it, with the error of a send.
    pub(crate) async fn accepted(self) -> Result<Receipt, SendError<Message>> {
        let sequence = self.sequence;
        self.await.map_err(|_| SendError::DurabilityUnknown { sequence })
    }
}

impl Future for Pending {
    /// The error is `DurabilityUnknown`: the spool failed on the way.
    type Output = Result<Receipt, SendError<()>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (log, sequence) = (&this.spool.log, this.sequence);
        let poll = match this.delayed {
            false => log.poll_accepted(sequence, cx),
            true => log.poll_delayed_accepted(sequence, cx),
        };
        this.waited = poll.is_pending();
        poll.map(|accepted| match accepted {
            Ok(()) if this.delayed => Ok(Receipt::delayed(sequence)),
            Ok(()) => Ok(Receipt::numbered(sequence)),
            Err(_) => Err(SendError::DurabilityUnknown { sequence }),
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match (self.waited, self.delayed) {
            (false, _) => {}
            (true, false) => self.spool.log.forget_waiter(self.sequence),
            (true, true) => self.spool.log.forget_delayed_waiter(self.sequence),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
