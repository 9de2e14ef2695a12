//! Reading a spool without taking it over, to send it somewhere else.

use std::io;
use std::path::{Path, PathBuf};

use super::fs::{Fs, RealFs};
use super::record::{HEADER, scan};
use super::segment::{self, HEAD};
use crate::lane::Request;

/// The segments below a spool directory, or below one instance of it; oldest first.
pub(crate) fn segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in RealFs.list(path)? {
        let inner = path.join(&name);
        if segment::number(&name).is_some() {
            found.push(inner);
        } else if super::is_instance(&name) {
            let names = RealFs.list(&inner)?;
            let segments = names.iter().filter(|name| segment::number(name).is_some());
            found.extend(segments.map(|name| inner.join(name)));
        }
    }
    Ok(found)
}

/// The whole requests in a segment, and how many records are damaged.
pub(crate) fn requests(path: &Path) -> io::Result<(Vec<Request>, u64)> {
    let bytes = std::fs::read(path)?;
    let (mut requests, mut damaged) = (Vec::new(), 0);
    for found in scan(&bytes, HEAD as usize) {
        let payload = bytes.get(found.range.start + HEADER..found.range.end);
        match payload.filter(|_| found.intact) {
            Some(payload) => requests.push(Request::new(
                found.header.form,
                payload.to_vec(),
                u64::from(found.header.spans),
            )),
            None => damaged += 1,
        }
    }
    Ok((requests, damaged))
}
