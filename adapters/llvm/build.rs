//! Finds the LLVM that the embedder links, and compiles the classes for it. Only the tests, benchmarks and examples of this
//! package are linked with LLVM here: an embedder's own binding does that for the embedder.

use std::env;
use std::path::Path;
use std::process::{Command, exit};

/// Says where `llvm-config` is.
const CONFIG: &str = "NEARCODE_LLVM_CONFIG";

/// Says where LLVM's library is, where that is not where `llvm-config` says: for another machine than this one.
const LIBRARIES: &str = "NEARCODE_LLVM_LIBDIR";

/// Every version that is tested, the newest first.
const TESTED: [u32; 4] = [22, 19, 16, 14];

/// The first with `LLVMOrcCreateRTDyldObjectLinkingLayerWithMCJITMemoryManagerLikeCallbacks` (`llvm-c/OrcEE.h`).
const ORC_CALLBACKS: u32 = 16;

/// The first that reads IR with opaque pointers without being told to.
const OPAQUE_POINTERS: u32 = 15;

struct Llvm {
    config: String,
}

impl Llvm {
    fn find() -> Option<Self> {
        let named = env::var(CONFIG).ok();
        let names = match named {
            Some(config) => vec![config],
            None => {
                let versioned = TESTED.map(|major| format!("llvm-config-{major}"));
                [vec!["llvm-config".into()], versioned.into()].concat()
            }
        };
        let mut candidates = names.into_iter().map(|config| Self { config });
        candidates.find(|llvm| llvm.ask(&["--version"]).is_some())
    }

    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new(&self.config).args(arguments).output().ok()?;
        let answer = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| answer.trim().into())
    }

    fn tell(&self, argument: &str) -> String {
        self.ask(&[argument])
            .unwrap_or_else(|| end(&format!("{} {argument} failed", self.config)))
    }
}

fn end(reason: &str) -> ! {
    println!("cargo::error={reason}");
    exit(1)
}

fn main() {
    println!("cargo::rerun-if-env-changed={CONFIG}");
    println!("cargo::rerun-if-env-changed={LIBRARIES}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cxx");
    if env::var_os("DOCS_RS").is_some() {
        println!("cargo::rustc-cfg=orc_callbacks");
        return; // There is no LLVM, and nothing is linked.
    }
    let Some(llvm) = Llvm::find() else {
        end(&format!(
            "no llvm-config found: set {CONFIG} to that of the LLVM that you link"
        ))
    };
    let version = llvm.tell("--version");
    let major = version.split('.').next().and_then(|text| text.parse().ok());
    let Some(major) = major else {
        end(&format!("{} is of version {version}", llvm.config))
    };
    if major >= ORC_CALLBACKS {
        println!("cargo::rustc-cfg=orc_callbacks");
    }
    if major < OPAQUE_POINTERS {
        println!("cargo::rustc-cfg=typed_pointers");
    }
    println!("cargo::rustc-env=NEARCODE_LLVM_MAJOR={major}"); // For the tests.
    println!("cargo::metadata=llvm-version={version}");
    compile(&llvm);
    link_own_programs(&llvm, major);
}

#[cfg(not(feature = "cxx"))]
fn compile(_: &Llvm) {}

#[cfg(feature = "cxx")]
fn compile(llvm: &Llvm) {
    let mut build = compiler(llvm);
    build.file("cxx/rtdyld.cpp").file("cxx/jitlink.cpp");
    build.compile("nearcode_llvm");
    compile_for_own_programs(llvm);
}

/// What LLVM's C interface does not have, and the tests ask for.
#[cfg(feature = "cxx")]
fn compile_for_own_programs(llvm: &Llvm) {
    const SOURCE: &str = "tests/support/own.cpp";
    if !Path::new(SOURCE).is_file() {
        return;
    }
    println!("cargo::rerun-if-changed={SOURCE}");
    let mut build = compiler(llvm);
    // The optimizer inlines LLVM's headers, and warns of them then.
    build.file(SOURCE).opt_level(0).cargo_metadata(false);
    build.compile("nearcode_llvm_own");
    let folder = env::var("OUT_DIR").expect("cargo says where");
    for kind in own_programs() {
        println!("cargo::rustc-link-arg-{kind}={folder}/libnearcode_llvm_own.a");
    }
}

#[cfg(feature = "cxx")]
fn compiler(llvm: &Llvm) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true);
    for flag in llvm.tell("--cxxflags").split_whitespace() {
        match flag.strip_prefix("-I") {
            // As a system's, so that warnings are about our own files.
            Some(folder) => build.flag("-isystem").flag(folder),
            None => build.flag(flag),
        };
    }
    if llvm.tell("--has-rtti") == "NO" {
        build.flag("-fno-rtti");
    }
    build.warnings(true).extra_warnings(true);
    build
}

fn link_own_programs(llvm: &Llvm, major: u32) {
    let folder = env::var(LIBRARIES).unwrap_or_else(|_| llvm.tell("--libdir"));
    let shared = llvm.ask(&["--link-shared", "--libs"]);
    let Some(libraries) =
        shared.or_else(|| llvm.ask(&["--link-static", "--libs", "--system-libs"]))
    else {
        end(&format!("LLVM {major} has no libraries to link"))
    };
    for kind in own_programs() {
        println!("cargo::rustc-link-arg-{kind}=-L{folder}");
        println!("cargo::rustc-link-arg-{kind}=-Wl,-rpath,{folder}");
        for library in libraries.split_whitespace() {
            println!("cargo::rustc-link-arg-{kind}={library}");
        }
    }
}

/// The kinds that there are. A published package has none of them.
fn own_programs() -> impl Iterator<Item = &'static str> {
    let kinds = ["tests", "benches", "examples"];
    kinds.into_iter().filter(|kind| Path::new(kind).is_dir())
}
