//! Counting messages in a stream of bytes: each is preceded by a flag and its length (four bytes,
//! the most significant first).

/// Bytes in front of a message.
const PREFIX: usize = 5;

/// Counts the messages that have begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Messages {
    count: u64,
    /// Of the prefix, so far; less than `PREFIX`.
    prefix: usize,
    length: u32,
    /// Of the message, still to come.
    rest: usize,
}

impl Messages {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next piece of the stream, cut anywhere. Linear in the number of messages.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            let Some((first, after)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else {
                return;
            };
            // The flag is shifted out by the four bytes of the length.
            self.length = (self.length << 8) | u32::from(*first);
            self.prefix += 1;
            bytes = after;
            if self.prefix == PREFIX {
                self.count += 1;
                self.rest = usize::try_from(self.length).unwrap_or(usize::MAX);
                (self.prefix, self.length) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_counted_however_the_stream_is_cut(
            lengths in prop::collection::vec(0_usize..400, 0..20),
            cut in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for length in &lengths {
                stream.push(1);
                stream.extend_from_slice(&u32::try_from(*length).unwrap().to_be_bytes());
                stream.resize(stream.len() + length, 0xff);
            }
            let mut messages = Messages::default();
            stream.chunks(cut).for_each(|piece| messages.take(piece));
            prop_assert_eq!(messages.count(), lengths.len() as u64);
        }

        #[test]
        fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut messages = Messages::default();
            pieces.iter().for_each(|piece| messages.take(piece));
        }
    }
}
