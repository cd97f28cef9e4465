//! One program with its arguments, and what it prints.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::BUILT;

#[derive(Clone, Copy, PartialEq)]
pub enum Program {
    Publish,
    Load,
    Locality,
    Cranelift,
    LlvmManagers,
    LlvmLoaders,
}

#[derive(Clone)]
pub struct Contender {
    program: Program,
    pub mode: &'static str,
    count: usize,
    arguments: Vec<String>,
}

/// What one run printed.
#[derive(Clone, Copy)]
pub struct Seen {
    pub nanoseconds: f64,
    pub bytes: Option<f64>,
    pub mappings: Option<f64>,
}

/// How a run ended.
pub enum Run {
    Seen(Seen),
    /// Refused at this object, counted from 0, for this reason.
    Ended {
        object: usize,
        reason: String,
    },
}

impl Contender {
    pub fn new(program: Program, mode: &'static str, count: usize) -> Self {
        Self {
            program,
            mode,
            count,
            arguments: Vec::new(),
        }
    }

    /// What follows mode and count.
    pub fn with_arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments = arguments.into_iter().map(str::to_owned).collect();
        self
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn with_count(&self, count: usize) -> Self {
        let mut other = self.clone();
        other.count = count;
        other
    }

    /// Whether `run` has built it. Ours and cranelift's are built by cargo, always.
    pub fn is_there(&self) -> bool {
        self.built().is_none_or(|path| Path::new(&path).exists())
    }

    /// Whether it is this project's.
    pub fn is_ours(&self) -> bool {
        match self.program {
            Program::Publish | Program::Load | Program::Locality => true,
            Program::Cranelift => self.mode.starts_with("window"),
            Program::LlvmManagers | Program::LlvmLoaders => false,
        }
    }

    fn built(&self) -> Option<String> {
        match self.program {
            Program::LlvmManagers => Some(format!("{BUILT}/managers")),
            Program::LlvmLoaders => Some(format!("{BUILT}/loaders")),
            _ => None,
        }
    }

    fn command(&self) -> Vec<String> {
        let cargo = match self.program {
            Program::Publish => "cargo bench --quiet --bench publish --",
            Program::Load => "cargo bench --quiet --bench load --",
            Program::Locality => "cargo bench --quiet --bench locality --",
            Program::Cranelift => "cargo bench --quiet -p nearcode-cranelift --bench modules --",
            Program::LlvmManagers | Program::LlvmLoaders => "",
        };
        let mut words: Vec<String> = cargo.split_whitespace().map(str::to_owned).collect();
        words.extend(self.built());
        words.extend([self.mode.to_owned(), self.count.to_string()]);
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// # Errors
    ///
    /// It cannot be started, or prints what is no result.
    pub fn run(&self) -> Result<Run, Box<dyn Error>> {
        let words = self.command();
        let output = Command::new(&words[0]).args(&words[1..]).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let line = printed.lines().last().unwrap_or("");
        if output.status.success() {
            let columns = line.split_whitespace().skip(2);
            let numbers: Vec<f64> = columns.map(str::parse).collect::<Result<_, _>>()?;
            let nanoseconds = *numbers.first().ok_or_else(|| unexpected(self, line))?;
            return Ok(Run::Seen(Seen {
                nanoseconds,
                bytes: numbers.get(1).copied(),
                mappings: numbers.get(2).copied(),
            }));
        }
        let ended = line.rsplit_once(" at object ");
        let (reason, object) = ended.ok_or_else(|| unexpected(self, &format!("{line}{errors}")))?;
        Ok(Run::Ended {
            object: object.parse()?,
            reason: reason.to_owned(),
        })
    }
}

fn unexpected(contender: &Contender, printed: &str) -> io::Error {
    io::Error::other(format!("`{contender}` printed {printed:?}"))
}

/// The command that repeats it.
impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command().join(" ").replace(" --quiet", ""))
    }
}
