//! The main job: load an object, see where everything landed, call it.
//!
//! `cargo run --example quickstart`

use std::error::Error;

use nearcode::SectionMemoryManager;
use nearcode::loader::{Library, Loader};

fn main() -> Result<(), Box<dyn Error>> {
    // A compiled object for this CPU; quickstart.c beside it is its source.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/objects");
    let path = format!("{folder}/quickstart-{}.o", std::env::consts::ARCH);
    let object = std::fs::read(&path)?;

    let mut manager = SectionMemoryManager::new();
    let mut loader = Loader::new()?;
    loader.load("quickstart.o", &object)?;
    let program = loader.link(&mut manager, &Library::process()?)?;

    for section in program.sections().filter(|section| section.size() > 0) {
        let (address, size) = (section.address(), section.size());
        println!(
            "{address} {size:5} bytes of {:15} {}",
            section.kind().to_string(),
            section.name()
        );
    }
    println!("{:?}", manager.stats());

    // SAFETY: quickstart.c defines `int letters(void)`, and the program is alive until the end of this function.
    let letters: extern "C" fn() -> i32 = unsafe { program.function("letters")? };
    println!("letters() = {}", letters());
    Ok(())
}
