//! What went wrong behind LLVM's back: it knows no typed errors, drops some messages, and no panic may cross it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use nearcode::Error;

/// The first error since somebody took one: those that follow are mostly its consequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// Keeps an error, and logs it: LLVM may end the process before anybody takes it.
    pub(crate) fn keep(&self, error: Error) {
        tracing::error!(%error, "refused");
        self.lock().get_or_insert(error);
    }

    pub(crate) fn take(&self) -> Option<Error> {
        self.lock().take()
    }

    /// Runs what LLVM has called. A panic ends here and becomes an error.
    pub(crate) fn guard<T>(&self, called: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
        let result = catch_unwind(AssertUnwindSafe(called));
        let result = result.unwrap_or_else(|panic| Err(Error::Other(message_of(&*panic).into())));
        result.map_err(|error| {
            let message = error.to_string();
            self.keep(error);
            message
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", text.unwrap_or("without a message"))
}
