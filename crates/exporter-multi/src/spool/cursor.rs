//! Where a backend stands in a log, on disk.
//!
//! A cursor is a file of two slots that is never longer nor shorter: writing needs no space. The
//! slots are written in turn, so a write that tears costs the newer one only, and the older one
//! means that some spans are sent again.
//!
//! A slot: `SWC1`, the stream, the generation, the segment, the offset, and the CRC-32 of those.

use std::io;

use super::fs::File;

/// A place in a log: the segment's number and the offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) generation: u64,
    pub(crate) stream: u32,
    pub(crate) position: Position,
}

const SLOT: usize = 36;
/// Slots lie in blocks of their own, so that no write touches both.
const SLOT_SPACING: u64 = 512;
const LENGTH: usize = 1024;
const MAGIC: &[u8] = b"SWC1";

impl Slot {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.stream.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.position.segment.to_le_bytes());
        bytes.extend_from_slice(&self.position.offset.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.get(..SLOT)?.split_at_checked(SLOT - 4)?;
        if crc != crc32fast::hash(content).to_le_bytes() {
            return None;
        }
        let rest = content.strip_prefix(MAGIC)?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (offset, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            stream: u32::from_le_bytes(*stream),
            generation: u64::from_le_bytes(*generation),
            position: Position {
                segment: u64::from_le_bytes(*segment),
                offset: u64::from_le_bytes(*offset),
            },
        })
    }

    /// The newer of the slots that can be read.
    pub(crate) fn newest(file: &[u8]) -> Option<Self> {
        let second = file.get(SLOT_SPACING as usize..).unwrap_or_default();
        [Self::parse(file), Self::parse(second)].into_iter().flatten().max_by_key(|s| s.generation)
    }
}

/// The file of a cursor.
pub(crate) struct CursorFile {
    file: Box<dyn File>,
    last: Slot,
}

impl CursorFile {
    /// Fills a new file and writes the first slot.
    pub(crate) fn create(mut file: Box<dyn File>, stream: u32) -> io::Result<Self> {
        file.append(&[0; LENGTH])?;
        let last = Slot { generation: 0, stream, position: Position::default() };
        let mut cursor = Self { file, last };
        cursor.write(stream, Position::default())?;
        Ok(cursor)
    }

    /// Reads a file; `None` where no slot can be read.
    pub(crate) fn open(mut file: Box<dyn File>) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        if file.len()? < LENGTH as u64 {
            return Ok(None);
        }
        file.read_at(0, &mut bytes)?;
        Ok(Slot::newest(&bytes).map(|last| Self { file, last }))
    }

    /// What was written last.
    pub(crate) fn last(&self) -> Slot {
        self.last
    }

    /// Writes the other slot.
    pub(crate) fn write(&mut self, stream: u32, position: Position) -> io::Result<()> {
        let slot = Slot { generation: self.last.generation + 1, stream, position };
        let at = slot.generation % 2 * SLOT_SPACING;
        self.file.write_at(at, &slot.to_bytes())?;
        self.last = slot;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_one() {
        let slot = |generation, offset| Slot {
            generation,
            stream: 9,
            position: Position { segment: 2, offset },
        };
        let mut file = vec![0; LENGTH];
        file[..SLOT].copy_from_slice(&slot(4, 40).to_bytes());
        file[SLOT_SPACING as usize..SLOT_SPACING as usize + SLOT]
            .copy_from_slice(&slot(5, 50).to_bytes());
        assert_eq!(Slot::newest(&file), Some(slot(5, 50)));
        for byte in 0..SLOT {
            let mut torn = file.clone();
            torn[SLOT_SPACING as usize + byte] ^= 1;
            assert_eq!(Slot::newest(&torn), Some(slot(4, 40)), "byte {byte}");
        }
        assert_eq!(Slot::newest(&[0; LENGTH]), None);
        assert_eq!(Slot::newest(&[]), None);
    }
}
