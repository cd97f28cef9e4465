//! Every way into LLVM over every memory that it takes.

use nearcode_llvm::nearcode::{Window, WindowOptions, Writing};
use nearcode_llvm::{Memory, callbacks};
#[cfg(feature = "cxx")]
use nearcode_llvm::{jitlink, rtdyld};

use super::llvm::Ref;
use super::{Engine, Jit, Refused};

/// A name for messages, and a memory of its own.
pub struct Way<T> {
    pub name: &'static str,
    pub memory: Memory,
    /// `None` for dedicated blocks.
    pub window: Option<Window>,
    pub host: T,
}

/// Makes an `LLVMMCJITMemoryManagerRef`.
pub type ForMcjit = fn(&Memory) -> Ref;

/// Configures an `LLVMOrcLLJITBuilderRef`.
pub type ForOrc = fn(&Memory, Ref);

impl<T> Way<T> {
    fn in_window(name: &'static str, options: WindowOptions, writing: Writing, host: T) -> Self {
        let window = Window::with_options(&options.with_writing(writing)).expect("a window");
        let memory = Memory::in_window(&window);
        let window = Some(window);
        Self {
            name,
            memory,
            window,
            host,
        }
    }

    #[cfg(feature = "cxx")]
    fn in_blocks(name: &'static str, host: T) -> Self {
        Self {
            name,
            memory: Memory::in_blocks(),
            window: None,
            host,
        }
    }

    /// Whether an address lies where it has to.
    pub fn contains(&self, address: u64) -> bool {
        let Some(window) = &self.window else {
            return true;
        };
        let start = window.address().get();
        (start..start + window.capabilities().size() as u64).contains(&address)
    }
}

impl Way<ForMcjit> {
    pub fn engine(&self, ir: &str, code_model: u32) -> Engine {
        Engine::new(ir, (self.host)(&self.memory), code_model)
    }
}

impl Way<ForOrc> {
    pub fn jit(&self) -> Result<Jit, Refused> {
        Jit::new(|builder| (self.host)(&self.memory, builder))
    }
}

pub fn mcjit_ways() -> Vec<Way<ForMcjit>> {
    mcjit_ways_in(WindowOptions::new())
}

pub fn mcjit_ways_in(options: WindowOptions) -> Vec<Way<ForMcjit>> {
    let mut ways = of_class_for_mcjit(options);
    let host: ForMcjit = |memory| callbacks::mcjit_memory_manager(memory).expect("one address");
    ways.push(Way::in_window(
        "callbacks",
        options,
        Writing::SameAddress,
        host,
    ));
    ways
}

pub fn orc_ways() -> Vec<Way<ForOrc>> {
    orc_ways_in(WindowOptions::new())
}

/// With windows like that.
pub fn orc_ways_in(options: WindowOptions) -> Vec<Way<ForOrc>> {
    let mut ways = of_classes_for_orc(options);
    ways.extend(of_callbacks_for_orc(options));
    ways
}

#[cfg(feature = "cxx")]
fn of_class_for_mcjit(options: WindowOptions) -> Vec<Way<ForMcjit>> {
    let host: ForMcjit = |memory| rtdyld::mcjit_memory_manager(memory).expect("its LLVM");
    vec![
        Way::in_window("class, two addresses", options, Writing::TwoAddresses, host),
        Way::in_window("class, same address", options, Writing::SameAddress, host),
        Way::in_blocks("class, blocks", host),
    ]
}

#[cfg(not(feature = "cxx"))]
fn of_class_for_mcjit(_: WindowOptions) -> Vec<Way<ForMcjit>> {
    Vec::new()
}

#[cfg(feature = "cxx")]
fn of_classes_for_orc(options: WindowOptions) -> Vec<Way<ForOrc>> {
    // SAFETY: the tests' builders are LLVM's.
    let dyld: ForOrc =
        |memory, builder| unsafe { rtdyld::use_in_lljit(memory, builder) }.expect("its LLVM");
    // SAFETY: the tests' builders are LLVM's.
    let link: ForOrc =
        |memory, builder| unsafe { jitlink::use_in_lljit(memory, builder) }.expect("its LLVM");
    vec![
        Way::in_window(
            "RuntimeDyld, two addresses",
            options,
            Writing::TwoAddresses,
            dyld,
        ),
        Way::in_window(
            "RuntimeDyld, same address",
            options,
            Writing::SameAddress,
            dyld,
        ),
        Way::in_blocks("RuntimeDyld, blocks", dyld),
        Way::in_window(
            "JITLink, two addresses",
            options,
            Writing::TwoAddresses,
            link,
        ),
        Way::in_window("JITLink, same address", options, Writing::SameAddress, link),
        Way::in_blocks("JITLink, blocks", link),
    ]
}

#[cfg(not(feature = "cxx"))]
fn of_classes_for_orc(_: WindowOptions) -> Vec<Way<ForOrc>> {
    Vec::new()
}

#[cfg(orc_callbacks)]
fn of_callbacks_for_orc(options: WindowOptions) -> Vec<Way<ForOrc>> {
    let host: ForOrc = |memory, builder| {
        // SAFETY: the tests' builders are LLVM's.
        unsafe { callbacks::use_in_lljit(memory, builder) }.expect("one address");
    };
    vec![Way::in_window(
        "callbacks",
        options,
        Writing::SameAddress,
        host,
    )]
}

#[cfg(not(orc_callbacks))]
fn of_callbacks_for_orc(_: WindowOptions) -> Vec<Way<ForOrc>> {
    Vec::new()
}
