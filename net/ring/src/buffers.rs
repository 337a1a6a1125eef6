//! The provided buffers: memory that the kernel picks receive buffers from, by itself.
//!
//! An idle connection owns no receive buffer: bytes land in one of `count` shared buffers, the
//! reactor reads them, and the buffer goes back.
//!
//! The kernel takes the buffers in turn, all that it has: so it has few, which stay in the cache of
//! the core, until a receive found none. Memory that was never lent is never touched.
//!
//! Invariants:
//! - buffers from `given` on have never been with the kernel; they count as lent.
//! - a buffer is either in the kernel's ring or lent to us, never both: `lent[id]` says which.
//! - only a lent buffer is read; the kernel writes only to buffers in its ring.
//!
//! Not here: who holds a lease and for how long (the reactor).

use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The right to read one received chunk. Comes from the ring, goes back to the ring.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    id: u16,
    size: u32,
}

impl Lease {
    /// A lease of a ring that pretends.
    pub fn new(id: u16, size: u32) -> Lease {
        Lease { id, size }
    }

    /// 0-based number of the buffer.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Bytes received.
    pub fn size(&self) -> u32 {
        self.size
    }
}

/// The buffers of one ring, and the ring of entries through which the kernel gets them.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// `count` entries, page-aligned; the tail sits in a reserved field of the first one.
    entries: NonNull<BufRingEntry>,
    /// `count * size` bytes.
    memory: NonNull<u8>,
    count: u16,
    size: u32,
    tail: u16,
    lent: Box<[bool]>,
    /// How many the kernel has been given so far.
    given: u16,
}

impl Buffers {
    /// Allocates `count` buffers (a power of two) of `size` bytes; all of them lent until
    /// [`Buffers::register`] hands them to the kernel.
    pub(crate) fn new(count: u16, size: u32) -> Buffers {
        assert!(count.is_power_of_two(), "the kernel masks with count - 1");
        assert!(size > 0, "a buffer holds at least one byte");
        Buffers {
            entries: allocate(entries_size(count)).cast(),
            memory: allocate(memory_size(count, size)),
            count,
            size,
            tail: 0,
            lent: vec![true; usize::from(count)].into(),
            given: 0,
        }
    }

    /// Registers the entries as buffer group [`GROUP`] and gives the first buffers to the kernel.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: `entries` has room for `count` entries, page-aligned, and is freed only by
        // `drop`, which the ring calls after it was closed (see `KernelRing`).
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0)? };
        self.give_more();
        Ok(())
    }

    /// Gives the kernel some more buffers, if there are any: a receive found none.
    pub(crate) fn give_more(&mut self) {
        let step = (STEP_SIZE / self.size).max(STEP_COUNT_MIN);
        let end = u32::from(self.given).saturating_add(step);
        let end = end.min(u32::from(self.count)) as u16;
        for id in std::mem::replace(&mut self.given, end)..end {
            self.give_back(Lease { id, size: 0 });
        }
    }

    /// Notes that the kernel took buffer `id` out of its ring and wrote `size` bytes to it.
    pub(crate) fn lend(&mut self, id: u16, size: u32) -> Lease {
        let lent = &mut self.lent[usize::from(id)];
        assert!(!*lent, "the kernel lends a buffer once");
        assert!(size <= self.size, "the kernel keeps to the buffer");
        *lent = true;
        Lease { id, size }
    }

    /// What was received.
    pub(crate) fn bytes(&self, lease: &Lease) -> &[u8] {
        assert!(self.lent[usize::from(lease.id)] && lease.size <= self.size);
        // SAFETY: the range lies within `memory` (`id < count` by the index above, `size` just
        // checked), which was zeroed at allocation. The buffer is lent, so it is not in the
        // kernel's ring and nobody writes to it; it cannot be given back while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.address(lease.id), lease.size as usize) }
    }

    /// Puts a buffer back into the kernel's ring.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        let lent = &mut self.lent[usize::from(lease.id)];
        assert!(*lent, "a buffer is given back once");
        *lent = false;
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.address(lease.id) as u64;
        // SAFETY: `index < count`, and every bit pattern is a valid entry. The kernel reads only
        // entries before the tail, and at most `count` buffers exist, so this one is ours until the
        // store of the tail below. No field shared with the tail is written by the setters.
        unsafe {
            let entry = self.entries.as_ptr().add(index);
            (*entry).set_addr(address);
            (*entry).set_len(self.size);
            (*entry).set_bid(lease.id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` points to the first entry of a registered ring, whose reserved field is
        // the tail: two bytes, aligned, shared with the kernel only, and accessed atomically.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(crate) fn invariants(&self) {
        let (given, never) = self.lent.split_at(usize::from(self.given));
        assert!(
            never.iter().all(|lent| *lent),
            "what was never given is lent"
        );
        let with_kernel = given.iter().filter(|lent| !**lent).count() as u16;
        let mut listed = vec![false; usize::from(self.count)];
        for back in 1..=with_kernel {
            let index = usize::from(self.tail.wrapping_sub(back) & (self.count - 1));
            // SAFETY: `index < count`, every bit pattern is a valid entry, and only we write them.
            let id = usize::from(unsafe { (*self.entries.as_ptr().add(index)).bid() });
            assert!(!self.lent[id], "what the kernel may write to is not lent");
            assert!(!std::mem::replace(&mut listed[id], true), "each once");
        }
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: `id < count` (checked by the callers' index into `lent`), so the offset stays
        // within the allocation of `count * size` bytes.
        unsafe {
            self.memory
                .as_ptr()
                .add(usize::from(id) * self.size as usize)
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `new` with the same sizes, and are freed once, here.
        unsafe {
            release(self.entries.cast(), entries_size(self.count));
            release(self.memory, memory_size(self.count, self.size));
        }
    }
}

/// Zeroed memory on a page boundary, straight from the kernel: an allocator would write the zeros,
/// and so touch every page of buffers that may never be lent.
fn allocate(size: usize) -> NonNull<u8> {
    // SAFETY: a fresh private mapping of no file, at an address of the kernel's choice, affects
    // nothing that exists.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert!(
        memory != libc::MAP_FAILED,
        "no memory for receive buffers: {size} bytes"
    );
    NonNull::new(memory.cast()).expect("page 0 is never mapped")
}

/// Gives memory back.
///
/// # Safety
/// It came from [`allocate`] with the same size, and nobody uses it from here on.
unsafe fn release(memory: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise: exactly this mapping, and no use of it.
    let result = unsafe { libc::munmap(memory.as_ptr().cast(), size) };
    assert!(result == 0, "a mapping of our own can be unmapped");
}

fn entries_size(count: u16) -> usize {
    usize::from(count) * size_of::<BufRingEntry>()
}

fn memory_size(count: u16, size: u32) -> usize {
    // At most 2^15 * 2^32 bytes.
    usize::from(count) * size as usize
}

/// Bytes of the buffers that the kernel is given at first, and each time that they were too few.
const STEP_SIZE: u32 = 256 * 1024;
/// So many buffers at least: about as many receives as complete in one call.
const STEP_COUNT_MIN: u32 = 16;
/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;
