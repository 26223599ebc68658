//! Frames in and out, without a socket: `cargo bench --bench wire --features __internals`.

mod measure;

use bytes::{Bytes, BytesMut};
use ginnel::Message;
use ginnel::internals::{Decoder, encode, take_message};
use measure::measure;

const COUNT: usize = 1000;

fn main() {
    for size in [16, 64, 1024] {
        let message = Message::from(vec![7; size]);
        let mut out = BytesMut::with_capacity(COUNT * (size + 16));
        measure(&format!("encode {size} B"), COUNT, || {
            out.clear();
            (0..COUNT).for_each(|_| encode(&mut out, &message));
        });
        let wire = out.clone().freeze();
        measure(&format!("take {size} B"), COUNT, || {
            let mut rest = wire.clone();
            while let Some(message) = take_message(&mut rest) {
                std::hint::black_box(message);
            }
        });
    }
    let parts = Message::from(("routing", "", "body"));
    let mut out = BytesMut::new();
    measure("encode 3 frames", 1, || {
        out.clear();
        encode(&mut out, &parts);
    });
    for size in [16, 64, 1024] {
        let mut chunk = BytesMut::new();
        let message = Message::from(vec![7; size]);
        while chunk.len() < 64 * 1024 {
            encode(&mut chunk, &message);
        }
        let whole = chunk.freeze();
        let messages = decode(&whole);
        measure(&format!("parse 64 KiB of {size} B, a message"), messages, || {
            assert_eq!(decode(&whole), messages);
        });
    }
}

/// What a connection does with a chunk that it read; the copy stands for the read.
fn decode(chunk: &Bytes) -> usize {
    let mut input = BytesMut::from(&chunk[..]);
    Decoder::new().messages(&mut input)
}
