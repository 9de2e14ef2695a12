//! Cutting an encoded request in two, for backends that find it too large.

use super::wire::{self, BYTES, tag};
use crate::delivery::wire::{Fields, Value};

/// Cuts a request into one with the first `count` spans and one with the rest. `None` if the
/// bytes are no request; then there is nothing to cut.
pub(crate) fn split(request: &[u8], count: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut left = count;
    let mut halves = (Vec::new(), Vec::new());
    for field in Fields::new(request) {
        let (number, Value::Bytes(resource_spans)) = field.ok()? else { return None };
        if number == 1 {
            let (first, second) = split_resource(resource_spans, &mut left)?;
            append(&mut halves.0, first);
            append(&mut halves.1, second);
        }
    }
    Some(halves)
}

/// A half without spans is `None`.
type Halves = (Option<Vec<u8>>, Option<Vec<u8>>);

fn split_resource(content: &[u8], left: &mut u64) -> Option<Halves> {
    cut(content, |number, bytes| match number {
        2 => Some(Part::Cut(split_scope(bytes, left)?)),
        _ => Some(Part::Both),
    })
}

fn split_scope(content: &[u8], left: &mut u64) -> Option<Halves> {
    cut(content, |number, bytes| match number {
        2 if *left > 0 => {
            *left -= 1;
            Some(Part::Cut((Some(bytes.to_vec()), None)))
        }
        2 => Some(Part::Cut((None, Some(bytes.to_vec())))),
        _ => Some(Part::Both),
    })
}

enum Part {
    /// Belongs to both halves.
    Both,
    /// Is divided.
    Cut(Halves),
}

fn cut(content: &[u8], mut decide: impl FnMut(u64, &[u8]) -> Option<Part>) -> Option<Halves> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let (mut in_first, mut in_second) = (false, false);
    for field in Fields::new(content) {
        let (number, Value::Bytes(bytes)) = field.ok()? else { return None };
        // The encoder writes no other fields here, so the tag is one byte of this kind.
        let tag = tag(u8::try_from(number).ok().filter(|number| *number < 16)?, BYTES);
        match decide(number, bytes)? {
            Part::Both => {
                wire::bytes(&mut first, tag, bytes);
                wire::bytes(&mut second, tag, bytes);
            }
            Part::Cut((one, two)) => {
                if let Some(one) = one {
                    in_first = true;
                    wire::bytes(&mut first, tag, &one);
                }
                if let Some(two) = two {
                    in_second = true;
                    wire::bytes(&mut second, tag, &two);
                }
            }
        }
    }
    Some((in_first.then_some(first), in_second.then_some(second)))
}

fn append(request: &mut Vec<u8>, resource_spans: Option<Vec<u8>>) {
    if let Some(content) = resource_spans {
        wire::bytes(request, tag(1, BYTES), &content);
    }
}
