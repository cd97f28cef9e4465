//! What the charts have in common: two logarithmic axes with a title above, and one style for each line.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// An axis across, with what it counts.
pub struct Across {
    pub what: &'static str,
    pub range: Range<f64>,
}

/// Axes that leave `room` on their right, in pixels.
///
/// # Errors
///
/// The area is too small.
pub fn axes<'a>(
    area: &Area<'a>,
    title: &str,
    across: Across,
    up: Range<f64>,
    room: u32,
) -> Result<Chart<'a>, Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .margin_right(12 + room)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(across.range.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(across.what)
        .x_label_formatter(&|number| short(*number))
        .y_label_formatter(&|number| short(*number))
        .light_line_style(WHITE)
        .label_style(("sans-serif", 12))
        .draw()?;
    Ok(chart)
}

/// Such as 10k.
fn short(number: f64) -> String {
    match number {
        ..1e3 => format!("{number}"),
        1e3..1e6 => format!("{}k", number / 1e3),
        _ => format!("{}M", number / 1e6),
    }
}

/// Ours are blue and drawn thick.
pub fn style(number: usize, is_ours: bool) -> ShapeStyle {
    let ours = [
        RGBColor(8, 48, 107),
        RGBColor(33, 113, 181),
        RGBColor(107, 174, 214),
    ];
    let others = [
        RGBColor(166, 54, 3),
        RGBColor(230, 85, 13),
        RGBColor(253, 174, 107),
    ];
    let color = if is_ours {
        ours[number % 3]
    } else {
        others[number % 3]
    };
    color.stroke_width(if is_ours { 3 } else { 2 })
}
