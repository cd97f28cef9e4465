//! The objects that benchmarks publish. Their sizes are those of an object that Numba makes of a small function.

use nearcode::{
    Align, AllocationSpace, Error, Image, Reach, ReservingMemoryManager, SectionKind,
    SectionRequest, Window, WindowOptions, Writing,
};

use crate::process::or_end;

/// The code of an object: it returns at once.
pub type Function = unsafe extern "C" fn();

/// The sections of an object.
pub struct Object {
    sections: [SectionRequest<'static>; 4],
}

impl Object {
    /// `scale` multiplies the sizes.
    pub fn new(scale: f64) -> Result<Self, Error> {
        let section = |name, kind, size: f64, align| {
            Ok::<_, Error>(SectionRequest::new(
                name,
                kind,
                (size * scale) as usize,
                Align::new(align)?,
            ))
        };
        let sections = [
            section(".text", SectionKind::Code, 1180.0, 16)?,
            section(".rodata", SectionKind::ReadOnlyData, 320.0, 8)?,
            section(".eh_frame", SectionKind::ReadOnlyData, 96.0, 8)?,
            section(".got", SectionKind::ReadWriteData, 40.0, 8)?,
        ];
        Ok(Self { sections })
    }

    /// All its sections, in bytes.
    #[allow(dead_code, reason = "not every benchmark copies objects")]
    pub fn size(&self) -> usize {
        self.sections.iter().map(SectionRequest::size).sum()
    }

    /// Publishes it, and calls its function once.
    pub fn publish(&self, manager: &mut impl ReservingMemoryManager) -> Result<Image, Error> {
        let (image, function) = self.publish_function(manager)?;
        // SAFETY: the image is alive.
        unsafe { function() };
        Ok(image)
    }

    /// Publishes it. Its function may be called for as long as the image lives.
    pub fn publish_function(
        &self,
        manager: &mut impl ReservingMemoryManager,
    ) -> Result<(Image, Function), Error> {
        manager.reserve_allocation_space(&AllocationSpace::Sections(&self.sections))?;
        let [text, rodata, eh_frame, got] = &self.sections;
        let code = manager.allocate_section(text)?;
        fill_with_returns(manager.section_mut(code)?);
        for section in [rodata, eh_frame, got] {
            let data = manager.allocate_section(section)?;
            manager.section_mut(data)?.fill(1);
        }
        let image = manager.finalize_memory()?;
        let code = image.pointer(code)?.as_ptr();
        // SAFETY: the code is a function that returns at once. Its type leaves to the caller that it still is there.
        let function = unsafe { std::mem::transmute::<*mut u8, Function>(code) };
        Ok((image, function))
    }
}

#[cfg(target_arch = "x86_64")]
fn fill_with_returns(code: &mut [u8]) {
    code.fill(0xc3); // ret
}

#[cfg(target_arch = "aarch64")]
fn fill_with_returns(code: &mut [u8]) {
    for instruction in code.chunks_exact_mut(4) {
        instruction.copy_from_slice(&0xd65f_03c0_u32.to_le_bytes()); // ret
    }
}

/// Room for a million objects.
pub fn window(writing: Writing) -> Window {
    let options = WindowOptions::new()
        .with_size(Reach::PREL32.bytes() as usize)
        .with_code(1146 << 20)
        .with_writing(writing);
    or_end(Window::with_options(&options), 0)
}
