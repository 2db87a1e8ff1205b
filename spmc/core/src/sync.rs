//! What cores share, by the names that the rest of the core uses: atomics and locks.
//!
//! The product gets the real ones, re-exported. With the feature `shuttle` every access is a point where a schedule may turn
//! to another core, so that tests try interleavings of whole calls; with `loom` atomics also show what their orderings
//! allow and do not forbid. `docs/architecture.md` says which tests need which.

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
pub use core::sync::atomic;
#[cfg(not(feature = "shuttle"))]
pub use spin::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
pub use shuttle::sync::{MutexGuard, atomic};

/// Shuttle's lock, with the interface of spin's.
#[cfg(feature = "shuttle")]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(feature = "shuttle")]
impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no holder of the lock has panicked")
    }

    /// Takes the lock if it is open.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Loom's atomics. Those are made inside a model only, ours in constants: so each is made when it is used first.
#[cfg(all(feature = "loom", not(feature = "shuttle")))]
pub mod atomic {
    pub use loom::sync::atomic::{Ordering, fence};
    use std::sync::OnceLock;

    macro_rules! atomic {
        ($($name:ident: $value:ty),*) => { $(
            /// Made at its first use.
            pub struct $name {
                first: $value,
                inner: OnceLock<loom::sync::atomic::$name>,
            }

            #[allow(dead_code, reason = "not every width is used in every way")]
            impl $name {
                /// An atomic with this value.
                pub const fn new(first: $value) -> Self {
                    Self { first, inner: OnceLock::new() }
                }

                fn inner(&self) -> &loom::sync::atomic::$name {
                    self.inner.get_or_init(|| loom::sync::atomic::$name::new(self.first))
                }

                /// As of the core's atomic.
                pub fn load(&self, order: Ordering) -> $value {
                    self.inner().load(order)
                }

                /// As of the core's atomic.
                pub fn store(&self, value: $value, order: Ordering) {
                    self.inner().store(value, order);
                }

                /// As of the core's atomic.
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.inner().swap(value, order)
                }

                /// As of the core's atomic.
                ///
                /// # Errors
                /// The value found instead.
                pub fn compare_exchange(&self, old: $value, new: $value, success: Ordering, failure: Ordering) -> Result<$value, $value> {
                    self.inner().compare_exchange(old, new, success, failure)
                }

                /// As of the core's atomic.
                pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                    self.inner().fetch_or(bits, order)
                }

                /// As of the core's atomic.
                pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                    self.inner().fetch_and(bits, order)
                }
            }
        )* };
    }

    atomic!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64);
}
