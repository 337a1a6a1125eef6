//! From a sample of a stack to names of functions.
//!
//! Nothing in a release says where frames begin, so the stack is searched: a word that points behind a call instruction of
//! the program is where a function returns to. Some may be left over from calls that have ended; the first, the interrupted
//! instruction, is certain.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use ringmq_ring::Sample;

/// The code of the program, as it lies in memory.
#[derive(Debug)]
pub(super) struct Frames {
    program: File,
    /// Addresses of its code, and where that is in the file.
    code: Vec<Mapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    begin: u64,
    end: u64,
    offset: u64,
}

impl Frames {
    /// `None`: the kernel does not tell where it is.
    pub(super) fn of_this_program() -> Option<Frames> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let path = fs::read_link("/proc/self/exe").ok()?;
        Some(Frames {
            program: File::open("/proc/self/exe").ok()?,
            code: code_of(&maps, path.to_str()?),
        })
    }

    /// Names, the innermost function first.
    pub(super) fn functions(&self, sample: &Sample) -> Vec<String> {
        let returns = sample.stack.iter().copied();
        let returns = returns.filter(|address| self.follows_call(*address));
        // The address behind a call may belong to the next function.
        let addresses = std::iter::once(sample.counter).chain(returns.map(|address| address - 1));
        let mut functions: Vec<String> = Vec::new();
        for address in addresses {
            let mut names = self.names_of(address);
            names.retain(|name| functions.last() != Some(name));
            functions.append(&mut names);
            if functions.len() >= FUNCTIONS_MAX {
                functions.truncate(FUNCTIONS_MAX);
                break;
            }
        }
        functions
    }

    fn follows_call(&self, address: u64) -> bool {
        let Some(at) = self.in_file(address) else {
            return false;
        };
        let mut before = [0; CALL_SIZE_MAX];
        let read = at.checked_sub(CALL_SIZE_MAX as u64);
        let read = read.is_some_and(|at| self.program.read_exact_at(&mut before, at).is_ok());
        read && ends_with_call(&before)
    }

    fn in_file(&self, address: u64) -> Option<u64> {
        let mut code = self.code.iter();
        let found = code.find(|map| (map.begin..map.end).contains(&address))?;
        Some(address - found.begin + found.offset)
    }

    /// Functions that were inlined into each other have one address.
    fn names_of(&self, address: u64) -> Vec<String> {
        let mut names = Vec::new();
        backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
            if let Some(name) = symbol.name() {
                let file = symbol.filename().and_then(|path| path.file_name());
                let place = file.zip(symbol.lineno());
                let place = place.map(|(file, line)| format!(" ({}:{line})", file.display()));
                names.push(short(&format!("{name:#}")) + &place.unwrap_or_default());
            }
        });
        match (names.is_empty(), self.in_file(address)) {
            (false, _) => names,
            // For addr2line, if the symbols are elsewhere.
            (true, Some(at)) => vec![format!("ringmq+{at:#x}")],
            (true, None) => vec![format!("{address:#x}")],
        }
    }
}

/// Names of generic functions can fill pages.
fn short(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// The executable mappings of a file.
fn code_of(maps: &str, path: &str) -> Vec<Mapping> {
    let lines = maps.lines().filter(|line| line.ends_with(path));
    lines.filter_map(parse_mapping).collect()
}

/// `55d0c0a00000-55d0c0b00000 r-xp 00100000 08:01 123 /usr/bin/ringmq`
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut columns = line.split_ascii_whitespace();
    let (begin, end) = columns.next()?.split_once('-')?;
    let is_code = columns.next()?.contains('x');
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mapping = Mapping {
        begin: hex(begin)?,
        end: hex(end)?,
        offset: hex(columns.next()?)?,
    };
    is_code.then_some(mapping)
}

/// A direct call, or one through a register or memory.
#[cfg(target_arch = "x86_64")]
fn ends_with_call(before: &[u8; CALL_SIZE_MAX]) -> bool {
    let byte = |back: usize| before[CALL_SIZE_MAX - back];
    // Operation 2 of opcode FF, with its operand in 1, 2, 3, 5 or 6 bytes.
    let is_indirect = |back: usize| byte(back) == 0xff && byte(back - 1) >> 3 & 7 == 2;
    byte(5) == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}

/// BL or BLR.
#[cfg(target_arch = "aarch64")]
fn ends_with_call(before: &[u8; CALL_SIZE_MAX]) -> bool {
    let word = before
        .last_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word));
    word >> 26 == 0b10_0101 || word & 0xffff_fc1f == 0xd63f_0000
}

/// Of x86-64, with all of an operand.
const CALL_SIZE_MAX: usize = 7;
/// Enough to see the way from the turn to the place.
const FUNCTIONS_MAX: usize = 24;
const NAME_CHARS_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_program_is_found() {
        let maps = "55d0c0a00000-55d0c0b00000 r--p 00000000 08:01 123  /usr/bin/ringmq\n\
                    55d0c0b00000-55d0c0c00000 r-xp 00100000 08:01 123  /usr/bin/ringmq\n\
                    7f0000000000-7f0000100000 r-xp 00000000 08:01 456  /usr/lib/libc.so.6\n\
                    7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]\n";
        let code = Mapping {
            begin: 0x55d0_c0b0_0000,
            end: 0x55d0_c0c0_0000,
            offset: 0x10_0000,
        };
        assert_eq!(code_of(maps, "/usr/bin/ringmq"), [code]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_are_told_from_other_instructions() {
        for (before, expected) in [
            ([0x90, 0x90, 0xe8, 1, 2, 3, 4], true), // call rel32
            ([0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0], true), // call rax
            ([0x90, 0xff, 0x15, 1, 2, 3, 4], true), // call [rip + disp32]
            ([0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 8], true), // call [rax + 8]
            ([0x90; 7], false),
            ([0x90, 0x90, 0xe9, 1, 2, 3, 4], false), // jmp rel32
            ([0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0], false), // jmp rax
        ] {
            assert_eq!(ends_with_call(&before), expected, "{before:x?}");
        }
    }

    /// Neither inlined nor called at its end, so that it has an address to return to.
    #[inline(never)]
    fn here(frames: &Frames, then: fn(&Frames) -> Vec<String>) -> Vec<String> {
        let functions = then(frames);
        std::hint::black_box(functions)
    }

    #[test]
    fn an_address_has_the_name_of_its_function() {
        let frames = Frames::of_this_program().unwrap();
        let functions = here(&frames, |frames| {
            let mut found = Vec::new();
            backtrace::trace(|frame| {
                found.push(frame.ip() as u64);
                true
            });
            let sample = Sample {
                counter: found[0],
                stack: found[1..].to_vec(),
            };
            frames.functions(&sample)
        });
        assert!(
            functions
                .iter()
                .any(|name| name.contains("here (frames.rs:")),
            "{functions:#?}"
        );
    }
}
