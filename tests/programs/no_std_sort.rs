//! A Rust object that calls the other Rust object and back into C.
#![no_std]

unsafe extern "C" {
    fn shape_area(index: usize) -> f64;
}

fn sift_down<T, F: Fn(&T, &T) -> bool>(heap: &mut [T], mut root: usize, less: &F) {
    loop {
        let mut child = 2 * root + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && less(&heap[child], &heap[child + 1]) {
            child += 1;
        }
        if !less(&heap[root], &heap[child]) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

fn heap_sort<T, F: Fn(&T, &T) -> bool>(items: &mut [T], less: F) {
    for root in (0..items.len() / 2).rev() {
        sift_down(items, root, &less);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sift_down(&mut items[..end], 0, &less);
    }
}

/// Sorts numbers by a comparison of the caller's.
#[unsafe(no_mangle)]
extern "C" fn sort_numbers(numbers: *mut i32, count: usize, less: extern "C" fn(i32, i32) -> bool) {
    // SAFETY: the C program passes an array of `count` numbers of its own.
    let numbers = unsafe { core::slice::from_raw_parts_mut(numbers, count) };
    heap_sort(numbers, |a, b| less(*a, *b));
}

/// Sorts indices of shapes by area.
#[unsafe(no_mangle)]
extern "C" fn sort_shapes(indices: *mut usize, count: usize) {
    // SAFETY: the C program passes an array of `count` indices of its own.
    let indices = unsafe { core::slice::from_raw_parts_mut(indices, count) };
    // SAFETY: the other object's function takes any index.
    let area = |index| unsafe { shape_area(index) };
    heap_sort(indices, |a, b| area(*a) < area(*b));
}
