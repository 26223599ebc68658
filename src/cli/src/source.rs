//! What a sending command sends: `-D`, `-F` or the records of stdin, at the pace that was asked for.

use std::path::Path;
use std::time::Duration;

use ginnel::{Frame, Message};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::args::{FormatArgs, SourceArgs};
use crate::exit::{self, Failure};
use crate::formats::{Format, ReadError};
use crate::input::{self, Input};

pub(crate) struct Source {
    from: From,
    pace: Option<Pace>,
    delay: Option<Duration>,
    topic: Option<Frame>,
}

enum From {
    /// One message, once.
    Once(Option<Message>),
    /// One message, again and again.
    Repeated(Message, Interval),
    /// All of stdin, again and again.
    RepeatedStdin(Input<Result<Message, ReadError>>, Duration),
    Records(Input<Result<Message, ReadError>>),
}

impl Source {
    /// The first given of `-D`, `-F` and stdin.
    pub(crate) fn open(format: &FormatArgs, args: &SourceArgs, topic: Option<&str>) -> Result<Source, Failure> {
        let message = match (Message::from_frames(args.data.iter().map(String::as_str)), &args.file) {
            (Some(message), _) => Some(message),
            (None, Some(path)) if path.as_os_str() != "-" => Some(read_file(path)?),
            _ => None,
        };
        let from = match (message, args.interval) {
            (Some(message), Some(interval)) => From::Repeated(message, every(interval)),
            (Some(message), None) => From::Once(Some(message)),
            (None, Some(interval)) if args.file.is_some() => {
                From::RepeatedStdin(input::records(Format::Raw, false), interval)
            }
            (None, Some(_)) => return Err(Failure::usage("-i repeats what -D or -F gives; write one of them")),
            (None, None) if args.file.is_some() => From::Records(input::records(Format::Raw, false)),
            (None, None) => From::Records(input::records(format.input(), format.null)),
        };
        Ok(Source { from, pace: args.rate.map(Pace::new), delay: args.delay, topic: topic.map(Frame::from) })
    }

    /// The next message when its time has come; `None` at the end of input.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        if let Some(delay) = self.delay.take() {
            tokio::time::sleep(delay).await;
        }
        if let From::RepeatedStdin(input, period) = &mut self.from {
            let Some(message) = input.next().await.transpose().map_err(bad_record)? else { return Ok(None) };
            self.from = From::Repeated(message, every(*period));
        }
        let message = match &mut self.from {
            From::Once(message) => message.take(),
            From::Repeated(message, interval) => {
                interval.tick().await;
                Some(message.clone())
            }
            From::Records(input) | From::RepeatedStdin(input, _) => {
                input.next().await.transpose().map_err(bad_record)?
            }
        };
        let Some(message) = message else { return Ok(None) };
        if let Some(pace) = &mut self.pace {
            pace.wait().await;
        }
        Ok(Some(self.with_topic(message)))
    }

    fn with_topic(&self, message: Message) -> Message {
        match &self.topic {
            None => message,
            Some(topic) => {
                let frames = std::iter::once(topic.clone()).chain(message.iter().cloned());
                Message::from_frames(frames).unwrap_or(message)
            }
        }
    }
}

fn bad_record(e: ReadError) -> Failure {
    let code = if matches!(e, ReadError::Io(_)) { exit::FAILED } else { exit::BAD_DATA };
    Failure::new(code, e)
}

fn read_file(path: &Path) -> Result<Message, Failure> {
    let bytes =
        std::fs::read(path).map_err(|e| Failure::failed(format_args!("cannot read {}: {e}", path.display())))?;
    Ok(Message::from(bytes))
}

fn every(period: Duration) -> Interval {
    // The clock of the runtime has steps of a millisecond and no use for zero.
    let mut interval = tokio::time::interval(period.max(Duration::from_micros(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// `--rate N`: message i goes no sooner than i/N seconds after the first.
struct Pace {
    period: Duration,
    due: Option<Instant>,
}

/// So much of the past may be made up for: one step of the runtime's clock and some.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Pace {
    fn new(rate: u32) -> Pace {
        Pace { period: Duration::from_secs(1) / rate.max(1), due: None }
    }

    async fn wait(&mut self) {
        let now = Instant::now();
        let due = self.due.map_or(now, |due| due.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        if due > now {
            tokio::time::sleep_until(due).await;
        }
        self.due = Some(due + self.period);
    }
}
