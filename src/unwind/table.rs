//! The records of an `.eh_frame` table, read as untrusted bytes.
//!
//! Format: Linux Standard Base core, "The .eh_frame section".

use smallvec::SmallVec;

/// A record of an `.eh_frame` table, as offset from the table's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// What several functions share.
    Cie(usize),
    /// One function's.
    Fde(usize),
}

/// Why a table must not be registered: its record at `offset` is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
    pub(crate) reason: &'static str,
}

/// Shows `see` the records of a table up to its terminator, so that no unwinder walks past the table's end.
pub(super) fn read(table: &[u8], mut see: impl FnMut(Record)) -> Result<(), Malformed> {
    let mut cies: SmallVec<[usize; 4]> = SmallVec::new();
    let mut offset = 0;
    loop {
        let malformed = |reason| Malformed { offset, reason };
        let rest = &table[offset..];
        let (length, rest) = take_u32(rest).ok_or(malformed("no terminator in the section"))?;
        let (length, header, rest) = match length {
            0 => return Ok(()),
            u32::MAX => {
                let (length, rest) = rest
                    .split_first_chunk()
                    .ok_or(malformed("the length is cut off"))?;
                (u64::from_ne_bytes(*length), 12, rest)
            }
            length => (u64::from(length), 4, rest),
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= rest.len());
        let length = length.ok_or(malformed("the record is longer than the section"))?;
        let (id, _) = take_u32(&rest[..length]).ok_or(malformed("the record is too short"))?;
        if id == 0 {
            cies.push(offset);
            see(Record::Cie(offset));
        } else {
            let cie = (offset + header).checked_sub(id as usize);
            cie.and_then(|cie| cies.binary_search(&cie).ok())
                .ok_or(malformed("the record points to no CIE"))?;
            see(Record::Fde(offset));
        }
        offset += header + length;
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes
        .split_first_chunk()
        .map(|(first, rest)| (u32::from_ne_bytes(*first), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(table: &[u8]) -> Result<Vec<Record>, Malformed> {
        let mut records = Vec::new();
        read(table, |record| records.push(record)).map(|()| records)
    }

    /// A record: its length, its CIE pointer, and `rest` bytes of zeros.
    fn record(id: u32, rest: usize) -> Vec<u8> {
        let mut bytes = ((4 + rest) as u32).to_ne_bytes().to_vec();
        bytes.extend(id.to_ne_bytes());
        bytes.resize(8 + rest, 0);
        bytes
    }

    #[test]
    fn a_table_is_read_up_to_its_terminator() {
        let table = [record(0, 8), record(20, 12), vec![0; 4], vec![0xff; 9]].concat();
        assert_eq!(records(&table), Ok(vec![Record::Cie(0), Record::Fde(16)]));
        assert_eq!(records(&[0; 4]), Ok(vec![]));
    }

    #[test]
    fn lengths_of_64_bits_are_read() {
        let mut table = u32::MAX.to_ne_bytes().to_vec();
        table.extend(8u64.to_ne_bytes());
        table.extend([0; 12]);
        assert_eq!(records(&table), Ok(vec![Record::Cie(0)]));
    }

    #[test]
    fn what_would_lead_an_unwinder_astray_is_refused() {
        let cases: [(&str, Vec<u8>, usize); 7] = [
            ("no terminator", record(0, 8), 16),
            ("cut in the length", [record(0, 8), vec![1, 0]].concat(), 16),
            (
                "longer than the section",
                [vec![0xf0, 0, 0, 0], vec![0; 64]].concat(),
                0,
            ),
            (
                "too short for its id",
                [3u32.to_ne_bytes().to_vec(), vec![0; 8]].concat(),
                0,
            ),
            (
                "points before the table",
                [record(0, 8), record(100, 8), vec![0; 4]].concat(),
                16,
            ),
            (
                "points to no CIE",
                [record(0, 8), record(16, 8), vec![0; 4]].concat(),
                16,
            ),
            (
                "a long length that overflows",
                [vec![0xff; 12], vec![0; 8]].concat(),
                0,
            ),
        ];
        for (name, table, offset) in cases {
            assert_eq!(records(&table).unwrap_err().offset, offset, "{name}");
        }
    }
}
