//! Who gets a name: [`Claim`] and [`Granted`], and a worker's place at a PUSH.
//!
//! A claim is judged under the lock of the names: two at once cannot both be let in. Next: `spool`.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::spool::{Name, OUTBOX, Spool};
use crate::durable::queue::{HolderKey, Window};
use crate::event::Reason;
use crate::message::SpoolId;
use crate::options::spool::is_durable_name;
use crate::queue::PeerKey;
use crate::wire::command::durable::{Refusal, Start, Started};

/// A holder at the door.
pub(crate) struct Claim<'a> {
    pub(crate) key: PeerKey,
    pub(crate) name: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) start: &'a Start,
    /// What it subscribed to before it asked.
    pub(crate) topics: &'a [Vec<u8>],
    /// A holder silent for so long may be replaced.
    pub(crate) silence: Duration,
}

/// A holder that was let in.
pub(crate) struct Granted {
    pub(crate) name: Arc<Name>,
    pub(crate) holder: HolderKey,
    pub(crate) answer: Started,
    pub(crate) save: Save,
}

/// What has to be on disk before the answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Save {
    Nothing,
    Once,
    /// A new name: a slot that is lost must not be older than it.
    Both,
}

pub(super) fn refuse<T>(code: u16, retry_ms: u32, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, retry_ms, text: text.into() })
}

impl Spool {
    /// A worker of a PUSH joins; `label` is the name that it gives itself.
    pub(crate) fn join_outbox(
        &self,
        key: PeerKey,
        window: Window,
        start: &Start,
        label: Option<&str>,
    ) -> Result<Granted, Refusal> {
        let Some(name) = self.names().get(OUTBOX).cloned() else {
            return refuse(Refusal::SPOOL_FAILED, 1000, "the spool is closing");
        };
        let (holder, wakers) = {
            let mut state = name.lock();
            let holder = match label.filter(|_| self.options.pin) {
                Some(label) => state.queue.join_as(label, window),
                None => Some(state.queue.join(window)),
            };
            let Some(holder) = holder else {
                return refuse(Refusal::IN_USE, 200, "a worker of this name is connected, and records are pinned");
            };
            state.holders.push((key, holder));
            (holder, state.wake_others())
        };
        wakers.into_iter().for_each(Waker::wake);
        let changed = start.spool != self.log.id() && start.spool != SpoolId::NONE;
        let mut answer = self.answer(name.lock().queue.cursor(), changed);
        self.add_loss(&mut answer, OUTBOX);
        Ok(Granted { name, holder, answer, save: Save::Nothing })
    }

    /// What the name lost and was not told of yet.
    fn add_loss(&self, answer: &mut Started, name: &str) {
        if let Some(lost) = self.log.registry(|registry| registry.names.get_mut(name).and_then(|name| name.lost)) {
            (answer.loss, answer.lost) = (true, lost);
        }
    }

    fn answer(&self, resume_after: u64, changed: bool) -> Started {
        Started {
            new: false,
            changed,
            loss: false,
            spool: self.log.id(),
            resume_after,
            head: self.log.newest(),
            oldest: self.log.oldest(),
            lost: (0, 0),
        }
    }

    /// A holder asks for its name.
    pub(crate) fn claim(&self, claim: &Claim<'_>) -> Result<Granted, Refusal> {
        if !is_durable_name(claim.name) {
            return refuse(Refusal::BAD_NAME, 0, "a name is 1 to 64 bytes of printable ASCII without space");
        }
        if self.options.require_auth && claim.user.is_none() {
            return refuse(Refusal::NOT_ALLOWED, 0, "this spool gives names to authenticated peers only");
        }
        let mut names = self.names();
        let Some(known) = names.get(claim.name).cloned() else {
            self.check_done(claim)?;
            let owner = claim.user.map(str::to_owned);
            let name = self.insert(&mut names, claim.name, claim.topics, claim.start.oldest, |record| {
                record.owner = owner;
                match claim.start.expiry_s {
                    0 => {}
                    u32::MAX => record.expiry_s = 0,
                    seconds => record.expiry_s = seconds,
                }
            })?;
            let mut granted = self.let_in(claim, name, false);
            (granted.answer.new, granted.save) = (true, Save::Both);
            return Ok(granted);
        };
        // The lock stays: of two that ask at once one finds the other. A refusal changes nothing.
        self.check_owner(claim, &known)?;
        self.check_done(claim)?;
        self.make_way(claim, &known)?;
        let changed = !claim.topics.is_empty() && self.refilter(&known, claim.topics);
        let mut granted = self.let_in(claim, known, true);
        granted.save = if changed { Save::Once } else { Save::Nothing };
        Ok(granted)
    }

    fn check_owner(&self, claim: &Claim<'_>, name: &Name) -> Result<(), Refusal> {
        let mut state = name.lock();
        match (&state.owner, claim.user) {
            (Some(owner), user) if user != Some(owner) => {
                refuse(Refusal::NOT_ALLOWED, 0, "this name belongs to another user")
            }
            (None, Some(user)) => {
                state.owner = Some(user.to_owned());
                self.log.registry(|registry| {
                    let record = registry.names.get_mut(claim.name);
                    record.into_iter().for_each(|record| record.owner = Some(user.to_owned()));
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A name has one holder: the one before must have gone, be silent, or be replaced on request.
    fn make_way(&self, claim: &Claim<'_>, name: &Name) -> Result<(), Refusal> {
        let mut state = name.lock();
        let Some(&(old, holder)) = state.holders.first() else { return Ok(()) };
        let silent = !claim.silence.is_zero() && self.silence(name) > claim.silence;
        if !claim.start.take_over && !silent {
            return refuse(Refusal::IN_USE, 200, "this name is in use by another connection");
        }
        state.queue.leave(holder);
        state.holders.clear();
        drop(state);
        self.kick(old, Reason::IdentityTaken);
        Ok(())
    }

    /// A holder cannot be ahead, unless this directory is an old copy.
    fn check_done(&self, claim: &Claim<'_>) -> Result<(), Refusal> {
        let (start, newest) = (claim.start, self.log.newest());
        if start.spool != self.log.id() || start.done <= newest {
            return Ok(());
        }
        refuse(
            Refusal::CURSOR_AHEAD,
            30_000,
            format!(
                "the holder has seen record {}, the newest here is {newest}: the spool's directory is an old copy; make \
                 it a spool of its own with `ginnel spool new-id`",
                start.done
            ),
        )
    }

    fn let_in(&self, claim: &Claim<'_>, name: Arc<Name>, known: bool) -> Granted {
        let start = claim.start;
        let same = start.spool == self.log.id();
        let mut state = name.lock();
        if same && start.done > state.queue.cursor() {
            state.queue.start_at(start.done);
            self.advance(&name, &mut state, true);
        }
        let window = Window { messages: start.window.max(1), bytes: start.window_bytes };
        let holder = state.queue.join(window);
        state.holders.push((claim.key, holder));
        let changed = !same && start.spool != SpoolId::NONE;
        let mut answer = self.answer(state.queue.cursor(), changed);
        drop(state);
        if known {
            self.add_loss(&mut answer, claim.name);
        }
        self.heard(&name);
        self.log.set_connected(&name.name, true);
        Granted { name, holder, answer, save: Save::Nothing }
    }
}
