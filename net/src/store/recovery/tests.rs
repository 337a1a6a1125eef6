//! Starts, one after the other, on a directory of this machine. The shards are played by their logs alone.

use ringmq_core::codec::Version;
use ringmq_core::ids::{SessionNo, TurnSeq};
use ringmq_core::store::{CheckpointWriter, DiskDone, Log, Opened as OpenedRecord, SessionTerms};

use std::os::unix::fs::MetadataExt as _;

use super::super::SEGMENT_SIZE_MIN;
use super::super::folder::Folder;
use super::super::played::{PlayedShard, carry_out, do_op, opened_record};
use super::*;

const CLIENTS: [&str; 6] = ["ash", "birch", "cedar", "elm", "fir", "oak"];

fn start(folder: &Folder, shards: usize) -> Result<Opened, StoreError> {
    let data_dir = folder.path().to_owned();
    let config = StoreConfig {
        data_dir,
        policy: Policy::Always,
        free_bytes_min: 0,
        downtime: Downtime::Checked,
    };
    open(&config, shards)
}

fn clients(opened: &Opened) -> Vec<&str> {
    let sessions = opened.recovered.sessions.values();
    let mut clients: Vec<&str> = sessions.map(|session| &*session.client_id).collect();
    clients.sort_unstable();
    clients
}

/// A shard that records that these clients have sessions; each in a turn of its own.
fn record(opened: &Opened, shard: usize, clients: &[&str]) {
    let limits = Limits::default();
    let config = opened.log_config(ShardId::new(shard), &limits);
    let mut ops = Vec::new();
    let mut log = Log::new(config, &mut ops);
    let path = opened.directory.shard_path(config.epoch, shard);
    let clocks = Clocks {
        boot: clock(),
        wall_ns: wall_clock(),
    };
    carry_out(&mut log, &mut ops, &path, clocks);
    for (index, client_id) in clients.iter().enumerate() {
        let no = SessionNo::new(config.epoch, config.shard, index as u64);
        log.push(&opened_record(no, client_id));
        log.end_turn(TurnSeq(index as u64 + 1), clocks, &mut ops);
        carry_out(&mut log, &mut ops, &path, clocks);
    }
    assert_eq!(log.durable(), TurnSeq(clients.len() as u64));
}

fn numbers(opened: &Opened) -> Vec<u32> {
    let epochs = opened.manifest.epochs.iter();
    epochs.map(|epoch| epoch.number).collect()
}

#[test]
fn what_was_recorded_is_there_after_any_number_of_starts_and_with_any_number_of_shards() {
    let folder = Folder::new();
    let opened = start(&folder, 2).unwrap();
    let secret = opened.secret();
    record(&opened, 0, &CLIENTS[..2]);
    record(&opened, 1, &CLIENTS[2..4]);
    drop(opened);
    let opened = start(&folder, 3).unwrap();
    assert_eq!(clients(&opened), CLIENTS[..4]);
    record(&opened, 2, &CLIENTS[4..]);
    drop(opened);
    for shards in [1, 2, 4] {
        let mut opened = start(&folder, shards).unwrap();
        assert_eq!(
            (opened.secret(), clients(&opened)),
            (secret, CLIENTS.to_vec())
        );
        let home = Home::new(secret, shards);
        let starts = opened.take_starts(&Limits::default());
        assert_eq!(starts.len(), shards);
        for (index, start) in starts.iter().enumerate() {
            assert_eq!(start.log.shard.index(), index);
            let mut sessions = start.part.sessions.iter();
            assert!(
                sessions.all(|(_, session)| home.of_client(&session.client_id).index() == index)
            );
        }
        let counts = starts.iter().map(|start| start.part.sessions.len());
        assert_eq!(counts.sum::<usize>(), CLIENTS.len());
    }
}

#[test]
fn starts_that_recorded_nothing_leave_nothing_and_ends_are_cut_off() {
    let folder = Folder::new();
    for number in 1..=3 {
        assert_eq!(numbers(&start(&folder, 1).unwrap()), [number]);
    }
    let opened = start(&folder, 1).unwrap();
    record(&opened, 0, &CLIENTS[..3]);
    let path = opened.directory.shard_path(4, 0);
    drop(opened);
    let opened = start(&folder, 1).unwrap();
    assert_eq!(numbers(&opened), [4, 5]);
    // Three batches of a block each.
    let sizes = fs::read_dir(&path).unwrap();
    let sizes: Vec<u64> = sizes
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes, [3 * 4096]);
    drop(opened);
    assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS[..3]);
}

/// A shard that writes what there is into a checkpoint and logs nothing.
fn checkpoint(opened: &Opened, clients: &[&str]) {
    let config = opened.log_config(ShardId::new(0), &Limits::default());
    let identity = LogIdentity {
        log_id: config.log_id,
        epoch: config.epoch,
        shard: config.shard,
    };
    let path = opened.directory.shard_path(config.epoch, 0);
    let (mut ops, clocks, at) = (Vec::new(), Clocks::default(), LogPosition(0));
    let mut writer = CheckpointWriter::new(identity, config.block_size, at, 0, &mut ops);
    for (index, client_id) in clients.iter().enumerate() {
        let no = SessionNo::new(config.epoch, config.shard, index as u64);
        writer.push(&opened_record(no, client_id));
    }
    writer.close(clocks, &mut ops);
    while writer.outcome().is_none() {
        for op in std::mem::take(&mut ops) {
            let (op, block) = do_op(op, &path);
            let result = Ok(());
            writer.on_done(DiskDone { op, result, block }, &mut ops);
        }
    }
}

#[test]
fn a_checkpoint_with_no_log_behind_it_is_kept_until_there_is_another() {
    let folder = Folder::new();
    checkpoint(&start(&folder, 1).unwrap(), &CLIENTS);
    // Starts that end before they have written anything.
    for _ in 0..3 {
        assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS);
    }
}

#[test]
fn starts_that_never_come_to_a_checkpoint_are_joined() {
    let folder = Folder::new();
    let mut most = 0;
    for index in 0..3 * EPOCHS_MAX {
        let shards = 1 + index % 3;
        let opened = start(&folder, shards).unwrap();
        assert_eq!(opened.recovered.sessions.len(), index);
        most = most.max(opened.manifest.epochs.len());
        let client = format!("client-{index}");
        record(&opened, index % shards, &[client.as_str()]);
        let written = fs::read_dir(folder.path()).unwrap();
        assert!(written.count() <= EPOCHS_MAX + 2, "with LOCK and MANIFEST");
    }
    assert_eq!(most, EPOCHS_MAX);
}

#[test]
fn damage_in_what_was_durable_is_named_with_its_place() {
    for (byte, is_damage) in [(4096 + 70, true), (2 * 4096 + 70, false)] {
        let folder = Folder::new();
        let opened = start(&folder, 1).unwrap();
        record(&opened, 0, &CLIENTS[..3]);
        let path = opened.directory.shard_path(1, 0);
        drop(opened);
        let log = path.join("0000000000000000.log");
        let mut bytes = fs::read(&log).unwrap();
        bytes[byte] ^= 1;
        fs::write(&log, bytes).unwrap();
        match start(&folder, 1) {
            Ok(opened) => {
                assert!(!is_damage);
                assert_eq!(clients(&opened), CLIENTS[..2], "the torn end of the log");
            }
            Err(error) => {
                assert!(is_damage, "{error}");
                let text = error.to_string();
                let shown = path.display().to_string();
                for part in [
                    &shown[..],
                    "0000000000000000.log",
                    "4096",
                    "restore a backup",
                ] {
                    assert!(text.contains(part), "{text} has no {part}");
                }
            }
        }
    }
}

fn is_refused(folder: &Folder, expected: &str) {
    let error = start(folder, 1).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    let found = super::super::tools::survey(folder.path());
    let text = match found {
        Ok(survey) => format!("{:?}", survey.flaws),
        Err(error) => error.to_string(),
    };
    assert!(text.contains(expected), "verify agrees: {text}");
}

#[test]
fn an_open_log_whose_segments_are_cut_or_gone_is_an_error() {
    let folder = Folder::new();
    let opened = start(&folder, 1).unwrap();
    opened.prepare(&Limits::default()).unwrap();
    record(&opened, 0, &CLIENTS[..3]);
    let path = opened.directory.shard_path(1, 0);
    drop(opened);
    let first = path.join("0000000000000000.log");
    let aside = folder.path().join("aside");
    fs::rename(&first, &aside).unwrap();
    is_refused(&folder, "0000000000000000.log is missing");
    for entry in fs::read_dir(&path).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    is_refused(&folder, "0000000000000000.log is missing");
    for size in [0, 2 * 4096, (64 << 20) - 1] {
        fs::copy(&aside, &first).unwrap();
        File::options()
            .write(true)
            .open(&first)
            .unwrap()
            .set_len(size)
            .unwrap();
        is_refused(&folder, "0000000000000000.log is cut");
    }
    fs::rename(&aside, &first).unwrap();
    assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS[..3]);
}

#[test]
fn a_start_that_was_killed_before_its_log_began_is_no_damage() {
    let folder = Folder::new();
    checkpoint(&start(&folder, 1).unwrap(), &CLIENTS);
    drop(start(&folder, 1).unwrap());
    let opened = start(&folder, 1).unwrap();
    opened.prepare(&Limits::default()).unwrap();
    drop(opened);
    assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS);
}

#[test]
fn an_older_manifest_does_not_remove_what_is_newer() {
    let folder = Folder::new();
    let opened = start(&folder, 1).unwrap();
    record(&opened, 0, &CLIENTS[..2]);
    drop(opened);
    let manifest = folder.path().join("MANIFEST");
    let older = fs::read(&manifest).unwrap();
    let opened = start(&folder, 1).unwrap();
    let newer = fs::read(&manifest).unwrap();
    // All that a start leaves that is killed before its manifest.
    checkpoint(&opened, &CLIENTS[..2]);
    fs::write(&manifest, &older).unwrap();
    let log = opened
        .directory
        .shard_path(1, 0)
        .join("0000000000000000.log");
    drop(opened);
    // It was cut off behind the newer manifest.
    let whole = segment_size(&Limits::default());
    File::options()
        .write(true)
        .open(log)
        .unwrap()
        .set_len(whole)
        .unwrap();
    let opened = start(&folder, 1).unwrap();
    assert_eq!(clients(&opened), CLIENTS[..2]);
    record(&opened, 0, &CLIENTS[2..3]);
    drop(opened);
    fs::write(&manifest, &older).unwrap();
    is_refused(&folder, "e0002 was written after");
    fs::write(&manifest, &newer).unwrap();
    assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS[..3]);
}

#[test]
fn a_sealed_log_that_is_damaged_or_gone_is_an_error() {
    let folder = Folder::new();
    let opened = start(&folder, 1).unwrap();
    record(&opened, 0, &CLIENTS[..3]);
    let path = opened.directory.shard_path(1, 0);
    drop(opened);
    drop(start(&folder, 1).unwrap());
    let log = path.join("0000000000000000.log");
    let bytes = fs::read(&log).unwrap();
    // The last batch, which was not vouched for while the log was open.
    let mut damaged = bytes.clone();
    damaged[2 * 4096 + 70] ^= 1;
    fs::write(&log, damaged).unwrap();
    let error = start(&folder, 1).unwrap_err();
    assert!(matches!(error.fault, StoreFault::Damaged { .. }), "{error}");
    fs::remove_file(&log).unwrap();
    let error = start(&folder, 1).unwrap_err();
    assert!(matches!(error.fault, StoreFault::Damaged { .. }), "{error}");
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(start(&folder, 1).unwrap_err().fault, StoreFault::Incomplete);
    fs::create_dir(&path).unwrap();
    fs::write(&log, &bytes).unwrap();
    assert_eq!(clients(&start(&folder, 1).unwrap()), CLIENTS[..3]);
}

#[test]
fn numbers_are_written_as_people_read_them() {
    for (number, expected) in [
        (0, "0 sessions"),
        (1, "1 session"),
        (999, "999 sessions"),
        (1000, "1,000 sessions"),
        (12_345_678, "12,345,678 sessions"),
    ] {
        assert_eq!(counted(number, "session"), expected);
    }
}

/// What the log of an earlier boot says, of which the clocks were last read so long ago.
fn of_another_boot(folder: &Folder, wall_ns: u64) {
    let opened = start(folder, 2).unwrap();
    let no = |shard| SessionNo::new(opened.manifest.last().number, ShardId::new(shard), 0);
    for (shard, client_id) in CLIENTS[..2].iter().enumerate() {
        let clocks = |boot_s: u64| Clocks {
            boot: Instant::ZERO + Duration::from_secs(boot_s),
            wall_ns,
        };
        let mut played = PlayedShard::new(&opened, shard, SEGMENT_SIZE_MIN);
        let terms = SessionTerms {
            user: None,
            version: Version::V5,
            expiry_s: 3600,
        };
        let opened = OpenedRecord {
            no: no(shard),
            client_id,
            terms,
        };
        played.record(&Record::Opened(opened), clocks(50));
        let at = Instant::ZERO + Duration::from_secs(60);
        played.record(&Record::Away { no: no(shard), at }, clocks(60));
        // The other one stands still.
        if shard == 1 {
            played.record(&Record::WillGone(no(shard)), clocks(660));
        }
    }
    let mut manifest = opened.manifest.clone();
    let last = manifest.epochs.last_mut().unwrap();
    last.boot_id = "another".to_owned();
    opened.directory.write_manifest(&manifest).unwrap();
}

fn start_with(folder: &Folder, downtime: Downtime) -> Result<Opened, StoreError> {
    let data_dir = folder.path().to_owned();
    let config = StoreConfig {
        data_dir,
        policy: Policy::Always,
        free_bytes_min: 0,
        downtime,
    };
    open(&config, 2)
}

/// How long sessions live on, in seconds.
fn lives_on(opened: &Opened) -> Vec<u64> {
    let sessions = opened.recovered.sessions.values();
    let mut left: Vec<u64> = sessions
        .map(|session| session.expires_at().expect("it ends"))
        .map(|at| at.saturating_since(clock()).as_secs())
        .collect();
    left.sort_unstable();
    left
}

#[test]
fn a_clock_that_contradicts_the_log_is_refused_until_somebody_decides() {
    let now = wall_clock();
    let year = 366 * 24 * 3600 * 1_000_000_000;
    for (written, word) in [
        (60, "later"),
        (now - year, "later"),
        (now + year, "earlier"),
    ] {
        let folder = Folder::new();
        of_another_boot(&folder, written);
        let error = start_with(&folder, Downtime::Checked)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(word) && error.contains("--store-downtime"),
            "{error}"
        );
        assert_eq!(error.matches("Z").count(), 2, "two dates: {error}");
        let counted = lives_on(&start_with(&folder, Downtime::Counted).unwrap());
        match word {
            "later" => assert_eq!(counted, [0, 0]),
            _ => assert!(
                counted.iter().all(|left| (2990..=3000).contains(left)),
                "{counted:?}"
            ),
        }
        // What was decided holds for the starts that follow.
        assert_eq!(
            lives_on(&start_with(&folder, Downtime::Checked).unwrap()).len(),
            2
        );
    }
    let folder = Folder::new();
    of_another_boot(&folder, 60);
    for downtime in [Downtime::Ignored, Downtime::Checked, Downtime::Checked] {
        let left = lives_on(&start_with(&folder, downtime).unwrap());
        assert!(
            left.iter().all(|left| (2900..=3000).contains(left)),
            "{left:?}"
        );
    }
}

#[test]
fn a_machine_that_was_off_for_a_month_counts_it() {
    let folder = Folder::new();
    let hour = 3600 * 1_000_000_000;
    of_another_boot(&folder, wall_clock() - 31 * 24 * hour);
    assert_eq!(
        lives_on(&start_with(&folder, Downtime::Checked).unwrap()),
        [0, 0]
    );
    let folder = Folder::new();
    // Half an hour: the sessions had been away for ten minutes.
    of_another_boot(&folder, wall_clock() - hour / 2);
    let left = lives_on(&start_with(&folder, Downtime::Checked).unwrap());
    assert!(
        left.iter().all(|left| (1100..=1200).contains(left)),
        "{left:?}"
    );
}

#[test]
fn a_segment_of_another_data_directory_is_named() {
    let [ours, theirs] = [Folder::new(), Folder::new()];
    let paths = [&ours, &theirs].map(|folder| {
        let opened = start(folder, 1).unwrap();
        record(&opened, 0, &CLIENTS);
        opened.shard_path(0).join("0000000000000000.log")
    });
    fs::copy(&paths[1], &paths[0]).unwrap();
    let error = start(&ours, 1).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("0.log") && text.contains("another data directory"),
        "{text}"
    );
}

#[test]
fn a_start_goes_on_with_the_segments_that_are_there() {
    let folder = Folder::new();
    let limits = Limits::default();
    let spares = |opened: &Opened| {
        let paths = (0..2).map(|shard| opened.shard_path(shard));
        let count = |path: PathBuf| keeper::spares(&path).filter(|path| path.exists()).count();
        paths.map(count).collect::<Vec<_>>()
    };
    let opened = start(&folder, 2).unwrap();
    record(&opened, 1, &CLIENTS);
    assert_eq!(spares(&opened), [0, 0]);
    drop(opened);
    // The segment that the log had ahead.
    let opened = start(&folder, 2).unwrap();
    assert_eq!(spares(&opened), [1, 0]);
    // Nothing was recorded, and nothing gets lost.
    drop(opened);
    let opened = start(&folder, 1).unwrap();
    let path = opened.shard_path(0);
    assert!(keeper::spare(&path, 1).exists());
    let made = |size| {
        keeper::make_spare(&path, size).unwrap();
        fs::metadata(keeper::spare(&path, 1)).unwrap()
    };
    let size = segment_size(&limits);
    assert_eq!(
        (made(size).len(), made(size).blocks()),
        (size, 0),
        "it is sparse, and the same"
    );
    assert_eq!(made(4096).len(), 4096, "one of another size is of no use");
}

#[test]
fn of_a_segment_that_was_made_ahead_one_block_is_read() {
    let folder = Folder::new();
    let opened = start(&folder, 1).unwrap();
    record(&opened, 0, &CLIENTS);
    let boot_id = boot_id();
    let (directory, manifest) = (&opened.directory, &opened.manifest);
    let mut reading = Reading::new(directory, manifest, &boot_id, Downtime::Checked);
    reading.read_all().unwrap();
    assert_eq!(reading.progress.read_bytes, SEGMENT_SIZE_MIN + 4096);
    assert_eq!(reading.recovered.sessions.len(), CLIENTS.len());
}
