//! A table: contenders on the same work, several rounds, each round all of them once.

use std::error::Error;
use std::fmt::Write;

use crate::contender::{Contender, Run, Seen};

pub struct Table {
    title: &'static str,
    contenders: Vec<Contender>,
}

impl Table {
    /// The first contender is what the others are compared with.
    pub fn new(title: &'static str, contenders: Vec<Contender>) -> Self {
        Self { title, contenders }
    }

    /// Runs everything once to warm up, which a virtual machine's memory needs, and then `rounds` times.
    ///
    /// # Errors
    ///
    /// A contender cannot be run, or does not get to its end.
    pub fn measure(&self, rounds: usize) -> Result<String, Box<dyn Error>> {
        let (there, missing): (Vec<_>, Vec<_>) = self
            .contenders
            .iter()
            .partition(|contender| contender.is_there());
        let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); there.len()];
        for round in 0..=rounds {
            for (contender, seen) in there.iter().zip(&mut seen) {
                match contender.run()? {
                    Run::Seen(run) if round > 0 => seen.push(run),
                    Run::Seen(_) => {}
                    Run::Ended { object, reason } => {
                        return Err(format!("`{contender}`: {reason} at object {object}").into());
                    }
                }
            }
        }
        let mut text = format!("**{}** ({rounds} rounds)\n\n", self.title);
        text += "| | median | lowest to highest | of the first | bytes each | mappings |\n";
        text += "|---|---|---|---|---|---|\n";
        for (contender, runs) in there.iter().zip(&seen) {
            let times: Vec<f64> = runs.iter().map(|run| run.nanoseconds).collect();
            let first = seen[0].iter().map(|run| run.nanoseconds);
            // Of runs that stood side by side: what slows a round down slows both.
            let ratios = times.iter().zip(first).map(|(own, first)| own / first);
            let lowest = times.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = times.iter().copied().fold(0.0, f64::max);
            writeln!(
                text,
                "| `{contender}` | {} | {} to {} | {:.2} | {} | {} |",
                duration(median(times.iter().copied())),
                duration(lowest),
                duration(highest),
                median(ratios),
                number(runs.iter().filter_map(|run| run.bytes)),
                number(runs.iter().filter_map(|run| run.mappings)),
            )?;
        }
        for contender in missing {
            writeln!(text, "| `{contender}` | skipped: not built | | | | |")?;
        }
        Ok(text)
    }
}

/// Of one value at least.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(values: impl Iterator<Item = f64>) -> String {
    let mut values = values.peekable();
    match values.peek() {
        Some(_) => format!("{:.0}", median(values)),
        None => String::new(),
    }
}

fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e2 => format!("{nanoseconds:.1} ns"),
        1e2..1e3 => format!("{nanoseconds:.0} ns"),
        1e3..1e6 => format!("{:.2} us", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}
