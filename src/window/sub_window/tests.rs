//! What a sub-window promises, on its own.

use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

/// Takes spans until this many bytes are in use, as whoever has the memory behind them would.
fn fill(sub_window: &mut SubWindow, bytes: usize) -> Vec<Grant> {
    let take = |_| {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        if let Some(missing) = sub_window.missing(taken.span) {
            sub_window.fetched(missing.own);
            sub_window.fetched_ahead(missing, true);
        }
        assert!(sub_window.pages.hold(taken.span));
        taken.grant
    };
    (0..bytes / 1184).map(take).collect()
}

fn drop_all(sub_window: &mut SubWindow, grants: impl IntoIterator<Item = Grant>) {
    for grant in grants {
        if let Some(returning) = sub_window.join(grant) {
            sub_window.returned(returning, true);
        }
    }
}

fn free(sub_window: &mut SubWindow, taken: Taken) {
    sub_window.free(taken, |returning| panic!("{returning:?} is little"));
}

#[test]
fn what_was_freed_last_goes_to_the_next_of_its_size_and_to_nobody_else() {
    let mut sub_window = SubWindow::new(MIB, PageSize::new(4096).unwrap(), false);
    let mut take = |size| sub_window.take(size, Align::ONE).unwrap();
    let (below, freed, above) = (take(16), take(48), take(16));
    let size = freed.span.size();
    let span = freed.span;
    let free_bytes = sub_window.free_bytes();
    free(&mut sub_window, freed);
    assert_eq!(sub_window.free_bytes(), free_bytes + size);
    for (size, align) in [(32, 1), (64, 1), (48, 64)] {
        let other = sub_window.take(size, Align::new(align).unwrap()).unwrap();
        assert!(!other.span.overlaps(span), "{other:?}");
        sub_window.cancel(other.grant);
    }
    let again = sub_window.take(48, Align::new(16).unwrap()).unwrap();
    assert_eq!((again.span, sub_window.free_bytes()), (span, free_bytes));
    for taken in [below, again, above] {
        free(&mut sub_window, taken);
    }
    assert!(sub_window.has_recent() && sub_window.largest_free() < MIB);
    sub_window.join_recent(|returning| panic!("{returning:?} is little"));
    assert_eq!(sub_window.largest_free(), MIB);
}

#[test]
fn what_stands_alone_is_little() {
    let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
    for size in [16, Recent::LARGEST, Recent::LARGEST + 16] {
        let take = |_| sub_window.take(size, Align::ONE).unwrap();
        let all: Vec<Taken> = (0..3 * Recent::MOST).map(take).collect();
        for taken in all {
            free(&mut sub_window, taken);
            let alone = sub_window.free_bytes() - sub_window.spans.free_bytes();
            assert!(alone <= MIB && (alone > 0) == (size <= Recent::LARGEST));
        }
        sub_window.join_recent(|returning| panic!("{returning:?} is little"));
    }
}

#[test]
fn what_is_fetched_in_advance_stays_little_however_often_memory_comes_and_goes() {
    for (page, huge) in [(4096, false), (4096, true), (16384, false), (65536, false)] {
        let page = PageSize::new(page).unwrap();
        let mut sub_window = SubWindow::new(256 * MIB, page, huge);
        let ahead = if huge { 2 * MIB } else { MIB };
        for round in 0..4 {
            let grants = fill(&mut sub_window, 16 * MIB);
            let committed = sub_window.committed();
            assert!(committed < 17 * MIB + ahead, "round {round}: {committed}");
            match round % 2 {
                0 => drop_all(&mut sub_window, grants),
                _ => drop_all(&mut sub_window, grants.into_iter().rev()),
            }
            let kept = sub_window.committed();
            assert!(kept < MIB + ahead, "round {round}: {kept}");
        }
    }
}

#[test]
fn what_goes_back_while_it_is_fetched_in_advance_is_not_taken_for_there() {
    let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), true);
    fill(&mut sub_window, 16 * MIB);
    let missing = loop {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        match sub_window.missing(taken.span) {
            Some(missing) if !missing.ahead.is_empty() => break missing,
            Some(missing) => {
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
            None => {}
        }
    };
    sub_window.lost(Span::sized(0, 4096).unwrap());
    let kept = sub_window.committed();
    sub_window.fetched_ahead(missing, true);
    assert_eq!(sub_window.committed(), kept);
}

#[test]
fn memory_comes_in_units_where_there_is_much_until_the_system_refuses_one() {
    let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), true);
    let mut units = 0;
    while units < 3 {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        let Some(missing) = sub_window.missing(taken.span) else {
            continue;
        };
        sub_window.fetched(missing.own);
        if missing.is_huge {
            units += 1;
            assert!(UNIT.divides(missing.ahead.start()) && missing.ahead.size() == 2 * MIB);
            assert!(sub_window.committed() >= 4 * MIB);
        }
        sub_window.fetched_ahead(missing, units < 3);
    }
    let mut used = 0;
    while used < 16 * MIB {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        used += 1184;
        if let Some(missing) = sub_window.missing(taken.span) {
            assert!(!missing.is_huge);
            sub_window.fetched(missing.own);
            sub_window.fetched_ahead(missing, true);
        }
    }
}

#[test]
fn units_are_whole_to_the_end_of_a_sub_window() {
    let size = 16 * MIB - (64 << 10);
    let mut sub_window = SubWindow::new(size, PageSize::new(4096).unwrap(), true);
    let mut units = 0;
    while let Some(taken) = sub_window.take(1184, Align::ONE) {
        if let Some(missing) = sub_window.missing(taken.span) {
            assert!(missing.ahead.end() <= size, "{missing:?}");
            assert!(
                !missing.is_huge || missing.ahead.size() == UNIT.bytes(),
                "{missing:?}"
            );
            units += usize::from(missing.is_huge);
            sub_window.fetched(missing.own);
            sub_window.fetched_ahead(missing, true);
        }
    }
    assert_eq!(
        units, 5,
        "from 4 MiB on, but for the last one, which is cut"
    );
}

/// How often the system is asked while spans are taken, and how often somebody has to wait for a page of its own.
fn fetches(sub_window: &mut SubWindow, bytes: usize) -> (usize, usize) {
    let (mut calls, mut waits) = (0, 0);
    for _ in 0..bytes / 1184 {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        if let Some(missing) = sub_window.missing(taken.span) {
            calls += 1;
            waits += usize::from(!missing.own.is_empty());
            sub_window.fetched(missing.own);
            sub_window.fetched_ahead(missing, true);
        }
        let used = sub_window.spans.granted_bytes();
        let most = used + used / 4 + 4 * 4096;
        assert!(sub_window.committed() <= most, "{most}");
    }
    (calls, waits)
}

#[test]
fn pages_are_there_before_they_are_reached_and_come_many_at_once() {
    let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
    let (calls, waits) = fetches(&mut sub_window, MIB);
    assert!(waits <= 20 && calls <= 50, "{calls}, {waits}");
    let (calls, waits) = fetches(&mut sub_window, 31 * MIB);
    assert!(waits == 0 && calls <= 130, "{calls}, {waits}");
}

#[test]
fn pages_that_went_back_below_others_come_again_many_at_once() {
    let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
    let mut grants = fill(&mut sub_window, 32 * MIB);
    let above = grants.split_off(grants.len() / 2);
    drop_all(&mut sub_window, grants);
    let kept = sub_window.committed();
    let used = sub_window.spans.granted_bytes();
    assert!(
        kept < used + KEEP + used / KEEP_OF_USED + 2 * AHEAD,
        "{kept}"
    );
    let mut calls = 0;
    for _ in 0..above.len() {
        let taken = sub_window.take(1184, Align::ONE).unwrap();
        if let Some(missing) = sub_window.missing(taken.span) {
            calls += 1;
            assert_eq!(sub_window.pages.bytes_in(missing.ahead), 0, "{missing:?}");
            sub_window.fetched(missing.own);
            sub_window.fetched_ahead(missing, true);
        }
    }
    assert!(calls <= 16 * MIB / AHEAD + 10, "{calls}");
}

/// Half of the spans go, every other one.
#[test]
fn free_pieces_go_back_from_64_kib_on_and_smaller_ones_make_no_call() {
    for (size, goes) in [(1184, false), (4096, false), (64 << 10, true)] {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        while sub_window.spans.granted_bytes() < 32 * MIB {
            let taken = sub_window.take(size, Align::ONE).unwrap();
            sub_window.fetched(sub_window.pages.around(taken.span));
            let list = if kept.len() > gone.len() {
                &mut gone
            } else {
                &mut kept
            };
            list.push(taken.grant);
        }
        let (before, used) = (sub_window.committed(), sub_window.spans.granted_bytes());
        drop_all(&mut sub_window, gone);
        let kept = sub_window.committed();
        if goes {
            assert!(kept <= used / 2 + KEEP + used / KEEP_OF_USED, "{kept}");
        } else {
            assert_eq!(kept, before);
        }
    }
}

#[test]
fn free_memory_is_kept_up_to_a_mebibyte_and_an_eighth_of_what_is_in_use() {
    for used in [0, 8, 32] {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
        let mut take = |bytes| {
            let taken = sub_window.take(bytes, Align::ONE).unwrap();
            sub_window.fetched(sub_window.pages.around(taken.span));
            taken.grant
        };
        let _kept = (used > 0).then(|| take(used * MIB));
        let grants: Vec<Grant> = (0..64).map(|_| take(MIB / 8)).collect();
        // From above, so that it is all one piece.
        let mut grants = grants.into_iter().rev();
        let returning = grants.find_map(|grant| {
            let used = sub_window.spans.granted_bytes() - MIB / 8;
            let returning = sub_window.join(grant);
            let idle = sub_window.committed() - used;
            assert_eq!(returning.is_some(), idle > MIB + used / 8, "{idle:#x}");
            returning
        });
        let returning = returning.expect("eight mebibytes are more than is kept");
        sub_window.returned(returning, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What each thread was told to fetch comes later, in any order, or not at all.
    #[test]
    fn what_threads_fetch_in_advance_lies_apart_and_in_the_sub_window(
        steps in prop::collection::vec((1usize..40_000, any::<prop::sample::Index>(), any::<bool>()), 1..300),
        refusals in any::<bool>(),
    ) {
        let size = 2 * MIB - (64 << 10);
        let mut sub_window = SubWindow::new(size, PageSize::new(4096).unwrap(), false);
        let mut coming: Vec<Missing> = Vec::new();
        for (bytes, which, is_over) in steps {
            if is_over && !coming.is_empty() {
                let missing = coming.swap_remove(which.index(coming.len()));
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, !refusals || bytes % 2 == 0);
                continue;
            }
            let Some(taken) = sub_window.take(bytes, Align::ONE) else { break };
            let Some(missing) = sub_window.missing(taken.span) else { continue };
            prop_assert!(missing.own.end() <= size && missing.ahead.end() <= size);
            for other in &coming {
                let is_apart = missing.ahead.end() <= other.ahead.start() || other.ahead.end() <= missing.ahead.start();
                prop_assert!(refusals || is_apart, "{:?} and {:?}", missing, other);
            }
            coming.push(missing);
        }
    }
}
