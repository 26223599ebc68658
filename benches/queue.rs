//! Where messages wait, without a connection: `cargo bench --bench queue --features __internals`.

mod measure;

use bytes::BytesMut;
use ginnel::Message;
use ginnel::internals::{Inbox, Outbox, encode};
use measure::measure;

const COUNT: usize = 1000;

fn main() {
    for size in [16, 64, 1024] {
        let message = Message::from(vec![7; size]);
        let mut outbox = Outbox::default();
        measure(&format!("outbox, put and take {size} B"), COUNT, || {
            (0..COUNT).for_each(|_| outbox.put(&message));
            while outbox.take() > 0 {}
        });
        let mut wire = BytesMut::new();
        (0..COUNT).for_each(|_| encode(&mut wire, &message));
        let wire = wire.freeze();
        let mut inbox = Inbox::default();
        measure(&format!("inbox, put and take {size} B"), COUNT, || {
            inbox.put(wire.clone(), COUNT);
            for _ in 0..COUNT {
                assert!(std::hint::black_box(inbox.take()).is_some());
            }
        });
    }
}
