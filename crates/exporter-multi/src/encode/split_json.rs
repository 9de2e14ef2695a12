//! Cutting an OTLP JSON request in two, for backends that find it too large.
//!
//! Works on the text, so numbers keep their form. Spans are found by where they stand: the path
//! from the root to a span is object, array, object, array, object, array, object, and no other
//! object of a `TracesData` has that path (attributes of resource and scope take another turn).

/// What encloses a span: the objects and arrays open where its `{` stands.
const AROUND_SPAN: &[u8] = b"{[{[{[";

/// Cuts a request of [`otlp_json_line`](super::otlp_json_line) into one with the first `count`
/// spans and one with the rest. Resources and scopes stand in both.
pub(crate) fn split_json(request: &[u8], count: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    // Whether the array that is open has a span already, in each half.
    let (mut comma_first, mut comma_second) = (false, false);
    let mut number = 0;
    for piece in pieces(request) {
        match piece {
            Piece::Frame(bytes) => {
                first.extend_from_slice(bytes);
                second.extend_from_slice(bytes);
                (comma_first, comma_second) = (false, false);
            }
            Piece::Comma => {}
            Piece::Span(bytes) => {
                let (half, comma) = match number < count {
                    true => (&mut first, &mut comma_first),
                    false => (&mut second, &mut comma_second),
                };
                if std::mem::replace(comma, true) {
                    half.push(b',');
                }
                half.extend_from_slice(bytes);
                number += 1;
            }
        }
    }
    (first, second)
}

/// The spans in a request.
pub(crate) fn count_json_spans(request: &[u8]) -> u64 {
    pieces(request).iter().filter(|piece| matches!(piece, Piece::Span(_))).count() as u64
}

enum Piece<'a> {
    /// What stands around spans.
    Frame(&'a [u8]),
    /// Between two spans.
    Comma,
    Span(&'a [u8]),
}

fn pieces(request: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    let (mut in_text, mut escaped) = (false, false);
    let mut start = 0;
    let slice = |start: usize, end: usize| request.get(start..end).unwrap_or_default();
    for (position, &byte) in request.iter().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                if byte == b'{' && open == AROUND_SPAN {
                    match slice(start, position) {
                        b"," => pieces.push(Piece::Comma),
                        frame => pieces.push(Piece::Frame(frame)),
                    }
                    start = position;
                }
                open.push(byte);
            }
            b'}' | b']' => {
                open.pop();
                if byte == b'}' && open == AROUND_SPAN {
                    pieces.push(Piece::Span(slice(start, position + 1)));
                    start = position + 1;
                }
            }
            _ => {}
        }
    }
    pieces.push(Piece::Frame(slice(start, request.len())));
    pieces
}
