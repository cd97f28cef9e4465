//! Functions of two threads in one window, where each reaches each: `cargo run --example window --no-default-features`

use std::error::Error;
use std::ops::Range;
use std::thread;

use nearcode::reach::RangeError;
use nearcode::{
    Address, Align, Image, ReservingMemoryManager, SectionId, SectionKind, SectionMemoryManager,
    SectionRequest, Window, Writing,
};

/// Of each thread.
const FUNCTIONS: i32 = 4000;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let window = Window::new()?;
    introduce(&window);

    // Each thread has a manager of its own. What they share is the window.
    let publish = |numbers: Range<i32>| {
        let mut manager = SectionMemoryManager::in_window(&window);
        let publish = |number| Function::publish(&mut manager, |_| Ok(cpu::returns(number)));
        numbers.map(publish).collect::<Result<Vec<_>, Failure>>()
    };
    let (mine, others) = thread::scope(|scope| {
        let others = scope.spawn(|| publish(FUNCTIONS..2 * FUNCTIONS));
        (publish(0..FUNCTIONS), others.join())
    });
    let mut functions = mine?;
    functions.extend(others.expect("its failures are returned")?);
    for (number, function) in (0..).zip(&functions) {
        assert_eq!(function.call()?, number);
    }
    report("published and called", &window);

    // A direct call of what the other thread made: no GOT, no stub. Whoever calls directly keeps the callee alive.
    let mut manager = SectionMemoryManager::in_window(&window);
    let callee = functions.pop().ok_or("there are thousands")?;
    let target = callee.address()?;
    let caller = Function::publish(&mut manager, |place| cpu::calls(place, target))?;
    let (place, result) = (caller.address()?, caller.call()?);
    println!("the function at {place} calls the one at {target}, which returns {result}");
    assert_eq!(result, 2 * FUNCTIONS - 1);

    functions.truncate(functions.len() / 2);
    report("half of them dropped", &window);
    Ok(())
}

/// An `int (void)` in memory.
struct Function {
    image: Image,
    section: SectionId,
}

impl Function {
    /// `code` gets to know where it is going to run.
    fn publish<const SIZE: usize>(
        manager: &mut SectionMemoryManager,
        code: impl FnOnce(Address) -> Result<[u8; SIZE], RangeError>,
    ) -> Result<Self, Failure> {
        let request = SectionRequest::new(".text", SectionKind::Code, SIZE, Align::new(16)?);
        let section = manager.allocate_section(&request)?;
        let code = code(manager.address(section)?)?;
        manager.section_mut(section)?.copy_from_slice(&code);
        let image = manager.finalize_memory()?;
        Ok(Self { image, section })
    }

    fn address(&self) -> Result<Address, Failure> {
        Ok(self.image.address(self.section)?)
    }

    fn call(&self) -> Result<i32, Failure> {
        let code = self.image.pointer(self.section)?.as_ptr();
        // SAFETY: `cpu` makes an `int (void)` only, and the image is alive, as is that of its callee.
        let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(code) };
        Ok(function())
    }
}

fn introduce(window: &Window) {
    let capabilities = window.capabilities();
    let mib = |bytes| bytes as f64 / f64::from(1 << 20);
    let way = match capabilities.writing() {
        Writing::TwoAddresses => "written at one address and run at another",
        Writing::SameAddress => "written where it runs",
    };
    println!(
        "a window of {:.1} MiB at {}, {way}",
        mib(capabilities.size()),
        window.address()
    );
    for (kind, &size) in capabilities.sizes().iter() {
        println!("    {:.1} MiB for {kind}", mib(size));
    }
    let kernel_forbids_writing = capabilities.kernel_forbids_writing();
    println!("    the kernel forbids writing where code runs: {kernel_forbids_writing}");
    let returns_pages = capabilities.returns_pages();
    println!("    free pages go back to the system: {returns_pages}");
}

fn report(when: &str, window: &Window) {
    let stats = window.stats();
    println!(
        "{when}: {} functions, {} bytes; pages of {} bytes, {} kernel mappings",
        stats.objects(),
        stats.asked(),
        stats.committed(),
        stats.mappings()
    );
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use nearcode::Address;
    use nearcode::reach::{RangeError, x86_64::PLT32};

    pub(super) fn returns(number: i32) -> [u8; 6] {
        let mut code = [0xb8, 0, 0, 0, 0, 0xc3]; // mov $number, %eax; ret
        code[1..5].copy_from_slice(&number.to_le_bytes());
        code
    }

    /// Code that is going to run at `place`.
    pub(super) fn calls(place: Address, target: Address) -> Result<[u8; 6], RangeError> {
        let mut code = [0xe8, 0, 0, 0, 0, 0xc3]; // call target; ret
        // The CPU counts from the end of the field.
        let distance = PLT32.check(place.get() + 1, target.wrapping_add((-4i64) as u64).get())?;
        code[1..5].copy_from_slice(&(distance as i32).to_le_bytes());
        Ok(code)
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    use nearcode::Address;
    use nearcode::reach::{RangeError, aarch64::CALL26};

    pub(super) fn returns(number: i32) -> [u8; 8] {
        let mov = 0x5280_0000 | (number as u32 & 0xffff) << 5; // mov w0, #number
        instructions([mov, RET])
    }

    /// Code that is going to run at `place`.
    pub(super) fn calls(place: Address, target: Address) -> Result<[u8; 16], RangeError> {
        let distance = CALL26.check(place.get() + 4, target.get())?;
        let bl = 0x9400_0000 | (distance as u32 >> 2 & 0x3ff_ffff);
        let [push, pop] = [0xa9bf_7bfd, 0xa8c1_7bfd]; // stp x29, x30, [sp, #-16]!; ldp x29, x30, [sp], #16
        Ok(instructions([push, bl, pop, RET]))
    }

    const RET: u32 = 0xd65f_03c0;

    fn instructions<const COUNT: usize, const SIZE: usize>(words: [u32; COUNT]) -> [u8; SIZE] {
        let mut code = [0; SIZE];
        for (bytes, word) in code.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        code
    }
}

#[cfg(target_arch = "riscv64")]
mod cpu {
    use nearcode::Address;
    use nearcode::reach::{RangeError, riscv64::CALL_PLT};

    pub(super) fn returns(number: i32) -> [u8; 12] {
        let [high, low] = high_and_low(number);
        instructions([0x537 | high, 0x5_051b | low, RET]) // lui a0, number; addiw a0, a0, number
    }

    /// Code that is going to run at `place`.
    pub(super) fn calls(place: Address, target: Address) -> Result<[u8; 28], RangeError> {
        let distance = CALL_PLT.check(place.get() + 8, target.get())?;
        let [high, low] = high_and_low(distance as i32);
        let [auipc, jalr] = [0x97 | high, 0x80e7 | low]; // Over ra.
        let push = [0xff01_0113, 0x0011_3423]; // addi sp, sp, -16; sd ra, 8(sp)
        let pop = [0x0081_3083, 0x0101_0113]; // ld ra, 8(sp); addi sp, sp, 16
        Ok(instructions([
            push[0], push[1], auipc, jalr, pop[0], pop[1], RET,
        ]))
    }

    const RET: u32 = 0x8067;

    /// The upper 20 bits of a number, and the lower 12 where an instruction has them, which adds them as a signed number.
    fn high_and_low(number: i32) -> [u32; 2] {
        let number = number as u32;
        [number.wrapping_add(0x800) & 0xffff_f000, number << 20]
    }

    fn instructions<const COUNT: usize, const SIZE: usize>(words: [u32; COUNT]) -> [u8; SIZE] {
        let mut code = [0; SIZE];
        for (bytes, word) in code.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        code
    }
}
