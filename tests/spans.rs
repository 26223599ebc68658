//! What a collector of traces sees: one span per connection.
//!
//! Alone in its file, because a process has one collector.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use ginnel::*;

/// Counts spans by name, and those that are still open.
#[derive(Default)]
struct Spans {
    next: AtomicU64,
    names: Mutex<Vec<(u64, &'static str)>>,
    closed: Mutex<Vec<u64>>,
}

struct Collector(Arc<Spans>);

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "ginnel"
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.names.lock().unwrap().push((id, span.metadata().name()));
        tracing::span::Id::from_u64(id)
    }

    fn try_close(&self, id: tracing::span::Id) -> bool {
        self.0.closed.lock().unwrap().push(id.into_u64());
        true
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn p02_each_connection_is_one_span() {
    let spans = Arc::new(Spans::default());
    tracing::subscriber::set_global_default(Collector(spans.clone())).unwrap();
    let pull = Pull::bind("tcp://127.0.0.1:0").await.unwrap();
    for _ in 0..3 {
        let push = Push::connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        soon(push.close()).await;
        until(|| pull.peers().is_empty()).await;
    }
    soon(pull.close()).await;
    let names = spans.names.lock().unwrap().clone();
    assert_eq!(names.iter().filter(|(_, name)| *name == "connection").count(), 6, "both ends of three: {names:?}");
    assert_eq!(spans.closed.lock().unwrap().len(), names.len(), "each ends with its connection");
}
