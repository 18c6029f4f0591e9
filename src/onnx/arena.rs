//! How much memory a session's arena holds, which no safe call of `ort` tells.

use std::{ffi::CStr, ptr};

use ort::{
    AsPointer as _,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
};

use crate::batch::Site;

/// Bytes the arena has taken from the system; it gives none back while the session lives. Weights
/// that sessions share are not among them, those a session has packed for itself are. `None` where
/// ONNX Runtime keeps no count, as a build without arenas does. On a device it is the arena there.
pub(super) fn arena_bytes(session: &Session, site: Site) -> Option<u64> {
    let (place, number, kind) = match site {
        Site::Core => (AllocationDevice::CPU, 0, AllocatorType::Arena),
        Site::Device(it) => {
            (AllocationDevice::CUDA, i32::try_from(it).ok()?, AllocatorType::Device)
        }
    };
    let info = MemoryInfo::new(place, number, kind, MemoryType::Default).ok()?;
    let allocator = Allocator::new(session, info).ok()?;
    statistic(&allocator, c"TotalAllocated")
}

#[expect(unsafe_code, reason = "ort has no safe call for the statistics of an allocator")]
fn statistic(allocator: &Allocator, name: &CStr) -> Option<u64> {
    let api = ort::api();
    let mut statistics = ptr::null_mut();
    // SAFETY: a live allocator, and a place for the answer, as the C interface asks for.
    let status = unsafe { (api.AllocatorGetStats)(allocator.ptr(), &raw mut statistics) };
    if !status.0.is_null() {
        // SAFETY: a status that is not null is ours to release, once.
        unsafe { (api.ReleaseStatus)(status.0) };
        return None;
    }
    if statistics.is_null() {
        return None;
    }
    // SAFETY: live pairs and a terminated name; what comes back is null or text owned by the pairs.
    let value = unsafe {
        let value = (api.GetKeyValue)(statistics, name.as_ptr());
        if value.is_null() { None } else { CStr::from_ptr(value).to_str().ok() }
    };
    let value = value.and_then(|it| it.parse().ok());
    // SAFETY: the pairs are ours to release, once; the text was read before.
    unsafe { (api.ReleaseKeyValuePairs)(statistics) };
    value
}
