//! Directories with random states: exported, imported, damaged and repaired.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use fastrand::Rng;

use super::super::folder::Folder;
use super::super::recovery;
use super::*;
use crate::store::StoreConfig;
use ringmq_core::store::{Downtime, Policy};

/// Lines of an export of a random state.
fn some_export(rng: &mut Rng) -> String {
    let mut lines = vec![r#"{"type":"header","format":1,"ringmq":"0"}"#.to_owned()];
    let mut body = 0;
    for session in 0..rng.usize(1..20) {
        let expiry = ["", r#","expiry_s":9000"#][rng.usize(..2)];
        let user = ["", r#","user":"müller""#][rng.usize(..2)];
        lines.push(format!(
            r#"{{"type":"session","client_id":"c{session}"{user},"protocol":"5.0"{expiry}}}"#
        ));
        if rng.bool() {
            let message = message(rng, "will/a");
            lines.push(format!(
                r#"{{"type":"will","message":{message},"delay_s":{},"expiry_s":5}}"#,
                rng.u32(..9)
            ));
        }
        if rng.bool() {
            lines.push(r#"{"type":"away","since_ms":1700000000123}"#.to_owned());
        }
        for filter in 0..rng.u8(..4) {
            lines.push(format!(
                r#"{{"type":"subscription","filter":"t/{filter}/#","qos":{},"no_local":{},"retain_as_published":true,"retain_handling":{},"identifier":7}}"#,
                rng.u8(..3), rng.bool(), rng.u8(..3)
            ));
        }
        if rng.bool() {
            lines.push(r#"{"type":"received","packet_id":9}"#.to_owned());
        }
        let (releases, queued) = (rng.u64(..3), rng.u64(3..10));
        for delivery in 0..releases {
            lines.push(format!(
                r#"{{"type":"release","delivery":{delivery},"packet_id":1}}"#
            ));
        }
        for delivery in releases..queued {
            // Some messages have several receivers.
            let (number, message) = match rng.u8(..3) {
                0 if body > 0 => (format!(r#","body":{}"#, rng.u64(..body)), String::new()),
                1 => (String::new(), message(rng, "t/1")),
                _ => {
                    body += 1;
                    (format!(r#","body":{}"#, body - 1), message(rng, "t/2"))
                }
            };
            let message = match &*message {
                "" => message,
                _ => format!(r#","message":{message}"#),
            };
            lines.push(format!(
                r#"{{"type":"queued","delivery":{delivery},"packet_id":1,"qos":{},"retain":false,"may_have_been_sent":{},"identifiers":[1,2],"share":"$share/g/t/+"{number}{message}}}"#,
                rng.u8(1..3), rng.bool()
            ));
        }
        lines.push(format!(r#"{{"type":"next","delivery":{}}}"#, 100 + session));
    }
    for topic in 0..rng.usize(..20) {
        let message = message(rng, &format!("r/{topic}"));
        let author = r#""author":{"client_id":"c0","user":"u","had_rules":true}"#;
        lines.push(format!(
            r#"{{"type":"retained","message":{message},{author}}}"#
        ));
    }
    let count = lines.len();
    lines.push(format!(r#"{{"type":"end","lines":{count}}}"#));
    lines.join("\n") + "\n"
}

fn message(rng: &mut Rng, topic: &str) -> String {
    let payload = match rng.u8(..3) {
        0 => r#""payload_base64":"/wA=""#.to_owned(),
        1 => r#""payload":"\"ü\u0000""#.to_owned(),
        _ => format!(r#""payload":"{}""#, "x".repeat(rng.usize(..200_000))),
    };
    let more = [
        "",
        r#","expires_at_ms":4000000000123"#,
        r#","publisher":"c0","properties_base64":"AQE=""#,
    ];
    let more = more[rng.usize(..more.len())];
    format!(
        r#"{{"topic":"{topic}",{payload},"qos":{},"retain":{}{more}}}"#,
        rng.u8(..3),
        rng.bool()
    )
}

fn exported(path: &Path) -> String {
    let mut out = Vec::new();
    export(path, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A directory made of an export; its path.
fn imported(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    import(&path, &mut BufReader::new(text.as_bytes())).unwrap();
    path
}

/// Starts a broker's store on it, which begins an epoch.
fn start(path: &Path) -> Result<usize, String> {
    let config = StoreConfig {
        data_dir: path.to_owned(),
        policy: Policy::Always,
        free_bytes_min: 0,
        downtime: Downtime::Checked,
    };
    let opened = recovery::open(&config, 2);
    let mut opened = opened.map_err(|error| error.to_string())?;
    let parts = opened.take_starts(&ringmq_core::limits::Limits::default());
    Ok(parts.iter().map(|start| start.part.sessions.len()).sum())
}

#[test]
fn what_was_exported_and_imported_is_exported_again_as_it_was() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..30 {
        let folder = Folder::new();
        let first = exported(&imported(&folder, "a", &some_export(&mut rng)));
        let path = imported(&folder, "b", &first);
        assert!(exported(&path) == first);
        assert!(verify_is_ok(&path));
        let sessions = first.matches(r#""type":"session""#).count();
        for _ in 0..3 {
            assert_eq!(start(&path), Ok(sessions));
        }
        assert!(exported(&path) == first, "also after starts");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}

fn verify_is_ok(path: &Path) -> bool {
    survey(path).unwrap().flaws.is_empty()
}

#[test]
fn an_import_takes_only_properties_that_a_message_may_have() {
    let folder = Folder::new();
    for (properties, expected) in [
        // A payload format, alone and with a content type.
        ("AQE=", None),
        ("AQEDAAF0", None),
        ("/w==", Some("properties_base64")),
        ("AQI=", Some("properties_base64")),
        ("AQ==", Some("properties_base64")),
        // Topic alias 1, expiry, subscription identifier.
        ("IwAB", Some("a topic alias or expiry")),
        ("AgAAAAk=", Some("a topic alias or expiry")),
        ("CwE=", Some("properties_base64")),
    ] {
        let text = format!(
            "{}\n{}\n{}\n",
            r#"{"type":"header","format":1,"ringmq":"0"}"#,
            format_args!(
                r#"{{"type":"retained","message":{{"topic":"t","payload":"p","properties_base64":"{properties}","qos":1,"retain":true}}}}"#
            ),
            r#"{"type":"end","lines":2}"#
        );
        let path = folder.path().join(properties.replace('/', "_"));
        let result = import(&path, &mut text.as_bytes());
        match expected {
            None => drop(result.unwrap()),
            Some(expected) => {
                let error = result.unwrap_err();
                let is_named = error.what.contains("line 2") && error.what.contains(expected);
                assert!(is_named, "{properties}: {error}");
            }
        }
    }
}

#[test]
fn an_import_that_is_cut_or_wrong_names_its_line_and_makes_nothing() {
    let mut rng = Rng::with_seed(2);
    let text = some_export(&mut rng);
    let lines: Vec<&str> = text.lines().collect();
    let folder = Folder::new();
    let path = folder.path().join("a");
    for (wrong, expected) in [
        (lines[..lines.len() - 1].join("\n"), "is the last one"),
        (lines[1..].join("\n"), "line 1 is not in its place"),
        (
            text.replacen(r#""format":1"#, r#""format":9"#, 1),
            "format 9",
        ),
        (
            text.replacen(r#""protocol":"5.0""#, r#""protocol":"6""#, 1),
            "line 2 is wrong",
        ),
        (
            text.replacen(r#""client_id":"c0""#, r#""client":"c0""#, 1),
            "line 2 is not one",
        ),
    ] {
        let error = import(&path, &mut wrong.as_bytes()).unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::Wrong);
        assert!(error.what.contains(expected), "{expected}: {error}");
        assert!(!path.exists());
    }
    let path = imported(&folder, "a", &text);
    let error = import(&path, &mut text.as_bytes()).unwrap_err();
    assert!(error.what.contains("is not an empty directory"), "{error}");
}

/// All files but the manifest and the lock.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            all.extend(files(&entry));
        } else if !["MANIFEST", "LOCK"].contains(&entry.file_name().unwrap().to_str().unwrap()) {
            all.push(entry);
        }
    }
    all.sort();
    all
}

#[test]
fn damage_by_chance_is_named_and_repaired() {
    let mut rng = Rng::with_seed(3);
    let (mut named, mut kept) = (0, 0);
    for round in 0..60 {
        let folder = Folder::new();
        let text = some_export(&mut rng);
        let path = imported(&folder, "a", &text);
        let all = files(&path);
        let file = &all[rng.usize(..all.len())];
        let size = fs::metadata(file).unwrap().len();
        match round % 3 {
            0 => {
                let mut bytes = fs::read(file).unwrap();
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
                fs::write(file, bytes).unwrap();
            }
            1 => {
                let options = File::options().write(true).open(file).unwrap();
                options.set_len(rng.u64(..size)).unwrap();
            }
            _ => fs::remove_dir_all(file.parent().unwrap()).unwrap(),
        }
        let found = survey(&path).unwrap();
        let is_refused = start(&path).is_err();
        assert_eq!(!found.flaws.is_empty(), is_refused, "{:?}", found.flaws);
        let is_named = |flaw: &Flaw| flaw.path == *file || flaw.path == file.parent().unwrap();
        assert!(found.flaws.iter().all(is_named), "{:?}", found.flaws);
        named += usize::from(is_refused);
        if is_refused {
            let before = files(&path).len();
            let repaired = repair(&path).unwrap();
            let copy = repaired.copy.unwrap();
            assert_eq!(files(&copy).len(), before, "the copy is whole");
            assert_eq!(repaired.survey.flaws, found.flaws);
            assert!(verify_is_ok(&path));
            let sessions = repaired.survey.totals.sessions;
            assert_eq!(start(&path), Ok(sessions as usize));
            kept += sessions;
            assert!(
                repair(&path).unwrap().copy.is_none(),
                "nothing is left to do"
            );
        }
    }
    assert!(
        named > 30 && kept > 20,
        "{named} named, {kept} sessions kept"
    );
}

#[test]
fn a_directory_in_use_is_left_alone_but_for_a_backup() {
    let mut rng = Rng::with_seed(4);
    let folder = Folder::new();
    let text = some_export(&mut rng);
    let path = imported(&folder, "a", &text);
    let expected = exported(&path);
    let (held, _) = DataDir::open(&path).unwrap();
    for error in [survey(&path).unwrap_err(), repair(&path).unwrap_err()] {
        assert_eq!(error.kind, ToolErrorKind::InUse);
        let pid = format!("pid {}", std::process::id());
        assert!(error.what.contains(&pid), "{error}");
    }
    let target = folder.path().join("backup");
    backup(&path, &target).unwrap();
    drop(held);
    assert!(exported(&target) == expected);
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for file in files(&target) {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let left = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !left
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("backup"))
    );
    assert_eq!(
        backup(&path, &target).unwrap_err().kind,
        ToolErrorKind::Wrong
    );
    let inside = path.join("new/backup");
    let error = backup(&path, &inside).unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::Wrong);
    assert!(!inside.exists(), "{error:?}");
}
