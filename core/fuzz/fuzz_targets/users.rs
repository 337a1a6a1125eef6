//! Any text as a password file and as lines of SCRAM users: what is read is written as it was, nobody
//! comes to be without a password, and a file with one wrong line is no file (threat 83).
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_core::auth::{Password, Passwords, ScramCredential};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines = || {
        let lines = text.lines().map(str::trim_end);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    match Passwords::parse(text) {
        Ok(passwords) => {
            assert_eq!(passwords.len(), lines().count());
            for line in lines() {
                let (user, hash) = line.split_once(':').expect("it was read");
                assert!(!user.is_empty());
                let stored = passwords.find(user).expect("it was read");
                assert_eq!(Password::parse(&stored.to_string()).as_ref(), Ok(stored));
                assert_eq!(Password::parse(hash).as_ref(), Ok(stored));
            }
        }
        Err(error) => assert!(error.line <= text.lines().count()),
    }
    for line in lines() {
        if let Ok((user, credential)) = ScramCredential::parse_line(line) {
            let again = credential.to_line(user);
            assert_eq!(ScramCredential::parse_line(&again), Ok((user, credential)));
        }
    }
});
