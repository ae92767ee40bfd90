//! The process groups of libtorch, c10d, which Python's `torch.distributed` is made of: Gloo between processors (feature
//! `gloo`) and NCCL between NVIDIA GPUs (feature `nccl`). The C++ part is `shim.cpp`.
//!
//! All processes of a group call the same functions in the same order.

#![cfg(any(feature = "gloo", feature = "nccl"))]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::time::Duration;

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// TCP between processors.
    Gloo,
    /// NVIDIA's library, for this process's GPU of that number.
    Nccl(u8),
}

impl Engine {
    /// NCCL for a GPU of this number where it is built in and there is a GPU, or else Gloo; none if that is not built in.
    pub fn found(local_rank: usize) -> Option<Self> {
        let gpus = if cfg!(feature = "nccl") { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 };
        match gpus {
            0 => cfg!(feature = "gloo").then_some(Self::Gloo),
            gpus => u8::try_from(local_rank % gpus).ok().map(Self::Nccl),
        }
    }
}

/// Where the processes meet: a store of keys and values that one process holds.
#[derive(Clone, Debug)]
pub struct Store {
    /// `MASTER_ADDR`
    pub host: String,
    /// `MASTER_PORT`
    pub port: u16,
    /// Whether this process holds it.
    pub is_server: bool,
    /// What the keys of this group begin with.
    pub prefix: String,
}

/// What the engine says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GroupError(String);

/// The processes that work together, seen from one of them.
pub struct Group {
    shim: *mut c_void,
    size: usize,
    // One thread at a time calls it.
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: c10d's groups may be called by any thread, and `&Group` goes to one thread at a time, since it is not Sync.
unsafe impl Send for Group {}

unsafe extern "C" {
    fn lm_c10d_open(
        host: *const c_char,
        port: u16,
        is_server: bool,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        device: c_int,
        timeout_ms: i64,
        opened: *mut *mut c_void,
    ) -> *mut c_char;
    fn lm_c10d_close(group: *mut c_void);
    fn lm_c10d_limit_waits(group: *mut c_void, timeout_ms: i64) -> *mut c_char;
    fn lm_c10d_all_to_all(
        group: *mut c_void,
        sent: *const u8,
        received: *mut u8,
        share: usize,
        size: usize,
    ) -> *mut c_char;
    fn lm_c10d_all_gather(group: *mut c_void, own: *const u8, all: *mut u8, share: usize, size: usize) -> *mut c_char;
    fn lm_c10d_broadcast(group: *mut c_void, from: c_int, bytes: *mut u8, length: usize) -> *mut c_char;
    fn lm_c10d_sum_tensor(group: *mut c_void, tensor: *mut c_void) -> *mut c_char;
    fn lm_c10d_finish_sums(group: *mut c_void) -> *mut c_char;
    fn lm_c10d_free(message: *mut c_char);
}

/// Takes what a function of the shim returned.
fn told(message: *mut c_char) -> Result<(), GroupError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a string that ends in a zero and is ours until it is freed, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        lm_c10d_free(message);
        text
    };
    Err(GroupError(text))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Group {
    /// Meets the other processes, and waits no longer than `limit` for them, now and later.
    ///
    /// # Errors
    /// If they do not come, or the engine cannot start.
    pub fn open(store: &Store, rank: usize, size: usize, engine: Engine, limit: Duration) -> Result<Self, GroupError> {
        let text = |text: &str| CString::new(text).map_err(|_| GroupError(format!("{text:?} has a zero byte")));
        let (host, prefix) = (text(&store.host)?, text(&store.prefix)?);
        let device = match engine {
            Engine::Gloo => -1,
            Engine::Nccl(device) => device.into(),
        };
        let mut shim = ptr::null_mut();
        // SAFETY: the strings live as long as the call, and `shim` is written before it returns null.
        told(unsafe {
            lm_c10d_open(
                host.as_ptr(),
                store.port,
                store.is_server,
                prefix.as_ptr(),
                rank as c_int,
                size as c_int,
                device,
                milliseconds(limit),
                &mut shim,
            )
        })?;
        Ok(Self { shim, size, not_sync: PhantomData })
    }

    /// How long a wait may take from now on.
    ///
    /// # Errors
    /// If the engine refuses.
    pub fn limit_waits(&self, limit: Duration) -> Result<(), GroupError> {
        // SAFETY: the group is open.
        told(unsafe { lm_c10d_limit_waits(self.shim, milliseconds(limit)) })
    }

    /// Gives each rank its share of `sent`, and gets one from each, in the order of ranks.
    ///
    /// # Errors
    /// If another process is gone or does not come in time.
    ///
    /// # Panics
    /// If the two are not equally long, in whole shares.
    pub fn all_to_all(&self, sent: &[u8], received: &mut [u8]) -> Result<(), GroupError> {
        assert!(sent.len() == received.len() && sent.len().is_multiple_of(self.size));
        // SAFETY: both are as long as `size` shares.
        told(unsafe {
            lm_c10d_all_to_all(self.shim, sent.as_ptr(), received.as_mut_ptr(), sent.len() / self.size, self.size)
        })
    }

    /// What each rank gives, all equally long, in the order of ranks.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    ///
    /// # Panics
    /// If `all` is not as long as what all give.
    pub fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<(), GroupError> {
        assert_eq!(all.len(), own.len() * self.size);
        // SAFETY: `all` is as long as `size` times `own`.
        told(unsafe { lm_c10d_all_gather(self.shim, own.as_ptr(), all.as_mut_ptr(), own.len(), self.size) })
    }

    /// Gives all ranks the bytes of one.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    pub fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<(), GroupError> {
        // SAFETY: the length is that of `bytes`.
        told(unsafe { lm_c10d_broadcast(self.shim, from as c_int, bytes.as_mut_ptr(), bytes.len()) })
    }

    /// Begins to add up a tensor of all ranks, on the engine's device, in place and in the engine's own order: all get the
    /// same bits. The sum is there after [`Self::finish_sums`]; until then the device may do other work.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    pub fn sum(&self, tensor: &mut tch::Tensor) -> Result<(), GroupError> {
        // SAFETY: `tch` keeps a pointer to libtorch's `at::Tensor`, which is what the shim takes.
        told(unsafe { lm_c10d_sum_tensor(self.shim, tensor.as_mut_ptr().cast()) })
    }

    /// Has the device wait for all sums that were begun, before any work that it gets from now on.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    pub fn finish_sums(&self) -> Result<(), GroupError> {
        // SAFETY: the group is open.
        told(unsafe { lm_c10d_finish_sums(self.shim) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: it was opened, and is closed once.
        unsafe { lm_c10d_close(self.shim) }
    }
}
