//! Time, memory and mappings against the number of objects, each line up to where its memory manager ends.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::chart::{self, Across, Area, style};
use crate::contender::{Contender, Run, Seen};

/// Objects that are alive at the end of a run.
const COUNTS: [usize; 11] = [
    10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000,
];

/// Up to here a run is short, and the best of some is taken.
const SHORT: usize = 3000;
const REPEATED: usize = 5;

/// What was seen of a contender.
pub struct Line {
    name: &'static str,
    is_ours: bool,
    points: Vec<(usize, Seen)>,
    /// Whether it was refused more.
    ends: bool,
}

/// # Errors
///
/// A contender cannot be run.
pub fn measure(contenders: &[Contender]) -> Result<Vec<Line>, Box<dyn Error>> {
    let there = contenders.iter().filter(|contender| contender.is_there());
    there.map(follow).collect()
}

fn follow(contender: &Contender) -> Result<Line, Box<dyn Error>> {
    let mut line = Line {
        name: contender.mode,
        is_ours: contender.is_ours(),
        points: Vec::new(),
        ends: false,
    };
    let mut counts = COUNTS.into_iter();
    let mut next = counts.next();
    while let Some(count) = next {
        match best(&contender.with_count(count))? {
            Run::Seen(seen) => {
                line.points.push((count, seen));
                next = counts.next().filter(|_| !line.ends);
            }
            Run::Ended { object, reason } => {
                println!(
                    "`{}`: {reason} at object {object}",
                    contender.with_count(count)
                );
                line.ends = true;
                // As many as it takes; what comes behind, near the limit, may still be refused.
                let fewer = object.min(count - 1) / 10 * 10;
                next = (fewer > line.points.last().map_or(0, |&(count, _)| count)).then_some(fewer);
            }
        }
    }
    println!();
    Ok(line)
}

fn best(contender: &Contender) -> Result<Run, Box<dyn Error>> {
    let mut best: Option<Seen> = None;
    let rounds = if contender.count() <= SHORT {
        REPEATED
    } else {
        2
    };
    for _ in 0..rounds {
        match contender.run()? {
            Run::Seen(seen) => {
                if best.is_none_or(|best| seen.nanoseconds < best.nanoseconds) {
                    best = Some(seen);
                }
            }
            ended => return Ok(ended),
        }
    }
    Ok(Run::Seen(best.expect("there is a round")))
}

/// # Errors
///
/// The file cannot be written.
pub fn draw(lines: &[Line], path: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (1200, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((1, 3));
    let time = |seen: &Seen| seen.nanoseconds / 1e3;
    let memory = |seen: &Seen| seen.bytes.unwrap_or(0.0);
    let mappings = |seen: &Seen| seen.mappings.unwrap_or(0.0);
    panel(
        &panels[0],
        lines,
        "microseconds for each object",
        0.5..200.0,
        time,
        false,
    )?;
    panel(
        &panels[1],
        lines,
        "bytes for each object of 1,636",
        1e3..1e5,
        memory,
        true, // It has room.
    )?;
    panel(
        &panels[2],
        lines,
        "kernel mappings of the process",
        10.0..1e5,
        mappings,
        false,
    )?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &Area<'_>,
    lines: &[Line],
    title: &str,
    range: std::ops::Range<f64>,
    value: impl Fn(&Seen) -> f64,
    names_them: bool,
) -> Result<(), Box<dyn Error>> {
    let across = Across {
        what: "objects, all alive",
        range: 10.0..1e6,
    };
    let mut chart = chart::axes(area, title, across, range, 0)?;
    for (number, line) in lines.iter().enumerate() {
        let style = style(number, line.is_ours);
        let points: Vec<(f64, f64)> = (line.points.iter())
            .map(|(count, seen)| (*count as f64, value(seen)))
            .collect();
        let end = points.last().copied();
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        if let Some(end) = end.filter(|_| line.ends) {
            chart.draw_series([Cross::new(end, 5, style)])?;
        }
    }
    if names_them {
        chart
            .configure_series_labels()
            .label_font(("sans-serif", 11))
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::UpperRight)
            .draw()?;
    }
    Ok(())
}
