//! What the C library keeps of memory that is free again.
//!
//! glibc keeps freed buffers of up to 32 MB in its heap, once it has seen such
//! ([`mallopt(3)`](https://man7.org/linux/man-pages/man3/mallopt.3.html), "dynamic mmap threshold"), and whatever lies behind them holds them there:
//! what pictures took while they were looked at would be held while a text is written about them. With other C libraries, nothing is done here.

/// Buffers of this size go back to the system when they are freed, and so much may be free at the heap's end, in bytes: more than what layers take
/// and leave all the time, which would be taken from the system and given back each time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 8 << 20;

/// Less than this is left to the C library, in bytes: a small model's frames take it again at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const WORTH: u32 = 2 << 20;

/// From now on, buffers of 8 MB and more go back to the system when they are freed. Call it before there are other threads.
#[allow(unsafe_code, reason = "a call of the C library that the standard library has no name for")]
pub fn give_back_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it takes two numbers, and changes when glibc asks the system for memory, not what memory it gives. It says 0 where it does not
        // know an option; then all is as before.
        let _ = unsafe { libc::mallopt(option, LARGE) };
    }
}

/// Gives memory that was freed back to the system, if it is 2 MB or more. For after work that took much and comes seldom.
#[allow(unsafe_code, reason = "calls of the C library that the standard library has no names for")]
pub fn give_back_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // `mallinfo2` came with glibc 2.33, which boards in use do not have; this one's count is an `int`, and wraps.
        // SAFETY: it takes nothing, and counts under glibc's own locks.
        let free = unsafe { libc::mallinfo() }.fordblks as u32;
        if free >= WORTH {
            // SAFETY: it gives back pages in which all is free, under glibc's own locks. What it says, whether there were any, changes nothing.
            let _ = unsafe { libc::malloc_trim(0) };
        }
    }
}
