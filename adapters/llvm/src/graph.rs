//! The memory of one link graph of JITLink's, from its layout to its end.

use nearcode::{Align, AllocationSpace, Error, Image, Reservation, SectionKind, SectionRequest};

use crate::memory::Memory;
use crate::place::Place;

/// Everything of a graph that has one permission and one lifetime.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: SectionKind,
    /// In bytes.
    pub(crate) size: usize,
    /// In bytes.
    pub(crate) align: usize,
    pub(crate) lifetime: Lifetime,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lifetime {
    /// As the graph.
    Standard,
    /// Until the graph's finalization has ended.
    Finalization,
}

/// What a graph has, by lifetime.
pub(crate) struct Graph {
    memory: Memory,
    standard: Part,
    finalization: Part,
}

/// A graph may be finalized on another thread than it was allocated on.
const _: fn() = || {
    fn is_sent<T: Send>() {}
    is_sent::<Graph>();
};

enum Part {
    InFlight(Reservation),
    Published { _image: Image },
    Gone,
}

impl Graph {
    /// Each segment gets a place, in the order in which they are given.
    pub(crate) fn allocate(
        memory: &Memory,
        segments: &[Segment],
    ) -> Result<(Self, Vec<Place>), Error> {
        let (mut standard, of_standard) = reserve(memory, segments, Lifetime::Standard)?;
        let (mut finalization, of_finalization) =
            reserve(memory, segments, Lifetime::Finalization)?;
        let (mut of_standard, mut of_finalization) = (of_standard.iter(), of_finalization.iter());
        let mut places = Vec::with_capacity(segments.len());
        for segment in segments {
            let (part, request) = match segment.lifetime {
                Lifetime::Standard => (&mut standard, of_standard.next()),
                Lifetime::Finalization => (&mut finalization, of_finalization.next()),
            };
            let (Some(reservation), Some(request)) = (part, request) else {
                unreachable!("each segment was announced")
            };
            let id = reservation.allocate_section(request)?;
            places.push(Place {
                write: reservation.write_pointer(id)?,
                address: reservation.address(id)?.get(),
            });
        }
        let graph = Self {
            memory: memory.clone(),
            standard: standard.map_or(Part::Gone, Part::InFlight),
            finalization: finalization.map_or(Part::Gone, Part::InFlight),
        };
        Ok((graph, places))
    }

    /// # Errors
    ///
    /// A text for LLVM. Nothing of the graph can run then, and none of its memory is left.
    pub(crate) fn finalize(&mut self) -> Result<(), String> {
        let failure = self.memory.failure.clone();
        let published = failure.guard(|| {
            self.standard.publish()?;
            self.finalization.publish()
        });
        if published.is_err() {
            (self.standard, self.finalization) = (Part::Gone, Part::Gone);
        }
        published
    }

    /// Gives back what only the finalization needed.
    pub(crate) fn end_finalization(&mut self) {
        self.finalization = Part::Gone;
    }
}

impl Part {
    fn publish(&mut self) -> Result<(), Error> {
        if let Self::InFlight(reservation) = std::mem::replace(self, Self::Gone) {
            let _image = reservation.finalize()?;
            *self = Self::Published { _image };
        }
        Ok(())
    }
}

/// All segments of a lifetime, if there are any.
fn reserve(
    memory: &Memory,
    segments: &[Segment],
    lifetime: Lifetime,
) -> Result<(Option<Reservation>, Vec<SectionRequest<'static>>), Error> {
    let segments = segments
        .iter()
        .filter(|segment| segment.lifetime == lifetime);
    let requests = segments.map(|segment| {
        let align = Align::new(segment.align)?;
        Ok(SectionRequest::new(
            "segment",
            segment.kind,
            segment.size,
            align,
        ))
    });
    let requests: Vec<_> = requests.collect::<Result<_, Error>>()?;
    let space = AllocationSpace::Sections(&requests);
    let reservation = match requests.is_empty() {
        true => None,
        false => Some(memory.reserve(&space)?),
    };
    Ok((reservation, requests))
}
