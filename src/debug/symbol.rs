//! A piece of code and its name.

use crate::error::Error;
use crate::num::Address;

/// A piece of code and what to call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'name> {
    /// Invariant: not empty, and one line.
    name: &'name str,
    address: Address,
    /// Invariant: the address of the end is a number.
    size: u64,
}

impl<'name> Symbol<'name> {
    /// `size` bytes of code from `address`, called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSymbol`] for a name that is empty or has control characters, of which files of names make lines and ends,
    /// and for code that goes on behind the end of the address space.
    pub fn new(name: &'name str, address: Address, size: u64) -> Result<Self, Error> {
        let reason = if name.is_empty() {
            "its name is empty"
        } else if name.contains(char::is_control) {
            "its name has control characters"
        } else if address.get().checked_add(size).is_none() {
            "it ends behind the end of the address space"
        } else {
            return Ok(Self {
                name,
                address,
                size,
            });
        };
        Err(Error::InvalidSymbol {
            name: name.into(),
            reason,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &'name str {
        self.name
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_or_wrap_around_is_no_symbol() {
        let refused = |name, address, size| {
            Symbol::new(name, Address::new(address), size)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("", 16, 16), "\"\" is no symbol: its name is empty");
        assert_eq!(
            refused("a\n10 10 b", 16, 16),
            "\"a\\n10 10 b\" is no symbol: its name has control characters"
        );
        assert!(refused("a\0b", 16, 16).ends_with("control characters"));
        assert!(refused("high", u64::MAX - 15, 16).ends_with("the address space"));
        assert!(Symbol::new("a b::<c>(\u{e9})", Address::new(u64::MAX - 16), 16).is_ok());
    }
}
