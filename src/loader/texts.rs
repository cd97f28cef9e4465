//! Texts in a file: each is followed by a zero.

use std::ffi::CStr;

/// A table of texts.
#[derive(Clone, Copy)]
pub(super) struct Texts<'data>(&'data [u8]);

impl<'data> Texts<'data> {
    /// Those in `bytes`. What has no zero behind it is none of them: cut off here once, so that no text has to be followed to its
    /// end to see that it has one.
    pub(super) fn new(bytes: &'data [u8]) -> Self {
        let last = bytes.iter().rposition(|&byte| byte == 0);
        Self(last.map_or(&[], |last| &bytes[..=last]))
    }

    /// The text at `offset`, with what is behind it.
    pub(super) fn at(self, offset: u32) -> Option<&'data [u8]> {
        let rest = self.0.get(offset as usize..);
        rest.filter(|rest| !rest.is_empty())
    }
}

/// The text that bytes begin with.
pub(super) fn up_to_zero(bytes: &[u8]) -> &[u8] {
    CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes)
}

/// A section's name, if it is fit for messages.
pub(super) fn one_line(name: &[u8]) -> Option<&str> {
    // As most are called.
    const USUAL: [&str; 5] = [".text", ".rodata", ".data", ".bss", ".eh_frame"];
    let usual = USUAL.into_iter().find(|usual| usual.as_bytes() == name);
    usual.or_else(|| {
        let name = std::str::from_utf8(name).ok()?;
        let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        (is_plain || !name.contains(char::is_control)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_there_if_a_zero_is_behind_it() {
        for (bytes, offset, expected) in [
            (&b"\0main\0"[..], 1, Some(&b"main"[..])),
            (b"\0main\0", 3, Some(b"in")),
            (b"\0main\0", 5, Some(b"")),
            (b"\0main\0", 6, None),
            (b"\0main\0", u32::MAX, None),
            (b"\0main", 0, Some(b"")),
            (b"\0main", 1, None),
            (b"main", 0, None),
            (b"", 0, None),
        ] {
            let text = Texts::new(bytes).at(offset).map(up_to_zero);
            assert_eq!(text, expected, "{offset} of {bytes:?}");
        }
    }

    #[test]
    fn names_are_one_line_of_text() {
        for (name, expected) in [
            (&b".text"[..], true),
            (b".text.main", true),
            ("\u{e9}t\u{e9}".as_bytes(), true),
            (b"", true),
            (b".t\nxt", false),
            ("\u{85}".as_bytes(), false),
            (b"\xff", false),
        ] {
            assert_eq!(one_line(name).is_some(), expected, "{name:?}");
        }
    }
}
