//! Draws who owns which bytes, in dedicated blocks and in a window: `cargo run --example memory_map [-- PATH]`
//!
//! The same objects are published, dropped and published again on both sides. The picture is drawn to scale, from the addresses
//! of their sections; where the system shows a process its mappings, every page is compared with them first. It goes to
//! `target/memory_map.svg` unless told otherwise.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use nearcode::{
    Align, AllocationSpace, Image, PerKind, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest, Stats, Window, Writing,
};

/// Objects that are published at first; how many of them are dropped then; and how many are published after that. A window
/// makes freed code usable again in batches, the first of which these drops fill.
const EARLY: usize = 170;
const DROPPED: usize = 130;
const LATE: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1);
    let path = PathBuf::from(path.unwrap_or_else(|| "target/memory_map.svg".into()));
    let page = page_size()?;

    let mut manager = SectionMemoryManager::new();
    let history = History::new(&mut manager)?;
    let mut blocks = Side::new(
        "Dedicated blocks",
        "what is unused stays unused until the object goes",
        &history,
        manager.stats(),
    );
    for object in &history.live {
        let pages = object
            .pieces()
            .map(|piece| Pages::around(piece.kind, &piece.bytes, page));
        blocks.groups.push(pages.collect());
    }
    blocks.groups.sort_by_key(|pages| pages[0].bytes.start);
    let drawn = blocks.groups.iter().flatten().map(Pages::size);
    assert_eq!(drawn.sum::<u64>(), blocks.stats.committed() as u64);

    let window = Window::new()?;
    let mut manager = SectionMemoryManager::in_window(&window);
    let in_window = History::new(&mut manager)?;
    let mut shared = Side::new(
        match window.capabilities().writing() {
            Writing::TwoAddresses => "Window, two addresses",
            Writing::SameAddress => "Window, one address",
        },
        "what is unused is for the next object",
        &in_window,
        window.stats(),
    );
    for (kind, touched) in in_window.touched.iter() {
        let pages = touched
            .as_ref()
            .map(|bytes| Pages::around(kind, bytes, page));
        shared.groups.extend(pages.map(|pages| vec![pages]));
    }

    if let Some(kernel) = Kernel::ask() {
        blocks.check(&kernel)?;
        shared.check(&kernel)?;
        let drawn = blocks.groups.iter().flatten();
        let drawn: Vec<Range<u64>> = drawn.map(|pages| pages.bytes.clone()).collect();
        blocks.mappings = kernel.count(&drawn);
        let start = window.address().get();
        let all = start..start + window.capabilities().size() as u64;
        shared.mappings = kernel.count(std::slice::from_ref(&all));
        println!("every page is where the kernel says, with the permission of its kind");
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, picture(&blocks, &shared, page))?;
    println!("{}", path.display());
    Ok(())
}

/// A block for one byte is one page.
fn page_size() -> Result<u64, nearcode::Error> {
    let mut manager = SectionMemoryManager::new();
    let byte = SectionRequest::new("byte", SectionKind::Code, 1, Align::ONE);
    manager.reserve_allocation_space(&AllocationSpace::Sections(&[byte]))?;
    Ok(manager.stats().committed() as u64)
}

/// When an object was published.
#[derive(Clone, Copy, PartialEq)]
enum Wave {
    Early,
    Late,
}

struct Object {
    number: usize,
    wave: Wave,
    image: Image,
}

/// Bytes of a section.
struct Piece {
    kind: SectionKind,
    bytes: Range<u64>,
}

impl Object {
    /// Most objects are small, and few are large.
    fn publish(
        manager: &mut SectionMemoryManager,
        (number, wave): (usize, Wave),
        random: &mut Random,
    ) -> Result<Self, nearcode::Error> {
        let times = if random.below(12) == 0 { 6 } else { 1 };
        let code = 16 * (4 + random.below(110)) * times;
        let (rodata, rwdata) = (8 * (1 + random.below(90)), 8 * (1 + random.below(50)));
        let align = Align::new(16)?;
        let plan = [
            SectionRequest::new(".text", SectionKind::Code, code, align),
            SectionRequest::new(".rodata", SectionKind::ReadOnlyData, rodata, align),
            SectionRequest::new(".data", SectionKind::ReadWriteData, rwdata, align),
        ];
        manager.reserve_allocation_space(&AllocationSpace::Sections(&plan))?;
        for request in &plan {
            manager.allocate_section(request)?; // Its contents are not in the picture.
        }
        let image = manager.finalize_memory()?;
        Ok(Self {
            number,
            wave,
            image,
        })
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.image.sections().map(|section| {
            let (kind, start) = (section.kind(), section.address().get());
            let bytes = start..start + section.size() as u64;
            Piece { kind, bytes }
        })
    }
}

/// Numbers without a pattern, the same in every run: Knuth's linear congruential generator (MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What was published in one place.
struct History {
    live: Vec<Object>,
    /// From the first to the last byte that any object ever had of each kind.
    touched: PerKind<Option<Range<u64>>>,
}

impl History {
    fn new(manager: &mut SectionMemoryManager) -> Result<Self, nearcode::Error> {
        let mut random = Random(7);
        let mut history = Self {
            live: Vec::new(),
            touched: PerKind::default(),
        };
        for number in 0..EARLY {
            history.add(Object::publish(
                manager,
                (number, Wave::Early),
                &mut random,
            )?);
        }
        for _ in 0..DROPPED {
            let position = random.below(history.live.len());
            history.live.swap_remove(position);
        }
        for number in EARLY..EARLY + LATE {
            history.add(Object::publish(manager, (number, Wave::Late), &mut random)?);
        }
        Ok(history)
    }

    fn add(&mut self, object: Object) {
        for Piece { kind, bytes } in object.pieces() {
            let touched = &mut self.touched[kind];
            let before = touched.take().unwrap_or(bytes.clone());
            *touched = Some(before.start.min(bytes.start)..before.end.max(bytes.end));
        }
        self.live.push(object);
    }
}

/// Whole pages of one kind.
struct Pages {
    kind: SectionKind,
    bytes: Range<u64>,
}

impl Pages {
    fn around(kind: SectionKind, bytes: &Range<u64>, page: u64) -> Self {
        let bytes = bytes.start / page * page..bytes.end.next_multiple_of(page);
        Self { kind, bytes }
    }

    fn size(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    fn permission(&self) -> &'static str {
        match self.kind {
            SectionKind::Code => "r-x",
            SectionKind::ReadOnlyData => "r--",
            SectionKind::ReadWriteData => "rw-",
        }
    }
}

/// The memory of one manager.
struct Side<'h> {
    name: &'static str,
    /// What becomes of what is unused.
    law: &'static str,
    objects: &'h [Object],
    /// Pages that lie together: those of a block, or of one kind in the window.
    groups: Vec<Vec<Pages>>,
    stats: Stats,
    mappings: usize,
}

impl<'h> Side<'h> {
    fn new(name: &'static str, law: &'static str, history: &'h History, stats: Stats) -> Self {
        Self {
            name,
            law,
            objects: &history.live,
            groups: Vec::new(),
            mappings: stats.mappings(),
            stats,
        }
    }

    /// Whether every page of the picture is mapped with the permission of its kind.
    fn check(&self, kernel: &Kernel) -> Result<(), String> {
        for pages in self.groups.iter().flatten() {
            let mut at = pages.bytes.start;
            while at < pages.bytes.end {
                let found = kernel.mappings.iter().find(|map| map.bytes.contains(&at));
                match found.filter(|map| map.permission == pages.permission()) {
                    Some(map) => at = map.bytes.end,
                    None => return Err(format!("{at:#x} is not {}", pages.permission())),
                }
            }
        }
        Ok(())
    }
}

/// The system's own list of this process's mappings.
struct Kernel {
    mappings: Vec<Mapping>,
}

struct Mapping {
    bytes: Range<u64>,
    permission: String,
    /// Device and number of the file, if it has one.
    file: Option<String>,
}

impl Kernel {
    /// `None` where the system shows no such list.
    fn ask() -> Option<Self> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let mappings = maps.lines().map(Mapping::parse).collect::<Option<_>>()?;
        Some(Self { mappings })
    }

    /// Mappings that reach into `ranges`, and others of the same files: the view through which a window is written.
    fn count(&self, ranges: &[Range<u64>]) -> usize {
        let is_inside = |map: &&Mapping| {
            let overlaps =
                |range: &Range<u64>| map.bytes.start < range.end && range.start < map.bytes.end;
            ranges.iter().any(overlaps)
        };
        let inside: Vec<&Mapping> = self.mappings.iter().filter(is_inside).collect();
        let is_of_its_file = |map: &&Mapping| {
            let same = |known: &&Mapping| map.file.is_some() && map.file == known.file;
            inside.iter().any(same) && !is_inside(map)
        };
        inside.len() + self.mappings.iter().filter(is_of_its_file).count()
    }
}

impl Mapping {
    /// Reads `7f2c8000-7f2c9000 r-xs 00010000 00:01 44868 /memfd:...`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words.first()?.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let file = (*words.get(4)? != "0").then(|| words[3..5].join(" "));
        Some(Self {
            bytes: number(start)?..number(end)?,
            permission: words[1].get(..3)?.into(),
            file,
        })
    }
}

/// Of the picture, in its own units.
const WIDTH: f64 = 980.0;
const MARGIN: f64 = 28.0;
const PAGE_WIDTH: f64 = 44.0;
const ROW_HEIGHT: f64 = 12.0;
const ROW_STEP: f64 = 17.0;
const BLOCK_GAP: f64 = 7.0;
const BLOCKS_WIDTH: f64 = 560.0;
const WINDOW_LEFT: f64 = MARGIN + BLOCKS_WIDTH + 44.0;
const WINDOW_PAGES: u64 = 7;
const TOP: f64 = 202.0;

/// For objects of both waves, and for what is nobody's.
fn colours(kind: SectionKind) -> [&'static str; 3] {
    match kind {
        SectionKind::Code => ["#5fa2d3", "#0b4f86", "#dbe9f4"],
        SectionKind::ReadOnlyData => ["#4fbf9b", "#00664b", "#d6efe6"],
        SectionKind::ReadWriteData => ["#f0b64a", "#a85a00", "#faebcd"],
    }
}

fn colour(kind: SectionKind, wave: Wave) -> &'static str {
    let [early, late, _] = colours(kind);
    match wave {
        Wave::Early => early,
        Wave::Late => late,
    }
}

/// Pages drawn one behind the other, in rows.
struct Strip {
    /// Left and top.
    corner: (f64, f64),
    /// The address that lies there.
    start: u64,
    /// Bytes of a row.
    row: u64,
    page: u64,
}

impl Strip {
    /// Where bytes are in the picture: left, top and width, row by row.
    fn places(&self, bytes: &Range<u64>) -> Vec<(f64, f64, f64)> {
        let scale = PAGE_WIDTH / self.page as f64;
        let (mut at, end) = (bytes.start - self.start, bytes.end - self.start);
        let mut places = Vec::new();
        while at < end {
            let row = at / self.row;
            let until = end.min((row + 1) * self.row);
            let x = self.corner.0 + (at - row * self.row) as f64 * scale;
            let y = self.corner.1 + row as f64 * ROW_STEP;
            places.push((x, y, (until - at) as f64 * scale));
            at = until;
        }
        places
    }

    fn draw(&self, svg: &mut Svg, pages: &[Pages], objects: &[Object]) {
        for pages in pages {
            let [.., free] = colours(pages.kind);
            let mut start = pages.bytes.start;
            while start < pages.bytes.end {
                for (x, y, width) in self.places(&(start..start + self.page)) {
                    svg.page((x, y, width), free);
                }
                start += self.page;
            }
        }
        let all = pages[0].bytes.start..pages[pages.len() - 1].bytes.end;
        for object in objects {
            let here = object
                .pieces()
                .filter(|piece| all.contains(&piece.bytes.start));
            for piece in here {
                for place in self.places(&piece.bytes) {
                    svg.piece(place, &piece, object);
                }
            }
        }
    }
}

fn picture(blocks: &Side<'_>, window: &Side<'_>, page: u64) -> String {
    let mut svg = Svg::default();
    let title = format!("The same {} objects, to scale", blocks.objects.len());
    svg.text((MARGIN, 44.0), "title", &title);
    let story = format!(
        "{EARLY} were published, {DROPPED} of them dropped at random, and {LATE} more published. One box is a page of {} bytes.",
        grouped(page)
    );
    svg.text((MARGIN, 68.0), "note", &story);
    for (x, side) in [(MARGIN, blocks), (WINDOW_LEFT, window)] {
        svg.text((x, 108.0), "name", side.name);
        svg.text((x, 128.0), "note", side.law);
        let lines = [
            (side.stats.asked(), "bytes asked for"),
            (side.stats.committed(), "bytes committed"),
            (side.mappings, "kernel mappings"),
        ];
        for ((number, of), y) in lines.iter().zip([150.0, 168.0, 186.0]) {
            svg.text((x + 82.0, y), "number", &grouped(*number as u64));
            svg.text((x + 88.0, y), "figure", of);
        }
    }

    let (mut x, mut y) = (MARGIN, TOP);
    for pages in &blocks.groups {
        let count = pages.iter().map(Pages::size).sum::<u64>() / page;
        let width = count as f64 * PAGE_WIDTH;
        if x > MARGIN && x + width > MARGIN + BLOCKS_WIDTH {
            (x, y) = (MARGIN, y + ROW_STEP);
        }
        let start = pages[0].bytes.start;
        let strip = Strip {
            corner: (x, y),
            start,
            row: u64::MAX,
            page,
        };
        strip.draw(&mut svg, pages, blocks.objects);
        x += width + BLOCK_GAP;
    }
    let blocks_end = y + ROW_STEP;

    let (x, mut y) = (WINDOW_LEFT, TOP);
    for pages in &window.groups {
        let heading = format!("{}, {}", pages[0].kind, pages[0].permission());
        svg.text((x, y + 10.0), "note", &heading);
        y += 18.0;
        let (start, row) = (pages[0].bytes.start, WINDOW_PAGES * page);
        let strip = Strip {
            corner: (x, y),
            start,
            row,
            page,
        };
        strip.draw(&mut svg, pages, window.objects);
        y += pages[0].size().div_ceil(row) as f64 * ROW_STEP + 8.0;
    }
    let drawn: u64 = window.groups.iter().flatten().map(Pages::size).sum();
    let ahead = (window.stats.committed() as u64).saturating_sub(drawn) / page;
    if ahead > 0 {
        let note = format!("and {ahead} pages that were fetched in advance");
        svg.text((x, y + 10.0), "note", &note);
        y += 18.0;
    }
    let end = legend(&mut svg, WINDOW_LEFT, y + 26.0).max(blocks_end);
    svg.finish(end + MARGIN)
}

/// What the colours mean. The result is where it ends.
fn legend(svg: &mut Svg, x: f64, y: f64) -> f64 {
    let columns = [x + 116.0, x + 182.0, x + 240.0];
    let titles = [
        format!("first {EARLY}"),
        format!("last {LATE}"),
        "unused".into(),
    ];
    for (x, title) in columns.iter().zip(titles) {
        svg.text((*x, y), "note", &title);
    }
    let mut y = y + 8.0;
    for kind in SectionKind::ALL {
        svg.text((x, y + 11.0), "note", &kind.to_string());
        for (x, colour) in columns.iter().zip(colours(kind)) {
            svg.page((*x, y, 40.0), colour);
        }
        y += 20.0;
    }
    y
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> = groups
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

/// A picture that is being drawn.
#[derive(Default)]
struct Svg(String);

impl Svg {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(element)
            .expect("a string takes everything");
        self.0.push('\n');
    }

    fn text(&mut self, (x, y): (f64, f64), class: &str, words: &str) {
        self.add(format_args!(
            r#"<text x="{x}" y="{y}" class="{class}">{words}</text>"#
        ));
    }

    fn page(&mut self, (x, y, width): (f64, f64, f64), fill: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.2}" y="{y}" width="{width:.2}" height="{ROW_HEIGHT}" fill="{fill}" class="page"/>"#
        ));
    }

    /// Browsers show its title where the mouse is.
    fn piece(&mut self, (x, y, width): (f64, f64, f64), piece: &Piece, object: &Object) {
        let Piece { kind, bytes } = piece;
        let width = width - (width / 4.0).min(0.5); // Keeps neighbours apart.
        let (fill, number) = (colour(*kind, object.wave), object.number);
        let (start, size) = (bytes.start, grouped(bytes.end - bytes.start));
        self.add(format_args!(
            r#"<rect x="{x:.2}" y="{y}" width="{width:.2}" height="{ROW_HEIGHT}" fill="{fill}"><title>object {number}: {size} bytes of {kind} at {start:#x}</title></rect>"#
        ));
    }

    fn finish(self, height: f64) -> String {
        // A background of its own, since the page around it may be dark or light.
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<style>
text {{ font-family: "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; fill: #24292f; }}
.title {{ font-size: 24px; font-weight: bold; }}
.name {{ font-size: 18px; font-weight: bold; }}
.figure {{ font-size: 14px; }}
.number {{ font-size: 14px; font-weight: bold; text-anchor: end; }}
.note {{ font-size: 13px; fill: #57606a; }}
.page {{ stroke: #9aa4ae; stroke-width: 0.6; }}
</style>
<rect width="{WIDTH}" height="{height}" rx="10" fill="#fdfcf9"/>
{}</svg>
"##,
            self.0
        )
    }
}
