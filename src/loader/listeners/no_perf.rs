//! Nobody tells profilers.

use crate::error::Error;
use crate::loader::error::LoadError;
use crate::loader::object::Object;
use crate::loader::plan::Plan;
use crate::manager::ReservingMemoryManager;

#[derive(Debug, Default)]
pub(in crate::loader) struct Perf;

impl Perf {
    pub(in crate::loader) fn check(&self, _runs_here: bool) -> Result<(), Error> {
        Ok(())
    }

    pub(in crate::loader) fn write(
        &self,
        _objects: &[Object<'_>],
        _plans: &[Plan<'_>],
        _manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        Ok(())
    }
}
