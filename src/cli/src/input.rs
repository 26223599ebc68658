//! stdin, read by a thread of its own: the runtime never waits for it, and signals end the command at once.
//!
//! The thread stops reading when two batches wait, so that a slow socket is felt by whoever writes to the
//! pipe. A batch never holds a record back: it goes as soon as the next read could block.

use std::io::{self, BufRead, BufReader, Read};

use ginnel::Message;
use tokio::sync::mpsc;

use crate::formats::{Format, ReadError, Reader};

/// Batches in the channel: one waits while the next is being read.
const BATCHES: usize = 2;
/// A batch ends at this many items…
const BATCH_ITEMS: usize = 256;
/// …or bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// A stream of items from the reading thread.
pub(crate) struct Input<T> {
    batches: mpsc::Receiver<Vec<T>>,
    batch: std::vec::IntoIter<T>,
}

impl<T> Input<T> {
    /// The next item; `None` at the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(item);
            }
            self.batch = self.batches.recv().await?.into_iter();
        }
    }
}

/// What the reading thread reads.
trait Source: Send + 'static {
    type Item: Send + 'static;

    /// The next item and its size; `None` at the end. May block.
    fn next(&mut self) -> Option<(Self::Item, usize)>;

    /// True when `next` does not block.
    fn ready(&self) -> bool;
}

fn spawn<S: Source>(mut source: S) -> Input<S::Item> {
    let (sender, batches) = mpsc::channel(BATCHES);
    std::thread::spawn(
        move || while read_batch(&mut source).is_some_and(|batch| sender.blocking_send(batch).is_ok()) {},
    );
    Input { batches, batch: Vec::new().into_iter() }
}

fn read_batch<S: Source>(source: &mut S) -> Option<Vec<S::Item>> {
    let (first, mut bytes) = source.next()?;
    let mut batch = vec![first];
    while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES && source.ready() {
        let Some((item, size)) = source.next() else { break };
        bytes += size;
        batch.push(item);
    }
    Some(batch)
}

/// Messages from stdin. An error is the last item.
pub(crate) fn records(format: Format, null: bool) -> Input<Result<Message, ReadError>> {
    spawn(Records { reader: Reader::new(io::stdin(), format, null), ended: false })
}

struct Records<R> {
    reader: Reader<R>,
    ended: bool,
}

impl<R: Read + Send + 'static> Source for Records<R> {
    type Item = Result<Message, ReadError>;

    fn next(&mut self) -> Option<(Self::Item, usize)> {
        if self.ended {
            return None;
        }
        let item = self.reader.next().transpose()?;
        self.ended = item.is_err();
        let size = item.as_ref().map_or(0, |message| message.size());
        Some((item, size))
    }

    fn ready(&self) -> bool {
        self.ended || self.reader.has_buffered()
    }
}

/// Lines from stdin, without their ends. An error is the last item.
pub(crate) fn lines() -> Input<io::Result<Vec<u8>>> {
    spawn(Lines { input: BufReader::with_capacity(BATCH_BYTES, io::stdin()), ended: false })
}

struct Lines<R> {
    input: BufReader<R>,
    ended: bool,
}

/// A longer line is refused: a missing line end must not fill the memory.
const LINE_BYTES_MAX: u64 = 1 << 30;

impl<R: Read + Send + 'static> Source for Lines<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<(Self::Item, usize)> {
        if self.ended {
            return None;
        }
        let mut line = Vec::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 >= LINE_BYTES_MAX {
            self.ended = true;
            return Some((Err(io::Error::other("a line is longer than 1 GiB")), 0));
        }
        match read {
            Ok(0) => None,
            Ok(size) => Some((Ok(line), size)),
            Err(e) => {
                self.ended = true;
                Some((Err(e), 0))
            }
        }
    }

    fn ready(&self) -> bool {
        self.ended || self.input.buffer().contains(&b'\n')
    }
}
