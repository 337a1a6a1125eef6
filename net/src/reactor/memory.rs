//! Memory use of the process.

use std::fs;

use rustix::param::page_size;

/// Bytes of memory that are the process's own: its heaps, stacks and buffers, but not its program.
/// `None` if the kernel does not say. Takes some microseconds.
pub(super) fn private_bytes() -> Option<u64> {
    let pages = private_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    Some(pages.saturating_mul(page_size() as u64))
}

/// "size resident shared ...": what is resident and not of a file.
fn private_pages(statm: &str) -> Option<u64> {
    let mut numbers = statm.split_ascii_whitespace().skip(1);
    let resident: u64 = numbers.next()?.parse().ok()?;
    let shared: u64 = numbers.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_is_resident_and_not_of_a_file() {
        assert_eq!(private_pages("5000 800 300 10 0 450 0\n"), Some(500));
        assert_eq!(private_pages("5000 300 800"), Some(0));
        for text in ["", "1 2", "a b c"] {
            assert_eq!(private_pages(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_that_is_used_is_counted() {
        let before = private_bytes().expect("Linux has it");
        let used = vec![1_u8; 64 << 20];
        let after = private_bytes().expect("Linux has it");
        assert!(
            after >= before + (used.len() as u64) / 2,
            "{before} {after}"
        );
    }
}
