//! Branch protection: what the window enforces and what the module was compiled for have to be one.

#[path = "support/mod.rs"]
mod support;

use nearcode_cranelift::WindowMemoryProvider;
use support::window;

#[test]
#[cfg(target_arch = "x86_64")]
fn a_cpu_without_landing_pads_runs_code_that_has_some() {
    use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
    // As cranelift's own providers do.
    let mut provider = WindowMemoryProvider::new(&window()).unwrap();
    for protection in [BranchProtection::BTI, BranchProtection::None] {
        let code = JITMemoryKind::Executable;
        provider.allocate(16, 16, code).unwrap();
        provider.finalize(protection).unwrap();
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use cranelift_codegen::isa::OwnedTargetIsa;
    use cranelift_codegen::settings::{self, Configurable};
    use cranelift_jit::JITBuilder;
    use cranelift_module::{ModuleError, default_libcall_names};
    use nearcode_cranelift::nearcode::{self, Window};
    use nearcode_cranelift::{Error, ModuleMemory};

    use super::support::{Jit, options};
    use super::*;

    /// Whether code is compiled with landing pads.
    fn isa(use_bti: &str) -> OwnedTargetIsa {
        let mut flags = settings::builder();
        flags.set("use_colocated_libcalls", "false").unwrap();
        flags.set("is_pic", "false").unwrap();
        let mut isa = cranelift_native::builder().unwrap();
        isa.set("use_bti", use_bti).unwrap();
        isa.finish(settings::Flags::new(flags)).unwrap()
    }

    fn jit(window: &Window, use_bti: &str) -> (Jit, ModuleMemory) {
        let provider = WindowMemoryProvider::new(window).unwrap();
        let memory = provider.memory();
        let mut builder = JITBuilder::with_isa(isa(use_bti), default_libcall_names());
        builder.memory_provider(Box::new(provider));
        (Jit::with(builder), memory)
    }

    /// `None` where this CPU has none: qemu's has.
    fn protected() -> Option<Window> {
        let protection = nearcode::BranchProtection::LandingPads;
        match Window::with_options(&options().with_branch_protection(protection)) {
            Err(nearcode::Error::Unsupported(_)) => None,
            window => Some(window.unwrap()),
        }
    }

    #[track_caller]
    fn refusal(jit: &mut Jit) -> Error {
        jit.define_adder("refused", 1);
        match jit.module.finalize_definitions() {
            Err(ModuleError::Backend(error)) => error.downcast().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn code_with_landing_pads_runs_where_they_are_enforced() {
        let Some(window) = protected() else {
            return println!("skipped: this CPU has no landing pads");
        };
        let (mut jit, memory) = jit(&window, "true");
        let add = jit.adder(&memory, "add", 1);
        // BTI c or its like (Arm ARM, C6.2: HINT #34, PACIASP, PACIBSP).
        // SAFETY: the code is there as long as `add` is.
        let first = unsafe { (*add as *const u32).read() };
        assert!(
            [0xd503_245f, 0xd503_233f, 0xd503_237f].contains(&first),
            "{first:#x}"
        );
        assert_eq!(add(1), 2);
    }

    #[test]
    fn code_without_them_is_refused_there() {
        let Some(window) = protected() else {
            return println!("skipped: this CPU has no landing pads");
        };
        let refused = refusal(&mut jit(&window, "false").0);
        assert!(matches!(refused, Error::NoLandingPads), "{refused:?}");
    }

    #[test]
    fn landing_pads_that_would_protect_nothing_are_refused() {
        if protected().is_none() {
            return println!("skipped: this CPU has no landing pads");
        }
        let refused = refusal(&mut jit(&window(), "true").0);
        assert!(matches!(refused, Error::UnusedLandingPads), "{refused:?}");
    }
}
