//! The provided buffers: memory that the kernel picks receive buffers from, by itself.
//!
//! An idle connection owns no receive buffer: bytes land in one of `count` shared buffers, the
//! reactor reads them, and the buffer goes back. Memory that was never lent is never touched.
//!
//! Invariants:
//! - a buffer is either in the kernel's ring or lent to us, never both: `lent[id]` says which.
//! - only a lent buffer is read; the kernel writes only to buffers in its ring.
//!
//! Not here: who holds a lease and for how long (the reactor).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
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
    pub(crate) fn new(id: u16, size: u32) -> Lease {
        Lease { id, size }
    }

    /// 0-based number of the buffer.
    pub(crate) fn id(&self) -> u16 {
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
}

impl Buffers {
    /// Allocates `count` buffers (a power of two) of `size` bytes; all of them lent until
    /// [`Buffers::register`] hands them to the kernel.
    pub(crate) fn new(count: u16, size: u32) -> Buffers {
        assert!(count.is_power_of_two(), "the kernel masks with count - 1");
        assert!(size > 0, "a buffer holds at least one byte");
        Buffers {
            entries: allocate(entries_layout(count)).cast(),
            memory: allocate(memory_layout(count, size)),
            count,
            size,
            tail: 0,
            lent: vec![true; usize::from(count)].into(),
        }
    }

    /// Registers the entries as buffer group [`GROUP`] and gives every buffer to the kernel.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: `entries` has room for `count` entries, page-aligned, and is freed only by `drop`,
        // which the ring calls after it was closed (see `KernelRing`).
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0)? };
        for id in 0..self.count {
            self.give_back(Lease { id, size: 0 });
        }
        Ok(())
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
        // SAFETY: both were allocated in `new` with the same layouts, and are freed once, here.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count, self.size));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout has size zero: `count >= 1` and `size >= 1` are asserted in `new`.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

fn entries_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE_SIZE)
        .expect("at most 32768 entries of 16 bytes")
}

fn memory_layout(count: u16, size: u32) -> Layout {
    Layout::from_size_align(usize::from(count) * size as usize, PAGE_SIZE)
        .expect("at most 2^15 * 2^32 bytes, below isize::MAX")
}

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// The kernel wants the entries on a page boundary; 64 KiB is the largest page of our targets.
const PAGE_SIZE: usize = 64 * 1024;
