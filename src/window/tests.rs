//! What happens when the system refuses.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::unix::fs::FileExt;
use std::thread;

use super::state::Books;
use super::*;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Extent, SectionRequest};
use crate::num::Align;
use crate::sys::fault;

#[cfg(any(target_os = "linux", target_os = "android"))]
const WAYS: [Writing; 2] = [Writing::TwoAddresses, Writing::SameAddress];
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const WAYS: [Writing; 1] = [Writing::SameAddress];

/// Whether memory is fetched when it is reserved, which the system can then refuse.
const FETCHES: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn options(writing: Writing) -> WindowOptions {
    WindowOptions::new()
        .with_size(8 << 20)
        .with_writing(writing)
}

fn plan() -> [SectionRequest<'static>; 3] {
    SectionKind::ALL.map(|kind| SectionRequest::new("s", kind, 100, Align::ONE))
}

fn filled(window: &Window) -> Reservation {
    let mut reservation = window.reserve(&AllocationSpace::Sections(&plan())).unwrap();
    for request in plan() {
        let section = reservation.allocate_section(&request).unwrap();
        reservation.section_mut(section).unwrap().fill(7);
    }
    reservation
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    let Err(Error::System { source, .. } | Error::Barrier { source }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(source.kind(), fault::ANSWER);
}

/// All but what is kept in advance.
fn in_use(window: &Window) -> (usize, usize, usize, usize, PerKind<usize>) {
    let stats = window.stats();
    let free = *stats.free();
    (
        stats.in_flight(),
        stats.objects(),
        stats.asked(),
        stats.granted(),
        free,
    )
}

#[test]
fn a_window_that_the_system_refuses_is_an_error_whichever_call_it_refuses() {
    for way in WAYS {
        let mut refusals = 0;
        for n in 0.. {
            let (window, failed) =
                fault::failing(n..usize::MAX, || Window::with_options(&options(way)));
            if !failed {
                assert_eq!(window.unwrap().capabilities().writing(), way);
                break;
            }
            assert_refused(window);
            refusals += 1;
        }
        assert!(refusals >= 7, "{way:?}: {refusals} system calls");
    }
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))] // The calls of the first way are counted.
fn refused_once_a_smaller_window_is_had_down_to_the_floor() {
    let refused_once = |floor| {
        let options = options(Writing::TwoAddresses)
            .with_size(32 << 20)
            .with_code(8 << 20)
            .with_floor(floor);
        fault::failing(3..4, || Window::with_options(&options)).0
    };
    let window = refused_once(16 << 20).unwrap();
    let size = window.capabilities().size();
    assert!(size <= 16 << 20 && size > 13 << 20, "{size}");
    let code = window.capabilities().sizes()[SectionKind::Code];
    assert!(code <= 4 << 20 && code > 3 << 20, "{code}");
    assert_refused(refused_once((16 << 20) + 1));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn refused_two_addresses_the_window_says_that_it_has_one_unless_told_otherwise() {
    let wanted = options(Writing::TwoAddresses).with_floor(8 << 20);
    let best = WindowOptions {
        writing: None,
        ..wanted
    };
    // The size of the memory file, which only the first way has, and which is not tried in another way.
    let refused = |options| fault::failing(5..6, || Window::with_options(&options)).0;
    assert_refused(refused(wanted));
    let window = refused(best).unwrap();
    assert_eq!(window.capabilities().writing(), Writing::SameAddress);
    assert!(!window.capabilities().kernel_forbids_writing());
}

#[test]
fn a_reservation_that_the_system_refuses_changes_nothing_whichever_call_it_refuses() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        let before = in_use(&window);
        for n in 0.. {
            let plan = plan();
            let space = AllocationSpace::Sections(&plan);
            let (result, failed) = fault::failing(n..usize::MAX, || window.reserve(&space));
            if !failed {
                assert_eq!(n > 0, FETCHES, "pages come in advance where they can");
                break;
            }
            assert_refused(result);
            assert_eq!(in_use(&window), before);
        }
        drop(filled(&window));
        let after = in_use(&window);
        assert_eq!((after.0, after.1, after.2, after.3), (0, 0, 0, 0));
    }
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_a_refused_reservation_had_fetched_goes_back() {
    for way in WAYS {
        let window =
            Window::with_options(&options(way).with_size(64 << 20).with_code(16 << 20)).unwrap();
        let large = Extent::new(8 << 20, Align::ONE);
        let space = AllocationSpace::Totals(PerKind::new(large, large, large));
        for kinds_fetched in 0..3 {
            let calls = kinds_fetched..kinds_fetched + 1;
            let (refused, _) = fault::failing(calls, || window.reserve(&space));
            assert_refused(refused);
            let kept = window.stats().committed();
            assert!(kept <= 1 << 20, "{way:?}: {kept} bytes are in nobody's use");
        }
    }
}

#[test]
fn a_finalization_that_the_system_refuses_hands_the_reservation_back() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        for n in 0.. {
            let reservation = filled(&window);
            let before = in_use(&window);
            let (result, failed) = fault::failing(n..n + 1, || reservation.finalize());
            if !failed {
                assert_eq!(result.unwrap().sections().count(), 3);
                break;
            }
            let (error, reservation) = result.unwrap_err().into_parts();
            assert_refused::<()>(Err(error));
            assert_eq!(in_use(&window), before);
            let mut reservation = reservation.expect("only one call was refused");
            for request in plan() {
                let section = reservation.allocate_section(&request).unwrap();
                reservation.section_mut(section).unwrap().fill(8);
            }
            reservation.finalize().expect("the next attempt works");
        }
    }
}

#[test]
fn a_finalization_that_cannot_be_undone_gives_its_memory_back() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        for n in 0.. {
            let reservation = filled(&window);
            // The system refuses the call and all that would make up for it.
            let (result, failed) = fault::failing(n..usize::MAX, || reservation.finalize());
            if !failed {
                assert_eq!(result.unwrap().sections().count(), 3);
                break;
            }
            let failed = result.unwrap_err();
            let (error, reservation) = fault::failing(0..usize::MAX, || failed.into_parts()).0;
            assert_refused::<()>(Err(error));
            drop(reservation);
            let stats = window.stats();
            assert_eq!((stats.granted(), stats.asked()), (0, 0));
        }
        filled(&window).finalize().expect("the next attempt works");
    }
}

#[test]
fn what_is_dropped_while_the_system_refuses_everything_is_not_lost() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        let capacity = window
            .stats()
            .free()
            .iter()
            .map(|(_, free)| free)
            .sum::<usize>();
        for round in 0..300 {
            let image = filled(&window).finalize().unwrap();
            let reservation = filled(&window);
            // Seldom all at once, so that every way to go wrong is met.
            fault::failing(round % 3..usize::MAX, || drop((image, reservation)));
        }
        let stats = window.stats();
        let free = stats.free().iter().map(|(_, free)| free).sum::<usize>();
        assert_eq!(free + stats.retired(), capacity, "{way:?}: {stats:?}");
        assert_eq!((stats.granted(), stats.asked()), (0, 0));
    }
}

#[test]
fn what_cannot_be_allocated_is_refused_when_it_is_announced_also_without_bytes() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        for exponent in [21, 22] {
            let align = Align::new(1 << exponent).unwrap();
            let list = [SectionRequest::new("s", SectionKind::Code, 0, align)];
            match window.reserve(&AllocationSpace::Sections(&list)) {
                Ok(mut reservation) => {
                    let section = reservation.allocate_section(&list[0]).unwrap();
                    assert!(align.divides(reservation.address(section).unwrap().get() as usize));
                }
                Err(refused) => {
                    let too_strict = matches!(refused, Error::AlignmentTooLarge { .. });
                    assert!(too_strict && exponent == 22, "{refused}");
                }
            }
        }
    }
}

#[test]
fn totals_beyond_the_number_range_are_refused() {
    let window = Window::with_options(&options(WAYS[0])).unwrap();
    let most = Extent::new(usize::MAX, Align::ONE);
    for totals in [
        PerKind::new(most, most, most),
        PerKind::new(Extent::EMPTY, most, most),
    ] {
        let refused = window
            .reserve(&AllocationSpace::Totals(totals))
            .unwrap_err();
        assert!(
            matches!(
                refused,
                Error::WindowExhausted {
                    requested: usize::MAX,
                    ..
                }
            ),
            "{refused}"
        );
    }
}

#[test]
fn pages_that_the_system_does_not_take_back_are_still_counted() {
    for way in WAYS {
        let window = Window::with_options(&options(way).with_size(32 << 20)).unwrap();
        let mut totals = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        totals[SectionKind::ReadWriteData] = Extent::new(1800 << 10, Align::ONE);
        let reservation = window.reserve(&AllocationSpace::Totals(totals)).unwrap();
        let fetched = window.stats().committed();
        fault::failing(0..usize::MAX, || drop(reservation));
        assert_eq!(window.stats().committed(), fetched, "{way:?}");
        drop(window.reserve(&AllocationSpace::Totals(totals)).unwrap());
        assert!(window.stats().committed() < fetched, "{way:?}");
    }
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_never_became_an_object_is_not_executable_as_it_was_written() {
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    for n in 0.. {
        let window = Window::with_options(&options(Writing::SameAddress)).unwrap();
        let reservation = filled(&window);
        let code = window.address().get() + (64 << 10); // Behind the guard.
        let mut left = [0; 100];
        memory.read_exact_at(&mut left, code).unwrap();
        assert_eq!(left, [7; 100]);
        let ((), failed) = fault::failing(n..usize::MAX, || drop(reservation));
        memory.read_exact_at(&mut left, code).unwrap();
        let found = region::query(code as *const u8).unwrap();
        assert!(!(found.is_executable() && left.contains(&7)), "{n}");
        if !failed {
            break;
        }
    }
}

#[test]
fn whoever_finds_a_window_full_waits_for_who_is_about_to_free_some() {
    // As if a thread were giving pages back, or had sent for a barrier.
    let others: [fn(&mut Books) -> &mut usize; 2] =
        [|books| &mut books.moving, |books| &mut books.retired];
    for (way, other) in WAYS
        .into_iter()
        .flat_map(|way| others.map(|other| (way, other)))
    {
        let window = Window::with_options(&options(way)).unwrap();
        let all = window.capabilities().sizes()[SectionKind::ReadWriteData];
        let mut totals = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        totals[SectionKind::ReadWriteData] = Extent::new(all, Align::ONE);
        let reserve = || window.reserve(&AllocationSpace::Totals(totals));
        let first = reserve().unwrap();
        *other(&mut window.0.lock().books) += 1;
        thread::scope(|scope| {
            let second = scope.spawn(|| reserve().map(drop));
            while window.0.lock().waiting == 0 {
                assert!(!second.is_finished(), "{:?}", second.join());
                thread::yield_now();
            }
            drop(first);
            second.join().unwrap().unwrap();
        });
        let mut state = window.0.lock();
        *other(&mut state.books) -= 1;
        let left = (state.waiting, state.books.moving, state.books.retired);
        assert_eq!(left, (0, 0, 0));
    }
}

#[test]
fn small_objects_that_went_make_room_for_one_that_needs_all_of_it() {
    for way in WAYS {
        let window = Window::with_options(&options(way)).unwrap();
        let sizes = *window.stats().free();
        for kind in SectionKind::ALL {
            let reserve = |size| {
                let section = [SectionRequest::new("s", kind, size, Align::ONE)];
                window.reserve(&AllocationSpace::Sections(&section))
            };
            let objects: Vec<_> = (0..100).map(|_| reserve(4096).unwrap()).collect();
            drop(objects);
            reserve(sizes[kind]).expect("nobody has any of it");
        }
    }
}
