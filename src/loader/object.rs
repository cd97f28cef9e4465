//! An ELF relocatable object, read as untrusted bytes: sections to load, symbols, relocations.
//!
//! Law: what comes out of here is consistent. Section and symbol indices were checked, contents are as long as they say. What it
//! takes up is in proportion to the file: contents, names and relocations stay where they are.

use object::elf::{self, FileHeader64, Rela64, SectionHeader64, Sym64};
use object::read::elf::{FileHeader, Rela as _, SectionHeader, SectionTable, Sym, SymbolTable};
use object::read::{SectionIndex, SymbolIndex};
use object::{Endianness, LittleEndian, U32};

use super::error::LoadError;
use super::machine::Machine;
use super::symbols::text;
use super::texts::{Texts, one_line, up_to_zero};
use crate::kind::SectionKind;
use crate::num::Align;

const LE: LittleEndian = LittleEndian;
type Header = FileHeader64<LittleEndian>;

/// An object file's contents, borrowed from its bytes.
#[derive(Debug)]
pub(super) struct Object<'data> {
    pub(super) name: String,
    /// By section index; `None` for what is not loaded.
    pub(super) sections: Vec<Option<Section<'data>>>,
    /// How many were loaded when the object was read.
    pub(super) loaded: usize,
    /// By symbol index. Never empty.
    pub(super) symbols: Vec<Symbol<'data>>,
    /// The numbers of section 0 and symbol 0 among those of all objects of the program, counted object by object.
    pub(super) first_section: usize,
    pub(super) first_symbol: usize,
    /// How many symbols are global.
    pub(super) globals: usize,
    /// What their names and those of sections come to, in bytes.
    pub(super) names: usize,
    /// Sections of which a program keeps one copy.
    pub(super) groups: Vec<Group<'data>>,
}

/// A section that takes up memory when the program runs.
#[derive(Debug)]
pub(super) struct Section<'data> {
    pub(super) name: &'data str,
    pub(super) kind: SectionKind,
    /// In bytes. As many as `contents`, or more: the rest is zero.
    pub(super) size: usize,
    pub(super) align: Align,
    pub(super) contents: &'data [u8],
    /// Whether each thread has it for itself. Then this is what a thread's begins with.
    pub(super) is_thread_local: bool,
    relocations: &'data [Rela64<LittleEndian>],
}

/// A value to be written into a section once addresses are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    /// In its section, in bytes.
    pub(super) offset: u64,
    /// The ABI's number of its kind.
    pub(super) number: u32,
    /// Index into the object's symbols.
    pub(super) symbol: usize,
    pub(super) addend: i64,
}

#[derive(Debug)]
pub(super) struct Symbol<'data> {
    /// Of a local symbol, with what is behind it: it is for messages only.
    name: &'data [u8],
    pub(super) binding: Binding,
    pub(super) scope: Scope,
    pub(super) place: Place,
    /// In bytes.
    pub(super) size: u64,
}

impl<'data> Symbol<'data> {
    pub(super) fn name(&self) -> &'data [u8] {
        match self.binding {
            Binding::Local => up_to_zero(self.name),
            Binding::Global | Binding::Weak => self.name,
        }
    }

    /// Symbol 0.
    const NONE: Self = Self {
        name: b"",
        binding: Binding::Local,
        scope: Scope::Program,
        place: Place::Absolute(0),
        size: 0,
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Binding {
    Local,
    Global,
    Weak,
}

/// Who outside of the program's objects may define a symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Default visibility: the process and its libraries, too.
    Process,
    /// Hidden, internal or protected: only the objects themselves.
    Program,
}

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Undefined,
    Absolute(u64),
    /// Room for it is made by the linker, once for all objects that ask.
    Common {
        size: usize,
        align: Align,
    },
    Section {
        index: u32,
        offset: u64,
    },
    /// In a section that is not loaded.
    Unloaded,
    /// In a section that each thread has for itself.
    ThreadLocal {
        index: u32,
        offset: u64,
    },
    /// Where a function says that is still to be called, and that is here.
    Indirect {
        index: u32,
        offset: u64,
    },
}

#[derive(Debug)]
pub(super) struct Group<'data> {
    pub(super) signature: &'data [u8],
    sections: &'data [U32<LittleEndian>],
}

impl Group<'_> {
    /// Indices of its sections.
    pub(super) fn sections(&self) -> impl Iterator<Item = usize> {
        self.sections.iter().map(|index| index.get(LE) as usize)
    }
}

impl<'data> Section<'data> {
    pub(super) fn relocations(&self) -> impl ExactSizeIterator<Item = Relocation> + use<'data> {
        self.relocations.iter().map(|rela| Relocation {
            offset: rela.r_offset(LE),
            number: rela.r_type(LE, false).0,
            symbol: rela.r_sym(LE, false) as usize,
            addend: rela.r_addend(LE),
        })
    }

    /// Whether it is a table of unwind information.
    pub(super) fn is_eh_frame(&self) -> bool {
        self.name == ".eh_frame"
    }
}

impl<'data> Object<'data> {
    /// Reads `bytes` as an object for `machine`, which comes after others of the same program.
    pub(super) fn parse(
        name: &str,
        bytes: &'data [u8],
        machine: Machine,
        others: &[Self],
    ) -> Result<Self, LoadError> {
        Reader { name, bytes }.read(machine, others)
    }
}

/// The file's bytes, and its name for messages.
struct Reader<'name, 'data> {
    name: &'name str,
    bytes: &'data [u8],
}

impl<'data> Reader<'_, 'data> {
    fn malformed(&self, reason: impl ToString) -> LoadError {
        LoadError::Malformed {
            object: self.name.into(),
            reason: reason.to_string(),
        }
    }

    fn checked<T>(&self, result: object::read::Result<T>) -> Result<T, LoadError> {
        result.map_err(|reason| self.malformed(reason))
    }

    fn read(&self, machine: Machine, others: &[Object<'data>]) -> Result<Object<'data>, LoadError> {
        let header = FileHeader64::<Endianness>::parse(self.bytes);
        let header = header.map_err(|_| match self.bytes {
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
                self.malformed("an archive: extract its objects")
            }
            [b'B', b'C', 0xc0, 0xde, ..] => self.malformed("LLVM bitcode: compile without -flto"),
            _ => self.malformed("not a 64-bit ELF file"),
        })?;
        let endian = self.checked(header.endian())?;
        let found = header.e_machine(endian);
        if endian != Endianness::Little || found != machine.elf() {
            let found = Machine::from_elf(found).filter(|_| endian == Endianness::Little);
            let found = found.map_or("an unknown machine".into(), |machine| machine.to_string());
            return Err(LoadError::WrongMachine {
                object: self.name.into(),
                found,
                expected: machine,
            });
        }
        if header.e_type(endian) != elf::ET_REL {
            return Err(LoadError::NotRelocatable {
                object: self.name.into(),
            });
        }
        let header = self.checked(Header::parse(self.bytes))?;
        let table = self.checked(header.sections(LE, self.bytes))?;
        let symbols = self.checked(table.symbols(LE, self.bytes, elf::SHT_SYMTAB))?;
        let texts = header.section_strings_index(LE, self.bytes);
        let texts = self.texts(&table, texts.unwrap_or(SectionIndex(0)));

        let (mut loaded, mut names) = (0, 0usize);
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            let flags = section.sh_flags(LE);
            // A header of no section has no flags that mean anything, such as the first one.
            let is_loaded = flags.contains(elf::SHF_ALLOC) && section.sh_type(LE) != elf::SHT_NULL;
            if !is_loaded {
                sections.push(None);
                continue;
            }
            let section = self.section(texts, section)?;
            loaded += 1;
            names = names.saturating_add(section.name.len());
            sections.push(Some(section));
        }
        let mut groups = Vec::new();
        let (mut members, mut relocations) = (0, 0);
        for section in table.iter() {
            match section.sh_type(LE) {
                elf::SHT_GROUP => {
                    let Some(group) = self.group(&table, &symbols, section)? else {
                        continue;
                    };
                    members += group.sections.len();
                    if members > table.len() {
                        return Err(self.malformed("a section is in more than one group"));
                    }
                    groups.push(group);
                }
                elf::SHT_REL | elf::SHT_RELA | elf::SHT_CREL => {
                    let to = self.attach_relocations(&symbols, section, &mut sections)?;
                    let Some(section) = to else {
                        continue;
                    };
                    relocations += section.relocations.len();
                    if relocations > self.bytes.len() / size_of::<Rela64<LittleEndian>>() {
                        return Err(self.malformed("sections of relocations share their bytes"));
                    }
                    self.check_relocations(section, symbols.len().max(1))?;
                }
                _ => {}
            }
        }
        // Relocations that need no symbol name number 0, with or without a table.
        let texts = self.texts(&table, symbols.string_section());
        let table = symbols;
        let mut globals = 0;
        let mut symbols = Vec::with_capacity(table.len().max(1));
        for (index, symbol) in table.enumerate() {
            let symbol = self.symbol(&table, texts, index, symbol, &sections)?;
            if symbol.binding != Binding::Local {
                globals += 1;
                names = names.saturating_add(symbol.name.len());
            }
            symbols.push(symbol);
        }
        if symbols.is_empty() {
            symbols.push(Symbol::NONE);
        }
        let (first_section, first_symbol) = others.last().map_or((0, 0), |last| {
            let first_section = last.first_section + last.sections.len();
            (first_section, last.first_symbol + last.symbols.len())
        });
        if u32::try_from(first_symbol + symbols.len()).is_err() {
            return Err(self.malformed("with it there are too many symbols to number them"));
        }
        Ok(Object {
            name: self.name.into(),
            sections,
            loaded,
            symbols,
            first_section,
            first_symbol,
            globals,
            names,
            groups,
        })
    }

    /// The texts in a section; none if there is none, as number 0.
    fn texts(&self, table: &SectionTable<'data, Header>, index: SectionIndex) -> Texts<'data> {
        let section = table.section(index).ok().filter(|_| index.0 != 0);
        let bytes = section.and_then(|section| section.data(LE, self.bytes).ok());
        Texts::new(bytes.unwrap_or_default())
    }

    fn section(
        &self,
        texts: Texts<'data>,
        section: &'data SectionHeader64<LittleEndian>,
    ) -> Result<Section<'data>, LoadError> {
        let flags = section.sh_flags(LE);
        let name = texts.at(section.sh_name(LE));
        let name = name.ok_or_else(|| self.malformed("a section's name is not in the file"))?;
        let name = one_line(up_to_zero(name));
        let name = name.ok_or_else(|| self.malformed("a section's name is not text"))?;
        let contents = self.checked(section.data(LE, self.bytes))?;
        let fits = |value: u64| {
            usize::try_from(value).map_err(|_| self.malformed(format!("{name} is too large")))
        };
        let size = fits(section.sh_size(LE))?;
        // The ABI: 0 and 1 both mean that there is no constraint.
        let align = Align::new(fits(section.sh_addralign(LE))?.max(1));
        let align = align
            .map_err(|_| self.malformed(format!("the alignment of {name} is no power of two")))?;
        let is_thread_local = flags.contains(elf::SHF_TLS);
        let kind = if is_thread_local {
            SectionKind::ReadOnlyData // Threads have copies.
        } else if flags.contains(elf::SHF_EXECINSTR) {
            SectionKind::Code
        } else if !flags.contains(elf::SHF_WRITE) || is_constant_once_relocated(name) {
            SectionKind::ReadOnlyData
        } else {
            SectionKind::ReadWriteData
        };
        if kind == SectionKind::Code && contents.len() < size {
            return Err(self.malformed(format!("{name} is code without contents")));
        }
        Ok(Section {
            name,
            kind,
            size,
            align,
            contents,
            is_thread_local,
            relocations: &[],
        })
    }

    fn group(
        &self,
        table: &SectionTable<'data, Header>,
        symbols: &SymbolTable<'data, Header>,
        section: &'data SectionHeader64<LittleEndian>,
    ) -> Result<Option<Group<'data>>, LoadError> {
        let Some((flags, members)) = self.checked(section.group(LE, self.bytes))? else {
            return Ok(None);
        };
        if !flags.contains(elf::GRP_COMDAT) {
            return Ok(None);
        }
        let signature = self.checked(symbols.symbol(SymbolIndex(section.sh_info(LE) as usize)))?;
        let mut name = self.checked(symbols.symbol_name(LE, signature))?;
        if signature.st_type() == elf::STT_SECTION {
            // GNU as names a group after a section's symbol when the group bears the section's name.
            if let Some(index) = signature.st_shndx(LE).index() {
                let section = self.checked(table.section(SectionIndex(index.into())))?;
                name = self.checked(table.section_name(LE, section))?;
            }
        }
        let group = Group {
            signature: name,
            sections: members,
        };
        if group.sections().any(|index| index >= table.len()) {
            return Err(self.malformed("a section group has a member that does not exist"));
        }
        Ok(Some(group))
    }

    /// Gives a section its relocations, if it is loaded.
    fn attach_relocations<'s>(
        &self,
        symbols: &SymbolTable<'data, Header>,
        section: &'data SectionHeader64<LittleEndian>,
        sections: &'s mut [Option<Section<'data>>],
    ) -> Result<Option<&'s Section<'data>>, LoadError> {
        let target = section.info_link(LE).0;
        let loaded =
            |sections: &[Option<Section<'_>>]| sections.get(target).is_some_and(Option::is_some);
        if matches!(section.sh_type(LE), elf::SHT_REL | elf::SHT_CREL) && loaded(sections) {
            return Err(self.malformed("relocations in another form than RELA, the ABIs' own"));
        }
        let Some((relocations, link)) = self.checked(section.rela(LE, self.bytes))? else {
            return Ok(None);
        };
        let section = match sections.get_mut(target) {
            Some(Some(section)) => section,
            Some(None) => return Ok(None),
            None => return Err(self.malformed("relocations for a section that does not exist")),
        };
        if link != symbols.section() && !relocations.is_empty() {
            return Err(self.malformed(format!(
                "the relocations of {} refer to no symbol table",
                section.name
            )));
        }
        if !section.relocations.is_empty() {
            return Err(self.malformed(format!("{} has two sections of relocations", section.name)));
        }
        section.relocations = relocations;
        Ok(Some(section))
    }

    /// Sees to it that a section's relocations refer to some of `symbols` symbols.
    fn check_relocations(&self, section: &Section<'_>, symbols: usize) -> Result<(), LoadError> {
        match section
            .relocations()
            .find(|relocation| relocation.symbol >= symbols)
        {
            Some(Relocation { offset, symbol, .. }) => Err(self.malformed(format!(
                "{}+{offset:#x} refers to symbol {symbol}, which is missing",
                section.name
            ))),
            None => Ok(()),
        }
    }

    fn symbol(
        &self,
        table: &SymbolTable<'data, Header>,
        texts: Texts<'data>,
        index: SymbolIndex,
        symbol: &'data Sym64<LittleEndian>,
        sections: &[Option<Section<'data>>],
    ) -> Result<Symbol<'data>, LoadError> {
        let name = || {
            let name = texts.at(symbol.st_name(LE));
            name.ok_or_else(|| self.malformed("a symbol's name is not in the file"))
        };
        let binding = match symbol.st_bind() {
            elf::STB_LOCAL => Binding::Local,
            elf::STB_WEAK => Binding::Weak,
            _ => Binding::Global,
        };
        let scope = match symbol.st_visibility() {
            elf::STV_DEFAULT => Scope::Process,
            _ => Scope::Program,
        };
        let value = symbol.st_value(LE);
        let (name, place) = match symbol.st_shndx(LE) {
            // Symbol 0: no symbol.
            elf::SHN_UNDEF if binding == Binding::Local => (name()?, Place::Absolute(0)),
            elf::SHN_UNDEF => (name()?, Place::Undefined),
            elf::SHN_ABS => (name()?, Place::Absolute(value)),
            elf::SHN_COMMON => {
                let name = name()?;
                (name, self.common(name, symbol)?)
            }
            _ => {
                let index = self.checked(table.symbol_section(LE, symbol, index))?;
                let section = index.and_then(|index| Some((index.0, sections.get(index.0)?)));
                let Some((index, section)) = section else {
                    let name = text(up_to_zero(name()?));
                    return Err(
                        self.malformed(format!("{name} is in a section that does not exist"))
                    );
                };
                let name = match section {
                    // Symbols of sections have no names of their own; messages want one.
                    Some(section) if symbol.st_type() == elf::STT_SECTION => {
                        section.name.as_bytes()
                    }
                    _ => name()?,
                };
                let (index, offset) = (index as u32, value); // As the file has it.
                let place = match section {
                    Some(section) if section.is_thread_local => {
                        Place::ThreadLocal { index, offset }
                    }
                    Some(_) => Place::Section { index, offset },
                    None => Place::Unloaded,
                };
                (name, place)
            }
        };
        let place = match (symbol.st_type(), place) {
            (elf::STT_TLS, Place::Section { .. } | Place::Absolute(_) | Place::Common { .. }) => {
                let name = text(up_to_zero(name));
                return Err(
                    self.malformed(format!("{name} is thread-local, but in no section that is"))
                );
            }
            (elf::STT_GNU_IFUNC, Place::Section { index, offset }) => {
                Place::Indirect { index, offset }
            }
            (_, place) => place,
        };
        Ok(Symbol {
            name: match binding {
                Binding::Local => name,
                Binding::Global | Binding::Weak => up_to_zero(name),
            },
            binding,
            scope,
            place,
            size: symbol.st_size(LE),
        })
    }

    fn common(&self, name: &[u8], symbol: &Sym64<LittleEndian>) -> Result<Place, LoadError> {
        let malformed = || {
            let name = text(up_to_zero(name));
            self.malformed(format!("common symbol {name} is malformed"))
        };
        let size = usize::try_from(symbol.st_size(LE)).map_err(|_| malformed())?;
        // The value of a common symbol is its alignment.
        let align = usize::try_from(symbol.st_value(LE))
            .ok()
            .and_then(|align| Align::new(align.max(1)).ok());
        Ok(Place::Common {
            size,
            align: align.ok_or_else(malformed)?,
        })
    }
}

/// What compilers write into a writable section only so that relocations can be applied to it.
fn is_constant_once_relocated(name: &str) -> bool {
    const NAMES: [&str; 4] = [
        ".data.rel.ro",
        ".init_array",
        ".fini_array",
        ".preinit_array",
    ];
    NAMES.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
