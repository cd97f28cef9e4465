//! Profilers: they get the names of functions, and a jitdump their code.

use std::ops::Range;

use super::functions::Functions;
use crate::debug::{JitDump, PerfMap, Symbol};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::loader::error::LoadError;
use crate::loader::item::Item;
use crate::loader::object::Object;
use crate::loader::plan::Plan;
use crate::loader::symbols::text;
use crate::manager::ReservingMemoryManager;
use crate::num::Address;

/// The files that names go to.
#[derive(Debug, Default)]
pub(in crate::loader) struct Perf {
    pub(in crate::loader) map: Option<PerfMap>,
    pub(in crate::loader) dump: Option<JitDump>,
}

/// Code and its name.
struct Named {
    name: String,
    address: Address,
    size: u64,
    /// Empty unless there is a jitdump.
    code: Vec<u8>,
}

impl Perf {
    /// Whether it can do what is asked of it.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub(in crate::loader) fn check(&self, runs_here: bool) -> Result<(), Error> {
        if self.is_off() || runs_here {
            return Ok(());
        }
        Err(Error::Unsupported(
            "telling profilers of code that does not run here",
        ))
    }

    fn is_off(&self) -> bool {
        self.map.is_none() && self.dump.is_none()
    }

    /// Names all code, once it is filled and before it can run.
    pub(in crate::loader) fn write(
        &self,
        objects: &[Object<'_>],
        plans: &[Plan<'_>],
        manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        if self.is_off() {
            return Ok(());
        }
        let mut named = Vec::new();
        let functions: Vec<Functions<'_>> = objects.iter().map(Functions::new).collect();
        for plan in plans {
            let is_code = |item: &&Item<'_>| item.kind == SectionKind::Code && item.size > 0;
            for item in plan.items.iter().filter(is_code) {
                let bytes = &*plan.piece(item).bytes_mut(item, manager)?;
                let mut name = |name, span: Range<u64>| {
                    let code = &bytes[span.start as usize..span.end as usize];
                    named.push(Named {
                        name,
                        address: item.address.wrapping_add(span.start),
                        size: code.len() as u64,
                        code: self.dump.as_ref().map_or(Vec::new(), |_| code.to_vec()),
                    });
                };
                let whole = 0..item.size as u64;
                let index = item.section();
                let mut inside = functions[item.object]
                    .of_section(index, whole.end)
                    .peekable();
                if inside.peek().is_none() {
                    // Stubs, and sections in which nothing has a name.
                    name(format!("[{}]", item.name), whole);
                }
                inside.for_each(|(function, span)| name(text(function), span));
            }
        }
        let symbols = named.iter().map(|named| {
            let symbol = Symbol::new(&named.name, named.address, named.size)?;
            Ok((symbol, &named.code[..]))
        });
        let symbols = symbols.collect::<Result<Vec<_>, Error>>()?;
        if let Some(dump) = &self.dump {
            dump.add(&symbols)?;
        }
        if let Some(map) = &self.map {
            let symbols: Vec<_> = symbols.iter().map(|&(symbol, _)| symbol).collect();
            map.add(&symbols)?;
        }
        Ok(())
    }
}
