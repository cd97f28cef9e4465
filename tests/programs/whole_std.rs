//! Nothing of its own: compiled as a dylib it is the standard library as one shared object, like rustc's own driver library.
//! A toolchain's libstd-*.so would do, but not every distribution ships one.
