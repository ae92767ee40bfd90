//! How often ATen's functions are called.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};

use super::{AtenError, told};

unsafe extern "C" {
    fn lm_aten_count_calls(counting: *mut u64) -> *mut c_char;
    fn lm_aten_counted(counting: u64, tell: extern "C" fn(*mut c_void, *const c_char, u64), to: *mut c_void);
}

/// A count of all calls of ATen's functions, by their names and by any thread; those that functions make of one another
/// are counted too, as Python's profiler has it. One at a time.
#[derive(Debug)]
pub struct Calls(u64);

/// Adds a name to the map behind `to`.
extern "C" fn tell(to: *mut c_void, name: *const c_char, times: u64) {
    // SAFETY: `finish` gives its map, which lives as long as the call, and the shim strings that end in a zero.
    let (counted, name) = unsafe { (&mut *to.cast::<BTreeMap<String, u64>>(), CStr::from_ptr(name)) };
    counted.insert(name.to_string_lossy().into_owned(), times);
}

impl Calls {
    /// Counts from now on.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn count() -> Result<Self, AtenError> {
        let mut counting = 0;
        // SAFETY: `counting` is written before it returns null.
        told(unsafe { lm_aten_count_calls(&mut counting) })?;
        Ok(Self(counting))
    }

    /// The calls since then.
    pub fn finish(self) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        // SAFETY: `self` is what the shim gave, and ends here; `tell` gets the map that it takes.
        unsafe { lm_aten_counted(self.0, tell, (&raw mut counted).cast()) };
        counted
    }
}
