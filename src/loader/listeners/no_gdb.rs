//! Nobody tells debuggers.

use std::marker::PhantomData;

use crate::error::Error;
use crate::loader::location::Location;
use crate::loader::memory::Map;
use crate::loader::object::Object;

/// Nothing that anybody knows of.
#[derive(Debug, Default)]
pub(in crate::loader) struct Registered(());

#[derive(Debug, Default)]
pub(in crate::loader) struct Gdb<'data>(PhantomData<&'data ()>);

impl<'data> Gdb<'data> {
    pub(in crate::loader) fn load(&mut self, _file: &'data [u8]) {}

    pub(in crate::loader) fn check(&self, _runs_here: bool) -> Result<(), Error> {
        Ok(())
    }

    pub(in crate::loader) fn register(
        &self,
        _objects: &[Object<'_>],
        _map: &Map,
        _locations: &[Location],
    ) -> Result<Registered, Error> {
        Ok(Registered(()))
    }
}
