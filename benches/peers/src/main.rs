//! Runs what is compared, in turn, and says what it saw: markdown on standard output, charts as SVGs. `benches/peers/run` builds
//! everything and calls this.

mod chart;
mod contender;
mod linear;
mod objects;
mod table;

use std::error::Error;
use std::path::PathBuf;

use self::contender::Contender;
use self::contender::Program::{Cranelift, LlvmLoaders, LlvmManagers, Load, Locality, Publish};
use self::table::Table;

/// Where `run` puts what it builds.
const BUILT: &str = "target/peers";

fn main() -> Result<(), Box<dyn Error>> {
    let mut rounds = 7;
    let mut charts = PathBuf::from(BUILT);
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("each option has a value")?;
        match argument.as_str() {
            "--rounds" => rounds = value.parse()?,
            "--charts" => charts = value.into(),
            "--only" => only = Some(value),
            _ => return Err(format!("no such option: {argument}").into()),
        }
    }
    let parts = ["tables", "objects", "linear"];
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if !parts.into_iter().any(is_wanted) {
        return Err(format!("--only takes one of {}", parts.join(", ")).into());
    }
    if is_wanted("tables") {
        for table in tables() {
            println!("{}", table.measure(rounds)?);
        }
    }
    if is_wanted("objects") {
        let svg = charts.join("objects.svg");
        objects::draw(&objects::measure(&published())?, &svg)?;
        println!("{}", svg.display());
    }
    if is_wanted("linear") {
        let svg = charts.join("linear.svg");
        let lines = linear::measure(&loaded())?;
        println!("{}", linear::table(&lines));
        linear::draw(&lines, &svg)?;
        println!("{}", svg.display());
    }
    Ok(())
}

/// The first of each is what the others are compared with.
fn tables() -> Vec<Table> {
    let small = format!("{BUILT}/small.o");
    let small = |program, mode, count| {
        Contender::new(program, mode, count).with_arguments([small.as_str(), "driver"])
    };
    let modules = |mode| Contender::new(Cranelift, mode, 10_000).with_arguments(["bytes"]);
    vec![
        Table::new(
            "Objects of 1,636 bytes, published one by one and called, all alive",
            vec![
                Contender::new(Publish, "window", 20_000),
                Contender::new(Publish, "window-same-address", 20_000),
                Contender::new(Publish, "dedicated", 20_000),
                Contender::new(LlvmManagers, "smm-reserve", 20_000),
                Contender::new(LlvmManagers, "jitlink", 20_000),
                Contender::new(LlvmManagers, "jitlink-mapper", 20_000),
            ],
        ),
        Table::new(
            "One object loaded and unloaded again and again",
            vec![
                Contender::new(Publish, "window-churn", 500_000),
                Contender::new(Publish, "dedicated-churn", 15_000),
                Contender::new(LlvmManagers, "smm-churn", 15_000),
                Contender::new(LlvmManagers, "jitlink-churn", 15_000),
            ],
        ),
        Table::new(
            "A random one of 20,000 replaced",
            vec![
                Contender::new(Publish, "window-replace", 200_000),
                Contender::new(LlvmManagers, "smm-replace", 20_000),
            ],
        ),
        Table::new(
            "Two threads that share the work, and one",
            vec![
                Contender::new(Publish, "window-threads", 400_000),
                Contender::new(Publish, "window", 400_000),
            ],
        ),
        Table::new(
            "An object file of a few hundred bytes loaded 20,000 times, with its unwind table, all alive",
            vec![
                small(Load, "window", 20_000),
                small(Load, "dedicated", 20_000),
                small(LlvmLoaders, "rtdyld-reserve", 20_000),
                small(LlvmLoaders, "jitlink", 20_000),
                small(LlvmLoaders, "jitlink-mapper", 20_000),
            ],
        ),
        Table::new(
            "Modules of cranelift-jit, compiled once, all alive",
            vec![modules("window-live"), modules("system"), modules("arena")],
        ),
        Table::new(
            "Calls of 5,000 small functions in random order, by where they lie",
            vec![
                Contender::new(Locality, "window", 2000),
                Contender::new(Locality, "window-same-address", 2000),
                Contender::new(Locality, "dedicated", 2000),
            ],
        ),
    ]
}

/// What a chart compares: objects of 1,636 bytes, more and more of them.
fn published() -> [Contender; 6] {
    [
        Contender::new(Publish, "window", 0),
        Contender::new(Publish, "window-same-address", 0),
        Contender::new(Publish, "dedicated", 0),
        Contender::new(LlvmManagers, "smm-reserve", 0),
        Contender::new(LlvmManagers, "jitlink", 0),
        Contender::new(LlvmManagers, "jitlink-mapper", 0),
    ]
}

/// What the other chart compares: object files with more and more relocations.
fn loaded() -> [Contender; 4] {
    [
        Contender::new(Load, "window", 0),
        Contender::new(Load, "dedicated", 0),
        Contender::new(LlvmLoaders, "rtdyld-reserve", 0),
        Contender::new(LlvmLoaders, "jitlink-mapper", 0),
    ]
}
