//! Time for each relocation against the number of relocations of an object: level where loading is linear.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use plotters::prelude::*;

use crate::BUILT;
use crate::chart::{self, Across, Area, Chart, style};
use crate::contender::{Contender, Run};
use crate::table::median;

/// Relocations of an object; it has a symbol for every fifth.
const SIZES: [usize; 7] = [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000];

/// Relocations of a run, at least: it loads an object again and again, and all of them stay.
const TOGETHER: usize = 4_000_000;

const ROUNDS: usize = 5;

/// What was seen of a contender.
pub struct Line {
    name: &'static str,
    style: ShapeStyle,
    /// Relocations of an object, and nanoseconds for each of them.
    points: Vec<(f64, f64)>,
}

/// In each round all contenders run once, so that what slows one of them down slows the others.
///
/// # Errors
///
/// A contender cannot be run, or an object not be written.
pub fn measure(contenders: &[Contender]) -> Result<Vec<Line>, Box<dyn Error>> {
    let there = contenders.iter().filter(|contender| contender.is_there());
    let there: Vec<_> = there.collect();
    let mut sides = [0, 0];
    let line = |contender: &&Contender| {
        let is_ours = contender.is_ours();
        let number = &mut sides[usize::from(is_ours)];
        *number += 1;
        Line {
            name: contender.mode,
            style: style(*number - 1, is_ours),
            points: Vec::new(),
        }
    };
    let mut lines: Vec<Line> = there.iter().map(line).collect();
    for size in SIZES {
        let object = format!("{BUILT}/relocations-{size}.o");
        write(size, &object)?;
        let mut seen = vec![Vec::new(); there.len()];
        for _ in 0..ROUNDS {
            for (contender, seen) in there.iter().zip(&mut seen) {
                let contender = contender.with_count(TOGETHER.div_ceil(size));
                let contender = contender.with_arguments([object.as_str(), "function_0"]);
                match contender.run()? {
                    Run::Seen(run) => seen.push(run.nanoseconds / size as f64),
                    Run::Ended { object, reason } => {
                        eprintln!("left out: `{contender}`: {reason} at object {object}");
                    }
                }
            }
        }
        for (line, seen) in lines.iter_mut().zip(seen) {
            if seen.len() == ROUNDS {
                line.points.push((size as f64, median(seen.into_iter())));
            }
        }
    }
    Ok(lines)
}

/// Writes an object with so many relocations.
fn write(relocations: usize, object: &str) -> Result<(), Box<dyn Error>> {
    let bench = ["bench", "--quiet", "--bench", "load", "--", "write"];
    let mut command = Command::new("cargo");
    command.args(bench).arg(relocations.to_string()).arg(object);
    match command.status()?.success() {
        true => Ok(()),
        false => Err(format!("{object} cannot be written").into()),
    }
}

/// The points as a table.
pub fn table(lines: &[Line]) -> String {
    let mut text = format!("**Nanoseconds for each relocation** (median of {ROUNDS} rounds)\n\n");
    text += "| relocations of an object |";
    text.extend(SIZES.map(|size| format!(" {size} |")));
    text += "\n|---|";
    text += &"---|".repeat(SIZES.len());
    for line in lines {
        text += &format!("\n| `{}` |", line.name);
        for size in SIZES {
            let is_it = |(relocations, _): &&(f64, f64)| *relocations == size as f64;
            match line.points.iter().find(is_it) {
                Some((_, nanoseconds)) => text += &format!(" {nanoseconds:.0} |"),
                None => text += " |",
            }
        }
    }
    text + "\n"
}

/// # Errors
///
/// The file cannot be written.
pub fn draw(lines: &[Line], path: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (720, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let across = Across {
        what: "relocations of the object, five for each symbol",
        range: 1e3..1e6,
    };
    let title = "nanoseconds for each relocation, from the object's bytes to code that runs";
    let mut chart = chart::axes(&area, title, across, 10.0..2e3, 110)?;
    for line in lines {
        let points = line.points.iter().copied();
        chart.draw_series(LineSeries::new(points.clone(), line.style))?;
        let dot = |point| Circle::new(point, 3, line.style.filled());
        chart.draw_series(points.map(dot))?;
    }
    name(&area, &chart, lines)?;
    area.present()?;
    Ok(())
}

/// Pixels that a name takes up and down.
const HEIGHT: i32 = 16;

/// Names each line beside its end, and lower down where another's name is.
fn name(area: &Area<'_>, chart: &Chart<'_>, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let mut ends = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let end = line.points.last().map(|end| chart.backend_coord(end));
        ends.extend(end.map(|(x, y)| (y, x, number)));
    }
    ends.sort_unstable();
    let mut free = 0;
    for (y, x, number) in ends {
        let y = y.max(free);
        free = y + HEIGHT;
        let line = &lines[number];
        let font = ("sans-serif", 13).into_font();
        let font = font.color(&line.style.color);
        area.draw(&Text::new(line.name, (x + 10, y - HEIGHT / 2 + 2), font))?;
    }
    Ok(())
}
